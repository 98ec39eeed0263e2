"""ResNet v1.5 (He et al. 2016, with the stride in the 3x3 convolution), padded as torchvision pads it.

SAME padding at stride 2 would shift every feature map by a pixel against converted ImageNet weights.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

_he_normal = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')  # He et al. 2015, as in torchvision


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with BatchNorm around a shortcut (He et al. 2016, figure 5)."""

    filters: int
    stride: int
    conv: functools.partial
    norm: functools.partial

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shortcut = x
        y = nn.relu(self.norm(name='bn1')(self.conv(self.filters, (1, 1), name='conv1')(x)))
        y = self.conv(self.filters, (3, 3), (self.stride, self.stride), padding=1, name='conv2')(y)
        y = nn.relu(self.norm(name='bn2')(y))
        y = self.conv(self.filters * 4, (1, 1), name='conv3')(y)
        # A zero scale lets every block start as the identity (Goyal et al. 2017, section 5.1).
        y = self.norm(name='bn3', scale_init=nn.initializers.zeros)(y)
        if shortcut.shape != y.shape:
            strides = (self.stride, self.stride)
            shortcut = self.conv(self.filters * 4, (1, 1), strides, name='downsample_conv')(x)
            shortcut = self.norm(name='downsample_bn')(shortcut)
        return nn.relu(shortcut + y)


class ResNet(nn.Module):
    """A residual network with one logit.

    Attributes:
        stage_sizes: blocks in each stage.
        width: filters of the first stage.
        dtype: of activations; parameters, batch statistics and the logit are float32.
        norm_axis: mapped axis over which batch statistics are averaged; None keeps them per device.
    """

    stage_sizes: Sequence[int]
    width: int = 64
    dtype: jnp.dtype = jnp.float32
    norm_axis: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [B, H, W, 3] to float32 logits [B]; with `train`, `batch_stats` are updated."""
        conv = functools.partial(nn.Conv, use_bias=False, padding=0, dtype=self.dtype, kernel_init=_he_normal)
        norm = functools.partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
            axis_name=self.norm_axis if train else None,
        )
        x = conv(self.width, (7, 7), (2, 2), padding=3, name='stem_conv')(images.astype(self.dtype))
        x = nn.relu(norm(name='stem_bn')(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))  # pyright: ignore[reportArgumentType]
        for stage, blocks in enumerate(self.stage_sizes, start=1):
            for block in range(blocks):
                stride = 2 if stage > 1 and block == 0 else 1
                x = Bottleneck(
                    self.width * 2 ** (stage - 1), stride, conv, norm, name=f'stage{stage}_block{block + 1}'
                )(x)
        x = x.mean((1, 2), dtype=jnp.float32)
        # A zero kernel: the first predictions are 0.5 for everything, whatever the backbone brings.
        return nn.Dense(1, kernel_init=nn.initializers.zeros, name='head')(x)[:, 0]


resnet50 = functools.partial(ResNet, stage_sizes=(3, 4, 6, 3))
