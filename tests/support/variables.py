"""Random variables of a network, made by numpy: compiling an initialisation takes seconds."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fakeimg.models import init_variables


def abstract_variables(model: nn.Module, size: int) -> dict[str, Any]:
    return jax.eval_shape(lambda: init_variables(model, size, 0))


def random_variables(model: nn.Module, size: int) -> dict[str, Any]:
    """Kernels of variance 2 / inputs, scales and variances around 1, the rest around 0."""
    random = np.random.default_rng(0)

    def fill(path: Any, leaf: Any) -> jax.Array:
        values = random.standard_normal(leaf.shape)
        if path[-1].key == 'kernel':
            values *= np.sqrt(2 / np.prod(leaf.shape[:-1]))
        elif path[-1].key == 'var':
            values = np.abs(values) + 0.5
        else:
            values = 0.1 * values + (path[-1].key == 'scale')
        return jnp.asarray(values, jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, abstract_variables(model, size))
