"""A terminal that is closed under a training, and a user without a home, both for real."""

import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config
from tests.support.verbs import ROOT, flags_of, verb_command, verb_environment

pytestmark = pytest.mark.slow
READS_ALL = ('--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search')
UNKNOWN = 54321  # a user with no entry among the users of this machine


def endless(config: Config) -> list[str]:
    config.steps, config.log_every_steps, config.checkpoint_every_steps = 1_000_000, 1, 0
    config.validate_every_epochs = 1e6
    return ['--config', str(ROOT / 'configs/cnn.py'), *flags_of(config)]


def read_until(terminal: int, pattern: str) -> int:
    """The number that `pattern` finds in what is written to the terminal."""
    text, deadline = '', time.monotonic() + 120
    while time.monotonic() < deadline:
        text += os.read(terminal, 65536).decode(errors='replace')
        if found := re.findall(pattern, text):
            return int(found[-1].replace(',', ''))
    raise AssertionError(text)


@pytest.mark.parametrize('kind', ['xterm', 'dumb'])  # a bar that moves, and lines
def test_a_closed_terminal_saves_and_leaves(kind: str, config: Config, tmp_path: pathlib.Path) -> None:
    workdir = tmp_path / 'run'
    master, slave = pty.openpty()
    command = verb_command('train', *endless(config), '--workdir', workdir)
    # In a session of its own, whose terminal this becomes: closing it sends SIGHUP, and every write then fails.
    attach = 'import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])'
    process = subprocess.Popen(
        [sys.executable, '-c', attach, *command], env=verb_environment(TERM=kind), cwd=tmp_path,
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    with process:
        try:
            reached = read_until(master, r'(\d+)/1,000,000  ETA' if kind == 'dumb' else r'([2-9]|\d[\d,]+)/1,000,000 ')
        finally:
            os.close(master)
        assert process.wait(timeout=120) == 128 + signal.SIGHUP
    assert Checkpoints(workdir / 'checkpoints', read_only=True).steps()[-1] >= reached > 0


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which('setpriv'), reason='only root can become another user')
def test_a_user_whom_the_system_does_not_know_trains(config: Config, faces: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # not pytest's own, which root alone may enter
        place = pathlib.Path(folder)
        place.chmod(0o777)
        shutil.copytree(faces, place / 'faces')
        config.data.path, config.steps = str(place / 'faces'), 2
        command = verb_command('train', '--config', ROOT / 'configs/cnn.py', *flags_of(config), '--workdir', 'run')
        environment = verb_environment(TMPDIR=str(place))
        for name in ('HOME', 'XDG_CACHE_HOME', 'JAX_COMPILATION_CACHE_DIR', 'USER', 'LOGNAME'):
            environment.pop(name, None)
        # It may read what root may, for the interpreter can lie in root's home, and write what it owns alone.
        become = ['setpriv', f'--reuid={UNKNOWN}', f'--regid={UNKNOWN}', '--clear-groups', *READS_ALL]
        done = subprocess.run([*become, *command], env=environment, cwd=place, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert 'Traceback' not in done.stderr and 'finished: 2 steps' in done.stdout
        assert list(place.glob(f'fakeimg-{UNKNOWN}/.cache/fakeimg/compiled/*/*'))
