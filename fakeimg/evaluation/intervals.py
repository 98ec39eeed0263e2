"""Intervals that keep their word: Wilson and Clopper-Pearson for proportions, DeLong for areas under ROC curves.

A figure is a JSON object: `value`, `low`, `high` (95 %), `n` and `method`; an undefined one has `value` None and `why`.
"""

import math
from typing import Any

import numpy as np
import scipy.special
import scipy.stats

Figure = dict[str, Any]
LEVEL = 0.95
_Z = float(scipy.special.ndtri(0.5 + LEVEL / 2))


def figure(value: float, low: float, high: float, n: int, method: str, **more: Any) -> Figure:
    """A figure as `metrics.json` has it, to six digits: finer ones depend on how the batch was split over devices."""
    numbers = {name: round(float(number), 6) for name, number in (('value', value), ('low', low), ('high', high))}
    return {**numbers, 'n': int(n), 'method': method, **more}


def undefined(why: str, **more: Any) -> Figure:
    """A figure that this set does not define or support; `why` in words."""
    return {'value': None, 'why': why, **more}


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson, JASA 22, 1927); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    share, square = successes / n, _Z**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = _Z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def proportion(successes: int, n: int, why: str = 'there are none') -> Figure:
    """A share of n with Wilson's interval."""
    return figure(successes / n, *wilson(successes, n), n, 'Wilson') if n else undefined(why, n=0)


def clopper_pearson(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact two-sided interval of a proportion (Clopper and Pearson, Biometrika 26, 1934)."""
    tail = (1 - level) / 2
    low = scipy.stats.beta.ppf(tail, successes, n - successes + 1) if successes > 0 else 0.0
    return float(low), upper_bound(successes, n, 1 - tail)


def upper_bound(successes: int, n: int, level: float = LEVEL) -> float:
    """The exact one-sided upper bound of a proportion."""
    return float(scipy.stats.beta.ppf(level, successes + 1, n - successes)) if successes < n else 1.0


def lower_bound_of_all(n: int, level: float = LEVEL) -> float:
    """The exact one-sided lower bound of a proportion after n successes of n."""
    return (1 - level) ** (1 / n)


def delong(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas under the ROC curves of k detectors on the same images, and their covariance.

    DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988, by ranks (Sun and Xu, IEEE SPL 21, 2014); ties count half.

    Args:
        labels: int[n], 1 = fake, both classes.
        scores: float[k, n], larger for fake.

    Returns:
        float64[k] and float64[k, k]; the covariance is NaN where a class has a single image.
    """
    scores = np.atleast_2d(scores)
    fake, real = labels == 1, labels == 0
    positive, negative = int(fake.sum()), int(real.sum())
    every = scipy.stats.rankdata(scores, axis=1)
    of_fake = scipy.stats.rankdata(scores[:, fake], axis=1)
    of_real = scipy.stats.rankdata(scores[:, real], axis=1)
    above = (every[:, fake] - of_fake) / negative  # share of real images below each fake one
    below = 1 - (every[:, real] - of_real) / positive  # share of fake images above each real one
    with np.errstate(divide='ignore', invalid='ignore'):
        covariance = _covariance(above) / positive + _covariance(below) / negative
    return above.mean(1), covariance


def _covariance(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(1, keepdims=True)
    return centred @ centred.T / np.float64(rows.shape[1] - 1)


def auc(labels: np.ndarray, logits: np.ndarray) -> Figure:
    """The area under the ROC curve, with DeLong's interval on the logit scale (Pepe, 2003, section 5.2)."""
    n, smaller = len(labels), int(min(labels.sum(), len(labels) - labels.sum()))
    if not smaller:
        return undefined('only one class', n=n)
    areas, covariance = delong(labels, logits)
    area, variance = float(areas[0]), float(covariance[0, 0])
    method = 'DeLong, logit scale' if variance > 0 else 'none: too few images'
    if area in (0.0, 1.0):
        method = 'one-sided bound by the smaller class'
    return figure(area, *auc_interval(area, variance, smaller), n, method)


def auc_interval(area: float, variance: float, smaller: int) -> tuple[float, float]:
    """The 95 % interval of an area from DeLong's variance, on the logit scale; (0, 1) where the images are too few.

    `smaller` is the number of images of the smaller class: what an area of 1, no error among all pairs, can still say.
    """
    if area in (0.0, 1.0):
        bound = lower_bound_of_all(smaller)
        return (bound, 1.0) if area else (0.0, 1 - bound)
    if not variance > 0:  # or NaN
        return 0.0, 1.0
    half = _Z * math.sqrt(variance) / (area * (1 - area))
    centre = math.log(area / (1 - area))
    low, high = (float(scipy.special.expit(centre + side)) for side in (-half, half))
    return low, high
