"""Augmentation on the device, compiled into the step; the same distribution for both classes, always."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key, Real

from fakeimg.augment import degradations
from fakeimg.config import Config
from fakeimg.runtime import parallel


def augment(
    key: Key[Array, ''], images: Real[Array, 'b h w 3'], config: Config, flip: Bool[Array, ' b'] | None = None
) -> Real[Array, 'b h w 3']:
    """Flips and degrades the images of a step; must be called inside a mapped step.

    Draws are made for the global batch, so they do not depend on the number of devices.

    Args:
        key: of this step.
        images: in 0..255, this device's rows.
        config: `augment` is read.
        flip: which images to mirror; None: half of them, at random.

    Returns:
        The images in their own dtype, or as float32 whole numbers if any may have been degraded.
    """
    settings = config.augment
    if settings.flip:
        images = mirror(images, _coins(key, images) if flip is None else flip)
    if settings.degradation_probability > 0:
        # One key per image, and per-pixel noise from it: noise for the global batch on every device would be wasted.
        keys = jax.random.split(jax.random.fold_in(key, 1), parallel.global_size(images))
        images = degradations.degrade(parallel.local_rows(keys), images, settings)
    return images


def _coins(key: jax.Array, images: jax.Array) -> jax.Array:
    return parallel.local_rows(jax.random.bernoulli(key, shape=(parallel.global_size(images),)))


def mirror(images: Real[Array, 'b h w c'], flip: Bool[Array, ' b']) -> Real[Array, 'b h w c']:
    """Mirrors some of the images left to right."""
    return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)
