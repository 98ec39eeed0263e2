"""The separate evaluation: a detector and a split in, metrics, predictions and a report out."""

import dataclasses
import os
import pathlib
from typing import Any

from fakeimg import files, run
from fakeimg.config import DEMO, override
from fakeimg.console import SILENT, Console
from fakeimg.data import datasets as datasets_lib
from fakeimg.data import layouts, seen
from fakeimg.data.labels import LABELS, class_names
from fakeimg.data.splits import file_part
from fakeimg.data.tables import columns_of
from fakeimg.detector import DRAWN, Detector
from fakeimg.errors import UserError
from fakeimg.evaluation import (
    card,
    carried,
    explained,
    fitting,
    judge,
    places,
    points,
    report,
    robustness,
    shown,
    slices,
    unlike,
)
from fakeimg.evaluation.gallery import NO_MAPS, Maps
from fakeimg.evaluation.options import DEFAULTS, Options
from fakeimg.evaluation.referee import ForeignScores, warnings_about
from fakeimg.meta import Meta
from fakeimg.operating import Operating
from fakeimg.partial_scores import PartialScores
from fakeimg.runtime import parallel
from fakeimg.scoring import Predictions

_UNREADABLE_SHOWN = 20


def evaluate(
    detector: Detector,
    split: str = 'test',
    *,
    data_path: str | None = None,
    options: Options = DEFAULTS,
    out: pathlib.Path | None = None,
    console: Console = SILENT,
) -> tuple[dict[str, Any], pathlib.Path]:
    """Scores a split with the detector of a run and writes `evaluations/<split>/` in the run folder.

    Other images get `evaluations/<split>-of-<folder>-<digest>/`; without split folders, all of them are the split. What
    another evaluation wrote stays: of another checkpoint or with other options, the folder's name says which.

    Args:
        detector: as `detector.load` returns it.
        split: train, validation, test, or a part of one as TFDS slices it (`test[:10%]`).
        data_path: another set of images; None takes the one the run was trained on.
        options: the threshold and all else that is asked for.
        out: another folder to write to; the run folder may then be read-only.
        console: gets warnings and progress.

    Returns:
        The metrics, and the folder with `metrics.json`, `predictions.csv` and `report.html`. `without_copies` are the
        metrics of the images that train and validation did not show, byte for byte; its `copies` counts the others. It
        is None where there are none of them, and holds nothing else where there are only such.

    Raises:
        UserError: no such images or split, too many unreadable images, a rule for the threshold that validation does
            not support, or, before any is scored, a folder that cannot be written to.
    """
    assert detector.run is not None
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
    key = {'step': detector.step, 'split': split, **options.key, 'content_digest': content}
    folder = out or places.free(places.home(detector.run), name, key)
    places.require_other(folder, key)
    further = slices.table_columns(data_path or detector.config.data.path, part.names, options.slices)
    detector = dataclasses.replace(detector, flip=options.flip)
    own = None if data_path else data
    operating = carried.of_run(detector, own, options.threshold, options.error_rate, console)
    is_fixing = own is not None and split.split('[')[0] == detector.config.data.validation_split.split('[')[0]
    if operating is not None and is_fixing:
        operating = {**operating, 'source': 'this set'}
        console.warn('these images fixed the thresholds themselves, which therefore look better here than elsewhere')
    carried.learn_known(detector, own, console)
    point = points.resolve(options, operating)
    with PartialScores(folder, {**detector.scoring_key, 'data': [data.digest, content, split]}, part) as partial:
        scored, unreadable = detector.score(part, split, console=console, partial=partial)
    for note in warnings_about(scored, 'check which label means fake'):
        console.warn(note)
    predictions = points.corrected(scored, options, operating)
    place = {name: row for row, name in enumerate(part.names)}
    rows = [place[name] for name in predictions.names]
    columns = slices.header_columns(part, predictions.names)
    columns |= {name: [values[row] for row in rows] for name, values in further.items()}
    environment = run.environment()
    metrics = {
        'split': split,
        'step': detector.step,
        'threshold_rule': options.key['threshold_rule'],
        **judge.judge(predictions, point, options, operating, columns),
        'detector': {
            'model': detector.config.model.name,
            'trained_on': layouts.set_name(detector.meta.config['data']['path'] or DEMO),
            'run': str(detector.run),
            'step': detector.step,
            'config': detector.meta.config,
            'environment': {name: environment[name] for name in ('python', 'platform', 'versions', 'git_commit')},
        },
        'data': judge.about(predictions, layouts.set_name(data_path or detector.config.data.path), data.layout),
        'labels': detector.meta.labels,
        'data_path': os.path.abspath(data_path) if data_path else detector.config.data.path,
        'data_digest': data.digest,
        'content_digest': content,
    }
    known = shown.digests(detector, data, None if data_path else split)
    metrics['unlike'] = unlike.count(detector, part, console)
    metrics['without_copies'] = shown.without(known, part, predictions, point.threshold)
    if options.robustness:
        threshold = points.own_threshold(point, options, operating)
        metrics['robustness'] = robustness.evaluate(
            detector, part, split, clean=scored, threshold=threshold, images=options.robustness_images, console=console
        )
    else:
        metrics['robustness'] = places.before(folder).get('robustness')  # the same evaluation, which took minutes
    maps = NO_MAPS
    metrics['explanations'] = places.before(folder).get('explanations')
    if options.explain:
        metrics['explanations'], maps = explained.explain(
            detector, part, predictions, point.threshold, images=options.images, console=console
        )
    metrics['data']['unreadable'] = [list(item) for item in unreadable.reasons.items()][:_UNREADABLE_SHOWN]
    if parallel.is_first_process():
        _write(folder, metrics, predictions, part, detector.meta, detector.run, options, maps)
        seen.write_scored(folder, seen.digests(part)[rows])
    unreadable.write(run.unreadable_file(folder))
    partial.remove()
    for note in unreadable.summary(run.unreadable_file(folder)):
        console.warn(note)
    return metrics, folder


