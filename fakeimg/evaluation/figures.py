"""All figures of a set of scores with intervals: `figures`, `operating_points`, `transfer_gap` of metrics.json."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from fakeimg.evaluation import abstention, calibration, intervals
from fakeimg.evaluation.bounds import needed
from fakeimg.evaluation.intervals import Figure
from fakeimg.evaluation.ranking import FPRS, Ranked, decision_metrics
from fakeimg.evaluation.resampling import Resampler

_FREE = (
    'auc',
    'partial_auc',
    'average_precision',
    'eer',
    *FPRS,
    'log_loss',
    'brier',
    'cllr',
    'cllr_min',
    'ece',
    'augrc',
)
_POSTERIOR = 4000  # draws of rates
_DECISIONS = ('accuracy', 'balanced_accuracy', 'precision', 'recall', 'specificity', 'f1', 'f1_real', 'mcc', 'fpr')


@dataclasses.dataclass(frozen=True)
class Point:
    """A threshold, and where it came from.

    Attributes:
        name: as people say it: `0.5`, `fpr=0.01`.
        threshold: on P(fake), from which an image is called fake.
        source: `fixed`, `validation`, `this set`.
        more: of what it was fitted on, for `metrics.json`.
    """

    name: str
    threshold: float
    source: str = 'fixed'
    more: dict[str, Any] = dataclasses.field(default_factory=dict)


def compute(
    labels: np.ndarray,
    probabilities: np.ndarray,
    logits: np.ndarray,
    points: Sequence[Point],
    resampler: Resampler,
    calibrated: np.ndarray | None = None,
) -> dict[str, Any]:
    """Returns `figures`, `calibrated`, `operating_points` and `transfer_gap`.

    The set's own best threshold is the last operating point.

    Args:
        labels: int[n], 0 = real, 1 = fake.
        probabilities: float64[n], P(fake).
        logits: float64[n], their log-odds.
        points: thresholds; the gap is that of `balanced_accuracy`, or else of the first, to the set's own best.
        resampler: of the same images.
        calibrated: float64[n], log-odds corrected by what validation showed; None where there are none.
    """
    if not len(labels):
        figures = {name: intervals.undefined('no images', n=0) for name in _FREE}
        return {'figures': figures, 'calibrated': None, 'operating_points': [], 'transfer_gap': None}
    ranked = Ranked.of(labels, logits)
    once = ranked.count()
    has_both = 0 < labels.sum() < len(labels)
    points = [*points]
    if has_both:
        # Place 0 calls nothing fake; the last one, which calls everything fake, is as good then.
        threshold = probabilities[ranked.order[int(ranked.ends[once.best_place() - 1])]]
        points.append(Point('best on this set', float(threshold), 'this set'))
    places = [ranked.place(probabilities >= point.threshold) for point in points]

    def measure(counts: np.ndarray) -> dict[str, np.ndarray]:
        values = _measure(labels, logits, ranked, places, counts)
        if calibrated is not None:
            values |= {f'calibrated {name}': loss(labels, calibrated, counts) for name, loss in _LOSSES.items()}
        return values

    values = {name: float(value[0]) for name, value in measure(np.ones((1, len(labels)), np.int32)).items()}
    drawn = resampler.measure(measure)
    tables = [(int(once.tp[0, place]), int(once.fp[0, place])) for place in places]
    maker = _Maker(labels, resampler, values, drawn, len(ranked.ends) == 1)
    figures = {name: maker.figure(name) for name in _FREE}
    if has_both and not resampler.is_grouped:
        figures['auc'] = intervals.auc(labels, logits)
    for name, rate in FPRS.items():
        if figures[name]['value'] is not None and maker.units[0] < needed(rate):
            why = f'too few real {"groups" if resampler.is_grouped else "images"}'
            figures[name] = intervals.undefined(why, n=int(maker.units[0]), needs=needed(rate))
    figures['average_precision']['prevalence'] = round(float(labels.mean()), 6)
    rows = [
        maker.point(number, point, *table) for number, (point, table) in enumerate(zip(points, tables, strict=True))
    ]
    gap = None
    if has_both:
        names = [point.name for point in points]
        carried = names.index('balanced_accuracy') if 'balanced_accuracy' in names else 0
        gap = maker.difference(*(f'{number} balanced_accuracy' for number in (len(points) - 1, carried)))
        gap['at'] = names[carried]
    after = None if calibrated is None else {name: maker.figure(f'calibrated {name}') for name in _LOSSES}
    return {'figures': figures, 'calibrated': after, 'operating_points': rows, 'transfer_gap': gap}


def _measure(
    labels: np.ndarray, logits: np.ndarray, ranked: Ranked, places: list[int], counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Every metric, float64[d], of counts int32[d, n]; decisions are named `NUMBER name`."""
    table = ranked.count(counts)
    values = {
        'auc': table.auc(),
        'partial_auc': table.partial_auc(),
        'average_precision': table.average_precision(),
        'eer': table.eer(),
        **{name: table.tpr_at(rate) for name, rate in FPRS.items()},
        **{name: loss(labels, logits, counts) for name, loss in _LOSSES.items()},
        'cllr_min': calibration.cllr_min(labels, logits, counts),
        'augrc': abstention.augrc(labels, logits, counts),
    }
    for number, place in enumerate(places):
        values |= {f'{number} {name}': value for name, value in table.decisions(place).items()}
    return values


