"""Runs that are killed for real, in processes of their own."""

import json
import pathlib
import re
import signal
import subprocess
import time

import jax
import numpy as np
import pytest

from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config
from fakeimg.training.program import build
from fakeimg.training.state import TrainState
from tests.support.verbs import ROOT, flags_of, verb_command, verb_environment

STEPS = 40


@pytest.fixture
def config(config: Config) -> Config:
    config.steps = STEPS
    config.log_every_steps = 1
    config.checkpoint_every_steps = 5
    config.data.image_size = 24  # random crops, so that their order counts too
    return config


def start(config: Config, workdir: pathlib.Path) -> subprocess.Popen[str]:
    command = verb_command('main', '--config', ROOT / 'configs/cnn.py', '--workdir', workdir, *flags_of(config))
    return subprocess.Popen(
        command, env=verb_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=workdir.parent
    )


def finish(config: Config, workdir: pathlib.Path) -> str:
    process = start(config, workdir)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f'never printed {text!r}')


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()  # SIGKILL
    process.communicate()


def last_state(config: Config, workdir: pathlib.Path) -> TrainState:
    restored = Checkpoints(workdir / 'checkpoints', read_only=True).restore(build(config).abstract_state())
    assert restored.step == STEPS
    return restored.state


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Filled by the first test that needs it; the run is the same in all of them."""
    return tmp_path_factory.mktemp('whole') / 'run'


def assert_same_run(config: Config, workdir: pathlib.Path, uninterrupted: pathlib.Path) -> None:
    """Every leaf of the last state, and every logged loss, bit for bit."""
    if not uninterrupted.exists():
        finish(config, uninterrupted)
    expected, resumed = last_state(config, uninterrupted), last_state(config, workdir)
    assert len(jax.tree.leaves(expected)) > 20
    jax.tree.map(np.testing.assert_array_equal, resumed, expected)
    assert losses(workdir) == losses(uninterrupted)


def losses(workdir: pathlib.Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    found = [(row['step'], row['train/loss']) for row in rows if 'train/loss' in row]
    assert [step for step, _ in found] == list(range(1, STEPS + 1))
    return dict(found)


@pytest.mark.slow
def test_resume_equals_uninterrupted_run_after_kill_9(
    config: Config, tmp_path: pathlib.Path, uninterrupted: pathlib.Path
) -> None:
    workdir = tmp_path / 'killed'
    process = start(config, workdir)
    wait_for(process, 'step 17/')
    kill(process)
    assert 'continues' in finish(config, workdir)
    assert_same_run(config, workdir, uninterrupted)


@pytest.mark.slow
def test_resume_equals_uninterrupted_run_after_kill_9_inside_a_save(
    config: Config, tmp_path: pathlib.Path, uninterrupted: pathlib.Path
) -> None:
    config.checkpoint_every_steps = 1
    workdir = tmp_path / 'killed'
    process = start(config, workdir)
    wait_for(process, 'step 17/')
    incomplete = []
    deadline = time.monotonic() + 60
    while not incomplete and time.monotonic() < deadline and process.poll() is None:
        folders = [path for path in (workdir / 'checkpoints').iterdir() if path.is_dir()]
        incomplete = [path for path in folders if not (path / 'commit_success.txt').exists()]
    kill(process)
    left = [path for path in (workdir / 'checkpoints').iterdir() if not (path / 'commit_success.txt').exists()]
    assert any(path.is_dir() for path in left), 'the kill did not fall inside a save'
    assert 'continues' in finish(config, workdir)
    assert_same_run(config, workdir, uninterrupted)
    complete = {path.name for path in (workdir / 'checkpoints').iterdir() if (path / 'commit_success.txt').exists()}
    assert {path.name for path in (workdir / 'checkpoints').iterdir() if path.is_dir()} == complete


@pytest.mark.slow
@pytest.mark.parametrize(('sent', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_save_and_leave(
    config: Config, tmp_path: pathlib.Path, uninterrupted: pathlib.Path, sent: signal.Signals, code: int
) -> None:
    config.checkpoint_every_steps = 0
    workdir = tmp_path / 'stopped'
    process = start(config, workdir)
    wait_for(process, 'step 7/')
    process.send_signal(sent)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code
    stopped = re.search(rf'stopped by {sent.name} after step (\d+) of {STEPS}; saved', output)
    assert stopped, output
    assert 'Traceback' not in output
    step = int(stopped[1])
    assert 7 <= step < STEPS
    assert Checkpoints(workdir / 'checkpoints', read_only=True).steps()[-1:] == [step]
    assert f'continues  at step {step} of {STEPS}' in finish(config, workdir)
    assert_same_run(config, workdir, uninterrupted)
