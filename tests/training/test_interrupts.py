"""A console that is gone, in processes of their own: no step is lost, and a signal still saves."""

import json
import pathlib
import signal
import subprocess
import time
from typing import IO

import pytest

from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config
from tests.support.verbs import ROOT, flags_of, verb_command, verb_environment


def start(config: Config, workdir: pathlib.Path, shell: str = '"$@"') -> subprocess.Popen[str]:
    command = verb_command('train', '--config', ROOT / 'configs/cnn.py', '--workdir', workdir, *flags_of(config))
    return subprocess.Popen(
        ['sh', '-c', f'exec {shell}', 'sh', *command],
        env=verb_environment(),
        cwd=workdir.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def hang_up(process: subprocess.Popen[str]) -> None:
    """Reads the first lines, and nothing from then on."""
    streams: list[IO[str] | None] = [process.stdout, process.stderr]
    for stream in streams:
        assert stream is not None
        if stream is process.stdout:
            assert any('run folder' in line for line in stream)
        stream.close()


def steps(workdir: pathlib.Path) -> list[int]:
    path = workdir / 'metrics.jsonl'
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row['step'] for row in rows if 'train/loss' in row]


def test_a_reader_that_left_does_not_stop_a_run(config: Config, tmp_path: pathlib.Path) -> None:
    process = start(config, tmp_path / 'run')
    hang_up(process)
    assert process.wait(timeout=120) == 0
    assert steps(tmp_path / 'run') == [4, 8, 12]
    assert Checkpoints(tmp_path / 'run/checkpoints', read_only=True).is_validated(12)


@pytest.mark.parametrize('closed', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_signal_saves_without_a_terminal(config: Config, tmp_path: pathlib.Path, closed: bool) -> None:
    """The terminal goes away under the run; or was never there: standard streams are closed from the start."""
    config.steps, config.log_every_steps, config.checkpoint_every_steps = 100_000, 1, 0
    config.validate_every_epochs = 1e5
    workdir = tmp_path / 'run'
    process = start(config, workdir, '"$@" <&- >&- 2>&-' if closed else '"$@"')
    if not closed:
        hang_up(process)
    deadline = time.monotonic() + 120
    with process:
        while not steps(workdir) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    last = steps(workdir)[-1]
    assert last < 100_000
    assert Checkpoints(workdir / 'checkpoints', read_only=True).steps() == [last]
