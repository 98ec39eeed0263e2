"""One run that is killed, signalled and left by its readers, each at a random moment, and goes on every time.

FAKEIMG_KILLS=20 tries each kind that often; FAKEIMG_KILLS_SEED chooses the moments.
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import time

import pytest

from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config
from tests.support.verbs import ROOT, flags_of, verb_command, verb_environment

pytestmark = pytest.mark.slow
COUNT, SEED = int(os.environ.get('FAKEIMG_KILLS', '2')), int(os.environ.get('FAKEIMG_KILLS_SEED', '0'))
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
EVERY = 25  # steps from one checkpoint to the next


@pytest.fixture
def endless(config: Config) -> Config:
    config.steps, config.log_every_steps, config.checkpoint_every_steps = 1_000_000, 1, EVERY
    config.validate_every_epochs = 1e6
    return config


def start(config: Config, workdir: pathlib.Path, before: int, to: str = '') -> subprocess.Popen[bytes]:
    """Starts the run, with its output in `to`, a shell's redirection, and returns once it has taken two steps more."""
    command = verb_command('train', '--config', ROOT / 'configs/cnn.py', '--workdir', workdir, *flags_of(config))
    process = subprocess.Popen(
        ['bash', '-c', f'exec "$@" {to}', 'bash', *command],
        env=verb_environment(), cwd=workdir.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while logged(workdir) < before + 2:
        assert process.poll() is None and time.monotonic() < deadline, process.stdout and process.stdout.read()
        time.sleep(0.01)
        if process.stdout is not None and not to:
            os.set_blocking(process.stdout.fileno(), False)
            process.stdout.read()
    return process


def logged(workdir: pathlib.Path) -> int:
    """The last step whose figures are on disk."""
    path = workdir / 'metrics.jsonl'
    lines = path.read_text().splitlines()[-2:] if path.exists() else []
    for line in reversed(lines):
        try:
            return json.loads(line)['step']
        except ValueError:  # half a line
            continue
    return 0


def saved(workdir: pathlib.Path) -> int:
    folder = workdir / 'checkpoints'
    steps = Checkpoints(folder, read_only=True).steps() if folder.is_dir() else []
    return max(steps, default=0)


def test_kills_lose_no_checkpoint(endless: Config, tmp_path: pathlib.Path) -> None:
    moments, workdir = random.Random(SEED), tmp_path / 'run'
    for _ in range(COUNT):
        before = saved(workdir)
        process = start(endless, workdir, before, '>/dev/null 2>&1')
        time.sleep(moments.uniform(0, 1.5))
        reached = logged(workdir)
        with process:
            process.kill()
        # The save of the last checkpoint may still be under way; the one before it never is.
        assert saved(workdir) >= max(before, reached // EVERY * EVERY - EVERY)


@pytest.mark.parametrize('how', ['signal', 'pipe'])
def test_signals_and_closed_pipes_lose_no_step(how: str, endless: Config, tmp_path: pathlib.Path) -> None:
    moments, workdir = random.Random(SEED), tmp_path / 'run'
    for number in range(COUNT):
        before = saved(workdir)
        process = start(endless, workdir, before)
        time.sleep(moments.uniform(0, 0.5))
        if how == 'pipe' and process.stdout is not None:
            process.stdout.close()
            time.sleep(moments.uniform(0, 0.5))
        reached, sent = logged(workdir), SIGNALS[number % len(SIGNALS)]
        assert reached > before
        process.send_signal(sent)
        if how == 'signal' and process.stdout is not None:
            os.set_blocking(process.stdout.fileno(), True)
            process.stdout.read()
        with process:
            assert process.wait(timeout=60) == 128 + sent
        assert saved(workdir) >= reached
