"""The frozen network of a probe: from a recipe with its initial weights, or from a checkpoint of a run."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from fakeimg import config as config_lib
from fakeimg import scoring
from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config
from fakeimg.errors import UserError
from fakeimg.evaluation import evaluator
from fakeimg.models import create_model, init_variables
from fakeimg.pretrained import initial
from fakeimg.runtime import parallel, precision


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network whose weights stay as they are, on the devices.

    Attributes:
        config: the recipe's, or the one that the run was trained with.
        weights: where they come from, in words.
        sha256: of all weights but the head's.
        trained_on: digest of the data set that a run trained them on; None for initial weights.
        notes: sentences that a person should read.
        devices: where to compute.
        dtype: of activations.
        variables: replicated `params` and `batch_stats`.
        extract: `(variables, batch) -> (features [B, F], weights [B])` over all devices.
    """

    config: Config
    weights: str
    sha256: str
    trained_on: str | None
    notes: list[str]
    devices: parallel.Devices
    dtype: jnp.dtype
    variables: dict[str, Any]
    extract: Callable[..., Any]


def from_recipe(config: Config) -> Backbone:
    """Builds the network of a checked configuration with the weights that a training would start from.

    Raises:
        UserError: no such model or weights, or a batch size that the devices do not divide.
    """
    devices = parallel.Devices.create(config.parallel, config.batch_size)
    model = create_model(config)
    path = initial.find_weights(config)
    variables = init_variables(model, config.data.image_size, config.seed)
    notes = []
    if path is None:
        weights = f'random weights, seed {config.seed}'
        notes.append(
            f'RANDOM WEIGHTS (config.init.weights={config.init.weights}): these are features of a network that has '
            'learned nothing'
        )
    else:
        weights = f'weights {path}'
        variables = initial.load_weights(path, variables, config)
    variables = devices.replicate(variables)
    return _build(config, devices, variables, weights, None, notes)


def from_checkpoint(workdir: pathlib.Path, step: str, batch_size: int = 0) -> Backbone:
    """Reads the network of a run.

    Args:
        workdir: the run folder.
        step: `best` (validation AUC), `latest`, or a number.
        batch_size: images per step over all devices; 0 takes the run's.

    Raises:
        UserError: no such run or checkpoint, or a batch size that the devices do not divide.
    """
    if batch_size < 0:
        raise UserError(f'--batch_size is {batch_size}; it must be 0 (as in training) or more.')
    checkpoints = Checkpoints(workdir / 'checkpoints', read_only=True)
    try:
        wanted = evaluator.resolve_step(checkpoints, step)
        config = config_lib.from_plain(checkpoints.read_meta(wanted)['config'])
        config.batch_size = batch_size or config.batch_size
        devices = parallel.Devices.create(config.parallel, config.batch_size)
        model = create_model(config)
        shapes = jax.eval_shape(lambda: init_variables(model, config.data.image_size, 0))
        restored = checkpoints.restore_variables(devices.abstract(shapes), wanted)
    finally:
        checkpoints.close()
    weights = f'checkpoint {restored.step} of {workdir}'
    return _build(config, devices, restored.state, weights, restored.meta['data_digest'], restored.notes)


def _build(
    config: Config,
    devices: parallel.Devices,
    variables: dict[str, Any],
    weights: str,
    trained_on: str | None,
    notes: list[str],
) -> Backbone:
    dtype = precision.resolve(config.precision)
    step = scoring.make_predict_step(create_model(config, dtype), config, dtype, features=True)
    return Backbone(
        config=config,
        weights=weights,
        sha256=weights_digest(variables),
        trained_on=trained_on,
        notes=notes,
        devices=devices,
        dtype=dtype,
        variables=variables,
        extract=devices.map(step),
    )


def weights_digest(variables: dict[str, Any]) -> str:
    """A SHA-256 over names and values; without the head, of which features know nothing."""
    state = hashlib.sha256()
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(dict(variables), sep='/')  # pyright: ignore
    for name in sorted(flat):
        if '/head/' not in name:
            value = np.ascontiguousarray(jax.device_get(flat[name]))
            state.update(f'{name} {value.dtype} {value.shape}\n'.encode())
            state.update(value.data)
    return state.hexdigest()
