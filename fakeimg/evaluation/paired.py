"""Two detectors on the same images: the differences of AUC and accuracy with intervals, and p-values for them.

What both detectors find hard or easy cancels out, so that a paired interval is narrower than two separate ones suggest.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats

from fakeimg.evaluation.intervals import LEVEL, Figure, auc_interval, delong, figure, undefined
from fakeimg.evaluation.resampling import Resampler

_Z = float(scipy.special.ndtri(0.5 + LEVEL / 2))
Statistic = Callable[[np.ndarray], np.ndarray]  # float64[n, draws], how often each image was drawn -> float64[draws]


def auc_difference(labels: np.ndarray, a: np.ndarray, b: np.ndarray, groups: Sequence[str] | None = None) -> Figure:
    """The AUC of `a` minus that of `b` on the same images, with its 95 % interval.

    DeLong's covariance of the two areas (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988) combines their
    intervals on the logit scale (Zou and Donner, Statistics in Medicine 27, 2008), which keep their word near 1 too;
    `p` is that of DeLong's test. Where images share groups, whole groups are resampled, those of each class apart;
    interval and `p` are then Student's.

    Args:
        labels: int[n], 1 = fake.
        a, b: float[n], scores of the two detectors, larger for fake; float[k, n] of k seeds, whose areas are averaged.
        groups: of the n images, '' for an image without one.

    Returns:
        A figure; `p` is that of no difference, two-sided, None where the images are too few for one.
    """
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    n, smaller = len(labels), int(min(labels.sum(), len(labels) - labels.sum()))
    if not smaller:
        return undefined('only one class', n=n, p=None)
    if a.shape == b.shape and all(map(_ranked_alike, a, b)):
        return figure(0.0, 0.0, 0.0, n, 'identical rankings', p=1.0)
    areas, covariance = delong(labels, np.concatenate([a, b]))
    shares = np.zeros((2, len(areas)))  # of each row in the mean of its side
    shares[0, : len(a)], shares[1, len(a) :] = 1 / len(a), 1 / len(b)
    areas, covariance = shares @ areas, shares @ covariance @ shares.T
    value = float(areas[0] - areas[1])
    resampler = Resampler.of(labels, groups or ())
    if resampler.is_grouped:
        units = min(len(np.unique(resampler.units[labels == label])) for label in (0, 1))
        if units < 2:
            return figure(value, -1, 1, n, 'none: a class has a single group', p=None)
        means = [[weighted_auc(labels, scores) for scores in rows] for rows in (a, b)]
        return _resampled(value, resampler, units, lambda counts: _mean(means[0], counts) - _mean(means[1], counts))
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    p = 2 * float(scipy.special.ndtr(-abs(value) / math.sqrt(variance))) if variance > 1e-18 else None
    low, high = _combined(areas, covariance, smaller)
    return figure(value, low, high, n, 'paired DeLong, logit scale', p=p)


def accuracy_difference(
    labels: np.ndarray, decided_a: np.ndarray, decided_b: np.ndarray, groups: Sequence[str] | None = None
) -> Figure:
    """The accuracy of `a` minus that of `b` on the same images, with its 95 % interval.

    Tango's score interval for paired proportions (Statistics in Medicine 17, 1998), and the p of the exact McNemar
    test; with groups as for `auc_difference`, and for several seeds the normal interval of the mean difference.

    Args:
        labels: int[n], 1 = fake.
        decided_a, decided_b: bool or int[n], what the two detectors call fake; [k, n] of k seeds, which are averaged.
        groups: of the n images, '' for an image without one.

    Returns:
        A figure with `p`, and of single seeds `only_a` and `only_b`: images that one of the two alone gets right.
    """
    a, b = np.atleast_2d(decided_a), np.atleast_2d(decided_b)
    n = len(labels)
    if not n:
        return undefined('there are no images', n=0, p=None)
    gains = (a == labels).mean(0) - (b == labels).mean(0)
    value, is_single = float(gains.mean()), len(a) == len(b) == 1
    only_a, only_b = discordant(labels, a[0], b[0])
    counts = {'only_a': only_a, 'only_b': only_b} if is_single else {}
    resampler = Resampler.of(labels, groups or ())
    units = int(resampler.units.max()) + 1
    more = {'groups': units, **counts} if resampler.is_grouped else counts
    if units < 2 <= n:
        return figure(value, -1, 1, n, 'none: a single group', p=None, **more)
    if not gains.any():  # nothing varies; the images, or the groups, are what was observed
        return figure(0.0, *tango(0, 0, units), n, 'Tango', p=1.0, **more)
    if resampler.is_grouped:
        return {**_resampled(value, resampler, units, lambda drawn: (gains @ drawn) / drawn.sum(0)), **more}
    if is_single:
        return figure(value, *tango(only_a, only_b, n), n, 'Tango', p=mcnemar(labels, a[0], b[0]), **more)
    deviation = float(gains.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return _normal(value, deviation, n - 1, n, 'mean of paired differences', 'none: too few images')


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


def weighted_auc(labels: np.ndarray, scores: np.ndarray) -> Statistic:
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


def resample(resampler: Resampler, statistic: Statistic) -> np.ndarray:
    """float64[draws], NaN where a draw lacks a class."""
    with np.errstate(invalid='ignore', divide='ignore'):
        drawn = [statistic(np.ascontiguousarray(counts.T, np.float64)) for counts in resampler.draws()]
    return np.concatenate(drawn)


def _mean(statistics: Sequence[Statistic], counts: np.ndarray) -> np.ndarray:
    return np.mean([statistic(counts) for statistic in statistics], axis=0)


def _resampled(value: float, resampler: Resampler, units: int, statistic: Statistic) -> Figure:
    """A figure from resampled groups: Student's interval with one degree of freedom less than there are `units`."""
    found = resample(resampler, statistic)
    found = found[np.isfinite(found)]  # few groups of both classes can leave a draw without one of them
    deviation = float(found.std(ddof=1)) * math.sqrt(units / (units - 1))  # draws of g groups vary 1 - 1/g as much
    n, groups = len(resampler.units), int(resampler.units.max()) + 1
    return {**_normal(value, deviation, units - 1, n, resampler.method, 'none: too few groups'), 'groups': groups}


