"""Augmentation on the device, compiled into the step; the same distribution for both classes, always."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, Real

from fakeimg.augment import degradations
from fakeimg.config import Config
from fakeimg.runtime import parallel


def augment(
    key: Key[Array, ''], images: Real[Array, 'b h w 3'], config: Config, flip: Bool[Array, ' b'] | None = None
) -> Real[Array, 'b h w 3']:
    """Flips, shifts, degrades and covers the images of a step; must be called inside a mapped step.

    Draws are made for the global batch, so they do not depend on the number of devices. Each kind has its own, so that
    none changes when others come and go.

    Args:
        key: of this step.
        images: in 0..255, this device's rows.
        config: `augment` is read, and `data.mean`, the colour of Cutout.
        flip: which images to mirror; None: half of them, at random.

    Returns:
        The images in their own dtype, or as float32 if any may have been degraded or covered.
    """
    settings = config.augment
    if settings.flip:
        images = mirror(images, _coins(key, images) if flip is None else flip)
    if settings.translate:
        images = translate(jax.random.fold_in(key, 4), images, settings.translate)
    if settings.degradation_probability > 0:
        # One key per image, and per-pixel noise from it: noise for the global batch on every device would be wasted.
        keys = jax.random.split(jax.random.fold_in(key, 1), parallel.global_size(images))
        images = degradations.degrade(parallel.local_rows(keys), images, settings)
    if settings.cutout:  # last: no degradation may blur or recolour the square, which must be 0 once normalised
        images = cut_out(jax.random.fold_in(key, 5), images, settings.cutout, config.data.mean)
    return images


def _coins(key: jax.Array, images: jax.Array) -> jax.Array:
    return parallel.local_rows(jax.random.bernoulli(key, shape=(parallel.global_size(images),)))


def mirror(images: Real[Array, 'b h w c'], flip: Bool[Array, ' b']) -> Real[Array, 'b h w c']:
    """Mirrors some of the images left to right."""
    return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)


def translate(key: Key[Array, ''], images: Real[Array, 'b h w c'], pixels: int) -> Real[Array, 'b h w c']:
    """Shifts each image by up to `pixels` up or down and left or right, all shifts equally likely.

    What comes in is the mirrored edge, which is not repeated; both sides must be longer than `pixels`.
    """
    shifts = jax.random.randint(key, (parallel.global_size(images), 2), 0, 2 * pixels + 1)
    padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), 'reflect')

    def cut(image: jax.Array, shift: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (shift[0], shift[1], 0), images.shape[1:])

    return jax.vmap(cut)(padded, parallel.local_rows(shifts))


def cut_out(
    key: Key[Array, ''], images: Real[Array, 'b h w 3'], side: float, mean: Sequence[float]
) -> Float[Array, 'b h w 3']:
    """Covers a square of each image with the mean colour, 0 once normalised (Cutout, DeVries & Taylor 2017, 3.2).

    Args:
        key: of the places.
        images: in 0..255.
        side: of the square, of the image's sides. Its centre may be anywhere, so the image's edge cuts squares off, as
            in the paper.
        mean: of RGB in [0, 1].
    """
    height, width = images.shape[1:3]
    row, column = (
        parallel.local_rows(place)[:, None] for place in jax.random.uniform(key, (2, parallel.global_size(images)))
    )
    rows = jnp.abs((jnp.arange(height) + 0.5) / height - row) < side / 2
    columns = jnp.abs((jnp.arange(width) + 0.5) / width - column) < side / 2
    covered = rows[:, :, None] & columns[:, None, :]
    return jnp.where(covered[..., None], 255 * jnp.asarray(mean, jnp.float32), images)
