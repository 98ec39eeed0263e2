"""Only how XLA's GPU backend is fed: fewer passes over the activations than autodiff's forms of the same functions."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_FEW_CHANNELS = 4  # of the input of a convolution
_BLOCKS = 512  # of a sum, each a block of threads on the GPU
Statistics = tuple[jax.Array, jax.Array, jax.Array]


def convolve(
    x: Float[Array, 'b h w c'], kernel: Float[Array, 'kh kw c f'], strides: Any, padding: Any, **options: Any
) -> Float[Array, 'b h2 w2 f']:
    """jax.lax.conv_general_dilated of NHWC; with stride 2 and few channels, over blocks of 2x2 pixels with stride 1.

    cuDNN's fast kernels want channels in multiples of 8. It pads the three of an image, writing all of it once more,
    and multiplies with the zeros; a block of a ResNet's stem has 12.
    """
    if tuple(strides) == (2, 2) and kernel.shape[2] <= _FEW_CHANNELS and not isinstance(padding, str):
        x, kernel = _blocks(x, kernel, padding)
        strides, padding = (1, 1), 'VALID'
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)


def _blocks(x: jax.Array, kernel: jax.Array, padding: Any) -> tuple[jax.Array, jax.Array]:
    """The image, padded, and the kernel of that convolution: four pixels and then zeros make the channels of one."""
    height, width, channels, filters = kernel.shape
    taps = (-(-height // 2), -(-width // 2))
    borders = []
    for size, (before, after), length, count in zip(x.shape[1:3], padding, (height, width), taps, strict=True):
        results = (size + before + after - length) // 2 + 1
        borders.append((before, 2 * (results + count - 1) - size - before, 0))
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *borders, (0, 0, 0)))
    batch, rows, columns, _ = x.shape
    x = x.reshape(batch, rows // 2, 2, columns // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    kernel = jnp.pad(kernel, ((0, height % 2), (0, width % 2), (0, 0), (0, 0)))
    kernel = kernel.reshape(taps[0], 2, taps[1], 2, channels, filters).transpose(0, 2, 1, 3, 4, 5)
    zeros = -4 * channels % 8
    x = jnp.pad(x.reshape(batch, rows // 2, columns // 2, 4 * channels), ((0, 0), (0, 0), (0, 0), (0, zeros)))
    return x, jnp.pad(kernel.reshape(*taps, 4 * channels, filters), ((0, 0), (0, 0), (0, zeros), (0, 0)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def normalize_by_batch(
    x: Float[Array, '... c'], scale: Float[Array, ' c'], bias: Float[Array, ' c'], epsilon: float, relu: bool,
    axis: str | None,
) -> Statistics:  # fmt: skip
    """BatchNorm in training, with or without ReLU behind it; sums are float32.

    Autodiff reads the activations three times for the gradient and writes ReLU's mask; this reads them twice.

    Args:
        x: of any float dtype.
        scale: float32.
        bias: float32.
        epsilon: added to the variance.
        relu: whether ReLU follows.
        axis: mapped axis over which the statistics are averaged, or None.

    Returns:
        The result, in the dtype of `x`, and mean and variance, float32[C], which are not differentiated.
    """
    return _normalize_forward(x, scale, bias, epsilon, relu, axis)[0]


def _normalize_forward(x: Any, scale: Any, bias: Any, epsilon: float, relu: bool, axis: str | None):
    values = x.astype(jnp.float32)
    # As flax computes them, one reading of x.
    mean, square = (total / (x.size // x.shape[-1]) for total in _sums(values, jnp.square(values)))
    if axis is not None:
        mean, square = jax.lax.pmean((mean, square), axis)
    variance = jnp.maximum(square - jnp.square(mean), 0)
    inverse = jax.lax.rsqrt(variance + epsilon)
    y = _scaled(x, mean, inverse * scale, bias)
    return (jax.nn.relu(y) if relu else y, mean, variance), (x, mean, inverse, scale, bias)


def _scaled(x: jax.Array, mean: jax.Array, factor: jax.Array, bias: jax.Array) -> jax.Array:
    return ((x.astype(jnp.float32) - mean) * factor + bias).astype(x.dtype)


def _normalize_backward(epsilon: float, relu: bool, axis: str | None, saved: tuple, grads: Statistics):
    """Ioffe & Szegedy 2015, section 3; ReLU's mask is computed from x again."""
    del epsilon
    x, mean, inverse, scale, bias = saved

    def parts(x: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
        if relu:
            grad = jnp.where(_scaled(x, mean, inverse * scale, bias) > 0, grad, 0)
        return grad.astype(jnp.float32), (x.astype(jnp.float32) - mean) * inverse

    # Without the barriers XLA would write what this shares with the forward pass, and what the two passes here share.
    grad = grads[0]
    if relu:
        x = jax.lax.optimization_barrier(x)
    values, normalized = parts(x, grad)
    bias_grad, scale_grad = _sums(values, values * normalized)
    bias_mean, scale_mean = (total / (x.size // x.shape[-1]) for total in (bias_grad, scale_grad))
    if axis is not None:
        bias_mean, scale_mean = jax.lax.pmean((bias_mean, scale_mean), axis)
    values, normalized = parts(*jax.lax.optimization_barrier((x, grad)))
    x_grad = (inverse * scale) * (values - bias_mean - normalized * scale_mean)
    return x_grad.astype(x.dtype), scale_grad, bias_grad


def _sums(*arrays: jax.Array) -> jax.Array:
    """Sums of float32[..., C] over all but C, in two kernels for all: XLA would need one more for each."""
    count = math.prod(arrays[0].shape[:-1])
    blocks = math.gcd(count, _BLOCKS)
    parts = [array.reshape(blocks, count // blocks, -1).sum(1) for array in arrays]
    return jnp.stack(parts).sum(1)


normalize_by_batch.defvjp(_normalize_forward, _normalize_backward)


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """ReLU whose gradient is masked by the result, which the next layer keeps anyway."""
    # Without the barrier XLA would compute the sum that enters again in every block that adds the result to its own.
    return jax.lax.optimization_barrier(jax.nn.relu(x))


def _relu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = relu(x)
    return y, y


relu.defvjp(_relu_forward, lambda y, grad: (jnp.where(y > 0, grad, 0),))


@jax.custom_vjp
def max_pool_3x3(x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 c']:
    """3x3 max-pooling with stride 2 and padding 1.

    The backward pass keeps where each maximum was, one byte, and is one loop over the result; XLA's own writes float32
    and three index arrays, and scatters them.
    """
    return _max_pool_forward(x)[0]


def _max_pool_forward(x: jax.Array):
    height, width = x.shape[1:3]
    rows, columns = -(-height // 2), -(-width // 2)
    outside = jnp.array(-jnp.inf, x.dtype)
    padded = jax.lax.pad(x, outside, ((0, 0, 0), (1, 2 * rows - height, 0), (1, 2 * columns - width, 0), (0, 0, 0)))

    def part(number: int) -> jax.Array:
        row, column = divmod(number, 3)
        return padded[:, row : row + 2 * rows - 1 : 2, column : column + 2 * columns - 1 : 2]

    largest, place = part(0), jnp.zeros((len(x), rows, columns, x.shape[-1]), jnp.uint8)
    for number in range(1, 9):
        place = jnp.where(part(number) > largest, jnp.uint8(number), place)  # the first of equals stays
        largest = jnp.maximum(part(number), largest)
    return largest, (place, (height, width))


def _max_pool_backward(saved: tuple, grad: jax.Array) -> tuple[jax.Array]:
    """Each pixel gathers from the one, two or four windows that it lies in."""
    place, (height, width) = saved
    batch, rows, columns, channels = grad.shape
    parity = jnp.arange(2, dtype=jnp.uint8)
    total = jnp.zeros((batch, rows, 2, columns, 2, channels), grad.dtype)
    # A pixel of even row 2i lies in the middle row of window i; one of odd row 2i + 1 in the last of window i and the
    # first of window i + 1. 9 is no place.
    for below in (0, 1):
        row = jnp.where(parity == 1, jnp.uint8(0), jnp.uint8(9)) if below else parity + jnp.uint8(1)
        for right in (0, 1):
            column = jnp.where(parity == 1, jnp.uint8(0), jnp.uint8(9)) if right else parity + jnp.uint8(1)
            wanted = 3 * row[:, None, None, None] + column[:, None]
            total += jnp.where(_moved(place, below, right, 9) == wanted, _moved(grad, below, right, 0), 0)
    return (total.reshape(batch, 2 * rows, 2 * columns, channels)[:, :height, :width],)


def _moved(windows: jax.Array, below: int, right: int, outside: int) -> jax.Array:
    """The window that lies `below` and `right` of each, [B, h, w, C] to [B, h, 1, w, 1, C]."""
    padding = ((0, 0, 0), (-below, below, 0), (-right, right, 0), (0, 0, 0))
    return jnp.expand_dims(jax.lax.pad(windows, jnp.array(outside, windows.dtype), padding), (2, 4))


max_pool_3x3.defvjp(_max_pool_forward, _max_pool_backward)


@jax.custom_vjp
def separate(x: jax.Array) -> jax.Array:
    """`x`, whose gradient from what follows is an array of its own.

    Otherwise XLA adds what else x has as gradient within the matrix product, and first writes that to memory in full.
    """
    return x


separate.defvjp(lambda x: (x, None), lambda _, grad: (jax.lax.optimization_barrier(grad),))