def _normal(value: float, deviation: float, freedom: float, n: int, method: str, otherwise: str) -> Figure:
    """A difference with Student's interval and p; without any deviation, there is no interval."""
    if not deviation > 1e-9:
        return figure(value, -1, 1, n, otherwise, p=None)
    half = students_t(freedom) * deviation
    p = 2 * float(scipy.stats.t.sf(abs(value) / deviation, freedom))
    return figure(value, max(-1.0, value - half), min(1.0, value + half), n, method, p=p)


def students_t(freedom: float) -> float:
    """How many standard errors a 95 % interval reaches; 1.96 for infinitely many degrees of freedom."""
    return float(scipy.stats.t.ppf(0.5 + LEVEL / 2, freedom))


def _combined(areas: np.ndarray, covariance: np.ndarray, smaller: int) -> tuple[float, float]:
    """The interval of the difference of two areas, from their own intervals and their correlation."""
    variances = np.nan_to_num(np.diag(covariance))
    (low_a, high_a), (low_b, high_b) = (auc_interval(*pair, smaller) for pair in zip(areas, variances, strict=True))
    a, b = (float(area) for area in areas)
    both = math.sqrt(variances[0] * variances[1])
    correlation = float(covariance[0, 1]) / both if both > 0 else 0.0

    def distance(of_a: float, of_b: float) -> float:
        return math.sqrt(max(0.0, of_a**2 + of_b**2 - 2 * correlation * of_a * of_b))

    return a - b - distance(a - low_a, high_b - b), a - b + distance(high_a - a, b - low_b)
