"""Two detectors on the same images: the differences of AUC and accuracy with intervals, and p-values for them.

What both detectors find hard or easy cancels out, so that a paired interval is narrower than two separate ones suggest.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy.optimize
import scipy.special

from fakeimg.evaluation.intervals import LEVEL, Figure, delong, figure, lower_bound_of_all, undefined
from fakeimg.evaluation.resampling import Resampler

_Z = float(scipy.special.ndtri(0.5 + LEVEL / 2))
Statistic = Callable[[np.ndarray], np.ndarray]  # float64[n, draws], how often each image was drawn -> float64[draws]


def auc_difference(labels: np.ndarray, a: np.ndarray, b: np.ndarray, groups: Sequence[str] | None = None) -> Figure:
    """The AUC of `a` minus that of `b` on the same images, with its 95 % interval.

    Paired DeLong (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988); where images share groups, whole groups are
    resampled, those of each class apart, and the interval is Student's with that deviation.

    Args:
        labels: int[n], 1 = fake.
        a, b: float[n], scores of the two detectors, larger for fake.
        groups: of the n images, '' for an image without one.

    Returns:
        A figure; `p` is that of no difference, two-sided, None where the images are too few for one.
    """
    n, smaller = len(labels), int(min(labels.sum(), len(labels) - labels.sum()))
    if not smaller:
        return undefined('only one class', n=n, p=None)
    areas, covariance = delong(labels, np.stack([a, b]))
    value = float(areas[0] - areas[1])
    if _ranked_alike(a, b):
        return figure(0.0, 0.0, 0.0, n, 'identical rankings', p=1.0)
    if set(areas.tolist()) <= {0.0, 1.0}:  # each without an error among all pairs
        slack = 1 - lower_bound_of_all(smaller)
        return _bounded(value, slack, n, 'one-sided bounds by the smaller class', None)
    resampler = Resampler.of(labels, groups or ())
    if resampler.is_grouped:
        units = min(len(np.unique(resampler.units[labels == label])) for label in (0, 1))
        if units < 2:
            return _bounded(value, math.inf, n, 'none: a class has a single group', None)
        auc_a, auc_b = (_weighted_auc(labels, scores) for scores in (a, b))
        return _resampled(value, resampler, units, lambda counts: auc_a(counts) - auc_b(counts))
    deviation = math.sqrt(max(0.0, float(np.array([1, -1]) @ covariance @ np.array([1, -1])))) if smaller > 1 else 0.0
    if not deviation:
        return _bounded(value, math.inf, n, 'none: too few images', None)
    p = 2 * float(scipy.special.ndtr(-abs(value) / deviation))
    return _bounded(value, _Z * deviation, n, 'paired DeLong', p)


def accuracy_difference(
    labels: np.ndarray, decided_a: np.ndarray, decided_b: np.ndarray, groups: Sequence[str] | None = None
) -> Figure:
    """The accuracy of `a` minus that of `b` on the same images, with its 95 % interval.

    Tango's score interval for paired proportions (Statistics in Medicine 17, 1998), and the p of the exact McNemar
    test; with groups as for `auc_difference`.

    Args:
        labels: int[n], 1 = fake.
        decided_a, decided_b: bool or int[n], what the two detectors call fake.
        groups: of the n images, '' for an image without one.

    Returns:
        A figure with `p`, and `only_a` and `only_b`: images that one of the two alone gets right.
    """
    n = len(labels)
    only_a, only_b = discordant(labels, decided_a, decided_b)
    counts = {'only_a': only_a, 'only_b': only_b}
    if not n:
        return undefined('there are no images', n=0, p=None)
    value = (only_a - only_b) / n
    resampler = Resampler.of(labels, groups or ())
    if not resampler.is_grouped:
        low, high = tango(only_a, only_b, n)
        return figure(value, low, high, n, 'Tango', p=mcnemar(labels, decided_a, decided_b), **counts)
    units = int(resampler.units.max()) + 1
    if units < 2:
        return {**_bounded(value, math.inf, n, 'none: a single group', None), **counts}
    if not only_a + only_b:  # nothing varies; the groups are what was observed
        low, high = tango(0, 0, units)
        return figure(0.0, low, high, n, 'Tango, by groups', groups=units, p=1.0, **counts)
    gains = (np.asarray(decided_a) == labels).astype(float) - (np.asarray(decided_b) == labels)
    found = _resampled(value, resampler, units, lambda drawn: (gains @ drawn) / drawn.sum(0))
    return {**found, **counts}


def _ranked_alike(a: np.ndarray, b: np.ndarray) -> bool:
    ranks_a, ranks_b = (np.unique(scores, return_inverse=True)[1] for scores in (a, b))
    return np.array_equal(ranks_a, ranks_b)


def discordant(labels: np.ndarray, decided_a: np.ndarray, decided_b: np.ndarray) -> tuple[int, int]:
    """How many images `a` alone gets right, and how many `b` alone."""
    right_a, right_b = np.asarray(decided_a) == labels, np.asarray(decided_b) == labels
    return int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())


def mcnemar(labels: np.ndarray, decided_a: np.ndarray, decided_b: np.ndarray) -> float:
    """The two-sided p of the exact McNemar test: both detectors are right equally often. Images must be independent."""
    only_a, only_b = discordant(labels, decided_a, decided_b)
    return min(1.0, 2 * float(scipy.special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Adjusts p-values for their number (Holm, Scand. J. Statist. 6, 1979); None stays, and counts for nothing."""
    tested = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[place] = largest
    return adjusted


