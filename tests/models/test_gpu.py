"""The forms for GPUs against the plain ones, values and gradients, on a CPU."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fakeimg import scoring
from fakeimg.config import Config
from fakeimg.models import gpu, layers
from fakeimg.models.cnn import SmallCNN
from fakeimg.models.folding import fold
from fakeimg.models.resnet import ResNet
from fakeimg.models.vgg import VGG19
from fakeimg.runtime import parallel
from tests.support.variables import random_variables

EPSILON = 1e-5


def plain_batch_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, relu: bool, axis: str | None) -> Any:
    layer = nn.BatchNorm(False, momentum=0.0, epsilon=EPSILON, dtype=x.dtype, axis_name=axis)
    statistics = {'mean': jnp.zeros(x.shape[-1]), 'var': jnp.ones(x.shape[-1])}
    variables = {'params': {'scale': scale, 'bias': bias}, 'batch_stats': statistics}
    y, updates = layer.apply(variables, x, mutable=['batch_stats'])
    moved = updates['batch_stats']
    return (nn.relu(y) if relu else y), moved['mean'], moved['var']


def value_and_gradients(function: Callable[..., Any], grad: jax.Array, *arguments: jax.Array) -> Any:
    @jax.jit  # one compilation, not one an operation
    def outputs(grad: jax.Array, *arguments: jax.Array) -> Any:
        y, pull, rest = jax.vjp(lambda *xs: (lambda y, *rest: (y, rest))(*function(*xs)), *arguments, has_aux=True)
        return y, rest, pull(grad)

    return outputs(grad, *arguments)


@pytest.mark.parametrize('side', [(32, 32), (31, 36), (7, 8)])
@pytest.mark.parametrize(('length', 'border'), [(7, ((3, 3), (3, 3))), (5, ((2, 2), (1, 3))), (4, ((0, 1), (2, 0)))])
def test_convolving_blocks_equals_convolving_pixels(side: tuple[int, int], length: int, border: Any) -> None:
    x = jax.random.normal(jax.random.key(9), (2, *side, 3))
    kernel = jax.random.normal(jax.random.key(10), (length, length, 3, 5))
    options: dict[str, Any] = {'dimension_numbers': ('NHWC', 'HWIO', 'NHWC'), 'precision': 'highest'}

    @jax.jit
    def both(x: jax.Array, kernel: jax.Array) -> Any:
        y, pull = jax.vjp(lambda x, kernel: gpu.convolve(x, kernel, (2, 2), border, **options), x, kernel)
        expected, plain_pull = jax.vjp(
            lambda x, kernel: jax.lax.conv_general_dilated(x, kernel, (2, 2), border, **options), x, kernel
        )
        return (y, *pull(expected)), (expected, *plain_pull(expected))

    (y, *gradients), (expected, *plain_gradients) = both(x, kernel)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(gradients, plain_gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('dtype', 'close'), [('float32', 2e-5), ('bfloat16', 0.1)])
@pytest.mark.parametrize('relu', [False, True])
def test_normalization_and_its_gradients_equal_flax(dtype: str, close: float, relu: bool) -> None:
    keys = jax.random.split(jax.random.key(0), 4)
    x = (3 + 2 * jax.random.normal(keys[0], (6, 5, 5, 8))).astype(dtype)
    scale, bias = jax.random.normal(keys[1], (8,)), jax.random.normal(keys[2], (8,))
    grad = jax.random.normal(keys[3], x.shape).astype(dtype)
    ours = value_and_gradients(
        lambda x, scale, bias: gpu.normalize_by_batch(x, scale, bias, EPSILON, relu, None), grad, x, scale, bias
    )
    plain = value_and_gradients(
        lambda x, scale, bias: plain_batch_norm(x, scale, bias, relu, None), grad, x, scale, bias
    )
    np.testing.assert_array_equal(ours[0].astype(jnp.float32) > 0, plain[0].astype(jnp.float32) > 0)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a.astype(jnp.float32), b.astype(jnp.float32), rtol=close, atol=close)


def test_normalization_over_devices_equals_that_of_all_images() -> None:
    keys = jax.random.split(jax.random.key(1), 2)
    x, grad = (jax.random.normal(key, (2, 4, 3, 3, 5)) for key in keys)
    x += jnp.arange(2.0)[:, None, None, None, None]  # devices must differ for the mean over them to matter
    scale, bias = jnp.linspace(0.5, 2, 5), jnp.linspace(-1, 1, 5)

    def apart(x: jax.Array, grad: jax.Array) -> Any:
        return value_and_gradients(
            lambda x, scale, bias: gpu.normalize_by_batch(x, scale, bias, EPSILON, True, 'batch'), grad, x, scale, bias
        )

    y, _, (x_grad, scale_grad, bias_grad) = jax.pmap(apart, 'batch')(x, grad)
    whole = value_and_gradients(
        lambda x, scale, bias: plain_batch_norm(x, scale, bias, True, None),
        grad.reshape(8, 3, 3, 5),
        x.reshape(8, 3, 3, 5),
        scale,
        bias,
    )
    parts = [y.reshape(8, 3, 3, 5), x_grad.reshape(8, 3, 3, 5), scale_grad.sum(0), bias_grad.sum(0)]
    for a, b in zip(parts, [whole[0], *whole[2]], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('shape', [(2, 8, 8, 3), (2, 7, 9, 3), (1, 1, 2, 4)])
def test_pooling_and_its_gradient_equal_plain_ones(shape: tuple[int, ...]) -> None:
    x = jax.random.normal(jax.random.key(2), shape)
    x = jnp.where(x > 0, x, 0)  # equals, as behind ReLU: the first of them has the gradient

    def plain(x: jax.Array) -> jax.Array:
        return nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))  # pyright: ignore[reportArgumentType]

    grad = jax.random.normal(jax.random.key(3), plain(x).shape)
    ours, expected = (
        value_and_gradients(lambda x, pool=pool: (pool(x),), grad, x) for pool in (gpu.max_pool_3x3, plain)
    )
    np.testing.assert_array_equal(ours[0], expected[0])
    np.testing.assert_allclose(ours[2][0], expected[2][0], rtol=1e-6)


def test_relu_and_branches_have_the_gradients_of_plain_ones() -> None:
    x = jax.random.normal(jax.random.key(4), (2, 5, 6, 3))
    plain: list[Callable[[jax.Array], jax.Array]] = [nn.relu, lambda x: x]
    for ours, other in zip((gpu.relu, gpu.separate), plain, strict=True):
        y, pull = jax.vjp(ours, x)
        expected, plain_pull = jax.vjp(other, x)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(pull(y)[0], plain_pull(y)[0])


@pytest.mark.slow
@pytest.mark.parametrize('bottleneck', [False, True])
def test_a_network_for_gpus_has_the_loss_and_gradients_of_the_plain_one(bottleneck: bool) -> None:
    model = ResNet((1, 2, 1), width=4, bottleneck=bottleneck)
    images = jax.random.normal(jax.random.key(5), (4, 48, 48, 3))
    variables = random_variables(model, 48)
    found = []
    for platform in ('cuda', 'cpu'):

        def loss(params: Any) -> Any:
            logits, updates = model.apply({**variables, 'params': params}, images, train=True, mutable=['batch_stats'])
            return jnp.square(logits - 1).mean(), updates

        with layers.traced_for(platform):
            found.append(jax.jit(jax.value_and_grad(loss, has_aux=True))(variables['params']))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4), *found)


@pytest.mark.parametrize(
    'model',
    [ResNet((1, 2), width=4), ResNet((1, 1), width=4, bottleneck=False), VGG19(width=2, dense=8, batch_norm=True)],
)
def test_batch_norm_folded_into_convolutions_computes_the_same(model: nn.Module) -> None:
    variables, images = random_variables(model, 32), jax.random.normal(jax.random.key(6), (3, 32, 32, 3))
    # Means of 0 would hide their part, and large ones would leave nothing behind ReLU.
    moved = jax.tree.map(lambda value: 0.3 * value - 0.1 if value.min() <= 0 else value, variables['batch_stats'])
    variables = {**variables, 'batch_stats': moved}
    apply = jax.jit(lambda model, variables: model.apply(variables, images, train=False), static_argnums=0)
    expected = apply(model, variables)
    folded, params = fold(model, variables)
    assert params.keys() == {'params'}
    found = apply(folded, params)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_a_network_without_batch_norm_stays_as_it_is() -> None:
    model = SmallCNN(filters=4)
    variables = random_variables(model, 8)
    assert fold(model, variables) == (model, variables)


def test_scores_for_a_gpu_are_those_of_a_cpu(config: Config) -> None:
    model = ResNet((1, 1), width=4, small_stem=True)
    devices = parallel.Devices.create('pmap', 16)
    variables = devices.replicate(random_variables(model, 32))
    random = np.random.default_rng(0)
    batch = {
        'image': random.integers(0, 256, (16, 32, 32, 3), np.uint8),
        'label': np.zeros(16, np.int32),
        'weight': np.ones(16, np.float32),
    }
    logits = []
    for platform in ('cuda', 'cpu'):
        with layers.traced_for(platform):
            logits.append(scoring.Scorer.create(model, config, devices).predict(variables, devices.split(batch))[0])
    np.testing.assert_allclose(*logits, rtol=1e-3, atol=1e-5)
    assert np.abs(np.subtract(*logits)).max() > 0  # another program
