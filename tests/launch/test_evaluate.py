"""Evaluation by two processes: what each has read and scored is counted once, by both."""

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from fakeimg.config import Config
from fakeimg.detector import load
from fakeimg.evaluation.evaluator import evaluate
from fakeimg.training import loop
from tests.support.verbs import ROOT, verb_environment

pytestmark = pytest.mark.slow  # several processes each


@pytest.fixture
def workdir(config: Config, tmp_path: pathlib.Path) -> pathlib.Path:
    config.steps = 2
    loop.train(config, tmp_path / 'run')
    return tmp_path / 'run'


def two_processes(workdir: pathlib.Path, images: pathlib.Path, out: pathlib.Path) -> subprocess.Popen[str]:
    command = [
        ROOT / 'launch/local_processes.sh',
        '2',
        '-m',
        'fakeimg.evaluate',
        '--workdir',
        workdir,
        '--batch_size=4',
    ]
    return subprocess.Popen(
        [*map(str, command), '--data_path', str(images), '--out', str(out)],
        env=verb_environment(PYTHON=sys.executable), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


def test_two_processes_find_the_copies_that_one_finds(
    workdir: pathlib.Path, faces: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for number, path in enumerate(sorted(faces.glob('train/*/*.jpg'))):
        if number % 5 == 0:  # in the share of either process
            shutil.copy(path, faces / 'test' / path.parent.name / f'copy{number}.jpg')
    one, _ = evaluate(load(workdir, batch_size=4), data_path=str(faces / 'test'), out=tmp_path / 'one')
    finish(two_processes(workdir, faces / 'test', tmp_path / 'two'))
    two = json.loads((tmp_path / 'two/metrics.json').read_text())
    for metrics in (one, two):
        del metrics['command']  # which names the folder
    assert two == one
    assert two['n'] == 60 and 8 <= two['without_copies']['copies'] <= 20  # two steps have not shown all of train


def test_two_killed_processes_go_on_from_their_scores(
    workdir: pathlib.Path, faces: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for number, path in itertools.product(range(120), sorted(faces.glob('test/*/*.jpg'))):
        path.with_name(f'{path.stem}-{number}.jpg').symlink_to(path)
    (faces / 'test/real/000006-3.jpg').unlink()
    (faces / 'test/real/000006-3.jpg').write_bytes(b'not an image')
    out = tmp_path / 'out'
    process = two_processes(workdir, faces / 'test', out)
    partial, deadline = [out / 'scores.partial', out / 'scores.1.partial'], time.monotonic() + 60
    while time.monotonic() < deadline and not all(
        path.exists() and path.read_bytes().count(b'\n') > 7 for path in partial
    ):
        time.sleep(0.01)
    for child in pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)
    process.communicate()
    assert all(path.exists() for path in partial) and not (out / 'predictions.csv').exists()
    with open(partial[1], 'r+b') as file:  # one of them was ahead
        file.truncate(len(b''.join(file.readlines()[:5])))
    assert '1,024 of 4,840 images were scored before; the others follow' in finish(
        two_processes(workdir, faces / 'test', out)
    )
    assert not any(path.exists() for path in partial)
    finish(two_processes(workdir, faces / 'test', tmp_path / 'whole'))  # compiled alike
    assert (out / 'predictions.csv').read_bytes() == (tmp_path / 'whole/predictions.csv').read_bytes()
    continued, whole = (json.loads((folder / 'metrics.json').read_text()) for folder in (out, tmp_path / 'whole'))
    assert continued.pop('command') != whole.pop('command')
    assert continued == whole
