"""How many errors a set may show, so that a promised rate holds with a given certainty, 95 % by default."""

import bisect
import functools
import math
from collections.abc import Sequence

import numpy as np

from fakeimg.evaluation.intervals import LEVEL, upper_bound
from fakeimg.evaluation.resampling import Resampler


@functools.lru_cache(maxsize=4096)
def allowed(n: int, rate: float, level: float = LEVEL) -> int:
    """The most errors of n whose one-sided Clopper-Pearson bound is at most `rate`; -1 if not even 0 are few enough."""
    return bisect.bisect_right(range(n + 1), rate, key=lambda errors: upper_bound(errors, n, level)) - 1 if n else -1


@functools.lru_cache
def needed(rate: float, errors: int = 0, level: float = LEVEL) -> int:
    """The fewest images of which so many may be wrong: for 0 errors, 299 for a rate of 0.01 and 59 for 0.05."""
    most = math.ceil(10 * (errors + 1) / rate)
    return bisect.bisect_left(range(most), True, key=lambda n: n > errors and upper_bound(errors, n, level) <= rate)


def unit_numbers(labels: np.ndarray, groups: Sequence[str] | None) -> np.ndarray:
    """int[n]: the number of each image's group; an image without one is a group of its own."""
    return Resampler.of(labels, groups).units if groups and any(groups) else np.arange(len(labels))


def effective_number(units: np.ndarray) -> int:
    """How many independent images are worth as much as these, whose groups have the numbers int[n].

    Kish, "Survey Sampling", 1965, section 8.2, for images of a group that are all right or all wrong together, which
    is the worst case: the number of groups where these are equally large, and less where they are not.
    """
    sizes = np.bincount(units).astype(float)
    return math.floor(len(units) ** 2 / (sizes @ sizes) + 1e-9) if len(units) else 0
