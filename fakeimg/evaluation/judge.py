"""What scores are worth: every figure of metrics.json, for a detector of ours or anyone's."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import fakeimg
from fakeimg.data.datasets import Split
from fakeimg.errors import UserError
from fakeimg.evaluation import abstention, calibration, figures, intervals, metrics, slices, thresholds
from fakeimg.evaluation.figures import Point
from fakeimg.evaluation.ranking import Ranked, thin
from fakeimg.evaluation.resampling import Resampler
from fakeimg.scoring import Predictions

_BARS = 40  # of the histogram
_CARRIED = ('fpr=0.01', 'balanced_accuracy')  # reported beside the threshold that was asked for


@dataclasses.dataclass(frozen=True)
class Options:
    """What an evaluation is asked for.

    Attributes:
        threshold: on P(fake), from which an image is called fake; or a rule that validation fixed, see `thresholds`.
        prevalence: share of fakes where the detector will be used, to which scores are corrected; None: as they are.
        flip: scores are means over each image and its mirror image.
        error_rate: of the images that are not called unsure.
        slices: columns of a table, for figures of each of their values.
        robustness: degraded images are scored too; needs the images.
        robustness_images: at most so many for the curves.
        images: whether the report shows images.
        command: that the user typed, for the report.
    """

    threshold: float | str = 0.5
    prevalence: float | None = None
    flip: bool = False
    error_rate: float = 0.05
    slices: tuple[str, ...] = ()
    robustness: bool = False
    robustness_images: int = 2000
    images: bool = True
    command: str = ''

    def __post_init__(self) -> None:
        for name, value in (('prevalence', self.prevalence), ('error_rate', self.error_rate)):
            if value is not None and not 0 < value < 1:
                raise UserError(f'{name} is {value:g}; it must be between 0 and 1.')
        if isinstance(self.threshold, str):
            thresholds.parse(self.threshold)
        elif not 0 <= self.threshold <= 1:
            raise UserError(f'threshold is {self.threshold}; it must be a probability, from 0 to 1, or a rule.')


def resolve(options: Options, operating: Mapping[str, Any] | None) -> Point:
    """The threshold that was asked for.

    Raises:
        UserError: a rule that validation did not fix.
    """
    asked = options.threshold
    if not isinstance(asked, str):
        return Point(f'{asked:g}', float(asked))
    if operating is None:
        raise UserError(f'threshold {asked} is a rule that needs scores of validation images; give a number instead.')
    found = operating['thresholds'].get(asked, {'why': 'it was not fitted'})
    if found.get('threshold') is None:
        raise UserError(f'validation does not support the threshold {asked}: {found["why"]}; give a number instead.')
    return _carried(asked, operating)


def _carried(rule: str, operating: Mapping[str, Any]) -> Point:
    more = {name: operating[name] for name in ('n', 'digest') if name in operating}
    return Point(rule, float(operating['thresholds'][rule]['threshold']), 'validation', more)


def judge(
    predictions: Predictions,
    point: Point,
    options: Options,
    operating: Mapping[str, Any] | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Returns all that metrics.json says about scores, but for where they came from.

    Args:
        predictions: of n images.
        point: the threshold that was asked for, see `resolve`.
        options: of the evaluation.
        operating: what validation fixed, see `operating.fit`.
        columns: further slices: name -> value of each image.
    """
    labels, logits = predictions.labels.astype(int), predictions.logits.astype(np.float64)
    probabilities = predictions.probabilities
    points = _points(point, operating)
    found = figures.compute(labels, probabilities, logits, points, Resampler.of(labels, predictions.groups))
    if len(labels):
        perfect, low, high = calibration.ece_perfect(logits)
        found['figures']['ece_perfect'] = intervals.figure(perfect, low, high, len(labels), 'simulated labels')
        found['figures']['smooth_ece'] = {'value': round(float(calibration.smooth_ece(labels, logits)), 6),
                                          'n': len(labels), 'method': 'no interval'}  # fmt: skip
    videos = _videos(predictions, point)
    tables, means = _slices(predictions, point.threshold, columns or {})
    return {
        **metrics.compute_metrics(predictions, point.threshold),
        'date': datetime.date.today().isoformat(),
        'fakeimg': fakeimg.__version__,
        'command': options.command,
        'prevalence': options.prevalence,
        'flip': options.flip,
        **found,
        'calibration': None if operating is None else operating['calibration'],
        'reliability': calibration.reliability(labels, logits),
        'curves': _curves(labels, logits),
        'histogram': _histogram(labels, probabilities),
        'risk_coverage': abstention.risk_coverage(labels, logits, threshold=point.threshold),
        'unsure': _unsure(predictions, options.error_rate, operating),
        'slices': tables,
        'macro': means,
        'videos': videos,
        'robustness': None,
    }


def _points(point: Point, operating: Mapping[str, Any] | None) -> list[Point]:
    points = [point]
    if point.name != '0.5':
        points.append(Point('0.5', 0.5))
    if operating is not None:
        for rule in _CARRIED:
            if rule != point.name and operating['thresholds'].get(rule, {}).get('threshold') is not None:
                points.append(_carried(rule, operating))
    return points


def _videos(predictions: Predictions, point: Point) -> dict[str, Any] | None:
    grouped = slices.by_group(predictions)
    if len(grouped.names) in (0, len(predictions.names)):
        return None
    labels, called = grouped.labels, grouped.probabilities >= point.threshold
    return {
        'n': len(labels),
        'mixed': grouped.skipped,
        'auc': intervals.auc(labels.astype(int), grouped.logits),
        'accuracy': intervals.proportion(int((called == labels).sum()), len(labels)),
        'rule': "mean of the frames' log-odds",
    }


def _slices(
    predictions: Predictions, threshold: float, columns: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    every = {'source': predictions.sources, **columns}
    tables = {
        name: slices.rows(predictions, values, threshold)
        for name, values in every.items()
        if len({*values} - {''}) > 1  # one value is the set itself
    }
    return tables, {name: slices.macro(rows) for name, rows in tables.items() if name == 'source'}


def _unsure(
    predictions: Predictions, error_rate: float, operating: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    return None


def _curves(labels: np.ndarray, logits: np.ndarray) -> dict[str, Any]:
    if not 0 < labels.sum() < len(labels):
        return {}
    counts = Ranked.of(labels, logits).count()
    tp, fp = counts.tp[0], counts.fp[0]
    roc = thin((counts.fpr[0], counts.tpr[0]))
    return {'roc': roc, 'det': roc, 'pr': thin((counts.tpr[0][1:], tp[1:] / (tp + fp)[1:]))}


def _histogram(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    counts = [np.histogram(probabilities[labels == label], _BARS, (0, 1))[0].tolist() for label in (0, 1)]
    return {'edges': np.linspace(0, 1, _BARS + 1).round(6).tolist(), 'real': counts[0], 'fake': counts[1]}


def about(split: Split | None, predictions: Predictions, name: str, layout: str = '') -> dict[str, Any]:
    """What metrics.json says about the images."""
    fake = int(predictions.labels.sum())
    sources: dict[str, int] = {}
    for source in predictions.sources:
        if source:
            sources[source] = sources.get(source, 0) + 1
    return {
        'name': name,
        'n': len(predictions.names),
        'real': len(predictions.names) - fake,
        'fake': fake,
        'skipped': predictions.skipped,
        'groups': len({*predictions.groups} - {''}),
        'sources': sources,
        'layout': layout,
    }
