"""Layers that several networks share, written so that XLA runs them well on CPU and GPU alike."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


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
        return x @ kernel[0, 0].astype(self.dtype)


def convolve(x: jax.Array, kernel: jax.Array, *args: Any, **options: Any) -> jax.Array:
    """jax.lax.conv_general_dilated, for nn.Conv; its gradients start from arrays that are in memory.

    XLA's weight gradient on the CPU begins by transposing both operands, into which it would fuse, element by strided
    element, all that the activation and the gradient were computed from, whole blocks of a ResNet. See also `xla`.
    """
    plain = functools.partial(jax.lax.conv_general_dilated, **options)
    if not runs_on_cpu():
        return plain(x, kernel, *args)

    @jax.custom_vjp
    def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return plain(x, kernel, *args)

    def forward(x: jax.Array, kernel: jax.Array):
        return conv(x, kernel), (x, kernel)

    def backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array):
        (x, kernel), grad = jax.lax.optimization_barrier((saved, grad))
        return jax.vjp(lambda x, kernel: plain(x, kernel, *args), x, kernel)[1](grad)

    conv.defvjp(forward, backward)
    return conv(x, kernel)


class CPUBatchNorm(nn.Module):
    """What nn.BatchNorm does in training, in float32, with sums over pictures as matrix products.

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
    return (jnp.ones((1, len(rows)), rows.dtype) @ rows)[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize_by_batch(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple[jax.Array, ...]:
    """The normalised x, and mean and variance of each channel, which are not differentiated."""
    return _normalize_forward(x, scale, bias, epsilon)[0]


def _normalize_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float):
    rows = x.reshape(-1, x.shape[-1])
    mean = _column_sums(rows) / len(rows)
    variance = jnp.maximum(_column_sums(rows * rows) / len(rows) - mean * mean, 0)  # as Flax has it
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

    Two maxima of neighbours instead of a window reduction, whose gradient XLA runs five times slower on the CPU.
    """
    batch, height, width, channels = x.shape
    rows = x[:, : height // 2 * 2].reshape(batch, height // 2, 2, width, channels)
    x = jnp.maximum(rows[:, :, 0], rows[:, :, 1])
    columns = x[:, :, : width // 2 * 2].reshape(batch, height // 2, width // 2, 2, channels)
    return jnp.maximum(columns[:, :, :, 0], columns[:, :, :, 1])


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
