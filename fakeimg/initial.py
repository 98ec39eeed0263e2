"""The weights that a run starts from: random ones, converted ones of ImageNet, or those of another detector of ours."""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import flax.linen as nn
import flax.traverse_util
import jax

from fakeimg import config as config_lib
from fakeimg import loading, portable
from fakeimg.config import Config, Init, from_plain, override
from fakeimg.errors import UserError
from fakeimg.meta import Meta
from fakeimg.models import init_variables
from fakeimg.networks import NETWORKS
from fakeimg.pretrained import imagenet, weights_file

# Options that change how a network is trained and leave its parameters what they are.
_OF_TRAINING = ('dropout', 'sync_batch_norm', 'freeze_batch_norm')
Found = TypeVar('Found')


def complete(config: Config) -> Config:
    """A checked copy in which every field has its value; mean and std are those that the initial weights expect.

    Where these are another detector's, `init.weights` becomes its checkpoint, or file, and `init.digest` says what it
    holds: the best checkpoint of a run may be another one tomorrow.

    Raises:
        UserError: a field whose value cannot work anywhere, weights that are not there, or another network's.
    """
    config.check()
    init, data = config.init, config.data
    is_known = data.mean and data.std and (init.digest or not is_detector(init.weights))
    if is_known:  # those of a run that goes on may be gone
        return config_lib.complete(config)
    if not is_detector(init.weights):
        path = imagenet.find_weights(config)
        return config_lib.complete(config, **({} if path is None else weights_file.read_preprocessing(path)))
    source, step = _place(init.weights)
    path, step, meta = _naming_the_field(lambda: loading.identify(source, step))
    there = from_plain(meta.config)
    _check_network(config, there)
    changed = override(config, {'init.weights': _lasting(init.weights, path, step), 'init.digest': _digest(meta)})
    _check_digest(init, changed.init.digest)
    return config_lib.complete(changed, there.data.mean, there.data.std)


def create(config: Config, model: nn.Module) -> tuple[dict[str, Any], str]:
    """Returns `params` and `batch_stats` of step 0, and where they come from in words; '' for random ones.

    ImageNet's classes are not ours, so the head starts at random there. A detector of ours already tells real from
    fake, so its head is kept, unless the run has another kind of head (`model.head`), which then starts at random.
    With a head that is kept, `finetune.head_epochs` no longer protects the other stages from random gradients; it
    only fits the head to the new images first.

    Args:
        config: as `complete` returned it.
        model: its network.

    Raises:
        UserError: no such weights, or they do not fit.
    """
    variables, weights = init_variables(model, config.data.image_size, config.seed), config.init.weights
    if is_detector(weights):
        return _of_detector(config, variables)
    path = imagenet.find_weights(config)
    if config.init.digest:
        raise UserError(
            f'config.init.digest identifies a detector, and config.init.weights={weights} names none; leave it out.'
        )
    return (variables, '') if path is None else (imagenet.load_weights(path, variables, config), str(path))


def is_detector(weights: str) -> bool:
    """Whether a value of `config.init.weights` names a detector of ours; a path that exists comes before a name."""
    if weights in ('none', 'imagenet', 'auto'):
        return False
    path = pathlib.Path(weights).expanduser()
    if path.exists():
        return path.is_dir() or portable.is_weights(path)
    return weights.startswith(loading.HUB) or weights in portable.names()


def fields_of(weights: str) -> dict[str, Any]:
    """The fields that a recipe needs to start from a detector of ours: its network, and the size of its images.

    Raises:
        UserError: there is no such detector.
    """
    meta = _naming_the_field(lambda: loading.identify(*_place(weights)))[2]
    there = from_plain(meta.config)
    options = {option: value for option, value in there.model.options().items() if option not in _OF_TRAINING}
    network = {f'model.{option}': value for option, value in {'name': there.model.name, **options}.items()}
    return {**network, 'data.image_size': there.data.image_size, 'data.resize_size': there.data.resize_size}


def run_of(init: Init) -> pathlib.Path | None:
    """The run folder whose checkpoint the completed fields name; None for weights of anything else."""
    source, step = _place(init.weights)
    return None if step == 'best' else pathlib.Path(source)


