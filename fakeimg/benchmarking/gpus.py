"""GPUs as XLA's compiler sees them, so that a step can be compiled for one on a machine that has none."""

import dataclasses
import os
import pathlib
import re

from fakeimg.errors import UserError

# XLA's GpuTargetConfigProto, of which the figures below fill in what differs.
_TARGET = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: {shared} shared_memory_per_block_optin: {shared_optin}
  threads_per_core_limit: {threads} core_count: {cores} fpus_per_core: {fpus}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth} l2_cache_size: {l2} clock_rate_ghz: {clock} device_memory_size: {memory}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 12 patch: 0 }}
runtime_version {{ major: 13 minor: 0 patch: 0 }}
device_description_str: "{title}"
"""

# FLOP a clock and core of matrix products in float16 with sums in float32, by compute capability.
_PRODUCTS_PER_CLOCK = {(7, 0): 1024, (7, 5): 1024, (8, 0): 2048, (8, 6): 512, (8, 9): 1024, (9, 0): 4096, (10, 0): 8192}


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        title: as its driver calls it.
        target: for XLA, the text of a GpuTargetConfigProto.
        bandwidth: of its memory, bytes/s.
        memory: bytes.
        capability: of CUDA, major and minor.
        half: peak of matrix products in float16 and, from capability 8 on, bfloat16, FLOP/s.
        single: the same in float32; from capability 8 on XLA multiplies in TF32.
    """

    title: str
    target: str
    bandwidth: float
    memory: float
    capability: tuple[int, int]
    half: float
    single: float

    @property
    def precision(self) -> str:
        """What `config.precision=auto` means on it, see `runtime.precision`."""
        return 'bfloat16' if self.capability >= (8, 0) else 'float16'

    def peak(self, dtype: str) -> float:
        """FLOP/s of matrix products in `dtype`."""
        has_dtype = dtype in ('float16', self.precision)
        return self.half if has_dtype else self.single


def _known(title: str, capability: tuple[int, int], half: float, **figures: float) -> Gpu:
    target = _TARGET.format(title=title, major=capability[0], minor=capability[1], **figures)
    return dataclasses.replace(_from_text(target), half=half, single=_single(half, capability, figures))


def _single(half: float, capability: tuple[int, int], figures: dict[str, float]) -> float:
    if capability >= (8, 0):
        return half / 2
    return 2 * figures['cores'] * figures['fpus'] * figures['clock'] * 1e9


def _from_text(target: str) -> Gpu:
    """Reads a target; peaks follow from cores, clock and capability."""

    def figure(name: str) -> float:
        return float(re.findall(rf'\b{name}:\s*([\d.e+]+)', target)[0])

    capability = int(figure('major')), int(figure('minor'))
    figures = {'cores': figure('core_count'), 'fpus': figure('fpus_per_core'), 'clock': figure('clock_rate_ghz')}
    half = figures['cores'] * figures['clock'] * 1e9 * _PRODUCTS_PER_CLOCK.get(capability, 1024)
    title = re.findall(r'device_description_str:\s*"([^"]*)"', target)
    return Gpu(
        title=title[0] if title else 'GPU',
        target=target,
        bandwidth=figure('memory_bandwidth'),
        memory=figure('device_memory_size'),
        capability=capability,
        half=half,
        single=_single(half, capability, figures),
    )


# Bandwidth and peaks of NVIDIA's data sheets, dense.
KNOWN = {
    't4': _known('Tesla T4', (7, 5), 65e12, cores=40, fpus=64, clock=1.59, bandwidth=320_000_000_000,
                 memory=15_800_000_000, l2=4 << 20, shared=65536, shared_optin=65536, threads=1024),
    'l4': _known('NVIDIA L4', (8, 9), 121e12, cores=58, fpus=128, clock=2.04, bandwidth=300_000_000_000,
                 memory=23_600_000_000, l2=48 << 20, shared=102400, shared_optin=101376, threads=1536),
    'a10g': _known('NVIDIA A10G', (8, 6), 70e12, cores=80, fpus=128, clock=1.71, bandwidth=600_000_000_000,
                   memory=23_700_000_000, l2=6 << 20, shared=102400, shared_optin=101376, threads=1536),
    'a100': _known('NVIDIA A100-SXM4-40GB', (8, 0), 312e12, cores=108, fpus=64, clock=1.41,
                   bandwidth=1_555_000_000_000, memory=42_400_000_000, l2=40 << 20, shared=167936,
                   shared_optin=166912, threads=2048),
    'h100': _known('NVIDIA H100 80GB HBM3', (9, 0), 989e12, cores=132, fpus=128, clock=1.98,
                   bandwidth=3_352_320_000_000, memory=84_978_434_048, l2=50 << 20, shared=233472,
                   shared_optin=232448, threads=2048),
    'h200': _known('NVIDIA H200', (9, 0), 989e12, cores=132, fpus=128, clock=1.98, bandwidth=4_800_000_000_000,
                   memory=149_000_000_000, l2=50 << 20, shared=233472, shared_optin=232448, threads=2048),
}  # fmt: skip


def find(name: str) -> Gpu:
    """Returns a known GPU, or one that a file describes (XLA's GpuTargetConfigProto as text).

    Raises:
        UserError: neither.
    """
    if name.lower() in KNOWN:
        return KNOWN[name.lower()]
    path = pathlib.Path(name).expanduser()
    if not os.path.isfile(path):
        raise UserError(f'there is no GPU {name!r}; give one of {", ".join(KNOWN)}, or a file that describes yours.')
    try:
        return _from_text(path.read_text())
    except (IndexError, ValueError, OSError):
        raise UserError(
            f'{path} does not describe a GPU; it must be the text of a GpuTargetConfigProto of XLA.'
        ) from None
