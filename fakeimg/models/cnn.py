"""The networks of the CIFAKE paper (Bird & Lotfi 2024, section III): a few convolutions and dense layers.

The paper tries 36 of them: 1 to 3 convolutions of 16 to 128 filters, then 1 to 3 dense layers of 32 to 4096 units.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fakeimg.models.layers import classifier, convolve, log_odds, max_pool_2x2


class PooledConv(nn.Module):
    """A 3x3 convolution and 2x2 max-pooling.

    The bias is added after the pooling, and ReLU can follow: the same bits as before it, on a quarter of the values.

    Attributes:
        features: output channels.
        dtype: of activations; `kernel` [3, 3, C, features] and `bias` [features], those of nn.Conv, are float32.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h//2 w//2 {self.features}']:
        kernel = self.param('kernel', nn.initializers.lecun_normal(), (3, 3, x.shape[-1], self.features))
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        x = convolve(x.astype(self.dtype), kernel.astype(self.dtype), (1, 1), 'SAME')
        return max_pool_2x2(x) + bias.astype(self.dtype)


class SmallCNN(nn.Module):
    """3x3 convolutions, each with ReLU and 2x2 pooling, then dense layers with ReLU, then the head.

    Attributes:
        filters: of every convolution.
        layers: convolutions.
        dense: units of every dense layer.
        dense_layers: how many; 0 puts the head on the flattened feature maps.
        head: `sigmoid` or `softmax`, see `layers.classifier`.
        frozen_stages: number of leading `stages` that are frozen.
        dtype: of activations; parameters and the logit are float32.
    """

    filters: int = 32
    layers: int = 2
    dense: int = 64
    dense_layers: int = 1
    head: str = 'sigmoid'
    frozen_stages: int = 0
    dtype: DTypeLike = jnp.float32

    @property
    def stride(self) -> int:
        """Pixels from one cell of the last feature maps to the next."""
        return 2**self.layers

    @property
    def stages(self) -> tuple[str, ...]:
        """Patterns of the names of the parameters, see `models.stage_of`."""
        return (
            *(f'conv{number}' for number in range(1, self.layers + 1)),
            *(_dense_name(number) for number in range(self.dense_layers)),
            'head',
        )

    def setup(self) -> None:
        self.classifier = classifier(self.head, nn.initializers.lecun_normal())

    def __call__(self, images: Float[Array, 'b h w 3'], *, train: bool) -> Float[Array, ' b']:
        """Maps images to float32 logits."""
        return log_odds(self.classifier(self.features(images, train)))

    @nn.compact
    def features(self, images: Float[Array, 'b h w 3'], train: bool = False) -> Float[Array, 'b f']:
        """Maps images to the head's input, float32; sows the last feature maps as `maps`."""
        del train
        x = images.astype(self.dtype)
        for layer in range(self.layers):
            x = nn.relu(PooledConv(self.filters, self.dtype, name=f'conv{layer + 1}')(x))
        self.sow('intermediates', 'maps', x)
        x = self.perturb('maps', x)
        x = x.reshape(len(x), -1)
        for layer in range(self.dense_layers):
            x = nn.relu(nn.Dense(self.dense, dtype=self.dtype, name=_dense_name(layer))(x))
        return x.astype(jnp.float32)


def _dense_name(layer: int) -> str:
    return 'dense' if layer == 0 else f'dense{layer + 1}'
