"""Layers that several networks share, written so that XLA runs them well on CPU and GPU alike."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

_SUM_WIDTH = 4096  # values in a row


class PointwiseConv(nn.Module):
    """A 1x1 convolution without bias, as a matrix product: on the CPU XLA runs that twice as fast.

    Attributes:
        features: output channels.
        stride: every stride-th row and column is taken, from the first.
        dtype: of the product; the kernel [1, 1, C, features], that of nn.Conv, is float32.
        kernel_init: of the kernel.
    """

    features: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()  # that of nn.Conv

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), features]."""
        kernel = self.param('kernel', self.kernel_init, (1, 1, x.shape[-1], self.features))
        x = x[:, :: self.stride, :: self.stride].astype(self.dtype)
        matrix = kernel[0, 0].astype(self.dtype)
        if not runs_on_cpu():
            return x @ matrix
        return _product(x.reshape(-1, x.shape[-1]), matrix).reshape(*x.shape[:-1], -1)


@jax.custom_vjp
def _product(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    """[N, C] times [C, F], with gradients for XLA on the CPU.

    Of more than two dimensions, it would first transpose one operand of the matrix's gradient, and compute, element by
    strided element, the BatchNorm behind.
    """
    return rows @ matrix


def _product_backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    (rows, matrix), grad = jax.lax.optimization_barrier((saved, grad))
    rows_grad = jax.lax.dot_general(grad, matrix, (((1,), (1,)), ((), ())))
    return rows_grad, jax.lax.dot_general(rows, grad, (((0,), (0,)), ((), ())))


_product.defvjp(lambda rows, matrix: (rows @ matrix, (rows, matrix)), _product_backward)


def convolve(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any) -> jax.Array:
    """jax.lax.conv_general_dilated of NHWC, for nn.Conv too; its gradients start from arrays that are in memory.

    XLA's weight gradient on the CPU begins by transposing both operands, into which it would fuse, element by strided
    element, all that the activation and the gradient were computed from, whole blocks of a ResNet. See also `xla`.
    """
    options = {'dimension_numbers': ('NHWC', 'HWIO', 'NHWC'), **options}
    plain = functools.partial(jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **options)
    if not runs_on_cpu():
        return plain(x, kernel)

    @jax.custom_vjp
    def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return plain(x, kernel)

    def forward(x: jax.Array, kernel: jax.Array):
        return conv(x, kernel), (x, kernel)

    is_3x3 = kernel.shape[:2] == (3, 3) and options.get('feature_group_count', 1) == 1
    is_3x3 = is_3x3 and set(options.get('rhs_dilation') or (1,)) == {1}
    is_halving = is_3x3 and tuple(strides) == (2, 2) and [*map(tuple, padding)] == [(1, 1), (1, 1)]
    is_halving = is_halving and not (x.shape[1] % 2 or x.shape[2] % 2)

    def backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array):
        (x, kernel), grad = jax.lax.optimization_barrier((saved, grad))
        x_grad, kernel_grad = jax.vjp(plain, x, kernel)[1](grad)
        return _halving_gradient(grad, kernel) if is_halving else x_grad, kernel_grad

    conv.defvjp(forward, backward)
    return conv(x, kernel)


def _halving_gradient(grad: jax.Array, kernel: jax.Array) -> jax.Array:
    """The input's gradient of a 3x3 convolution with stride 2 and padding 1, [B, h, w, F] to [B, 2h, 2w, C].

    XLA would convolve a gradient with zeros put between its values. Pixels of even and of odd rows and columns each
    meet but some of the taps: four small convolutions, a third of the time at 56 px.
    """
    taps = kernel.swapaxes(2, 3)
    even, odd = (slice(1, 2), (0, 0)), (slice(None, None, -2), (0, 1))  # taps, padding

    def pixels(rows: tuple, columns: tuple) -> jax.Array:
        part = taps[rows[0], columns[0]]
        return jax.lax.conv_general_dilated(
            grad, part, (1, 1), (rows[1], columns[1]), dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )

    lines = [jnp.stack([pixels(rows, even), pixels(rows, odd)], 3) for rows in (even, odd)]
    batch, height, width, _ = grad.shape
    return jnp.stack(lines, 2).reshape(batch, 2 * height, 2 * width, -1)


class CPUBatchNorm(nn.Module):
    """What nn.BatchNorm does in training, in float32, with sums over images as matrix products.

    XLA's reductions on the CPU take several times as long as a product with ones. Parameters and statistics are those
    of nn.BatchNorm, which serves evaluation, other devices and statistics over several of them.

    Attributes:
        momentum: share of the running statistics that a step keeps.
        epsilon: added to the variance.
        scale_init: of the scale [C].
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises float32[B, H, W, C] with the statistics of the batch, and moves `batch_stats` towards them."""
        channels = (x.shape[-1],)
        scale = self.param('scale', self.scale_init, channels)
        bias = self.param('bias', nn.initializers.zeros, channels)
        running = [self.variable('batch_stats', name, jnp.zeros, channels) for name in ('mean', 'var')]
        normalized: Any = _normalize_by_batch(x, scale, bias, self.epsilon)
        y, *statistics = normalized
        for variable, value in zip(running, statistics, strict=True):
            variable.value = self.momentum * variable.value + (1 - self.momentum) * value
        return y


