"""The small network of the CIFAKE paper (Bird & Lotfi 2024, section III): two convolutions and a dense layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class SmallCNN(nn.Module):
    """Two 3x3 convolutions of 32 filters, each with ReLU and 2x2 pooling, a dense layer of 64, one logit.

    Attributes:
        dtype: of activations; parameters and the logit are float32.
        norm_axis: unused, there is no BatchNorm; every model takes it.
    """

    dtype: jnp.dtype = jnp.float32
    norm_axis: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [B, H, W, 3] to float32 logits [B]."""
        x = images.astype(self.dtype)
        for layer in range(2):
            x = nn.Conv(32, (3, 3), dtype=self.dtype, name=f'conv{layer + 1}')(x)
            x = max_pool_2x2(nn.relu(x))
        x = x.reshape(len(x), -1)
        x = nn.relu(nn.Dense(64, dtype=self.dtype, name='dense')(x))
        return nn.Dense(1, name='head')(x.astype(jnp.float32))[:, 0]


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """2x2 max-pooling with stride 2 of [B, H, W, C]; an odd last row or column is left out.

    Two maxima of neighbours instead of a window reduction, whose gradient XLA runs five times slower on the CPU.
    """
    batch, height, width, channels = x.shape
    rows = x[:, : height // 2 * 2].reshape(batch, height // 2, 2, width, channels)
    x = jnp.maximum(rows[:, :, 0], rows[:, :, 1])
    columns = x[:, :, : width // 2 * 2].reshape(batch, height // 2, width // 2, 2, channels)
    return jnp.maximum(columns[:, :, :, 0], columns[:, :, :, 1])
