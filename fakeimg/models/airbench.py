"""A small network for short trainings, after the CIFAR-10 speed runs (Jordan 2024, arXiv 2404.00498, section 3)."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fakeimg.models.layers import Conv, batch_norm, classifier, convolve, global_max, log_odds, max_pool_2x2

# Mean squares of the stem's 12 projections of photographs normalised with ImageNet's mean and std: grey, red - blue and
# red - 2 green + blue, each as mean, horizontal, vertical and diagonal difference. Faces at 64 px, rounded; CIFAKE's
# and those of faces at 128 px lie within a factor of three.
_VARIANCES = (12, 0.3, 0.3, 0.04, 1.1, 0.01, 0.01, 0.001, 0.2, 0.003, 0.003, 0.0003)
_EPSILON = 5e-4  # keeps what is mostly the noise of JPEG from being enlarged without bound


def whitening_kernel() -> np.ndarray:
    """The 2x2 convolution that gives 12 nearly uncorrelated channels of equal size, float32 [2, 2, 3, 12].

    The eigenvectors of the 2x2 patches of photographs are, to a few degrees, the products of a Hadamard matrix for rows
    and columns and one for the colours, whatever the set. So they are written down here instead of fitted to the images
    of a run, as in the paper, and a network depends on nothing but its weights.
    """
    pairs = np.array([[1, 1], [1, -1]]) / np.sqrt(2)
    places = np.einsum('ab,cd->acbd', pairs, pairs).reshape(4, 2, 2)
    colours = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    basis = np.einsum('kc,nhw->hwckn', colours, places).reshape(2, 2, 3, 12)
    return (basis / np.sqrt(np.array(_VARIANCES) + _EPSILON)).astype(np.float32)


class Block(nn.Module):
    """A convolution with pooling, then another; BatchNorm and GELU behind both.

    Attributes:
        filters: of both convolutions.
        norm: constructor of a BatchNorm.
        dtype: of activations.
    """

    filters: int
    norm: functools.partial
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h//2 w//2 {self.filters}']:
        conv: Callable = functools.partial(Conv, self.filters, (3, 3), use_bias=False, padding=1, dtype=self.dtype)
        # Pooling first leaves BatchNorm and GELU a quarter of the values. BatchNorm's scale is fixed at 1, so that it
        # can be folded into the convolution: a negative one would turn the maximum into a minimum.
        x = nn.gelu(self.norm(name='bn1', scale_init=None)(max_pool_2x2(conv(name='conv1')(x))))
        return nn.gelu(self.norm(name='bn2', scale_init=None)(conv(name='conv2')(x)))


class AirBench(nn.Module):
    """A fixed whitening convolution, blocks that halve the image, the maximum of every map, one dense layer.

    Attributes:
        width: filters of the first block; the others have twice as many.
        blocks: how many.
        freeze_batch_norm: use the running statistics in training too, and leave them unchanged.
        frozen_stages: number of leading `stages` that are frozen; their BatchNorm is too, as with `freeze_batch_norm`.
        head: `sigmoid` or `softmax`, see `layers.classifier`.
        dtype: of activations; parameters, batch statistics and the logit are float32.
        norm_axis: mapped axis over which batch statistics are averaged; None keeps them per device.
        folded: for evaluation, with variables of `folding.fold`.
    """

    width: int = 64
    blocks: int = 3
    freeze_batch_norm: bool = False
    frozen_stages: int = 0
    head: str = 'sigmoid'
    dtype: DTypeLike = jnp.float32
    norm_axis: str | None = None
    folded: bool = False

    @property
    def stride(self) -> int:
        """Pixels from one cell of the last feature maps to the next."""
        return 2**self.blocks

    @property
    def stages(self) -> tuple[str, ...]:
        """Patterns of the names of the parameters, see `models.stage_of`."""
        return (*(f'block{number}' for number in range(1, self.blocks + 1)), 'head')

    def setup(self) -> None:
        self.classifier = classifier(self.head, nn.initializers.zeros)

    def __call__(self, images: Float[Array, 'b h w 3'], *, train: bool) -> Float[Array, ' b']:
        """Maps images to float32 logits; with `train`, `batch_stats` are updated."""
        return log_odds(self.classifier(self.features(images, train)))

    @nn.compact
    def features(self, images: Float[Array, 'b h w 3'], train: bool = False) -> Float[Array, 'b f']:
        """Maps images to the maxima of the last feature maps, float32; sows the maps as `maps`."""
        kernel = jnp.asarray(whitening_kernel(), self.dtype)
        x = convolve(images.astype(self.dtype), kernel, (1, 1), 'VALID')
        x = nn.gelu(jnp.concatenate([x, -x], -1))
        for block in range(self.blocks):
            frozen = self.freeze_batch_norm or block < self.frozen_stages
            norm = batch_norm(train, frozen, self.dtype, self.norm_axis, folded=self.folded)
            filters = self.width if block == 0 else 2 * self.width
            x = Block(filters, norm, self.dtype, name=f'block{block + 1}')(x)
        self.sow('intermediates', 'maps', x)
        x = self.perturb('maps', x)
        return global_max(x).astype(jnp.float32)