def _column_sums(rows: jax.Array) -> jax.Array:
    """Sums of [N, C] over N: several rows side by side times ones, as XLA is slow at narrow products."""
    count, channels = rows.shape
    beside = math.gcd(count, max(1, _SUM_WIDTH // channels))
    wide = rows.reshape(-1, beside * channels)
    return (jnp.ones((1, len(wide)), rows.dtype) @ wide).reshape(beside, channels).sum(0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize_by_batch(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple[jax.Array, ...]:
    """The normalised x, and mean and variance of each channel, which are not differentiated."""
    return _normalize_forward(x, scale, bias, epsilon)[0]


def _normalize_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float):
    rows = x.reshape(-1, x.shape[-1])
    mean = _column_sums(rows) / len(rows)
    # From the distance to one of the rows: E[x^2] - E[x]^2, as Flax has it, loses its digits where means are large.
    distance = rows - rows[0]
    variance = jnp.maximum(_column_sums(distance * distance) / len(rows) - (mean - rows[0]) ** 2, 0)
    inverse = jax.lax.rsqrt(variance + epsilon)
    return ((x - mean) * (inverse * scale) + bias, mean, variance), (x, mean, inverse, scale)


def _normalize_backward(epsilon: float, saved: tuple[jax.Array, ...], grads: tuple[jax.Array, ...]):
    """Ioffe & Szegedy 2015, section 3."""
    del epsilon
    x, mean, inverse, scale = saved
    grad = jax.lax.optimization_barrier(grads[0])
    rows = grad.reshape(-1, grad.shape[-1])
    bias_grad = _column_sums(rows)
    scale_grad = _column_sums(rows * (x.reshape(rows.shape) - mean)) * inverse
    normalized = (x - mean) * inverse
    x_grad = (inverse * scale) * (grad - bias_grad / len(rows) - normalized * (scale_grad / len(rows)))
    return x_grad, scale_grad, bias_grad


_normalize_by_batch.defvjp(_normalize_forward, _normalize_backward)


def runs_on_cpu() -> bool:
    """Whether what is traced now will run on a CPU, whose forms differ where GPUs have a good one already."""
    return jax.default_backend() == 'cpu'


def log_odds(features: jax.Array, head: str, kernel_init: nn.initializers.Initializer) -> jax.Array:
    """The classifier, named `head`; to be called inside a compact method.

    Args:
        features: [B, F] of any float dtype.
        head: `sigmoid` has one logit; `softmax` has two, real and fake, whose difference is the log-odds, so that
            binary cross-entropy on it is the cross-entropy of the softmax.
        kernel_init: of the kernel [F, 1 or 2].

    Returns:
        float32 [B], the log-odds of fake.
    """
    dense = nn.Dense(2 if head == 'softmax' else 1, kernel_init=kernel_init, name='head')
    logits = dense(features.astype(jnp.float32))
    return logits[:, 1] - logits[:, 0] if head == 'softmax' else logits[:, 0]


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """2x2 max-pooling with stride 2 of [B, H, W, C]; an odd last row or column is left out.

    The gradient goes to the first of equals, row by row.
    """
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return _largest_of_four(x.reshape(batch, height // 2, 2, width // 2, 2, channels))


@jax.custom_vjp
def _largest_of_four(windows: jax.Array) -> jax.Array:
    """[B, h, 2, w, 2, C] to [B, h, w, C].

    The backward pass remembers where each maximum was, a byte of it, instead of all that was pooled, and is one loop
    over the result: on the CPU a third of the time of maxima of neighbours, and theirs a fifth of a window reduction's.
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


def max_pool_3x3(x: jax.Array) -> jax.Array:
    """3x3 max-pooling with stride 2 and padding 1 of [B, H, W, C], the largest of each window's real pixels.

    The gradient goes to the first of equals, row by row. On the CPU from maxima of neighbours: XLA's gradient of a
    window reduction takes four times as long.
    """
    if not runs_on_cpu():
        return nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))  # pyright: ignore[reportArgumentType]
    return _max_of_three(_max_of_three(x, 2), 1)


def _max_of_three(x: jax.Array, axis: int) -> jax.Array:
    """Output i is the largest of 2i - 1, 2i and 2i + 1 along the axis, without those that are not there."""

    def pad(x: jax.Array, before: int, after: int) -> jax.Array:
        widths = [(before, after, 0) if number == axis else (0, 0, 0) for number in range(x.ndim)]
        return jax.lax.pad(x, jnp.array(-jnp.inf, x.dtype), widths)

    x = pad(x, 0, x.shape[axis] % 2)
    pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    even, odd = (jax.lax.index_in_dim(pairs, number, axis + 1, keepdims=False) for number in (0, 1))
    return _first_maximum(pad(odd, 1, -1), _first_maximum(even, odd))


@jax.custom_vjp
def _first_maximum(first: jax.Array, second: jax.Array) -> jax.Array:
    """jnp.maximum, but the gradient of equals is the first's and not halved."""
    return jnp.maximum(first, second)


def _first_maximum_backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    is_first = saved[0] >= saved[1]
    return jnp.where(is_first, grad, 0), jnp.where(is_first, 0, grad)


_first_maximum.defvjp(lambda first, second: (jnp.maximum(first, second), (first, second)), _first_maximum_backward)


def adaptive_mean_pool(x: jax.Array, size: int) -> jax.Array:
    """Means over [B, H, W, C] that leave [B, size, size, C], whatever H and W are.

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
