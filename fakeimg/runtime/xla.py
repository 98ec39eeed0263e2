"""Settings of XLA and of malloc, here and nowhere else. Environment variables take precedence."""

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import platform

import jax
import jaxlib.version

from fakeimg import files

# XLA's CPU backend gives convolutions to YNNPACK, which is slower in training than the kernels before it. The flag is
# experimental, and jaxlib refuses a flag that it does not know: hence these versions alone.
_KNOWS_YNN_FLAG = ('0.10.', '0.11.', '0.12.')
_NO_YNN = '--xla_cpu_experimental_ynn_fusion_type='

# The pass with which the CPU backend removes the optimization barriers of `models.cpu.convolve` before it fuses. It is
# switched off, but not where a GPU may be used.
_KEEP_BARRIERS = '--xla_disable_hlo_passes='
_BARRIER_PASS = 'cse_barrier_expander'

# Environment variable: (number in malloc.h, our value). No separate mappings for large pieces, and nothing is returned
# to the system until this many bytes are free.
_MALLOC = {'MALLOC_MMAP_MAX_': (-4, 0), 'MALLOC_TRIM_THRESHOLD_': (-1, 2**31 - 1)}


def choose_cpu_kernels() -> None:
    """Takes the faster convolutions and fusions on the CPU; to be called before jax touches a device."""
    flags = os.environ.get('XLA_FLAGS', '')
    if _NO_YNN not in flags and jaxlib.version.__version__.startswith(_KNOWS_YNN_FLAG):
        flags = f'{flags} {_NO_YNN}'
    if _KEEP_BARRIERS not in flags and _has_cpu_alone():
        flags = f'{flags} {_KEEP_BARRIERS}{_BARRIER_PASS}'
    os.environ['XLA_FLAGS'] = flags.strip()


def _has_cpu_alone() -> bool:
    """Whether jax is set to use the CPU, or is installed for nothing else."""
    if os.environ.get('JAX_PLATFORMS'):
        return os.environ['JAX_PLATFORMS'] == 'cpu'
    plugins = importlib.metadata.entry_points(group='jax_plugins')
    return not plugins and importlib.util.find_spec('libtpu') is None


def keep_memory() -> None:
    """Lets malloc keep the memory of a step for the next, where jax uses a CPU alone and the C library is glibc.

    XLA takes memory for each step and returns it, and the kernel then clears it page by page at the next step.
    """
    if not _has_cpu_alone() or os.environ.keys() & {'GLIBC_TUNABLES', *_MALLOC} or platform.libc_ver()[0] != 'glibc':
        return
    mallopt = ctypes.CDLL(None).mallopt
    for number, value in _MALLOC.values():
        mallopt(number, value)


def keep_compiled() -> None:
    """Lets later processes find what this one compiles, unless JAX_COMPILATION_CACHE_DIR is set.

    Every kind of processor has its own folder: code compiled for one may crash on another, for example on a cluster
    whose machines share a home.
    """
    if os.environ.get('JAX_COMPILATION_CACHE_DIR'):
        return
    try:
        lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
        processor = next((line for line in lines if line.startswith(('flags', 'Features'))), '')
    except OSError:
        processor = platform.processor()
    kind = hashlib.sha256(f'{platform.machine()} {processor}'.encode()).hexdigest()[:8]
    folder = files.cache_folder() / 'compiled' / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written to: every start compiles
        return
    jax.config.update('jax_compilation_cache_dir', str(folder))
