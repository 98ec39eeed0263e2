"""A training step on random images, from random weights, without data or a run folder."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from fakeimg.config import Config
from fakeimg.models.vgg import VGG19
from fakeimg.runtime import parallel
from fakeimg.training.optimizer import create_optimizer
from fakeimg.training.state import TrainState, create_state
from fakeimg.training.step import train_step
from tests.support.variables import random_variables

BATCH = 8
Batch = dict[str, np.ndarray]


def random_batch(seed: int = 0, size: int = BATCH, side: int = 32) -> Batch:
    random = np.random.default_rng(seed)
    return {
        'image': random.integers(0, 256, (size, side, side, 3), np.uint8),
        'label': random.integers(0, 2, size, np.int32),
        'weight': np.ones(size, np.float32),
    }


def start_state(config: Config, model: nn.Module, tx: Any, head: float = 0.0, scale: float | None = None) -> TrainState:
    """A state of random weights; `head` is added to those of the head."""
    variables = random_variables(model, 32 if isinstance(model, VGG19) else config.data.image_size)
    variables['params']['head']['kernel'] += head
    state = create_state(variables, tx, jnp.dtype(model.dtype), averaged=config.optimizer.ema_decay > 0)
    return state if scale is None else with_scale(state, scale)


def with_scale(state: TrainState, scale: float) -> TrainState:
    assert state.dynamic_scale is not None
    return state.replace(dynamic_scale=state.dynamic_scale.replace(scale=jnp.asarray(scale, jnp.float32)))


def mapped_step(
    devices: parallel.Devices,
    config: Config,
    model: nn.Module,
    tx: Any,
    *,
    class_weights: tuple[float, float] = (1.0, 1.0),
    donate: bool = False,
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, Any]]]:
    """The step over `devices`; its output `learning_rate` means nothing."""
    bound = functools.partial(
        train_step, model=model, tx=tx, learning_rate=lambda _: 0.0, config=config, class_weights=class_weights
    )
    return devices.map(bound, donate_state=donate)


def take_step(
    config: Config,
    model: nn.Module,
    batch: Batch | None = None,
    *,
    devices: int = 1,
    tx: optax.GradientTransformation | None = None,
    scale: float | None = None,
) -> tuple[TrainState, TrainState, dict[str, Any]]:
    """One step from random weights: the state before, the state after, the outputs."""
    batch = batch or random_batch(side=config.data.image_size)
    mapped = parallel.Devices.create('pmap', BATCH, jax.devices()[:devices])
    tx = tx or create_optimizer(config, optax.constant_schedule(1e-2), model)
    before = mapped.replicate(start_state(config, model, tx, 0.3, scale))
    after, outputs = mapped_step(mapped, config, model, tx)(before, mapped.split(batch))
    return before, after, outputs


def mean_loss(outputs: dict[str, Any]) -> float:
    return float(outputs['loss_sum']) / float(outputs['count'])
