"""ImageNet weights for Flax: torch's names and layouts to ours, one safetensors file in between."""

import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import numpy as np
import safetensors
import safetensors.numpy

from fakeimg.config import Config
from fakeimg.errors import UserError

PREPROCESSING = {'mean': [0.485, 0.456, 0.406], 'std': [0.229, 0.224, 0.225], 'layout': 'NHWC RGB in [0, 1]'}
CONVERTIBLE = ('resnet50',)
_NORM = {
    'weight': ('params', 'scale'),
    'bias': ('params', 'bias'),
    'running_mean': ('batch_stats', 'mean'),
    'running_var': ('batch_stats', 'var'),
}


def convert_resnet(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames and transposes a torchvision (or timm) ResNet state dict.

    Args:
        tensors: `layer1.0.conv1.weight` and so on; kernels are OIHW.

    Returns:
        `params/stage1_block1/conv1/kernel` and so on; kernels are HWIO. The classifier is left out.

    Raises:
        UserError: a name that no ResNet has.
    """
    flat = {}
    for name, value in tensors.items():
        if name.startswith('fc.') or name.endswith('num_batches_tracked'):
            continue
        match = re.fullmatch(r'(?:layer(\d)\.(\d+)\.)?(?:(conv|bn)(\d)|downsample\.(0|1))\.(\w+)', name)
        if not match:
            raise UserError(f'tensor {name!r} does not belong to a ResNet as torchvision names it.')
        stage, block, kind, number, downsample, leaf = match.groups()
        is_norm = kind == 'bn' or downsample == '1'
        if stage is None:
            module = 'stem_bn' if is_norm else 'stem_conv'
        else:
            part = f'{kind}{number}' if kind else ('downsample_bn' if is_norm else 'downsample_conv')
            module = f'stage{stage}_block{int(block) + 1}/{part}'
        if is_norm and leaf in _NORM:
            collection, leaf = _NORM[leaf]
            flat[f'{collection}/{module}/{leaf}'] = np.asarray(value, np.float32)
        elif not is_norm and leaf == 'weight':
            flat[f'params/{module}/kernel'] = np.asarray(value, np.float32).transpose(2, 3, 1, 0)
        else:
            raise UserError(f'tensor {name!r} does not belong to a ResNet as torchvision names it.')
    return flat


def save_weights(path: pathlib.Path, flat: Mapping[str, np.ndarray], model: str, source_sha256: str) -> None:
    """Writes converted weights; the header says what they are and where they came from."""
    header = {'model': model, 'source_sha256': source_sha256, 'preprocessing': json.dumps(PREPROCESSING)}
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(value) for name, value in flat.items()}
    partial = path.with_name(path.name + '.partial')
    safetensors.numpy.save_file(contiguous, partial, metadata=header)
    os.replace(partial, path)


def load_weights(path: pathlib.Path, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `variables` with everything but the head taken from a converted file.

    Args:
        path: a file that `convert_weights` wrote.
        variables: `params` and `batch_stats` as the model initialised them.

    Raises:
        UserError: not such a file, or a tensor that is missing, extra, or of another shape.
    """
    try:
        loaded = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f'{path} is not a readable safetensors file ({error}).') from error
    check_weights(loaded, variables, path)
    flat = flax.traverse_util.flatten_dict(dict(variables), sep='/')
    return flax.traverse_util.unflatten_dict(flat | loaded, sep='/')


def check_weights(flat: Mapping[str, np.ndarray], variables: Mapping[str, Any], path: pathlib.Path) -> None:
    """Raises UserError unless `flat` holds every tensor of `variables` but the head's, and nothing else.

    Args:
        flat: `params/stage1_block1/conv1/kernel` and so on.
        variables: the model's `params` and `batch_stats`, or their shapes.
        path: the file they came from, for the message.
    """
    shapes: dict[str, Any] = flax.traverse_util.flatten_dict(dict(variables), sep='/')  # pyright: ignore
    wanted = {name: leaf.shape for name, leaf in shapes.items() if '/head/' not in name}
    missing, extra = sorted(wanted.keys() - flat.keys()), sorted(flat.keys() - wanted.keys())
    if missing or extra:
        raise UserError(
            f'{path} does not fit this model: {len(missing)} tensors missing{_first(missing)}, '
            f'{len(extra)} unknown{_first(extra)}.'
        )
    for name, shape in wanted.items():
        if flat[name].shape != shape:
            raise UserError(
                f'{path} does not fit this model: {name} has shape {flat[name].shape}, the model wants {shape}.'
            )


def _first(names: list[str]) -> str:
    return f' (first: {names[0]})' if names else ''


def find_weights(config: Config) -> pathlib.Path | None:
    """Resolves `config.init.weights` to a file, or None for a start from scratch.

    `imagenet` and `auto` look for NAME.safetensors in ./weights, then in the cache folder
    ($XDG_CACHE_HOME or ~/.cache)/fakeimg. With the demo faces, `auto` is content with nothing.

    Raises:
        UserError: the weights that were asked for are not there; the message says how to get them.
    """
    weights, name = config.init.weights, config.model.name
    if weights == 'none':
        return None
    if weights not in ('imagenet', 'auto'):
        path = pathlib.Path(weights).expanduser()
        if not path.is_file():
            raise UserError(f'config.init.weights: there is no file {weights} (nor is it one of imagenet, none, auto).')
        return path
    cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'fakeimg'
    for folder in (pathlib.Path('weights'), cache):
        if (path := folder / f'{name}.safetensors').is_file():
            return path
    if weights == 'auto' and not config.data.path:
        return None
    if name not in CONVERTIBLE:
        raise UserError(f'there are no ImageNet weights for {name}; set --config.init.weights=none.')
    raise UserError(
        f"no ImageNet weights for {name} at hand (looked in weights/ and {cache}); convert torchvision's file with "
        f'"python -m fakeimg.convert_weights {name} --source resnet50-11ad3fa6.pth --out weights/{name}.safetensors", '
        'or start from scratch with --config.init.weights=none.'
    )