def tango(only_a: int, only_b: int, n: int) -> tuple[float, float]:
    """Tango's 95 % score interval of (only_a - only_b) / n, by its roots."""

    def score(delta: float) -> float:
        first, second = 2 * n, -only_a - only_b + (2 * n - only_a + only_b) * delta
        root = math.sqrt(max(0.0, second**2 + 4 * first * only_b * delta * (1 - delta)))
        share = (root - second) / (2 * first)  # of images that only b gets right, were the difference delta
        variance = n * (2 * share + delta * (1 - delta))
        return (only_a - only_b - n * delta) / math.sqrt(max(variance, 1e-300))

    value, end = (only_a - only_b) / n, 1 - 1e-12
    ends = []
    for side in (-1, 1):
        inner, outer = min(end, max(-end, value)), side * end
        crosses = (score(outer) + side * _Z) * side < 0
        ends.append(scipy.optimize.brentq(lambda delta: score(delta) + side * _Z, inner, outer) if crosses else side)  # noqa: B023
    return float(ends[0]), float(ends[1])


def _weighted_auc(labels: np.ndarray, scores: np.ndarray) -> Statistic:
    """The AUC of resampled images: the scores are sorted once, and every draw only weighs them anew."""
    fake, real = (rows[np.argsort(scores[rows])] for rows in (np.flatnonzero(labels == 1), np.flatnonzero(labels != 1)))
    below, up_to = (np.searchsorted(scores[real], scores[fake], side) for side in ('left', 'right'))
    has_ties = bool((below != up_to).any())

    def auc(counts: np.ndarray) -> np.ndarray:
        weights = counts[fake]
        reals = np.zeros((len(real) + 1, counts.shape[1]))  # how many of the lowest 0, 1, 2, ... real scores
        np.cumsum(counts[real], axis=0, out=reals[1:])
        lower = reals[below]
        if has_ties:  # which count half
            lower = (lower + reals[up_to]) / 2
        return np.einsum('ij,ij->j', weights, lower) / (weights.sum(0) * reals[-1])

    return auc


def _resampled(value: float, resampler: Resampler, units: int, statistic: Statistic) -> Figure:
    """A figure from resampled groups: Student's interval with one degree of freedom less than there are `units`."""
    with np.errstate(invalid='ignore', divide='ignore'):
        drawn = [statistic(np.ascontiguousarray(counts.T, np.float64)) for counts in resampler.draws()]
    found = np.concatenate(drawn)
    found = found[np.isfinite(found)]  # few groups of both classes can leave a draw without one of them
    deviation = float(found.std(ddof=1)) * math.sqrt(units / (units - 1))  # draws of g groups vary 1 - 1/g as much
    n, more = len(resampler.units), {'groups': int(resampler.units.max()) + 1}
    if not deviation:
        return {**_bounded(value, math.inf, n, 'none: too few groups', None), **more}
    p = 2 * float(scipy.special.stdtr(units - 1, -abs(value) / deviation))
    half = float(scipy.special.stdtrit(units - 1, 0.5 + LEVEL / 2)) * deviation
    return {**_bounded(value, half, n, resampler.method(), p), **more}


def _bounded(value: float, half: float, n: int, method: str, p: float | None) -> Figure:
    """A figure of a difference, which lies between -1 and 1."""
    return figure(value, max(-1.0, value - half), min(1.0, value + half), n, method, p=p)
