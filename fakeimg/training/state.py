"""The training state: a plain pytree, replicated over devices, donated to every step, saved unchanged."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax.training import dynamic_scale as dynamic_scale_lib


class TrainState(flax.struct.PyTreeNode):
    """Everything that changes while training.

    Attributes:
        step: int32 scalar, batches consumed, those skipped for overflow included.
        params: float32 parameters.
        batch_stats: float32 BatchNorm statistics; empty without BatchNorm.
        opt_state: of the optax transformation.
        dynamic_scale: loss scale; None unless activations are float16.
        ema: running average of `params` and `batch_stats`, as one dict of both; None without `optimizer.ema_decay`.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    dynamic_scale: dynamic_scale_lib.DynamicScale | None
    ema: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes outside training: the average, if there is one."""
        return {'params': self.params, 'batch_stats': self.batch_stats} if self.ema is None else self.ema


def create_state(
    variables: dict[str, Any], tx: optax.GradientTransformation, dtype: jnp.dtype, *, averaged: bool = False
) -> TrainState:
    """Wraps initial variables into the state of step 0; with `averaged`, the average starts with them."""

    @jax.jit  # as one: a copy for each shape, compiled by itself, is 15 ms of a start
    def start(variables: dict[str, Any]) -> tuple[optax.OptState, Any]:
        # Copies, for the state's buffers are donated.
        return tx.init(variables['params']), jax.tree.map(jnp.copy, variables) if averaged else None

    opt_state, ema = start(variables)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables['params'],
        batch_stats=variables['batch_stats'],
        opt_state=opt_state,
        dynamic_scale=initial_scale(dtype),
        ema=ema,
    )


def initial_scale(dtype: jnp.dtype) -> dynamic_scale_lib.DynamicScale | None:
    """The loss scale that a run in float16 begins with; None for other dtypes."""
    if dtype != jnp.float16:
        return None
    scale = dynamic_scale_lib.DynamicScale(fin_steps=0, scale=65536.0)
    return jax.tree.map(jnp.asarray, scale)  # leaves like all others: with a dtype, to be saved and donated


def update_average(ema: Any, variables: Any, step: jax.Array, decay: float) -> Any:
    """The average after `step` (from 0), moved 1 - d of the way to the new `variables`.

    d is min(decay, (1 + step) / (10 + step)), so that the random start is soon forgotten (as in TensorFlow's
    ExponentialMovingAverage with num_updates).
    """
    step = step.astype(jnp.float32)
    way = 1 - jnp.minimum(decay, (1 + step) / (10 + step))
    # In this form what does not change has an average that does not change either, to the bit.
    return jax.tree.map(lambda old, new: old + way * (new - old), ema, variables)
