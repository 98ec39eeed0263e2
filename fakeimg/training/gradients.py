"""Gradients of one step: in microbatches, with the loss scale of float16, averaged over devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.training.dynamic_scale import DynamicScale

from fakeimg.models.layers import runs_on_cpu
from fakeimg.runtime import parallel

Aux = tuple[jax.Array, jax.Array, Any]  # losses float32[b], logits float32[b], batch_stats after these rows
LossFn = Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Aux]]


def value_and_grad(
    loss_fn: LossFn, params: Any, batch_stats: Any, rows: Any, keys: jax.Array, dynamic_scale: DynamicScale | None
) -> tuple[Aux, Any, DynamicScale | None, jax.Array]:
    """Differentiates the loss of this device's rows in `len(keys)` microbatches, one after the other.

    BatchNorm normalises each microbatch by itself, and its running statistics move once for each.

    Args:
        loss_fn: `(params, batch_stats, rows, key) -> (loss, aux)`; the losses of the microbatches must add up to the
            loss of all rows.
        params: where to differentiate.
        batch_stats: BatchNorm statistics before the first microbatch.
        rows: a pytree of arrays [b, ...]; the number of microbatches must divide b.
        keys: random keys, one for each microbatch.
        dynamic_scale: of the loss while it is differentiated in float16; None otherwise.

    Returns:
        `aux` of all rows; gradients, the mean over devices; the next `dynamic_scale`; and whether every gradient is
        finite (always True without `dynamic_scale`).
    """
    scale = 1.0 if dynamic_scale is None else dynamic_scale.scale

    def scaled_grads(batch_stats: Any, rows: Any, key: jax.Array) -> tuple[Any, Aux]:
        def scaled_loss(params: Any) -> tuple[jax.Array, Aux]:
            loss, aux = loss_fn(params, batch_stats, rows, key)
            return scale * loss, aux

        return jax.grad(scaled_loss, has_aux=True)(params)

    def accumulate(carry: tuple[Any, Any], part: tuple[Any, jax.Array]):
        # Where the loop is unrolled, the barrier keeps the parts in turn, and with it the memory at that of one.
        (total, batch_stats), part = jax.lax.optimization_barrier((carry, part))
        grads, (losses, logits, batch_stats) = scaled_grads(batch_stats, *part)
        return (jax.tree.map(jnp.add, total, grads), batch_stats), (losses, logits)

    if len(keys) == 1:
        grads, aux = scaled_grads(batch_stats, rows, keys[0])
    else:
        parts = jax.tree.map(lambda array: array.reshape(len(keys), -1, *array.shape[1:]), rows)
        start = (jax.tree.map(jnp.zeros_like, params), batch_stats)
        # On a CPU, XLA computes convolutions inside loops 20 to 40 times as slowly.
        (grads, batch_stats), outputs = jax.lax.scan(accumulate, start, (parts, keys), unroll=runs_on_cpu())
        losses, logits = (array.reshape(-1) for array in outputs)
        aux = (losses, logits, batch_stats)
    if dynamic_scale is None:
        return aux, parallel.mean(grads), None, jnp.array(True)
    grads = parallel.mean(jax.tree.map(lambda grad: grad / scale, grads))
    finite = jnp.array([jnp.isfinite(grad).all() for grad in jax.tree.leaves(grads)]).all()
    return aux, grads, _adjusted(dynamic_scale, finite), finite


def _adjusted(before: DynamicScale, finite: jax.Array) -> DynamicScale:
    """The scale of the next step, by flax's policy: doubled after 2000 finite steps in a row, halved on an overflow."""
    grow = before.fin_steps == before.growth_interval
    largest, least = jnp.finfo(jnp.float32).max, before.minimum_scale or 0.0
    larger = jnp.where(grow, jnp.minimum(before.scale * before.growth_factor, largest), before.scale)
    smaller = jnp.maximum(before.scale * before.backoff_factor, least)
    return before.replace(
        scale=jnp.where(finite, larger, smaller), fin_steps=jnp.where(finite & ~grow, before.fin_steps + 1, 0)
    )
