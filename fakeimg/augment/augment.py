"""Augmentation on the device, compiled into the step; the same distribution for both classes, always."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, Real

from fakeimg.augment import degradations
from fakeimg.config import Augment
from fakeimg.runtime import parallel


def augment(key: Key[Array, ''], images: Real[Array, 'b h w 3'], settings: Augment) -> Real[Array, 'b h w 3']:
    """Flips and degrades the images of a step; must be called inside a mapped step.

    Draws are made for the global batch, so they do not depend on the number of devices.

    Args:
        key: of this step.
        images: in 0..255, this device's rows.
        settings: `config.augment`.

    Returns:
        The images in their own dtype, or as float32 whole numbers if any may have been degraded.
    """
    if settings.flip:
        images = random_flip(key, images)
    if settings.degradation_probability > 0:
        # One key per image, and per-pixel noise from it: noise for the global batch on every device would be wasted.
        keys = jax.random.split(jax.random.fold_in(key, 1), parallel.global_size(images))
        images = degradations.degrade(parallel.local_rows(keys), images, settings)
    return images


def random_flip(key: Key[Array, ''], images: Real[Array, 'b h w c']) -> Real[Array, 'b h w c']:
    """Mirrors half of the images left to right."""
    flip = parallel.local_rows(jax.random.bernoulli(key, shape=(parallel.global_size(images),)))
    return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)
