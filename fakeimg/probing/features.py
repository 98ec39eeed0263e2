"""The features of every image of a split: computed once, kept in a file, computed again when anything changed."""

import dataclasses
import hashlib
import json
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

import fakeimg
from fakeimg import config as config_lib
from fakeimg import files, run, scoring
from fakeimg.console import SILENT, Console
from fakeimg.data.datasets import Split
from fakeimg.data.splits import file_part
from fakeimg.errors import UserError
from fakeimg.probing.backbone import Backbone
from fakeimg.runtime import parallel

_SAMPLED = 64  # images whose bytes are compared: all of them would take as long as decoding


@dataclasses.dataclass(frozen=True)
class Features:
    """What the network says of the images of a split.

    Attributes:
        values: float32[m, F], the input of the head.
        rows: int64[m], places in the source of the images that could be read, ascending.
    """

    values: np.ndarray
    rows: np.ndarray


def features_file(folder: pathlib.Path, split: str) -> pathlib.Path:
    """Where the features of a split, or of a slice of one, are kept."""
    return folder / f'features-{file_part(split)}.npz'


def read_features(
    backbone: Backbone,
    source: Split,
    split: str,
    data_digest: str,
    folder: pathlib.Path,
    *,
    console: Console = SILENT,
) -> Features:
    """Returns the features of a split: those in `folder` if they are of these weights and images, else new ones.

    Images are told apart by names, labels, the data digest, and the bytes of a sample of them: a folder in which
    single images were replaced under the same name is not noticed.

    Args:
        backbone: the network.
        source: the split's images.
        split: its name.
        data_digest: of the whole data set.
        folder: gets `features-SPLIT.npz`, and `bad_pictures.csv` if an image cannot be read.
        console: is told what is read or computed, and the progress.

    Raises:
        UserError: too many unreadable images, or features that are not finite.
    """
    config = backbone.config
    key = {
        'fakeimg': fakeimg.__version__,
        'weights': backbone.sha256,
        'model': config_lib.to_plain(config.model),
        'preprocessing': {
            name: config_lib.to_plain(config.data)[name] for name in ('image_size', 'resize_size', 'mean', 'std')
        },
        'precision': backbone.dtype.name,
        'data': data_digest,
        'images': _images_digest(source),
    }
    path = features_file(folder, split)
    kept = _load(path, key, console)
    # All processes compute or none, for they compute together.
    if not parallel.any_process(kept is None) and kept is not None:
        console.say(f'{split}: features of {len(kept.rows):,} images read from {path}')
        return kept
    values, rows, bad = scoring.predict_source(
        backbone.extract,
        backbone.variables,
        source,
        split,
        config,
        backbone.devices,
        console=console,
    )
    bad.write(run.unreadable_file(folder))
    if not np.isfinite(values).all():
        raise UserError(
            f'the features of split {split} are not finite in {backbone.dtype.name}; take other weights, '
            'or --config.precision=float32.'
        )
    if parallel.is_first_process():
        _save(path, Features(values, rows), key)
    return Features(values, rows)


def _images_digest(source: Split) -> str:
    state = hashlib.sha256()
    for name, label in zip(source.names, source.labels, strict=True):
        state.update(f'{name}\0{label}\n'.encode('utf-8', 'surrogateescape'))
    for index in np.unique(np.linspace(0, len(source) - 1, _SAMPLED).astype(int)):
        try:
            state.update(hashlib.sha256(source[int(index)]).digest())
        except OSError:
            state.update(b'unreadable')
    return state.hexdigest()


def _save(path: pathlib.Path, features: Features, key: dict[str, Any]) -> None:
    with files.replacing(path, 'wb') as file:
        np.savez(file, values=features.values, rows=features.rows, key=json.dumps(key))


def _load(path: pathlib.Path, key: dict[str, Any], console: Console) -> Features | None:
    """Features that were kept, or None if there are none, of something else, or in a file that is damaged."""
    try:
        with open(path, 'rb') as file, np.load(file) as arrays:
            kept = json.loads(str(arrays['key']))
            changed = [name for name, value in key.items() if kept.get(name) != value]
            if not changed:
                return Features(arrays['values'], arrays['rows'])  # the zip's checksums are compared here
        console.say(f'{path} was computed with different {", ".join(changed)}; recomputing.')
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error):
        console.warn(f'{path} is damaged; recomputing')
    return None
