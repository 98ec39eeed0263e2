"""Mixup and CutMix: images mixed in pairs, with labels in between."""

import jax
import jax.numpy as jnp

from fakeimg.config import Config
from fakeimg.errors import UserError
from fakeimg.runtime import parallel


def mix(
    key: jax.Array, images: jax.Array, labels: jax.Array, weights: jax.Array, config: Config
) -> tuple[jax.Array, jax.Array]:
    """Mixes each image with its neighbour in the batch; to be called inside a mapped step.

    Batches are shuffled, so a neighbour is anyone, and a pair never lies on two devices. An image's own share is
    drawn from Beta(alpha, alpha). Mixup (Zhang et al. 2018) blends with it, CutMix (Yun et al. 2019) covers a
    rectangle of the remaining area with the neighbour's; with both switched on each image has one of them, by a coin.
    Images of weight 0 are mixed with none.

    Args:
        key: of this step.
        images: [b, H, W, 3], this device's rows; b must be even.
        labels: [b], 0 or 1.
        weights: [b].
        config: the whole configuration; `config.augment.mixup` and `config.augment.cutmix` are the alphas, 0 for off.

    Returns:
        Images, float32[b, H, W, 3], and labels, float32[b], of which an image's own has the same share.

    Raises:
        UserError: b is odd.
    """
    if len(images) % 2:
        raise UserError(
            f'config.batch_size={parallel.global_size(images)} leaves {len(images)} images to each device; Mixup and '
            'CutMix mix pairs and need an even number.'
        )
    images, labels = images.astype(jnp.float32), labels.astype(jnp.float32)
    both_real = (weights > 0) & (_neighbour(weights) > 0)
    own = jnp.where(both_real[:, None, None], _own_part(key, images, config), 1.0)
    share = own.mean((1, 2))
    own = own[..., None]
    return own * images + (1 - own) * _neighbour(images), share * labels + (1 - share) * _neighbour(labels)


def _neighbour(rows: jax.Array) -> jax.Array:
    """Exchanges rows 0 and 1, 2 and 3, ..."""
    return rows.reshape(-1, 2, *rows.shape[1:])[:, ::-1].reshape(rows.shape)


def _own_part(key: jax.Array, images: jax.Array, config: Config) -> jax.Array:
    """How much of each pixel is an image's own, in 0..1: [b, H, W] or [b, 1, 1]."""
    count, (height, width) = parallel.global_size(images), images.shape[1:3]
    mixup_key, cutmix_key, place_key, coin_key = jax.random.split(key, 4)
    mixup, cutmix = config.augment.mixup, config.augment.cutmix

    def own_rows(draws: jax.Array) -> jax.Array:
        return parallel.local_rows(draws)[:, None, None]

    blended = own_rows(jax.random.beta(mixup_key, mixup, mixup, (count,))) if mixup else jnp.ones(())
    if not cutmix:
        return blended
    side = own_rows(jnp.sqrt(1 - jax.random.beta(cutmix_key, cutmix, cutmix, (count,))))
    # The centre may be anywhere, so that the image's edge cuts rectangles off, as in the paper.
    row, column = (own_rows(place) for place in jax.random.uniform(place_key, (2, count)))
    rows = jnp.abs((jnp.arange(height)[:, None] + 0.5) / height - row) < side / 2
    columns = jnp.abs((jnp.arange(width) + 0.5) / width - column) < side / 2
    cut = 1 - (rows & columns).astype(jnp.float32)
    return jnp.where(own_rows(jax.random.bernoulli(coin_key, shape=(count,))), blended, cut) if mixup else cut
