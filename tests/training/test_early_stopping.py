"""A run ends once its validations no longer improve, at the same step however often it was stopped and continued."""

import pathlib
import signal
from typing import Any

import numpy as np
import pytest

from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config, override
from fakeimg.data import partition
from fakeimg.detector import load
from fakeimg.errors import UserError
from fakeimg.evaluation.evaluator import evaluate
from fakeimg.meta import Meta
from fakeimg.training import early_stopping, loop
from fakeimg.training.early_stopping import stalled_for
from fakeimg.training.program import build
from tests.support.console import Recorder
from tests.support.runs import assert_same_state, written

RISING = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
PEAK = [0.6, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]  # means of three: .6, .75, .767, .8, .7, ...


@pytest.fixture
def config(config: Config) -> Config:
    """Up to eight validations, one every two steps."""
    fields = {'data.image_size': 16, 'data.resize_size': 16, 'model.filters': 4}
    return override(config, {**fields, 'steps': 16, 'validate_every_epochs': 0.45, 'early_stopping': 2})


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the validations of a run find, by their number, whatever its weights; the test fills it."""
    given: list[float] = []
    write = loop.StepLog.write_validation

    def of_step(log: Any, step: int, metrics: dict[str, Any]) -> None:
        metrics['auc'] = given[step // 2 - 1]
        write(log, step, metrics)

    monkeypatch.setattr(loop.StepLog, 'write_validation', of_step)
    return given


def test_the_mean_of_three_is_compared_with_the_best() -> None:
    def stalled(*scores: float | None) -> int:
        return stalled_for([[number, score] for number, score in enumerate(scores)])

    assert stalled() == stalled(0.5) == stalled(*RISING) == 0
    assert [stalled(*PEAK[:count]) for count in range(1, 9)] == [0, 0, 0, 0, 1, 2, 3, 4]
    assert stalled(0.9, 0.8, 0.7) == 2  # fewer than three count as they are
    assert stalled(0.7, 0.7, 0.7, 0.7) == 3  # as good is no better
    assert stalled(0.1, 0.7, 0.7, 0.7, 0.7) == 1
    assert stalled(0.0, 0.2, 0.3, 0.1, 0.2) == 1  # nor are the same scores in another order, whose sums round otherwise
    assert stalled(0.5, 0.6, 0.55, 0.7, 0.65, 0.8) == 0  # one worse than the one before is no end
    assert stalled(None, 0.5) == 0 and stalled(0.5, None) == 1


def test_a_run_stops_and_says_why(config: Config, tmp_path: pathlib.Path, scores: list[float]) -> None:
    scores += [0.9, 0.8, 0.7]
    console = Recorder()
    result = loop.train(config, tmp_path, console)
    assert (result.step, result.total_steps, result.is_finished) == (6, 16, True)
    why = 'validation AUC has not improved for 2 validations; the best is of step 2'
    said = f'stopped early, after step 6 of 16: {why}'
    assert said in console.lines
    assert 'early stopping after 2 validations without a better AUC' in console.text
    files = [path for path in tmp_path.rglob('*') if path.is_file() and 'tensorboard' not in str(path)]
    before = {path: path.read_bytes() for path in files}
    again = Recorder()
    result = loop.train(config, tmp_path, again)
    assert (result.step, result.is_finished, result.interrupted_by) == (6, True, None)
    assert said in again.lines and 'compilation' not in again.text
    after = {path: path.read_bytes() for path in before}
    assert after == before


def test_one_lucky_validation_is_not_the_best(config: Config, tmp_path: pathlib.Path, scores: list[float]) -> None:
    scores += [0.6, 0.7, 0.9, 0.8, 0.85, 0.85, 0.88, 0.87]
    loop.train(override(config, {'early_stopping': 0}), tmp_path)
    checkpoints = Checkpoints(tmp_path / 'checkpoints', read_only=True)
    assert checkpoints.best_step() == 16 and checkpoints.steps() == [14, 16]  # step 6 had .9, and .73 with its two
    assert checkpoints.score(16) == 0.87


@pytest.mark.slow
def test_a_run_that_improves_goes_on_to_its_end(config: Config, tmp_path: pathlib.Path, scores: list[float]) -> None:
    scores += [*RISING, 0.96, 0.97]
    console = Recorder()
    result = loop.train(config, tmp_path, console)
    assert (result.step, result.is_finished) == (16, True)
    assert 'stopped early' not in console.text


class Killed(BaseException):
    """Stands for a kill that leaves what is on disk."""


@pytest.mark.slow
@pytest.mark.parametrize('at', [3, 8, 9, 11])
def test_a_run_that_was_killed_stops_at_the_same_step(
    config: Config, tmp_path: pathlib.Path, scores: list[float], monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    scores += PEAK
    config.checkpoint_every_steps = config.log_every_steps = 1
    loop.train(config, tmp_path / 'whole')
    add = loop.StepLog.add

    def killed(log: Any, step: int, *arguments: Any) -> None:
        if step == at:
            raise Killed
        add(log, step, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(loop.StepLog, 'add', killed)
        with pytest.raises(Killed):
            loop.train(config, tmp_path / 'killed')
    assert loop.train(config, tmp_path / 'killed').step == 12
    assert written(tmp_path / 'killed') == written(tmp_path / 'whole')
    assert_same_state(override(config, {'steps': 12}), tmp_path / 'killed', tmp_path / 'whole')


@pytest.mark.slow
def test_a_validation_that_a_signal_cut_short_counts_once(
    config: Config, tmp_path: pathlib.Path, scores: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores += PEAK
    must_stop = loop._Loop.must_stop_validating
    sent: list[int] = []

    def interrupted(this: Any) -> bool:
        if len(this.validations) == 3 and not sent:
            sent.append(1)
            signal.raise_signal(signal.SIGTERM)
        return must_stop(this)

    monkeypatch.setattr(loop._Loop, 'must_stop_validating', interrupted)
    stopped = loop.train(config, tmp_path)
    assert (stopped.step, stopped.interrupted_by) == (8, signal.SIGTERM)
    assert loop.train(config, tmp_path).step == 12
    assert history(tmp_path) == [[2 * number, score] for number, score in enumerate(PEAK[:6], 1)]


def history(workdir: pathlib.Path) -> list[list[Any]]:
    return Checkpoints(workdir / 'checkpoints', read_only=True).read_meta().validations


@pytest.mark.slow
def test_more_patience_or_more_steps_go_on(config: Config, tmp_path: pathlib.Path, scores: list[float]) -> None:
    scores += PEAK + [0.1, 0.2, 0.1]
    loop.train(config, tmp_path / 'run')
    patient = override(config, {'early_stopping': 3})
    assert loop.train(patient, tmp_path / 'run').step == 14
    assert loop.train(config, tmp_path / 'run').step == 14  # less of it takes nothing back
    never = override(config, {'early_stopping': 0})
    assert loop.train(never, tmp_path / 'run').step == 16
    loop.train(never, tmp_path / 'whole')
    assert_same_state(never, tmp_path / 'run', tmp_path / 'whole')
    # With more steps come other learning rates, and it counts anew: 0.1 and 0.2 are rising.
    longer = override(config, {'steps': 22})
    assert loop.train(longer, tmp_path / 'run').step == 22
    assert history(tmp_path / 'run') == [[18, 0.1], [20, 0.2], [22, 0.1]]


@pytest.mark.slow
@pytest.mark.usefixtures('no_page')
def test_a_run_that_stopped_early_can_be_evaluated(config: Config, tmp_path: pathlib.Path, scores: list[float]) -> None:
    scores += [0.9, 0.8, 0.7]
    assert loop.train(config, tmp_path).step == 6
    metrics, _ = evaluate(load(tmp_path), 'test')
    assert (metrics['step'], metrics['n']) == (2, 40)


@pytest.mark.slow
def test_scores_of_another_validation_do_not_count(config: Config, tmp_path: pathlib.Path, scores: list[float]) -> None:
    scores += [*PEAK[:6], 0.1, 0.2]
    loop.train(config, tmp_path)
    changed = override(config, {'data.validation_fraction': 0.3})
    assert loop.train(changed, tmp_path, with_changes=True).step == 16
    assert history(tmp_path) == [[14, 0.1], [16, 0.2]]


def test_without_a_validation_it_is_refused(config: Config) -> None:
    splits = build(config).splits
    early_stopping.check(config, splits)
    of_one_class = splits['validation'].take(np.flatnonzero(splits['validation'].labels == 0))
    without = {name: split for name, split in splits.items() if name != 'validation'}
    for part, said in ((without, 'is not there'), ({**without, 'validation': of_one_class}, 'has no fake images')):
        with pytest.raises(UserError, match=f'config.early_stopping=2 goes by .*, and that split {said}; set config.d'):
            early_stopping.check(config, part)
        early_stopping.check(override(config, {'early_stopping': 0}), part)


def test_a_run_without_validation_is_refused_before_it_trains(
    config: Config, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition, 'training_splits', lambda data, _config: {'train': data.splits['train']})
    with pytest.raises(UserError, match='config.early_stopping=2 goes by the AUC of validation'):
        loop.train(config, tmp_path)
    assert not (tmp_path / 'config.json').exists()


def test_metas_of_early_runs_have_no_validations() -> None:
    values = Meta(config={}, labels={}, preprocessing={}, data_digest=None).to_json()
    del values['validations']
    assert Meta.from_json(values, 'here').validations == []
