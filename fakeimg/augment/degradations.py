"""Degradations that images meet online, drawn for each image: colour, lost detail, noise, occlusion, JPEG.

Detectors trained on clean images alone fail on degraded ones (Wang et al. 2020, 'CNN-generated images are
surprisingly easy to spot... for now', who blur and compress with one probability each). No function takes labels, so
both classes get the same. Inside, images are planes [b, 3, H, W], which matrix products and the codec read in order.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Real

from fakeimg.augment import jpeg
from fakeimg.config import DEGRADATIONS, Augment

GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue in luma (ITU-R BT.601)
BLUR_SIDE = 224  # pixels; the side of the image for which a blur's width is given

Planes = Float[Array, 'b 3 h w']  # of red, green and blue in 0..255
PerImage = Float[Array, ' b']
Keys = Key[Array, ' b']
Matrices = Float[Array, 'b {size} {size}']  # one per image; left factor of the columns of pixels


class Draw(NamedTuple):
    """The draws for one kind of degradation: whether it is applied, how strongly, a key for the rest."""

    applied: Bool[Array, ' b']
    strength: PerImage
    keys: Keys


def degrade(keys: Keys, images: Real[Array | np.ndarray, 'b h w 3'], settings: Augment) -> Float[Array, 'b h w 3']:
    """Applies each kind of degradation to each image independently, in the order in which images meet them.

    A kind without a range is not compiled. An image of whole numbers to which none is applied stays unchanged.

    Args:
        keys: the degradation of an image depends on its key alone.
        images: in 0..255.
        settings: `config.augment`: `degradation_probability`, and for each kind the range of its strength or ().

    Returns:
        Whole numbers in 0..255, as in any stored image.
    """
    draws = _draw(keys, settings)
    planes = jnp.moveaxis(jnp.asarray(images, jnp.float32), -1, 1)
    planes = _apply(_COLOUR, planes, draws)
    planes = _lose_detail(planes, draws)
    planes = _apply(_LATE, planes, draws)
    return jnp.moveaxis(jnp.round(planes), 1, -1)


def _draw(keys: jax.Array, settings: Augment) -> dict[str, Draw]:
    """Draws for every kind that has a range; a kind's draws stay the same when others come and go."""
    draw_keys, other_keys = jax.vmap(jax.random.split)(keys).T
    # One call for all kinds: every call compiles a separate program.
    draws = jax.vmap(lambda key: jax.random.uniform(key, (len(DEGRADATIONS), 2)))(draw_keys)
    result = {}
    for number, kind in enumerate(DEGRADATIONS):
        if ends := getattr(settings, kind):
            low, high = ends
            applied = draws[:, number, 0] < settings.degradation_probability
            kind_keys = jax.vmap(jax.random.fold_in, (0, None))(other_keys, number)
            result[kind] = Draw(applied, low + (high - low) * draws[:, number, 1], kind_keys)
    return result


def _apply(functions: dict[str, Callable[..., jax.Array]], planes: jax.Array, draws: dict[str, Draw]) -> jax.Array:
    for kind, function in functions.items():
        if kind in draws:
            applied, strength, keys = draws[kind]
            changed = jnp.clip(function(planes, strength, keys), 0, 255)
            planes = jnp.where(_per_pixel(applied), changed, planes)
    return planes


def _per_pixel(values: jax.Array) -> jax.Array:
    return values[:, None, None, None]


def brighten(planes: Planes, factor: PerImage, keys: Keys) -> Planes:
    """Multiplies all values by a factor."""
    del keys
    return planes * _per_pixel(factor)


def change_contrast(planes: Planes, factor: PerImage, keys: Keys) -> Planes:
    """Moves every value away from the image's mean grey, or (factor below 1) towards it."""
    del keys
    return _blend(planes, _luma(planes).mean((1, 2, 3), keepdims=True), factor)


def change_saturation(planes: Planes, factor: PerImage, keys: Keys) -> Planes:
    """Moves every pixel away from its grey, or towards it; factors of 0 and below leave a grey image."""
    del keys
    return _blend(planes, _luma(planes), jnp.maximum(factor, 0))


def _luma(planes: jax.Array) -> jax.Array:
    return sum(weight * planes[:, i : i + 1] for i, weight in enumerate(GREY))  # pyright: ignore[reportReturnType]


def _blend(planes: jax.Array, centre: jax.Array, factor: jax.Array) -> jax.Array:
    return centre + _per_pixel(factor) * (planes - centre)


