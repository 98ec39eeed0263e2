"""What the learning rate falls along."""

import numpy as np
import pytest

from fakeimg.config import Config, default_config
from fakeimg.training.schedule import Schedule


@pytest.fixture
def config() -> Config:
    """20 steps of 8 images, four of them an epoch."""
    config = default_config()
    config.batch_size, config.steps = 8, 20
    config.optimizer.schedule = 'linear'
    return config


def rates(config: Config) -> np.ndarray:
    """The learning rate of each step and after the last one, of its peak."""
    schedule = Schedule.create(config, 32)
    rate = schedule.learning_rate()
    return np.array([np.asarray(rate(step)) for step in range(21)]) / schedule.peak_learning_rate


def test_a_linear_schedule_with_a_warm_up_is_a_triangle(config: Config) -> None:
    config.optimizer.warmup_epochs = 1.0  # a fifth of the run
    triangle = np.interp(np.arange(21), [0, 4, 20], [0, 1, 0])
    np.testing.assert_allclose(rates(config), triangle, atol=1e-6)
    config.optimizer.schedule = 'cosine'
    assert np.abs(rates(config) - triangle).max() > 0.05


def test_a_linear_schedule_without_a_warm_up_begins_at_its_peak(config: Config) -> None:
    config.optimizer.warmup_epochs = 0.0
    np.testing.assert_allclose(rates(config), np.linspace(1, 0, 21), atol=1e-6)


def test_the_last_phase_falls_linearly_and_that_of_the_head_does_not(config: Config) -> None:
    config.optimizer.warmup_epochs, config.finetune.head_epochs = 0.5, 2.0
    expected = [0, 0.5, *[1] * 6, *np.interp(np.arange(13), [0, 2, 12], [0, 1, 0])]
    np.testing.assert_allclose(rates(config), expected, atol=1e-6)
    config.optimizer.warmup_epochs = 0.0
    np.testing.assert_allclose(rates(config), [1] * 8 + list(np.linspace(1, 0, 13)), atol=1e-6)