def judge_scores(
    scores: ForeignScores,
    about: dict[str, Any],
    folder: pathlib.Path,
    options: Options = DEFAULTS,
    scorer: robustness.Scorer | None = None,
    console: Console = SILENT,
) -> dict[str, Any]:
    """Judges the scores of a detector that is not ours, and writes what `evaluate` writes.

    Args:
        scores: as `referee.read_scores` or `foreign.Scorer` returns them; their `validation` fixes thresholds and
            calibration.
        about: for `metrics.json`: `referee`, the detector's name; `data_path` of its images, or of the table; `split`
            that was scored, `all` of a table; and what else tells these scores from others.
        folder: to write to.
        options: a rule for the threshold and a prevalence need validation; flips are for detectors of a run.
        scorer: the detector, where it can score degraded images too.
        console: shows the progress.

    Raises:
        UserError: an option that these scores do not allow.
    """
    check_options(options, has_validation=scores.validation is not None, can_score=scorer is not None)
    operating = None if scores.validation is None else _fit(scores.validation, options)
    predictions, images = points.corrected(scores.predictions, options, operating), scores.split
    point = points.resolve(options, operating)
    columns = dict(scores.columns)
    if images is not None:
        columns = {**slices.header_columns(images, predictions.names), **columns}
    metrics = {
        **about,
        'threshold_rule': options.key['threshold_rule'],
        **judge.judge(predictions, point, options, operating, slices.few_valued(columns, options.slices)),
        'detector': {'name': about['referee']},
        'data': {
            **judge.about(predictions, layouts.set_name(about['data_path'])),
            'unreadable': [list(item) for item in scores.missing[:_UNREADABLE_SHOWN]],
        },
        'labels': LABELS,
        'data_path': os.path.abspath(about['data_path']),
    }
    if options.robustness and scorer is not None and images is not None:
        threshold = points.own_threshold(point, options, operating)
        metrics['robustness'] = robustness.evaluate(
            scorer,
            images,
            about['split'],
            clean=scores.predictions,
            threshold=threshold,
            images=options.robustness_images,
            console=console,
        )
    else:
        metrics['robustness'] = places.before(folder).get('robustness')
    _write(folder, metrics, predictions, images, None, None, options)
    return metrics


def check_options(options: Options, *, has_validation: bool, can_score: bool) -> None:
    """Raises UserError for an option that scores of a detector that is not ours do not allow."""
    for name in ('flip', 'explain'):
        if getattr(options, name):
            raise UserError(f'{name} needs a detector of a run, to score other images than these.')
    if options.robustness and not can_score:
        raise UserError('robustness needs a detector, of a run or a function, to score other images than these.')
    if not has_validation:
        points.require_allowed(options, None)


def _fit(validation: Predictions, options: Options) -> Operating:
    rules = [options.threshold] if isinstance(options.threshold, str) else []
    return fitting.fit(validation.labels, validation.logits, validation.groups, options.error_rate, rules)


def _write(
    folder: pathlib.Path,
    metrics: dict[str, Any],
    predictions: Predictions,
    split: datasets_lib.Split | None,
    meta: Meta | None,
    run_folder: pathlib.Path | None,
    options: Options,
    maps: Maps = NO_MAPS,
) -> None:
    predictions.write_csv(folder / 'predictions.csv')
    files.write_json(folder / 'metrics.json', metrics)
    report.write_report(
        folder, metrics, predictions, split, meta, run=run_folder, no_images=not options.images, maps=maps
    )
    card.write_card(folder / 'model_card.md', metrics)


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
