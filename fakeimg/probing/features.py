"""The features of every image of a split: computed once, saved in a file, computed again when anything changed."""

import dataclasses
import hashlib
import json
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

import fakeimg
from fakeimg import files, run
from fakeimg.console import SILENT, Console
from fakeimg.data.datasets import DataSet, Split
from fakeimg.data.splits import file_part
from fakeimg.detector import Detector
from fakeimg.errors import UserError
from fakeimg.runtime import parallel

_SAMPLED = 64  # images whose bytes are compared: all of them would take as long as decoding


@dataclasses.dataclass(frozen=True)
class Features:
    """The network's features of the m readable images of a split.

    Attributes:
        values: float32[m, F], the input of the head.
        rows: int64[m], places of these images in the split, ascending.
        split: these images.
        skipped: number of unreadable images.
    """

    values: np.ndarray
    rows: np.ndarray
    split: Split
    skipped: int


def features_file(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Where the features of a split, or of a slice of one, are kept."""
    return folder / f'features-{file_part(name)}.npz'


def read_features(
    detector: Detector, data: DataSet, name: str, folder: pathlib.Path, console: Console = SILENT
) -> Features:
    """Returns the features of a split: those in `folder` if they are of these weights and images, else new ones.

    Images are compared by names, labels, the data digest, and the bytes of a sample of them: a single image that was
    replaced under the same name is not noticed.

    Args:
        detector: the network.
        data: the data set.
        name: of the split, or a slice of one.
        folder: gets `features-SPLIT.npz`, and `bad_pictures.csv` if an image is unreadable.
        console: gets a line when features are read, and the progress.

    Raises:
        UserError: too many unreadable images, or features that are not finite.
    """
    split = data.get(name)
    key = {
        'fakeimg': fakeimg.__version__,
        'weights': detector.backbone_digest,
        'model': detector.meta.config['model'],
        'preprocessing': detector.meta.preprocessing,
        'precision': detector.dtype.name,
        'data': data.digest,
        'images': _images_digest(split),
    }
    path = features_file(folder, name)
    saved = _load(path, key, console)
    # All processes compute or none, for they compute together.
    if not parallel.any_process(saved is None) and saved is not None:
        values, rows = saved
        console.say(f'{name}: features of {len(rows):,} images read from {path}')
    else:
        values, rows, unreadable = detector.features(split, name, console=console)
        unreadable.write(run.unreadable_file(folder))
        for note in unreadable.summary(run.unreadable_file(folder)):
            console.warn(note)
        if not np.isfinite(values).all():
            raise UserError(
                f'the features of split {name} are not finite in {detector.dtype.name}; take other weights, '
                'or config.precision=float32.'
            )
        if parallel.is_first_process():
            with files.replacing(path, 'wb') as file:
                np.savez(file, values=values, rows=rows, key=json.dumps(key))
    return Features(values, rows, split.take(rows), len(split) - len(rows))


def _images_digest(split: Split) -> str:
    state = hashlib.sha256()
    for name, label in zip(split.names, split.labels, strict=True):
        state.update(f'{name}\0{label}\n'.encode('utf-8', 'surrogateescape'))
    for index in np.unique(np.linspace(0, len(split) - 1, _SAMPLED).astype(int)):
        try:
            state.update(hashlib.sha256(split[int(index)]).digest())
        except OSError:
            state.update(b'unreadable')
    return state.hexdigest()


def _load(path: pathlib.Path, key: dict[str, Any], console: Console) -> tuple[np.ndarray, np.ndarray] | None:
    """Values and rows from a file, or None if there is none, or one of something else, or a damaged one."""
    try:
        with open(path, 'rb') as file, np.load(file) as arrays:
            found = json.loads(str(arrays['key']))
            changed = [name for name, value in key.items() if found.get(name) != value]
            if not changed:
                return arrays['values'], arrays['rows']  # the zip's checksums are compared here
        console.say(f'{path} was computed with different {", ".join(changed)}; recomputing.')
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error):
        console.warn(f'{path} is damaged; recomputing')
    return None
