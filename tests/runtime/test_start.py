"""What the environment says of numbers, platforms and homes, and what a run makes of it."""

import pathlib
import pwd
import subprocess
import sys

import pytest

from fakeimg import files
from tests.support.verbs import ROOT, assert_refused, verb_environment

STARTS = 'import jax\nfrom fakeimg.runtime.start import start\nstart()\nprint(jax.numpy.arange(3.0).dtype)\n'


def test_numbers_stay_float32_whatever_the_environment_says() -> None:
    for name in ('true',):
        env = verb_environment(JAX_ENABLE_X64=name)
        done = subprocess.run([sys.executable, '-c', STARTS], cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.stdout == 'float32\n', done.stderr


@pytest.mark.parametrize('platforms', ['rocm,cpu'])
def test_a_platform_that_is_not_there_is_a_sentence(platforms: str, tmp_path: pathlib.Path) -> None:
    command = [sys.executable, '-m', 'fakeimg', 'train', '--config', 'demo', '--workdir', str(tmp_path / 'run')]
    env = verb_environment(JAX_PLATFORMS=platforms)
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert_refused(done, f'JAX_PLATFORMS is {platforms}, and jax cannot use that here')
    assert not (tmp_path / 'run').exists()


def test_a_user_without_a_home_has_one_among_temporary_files(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(f'getpwuid(): uid not found: {uid}')

    for name in ('HOME', 'XDG_CACHE_HOME'):
        monkeypatch.setenv(name, '')  # is given back in the end
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, 'getpwuid', unknown)
    monkeypatch.setattr(files.tempfile, 'gettempdir', lambda: str(tmp_path))
    assert files.cache_folder().parent == tmp_path
    files.ensure_home()
    assert pathlib.Path.home().parent == tmp_path
    assert files.cache_folder() == pathlib.Path.home() / '.cache/fakeimg'
    monkeypatch.setenv('HOME', '/a/home')
    files.ensure_home()
    assert str(pathlib.Path.home()) == '/a/home'
