"""What scores are worth: every figure of metrics.json, for a detector of ours or anyone's."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import fakeimg
from fakeimg.errors import UserError
from fakeimg.evaluation import abstention, calibration, figures, intervals, metrics, points, slices, thresholds
from fakeimg.evaluation.figures import Point
from fakeimg.evaluation.options import Options
from fakeimg.evaluation.ranking import Ranked, thin
from fakeimg.evaluation.resampling import Resampler, share
from fakeimg.operating import Operating, calibration_of
from fakeimg.scoring import Predictions

_BARS = 40  # of the histogram
_SMOOTH_DRAWS = 200


def judge(
    predictions: Predictions,
    point: Point,
    options: Options,
    operating: Operating | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Returns all that metrics.json says about scores, but for where they came from.

    Args:
        predictions: of n images.
        point: the threshold that was asked for, see `points.resolve`.
        options: of the evaluation.
        operating: what validation fixed, see `fitting.fit`.
        columns: further slices: name -> value of each image.
    """
    labels, logits = predictions.labels.astype(int), predictions.logits.astype(np.float64)
    probabilities = predictions.probabilities
    every = points.with_carried(point, operating, options)
    calibrated = None
    if operating is not None and options.prevalence is None and operating['calibration']['method'] != 'none':
        calibrated = calibration_of(operating).apply(logits)
    resampler = Resampler.of(labels, predictions.groups)
    measured = figures.compute(labels, probabilities, logits, every, resampler, calibrated)
    if len(labels):
        perfect, low, high = calibration.ece_perfect(logits)
        measured['figures']['ece_perfect'] = intervals.figure(perfect, low, high, len(labels), 'simulated labels')
        measured['figures']['smooth_ece'] = _smooth_ece(labels, logits, predictions.groups)
    videos = _videos(predictions, point)
    tables, means = _slices(predictions, point.threshold, columns or {})
    trained_on = (operating or {}).get('sources')
    for row in tables.get('source', []) if trained_on else []:
        row['seen'] = row['value'] in trained_on
    found = {
        'date': datetime.date.today().isoformat(),
        'fakeimg': fakeimg.__version__,
        'command': options.command,
        'prevalence': options.prevalence,
        'flip': options.flip,
        **measured,
        'calibration': None if operating is None else operating['calibration'],
        'reliability': calibration.reliability(labels, logits),
        'curves': _curves(labels, logits),
        'histogram': _histogram(labels, probabilities),
        'risk_coverage': abstention.risk_coverage(labels, logits, threshold=point.threshold),
        'unsure': _unsure(predictions, options, operating),
        'slices': tables,
        'held_out': [row for row in tables.get('source', []) if row.get('seen') is False],
        'macro': means,
        'videos': videos,
        'robustness': None,
    }
    return {**metrics.compute_metrics(predictions, point.threshold), **_rounded(found)}


def _rounded(value: Any) -> Any:
    """Floats to six significant digits: finer ones depend on how the batch was split over devices."""
    if isinstance(value, dict):
        return {name: _near_one(item) if name == 'threshold' else _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f'{value:.6g}') if isinstance(value, float) else value


def _near_one(threshold: Any) -> Any:
    """A threshold to six digits, of its distance to 1 where it is near 1: networks are surer than 0.999999."""
    if not isinstance(threshold, float) or threshold < 0.5:
        return _rounded(threshold)
    return float(f'{1 - _rounded(1 - threshold):.15g}')


def lines(results: dict[str, Any]) -> list[str]:
    """What a console shows of the figures, with their intervals."""
    shown = [f'AUC {_with_interval(results["figures"]["auc"])}']
    for row in results['operating_points']:
        where = {'validation': 'from validation', 'this set': '(not achievable)'}.get(row['source'])
        name = thresholds.text(row['threshold'], 4) + (f', {row["name"]} {where}' if where else '')
        parts = ', '.join(f'{word} {_with_interval(row["figures"][key])}' for word, key in _SHOWN.items())
        shown.append(f'called fake from P(fake) {name}: {parts}')
    return shown


_SHOWN = {'accuracy': 'accuracy', 'false positive rate': 'fpr', 'recall': 'recall'}


def _with_interval(figure: dict[str, Any]) -> str:
    """`0.931 (0.918 to 0.942)`."""
    if figure['value'] is None:
        return f'undefined ({figure["why"]})'
    return f'{figure["value"]:.3f} ({figure["low"]:.3f} to {figure["high"]:.3f})'


def _smooth_ece(labels: np.ndarray, logits: np.ndarray, groups: Sequence[str]) -> intervals.Figure:
    """Smooth ECE, of which a resample takes milliseconds."""
    resampler = Resampler.of(labels, groups, _SMOOTH_DRAWS)
    drawn = resampler.measure(lambda counts: {'': np.asarray(calibration.smooth_ece(labels, logits, counts))})['']
    low, high = (float(bound[0]) for bound in resampler.interval(drawn[:, None]))
    value = float(calibration.smooth_ece(labels, logits))
    return intervals.figure(value, min(low, value), max(high, value), len(labels), resampler.method)


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


def _unsure(predictions: Predictions, options: Options, operating: Operating | None) -> dict[str, Any] | None:
    """The band that validation fixed, and what it does here."""
    if operating is None:
        return None
    error_rate = options.error_rate
    band = operating['unsure'][f'{error_rate:g}']
    if 'low' not in band:
        return {'error_rate': error_rate, **band}
    try:
        low, high = (points.on_scale(band[side], operating, options) for side in ('low', 'high'))
    except UserError as error:
        return {'error_rate': error_rate, 'why': str(error).rstrip('.')}
    labels, scores = predictions.labels, predictions.probabilities
    kept = (scores >= high) | (scores < low)
    resampler, every = Resampler.of(labels, predictions.groups), np.ones(len(labels), bool)
    return {
        'error_rate': error_rate,
        'low': low,
        'high': high,
        'source': operating.get('source', 'validation'),
        **{name: operating[name] for name in ('n', 'digest') if name in operating},
        'coverage': share(kept, every, resampler, 'no images'),
        'error': share((scores >= high) != labels, kept, resampler, 'all images are unsure'),
    }


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


def about(predictions: Predictions, name: str, layout: str = '') -> dict[str, Any]:
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
