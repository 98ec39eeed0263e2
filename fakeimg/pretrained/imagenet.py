"""Finds the ImageNet weights that a run starts from, and loads them into the model."""

import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.traverse_util
import numpy as np

from fakeimg import files
from fakeimg.config import DEMO, Config
from fakeimg.errors import UserError
from fakeimg.pretrained import convert, hub, weights_file


def load_weights(path: pathlib.Path, variables: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Returns `variables` with everything but the head taken from a converted file.

    Args:
        path: a file that `convert.convert` wrote.
        variables: `params` and `batch_stats` as the model initialised them.
        config: whose `data.mean` and `data.std` must be those that the weights were trained with.

    Raises:
        UserError: not such a file, a tensor that is missing, extra, or of another shape, or other preprocessing.
    """
    loaded = weights_file.read(path)
    weights_file.check_fit(loaded, variables, str(path))
    check_preprocessing(weights_file.read_preprocessing(path), config, f'weights {path}')
    flat = flax.traverse_util.flatten_dict(dict(variables), sep='/')
    # A network without BatchNorm has empty `batch_stats`, which flattening loses.
    return {**variables, **flax.traverse_util.unflatten_dict(flat | loaded, sep='/')}


def check_preprocessing(expected: Mapping[str, Sequence[float]], config: Config, weights: str) -> None:
    """Raises UserError unless `config.data` has the mean and std that `weights`, in words, expect."""
    for name, numbers in expected.items():
        if not np.allclose(numbers, value := getattr(config.data, name), rtol=0, atol=1e-4):
            text = ','.join(f'{number:.6g}' for number in numbers)
            raise UserError(
                f'{weights} expects images normalised with a {name} of ({text}), but config.data.{name} is {value}; '
                'leave it out.'
            )


def find_weights(config: Config) -> pathlib.Path | None:
    """Resolves `config.init.weights` to a file, or None for a start from scratch.

    `imagenet` and `auto` look for NAME.safetensors in ./weights, then in the cache folder
    ($XDG_CACHE_HOME or ~/.cache)/fakeimg, then on the Hugging Face Hub. Converted downloads stay in the cache folder.
    With the demo faces, `auto` downloads nothing.

    Raises:
        UserError: the weights do not exist; the message says how to get them.
    """
    weights, name = config.init.weights, config.model.name
    if weights == 'none':
        return None
    if weights not in ('imagenet', 'auto'):
        path = pathlib.Path(weights).expanduser()
        if path.is_file():
            return path
        if not hub.is_name(weights) or name not in convert.CONVERTIBLE:
            raise UserError(
                f'config.init.weights is {weights}, which does not exist; set it to a file, a run folder, a detector, '
                'the name of a model on the Hugging Face Hub (OWNER/NAME), imagenet, none or auto.'
            )
        try:
            return _from_hub(name, weights)
        except UserError as error:
            raise UserError(f'config.init.weights is {weights}, which is no path here, and {error}') from error
    demo = weights == 'auto' and config.data.path in ('', DEMO)
    if name not in convert.CONVERTIBLE or (name.startswith('resnet') and config.model.small_stem):
        if demo:
            return None
        kind = f'{name} with a small stem' if name in convert.CONVERTIBLE else name
        raise UserError(f'there are no ImageNet weights for {kind}; set config.init.weights=none.')
    cache = files.cache_folder()
    for folder in (pathlib.Path('weights'), cache):
        if (path := folder / f'{name}.safetensors').is_file():
            return path
    if demo:
        return None
    try:
        return _from_hub(name, hub.DEFAULTS[name])
    except UserError as error:
        raise UserError(
            f'there are no ImageNet weights for {name} in weights/ or {cache}, and {str(error).split("; ")[0]}; '
            'convert a file of torchvision or timm with "fakeimg convert", or set config.init.weights=none to start '
            'from scratch.'
        ) from error


def _from_hub(model: str, name: str) -> pathlib.Path:
    """The converted file of a model on the Hub, from the cache folder if it is there."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]  # names that differ only in / and -
    path = files.cache_folder() / f'{model}-{name.replace("/", "-").replace("@", "-")}-{digest}.safetensors'
    if not path.is_file():
        convert.convert(model, name, path)
    return path
