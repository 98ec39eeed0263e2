"""Settings of XLA: what is compiled once is found again, and people's own settings stay."""

import os
import pathlib
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fakeimg.config import Config
from fakeimg.models import resnet
from fakeimg.runtime import xla
from tests.support.verbs import Verb, flags_of


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """A cache folder in which nothing lies; jax's own setting comes back afterwards."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
    yield tmp_path / 'cache' / 'fakeimg' / 'compiled'
    jax.config.update('jax_compilation_cache_dir', os.environ.get('JAX_COMPILATION_CACHE_DIR'))


def compiled_folder() -> str | None:
    return jax.config.values['jax_compilation_cache_dir']


@pytest.mark.slow
def test_a_second_start_finds_what_the_first_compiled(
    verb: Verb, config: Config, cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('JAX_LOG_COMPILES', '1')
    monkeypatch.setenv('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
    rows = []
    for workdir in ('first', 'second'):
        result = verb('main', '--config', 'configs/cnn.py', *flags_of(config), '--workdir', workdir)
        assert result.returncode == 0, result.stderr
        rows.append((cache.parents[2] / 'work' / workdir / 'metrics.jsonl').read_text())
        files = {path: path.stat().st_mtime_ns for path in cache.rglob('*-cache')}
        rows.append(files)
    assert rows[1], 'nothing was kept'
    assert rows[1] == rows[3], 'something was compiled again'
    losses = [[line for line in text.splitlines() if 'validation/' in line] for text in rows[::2]]
    assert losses[0] == losses[1]


def test_who_says_where_is_heard(cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiled_folder()
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', 'elsewhere')
    xla.keep_compiled()
    assert compiled_folder() == before
    assert not cache.exists()
    monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
    cache.parent.parent.mkdir()
    cache.parent.write_text('a file where the folder should be')
    xla.keep_compiled()
    assert compiled_folder() == before
    cache.parent.unlink()
    xla.keep_compiled()
    assert pathlib.Path(compiled_folder() or '').parent == cache


def chosen(monkeypatch: pytest.MonkeyPatch, flags: str) -> set[str]:
    monkeypatch.setenv('XLA_FLAGS', flags)
    xla.choose_cpu_kernels()
    return set(os.environ['XLA_FLAGS'].split())


def test_flags_of_the_environment_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xla.jaxlib.version, '__version__', '0.10.2')
    ynn, barriers = '--xla_cpu_experimental_ynn_fusion_type=', '--xla_disable_hlo_passes=cse_barrier_expander'
    other = '--xla_cpu_multi_thread_eigen=true'
    assert chosen(monkeypatch, other) == {other, ynn, barriers}
    assert chosen(monkeypatch, f'{ynn}dot') == {f'{ynn}dot', barriers}
    assert chosen(monkeypatch, '--xla_disable_hlo_passes=cse') == {'--xla_disable_hlo_passes=cse', ynn}
    monkeypatch.setattr(xla.jaxlib.version, '__version__', '0.99.0')  # may not know the first flag
    assert chosen(monkeypatch, '') == {barriers}


def test_passes_stay_where_a_gpu_may_compile_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    barriers = '--xla_disable_hlo_passes=cse_barrier_expander'
    for platforms, plugins, expected in (('cpu', ['cuda'], True), ('cuda,cpu', [], False), ('', ['cuda'], False)):
        monkeypatch.setenv('JAX_PLATFORMS', platforms)
        monkeypatch.setattr(xla.importlib.metadata, 'entry_points', lambda group, plugins=plugins: plugins)
        assert (barriers in chosen(monkeypatch, '')) == expected, (platforms, plugins)
    monkeypatch.setattr(xla.importlib.metadata, 'entry_points', lambda group: [])
    assert barriers in chosen(monkeypatch, '')


_STEPS = """
import resource, sys
import jax, jax.numpy as jnp
from fakeimg.runtime import xla
if sys.argv[1] == 'keep':
    xla.keep_memory()
step = jax.jit(lambda x: jnp.sin(x) @ jnp.ones((3000, 4)))
x = jnp.ones((3000, 3000))
faults = []
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        step(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='malloc of glibc')
def test_malloc_keeps_what_steps_give_back() -> None:
    """Page faults of ten steps that each take 36 MB, but where somebody has set malloc himself.

    The fewest of ten times ten steps: each thread of XLA's pool that runs a step takes memory of its own, once.
    """

    def faults(keep: str, **environment: str) -> int:
        command = [sys.executable, '-c', _STEPS, keep]
        return int(subprocess.run(command, env=os.environ | environment, capture_output=True, check=True).stdout)

    plain = faults('no')
    assert plain > 10_000
    assert faults('keep') < plain / 2
    assert faults('keep', MALLOC_TRIM_THRESHOLD_='131072') > plain / 2


def test_barriers_keep_activations_out_of_the_weight_gradient() -> None:
    """The promise of `models.cpu.convolve`: no fusion of the backward pass computes both an activation and a
    transposition."""
    model = resnet.ResNet((1, 1), width=4, bottleneck=False, small_stem=True)
    images = jax.ShapeDtypeStruct((8, 16, 16, 3), jnp.float32)
    variables = jax.eval_shape(lambda key: model.init(key, jnp.zeros((1, 16, 16, 3)), train=False), jax.random.key(0))

    def loss(params: Any, images: jax.Array):
        logits, _ = model.apply({**variables, 'params': params}, images, train=True, mutable=['batch_stats'])
        return logits.sum()

    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
    text = jax.jit(jax.grad(loss)).lower(variables['params'], images).compile().as_text()
    fusions = re.findall(r'%fused_computation[^{]*\{(.*?)\n\}', text or '', re.DOTALL)
    transposing = [body for body in fusions if ' transpose(' in body and 'f32[8,16,16,4]' in body]
    assert transposing, 'nothing is transposed any more; the test needs another look'
    assert not any(' maximum(' in body or ' rsqrt(' in body for body in transposing)