# What calibration changes.
_LOSSES = {
    'log_loss': calibration.log_loss,
    'brier': calibration.brier,
    'cllr': calibration.cllr,
    'ece': calibration.ece,
}
_RANKING = {'auc', 'partial_auc', 'average_precision', 'eer', *FPRS}


class _Maker:
    """Figures from values and their resamples."""

    def __init__(
        self,
        labels: np.ndarray,
        resampler: Resampler,
        values: dict[str, float],
        drawn: dict[str, np.ndarray],
        is_constant: bool,
    ) -> None:
        self.labels, self.resampler, self.values, self.drawn = labels, resampler, values, drawn
        self.is_constant = is_constant
        self.units = [len(np.unique(resampler.units[labels == label])) for label in (0, 1)]  # images, or groups
        self.more = {'groups': int(resampler.units.max()) + 1} if resampler.is_grouped else {}

    def figure(self, name: str) -> Figure:
        """A metric with the bootstrap's interval."""
        n, value = len(self.labels), self.values[name]
        if np.isnan(value):
            return intervals.undefined('only one class' if 0 in self.units else 'nothing was called so', n=n)
        low, high = (float(bound[0]) for bound in self.resampler.interval(self.drawn[name][:, None]))
        if high - low < 1e-9 and min(value, 1 - value) < 1e-9:  # no resample of a perfect result differs from it
            bound = intervals.lower_bound_of_all(min(filter(None, self.units)))
            low, high = (bound, 1.0) if value > 0.5 else (0.0, 1 - bound)
            return intervals.figure(value, low, high, n, 'one-sided exact bound by the smaller class', **self.more)
        if name in _RANKING and self.is_constant:
            return intervals.figure(value, 0, 1, n, 'none: all scores are the same', **self.more)
        return intervals.figure(value, min(low, value), max(high, value), n, self.resampler.method, **self.more)

    def point(self, number: int, point: Point, tp: int, fp: int) -> dict[str, Any]:
        """The row of a threshold that calls `tp` fake and `fp` real images fake."""
        n, fake = len(self.labels), int(self.labels.sum())
        real, tn, fn = n - fake, n - fake - fp, fake - tp
        shares = {'accuracy': (tp + tn, n), 'recall': (tp, fake), 'specificity': (tn, real), 'fpr': (fp, real),
                  'precision': (tp, tp + fp)}  # fmt: skip
        figures = {name: self._decision(number, name, (tp, fp), shares) for name in _DECISIONS}
        return {
            'name': point.name,
            'threshold': point.threshold,
            'source': point.source,
            'achievable': point.source != 'this set',
            **point.more,
            'confusion': {'tp': tp, 'fp': fp, 'tn': tn, 'fn': fn},
            'figures': figures,
        }

    def _decision(self, number: int, name: str, called: tuple[int, int], shares: dict[str, tuple[int, int]]) -> Figure:
        value = self.values[f'{number} {name}']
        if name in shares and not np.isnan(value) and not self.resampler.is_grouped:
            return intervals.proportion(*shares[name])
        made = self.figure(f'{number} {name}')
        if not np.isnan(value) and np.ptp(self.drawn[f'{number} {name}']) == 0:
            low, high = self._from_rates(name, *called)
            made |= intervals.figure(
                value, min(low, value), max(high, value), made['n'], 'Jeffreys priors on TPR and FPR'
            )
        if name in shares:
            made['n'] = shares[name][1]
        return made

    def _from_rates(self, name: str, tp: int, fp: int) -> tuple[float, float]:
        """An interval where all resamples agree: TPR and FPR drawn from their posteriors (Jeffreys' prior)."""
        rng = np.random.default_rng(0)
        totals = [self.labels.sum(), len(self.labels) - self.labels.sum()]
        drawn = []
        for called, total, units in zip((tp, fp), totals, reversed(self.units), strict=True):
            share = called / total * units if total else 0.0
            drawn.append(total * rng.beta(share + 0.5, units - share + 0.5, _POSTERIOR))
        metrics = decision_metrics(*drawn, *(np.full(_POSTERIOR, float(total)) for total in totals))
        low, high = np.nanquantile(metrics[name], [0.025, 0.975])
        return float(low), float(high)

    def difference(self, first: str, second: str) -> Figure:
        """One metric minus another on the same resamples."""
        low, high = (float(b[0]) for b in self.resampler.interval((self.drawn[first] - self.drawn[second])[:, None]))
        value = self.values[first] - self.values[second]
        return intervals.figure(value, low, high, len(self.labels), self.resampler.method, **self.more)
