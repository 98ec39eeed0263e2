"""Our networks on the weights of `torch_networks`, and how far two sets of arrays are apart."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from fakeimg.models.resnet import ResNet
from fakeimg.models.vgg import VGG19
from fakeimg.pretrained import naming
from tests.support.torch_networks import BASIC, STAGES, WIDTHS, Arrays


def our_network(name: str, dtype: str = 'float32') -> nn.Module:
    """Without dropout, so that a training step can be compared."""
    width, activations = WIDTHS.get(name, 64), jnp.dtype(dtype)
    if 'vgg' in name:
        dense = 16 if name in WIDTHS else 4096
        return VGG19(width, dense, batch_norm=name.endswith('_bn'), dropout=0.0, dtype=activations)
    return ResNet(STAGES[name], width, bottleneck=name not in BASIC, dtype=activations)


def to_ours(name: str, state: Mapping[str, np.ndarray]) -> Arrays:
    """Torchvision's names and layouts to ours by the conversion under test, and the classifier as our head."""
    family = ('vgg19_bn' if name.endswith('_bn') else 'vgg19') if 'vgg' in name else 'resnet50'
    flat = naming.rename(family, state, name).flat
    head = 'classifier.6' if 'vgg' in name else 'fc'
    if f'{head}.weight' in state:
        flat['params/head/kernel'], flat['params/head/bias'] = state[f'{head}.weight'].T, state[f'{head}.bias']
    return flat


def unflatten(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {'batch_stats': {}} | flax.traverse_util.unflatten_dict(dict(flat), sep='/')


def evaluate(model: nn.Module, variables: dict[str, Any], images: np.ndarray) -> tuple[np.ndarray, Arrays]:
    """Logits [B], and the activations of every named layer and `features`."""

    def forward(variables: dict[str, Any], images: jax.Array):
        logits, state = model.apply(
            variables, images, train=False, capture_intermediates=True, mutable=['intermediates']
        )
        features = model.apply(variables, images, method='features')
        # Beside the layers there are arrays: the network's own output and its last maps.
        parts = {name: part for name, part in state['intermediates'].items() if isinstance(part, Mapping)}
        layers = {name: part['__call__'][0] for name, part in parts.items()}
        return logits, layers | {'features': features}

    return run_once(forward, variables, images)


def train_step(
    model: nn.Module, variables: dict[str, Any], images: np.ndarray, labels: np.ndarray
) -> tuple[float, Arrays, Arrays]:
    """One step without an optimizer: the loss, its gradients and the new batch statistics, by our flat names.

    In float64: in float32 one ReLU or maximum that falls to the other side changes gradients by some percent, in torch
    as much as here.
    """

    def loss_fn(params: Any, batch_stats: Any, images: jax.Array):
        variables = {'params': params, 'batch_stats': batch_stats}
        logits, updates = model.apply(variables, images, train=True, mutable=['batch_stats'])
        return optax.sigmoid_binary_cross_entropy(logits, labels.astype(np.float64)).mean(), updates

    step = jax.value_and_grad(loss_fn, has_aux=True)
    with jax.enable_x64(True):
        double = jax.tree.map(lambda x: np.asarray(x, np.float64), (variables, images))
        (loss, updates), gradients = run_once(step, double[0]['params'], double[0]['batch_stats'], double[1])
    return float(loss), flatten({'params': gradients}), flatten(updates)


def run_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """Compiles for the shortest compilation, but for convolutions of float64, which would run for minutes."""
    options: Any = {'xla_backend_optimization_level': 1}
    compiled = jax.jit(function).lower(*arguments).compile(options)
    return jax.device_get(compiled(*arguments))


def flatten(tree: Any) -> Arrays:
    return {name: np.asarray(leaf) for name, leaf in flax.traverse_util.flatten_dict(tree, sep='/').items()}


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def fingerprint(name: str, array: np.ndarray) -> np.ndarray:
    """Four numbers that stand for an array: its root mean square, and three random projections in its units."""
    flat = np.asarray(array, np.float64).ravel()
    directions = np.random.default_rng(zlib.crc32(name.encode())).standard_normal((3, flat.size))
    return np.array([np.sqrt((flat**2).mean()), *(directions @ flat / np.sqrt(flat.size))])


def inputs(size: int, batch: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Normalised images [batch, size, size, 3] and labels [batch]."""
    images = np.random.default_rng(size).standard_normal((batch, size, size, 3), np.float32)
    return images, np.arange(batch) % 2
