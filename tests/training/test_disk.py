"""A disk that is full, and checkpoints that go away under a reader: a sentence, and nothing lost that was saved."""

import contextlib
import errno
import os
import pathlib
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from fakeimg import detector, saving
from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config
from fakeimg.errors import UserError, system_error
from fakeimg.run import MetricsWriter
from fakeimg.training import loop
from tests.support.console import Recorder
from tests.support.runs import assert_same_state
from tests.support.verbs import ROOT, assert_refused


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses what would make a file larger, as it refuses what a full disk has no room for."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def steps(workdir: pathlib.Path) -> list[int]:
    return Checkpoints(workdir / 'checkpoints', read_only=True).steps()


@pytest.mark.slow
def test_a_checkpoint_that_finds_no_room_leaves_the_last_one_and_the_run_goes_on_later(
    config: Config, tmp_path: pathlib.Path
) -> None:
    whole, workdir = tmp_path / 'whole', tmp_path / 'run'
    loop.train(config, whole)
    stopped = loop.train(config, workdir, Recorder(interrupt_at='step 4/'))
    saved = steps(workdir)
    with largest_file(20_000), pytest.raises(UserError, match='File too large') as refused:
        loop.train(config, workdir)
    assert f'the last complete one is {stopped.step}; ' in str(refused.value)
    assert steps(workdir) == saved
    assert sorted(int(path.name) for path in (workdir / 'checkpoints').iterdir() if path.is_dir()) == saved
    loop.train(config, workdir)
    assert_same_state(config, workdir, whole)


@pytest.mark.slow
def test_a_validation_that_is_repeated_leaves_its_checkpoint_alone(
    config: Config, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, workdir = tmp_path / 'whole', tmp_path / 'run'
    loop.train(config, whole)
    stopped = loop.train(config, workdir, Recorder(interrupt_at='step 4/'))
    state = workdir / 'checkpoints' / str(stopped.step) / 'state' / '_METADATA'
    before = state.stat()

    def full(*_args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched, pytest.raises(UserError, match='the validation of step 4 cannot be written'):
        patched.setattr('fakeimg.saving.os.rename', full)
        loop.train(config, workdir)
    assert steps(workdir) == [stopped.step] and state.stat() == before
    seen: list[bool] = []

    def add_and_look(checkpoint: pathlib.Path, metrics: dict[str, Any]) -> None:
        saving.add_metrics(checkpoint, metrics)
        checkpoints = Checkpoints(workdir / 'checkpoints', read_only=True)
        seen.append(state.stat() == before and checkpoints.score(4) == metrics['auc'])

    monkeypatch.setattr('fakeimg.checkpoint.add_metrics', add_and_look)
    loop.train(config, workdir)
    assert seen == [True]
    assert_same_state(config, workdir, whole)


def test_metrics_that_find_no_room_end_the_run_once_its_state_is_saved(
    config: Config, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.validate_every_epochs, config.checkpoint_every_steps = 1e5, 0
    write = MetricsWriter._event

    def full(self: MetricsWriter, **fields: Any) -> None:
        if fields['step'] == 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, **fields)

    monkeypatch.setattr(MetricsWriter, '_event', full)
    with pytest.raises(UserError, match=r'No space left on device.*; step \d+ is saved') as refused:
        loop.train(config, tmp_path)
    (last,) = steps(tmp_path)
    assert f'step {last} is saved' in str(refused.value) and 8 < last < 12


def test_the_system_speaks_through_other_exceptions() -> None:
    try:
        try:
            open('/absent')
        except OSError as error:
            raise ValueError('of a library') from error
    except ValueError as error:
        assert system_error(error) == 'No such file or directory'
    assert system_error(ValueError("RESOURCE_EXHAUSTED: ... [os_error_code='122']")) == 'Disk quota exceeded'
    assert system_error(ValueError('a bug')) is None


def test_evaluation_takes_the_next_checkpoint_when_training_deletes_the_one_it_reads(
    config: Config, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.checkpoint_every_steps = 4
    loop.train(config, tmp_path)
    best, read = Checkpoints(tmp_path / 'checkpoints', read_only=True).best_step(), Checkpoints._restore
    tried = []

    def restore(self: Checkpoints, shapes: Any, step: int, *optional: Any) -> Any:
        if not tried:
            shutil.rmtree(self.folder / str(step))
        tried.append(step)
        return read(self, shapes, step, *optional)

    monkeypatch.setattr(Checkpoints, '_restore', restore)
    loaded = detector.load(tmp_path)
    assert tried[0] == best and len(tried) == 2 and loaded.step == tried[1] != best
    assert loaded.notes == ()
    tried.clear()
    assert loaded.step is not None
    with pytest.raises(UserError, match=f'checkpoint {loaded.step} of .* was deleted while it was read'):
        detector.load(tmp_path, loaded.step)


FULL = """
import errno, types
from fakeimg.cli import verb
def main(argv):
    raise OSError(errno.{name}, 'said by the system', {file!r})
verb.run(types.SimpleNamespace(main=main), [])
"""


@pytest.mark.parametrize(
    ('name', 'file', 'sentence'),
    [
        ('ENOSPC', None, 'fakeimg: said by the system; make space there'),
        ('EROFS', '/set/a.csv', 'fakeimg: /set/a.csv: said by the system; make it writable or name another folder'),
    ],
)
def test_what_the_machine_refuses_is_a_sentence_in_every_verb(name: str, file: str | None, sentence: str) -> None:
    program = [sys.executable, '-c', FULL.format(name=name, file=file)]
    assert_refused(subprocess.run(program, cwd=ROOT, capture_output=True, text=True), sentence)
