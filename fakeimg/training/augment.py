"""Augmentation on the device, compiled into the step; the same distribution for both classes, always."""

import jax
import jax.numpy as jnp

from fakeimg import parallel


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors half of the pictures [b, H, W, C] left to right; to be called inside a mapped step.

    The draw is made for the global batch, so a picture's fate does not depend on the number of devices.
    """
    flip = parallel.axis_rows(jax.random.bernoulli(key, shape=(parallel.global_size(images),)))
    return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)
