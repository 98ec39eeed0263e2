"""Detectors of tiny networks, and images with a patch that decides their label."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from fakeimg.config import IMAGENET_MEAN, IMAGENET_STD, default_config
from fakeimg.detector import Detector, describe
from fakeimg.models import init_variables, normalize
from fakeimg.runtime import parallel

PATCH = 8  # pixels


def random_variables(model: nn.Module, size: int, seed: int = 0) -> dict[str, Any]:
    """Variables without zeros: initial ones of a ResNet give the same score to every image."""
    rng = np.random.default_rng(seed)

    def drawn(path: Any, value: jax.Array) -> jax.Array:
        if value.ndim > 1:
            scale = np.sqrt(2 / np.prod(value.shape[:-1]))
            return jnp.asarray(rng.normal(0, scale, value.shape), jnp.float32)
        values = jnp.asarray(rng.normal(0, 0.3, value.shape), jnp.float32)
        return jnp.abs(values) + 0.5 if path[-1].key in ('scale', 'var') else values

    return jax.tree_util.tree_map_with_path(drawn, init_variables(model, size, seed))


def detector_of(
    model: nn.Module, size: int = 32, variables: dict[str, Any] | None = None, *, resize: int = 0, batch: int = 4
) -> Detector:
    """A detector of a network with random variables, for images of `size` pixels, cropped from `resize`."""
    config = default_config()
    config.batch_size, config.data.image_size, config.data.resize_size = batch, size, resize or size
    config.data.mean, config.data.std = IMAGENET_MEAN, IMAGENET_STD
    config.data.path, config.data.threads = '/nowhere', 1
    devices = parallel.Devices.create(config.parallel, batch)
    replicated = devices.replicate(random_variables(model, size) if variables is None else variables)
    return Detector(config, model, replicated, devices, describe(config, None), 'drawn weights')


def noise(count: int, size: int = 32, seed: int = 0) -> list[np.ndarray]:
    """Images uint8[size, size, 3]."""
    return list(np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8))


def planted(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey noise of 32 px in which fake images have a chequered patch and real ones a striped one.

    Returns:
        uint8[n, 32, 32, 3], int32[n] (1 = fake), and int[n, 2], where the patches begin, row and column.
    """
    rng = np.random.default_rng(seed)
    images = rng.normal(128, 20, (count, 32, 32, 3)).clip(0, 255).astype(np.uint8)
    labels = (np.arange(count) % 2).astype(np.int32)
    places = rng.integers(0, 32 - PATCH + 1, (count, 2))
    row, column = np.indices((PATCH, PATCH))
    for image, label, (top, left) in zip(images, labels, places, strict=True):
        pattern = (row // 2 + column // 2 if label else row // 2) % 2
        image[top : top + PATCH, left : left + PATCH] = np.where(pattern, 200, 56)[..., None]
    return images, labels, places


@functools.cache
def trained(model: nn.Module, steps: int = 200) -> dict[str, Any]:
    """Variables that distinguish the two patches of `planted`."""
    images, labels, _ = planted(2048, seed=1)
    variables = random_variables(model, 32)
    tx = optax.adam(3e-3)

    def loss(params: Any, stats: Any, images: Any, labels: Any):
        x = normalize(images, IMAGENET_MEAN, IMAGENET_STD)
        logits, state = model.apply(
            {'params': params, 'batch_stats': stats}, x, train=True, mutable=['batch_stats']
        )  # fmt: skip
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean(), state.get('batch_stats', stats)

    @jax.jit
    def step(params: Any, stats: Any, state: Any, images: Any, labels: Any):
        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params, stats, images, labels)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), stats, state, value

    params, stats = variables['params'], variables['batch_stats']
    state, value = tx.init(params), None
    for number in range(steps):
        rows = np.random.default_rng(number).integers(0, len(images), 64)
        params, stats, state, value = step(params, stats, state, images[rows], labels[rows])
    assert value is not None and value < 0.1, value
    return jax.device_get({'params': params, 'batch_stats': stats})
