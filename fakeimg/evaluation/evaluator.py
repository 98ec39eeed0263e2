"""The separate evaluation: a checkpoint and a split in, metrics, predictions and a report out."""

import csv
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import jax

from fakeimg import config as config_lib
from fakeimg import parallel, precision, run
from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config
from fakeimg.data import sources as sources_lib
from fakeimg.errors import UserError
from fakeimg.evaluation import metrics as metrics_lib
from fakeimg.evaluation import report, scoring
from fakeimg.models import create_model, init_variables


def evaluate(
    workdir: pathlib.Path,
    split: str = 'test',
    step: str = 'best',
    *,
    data_path: str | None = None,
    batch_size: int = 0,
    threshold: float = 0.5,
    track: Callable[[Iterable, int], Iterable] = lambda batches, _: batches,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, Any], pathlib.Path]:
    """Scores a split with a checkpoint of a run and writes `evaluations/<split>/` in the run folder.

    Args:
        workdir: the run folder.
        split: train, validation or test.
        step: `best` (validation AUC), `latest`, or a number.
        data_path: another folder of pictures; None takes the one the run was trained on.
        batch_size: pictures per step over all devices; 0 takes the run's.
        threshold: on P(fake), from which a picture is called fake.
        track: wraps (batches, their number), to show progress.
        say: takes sentences for the person who runs this.

    Returns:
        The metrics, and the folder with `metrics.json`, `predictions.csv` and `report.html`.

    Raises:
        UserError: no such run, checkpoint, or split, or too many unreadable pictures.
    """
    checkpoints = Checkpoints(workdir / 'checkpoints', read_only=True)
    try:
        meta = checkpoints.read_meta()
        config = config_lib.from_plain(meta['config'])
        if data_path is not None:
            config.data.path = data_path
        if batch_size:
            config.batch_size = batch_size
        devices = parallel.Devices.create(config.parallel, config.batch_size)
        sources, notes = sources_lib.open_sources(config)
        source = sources_lib.get_source(sources, split)
        for note in notes:
            say(f'!! {note}.')
        restored = _restore_variables(checkpoints, step, config, devices)
        for note in restored.notes:
            say(f'!! {note}.')
    finally:
        checkpoints.close()
    dtype = precision.resolve(config.precision)
    predict = devices.map(scoring.make_predict_step(create_model(config, dtype), config, dtype))
    num_batches = -(-len(source) // config.batch_size)
    predictions, bad = scoring.score_source(
        predict, restored.state, source, split, config, devices, track=lambda batches: track(batches, num_batches)
    )
    metrics = {
        'split': split,
        'step': restored.step,
        **metrics_lib.compute_metrics(predictions, threshold),
        'labels': meta['labels'],
        'data_digest': sources_lib.digest(sources),
    }
    folder = workdir / 'evaluations' / split
    if parallel.is_first_process():
        folder.mkdir(parents=True, exist_ok=True)
        run.write_json(folder / 'metrics.json', metrics)
        write_predictions(folder / 'predictions.csv', predictions)
        report.write_report(folder / 'report.html', metrics, predictions, source, meta)
    bad.write(run.bad_pictures_file(workdir))
    return metrics, folder


def _restore_variables(checkpoints: Checkpoints, step: str, config: Config, devices: parallel.Devices):
    model = create_model(config)
    shapes = jax.eval_shape(lambda: init_variables(model, config.data.image_size, 0))
    wanted = {'best': checkpoints.best_step(), 'latest': None}.get(step, step)
    if isinstance(wanted, str):
        if not wanted.isdigit():
            raise UserError(f'--step is {step!r}; it must be best, latest, or the number of a checkpoint.')
        wanted = int(wanted)
    return checkpoints.restore(devices.abstract(shapes), wanted)


def write_predictions(path: pathlib.Path, predictions: scoring.Predictions) -> None:
    """Writes one row per picture: name, label (0 real, 1 fake), probability (P(fake)), logit."""
    partial = path.with_name(f'{path.name}.partial')
    with open(partial, 'w', newline='', encoding='utf-8', errors='surrogateescape') as file:
        rows = csv.writer(file)
        rows.writerow(('name', 'label', 'probability', 'logit'))
        columns = (predictions.names, predictions.labels, predictions.probabilities, predictions.logits)
        for name, label, probability, logit in zip(*columns, strict=True):
            rows.writerow((name, int(label), f'{probability:.6f}', f'{logit:.6f}'))
    os.replace(partial, path)
