"""The separate evaluation: a detector and a split in, metrics, predictions and a report out."""

import pathlib
from typing import Any

import numpy as np

from fakeimg import files, run
from fakeimg.config import Config
from fakeimg.console import SILENT, Console
from fakeimg.data import datasets as datasets_lib
from fakeimg.data import layouts
from fakeimg.data.splits import file_part
from fakeimg.detector import Detector
from fakeimg.errors import UserError
from fakeimg.evaluation import metrics as metrics_lib
from fakeimg.evaluation import report
from fakeimg.runtime import parallel
from fakeimg.scoring import Predictions


def evaluate(
    detector: Detector,
    split: str = 'test',
    *,
    data_path: str | None = None,
    threshold: float = 0.5,
    console: Console = SILENT,
) -> tuple[dict[str, Any], pathlib.Path]:
    """Scores a split with the detector of a run and writes `evaluations/<split>/` in the run folder.

    Another folder of images gets `evaluations/<split>-of-<folder>/`; without split folders, all of it is the split.

    Args:
        detector: as `detector.load` returns it.
        split: train, validation, test, or a part of one as TFDS slices it (`test[:10%]`).
        data_path: another set of images; None takes the one the run was trained on.
        threshold: on P(fake), from which an image is called fake.
        console: gets warnings and progress.

    Returns:
        The metrics, and the folder with `metrics.json`, `predictions.csv` and `report.html`. Of a prepared set,
        `without_copies` are the metrics of the images that neither train nor validation holds too, byte for byte;
        None where it holds none of them, or all.

    Raises:
        UserError: no such split, or too many unreadable images.
    """
    assert detector.run is not None
    if not 0 <= threshold <= 1:
        raise UserError(f'threshold is {threshold}; it must be a probability, from 0 to 1.')
    if data_path is None:
        data = datasets_lib.open_data(detector.config)
    else:  # nothing is split off from images that were never trained on
        data = datasets_lib.open_path(data_path, unsorted_split=split.split('[')[0])
    part = data.get(split)
    notes = [*data.notes, *detector.notes]
    if data_path is None and data.digest != detector.meta.data_digest:
        notes.append('the images are not the ones this run was trained on; some may have been trained on since')
    for note in notes:
        console.warn(note)
    predictions, unreadable = detector.score(part, split, console=console)
    metrics = {
        'split': split,
        'step': detector.step,
        **metrics_lib.compute_metrics(predictions, threshold),
        'labels': detector.meta.labels,
        'data_path': detector.config.data.path if data_path is None else data_path,
        'data_digest': data.digest,
    }
    if data_path is None and len(part.digests):
        metrics['without_copies'] = _without_copies(data, split, detector.config, predictions, threshold)
    name = file_part(split) if data_path is None else f'{file_part(split)}-of-{layouts.set_name(data_path)}'
    folder = detector.run / 'evaluations' / name
    if parallel.is_first_process():
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(folder / 'metrics.json', metrics)
        predictions.write_csv(folder / 'predictions.csv')
        report.write_report(folder / 'report.html', metrics, predictions, part, detector.meta)
    unreadable.write(run.unreadable_file(folder))
    return metrics, folder


def _without_copies(
    data: datasets_lib.DataSet, split: str, config: Config, predictions: Predictions, threshold: float
) -> dict[str, Any] | None:
    """The metrics without images that the run has learned from, or was chosen by, under another name."""
    source, specs = data.get(split), {config.data.train_split, config.data.validation_split} - {split}
    seen = [data.get(spec).digests for spec in specs if spec != 'validation' or spec in data.splits]
    copied = np.isin(source.digests, np.concatenate(seen))
    names = {source.names[row] for row in np.flatnonzero(copied)}
    kept = np.array([name not in names for name in predictions.names])
    if kept.all() or not kept.any():
        return None
    return {'copies': int((~kept).sum()), **metrics_lib.compute_metrics(predictions.take(kept), threshold)}
