"""Verbs started as users start them: the command, its environment, and what a refusal looks like."""

import dataclasses
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from fakeimg.config import Config

ROOT = pathlib.Path(__file__).parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]  # fakeimg ARGUMENTS
Verb = Callable[..., subprocess.CompletedProcess[str]]  # python -m fakeimg.VERB ARGUMENTS


def verb_command(verb: str, *arguments: object) -> list[str]:
    return [sys.executable, '-m', f'fakeimg.{verb}', *map(str, arguments)]


def verb_environment(devices: int = 1, **variables: str) -> dict[str, str]:
    # The last two compile in half the time; what is compiled runs a second or two.
    flags = (
        f'--xla_force_host_platform_device_count={devices}'
        ' --xla_cpu_parallel_codegen_split_count=1 --xla_backend_optimization_level=0'
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