def _lose_detail(planes: jax.Array, draws: dict[str, Draw]) -> jax.Array:
    """Blur, loss of resolution and pixelation: each is linear and separable, so all three are one matrix per side."""
    kinds = {kind: function for kind, function in _DETAIL.items() if kind in draws}
    if not kinds:
        return planes

    def matrix(size: int) -> jax.Array:
        product = None
        for kind, function in kinds.items():
            applied, strength, _ = draws[kind]
            factor = jnp.where(applied[:, None, None], function(strength, size), jnp.eye(size))
            product = factor if product is None else factor @ product
        return product  # pyright: ignore[reportReturnType]

    height, width = planes.shape[2:]
    rows = matrix(height)
    columns = rows if width == height else matrix(width)
    # A GPU may multiply in TF32: its error is smaller than the rounding to whole numbers, and only where applied.
    changed = jnp.einsum('bjw,bchw->bchj', columns, planes)
    changed = jnp.einsum('bih,bchj->bcij', rows, changed)
    applied = jnp.stack([draws[kind].applied for kind in kinds]).any(0)
    return jnp.where(_per_pixel(applied), jnp.clip(changed, 0, 255), planes)


def blur_matrix(deviation: PerImage, size: int) -> Matrices:
    """Gaussian blur along a side. `deviation` is in pixels of an image of BLUR_SIDE."""
    deviation = jnp.maximum(deviation * size / BLUR_SIDE, 1e-3)[:, None, None]
    place = jnp.arange(size)
    return _normalise(jnp.exp(-0.5 * ((place[:, None] - place) / deviation) ** 2))


def rescale_matrix(scale: PerImage, size: int) -> Matrices:
    """Shrinks a side to `scale` of its length, antialiased, and enlarges it again."""
    small = _small_size(scale, size)
    place = jnp.arange(size)
    # Rows of `shrink` and columns of `enlarge` beyond the small size only keep the shape static.
    centre = (place[:, None] + 0.5) * size / small - 0.5
    shrink = _normalise(jnp.maximum(1 - jnp.abs(place - centre) * small / size, 0))
    centre = jnp.clip((place[:, None] + 0.5) * small / size - 0.5, 0, small - 1)
    enlarge = jnp.maximum(1 - jnp.abs(place - centre), 0)
    return enlarge @ shrink


def pixelate_matrix(scale: PerImage, size: int) -> Matrices:
    """Replaces stretches of 1 / `scale` pixels along a side by their mean."""
    stretch = jnp.floor((jnp.arange(size) + 0.5) * _small_size(scale, size) / size)
    return _normalise((jnp.swapaxes(stretch, 1, 2) == stretch).astype(jnp.float32))


def _small_size(scale: jax.Array, size: int) -> jax.Array:
    return jnp.clip(jnp.round(scale * size), 1, size)[:, None, None]


def _normalise(weights: jax.Array) -> jax.Array:
    return weights / jnp.maximum(weights.sum(-1, keepdims=True), 1e-6)


def add_noise(planes: Planes, deviation: PerImage, keys: Keys) -> Planes:
    """Adds Gaussian noise of a standard deviation in units of 0..255, independent in each pixel and colour."""
    noise = jax.vmap(lambda key: jax.random.normal(key, planes.shape[1:]))(keys)
    return planes + _per_pixel(deviation) * noise


def occlude(planes: Planes, side: PerImage, keys: Keys) -> Planes:
    """Covers a rectangle with one random colour (Zhong et al. 2020, 'Random Erasing').

    `side`, as a fraction of the image's sides, is that of a square of the same area; the rectangle is up to twice as
    long as wide, and lies wholly inside.
    """
    stretch, top, left, *colour = jax.vmap(lambda key: jax.random.uniform(key, (6,)))(keys).T
    stretch = 2 ** (stretch - 0.5)
    colour = 255 * jnp.stack(colour, axis=1)[..., None, None]
    rows = _within(planes.shape[2], top, jnp.minimum(side * stretch, 1))
    columns = _within(planes.shape[3], left, jnp.minimum(side / stretch, 1))
    return jnp.where(rows[:, None, :, None] & columns[:, None, None, :], colour, planes)


def _within(size: int, start: jax.Array, length: jax.Array) -> jax.Array:
    """bool[b, size]: the pixels of an interval of `length`, of the side, at a place from 0 (first) to 1 (last)."""
    centre = (jnp.arange(size) + 0.5) / size
    begin = (start * (1 - length))[:, None]
    return (centre >= begin) & (centre < begin + length[:, None])


def compress(planes: Planes, quality: PerImage, keys: Keys) -> Planes:
    """JPEG at a quality in 1..100, with chroma at half resolution, as nearly all software and sites write it."""
    del keys
    return jpeg.compress(planes, quality)


# In the order in which images meet them: edited, resized, noisy, covered, stored.
_COLOUR = {'brightness': brighten, 'contrast': change_contrast, 'saturation': change_saturation}
_DETAIL = {'blur': blur_matrix, 'rescale': rescale_matrix, 'pixelate': pixelate_matrix}
_LATE = {'noise': add_noise, 'occlusion': occlude, 'jpeg': compress}
