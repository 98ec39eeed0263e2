"""Reads published weights without running anything that stands in them: safetensors, torch's .pth, Keras' .h5."""

import dataclasses
import hashlib
import importlib
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from fakeimg.errors import UserError
from fakeimg.pretrained import hub


@dataclasses.dataclass(frozen=True)
class Published:
    """A file of weights.

    Attributes:
        name: as the user wrote it.
        path: the file, downloaded if need be.
        sha256: of the file, hexadecimal.
        tensors: by the publisher's names.
        mean, std: of RGB in [0, 1] as the publisher states them, if he does.
    """

    name: str
    path: pathlib.Path
    sha256: str
    tensors: dict[str, np.ndarray]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def read_published(name: str) -> Published:
    """Reads a local file, or a model on the Hugging Face hub (`OWNER/NAME` or `OWNER/NAME@REVISION`).

    Raises:
        UserError: not there, or not readable; the message says what to do.
    """
    path, mean, std = pathlib.Path(name).expanduser(), None, None
    if not path.exists() and hub.is_name(name):
        path, mean, std = hub.download(name)
    if not path.is_file():
        raise UserError(
            f'there is no file {name} to convert, nor can it be the name of a model on the hub (OWNER/NAME).'
        )
    readers = {'.safetensors': _read_safetensors, '.h5': _read_keras, '.hdf5': _read_keras}
    tensors = readers.get(path.suffix, _read_torch)(path)
    with open(path, 'rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
    return Published(name, path, digest, tensors, mean, std)


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise UserError(f'{path} is not a readable safetensors file ({error}).') from error
    except TypeError as error:  # bfloat16, which numpy does not have
        raise UserError(f'{path} holds numbers that numpy cannot read ({error}); take the float32 file.') from error


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        torch = importlib.import_module('torch')
    except ImportError:
        raise UserError(
            f'reading {path.name} needs torch, which is not installed; install it, or take the same weights as '
            'safetensors from the hub, where timm/resnet50.tv2_in1k is that of torchvision (--source OWNER/NAME).'
        ) from None
    try:
        with warnings.catch_warnings(action='ignore'):  # of odd pickle protocols, as if one could do something
            state = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler and the zip reader raise anything
        reason = str(error).strip().splitlines()[0].rstrip('.') if str(error).strip() else type(error).__name__
        raise UserError(
            f'{path} is not a state dict that can be read without running code that stands in it ({reason}); take '
            'a newer file or a safetensors one.'
        ) from error
    for wrapper in ('state_dict', 'model'):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(hasattr(value, 'numpy') for value in state.values()):
        raise UserError(f'{path} is not a state dict: it does not map names to tensors.')
    # numpy has no bfloat16; what is no float is left as it is, for whoever names the tensors to refuse.
    return {name: (value.float() if value.is_floating_point() else value).numpy() for name, value in state.items()}


def _read_keras(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        h5py = importlib.import_module('h5py')
    except ImportError:
        raise UserError(
            f'reading {path.name} needs h5py, which is not installed; install it, or take the same network as '
            'safetensors from the hub (--source timm/vgg19.tv_in1k).'
        ) from None
    tensors: dict[str, np.ndarray] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith('optimizer_weights/'):
            tensors[name] = np.asarray(item)

    try:
        with h5py.File(path, 'r') as file:
            file.visititems(keep)
    except OSError as error:
        raise UserError(f'{path} is not a readable HDF5 file ({error}).') from error
    return tensors
