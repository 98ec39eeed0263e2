"""Images to logits. Models are registered by name; adding one is one file and one line here."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Real, UInt8

from fakeimg.config import Config
from fakeimg.errors import UserError
from fakeimg.models import airbench, cnn, resnet, vgg
from fakeimg.models.layers import log_odds

# The modules of `config.NETWORKS`, whose options are their arguments.
MODELS: dict[str, Callable[..., nn.Module]] = {
    'cnn': cnn.SmallCNN,
    'airbench': airbench.AirBench,
    **{
        f'resnet{depth}': functools.partial(resnet.ResNet, sizes, bottleneck=depth >= 50)
        for depth, sizes in resnet.STAGE_SIZES.items()
    },
    'vgg19': vgg.VGG19,
    'vgg19_bn': functools.partial(vgg.VGG19, batch_norm=True),
}


def create_model(config: Config, dtype: DTypeLike = jnp.float32, axis_name: str | None = None) -> nn.Module:
    """Builds the model of `config.model`.

    `model.apply(variables, images, train=...)` maps normalised float images [B, H, W, 3] to float32 logits [B], the
    log-odds of fake; with `method='features'` to the head's input, float32 [B, F]. With `mutable='intermediates'` it
    also returns the last feature maps, as `maps`; what the collection `perturbations` has as `maps` is added to them,
    for gradients. In training, VGG needs `rngs={'dropout': key}`.

    Args:
        config: the whole configuration.
        dtype: of activations; parameters stay float32.
        axis_name: mapped axis over which BatchNorm may average, used if `config.model.sync_batch_norm`.

    Raises:
        UserError: no such network, an option of another one is set, or `config.finetune.last_stages` is more than
            the network has.
    """
    options = config.model.options()
    if options.pop('sync_batch_norm', False):
        options['norm_axis'] = axis_name
    model = MODELS[config.model.name](**options, head=config.model.head, dtype=dtype)
    last_stages, most = config.finetune.last_stages, len(model.stages) - 1
    if last_stages > most:
        raise UserError(
            f'config.finetune.last_stages is {last_stages}; {config.model.name} has {most} before its head, so it must '
            f'be -1 (everything learns) to {most}.'
        )
    return model if last_stages < 0 else model.clone(frozen_stages=most - last_stages)


def stage_of(model: nn.Module, name: str) -> int:
    """The stage that a top-level part of `params` or `batch_stats` belongs to: 0 at the input, the head's is the last.

    Each model declares its stages in order, as patterns of the names in them.
    """
    return next(stage for stage, pattern in enumerate(model.stages) if re.fullmatch(pattern, name))


def is_frozen(model: nn.Module, name: str) -> bool:
    """Whether training leaves a top-level part of `params` or `batch_stats` unchanged."""
    return stage_of(model, name) < model.frozen_stages


def init_variables(model: nn.Module, image_size: int, seed: int) -> dict[str, Any]:
    """Initialises `params` and `batch_stats` (empty if the model has none) from `seed`."""
    images = jnp.zeros((1, image_size, image_size, 3), jnp.float32)
    variables = jax.jit(lambda key: model.init(key, images, train=False))(jax.random.key(seed))
    return {'params': variables['params'], 'batch_stats': variables.get('batch_stats', {})}


def apply(
    model: nn.Module, variables: dict[str, Any], images: Float[Array, 'b h w 3']
) -> tuple[Float[Array, ' b'], Float[Array, 'b f']]:
    """Runs a network, not in training: float32 logits, the log-odds of fake, and the head's input."""
    features: Any = model.apply(variables, images, train=False, method='features')
    logits: Any = model.apply(variables, features, method=lambda module, x: log_odds(module.classifier(x)))
    return logits, features


def crop(batch: dict[str, jax.Array], size: int) -> UInt8[Array, 'b {size} {size} 3']:
    """The images of a batch, cropped at its offsets if it has any.

    See `data.pipeline.Batches`. With `normalize` the first operation on the device.
    """
    if 'offset' not in batch:
        return batch['image']

    def cut(image: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), (size, size, image.shape[-1]))

    return jax.vmap(cut)(batch['image'], batch['offset'])


def normalize(
    images: Real[Array | np.ndarray, 'b h w 3'],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, 'b h w 3']:
    """Turns images in 0..255 into (x / 255 - mean) / std of `dtype`, channel by channel.

    On the device, so that images cross to it as bytes.
    """
    scale = 1 / (255 * jnp.asarray(std, jnp.float32))
    shift = -jnp.asarray(mean, jnp.float32) / jnp.asarray(std, jnp.float32)
    return (jnp.asarray(images, jnp.float32) * scale + shift).astype(dtype)
