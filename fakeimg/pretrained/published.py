"""Reads published weights without running code that they contain: safetensors, torch's .pth, Keras' .h5."""

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

# Where training scripts keep the weights, beside epochs and the optimizer's state; the first that is there counts.
_WRAPPERS = ('state_dict', 'model_state_dict', 'model', 'net', 'network', 'weights')


@dataclasses.dataclass(frozen=True)
class Published:
    """A file of weights.

    Attributes:
        name: as the user wrote it.
        path: the file, after a download if necessary.
        sha256: of the file, hexadecimal.
        tensors: by the publisher's names.
        mean, std: of RGB in [0, 1] if the publisher states them.
    """

    name: str
    path: pathlib.Path
    sha256: str
    tensors: dict[str, np.ndarray]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def read_published(name: str) -> Published:
    """Reads a local file, or a model on the Hugging Face Hub (`OWNER/NAME` or `OWNER/NAME@REVISION`).

    Raises:
        UserError: it does not exist or is unreadable; the message says what to do.
    """
    path, mean, std = pathlib.Path(name).expanduser(), None, None
    if not path.exists() and hub.is_name(name):
        path, mean, std = hub.download(name)
    if not path.is_file():
        raise UserError(
            f'{name} does not exist; give a file of weights or the name of a model on the Hugging Face Hub '
            '(OWNER/NAME).'
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


def _import(module: str, path: pathlib.Path, instead: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(
            f'reading {path.name} needs {module}, which is not installed; install it, or take the same weights as '
            f'safetensors from the Hugging Face Hub: {instead}.'
        ) from None


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    torch = _import('torch', path, 'timm/resnet50.tv2_in1k and others are those of torchvision')
    try:
        with warnings.catch_warnings(action='ignore'):  # of odd pickle protocols, about which the user can do nothing
            state = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler and the zip reader raise anything
        reason = str(error).strip().splitlines()[0].rstrip('.') if str(error).strip() else type(error).__name__
        raise UserError(
            f'{path} is not a state dict that can be read without running code from the file ({reason}); take a newer '
            'file or a safetensors one.'
        ) from error
    state = _innermost(state)
    if state is None:
        raise UserError(f'{path} is not a state dict: it does not map names to tensors.')
    # numpy has no bfloat16; other tensors stay unchanged, and `naming.rename` refuses them by name.
    return {name: (value.float() if value.is_floating_point() else value).numpy() for name, value in state.items()}


def _innermost(state: Any) -> Mapping[str, Any] | None:
    """The names and tensors in what `torch.load` gave: itself, or what a training script wrapped them in."""
    if not isinstance(state, Mapping):
        return None
    if state and all(isinstance(name, str) and hasattr(value, 'numpy') for name, value in state.items()):
        return state
    known = [state[name] for name in _WRAPPERS if name in state]
    found = [inner for value in (known or state.values()) if (inner := _innermost(value)) is not None]
    return found[0] if found and (known or len(found) == 1) else None


def _read_keras(path: pathlib.Path) -> dict[str, np.ndarray]:
    h5py = _import('h5py', path, 'timm/vgg19.tv_in1k')
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
