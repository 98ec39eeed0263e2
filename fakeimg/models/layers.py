"""Layers that several networks share, written so that XLA runs them well on CPU and GPU alike."""

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
