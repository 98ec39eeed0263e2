"""A portable detector: a folder with weights that need no run folder, as it is published and shipped in the package.

`model.safetensors` holds the weights that a trained network is applied with, and a header that rebuilds the network.
Beside it lie what validation fixed, the evaluation on the test set, and a model card.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import numpy as np
import safetensors.numpy

from fakeimg import files, known, operating
from fakeimg.data.labels import LABELS
from fakeimg.errors import UserError
from fakeimg.leaves import check_intact, checksums, describe
from fakeimg.meta import Meta
from fakeimg.pretrained import hub, weights_file

FORMAT = 1  # raised when an older fakeimg would misread what a newer one writes
WEIGHTS, METRICS, CARD = hub.WEIGHTS, 'metrics.json', 'README.md'
BESIDE = (operating.FILE, known.FILE)  # what a run folder holds beside its checkpoints that predictions need
PACKAGED = pathlib.Path(__file__).parent / 'detectors'
_KEY = 'fakeimg_detector'  # of the header: FORMAT


@dataclasses.dataclass(frozen=True)
class Weights:
    """What `model.safetensors` holds.

    Attributes:
        variables: `params` and `batch_stats`, float32; without `batch_stats` where the network has none.
        meta: of the checkpoint that they come from; its `checksums` and `state_tree` are those of `variables`.
        step: of that checkpoint.
    """

    variables: dict[str, Any]
    meta: Meta
    step: int


def rounded(weights: Weights, dtype: str) -> Weights:
    """The weights as they come back from a file of `dtype`, `float32` or `float16`; float32 again.

    Raises:
        UserError: float16 cannot hold one of them.
    """
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(dict(weights.variables), sep='/')  # pyright: ignore
    cast = {}
    for name, value in flat.items():
        with np.errstate(over='ignore'):
            cast[name] = np.asarray(value).astype(dtype).astype(np.float32)
        if not np.isfinite(cast[name]).all():
            raise UserError(f'{name} holds values that {dtype} cannot; write the weights in float32.')
    variables = flax.traverse_util.unflatten_dict(cast, sep='/')
    meta = dataclasses.replace(weights.meta, state_tree=describe(variables), checksums=checksums(variables))
    return Weights(variables, meta, weights.step)


def write_weights(path: pathlib.Path, weights: Weights, dtype: str) -> None:
    """Writes the file.

    Args:
        path: of a file that does not exist.
        weights: as `rounded` gives them for the same `dtype`.
        dtype: `float32` or `float16`.
    """
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(weights.variables, sep='/')  # pyright: ignore
    tensors = {name: np.ascontiguousarray(value, dtype) for name, value in flat.items()}
    header = {
        _KEY: FORMAT,
        **weights.meta.to_json(),
        'step': weights.step,
        'model': weights.meta.config['model']['name'],
    }
    with files.replacing(path, 'wb') as file:
        text = {name: json.dumps(value) for name, value in header.items()}  # a header holds nothing but strings
        safetensors.numpy.save_file(tensors, file.name, text)


def read_weights(path: pathlib.Path) -> Weights:
    """Reads the file; float16 becomes float32.

    Raises:
        UserError: no safetensors file, one that is cut short or damaged, of something else, or of a newer fakeimg.
    """
    meta, step = read_meta(path)
    with weights_file.opened(path) as file:
        flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    variables = flax.traverse_util.unflatten_dict(
        {name: value.astype(np.float32) if value.dtype == np.float16 else value for name, value in flat.items()},
        sep='/',
    )
    return Weights(variables, meta, step)


def read_meta(path: pathlib.Path) -> tuple[Meta, int]:
    """Reads the header alone: the meta and the step of `Weights`. Raises UserError as `read_weights` does."""
    with weights_file.opened(path) as file:
        header: dict[str, str] = file.metadata() or {}
    if _KEY not in header:
        raise UserError(f'{path} holds no detector of fakeimg; name a file that "fakeimg push" wrote, or a run folder.')
    try:
        values = {name: json.loads(text) for name, text in header.items()}
        if values[_KEY] > FORMAT:
            raise UserError(f'{path} was written by a newer fakeimg ({values.get("fakeimg")}); update fakeimg.')
        return Meta.from_json(values, str(path)), int(values['step'])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f'the header of {path} is damaged ({error}); get the file again.') from error


def fitted(weights: Weights, shapes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The variables of a network, from its weights.

    Args:
        weights: as they were read.
        shapes: `params` and `batch_stats` of the network that the header describes.
        where: the file, for messages.

    Raises:
        UserError: tensors are missing, unknown, of another shape or dtype, or not what was written.
    """
    variables = complete(weights.variables, shapes)
    found, wanted = describe(variables), describe(dict(shapes))
    differing = [name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name)]
    if differing:
        shown = ', '.join(
            f'{name} ({found.get(name, "absent")} there, {wanted.get(name, "absent")} in the network)'
            for name in differing[:3]
        )
        raise UserError(
            f'{where} does not hold the network that it describes: {len(differing)} tensors differ, among them '
            f'{shown}; get the file again.'
        )
    try:
        check_intact(weights.meta.checksums, checksums(variables))
    except (ValueError, KeyError) as error:
        raise UserError(f'{where} is damaged: {error}; get the file again.') from error
    return variables


def complete(variables: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """The variables with the parts of `like` that hold no tensors, as `batch_stats` may, which no file has."""
    return {**{name: {} for name in like}, **variables}


def require_labels(meta: Meta, where: str) -> None:
    """Raises UserError unless a detector means by its scores what all of fakeimg means: P(fake)."""
    if meta.labels != LABELS:
        raise UserError(
            f'{where} was trained with the labels {_labels(meta.labels)}, but here they are {_labels(LABELS)}; its '
            'scores would be misread: train it again.'
        )


def _labels(labels: Any) -> str:
    return ', '.join(f'{name} = {label}' for name, label in labels.items()) if isinstance(labels, dict) else str(labels)


def names() -> list[str]:
    """The detectors in the package."""
    return sorted(path.parent.name for path in PACKAGED.glob(f'*/{WEIGHTS}'))


def metrics_on_test(folder: pathlib.Path, step: int | None) -> dict[str, Any]:
    """The metrics of `evaluation_on_test`; empty where there is none."""
    return evaluation_on_test(folder, step)[1]


def evaluation_on_test(folder: pathlib.Path, step: int | None) -> tuple[pathlib.Path, dict[str, Any]]:
    """The evaluation of a checkpoint on the test set of its own training: of a run, or of a portable detector.

    Returns:
        The folder with its `metrics.json`, and the metrics; these are empty where there is none that can be read.
    """
    of_run = sorted(path for path in folder.glob(f'evaluations/test*/{METRICS}') if '-of-' not in path.parent.name)
    for path in (folder / METRICS, *of_run):
        try:
            metrics = json.loads(path.read_text())
            if metrics['split'] == 'test' and metrics['step'] == step:
                return path.parent, metrics
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return folder, {}


def is_weights(path: pathlib.Path) -> bool:
    """Whether a file is one that `write_weights` wrote, of whatever version."""
    with contextlib.suppress(UserError), weights_file.opened(path) as file:
        return _KEY in (file.metadata() or {})
    return False


def is_portable(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds weights as `write_weights` names them."""
    return pathlib.Path(folder, WEIGHTS).is_file()
