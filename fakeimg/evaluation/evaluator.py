"""The separate evaluation: a detector and a split in, metrics, predictions and a report out."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np

from fakeimg import files, run
from fakeimg.config import DEMO, override
from fakeimg.console import SILENT, Console
from fakeimg.data import datasets as datasets_lib
from fakeimg.data import layouts, seen
from fakeimg.data.labels import class_names
from fakeimg.data.splits import file_part
from fakeimg.data.tables import columns_of
from fakeimg.detector import DRAWN, Detector
from fakeimg.errors import UserError
from fakeimg.evaluation import metrics as metrics_lib
from fakeimg.evaluation import report
from fakeimg.partial_scores import PartialScores
from fakeimg.runtime import parallel
from fakeimg.scoring import Predictions


def evaluate(
    detector: Detector,
    split: str = 'test',
    *,
    data_path: str | None = None,
    threshold: float = 0.5,
    out: pathlib.Path | None = None,
    console: Console = SILENT,
) -> tuple[dict[str, Any], pathlib.Path]:
    """Scores a split with the detector of a run and writes `evaluations/<split>/` in the run folder.

    Other images get `evaluations/<split>-of-<folder>-<digest>/`; without split folders, all of them are the split. What
    another evaluation wrote stays: of another checkpoint or with another threshold, the folder's name says which.

    Args:
        detector: as `detector.load` returns it.
        split: train, validation, test, or a part of one as TFDS slices it (`test[:10%]`).
        data_path: another set of images; None takes the one the run was trained on.
        threshold: on P(fake), from which an image is called fake.
        out: another folder to write to; the run folder may then be read-only.
        console: gets warnings and progress.

    Returns:
        The metrics, and the folder with `metrics.json`, `predictions.csv` and `report.html`. `without_copies` are the
        metrics of the images that train and validation did not show, byte for byte; its `copies` counts the others. It
        is None where there are none of them, and holds nothing else where there are only such.

    Raises:
        UserError: no such images or split, too many unreadable images, or, before any is scored, a folder that cannot
            be written to.
    """
    assert detector.run is not None
    if not 0 <= threshold <= 1:
        raise UserError(f'threshold is {threshold}; it must be a probability, from 0 to 1.')
    data = _open(detector, split, data_path)
    content = seen.content_digest(data)
    part = seen.watched(data.get(split))
    notes = [*data.notes, *detector.notes]
    if data_path is None and not _is_own(detector, data.digest, content):
        notes.append('the images are not the ones this run was trained on; some may have been trained on since')
    if data_path not in (None, DEMO) and detector.config.data.path == DEMO:
        notes.append(DRAWN)
    for note in notes:
        console.warn(note)
    name = file_part(split)
    if data_path is not None:
        name += f'-of-{layouts.set_name(data_path)}-{content[:8]}'
    key = {'step': detector.step, 'threshold': threshold, 'content_digest': content}
    folder = out or _folder(detector.run / 'evaluations', name, key)
    if _others(folder, key):
        raise UserError(f'{folder} holds another evaluation; choose another folder.')
    if parallel.is_first_process():
        files.require_writable(folder)
    with PartialScores(folder, {**detector.scoring_key, 'data': [data.digest, content, split]}, part) as partial:
        predictions, unreadable = detector.score(part, split, console=console, partial=partial)
    metrics = {
        'split': split,
        'step': detector.step,
        **metrics_lib.compute_metrics(predictions, threshold),
        'labels': detector.meta.labels,
        'data_path': os.path.abspath(data_path) if data_path else detector.config.data.path,
        'data_digest': data.digest,
        'content_digest': content,
    }
    known = _known(detector, data, None if data_path else split)
    metrics['without_copies'] = _without(known, part, predictions, threshold)
    if parallel.is_first_process():
        predictions.write_csv(folder / 'predictions.csv')
        files.write_json(folder / 'metrics.json', metrics)
        report.write_report(folder, metrics, predictions, part, detector.meta, run=detector.run)
    unreadable.write(run.unreadable_file(folder))
    partial.remove()
    for note in unreadable.summary(run.unreadable_file(folder)):
        console.warn(note)
    return metrics, folder


def moved(detector: Detector, path: str) -> Detector:
    """The detector of a run whose images are at `path` now.

    Raises:
        UserError: there are none, or others.
    """
    config = datasets_lib.located(override(detector.config, {'data.path': path}))
    data = datasets_lib.open_data(config)
    if not _is_own(detector, data.digest, seen.content_digest(data)):
        raise UserError(
            f'{path} does not hold the images that this run was trained on: names, splits, labels or bytes differ; to '
            'score other images, give them as data_path.'
        )
    return dataclasses.replace(detector, config=config)


def _is_own(detector: Detector, digest: str, content: str) -> bool:
    """Whether these are the images that the run was trained on."""
    meta = detector.meta
    return digest == meta.data_digest and meta.content_digest in (None, content)


def _open(detector: Detector, split: str, data_path: str | None) -> datasets_lib.DataSet:
    if data_path is not None:  # nothing is split off from images that were never trained on
        return datasets_lib.open_path(
            data_path,
            unsorted_split=split.split('[')[0],
            class_names=class_names(detector.config.data.labels),
            columns=columns_of(detector.config.data.columns),
        )
    path = detector.config.data.path
    if path != DEMO and not os.path.exists(path):
        raise UserError(f'the images of this run are not at {path}; say where they are now with moved_to.')
    return datasets_lib.open_data(detector.config)


def _folder(parent: pathlib.Path, name: str, key: dict[str, Any]) -> pathlib.Path:
    """A folder that no other evaluation has: where one has the plain name, it says what is different."""
    shown = {'step': key['step'], 'threshold': f'{key["threshold"]:g}', 'content': key['content_digest'][:8]}
    different = [f'-{word}-{shown[word]}' for word in _others(parent / name, key)]
    return parent / ''.join([name, *different])


def _others(folder: pathlib.Path, key: dict[str, Any]) -> list[str]:
    """In what the evaluation of a folder differs from this one, if there is one."""
    path = folder / 'metrics.json'
    before = json.loads(path.read_text()) if path.exists() else key
    return [name.removesuffix('_digest') for name, value in key.items() if before.get(name, value) != value]


def _known(detector: Detector, data: datasets_lib.DataSet, split: str | None) -> np.ndarray:
    """Digests of the images that the run has learned from, or was chosen by, but for those of the `split` itself."""
    assert detector.run is not None
    parts = {'train': detector.config.data.train_split, 'validation': detector.config.data.validation_split}
    shown = seen.read(detector.run)
    if not shown and split is not None and data.is_prepared:  # a run of an early fakeimg
        splits = {name: spec for name, spec in parts.items() if spec != 'validation' or spec in data.splits}
        shown = {name: seen.digests(data.get(spec)) for name, spec in splits.items()}
    others = [digests for name, digests in shown.items() if parts[name] != split]
    return np.concatenate([np.zeros(0, seen.DTYPE), *others])


def _without(
    known: np.ndarray, part: datasets_lib.Split, predictions: Predictions, threshold: float
) -> dict[str, Any] | None:
    """The metrics without `known` images; see `evaluate`."""
    if parallel.has_other_processes() and isinstance(part.files, seen.WatchedFiles):
        part.files.read_rest()
    copied = np.isin(seen.digests(part), known)
    names = {part.names[row] for row in np.flatnonzero(copied)}
    kept = np.array([name not in names for name in predictions.names], bool)
    if kept.all():
        return None
    count = {'copies': int((~kept).sum())}
    return {**count, **metrics_lib.compute_metrics(predictions.take(kept), threshold)} if kept.any() else count
