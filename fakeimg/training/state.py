"""The training state: a plain pytree, replicated over devices, donated to every step, saved as it is."""

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
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    dynamic_scale: dynamic_scale_lib.DynamicScale | None

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes."""
        return {'params': self.params, 'batch_stats': self.batch_stats}


def create_state(variables: dict[str, Any], tx: optax.GradientTransformation, dtype: jnp.dtype) -> TrainState:
    """Wraps initial variables into the state of step 0."""
    scale = None
    if dtype == jnp.float16:
        scale = dynamic_scale_lib.DynamicScale(fin_steps=0, scale=65536.0)
        scale = jax.tree.map(jnp.asarray, scale)  # leaves like all others: with a dtype, to be saved and donated
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables['params'],
        batch_stats=variables['batch_stats'],
        opt_state=jax.jit(tx.init)(variables['params']),
        dynamic_scale=scale,
    )
