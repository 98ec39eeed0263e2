"""The figures of a comparison: each system on each set, and the paired differences with their tests."""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats

from fakeimg.evaluation import intervals, paired
from fakeimg.evaluation.alignment import Aligned
from fakeimg.evaluation.entrants import Entrant
from fakeimg.evaluation.intervals import Figure
from fakeimg.evaluation.resampling import Resampler

ALL_PAIRS = 4  # systems; of more, each is tested against the first alone
METRICS = ('auc', 'accuracy')


@dataclasses.dataclass(frozen=True)
class System:
    """One recipe with its seeds, or one detector."""

    name: str
    members: list[Entrant]


def cell(system: System, column: Aligned, threshold: str) -> dict[str, Any] | None:
    """The figures of a system on a set; of several seeds, their mean with Student's interval over seeds."""
    members = [member for member in system.members if member in column.scores]
    if not members:
        return None
    rows = []
    resampler = Resampler.of(column.labels, column.groups)
    for member in members:
        scored, decided = column.scores[member], column.decided(member, threshold)
        logits = column.logits(member)
        without = (scored.metrics or {}).get('without_copies')
        rows.append(
            {
                'name': member.name,
                'path': str(member.path),
                'evaluation': str(scored.folder) if scored.folder else None,
                'is_new': scored.is_new,
                'threshold': column.threshold(member, threshold),
                'auc': _auc(column.labels, logits, resampler),
                'accuracy': _accuracy(column.labels, decided, resampler),
                'copies': without['copies'] if without else 0,
                'without_copies': {name: without.get(name) for name in ('n', *METRICS)} if without else None,
            }
        )
    figures = {name: rows[0][name] if len(rows) == 1 else over_seeds([row[name] for row in rows]) for name in METRICS}
    return {'system': system.name, 'data': column.name, **figures, 'members': rows}


def over_seeds(figures: Sequence[Figure]) -> Figure:
    """The mean over seeds with Student's interval: where the mean of many more seeds would lie on the same images."""
    values = [figure['value'] for figure in figures]
    if None in values:
        return intervals.undefined(figures[values.index(None)]['why'], n=figures[0]['n'])
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    half = paired.students_t(len(values) - 1) * deviation / math.sqrt(len(values))
    more = {'deviation': round(deviation, 6), 'seeds': len(values)}
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return intervals.figure(mean, low, high, figures[0]['n'], "Student's t over seeds", **more)


def _auc(labels: np.ndarray, logits: np.ndarray, resampler: Resampler) -> Figure:
    found = intervals.auc(labels, logits)
    if not resampler.is_grouped or found['value'] is None:
        return found
    return _grouped(found, resampler, paired.weighted_auc(labels, logits))


def _accuracy(labels: np.ndarray, decided: np.ndarray, resampler: Resampler) -> Figure:
    right = decided == labels
    found = intervals.proportion(int(right.sum()), len(labels))
    if not resampler.is_grouped:
        return found
    return _grouped(found, resampler, lambda counts: (right @ counts) / counts.sum(0))


def _grouped(found: Figure, resampler: Resampler, statistic: paired.Statistic) -> Figure:
    low, high = resampler.interval(paired.resample(resampler, statistic)[:, None])
    more = {'method': resampler.method, 'groups': int(resampler.units.max()) + 1}
    return {**intervals.figure(found['value'], float(low[0]), float(high[0]), found['n'], ''), **more}


def pairs(systems: Sequence[System], columns: Sequence[Aligned], threshold: str) -> list[dict[str, Any]]:
    """Paired differences of all pairs of systems, or to the first one, with p-values adjusted for their number."""
    chosen = itertools.combinations(systems, 2)
    if len(systems) > ALL_PAIRS:
        chosen = ((systems[0], other) for other in systems[1:])
    rows = []
    for (a, b), column in itertools.product(list(chosen), columns):
        of_a, of_b = ([member for member in one.members if member in column.scores] for one in (a, b))
        if not of_a or not of_b:
            continue
        row: dict[str, Any] = {'a': a.name, 'b': b.name, 'data': column.name, 'seeds': [len(of_a), len(of_b)]}
        logits_a, logits_b = (np.stack([column.logits(one) for one in side]) for side in (of_a, of_b))
        decided_a, decided_b = (np.stack([column.decided(one, threshold) for one in side]) for side in (of_a, of_b))
        row['auc'] = paired.auc_difference(column.labels, logits_a, logits_b, column.groups)
        row['accuracy'] = paired.accuracy_difference(column.labels, decided_a, decided_b, column.groups)
        if min(row['seeds']) > 1:
            row['recipes'] = {
                'auc': _of_recipes(row['auc'], _areas(column.labels, logits_a), _areas(column.labels, logits_b)),
                'accuracy': _of_recipes(
                    row['accuracy'], (decided_a == column.labels).mean(1), (decided_b == column.labels).mean(1)
                ),
            }
        rows.append(row)
    for metric in METRICS:
        for of in ([row[metric] for row in rows], [row['recipes'][metric] for row in rows if 'recipes' in row]):
            for figure, p in zip(of, paired.holm([figure['p'] for figure in of]), strict=True):
                figure['p_holm'] = p
    return rows


def _areas(labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """float64[k] of k seeds, NaN for one class."""
    has_both = 0 < labels.sum() < len(labels)
    return intervals.delong(labels, rows)[0] if has_both else np.full(len(rows), np.nan)


def _of_recipes(found: Figure, a: np.ndarray, b: np.ndarray) -> Figure:
    """The difference for other seeds of the two recipes: its variance over images plus that over seeds (Welch)."""
    if found['value'] is None or found['p'] is None:
        return {**found}
    of_images = ((found['high'] - found['low']) / 2 / paired.students_t(math.inf)) ** 2
    parts = [(float(side.var(ddof=1)) / len(side), len(side) - 1) for side in (a, b)]
    total = of_images + sum(part for part, _ in parts)
    doubt = sum(part**2 / freedom for part, freedom in parts)
    if not total:
        return {**found}
    freedom, deviation = total**2 / doubt if doubt else math.inf, math.sqrt(total)
    half = paired.students_t(freedom) * deviation
    p = 2 * float(scipy.stats.t.sf(abs(found['value']) / deviation, freedom))
    low, high = max(-1.0, found['value'] - half), min(1.0, found['value'] + half)
    return intervals.figure(found['value'], low, high, found['n'], 'variance over images and over seeds', p=p)
