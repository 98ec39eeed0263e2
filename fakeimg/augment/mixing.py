"""Mixup and CutMix: images mixed in pairs, with labels in between."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Real

from fakeimg.errors import UserError
from fakeimg.runtime import parallel


def mix(
    key: Key[Array, ''],
    images: Real[Array, 'b h w 3'],
    labels: Real[Array, ' b'],
    weights: Float[Array, ' b'],
    mixup: float,
    cutmix: float,
) -> tuple[Float[Array, 'b h w 3'], Float[Array, ' b']]:
    """Mixes each image with its neighbour in the batch; must be called inside a mapped step.

    Batches are shuffled, so the neighbour is a random image, and a pair never lies on two devices. An image's share is
    drawn from Beta(alpha, alpha). Mixup (Zhang et al. 2018) blends with it, CutMix (Yun et al. 2019) covers a
    rectangle of the remaining area with the neighbour's; with both, a coin decides for each image.
    Images of weight 0 are not mixed.

    Args:
        key: of this step.
        images: this device's rows; b must be even.
        labels: 0 or 1.
        weights: 0 for padding.
        mixup: alpha, 0 for off.
        cutmix: alpha, 0 for off.

    Returns:
        Images, and labels in which the image's label has the same share as its pixels; float32.

    Raises:
        UserError: b is odd.
    """
    if len(images) % 2:
        raise UserError(
            f'config.batch_size={parallel.global_size(images)} leaves {len(images)} images to each device; Mixup and '
            'CutMix mix pairs and need an even number.'
        )
    images, labels = images.astype(jnp.float32), labels.astype(jnp.float32)
    no_padding = (weights > 0) & (_neighbour(weights) > 0)
    shares = jnp.where(no_padding[:, None, None], _pixel_shares(key, images, mixup, cutmix), 1.0)
    share = shares.mean((1, 2))
    shares = shares[..., None]
    return shares * images + (1 - shares) * _neighbour(images), share * labels + (1 - share) * _neighbour(labels)


def _neighbour(rows: jax.Array) -> jax.Array:
    """Exchanges rows 0 and 1, 2 and 3, ..."""
    return rows.reshape(-1, 2, *rows.shape[1:])[:, ::-1].reshape(rows.shape)


def _pixel_shares(key: jax.Array, images: jax.Array, mixup: float, cutmix: float) -> jax.Array:
    """The share of the image in each of its pixels after mixing, in 0..1: [b, H, W] or [b, 1, 1]."""
    count, (height, width) = parallel.global_size(images), images.shape[1:3]
    mixup_key, cutmix_key, place_key, coin_key = jax.random.split(key, 4)

    def device_rows(draws: jax.Array) -> jax.Array:
        return parallel.local_rows(draws)[:, None, None]

    blended = device_rows(jax.random.beta(mixup_key, mixup, mixup, (count,))) if mixup else jnp.ones(())
    if not cutmix:
        return blended
    side = device_rows(jnp.sqrt(1 - jax.random.beta(cutmix_key, cutmix, cutmix, (count,))))
    # The centre may be anywhere, so the image's edge cuts rectangles off, as in the paper.
    row, column = (device_rows(place) for place in jax.random.uniform(place_key, (2, count)))
    rows = jnp.abs((jnp.arange(height)[:, None] + 0.5) / height - row) < side / 2
    columns = jnp.abs((jnp.arange(width) + 0.5) / width - column) < side / 2
    cut = 1 - (rows & columns).astype(jnp.float32)
    return jnp.where(device_rows(jax.random.bernoulli(coin_key, shape=(count,))), blended, cut) if mixup else cut
