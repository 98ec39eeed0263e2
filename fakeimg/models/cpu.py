"""Only how XLA's CPU backend is fed: without this file, everything still computes the same functions, but slowly."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_SUM_WIDTH = 4096  # values in a row of a sum


def product(x: Float[Array, '... c'], matrix: Float[Array, 'c f']) -> Float[Array, '... f']:
    """x @ matrix, of two dimensions.

    With more, XLA first transposes one operand of the matrix's gradient, and computes the BatchNorm behind it element
    by strided element.
    """
    return _product(x.reshape(-1, x.shape[-1]), matrix).reshape(*x.shape[:-1], -1)


@jax.custom_vjp
def _product(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    return rows @ matrix


def _product_backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    (rows, matrix), grad = jax.lax.optimization_barrier((saved, grad))
    rows_grad = jax.lax.dot_general(grad, matrix, (((1,), (1,)), ((), ())))
    return rows_grad, jax.lax.dot_general(rows, grad, (((0,), (0,)), ((), ())))


_product.defvjp(lambda rows, matrix: (rows @ matrix, (rows, matrix)), _product_backward)


def convolve(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any) -> jax.Array:
    """jax.lax.conv_general_dilated, whose gradients start from arrays that are in memory.

    XLA's weight gradient begins by transposing both operands, into which it would fuse, element by strided element,
    whatever the activation and the gradient were computed from, whole blocks of a ResNet. See also `runtime.xla`.
    """
    plain = functools.partial(jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **options)

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

    XLA would convolve a gradient with zeros between its values. Pixels of even and of odd rows and columns each meet
    only some of the taps, which leaves four small convolutions.
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


def max_pool_3x3(x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 c']:
    """3x3 max-pooling with stride 2 and padding 1 from maxima of neighbours.

    XLA's gradient of a window reduction is slow.
    """
    return _max_of_three(_max_of_three(x, 2), 1)


def _max_of_three(x: jax.Array, axis: int) -> jax.Array:
    """Output i is the largest of 2i - 1, 2i and 2i + 1 along the axis, of those that exist."""

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


def _column_sums(rows: jax.Array) -> jax.Array:
    """Sums of [N, C] over N: several rows side by side times ones, as XLA is slow at narrow products."""
    count, channels = rows.shape
    beside = math.gcd(count, max(1, _SUM_WIDTH // channels))
    wide = rows.reshape(-1, beside * channels)
    return (jnp.ones((1, len(wide)), rows.dtype) @ wide).reshape(beside, channels).sum(0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalize_by_batch(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple[jax.Array, ...]:
    """BatchNorm in training, in float32, with sums over images as matrix products instead of reductions.

    Returns:
        The result, and mean and variance of each channel, which are not differentiated.
    """
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


normalize_by_batch.defvjp(_normalize_forward, _normalize_backward)