def continued(init: Init, before: Init) -> dict[str, Any]:
    """The fields of `init` as the run has them that it continues, if they name the same detector; else none."""
    given = {init.weights, os.path.abspath(os.path.expanduser(init.weights))}
    if not before.digest or not given & {before.weights, _place(before.weights)[0]}:
        return {}
    return {'init.weights': before.weights, 'init.digest': init.digest or before.digest}


def _of_detector(config: Config, variables: dict[str, Any]) -> tuple[dict[str, Any], str]:
    source, step = _place(config.init.weights)
    network = _naming_the_field(lambda: loading.read(source, step, 0))
    there = network.config
    _check_network(config, there)
    _check_digest(config.init, _digest(network.meta))
    preprocessing = {'mean': there.data.mean, 'std': there.data.std}
    imagenet.check_preprocessing(preprocessing, config, network.origin)
    has_same_head = config.model.head == there.model.head
    fresh: dict[str, Any] = flax.traverse_util.flatten_dict(variables, sep='/')  # pyright: ignore
    found: dict[str, Any] = flax.traverse_util.flatten_dict(jax.device_get(network.variables), sep='/')
    taken = {name: value for name, value in found.items() if has_same_head or '/head/' not in name}
    other = [name for name, value in taken.items() if name not in fresh or fresh[name].shape != value.shape]
    if other:
        size = there.data.image_size
        raise UserError(
            f'config.init.weights is {config.init.weights}, for images of {size} px, whose size its {other[0]} depends '
            f'on, and this run has {config.data.image_size} px; set config.data.image_size={size}.',
            add=[('config.data.image_size', str(size))],
        )
    # A network without BatchNorm has empty `batch_stats`, which flattening loses.
    started = {**variables, **flax.traverse_util.unflatten_dict(fresh | taken, sep='/')}
    return started, network.origin if has_same_head else f'{network.origin}, with a new head'


def _place(weights: str) -> tuple[str, str | int]:
    """What `loading` calls a detector, and the step: the best one, or that of `RUN/checkpoints/STEP`."""
    path = pathlib.Path(weights).expanduser()
    if path.parent.name == 'checkpoints' and path.name.isdecimal():
        return str(path.parent.parent), int(path.name)
    return weights, 'best'


def _lasting(weights: str, path: pathlib.Path, step: int) -> str:
    """The same detector, whatever the working directory and the checkpoints that come."""
    if path.is_dir():
        return str(path.absolute() / 'checkpoints' / str(step))
    return os.path.abspath(os.path.expanduser(weights)) if os.path.exists(os.path.expanduser(weights)) else weights


def _digest(meta: Meta) -> str:
    """That of the detector, `detector.Detector.digest`, from what its checkpoint says of its leaves."""
    parts = ('ema/',) if any(name.startswith('ema/') for name in meta.checksums) else ('params/', 'batch_stats/')
    sums = {name.removeprefix('ema/'): value for name, value in meta.checksums.items() if name.startswith(parts)}
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()


def _check_digest(init: Init, found: str) -> None:
    if init.digest not in ('', found):
        raise UserError(
            f'config.init.weights is {init.weights}, which no longer holds the weights of config.init.digest '
            f'({init.digest[:12]}, now {found[:12]}); give the path of those, or leave config.init.digest out to take '
            'these.'
        )


def _check_network(config: Config, there: Config) -> None:
    """Raises UserError, with what to set, unless both networks have the same parameters for the same images."""
    name, weights = there.model.name, config.init.weights
    wanted = {'name': name, **_naming_the_field(there.model.options)}
    ours = {**NETWORKS[name], 'name': config.model.name, **config.model.options()}
    other = [option for option in wanted if option not in _OF_TRAINING and wanted[option] != ours[option]]
    if other:
        listed = ', '.join(f'{option}: {wanted[option]} there, {ours[option]} here' for option in other)
        fields = [(f'config.model.{option}', str(wanted[option])) for option in other]
        raise UserError(
            f'config.init.weights is {weights}, whose network is another one ({listed}); set '
            f'{" and ".join(f"{field}={value}" for field, value in fields)}.',
            add=fields,
        )


def _naming_the_field(find: Callable[[], Found]) -> Found:
    """What `find` returns; its refusals name the field."""
    try:
        return find()
    except UserError as error:
        raise UserError(f'config.init.weights: {error}') from error
