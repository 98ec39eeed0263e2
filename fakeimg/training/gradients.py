"""Gradient accumulation: a step's images in parts, one after the other, for the memory of one part."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

LossFn = Callable[..., tuple[jax.Array, tuple[jax.Array, jax.Array, Any]]]


def accumulated_loss(
    loss_fn: LossFn, params: Any, batch_stats: Any, rows: Any, key: jax.Array, parts: int, scale: jax.Array | float
) -> Callable[[Any], tuple[jax.Array, tuple[jax.Array, jax.Array, Any]]]:
    """Returns a linear function of the parameters with the gradient, not the value, of the whole loss at `params`.

    So whoever scales, differentiates and averages a loss goes on as without parts. BatchNorm normalises each part by
    itself, and its running statistics move once for each.

    Args:
        loss_fn: `(params, batch_stats, rows, dropout key) -> (loss, (losses [b], logits [b], batch_stats))`, whose
            losses of the parts add up to the loss of all rows.
        params: where to differentiate.
        batch_stats: statistics before the first part.
        rows: a pytree of arrays [b, ...]; `parts` must divide b.
        key: of the step; each part has one of its own.
        parts: how many.
        scale: of the losses while they are differentiated (float16), a power of 2.

    Returns:
        A function of the parameters to `(value, (losses, logits, batch_stats after the last part))`.
    """

    def one_part(carry: tuple[Any, Any], part: tuple[jax.Array, Any]):
        total, batch_stats = carry
        number, rows = part

        def scaled(params: Any):
            loss, outputs = loss_fn(params, batch_stats, rows, jax.random.fold_in(key, number))
            return scale * loss, outputs

        grads, (losses, logits, batch_stats) = jax.grad(scaled, has_aux=True)(params)
        return (jax.tree.map(jnp.add, total, grads), batch_stats), (losses, logits)

    numbered = (jnp.arange(parts), jax.tree.map(lambda array: array.reshape(parts, -1, *array.shape[1:]), rows))
    start = (jax.tree.map(jnp.zeros_like, params), batch_stats)
    (grads, batch_stats), outputs = jax.lax.scan(one_part, start, numbered)
    losses, logits = (array.reshape(-1) for array in outputs)
    grads = jax.tree.map(lambda grad: grad / scale, grads)

    def linear(params: Any):
        products = jax.tree.map(lambda param, grad: (param * grad).sum(), params, grads)
        return sum(jax.tree.leaves(products), jnp.zeros(())), (losses, logits, batch_stats)

    return linear
