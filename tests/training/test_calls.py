"""Several steps in one call: a run that differs in nothing but its speed."""

import pathlib

import pytest

from fakeimg.config import Config
from fakeimg.errors import TrainingDiverged, UserError
from fakeimg.training import loop
from fakeimg.training.schedule import Schedule
from tests.support.console import Recorder
from tests.support.runs import assert_same_state, progress, written


@pytest.fixture
def config(config: Config) -> Config:
    config.model.filters = config.model.dense = 8
    config.steps = 24
    config.log_every_steps = 6
    config.validate_every_epochs = 2.0  # of 4.5 steps
    config.data.image_size = 24  # random crops, so that their order counts too
    return config


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['pmap', 'shard_map'])
def test_calls_of_several_steps_give_the_same_run(config: Config, tmp_path: pathlib.Path, mode: str) -> None:
    """Weights, metrics and lines, where rows of metrics and validations cut calls short."""
    config.parallel = mode
    single, several = Recorder(), Recorder()
    loop.train(config, tmp_path / 'single', single)
    config.steps_per_call = 4
    loop.train(config, tmp_path / 'several', several)
    assert_same_state(config, tmp_path / 'several', tmp_path / 'single')
    assert written(tmp_path / 'several') == written(tmp_path / 'single')
    assert progress(several) == progress(single)
    assert 'first 4 steps' in several.text
    assert 'step 5, the first in a call of 1,' in several.text


@pytest.mark.slow
def test_a_run_stopped_between_calls_continues_as_if_it_had_not(config: Config, tmp_path: pathlib.Path) -> None:
    """By a signal, which acts after the call under way."""
    loop.train(config, tmp_path / 'whole')
    config.steps_per_call = 5
    stopping = Recorder(interrupt_at='step 12/')  # said while steps 13 to 17 are computed, see StepLog.add
    result = loop.train(config, tmp_path / 'stopped', stopping)
    assert result.interrupted_by is not None
    assert result.step == 17
    loop.train(config, tmp_path / 'stopped')
    assert_same_state(config, tmp_path / 'stopped', tmp_path / 'whole')
    # Of the interval in which it stopped, the row has the steps after that alone.
    stopped, whole = ([row for row in written(tmp_path / name) if row['step'] != 18] for name in ('stopped', 'whole'))
    assert stopped == whole


@pytest.mark.slow
def test_a_call_is_of_one_phase(config: Config, tmp_path: pathlib.Path) -> None:
    """The head alone for 4 steps, then all; the optimizer starts anew in between."""
    config.data.path, config.data.demo_examples = 'demo', 72
    config.init.weights = 'auto'
    config.finetune.head_epochs = 1.0
    config.steps = 12
    loop.train(config, tmp_path / 'single')
    config.steps_per_call, several = 3, Recorder()
    loop.train(config, tmp_path / 'several', several)
    assert_same_state(config, tmp_path / 'several', tmp_path / 'single')
    assert written(tmp_path / 'several') == written(tmp_path / 'single')
    compiled = [line.split(', the first')[1].split(', ')[0] for line in several.lines if ', the first' in line]
    assert 'first 3 steps' in several.text
    assert compiled == [' in a call of 1', ' of more than the head', ' in a call of 3']


def test_calls_end_where_something_is_due(config: Config) -> None:
    config.checkpoint_every_steps = 14
    config.steps_per_call = 4
    config.init.weights = 'auto'
    config.finetune.head_epochs = 1.0  # of 5 steps
    schedule = Schedule.create(config, 80)
    assert (schedule.head_steps, schedule.validate_every, schedule.total_steps) == (5, 10, 24)
    ends, step = [], 0
    while step < schedule.total_steps:
        step += schedule.call_length(step)
        ends.append(step)
    assert ends == [4, 5, 6, 10, 11, 12, 13, 14, 18, 19, 20, 24]


@pytest.mark.slow
def test_the_step_that_diverged_is_named(config: Config, tmp_path: pathlib.Path) -> None:
    config.steps_per_call = 4
    config.optimizer.warmup_epochs = 0
    config.optimizer.clip_norm = 0.0
    config.optimizer.base_learning_rate = 1e36
    with pytest.raises(TrainingDiverged) as several:
        loop.train(config, tmp_path / 'several')
    config.steps_per_call = 1
    with pytest.raises(TrainingDiverged) as single:
        loop.train(config, tmp_path / 'single')
    assert str(several.value) == str(single.value)


@pytest.mark.parametrize('steps', [0, -1])
def test_a_call_takes_at_least_one_step(config: Config, tmp_path: pathlib.Path, steps: int) -> None:
    config.steps_per_call = steps
    with pytest.raises(UserError, match=f'config.steps_per_call is {steps}; it must be at least 1'):
        loop.train(config, tmp_path / 'run')
