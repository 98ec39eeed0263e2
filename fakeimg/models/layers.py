"""Layers that several networks share; some of them take a form for the device, of `models.cpu` or `models.gpu`."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fakeimg.models import cpu, gpu

he_normal = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')  # He et al. 2015, as in torchvision
MOMENTUM, EPSILON = 0.9, 1e-5  # of BatchNorm; torch calls 1 - MOMENTUM momentum


_platform: str | None = None  # that `traced_for` names


@contextlib.contextmanager
def traced_for(platform: str) -> Iterator[None]:
    """What is traced within takes the forms for `platform`, such as `cuda`, wherever jax runs."""
    global _platform
    before, _platform = _platform, platform
    try:
        yield
    finally:
        _platform = before


def runs_on_cpu() -> bool:
    """Whether what is traced now will run on a CPU."""
    return (_platform or jax.default_backend()) == 'cpu'


def convolve(
    x: Float[Array, 'b h w c'], kernel: Float[Array, 'kh kw c_in f'], strides: Any, padding: Any, **options: Any
) -> Float[Array, 'b h2 w2 f']:
    """jax.lax.conv_general_dilated of NHWC, also as the `conv_general_dilated` of nn.Conv."""
    options = {'dimension_numbers': ('NHWC', 'HWIO', 'NHWC'), **options}
    conv = cpu.convolve if runs_on_cpu() else gpu.convolve
    return conv(x, kernel, strides, padding, **options)


Conv = functools.partial(nn.Conv, conv_general_dilated=convolve, kernel_init=he_normal)


class PointwiseConv(nn.Module):
    """A 1x1 convolution without bias, as a matrix product.

    Attributes:
        features: output channels.
        stride: every stride-th row and column is taken, from the first.
        dtype: of the product; the kernel [1, 1, C, features], that of nn.Conv, is float32.
    """

    features: int
    stride: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 f']:
        kernel = self.param('kernel', he_normal, (1, 1, x.shape[-1], self.features))
        x, matrix = x[:, :: self.stride, :: self.stride].astype(self.dtype), kernel[0, 0].astype(self.dtype)
        return cpu.product(x, matrix) if runs_on_cpu() else x @ matrix


class BatchNorm(nn.Module):
    """nn.BatchNorm in training, with its parameters and statistics, for another form of its arithmetic.

    Attributes:
        normalize: `(x, scale, bias) -> (y, mean, variance)`.
        scale_init: of the scale [C]; None: no parameter, it is 1.
    """

    normalize: Callable[..., Any]
    scale_init: nn.initializers.Initializer | None = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h w c']:
        """Normalises with the statistics of the batch, and moves `batch_stats` towards them."""
        channels = (x.shape[-1],)
        scale = self.param('scale', self.scale_init, channels) if self.scale_init else jnp.ones(channels)
        bias = self.param('bias', nn.initializers.zeros, channels)
        running = [self.variable('batch_stats', name, start, channels)
                   for name, start in (('mean', jnp.zeros), ('var', jnp.ones))]  # fmt: skip
        y, *statistics = self.normalize(x, scale, bias)
        if not self.is_initializing():
            for variable, value in zip(running, statistics, strict=True):
                variable.value = MOMENTUM * variable.value + (1 - MOMENTUM) * value
        return y


class Bias(nn.Module):
    """What is left of a BatchNorm that `folding.fold` put into the convolution before it: `bias` [C], float32."""

    @nn.compact
    def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h w c']:
        return x + self.param('bias', nn.initializers.zeros, (x.shape[-1],)).astype(x.dtype)


def batch_norm(
    train: bool, frozen: bool, dtype: DTypeLike, axis: str | None, *, folded: bool = False
) -> functools.partial:
    """A constructor of BatchNorm layers, see `_batch_norm`, with torch's constants.

    The running variance is that of the batch, where torch keeps n / (n - 1) of it.

    Args:
        train: normalise with the statistics of the batch, and update the running ones.
        frozen: use the running statistics in training too, and leave them unchanged.
        dtype: of activations.
        axis: mapped axis over which batch statistics are averaged; None keeps them per device.
        folded: a `Bias` takes the place of each.
    """
    return functools.partial(_batch_norm, updating=train and not frozen, dtype=dtype, axis=axis, folded=folded)


def _batch_norm(
    *,
    name: str,
    updating: bool,
    dtype: DTypeLike,
    axis: str | None,
    folded: bool,
    relu: bool = False,
    scale_init: nn.initializers.Initializer | None = nn.initializers.ones,
) -> Callable[[jax.Array], jax.Array]:
    """A layer `name` of the module that is called, followed by ReLU with `relu`."""
    if updating and not runs_on_cpu():
        normalize = functools.partial(gpu.normalize_by_batch, epsilon=EPSILON, relu=relu, axis=axis)
        return BatchNorm(normalize, scale_init, name=name)
    if folded:
        layer = Bias(name=name)
    elif updating and axis is None and dtype == jnp.float32:
        layer = BatchNorm(functools.partial(cpu.normalize_by_batch, epsilon=EPSILON), scale_init, name=name)
    else:
        layer = nn.BatchNorm(
            use_running_average=not updating,
            momentum=MOMENTUM,
            epsilon=EPSILON,
            dtype=dtype,
            axis_name=axis if updating else None,
            use_scale=scale_init is not None,
            scale_init=scale_init or nn.initializers.ones,
            name=name,
        )
    return (lambda x: nn.relu(layer(x))) if relu else layer


def relu(x: Array) -> Array:
    """ReLU."""
    return nn.relu(x) if runs_on_cpu() else gpu.relu(x)


def branch(x: Array) -> Array:
    """`x`, for one of two ways on, of which the other is strided; their gradients are added where both are read."""
    return x if runs_on_cpu() else gpu.separate(x)


def classifier(head: str, kernel_init: nn.initializers.Initializer) -> nn.Dense:
    """The last layer, named `head`, for `log_odds`.

    Args:
        head: `sigmoid` has one logit; `softmax` has two, real and fake.
        kernel_init: of the kernel [F, 1 or 2].
    """
    return nn.Dense(2 if head == 'softmax' else 1, kernel_init=kernel_init, name='head')


def log_odds(logits: Float[Array, 'b k']) -> Float[Array, ' b']:
    """The log-odds of fake from one logit or two.

    The difference of two is the log-odds, so its binary cross-entropy is the cross-entropy of the softmax.
    """
    return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]


def max_pool_3x3(x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 c']:
    """3x3 max-pooling with stride 2 and padding 1, the largest of each window's real pixels.

    The gradient goes to the first of equals, row by row.
    """
    return cpu.max_pool_3x3(x) if runs_on_cpu() else gpu.max_pool_3x3(x)


def max_pool_2x2(x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 c']:
    """2x2 max-pooling with stride 2; an odd last row or column is left out.

    The gradient goes to the first of equals, row by row.
    """
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return _largest_of_four(x.reshape(batch, height // 2, 2, width // 2, 2, channels))


@jax.custom_vjp
def _largest_of_four(windows: jax.Array) -> jax.Array:
    """[B, h, 2, w, 2, C] to [B, h, w, C].

    The backward pass keeps where each maximum was, one byte, instead of the input, and is one loop over the result.
    """
    return jnp.maximum(*(jnp.maximum(*(windows[:, :, row, :, column] for column in (0, 1))) for row in (0, 1)))


def _largest_of_four_forward(windows: jax.Array) -> tuple[jax.Array, jax.Array]:
    largest, place = _largest_of_four(windows), jnp.uint8(3)
    for number in (2, 1, 0):
        row, column = divmod(number, 2)
        place = jnp.where(windows[:, :, row, :, column] == largest, jnp.uint8(number), place)
    return largest, place


def _largest_of_four_backward(place: jax.Array, grad: jax.Array) -> tuple[jax.Array]:
    place, grad = (jnp.expand_dims(x, (2, 4)) for x in jax.lax.optimization_barrier((place, grad)))
    return (jnp.where(place == jnp.arange(4, dtype=jnp.uint8).reshape(2, 1, 2, 1), grad, 0),)


_largest_of_four.defvjp(_largest_of_four_forward, _largest_of_four_backward)


@jax.custom_vjp
def global_max(x: Float[Array, 'b h w c']) -> Float[Array, 'b c']:
    """The largest value of every map; the gradient goes to the first of equals, row by row.

    jax's own looks for the maximum again in the backward pass. Where XLA has computed the maps anew for that, with
    other rounding, it finds none, and divides by their number.
    """
    return x.max((1, 2))


def _global_max_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, tuple[int, ...]]]:
    pixels = x.reshape(len(x), -1, x.shape[-1])
    return global_max(x), (pixels.argmax(1), x.shape)


def _global_max_backward(saved: tuple[jax.Array, tuple[int, ...]], grad: jax.Array) -> tuple[jax.Array]:
    place, (batch, height, width, channels) = saved
    is_largest = jnp.arange(height * width)[:, None] == place[:, None]
    return (jnp.where(is_largest, grad[:, None], 0).reshape(batch, height, width, channels),)


global_max.defvjp(_global_max_forward, _global_max_backward)


def adaptive_mean_pool(x: Float[Array, 'b h w c'], size: int) -> Float[Array, 'b {size} {size} c']:
    """Means over cells, `size` by `size` of them for any H and W.

    Cell i is the mean over rows floor(i H / size) to ceil((i + 1) H / size), as in torch, and so for columns.
    """
    if x.shape[1:3] == (size, size):
        return x
    rows, columns = (_cells(length, size) for length in x.shape[1:3])
    return jnp.einsum('ih,bhwc,jw->bijc', rows, x.astype(jnp.float32), columns).astype(x.dtype)


def _cells(length: int, size: int) -> np.ndarray:
    """The averaging as a matrix, float32 [size, length]."""
    matrix = np.zeros((size, length), np.float32)
    for cell in range(size):
        start, stop = cell * length // size, -(-(cell + 1) * length // size)
        matrix[cell, start:stop] = 1 / (stop - start)
    return matrix
