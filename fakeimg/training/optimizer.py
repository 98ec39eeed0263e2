"""Optax from a configuration: weight decay on kernels only, a learning rate for each stage."""

from typing import Any

import flax.linen as nn
import jax
import optax
import optax.contrib

from fakeimg.config import Config, Optimizer
from fakeimg.models import is_frozen, stage_of


def create_optimizer(
    config: Config, schedule: optax.Schedule, model: nn.Module | None = None
) -> optax.GradientTransformation:
    """Builds the transformation that `config.optimizer` and `config.finetune.layer_decay` describe.

    Its state has nothing for stages that `model` freezes. Only layer decay and frozen stages need the model.
    """
    optimizer = config.optimizer
    decay = optax.add_decayed_weights(optimizer.weight_decay, mask=is_decayed)
    if optimizer.name == 'adamw':
        chain = [optax.scale_by_adam(), decay]  # decoupled, Loshchilov & Hutter 2019
    elif optimizer.name == 'muon':
        chain = [_muon_and_adamw(optimizer, decay)]
    else:
        chain = [decay, optax.trace(optimizer.momentum, nesterov=True)]
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


def _muon_and_adamw(settings: Optimizer, decay: optax.GradientTransformation) -> optax.GradientTransformation:
    """Muon for kernels (Jordan et al. 2024), AdamW for the head and for what is no matrix, as its author recommends."""
    muon = optax.contrib.scale_by_muon(beta=settings.momentum, weight_dimension_numbers=_as_matrices)
    rate = optax.scale(settings.adamw_learning_rate / settings.base_learning_rate)
    kernels = optax.chain(muon, optax.stateless(_scale_by_shape), decay)
    others = optax.chain(optax.scale_by_adam(), decay, rate)

    def method(path: Any, leaf: Any) -> str:
        return 'muon' if leaf.ndim > 1 and path[0].key != 'head' else 'adamw'

    return optax.partition(
        {'muon': kernels, 'adamw': others}, lambda params: jax.tree_util.tree_map_with_path(method, params)
    )


def _as_matrices(kernels: Any) -> Any:
    """Inputs by outputs: a convolution kernel [kh, kw, C, F] is a matrix [kh * kw * C, F], as in the author's code."""
    return jax.tree.map(
        lambda kernel: optax.contrib.MuonDimensionNumbers(tuple(range(kernel.ndim - 1)), kernel.ndim - 1), kernels
    )


def _scale_by_shape(updates: Any, params: Any) -> Any:
    """Enlarges updates of matrices with more outputs than inputs by sqrt(outputs / inputs), as in the author's code."""
    del params
    return jax.tree.map(lambda update: update * max(1.0, update.shape[-1] ** 2 / update.size) ** 0.5, updates)


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
