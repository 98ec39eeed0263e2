"""The loop in this process, where a test can look inside."""

import functools
import json
import pathlib
import signal

import pytest
from flax.training import dynamic_scale

from fakeimg import scoring
from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config, override
from fakeimg.detector import load
from fakeimg.errors import TrainingDiverged, UserError
from fakeimg.evaluation.evaluator import evaluate
from fakeimg.evaluation.metrics import compute_metrics
from fakeimg.training import loop, resume
from fakeimg.training.program import build


def rows(workdir: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


@pytest.mark.slow
def test_diverged_weights_are_never_saved(config: Config, tmp_path: pathlib.Path) -> None:
    config.checkpoint_every_steps = 1
    config.optimizer.warmup_epochs = 0
    config.optimizer.clip_norm = 0.0
    config.optimizer.base_learning_rate = 1e36
    with pytest.raises(TrainingDiverged, match='not finite in step.*there is no checkpoint yet|last good checkpoint'):
        loop.train(config, tmp_path / 'run')
    config.optimizer.base_learning_rate = 1e-3
    assert loop.train(config, tmp_path / 'run').step == 12  # whatever was saved can be trained on


def test_interrupted_last_validation_is_made_up_for(
    config: Config, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.validate_every_epochs = 100.0
    score = scoring.Scorer.score

    def interrupt_first(*arguments, **options):
        signal.raise_signal(signal.SIGINT)
        return score(*arguments, **options)

    workdir = tmp_path / 'run'
    with monkeypatch.context() as patched:
        patched.setattr(scoring.Scorer, 'score', interrupt_first)
        result = loop.train(config, workdir)
    assert result.step == 12
    assert result.interrupted_by == signal.SIGINT
    assert not any('validation/auc' in row for row in rows(workdir))
    result = loop.train(config, workdir)
    assert result.interrupted_by is None
    assert sum('validation/auc' in row for row in rows(workdir)) == 1
    assert Checkpoints(workdir / 'checkpoints', read_only=True).is_validated(12)
    loop.train(config, workdir)  # a finished run has nothing left to do
    assert sum('validation/auc' in row for row in rows(workdir)) == 1


@pytest.mark.usefixtures('no_page')
def test_validation_and_the_best_checkpoint_are_of_the_average(config: Config, tmp_path: pathlib.Path) -> None:
    config.steps = 8
    config.optimizer.ema_decay = 0.99
    config.optimizer.base_learning_rate = 0.03
    workdir = tmp_path / 'run'
    loop.train(config, workdir)
    validated = {row['step']: row for row in rows(workdir) if 'validation/auc' in row}
    assert list(validated) == [4, 8]
    setup, checkpoints = build(config), Checkpoints(workdir / 'checkpoints', read_only=True)
    validation, averages = setup.splits['validation'], {}
    for step, row in validated.items():
        average, _ = evaluate(load(workdir, step), 'validation')  # reads the average by itself
        averages[step] = average['auc']
        assert row['validation/loss'] == pytest.approx(average['loss'], abs=1e-5)
        kept = json.loads((workdir / f'checkpoints/{step}/metrics/metrics').read_text())
        assert row['validation/auc'] == kept['auc'] == average['auc']
        state = checkpoints.restore(setup.abstract_state(), step).state
        raw = {'params': state.params, 'batch_stats': state.batch_stats}
        scored, _ = setup.scorer.score(raw, validation, 'validation')
        assert abs(compute_metrics(scored)['loss'] - average['loss']) > 1e-3  # else nothing above could fail
    best = checkpoints.best_step()
    assert best is not None
    assert averages[best] == max(averages.values())


@pytest.mark.slow
def test_the_loss_scale_goes_on_where_it_was(
    config: Config, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of float16, with a scale that doubles after four good steps instead of two thousand."""
    scale = functools.partial(dynamic_scale.DynamicScale, growth_interval=3)
    monkeypatch.setattr(dynamic_scale, 'DynamicScale', scale)
    config.precision = 'float16'
    config.log_every_steps = 1
    config.steps = 5
    workdir = tmp_path / 'run'
    loop.train(config, workdir)
    start = resume.starting_point(build(config), workdir / 'checkpoints')
    state = start.state
    assert start.step == 5
    assert state.dynamic_scale is not None
    assert (float(state.dynamic_scale.scale), int(state.dynamic_scale.fin_steps)) == (2.0**17, 1)
    config.steps = 8
    loop.train(config, workdir)
    scales = [row['train/loss_scale'] for row in rows(workdir) if 'train/loss_scale' in row]
    assert scales == [2.0**16] * 3 + [2.0**17] * 4 + [2.0**18]  # as of one run of 8 steps


def test_a_run_cannot_be_shortened_below_what_it_took(config: Config, tmp_path: pathlib.Path) -> None:
    config.steps = 2
    loop.train(config, tmp_path / 'run')
    before = (tmp_path / 'run/config.json').read_text()
    config.steps = 1
    with pytest.raises(UserError, match='has taken 2 steps already, more than the 1 of the configuration'):
        loop.train(config, tmp_path / 'run')
    assert (tmp_path / 'run/config.json').read_text() == before


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('optimizer.clip_norm', -1.0),
        ('optimizer.base_learning_rate', 0.0),
        ('optimizer.base_learning_rate', float('nan')),
        ('optimizer.weight_decay', -1.0),
        ('optimizer.warmup_epochs', -1.0),
        ('data.threads', -1),
        ('data.std', (0.0, 0.1, 0.1)),
        ('data.mean', (0.5, 0.5)),
        ('data.resize_size', 8),
        ('seed', -1),
        ('batch_size', 0),
    ],
)
def test_values_that_cannot_work(config: Config, tmp_path: pathlib.Path, field: str, value: object) -> None:
    config = override(config, {field: value})
    with pytest.raises(UserError, match=f'config.{field} is .*; it must be'):
        loop.train(config, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()
