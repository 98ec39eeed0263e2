"""The layers' forms against Flax's and formulas: values and gradients."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fakeimg.models import cpu
from fakeimg.models.layers import BatchNorm, PointwiseConv, adaptive_mean_pool, convolve, max_pool_2x2, max_pool_3x3


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [8, 7])
def test_convolution_and_its_gradients_equal_plain_ones(size: int, stride: int) -> None:
    x = jax.random.normal(jax.random.key(0), (3, size, size, 4))
    outputs = []
    for form in (None, convolve):
        conv = nn.Conv(6, (3, 3), (stride, stride), padding=1, conv_general_dilated=form)
        params = conv.init(jax.random.key(1), x)

        @jax.jit
        def value_and_gradients(params: Any, x: jax.Array, conv: Any = conv) -> Any:
            value, pullback = jax.vjp(conv.apply, params, x)
            return value, pullback(jnp.sin(value))

        outputs.append(value_and_gradients(params, x))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), *outputs)


def test_cpu_batch_norm_and_its_gradients_equal_flax() -> None:
    """Statistics, running ones included, and the gradients of input, scale and bias; also where the mean is large.

    Flax computes in float64, for its variance in float32 is a hundredth off in the first of these channels.
    """
    random = np.random.default_rng(0)
    x = (30 + random.normal(size=(4, 5, 6, 3)) * np.array([0.1, 1, 10])).astype(np.float32)
    variables = {
        'params': {'scale': np.array([0.5, 1, 2]), 'bias': np.array([1.0, 0, -1])},
        'batch_stats': {'mean': np.array([1.0, 2, 3]), 'var': np.array([3.0, 2, 1])},
    }

    def outputs(norm: Any, dtype: Any) -> Any:
        own = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)

        def loss(params: Any, x: jax.Array):
            y, updates = norm.apply({**own, 'params': params}, x, mutable=['batch_stats'])
            return (jnp.sin(y) * jnp.arange(y.size).reshape(y.shape) / y.size).sum(), (y, updates)

        gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
        return jax.device_get(gradients(own['params'], jnp.asarray(x, dtype)))

    with jax.enable_x64(True):
        expected = outputs(nn.BatchNorm(use_running_average=False, momentum=0.9, dtype=jnp.float64), jnp.float64)
    ours = outputs(BatchNorm(functools.partial(cpu.normalize_by_batch, epsilon=1e-5)), jnp.float32)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3), ours, expected)
    (_, (y, _)), (_, x_grad) = expected
    assert y.dtype == np.float64
    assert np.abs(y).max() > 1 and np.abs(x_grad).max() > 0.1  # far above the tolerance


def test_fast_max_pool_equals_flax() -> None:
    """With many equal values in a window, the gradient goes to the first of them, as in XLA's own."""
    x = jnp.asarray(np.random.default_rng(0).integers(-2, 2, (2, 9, 7, 5)), jnp.float32)

    def reference(x):
        return nn.max_pool(x, (2, 2), (2, 2))

    np.testing.assert_array_equal(max_pool_2x2(x), reference(x))
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(2, 4, 3, 5)), jnp.float32)
    gradients = [jax.grad(lambda x, f=f: (f(x) * weights).sum())(x) for f in (max_pool_2x2, reference)]
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize('shape', [(2, 8, 12, 5), (2, 9, 7, 3), (1, 1, 2, 1)])
def test_max_pool_of_three_equals_flax_and_so_do_its_gradients(shape: tuple[int, ...]) -> None:
    """With many equal values in a window, the gradient goes to the first of them, as in XLA's own."""
    x = jnp.asarray(np.random.default_rng(0).integers(-2, 2, shape), jnp.float32)

    def reference(x: jax.Array) -> jax.Array:
        return nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))  # pyright: ignore[reportArgumentType]

    np.testing.assert_array_equal(max_pool_3x3(x), reference(x))
    weights = jnp.asarray(np.random.default_rng(1).integers(1, 99, reference(x).shape), jnp.float32)
    gradients = [jax.jit(jax.grad(lambda x, f=f: (f(x) * weights).sum()))(x) for f in (max_pool_3x3, reference)]
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize(('size', 'stride'), [(8, 1), (8, 2), (7, 2), (1, 2)])
def test_pointwise_convolution_equals_flax(size: int, stride: int) -> None:
    x = jax.random.normal(jax.random.key(1), (2, size, size, 5))
    reference = nn.Conv(3, (1, 1), (stride, stride), padding=0, use_bias=False)
    variables = reference.init(jax.random.key(0), x)

    def loss(variables: Any, x: jax.Array, layer: Any) -> Any:
        y = layer.apply(variables, x)
        return jnp.sin(y).sum(), y

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), static_argnums=2)
    ((_, ours), our_gradients), ((_, theirs), their_gradients) = (
        step(variables, x, layer) for layer in (PointwiseConv(3, stride), reference)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, our_gradients, their_gradients)
    own = jax.eval_shape(PointwiseConv(3, stride).init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, variables)


def test_adaptive_mean_pool_takes_the_cells_of_torch() -> None:
    x = np.arange(10, dtype=np.float32).reshape(1, 10, 1, 1)
    cells = [[0, 1], [1, 2], [2, 3, 4], [4, 5], [5, 6, 7], [7, 8], [8, 9]]
    pooled = adaptive_mean_pool(jnp.asarray(x), 7)
    assert pooled.shape == (1, 7, 7, 1)
    for column in range(7):  # a single column is repeated
        np.testing.assert_allclose(pooled[0, :, column, 0], [np.mean(cell) for cell in cells], rtol=1e-6)
