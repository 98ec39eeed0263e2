"""Several steps in one call: a run that differs in nothing but its speed."""

import json
import pathlib
import re
from typing import Any

import jax
import numpy as np
import pytest

from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config
from fakeimg.errors import TrainingDiverged, UserError
from fakeimg.training import loop
from fakeimg.training.program import build
from fakeimg.training.schedule import Schedule
from tests.support.console import Recorder

RATES = ('train/images_per_second_per_device', 'train/input_wait_share')


@pytest.fixture
def config(config: Config) -> Config:
    config.model.filters = config.model.dense = 8
    config.steps = 24
    config.log_every_steps = 6
    config.validate_every_epochs = 2.0  # of 4.5 steps
    config.data.image_size = 24  # random crops, so that their order counts too
    return config


def last_state(config: Config, workdir: pathlib.Path) -> Any:
    return Checkpoints(workdir / 'checkpoints', read_only=True).restore(build(config).abstract_state()).state


def rows(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """What was written, without what depends on the clock."""
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in RATES} for row in lines]


def progress(console: Recorder) -> list[str]:
    """Lines about steps and validations, without rates."""
    lines = [line for line in console.lines if line.startswith(('step ', 'validation at '))]
    return [re.sub(r'  [\d,]+ images/s/device.*|ETA \S+', '', line) for line in lines]


def assert_same_run(config: Config, workdir: pathlib.Path, expected: pathlib.Path) -> None:
    jax.tree.map(np.testing.assert_array_equal, last_state(config, workdir), last_state(config, expected))
    assert rows(workdir) == rows(expected)


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['pmap', 'shard_map'])
def test_calls_of_several_steps_give_the_same_run(config: Config, tmp_path: pathlib.Path, mode: str) -> None:
    """Weights, metrics and lines, where rows of metrics and validations cut calls short."""
    config.parallel = mode
    single, several = Recorder(), Recorder()
    loop.train(config, tmp_path / 'single', single)
    config.steps_per_call = 4
    loop.train(config, tmp_path / 'several', several)
    assert_same_run(config, tmp_path / 'several', tmp_path / 'single')
    assert progress(several) == progress(single)
    assert 'first 4 steps' in several.text
    assert 'step 5, the first in a call of 1,' in several.text


def test_a_run_stopped_between_calls_continues_as_if_it_had_not(config: Config, tmp_path: pathlib.Path) -> None:
    """By a signal, which acts after the call under way."""
    loop.train(config, tmp_path / 'whole')
    config.steps_per_call = 5
    stopping = Recorder(interrupt_at='step 12/')  # said while steps 13 to 17 are computed, see StepLog.add
    result = loop.train(config, tmp_path / 'stopped', stopping)
    assert result.interrupted_by is not None
    assert result.step == 17
    loop.train(config, tmp_path / 'stopped')
    jax.tree.map(np.testing.assert_array_equal, *(last_state(config, tmp_path / name) for name in ('stopped', 'whole')))
    # Of the interval in which it stopped, the row has the steps after that alone.
    stopped, whole = ([row for row in rows(tmp_path / name) if row['step'] != 18] for name in ('stopped', 'whole'))
    assert stopped == whole


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
