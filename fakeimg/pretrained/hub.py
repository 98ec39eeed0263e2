"""Downloads published weights from the Hugging Face hub, where huggingface_hub is installed."""

import importlib
import json
import logging
import pathlib
import re
from typing import Any

from fakeimg.errors import UserError

# ImageNet weights for each model: torchvision's own, as timm publishes them in safetensors.
DEFAULTS = {
    'resnet18': 'timm/resnet18.tv_in1k',
    'resnet34': 'timm/resnet34.tv_in1k',
    'resnet50': 'timm/resnet50.tv2_in1k',
    'resnet101': 'timm/resnet101.tv2_in1k',
    'vgg19': 'timm/vgg19.tv_in1k',
    'vgg19_bn': 'timm/vgg19_bn.tv_in1k',
}


def is_name(text: str) -> bool:
    """Whether a text can be the name of a model there: OWNER/NAME or OWNER/NAME@REVISION."""
    return bool(re.fullmatch(r'[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?', text)) and not re.search(
        r'\.(safetensors|pth|pt|h5|hdf5|bin)$', text
    )


def download(name: str) -> tuple[pathlib.Path, tuple[float, ...] | None, tuple[float, ...] | None]:
    """Brings `model.safetensors` of a model into the hub's own cache.

    Returns:
        The file, and mean and std of RGB in [0, 1] if the model states them.

    Raises:
        UserError: no huggingface_hub, no network, no such model, or no safetensors in it.
    """
    try:
        hub = importlib.import_module('huggingface_hub')
    except ImportError:
        raise UserError(
            f'getting {name} from the hub needs huggingface_hub, which is not installed; pip install huggingface_hub, '
            'or download model.safetensors yourself and name the file.'
        ) from None
    logging.getLogger('huggingface_hub').setLevel(logging.ERROR)  # every retry would be a warning
    repository, _, revision = name.partition('@')

    def fetch(file: str) -> pathlib.Path:
        return pathlib.Path(hub.hf_hub_download(repository, file, revision=revision or None))

    try:
        path = fetch('model.safetensors')
    except Exception as error:  # whatever its HTTP library of the day raises
        lines = str(error).strip().splitlines()
        reason = f'{type(error).__name__}: {lines[0].strip().rstrip(".:")}' if lines else type(error).__name__
        raise UserError(
            f'model.safetensors of {name} cannot be had from the Hugging Face hub ({reason}); see whether the name is '
            'right and the network there, or download the file elsewhere and name it.'
        ) from error
    for file in ('config.json', 'preprocessor_config.json'):
        try:
            stated: dict[str, Any] = json.loads(fetch(file).read_text())
        except Exception:  # noqa: S112  many models lack one of them
            continue
        stated = stated.get('pretrained_cfg', stated)
        mean, std = (stated.get(key) or stated.get(f'image_{key}') for key in ('mean', 'std'))
        if mean and std:
            return path, tuple(mean), tuple(std)
    return path, None, None
