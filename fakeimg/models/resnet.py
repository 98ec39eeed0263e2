"""ResNet v1.5 (He et al. 2016, with the stride in the 3x3 convolution), padded as torchvision pads it.

SAME padding at stride 2 would shift every feature map by a pixel against converted ImageNet weights.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fakeimg.models.layers import Conv, PointwiseConv, batch_norm, branch, classifier, log_odds, max_pool_3x3, relu

STAGE_SIZES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # He et al., table 1


class ResidualBlock(nn.Module):
    """Convolutions with BatchNorm around a shortcut (He et al. 2016, figure 5).

    Attributes:
        filters: of the 3x3 convolutions.
        stride: of the first 3x3 convolution, and of the shortcut.
        bottleneck: 1x1, 3x3, 1x1 with four times the filters at the end, instead of 3x3, 3x3.
        norm: constructor of a BatchNorm.
        dtype: of activations.
    """

    filters: int
    stride: int
    bottleneck: bool
    norm: functools.partial
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 f']:
        conv = functools.partial(Conv, use_bias=False, padding=1, dtype=self.dtype)
        pointwise = functools.partial(PointwiseConv, dtype=self.dtype)
        strides = (self.stride, self.stride)
        if self.bottleneck:
            convs = [
                pointwise(self.filters, name='conv1'),
                conv(self.filters, (3, 3), strides, name='conv2'),
                pointwise(self.filters * 4, name='conv3'),
            ]
        else:
            convs = [conv(self.filters, (3, 3), strides, name='conv1'), conv(self.filters, (3, 3), name='conv2')]
        y = branch(x) if self.stride > 1 else x
        for number, layer in enumerate(convs[:-1], start=1):
            y = self.norm(name=f'bn{number}', relu=True)(layer(y))
        # A zero scale lets every block start as the identity (Goyal et al. 2017, section 5.1).
        y = self.norm(name=f'bn{len(convs)}', scale_init=nn.initializers.zeros)(convs[-1](y))
        if x.shape != y.shape:
            x = pointwise(y.shape[-1], self.stride, name='downsample_conv')(x)
            x = self.norm(name='downsample_bn')(x)
        return relu(x + y)


class ResNet(nn.Module):
    """A residual network for two classes.

    Attributes:
        stage_sizes: blocks in each stage.
        width: filters of the first stage.
        bottleneck: which kind of block, see `ResidualBlock`.
        small_stem: a 3x3 convolution of stride 1 instead of 7x7, stride 2 and max-pooling (He et al., section 4.2).
        freeze_batch_norm: use the running statistics in training too, and leave them unchanged.
        frozen_stages: number of leading `stages` that are frozen; their BatchNorm is too, as with `freeze_batch_norm`.
        head: `sigmoid` or `softmax`, see `layers.classifier`.
        dtype: of activations; parameters, batch statistics and the logit are float32.
        norm_axis: mapped axis over which batch statistics are averaged; None keeps them per device.
        folded: for evaluation, with variables of `folding.fold`.
    """

    stage_sizes: Sequence[int]
    width: int = 64
    bottleneck: bool = True
    small_stem: bool = False
    freeze_batch_norm: bool = False
    frozen_stages: int = 0
    head: str = 'sigmoid'
    dtype: DTypeLike = jnp.float32
    norm_axis: str | None = None
    folded: bool = False

    @property
    def stride(self) -> int:
        """Pixels from one cell of the last feature maps to the next."""
        return (1 if self.small_stem else 4) * 2 ** (len(self.stage_sizes) - 1)

    @property
    def stages(self) -> tuple[str, ...]:
        """Patterns of the names of the parameters, see `models.stage_of`."""
        return ('stem_.*', *(f'stage{number}_.*' for number in range(1, len(self.stage_sizes) + 1)), 'head')

    def setup(self) -> None:
        # A zero kernel: the first predictions are 0.5 for every image, whatever the pretrained backbone computes.
        self.classifier = classifier(self.head, nn.initializers.zeros)

    def __call__(self, images: Float[Array, 'b h w 3'], *, train: bool) -> Float[Array, ' b']:
        """Maps images to float32 logits; with `train`, `batch_stats` are updated."""
        return log_odds(self.classifier(self.features(images, train)))

    @nn.compact
    def features(self, images: Float[Array, 'b h w 3'], train: bool = False) -> Float[Array, 'b f']:
        """Maps images to the mean of the last feature maps, float32; sows the maps as `maps`."""

        def norm(stage: int) -> functools.partial:
            frozen = self.freeze_batch_norm or stage < self.frozen_stages
            return batch_norm(train, frozen, self.dtype, self.norm_axis, folded=self.folded)

        conv = functools.partial(Conv, use_bias=False, dtype=self.dtype, name='stem_conv')
        x = images.astype(self.dtype)
        if self.small_stem:
            x = conv(self.width, (3, 3), padding=1)(x)
        else:
            x = conv(self.width, (7, 7), (2, 2), padding=3)(x)
        x = norm(0)(name='stem_bn', relu=True)(x)
        if not self.small_stem:
            x = max_pool_3x3(x)
        for stage, blocks in enumerate(self.stage_sizes, start=1):
            for block in range(blocks):
                filters, stride = self.width * 2 ** (stage - 1), 2 if stage > 1 and block == 0 else 1
                name = f'stage{stage}_block{block + 1}'
                x = ResidualBlock(filters, stride, self.bottleneck, norm(stage), self.dtype, name=name)(x)
        self.sow('intermediates', 'maps', x)
        x = self.perturb('maps', x)
        return x.mean((1, 2), dtype=jnp.float32)
