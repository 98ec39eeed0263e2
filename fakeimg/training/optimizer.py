"""Optax from a configuration: warm-up and cosine decay, weight decay on kernels only."""

from typing import Any

import jax
import optax

from fakeimg import config as config_lib
from fakeimg.config import Config
from fakeimg.errors import UserError


def learning_rate_schedule(config: Config, num_train: int) -> optax.Schedule:
    """Linear warm-up from 0, then one cosine to 0 at the last step (Goyal et al. 2017; Loshchilov & Hutter 2017)."""
    steps = config_lib.total_steps(config, num_train)
    warmup = round(config.optimizer.warmup_epochs * num_train / config.batch_size)
    warmup = min(warmup, steps // 2)  # a short run still gets to decay
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup else config_lib.learning_rate(config),
        peak_value=config_lib.learning_rate(config),
        warmup_steps=warmup,
        decay_steps=steps,
    )


def create_optimizer(config: Config, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Builds the transformation that `config.optimizer` describes.

    Raises:
        UserError: unknown `config.optimizer.name`.
    """
    optimizer = config.optimizer
    decay = optax.add_decayed_weights(optimizer.weight_decay, mask=is_decayed)
    if optimizer.name == 'adamw':
        chain = [optax.scale_by_adam(), decay]  # decoupled, Loshchilov & Hutter 2019
    elif optimizer.name == 'sgd':
        chain = [decay, optax.trace(optimizer.momentum, nesterov=True)]
    else:
        raise UserError(f'config.optimizer.name is {optimizer.name!r}; it must be adamw or sgd.')
    if optimizer.clip_norm:
        chain.insert(0, optax.clip_by_global_norm(optimizer.clip_norm))
    return optax.chain(*chain, optax.scale_by_learning_rate(schedule))


def is_decayed(params: Any) -> Any:
    """Marks the leaves that weight decay applies to: kernels, not biases, not BatchNorm's scale and bias."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
