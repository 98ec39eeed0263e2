"""Augmentation on the device, compiled into the step; the same distribution for both classes, always."""

import jax
import jax.numpy as jnp

from fakeimg.augment import degradations
from fakeimg.config import Config
from fakeimg.runtime import parallel


def augment(key: jax.Array, images: jax.Array, config: Config) -> jax.Array:
    """Changes the images of a step as `config.augment` says; to be called inside a mapped step.

    Draws are made for the global batch, so an image's fate does not depend on the number of devices.

    Args:
        key: of this step.
        images: uint8 or float[b, H, W, 3] in 0..255, this device's rows.
        config: the whole configuration.

    Returns:
        The images, same shape: in their own dtype, or as float32 whole numbers if any may have been degraded.
    """
    if config.augment.flip:
        images = random_flip(key, images)
    if config.augment.degradation_probability > 0:
        # One key per image, and per-pixel noise from it: noise for the global batch on every device would be wasted.
        keys = jax.random.split(jax.random.fold_in(key, 1), parallel.global_size(images))
        images = degradations.degrade(parallel.local_rows(keys), images, config.augment)
    return images


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors half of the images [b, H, W, C] left to right."""
    flip = parallel.local_rows(jax.random.bernoulli(key, shape=(parallel.global_size(images),)))
    return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)
