"""Two virtual CPU devices for every test, and the images that tests share."""

import os

# Before jax is imported anywhere. NPROC sizes XLA's thread pool, which two devices on two cores would exhaust. What one
# test compiles, or a verb that it starts, the next one finds; each worker has a folder, for jax writes in place.
os.environ.update(
    JAX_PLATFORMS='cpu',
    NPROC='8',
    HF_HUB_OFFLINE='1',
    XLA_FLAGS='--xla_force_host_platform_device_count=2',
    JAX_COMPILATION_CACHE_DIR=os.path.abspath(
        f'.pytest_cache/compiled/{os.environ.get("PYTEST_XDIST_WORKER", "main")}'
    ),
)

import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
from absl import logging

from fakeimg.config import Config, default_config
from fakeimg.data import demo
from fakeimg.runtime import xla

logging.set_verbosity(logging.ERROR)
xla.choose_cpu_kernels()  # as every verb does
xla.keep_memory()
ROOT = pathlib.Path(__file__).parents[1]
SPLIT_SIZES = {'train': 96, 'test': 40}


@pytest.fixture(scope='session')
def faces_once(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp('faces')
    for split, size in SPLIT_SIZES.items():
        source = demo.DemoFaces(split, size=32, num_examples=size)
        for index, name in enumerate(source.names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source[index])
    return root


@pytest.fixture
def faces(faces_once: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of 96 + 40 JPEGs of 32 px, `{train,test}/{real,fake}`, that the test may spoil."""
    return pathlib.Path(shutil.copytree(faces_once, tmp_path / 'faces'))


@pytest.fixture
def config(faces: pathlib.Path) -> Config:
    """The small CNN on `faces`, 16 images a step, 12 steps."""
    config = default_config()
    config.batch_size = 16
    config.steps = 12
    config.data.path = str(faces)
    config.data.image_size = config.data.resize_size = 32
    config.data.validation_fraction = 0.25
    config.model.name = 'cnn'
    config.log_every_steps = 4
    return config


def flags_of(config: Config, prefix: str = '--config') -> list[str]:
    """Command-line overrides that reproduce `config` on top of configs/cnn.py."""
    flags = []
    for name, value in config.items():
        if hasattr(value, 'items'):
            flags += flags_of(value, f'{prefix}.{name}')
        elif not isinstance(value, tuple):
            flags.append(f'{prefix}.{name}={value}')
    return flags


Verb = Callable[..., subprocess.CompletedProcess[str]]


def verb_command(verb: str, *arguments: object) -> list[str]:
    return [sys.executable, '-m', f'fakeimg.{verb}', *map(str, arguments)]


def verb_environment(devices: int = 1, **variables: str) -> dict[str, str]:
    flags = f'--xla_force_host_platform_device_count={devices}'
    return {**os.environ, 'XLA_FLAGS': flags, 'PYTHONPATH': str(ROOT), **variables}


@pytest.fixture
def verb(tmp_path: pathlib.Path) -> Verb:
    """Runs `python -m fakeimg.VERB ...` in an empty folder with the recipes in it."""
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'configs').symlink_to(ROOT / 'configs')

    def run(name: str, *arguments: object, devices: int = 1) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            verb_command(name, *arguments),
            cwd=work,
            env=verb_environment(devices),
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run
