"""Optax from a configuration: warm-up and cosine decay, weight decay on kernels only, stages at rates of their own."""

from typing import Any

import flax.linen as nn
import jax
import optax

from fakeimg import config as config_lib
from fakeimg.config import Config
from fakeimg.errors import UserError
from fakeimg.models import is_frozen, stage_of


def phase_schedules(config: Config, num_train: int) -> list[optax.Schedule]:
    """The learning rate of each phase, from its own step 0: of the head's alone, if there is one, and of the rest.

    Linear warm-up from 0, then one cosine to 0 at the last step (Goyal et al. 2017; Loshchilov & Hutter 2017). The
    head's phase stays at the peak instead: its end is not the run's.
    """
    peak = config_lib.learning_rate(config)
    head_steps = config_lib.head_steps(config, num_train)
    steps = config_lib.total_steps(config, num_train) - head_steps

    def warmup(steps: int) -> dict[str, Any]:
        wanted = round(config.optimizer.warmup_epochs * num_train / config.batch_size)
        wanted = min(wanted, steps // 2)  # a short phase still gets to its rate, and to decay
        return {'init_value': 0.0 if wanted else peak, 'peak_value': peak, 'warmup_steps': wanted}

    rest = optax.warmup_cosine_decay_schedule(**warmup(steps), decay_steps=steps)
    return [optax.warmup_constant_schedule(**warmup(head_steps)), rest] if head_steps else [rest]


def learning_rate_schedule(config: Config, num_train: int) -> optax.Schedule:
    """The learning rate of the whole run by its step: `phase_schedules` one after the other."""
    schedules = phase_schedules(config, num_train)
    if len(schedules) == 1:
        return schedules[0]
    return optax.join_schedules(schedules, [config_lib.head_steps(config, num_train)])


def create_optimizer(
    config: Config, schedule: optax.Schedule, model: nn.Module | None = None
) -> optax.GradientTransformation:
    """Builds the transformation that `config.optimizer` and `config.finetune.layer_decay` describe.

    Its state has nothing for stages that `model` freezes. Only layer decay and frozen stages need the model.

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
    if model is not None and config.finetune.layer_decay != 1:
        chain.append(scale_by_stage(model, config.finetune.layer_decay))
    tx = optax.chain(*chain, optax.scale_by_learning_rate(schedule))
    if model is None or not model.frozen_stages:
        return tx

    def learns(params: Any) -> Any:
        frozen = {name: is_frozen(model, name) for name in params}
        return jax.tree_util.tree_map_with_path(lambda path, _: not frozen[path[0].key], params)

    return optax.masked(tx, learns)


def scale_by_stage(model: nn.Module, decay: float) -> optax.GradientTransformation:
    """Multiplies the updates of each stage by `decay` once for every stage between it and the end of the network.

    Layer-wise learning-rate decay (Howard & Ruder 2018, section 3.2; Clark et al. 2020, section 3.1). It comes after
    Adam, which would undo a factor of the gradient; weight decay, which the learning rate multiplies, is scaled too.
    """

    def update(updates: Any, params: Any) -> Any:
        del params
        powers = {name: len(model.stages) - 1 - stage_of(model, name) for name in updates}
        return {name: optax.tree.scale(decay ** powers[name], part) for name, part in updates.items()}

    return optax.stateless(update)


def is_decayed(params: Any) -> Any:
    """Marks the leaves that weight decay applies to: kernels, not biases, not BatchNorm's scale and bias."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
