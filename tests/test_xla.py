"""Settings of XLA: what is compiled once is found again, and people's own settings stay."""

import os
import pathlib

import jax
import pytest

from fakeimg import xla
from fakeimg.config import Config
from tests.conftest import Verb, flags_of


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A cache folder in which nothing lies; jax's own setting comes back afterwards."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
    yield tmp_path / 'cache' / 'fakeimg' / 'compiled'
    jax.config.update('jax_compilation_cache_dir', os.environ.get('JAX_COMPILATION_CACHE_DIR'))


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
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', 'elsewhere')
    xla.keep_compiled()
    assert jax.config.jax_compilation_cache_dir == before
    assert not cache.exists()
    monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
    cache.parent.parent.mkdir()
    cache.parent.write_text('a file where the folder should be')
    xla.keep_compiled()
    assert jax.config.jax_compilation_cache_dir == before
    cache.parent.unlink()
    xla.keep_compiled()
    assert pathlib.Path(jax.config.jax_compilation_cache_dir or '').parent == cache


def test_flags_of_the_environment_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xla.jaxlib.version, '__version__', '0.10.2')
    own = '--xla_cpu_experimental_ynn_fusion_type=dot'
    monkeypatch.setenv('XLA_FLAGS', own)
    xla.choose_cpu_kernels()
    assert os.environ['XLA_FLAGS'] == own
    monkeypatch.setenv('XLA_FLAGS', '--xla_cpu_multi_thread_eigen=true')
    xla.choose_cpu_kernels()
    assert os.environ['XLA_FLAGS'] == '--xla_cpu_multi_thread_eigen=true --xla_cpu_experimental_ynn_fusion_type='
    monkeypatch.setenv('XLA_FLAGS', '')
    monkeypatch.setattr(xla.jaxlib.version, '__version__', '0.99.0')  # may not know the flag
    xla.choose_cpu_kernels()
    assert os.environ['XLA_FLAGS'] == ''
