"""VGG with 19 layers (Simonyan & Zisserman 2015, column E), with and without BatchNorm, laid out as in torchvision."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fakeimg.models.layers import Conv, adaptive_mean_pool, batch_norm, classifier, log_odds, max_pool_2x2, relu

STAGES = ((1, 2), (2, 2), (4, 4), (8, 4), (8, 4))  # filters in units of the width, convolutions


class VGG19(nn.Module):
    """16 convolutions in five stages with pooling in between, two dense layers with dropout, the head.

    Attributes:
        width: filters of the first stage; 8 times as many in the last.
        dense: units of both dense layers.
        batch_norm: BatchNorm after every convolution.
        dropout: share of the dense layers' units that a training step drops, drawn from the rng `dropout`.
        freeze_batch_norm: use the running statistics in training too, and leave them unchanged.
        frozen_stages: number of leading `stages` that are frozen; their BatchNorm is too, as with `freeze_batch_norm`.
        head: `sigmoid` or `softmax`, see `layers.classifier`.
        dtype: of activations; parameters, batch statistics and the logit are float32.
        norm_axis: mapped axis over which batch statistics are averaged; None keeps them per device.
        folded: for evaluation, with variables of `folding.fold`.
    """

    width: int = 64
    dense: int = 4096
    batch_norm: bool = False
    dropout: float = 0.5
    freeze_batch_norm: bool = False
    frozen_stages: int = 0
    head: str = 'sigmoid'
    dtype: DTypeLike = jnp.float32
    norm_axis: str | None = None
    folded: bool = False

    @property
    def stride(self) -> int:
        """Pixels from one cell of the last feature maps to the next."""
        return 2 ** len(STAGES)

    @property
    def stages(self) -> tuple[str, ...]:
        """Patterns of the names of the parameters, see `models.stage_of`; the dense layers are one stage."""
        return (*(f'(conv|bn){number}_.*' for number in range(1, len(STAGES) + 1)), 'fc.', 'head')

    def setup(self) -> None:
        self.classifier = classifier(self.head, nn.initializers.zeros)

    def __call__(self, images: Float[Array, 'b h w 3'], *, train: bool) -> Float[Array, ' b']:
        """Maps images, 32 px or more, to float32 logits; with `train`, `batch_stats` are updated."""
        return log_odds(self.classifier(self.features(images, train)))

    @nn.compact
    def features(self, images: Float[Array, 'b h w 3'], train: bool = False) -> Float[Array, 'b {self.dense}']:
        """Maps images to the second dense layer's units, float32; sows the last feature maps as `maps`."""
        x = images.astype(self.dtype)
        for stage, (filters, convs) in enumerate(STAGES, start=1):
            frozen = self.freeze_batch_norm or stage <= self.frozen_stages
            norm = batch_norm(train, frozen, self.dtype, self.norm_axis)
            for number in range(1, convs + 1):
                name = f'conv{stage}_{number}'
                x = Conv(filters * self.width, (3, 3), padding=1, dtype=self.dtype, name=name)(x)
                if self.batch_norm and not self.folded:
                    x = norm(name=f'bn{stage}_{number}', relu=True)(x)
                else:
                    x = relu(x)
            x = max_pool_2x2(x)
        self.sow('intermediates', 'maps', x)
        x = self.perturb('maps', x)
        x = adaptive_mean_pool(x, 7)
        x = x.reshape(len(x), -1)
        dense = functools.partial(nn.Dense, self.dense, dtype=self.dtype, kernel_init=nn.initializers.normal(0.01))
        for name in ('fc6', 'fc7'):  # their names since the first implementations
            x = nn.relu(dense(name=name)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return x.astype(jnp.float32)
