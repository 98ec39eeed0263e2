"""Verbs started as users start them: the command, its environment, and what a refusal looks like."""

import atexit
import dataclasses
import multiprocessing.util
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import unittest.mock
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fakeimg.config import Config

ROOT = pathlib.Path(__file__).parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]  # fakeimg ARGUMENTS
Verb = Callable[..., subprocess.CompletedProcess[str]]  # python -m fakeimg.VERB ARGUMENTS

_ENVIRONMENT = dict(os.environ)
multiprocessing.util.get_temp_dir()  # of its socket: made now, before a test moves the folder of temporary files
_FORKS = multiprocessing.get_context('forkserver')
_FORKS.set_forkserver_preload([
    'absl.app', 'clu.parameter_overview', 'matplotlib.backends.backend_agg', 'ml_collections.config_flags', 'pdb',
    'rich.progress', 'scipy.stats', 'simplejpeg', 'fakeimg.auditing.report', 'fakeimg.benchmarking.table',
    'fakeimg.evaluation.evaluator', 'fakeimg.training.loop',
])  # fmt: skip


def verb_command(verb: str, *arguments: object) -> list[str]:
    return [sys.executable, '-m', f'fakeimg.{verb}', *map(str, arguments)]


def run_module(
    module: str, arguments: Sequence[object], *, folder: pathlib.Path, environment: dict[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE ARGUMENTS` in `folder`, in a process forked where the libraries are imported already.

    A new process where a variable is another than it was when they were imported, which is when they read it.
    """
    command = [sys.executable, '-m', module, *map(str, arguments)]
    if _read_by_libraries(environment) != _read_by_libraries(_ENVIRONMENT):
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
    with tempfile.TemporaryDirectory() as files:
        names = [os.path.join(files, name) for name in ('stdout', 'stderr')]
        process = _FORKS.Process(target=_become, args=(command, folder, environment, names))
        with unittest.mock.patch.dict(os.environ, _ENVIRONMENT, clear=True):
            process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout)
        code = process.exitcode
        process.close()  # its descriptors too
        texts = [pathlib.Path(name).read_text() for name in names]
    return subprocess.CompletedProcess(command, code, *texts)


def _read_by_libraries(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(('JAX_', 'HF_', 'MPL', 'TF_'))}


def _become(command: list[str], folder: pathlib.Path, environment: dict[str, str], names: list[str]) -> None:
    """Does in this process what `command` does in a new one; `names` are the files that stdout and stderr go to."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, name in enumerate(names, 1):
        with open(name, 'wb') as file:
            os.dup2(file.fileno(), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, 'w', encoding='utf-8', errors=errors, closefd=False)
                              for descriptor, errors in ((1, 'strict'), (2, 'backslashreplace')))  # fmt: skip
    sys.orig_argv, sys.argv = command, command[2:]
    try:
        runpy.run_module(command[2], run_name='__main__', alter_sys=True)
    finally:
        sys.stdout.flush()
        atexit._run_exitfuncs()  # a process of multiprocessing leaves them out


def verb_environment(devices: int = 1, level: int = 0, /, **variables: str) -> dict[str, str]:
    """`level` 0 compiles fastest, for what runs a second or two; 1 for what runs longer."""
    flags = (
        f'--xla_force_host_platform_device_count={devices}'
        f' --xla_cpu_parallel_codegen_split_count=1 --xla_backend_optimization_level={level}'
    )
    return {**os.environ, 'XLA_FLAGS': flags, 'PYTHONPATH': str(ROOT), **variables}


def flags_of(config: Any, prefix: str = '--config') -> list[str]:
    """Command-line overrides that reproduce `config` on top of configs/cnn.py."""
    flags = []
    for name, value in vars(config).items():
        if dataclasses.is_dataclass(value):
            flags += flags_of(value, f'{prefix}.{name}')
        elif value is not None and not isinstance(value, tuple):
            flags.append(f'{prefix}.{name}={value}')
    return flags


def train_flags(config: Config) -> list[str]:
    return ['--config', 'configs/cnn.py', *flags_of(config)]


def assert_refused(result, sentence: str) -> None:
    """One sentence on stderr, exit code 2, no traceback."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.startswith('fakeimg: ')
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.strip()[-1] in '.?'
    assert 'Traceback' not in result.stderr + result.stdout
    assert sentence in result.stderr
