"""The separate evaluation: a checkpoint and a split in, metrics, predictions and a report out."""

import csv
import pathlib
from typing import Any

import jax
import numpy as np

from fakeimg import config as config_lib
from fakeimg import files, run, scoring
from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config
from fakeimg.console import SILENT, Console
from fakeimg.data import datasets as datasets_lib
from fakeimg.data import layouts
from fakeimg.data.splits import file_part
from fakeimg.errors import UserError
from fakeimg.evaluation import metrics as metrics_lib
from fakeimg.evaluation import report
from fakeimg.models import create_model, init_variables
from fakeimg.runtime import parallel, precision


def evaluate(
    workdir: pathlib.Path,
    split: str = 'test',
    step: str = 'best',
    *,
    data_path: str | None = None,
    batch_size: int = 0,
    threshold: float = 0.5,
    console: Console = SILENT,
) -> tuple[dict[str, Any], pathlib.Path]:
    """Scores a split with a checkpoint of a run and writes `evaluations/<split>/` in the run folder.

    Another folder of images gets `evaluations/<split>-of-<folder>/`; without split folders, all of it is the split.

    Args:
        workdir: the run folder.
        split: train, validation, test, or a part of one as TFDS slices it (`test[:10%]`).
        step: `best` (validation AUC), `latest`, or a number.
        data_path: another set of images; None takes the one the run was trained on.
        batch_size: images per step over all devices; 0 takes the run's.
        threshold: on P(fake), from which an image is called fake.
        console: is told warnings and progress.

    Returns:
        The metrics, and the folder with `metrics.json`, `predictions.csv` and `report.html`. Of a prepared set,
        `without_copies` are the metrics of the images that neither train nor validation holds too, byte for byte;
        None where it holds none of them, or all.

    Raises:
        UserError: no such run, checkpoint, or split, or too many unreadable images.
    """
    if batch_size < 0:
        raise UserError(f'--batch_size is {batch_size}; it must be 0 (as in training) or more.')
    if not 0 <= threshold <= 1:
        raise UserError(f'--threshold is {threshold}; it must be a probability, from 0 to 1.')
    checkpoints = Checkpoints(workdir / 'checkpoints', read_only=True)
    try:
        wanted = resolve_step(checkpoints, step)
        meta = checkpoints.read_meta(wanted)
        config = config_lib.from_plain(meta['config'])
        config.batch_size = batch_size or config.batch_size
        devices = parallel.Devices.create(config.parallel, config.batch_size)
        if data_path is None:
            data = datasets_lib.open_data(config)
        else:  # nothing is carved out of images that were never trained on
            config.data.path = data_path
            data = datasets_lib.open_path(data_path, unsorted_split=split.split('[')[0])
        source = data.get(split)
        notes = list(data.notes)
        if data_path is None and data.digest != meta['data_digest']:
            notes.append('the images are not the ones this run was trained on; some may have been trained on since')
        for note in notes:
            console.warn(note)
        model = create_model(config)
        variables = jax.eval_shape(lambda: init_variables(model, config.data.image_size, 0))
        restored = checkpoints.restore_variables(devices.abstract(variables), wanted)
        for note in restored.notes:
            console.warn(note)
    finally:
        checkpoints.close()
    dtype = precision.resolve(config.precision)
    predict = devices.map(scoring.make_predict_step(create_model(config, dtype), config, dtype))
    predictions, bad = scoring.score_source(predict, restored.state, source, split, config, devices, console=console)
    metrics = {
        'split': split,
        'step': restored.step,
        **metrics_lib.compute_metrics(predictions, threshold),
        'labels': meta['labels'],
        'data_path': config.data.path,
        'data_digest': data.digest,
    }
    if data_path is None and len(source.digests):
        metrics['without_copies'] = _without_copies(data, split, config, predictions, threshold)
    part = file_part(split)
    name = part if data_path is None else f'{part}-of-{layouts.set_name(data_path)}'
    folder = workdir / 'evaluations' / name
    if parallel.is_first_process():
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(folder / 'metrics.json', metrics)
        write_predictions(folder / 'predictions.csv', predictions)
        report.write_report(folder / 'report.html', metrics, predictions, source, meta)
    bad.write(run.unreadable_file(folder))
    return metrics, folder


def _without_copies(
    data: datasets_lib.DataSet, split: str, config: Config, predictions: scoring.Predictions, threshold: float
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


def resolve_step(checkpoints: Checkpoints, step: str) -> int | None:
    """The number of a checkpoint; None for the newest that can be read."""
    if step in ('best', 'latest'):
        return checkpoints.best_step() if step == 'best' else None
    if not step.isdecimal():
        raise UserError(f'--step is {step!r}; it must be best, latest, or the number of a checkpoint.')
    return int(step)


def write_predictions(path: pathlib.Path, predictions: scoring.Predictions) -> None:
    """Writes one row per image: name, label (0 real, 1 fake), probability (P(fake)), logit."""
    with files.replacing(path, **files.TEXT) as file:
        rows = csv.writer(file)
        rows.writerow(('name', 'label', 'probability', 'logit'))
        columns = (predictions.names, predictions.labels, predictions.probabilities, predictions.logits)
        for name, label, probability, logit in zip(*columns, strict=True):
            rows.writerow((name, int(label), f'{probability:.6f}', f'{logit:.6f}'))
