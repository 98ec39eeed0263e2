"""Two virtual CPU devices for every test, and the images that tests share."""

import os

# Before jax is imported anywhere. NPROC sizes XLA's thread pool, which two devices on two cores would exhaust. What one
# test compiles, or a verb that it starts, the next one finds, though it took less than the second that jax asks for;
# each worker has a folder, for jax writes in place. A program compiled in one piece costs a quarter less than in many.
os.environ.update(
    JAX_PLATFORMS='cpu',
    NPROC='8',
    HF_HUB_OFFLINE='1',
    XLA_FLAGS='--xla_force_host_platform_device_count=2 --xla_cpu_parallel_codegen_split_count=1'
    ' --xla_backend_optimization_level=0',
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0.1',
    JAX_COMPILATION_CACHE_DIR=os.path.abspath(
        f'.pytest_cache/compiled/{os.environ.get("PYTEST_XDIST_WORKER", "main")}'
    ),
)
# Where no bytecode is kept, every verb that a test starts compiles the whole package anew.
os.environ.pop('PYTHONDONTWRITEBYTECODE', None)

# Before fakeimg: what its modules are the first to import, the hook of jaxtyping would compile from source each time.
import flax.linen  # noqa: F401  isort: skip
import grain.experimental  # noqa: F401  isort: skip
import optax  # noqa: F401  isort: skip
import orbax.checkpoint  # noqa: F401  isort: skip

import pathlib
import shutil
import subprocess
from typing import TYPE_CHECKING

import hypothesis
import pytest
from absl import logging

from fakeimg.config import Config
from fakeimg.data import demo
from fakeimg.runtime import xla
from tests.support.small import small_config
from tests.support.verbs import ROOT, Command, Verb, run_module, verb_environment

if TYPE_CHECKING:
    from tests.support.sets import Sets

logging.set_verbosity(logging.ERROR)
# The same examples everywhere, and time for them on a busy machine.
hypothesis.settings.register_profile('tests', deadline=None, max_examples=40, derandomize=True, database=None)
hypothesis.settings.load_profile('tests')
xla.choose_cpu_kernels()  # as every verb does
xla.keep_memory()
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


@pytest.fixture(scope='session')
def sets(tmp_path_factory: pytest.TempPathFactory) -> 'Sets':
    """The same small images in every form that a data set can have."""
    from tests.support.sets import write_sets  # TFDS takes a second to import

    return write_sets(tmp_path_factory.mktemp('sets'))


@pytest.fixture
def faces(faces_once: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of 96 + 40 JPEGs of 32 px, `{train,test}/{real,fake}`, that the test may spoil."""
    return pathlib.Path(shutil.copytree(faces_once, tmp_path / 'faces'))


@pytest.fixture
def config(faces: pathlib.Path) -> Config:
    """`small_config` on `faces`."""
    return small_config(faces)


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations write no page, which takes a second."""
    monkeypatch.setattr('fakeimg.evaluation.report.write_report', lambda *_args, **_more: None)


@pytest.fixture
def verb(tmp_path: pathlib.Path) -> Verb:
    """Runs `python -m fakeimg.VERB ...` in an empty folder with the recipes in it."""
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'configs').symlink_to(ROOT / 'configs')

    def run(name: str, *arguments: object, devices: int = 1) -> subprocess.CompletedProcess[str]:
        return run_module(f'fakeimg.{name}', arguments, folder=work, environment=verb_environment(devices), timeout=300)

    return run


@pytest.fixture
def command(tmp_path: pathlib.Path) -> Command:
    """Runs `fakeimg ...` in an empty folder."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return run_module('fakeimg', arguments, folder=tmp_path, environment=verb_environment(), timeout=60)

    return run
