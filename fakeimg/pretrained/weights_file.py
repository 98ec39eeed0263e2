"""The file of converted weights: our names and layouts in safetensors, and a header that says what they are."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.traverse_util
import numpy as np
import safetensors
import safetensors.numpy

from fakeimg import files
from fakeimg.errors import UserError
from fakeimg.pretrained.naming import listed

LAYOUT = 'NHWC RGB in [0, 1]'


@dataclasses.dataclass(frozen=True)
class Header:
    """The file's metadata.

    Attributes:
        model: whose weights they are, a name in `models.MODELS`.
        source: the file, or the name on the Hugging Face Hub, they were converted from.
        source_sha256: of that file.
        classes: of the classifier that was left out; None if there was none.
        mean, std: of RGB in [0, 1]; the network takes images normalised with them.
        prefix: that the source's names had and that was left out.
    """

    model: str
    source: str
    source_sha256: str
    classes: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    prefix: str = ''


def write(path: pathlib.Path, flat: Mapping[str, np.ndarray], header: Header) -> None:
    """Writes the file atomically; several processes may write the same one."""
    preprocessing = {'mean': list(header.mean), 'std': list(header.std), 'layout': LAYOUT}
    metadata = {
        'model': header.model,
        'source': header.source,
        'source_sha256': header.source_sha256,
        'classes': str(header.classes or ''),
        'prefix': header.prefix,
        'preprocessing': json.dumps(preprocessing),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(value) for name, value in flat.items()}
    with files.replacing(path, 'wb') as file:
        safetensors.numpy.save_file(contiguous, file.name, metadata)  # streams, where `save` would copy


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the tensors.

    Raises:
        UserError: not a safetensors file, or not one of ours.
    """
    with opened(path) as file:
        flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    if not any(name.startswith('params/') for name in flat):
        raise UserError(f'{path} is not a file of converted weights; convert it first with "fakeimg convert".')
    return flat


def read_preprocessing(path: pathlib.Path) -> dict[str, tuple[float, ...]]:
    """Reads the `mean` and `std` that the network expects; of a file that does not say, an empty dict.

    Raises:
        UserError: not a safetensors file.
    """
    with opened(path) as file:
        values = json.loads((file.metadata() or {}).get('preprocessing', '{}'))
    return {name: tuple(values[name]) for name in ('mean', 'std') if values.get(name)}


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[Any]:
    """Opens a safetensors file for NumPy. Raises UserError where it is none, or cut short."""
    try:
        with safetensors.safe_open(path, 'numpy') as file:
            yield file
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise UserError(f'{path} is not a readable safetensors file ({error}); get it again.') from error


def check_fit(flat: Mapping[str, np.ndarray], variables: Mapping[str, Any], source: str) -> None:
    """Raises UserError unless `flat` is all of `variables` but the head, in finite float32, and nothing else.

    Args:
        flat: `params/stage1_block1/conv1/kernel` and so on.
        variables: the model's `params` and `batch_stats`, or their shapes.
        source: where `flat` comes from, for the message.
    """
    leaves: dict[str, Any] = flax.traverse_util.flatten_dict(dict(variables), sep='/')  # pyright: ignore
    wanted = {name: leaf.shape for name, leaf in leaves.items() if '/head/' not in name}
    missing = {name: wanted[name] for name in sorted(wanted.keys() - flat.keys())}
    extra = {name: flat[name].shape for name in sorted(flat.keys() - wanted.keys())}
    if missing or extra:
        parts = [f'{len(missing)} tensors missing: {listed(missing)}' if missing else '']
        parts += [f'{len(extra)} unknown: {listed(extra)}' if extra else '']
        raise UserError(f'{source} does not fit this model: {"; ".join(filter(None, parts))}.')
    wrong = [name for name, shape in wanted.items() if flat[name].shape != shape]
    if wrong:
        pairs = [
            f'{name} has shape {list(flat[name].shape)}, the model needs {list(wanted[name])}' for name in wrong[:3]
        ]
        more = f'; {len(wrong) - 3} more' if len(wrong) > 3 else ''
        raise UserError(f'{source} does not fit this model: {"; ".join(pairs)}{more}.')
    for name, value in flat.items():
        if value.dtype != np.float32:
            raise UserError(f'{source} does not fit this model: {name} is {value.dtype}, the model needs float32.')
        if not np.isfinite(value).all():
            raise UserError(
                f'{source} is damaged: {name} {list(value.shape)} holds {np.count_nonzero(~np.isfinite(value))} values '
                'that are not finite; download the file again.'
            )
