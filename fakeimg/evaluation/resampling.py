"""The bootstrap: images, or whole groups of them, drawn again with replacement, within each class."""

import concurrent.futures
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import scipy.stats

from fakeimg.evaluation import intervals
from fakeimg.evaluation.intervals import LEVEL, Figure

_CHUNK = 2_000_000  # counts at once
_THREADS = 2


def number_of_draws(n: int) -> int:
    """2,000 up to 20,000 images, then fewer, for the same time; intervals of so many images are narrow anyway."""
    return max(200, min(2000, 40_000_000 // max(1, n)))


@dataclasses.dataclass(frozen=True)
class Resampler:
    """Draws counts of images; made by `Resampler.of`.

    Attributes:
        units: int[n], of which unit each image is a part; a unit is drawn whole.
        strata: units with only real images, with only fake ones, and with both, are drawn apart.
        is_grouped: whether units hold several images.
        count: of draws.
    """

    units: np.ndarray
    strata: list[np.ndarray]
    is_grouped: bool
    count: int

    @classmethod
    def of(cls, labels: np.ndarray, groups: Sequence[str] = (), count: int | None = None) -> 'Resampler':
        """Of images int[n] of 0 and 1, and their groups, where '' is an image of its own; None: as many as is usual."""
        n = len(labels)
        units = np.arange(n)
        if any(groups):
            numbers: dict[str, int] = {}
            units = np.array([numbers.setdefault(g, len(numbers)) if g else n + row for row, g in enumerate(groups)])
            units = np.unique(units, return_inverse=True)[1]
        kinds = np.zeros(int(units.max(initial=-1)) + 1, int)
        for label in (0, 1):
            kinds[np.unique(units[labels == label])] += label + 1
        strata = [members for kind in (1, 2, 3) if (members := np.flatnonzero(kinds == kind)).size]
        return cls(units, strata, len(kinds) < n, number_of_draws(n) if count is None else count)

    def measure(self, statistics: Callable[[np.ndarray], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """name -> float64[draws]: `statistics` takes how often each image was drawn, int32[d, n], gives float64[d]."""
        parts, draws = [], self.draws()
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            while some := list(itertools.islice(draws, _THREADS)):  # no more of them in memory
                parts += pool.map(statistics, some)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def draws(self, seed: int = 0) -> Iterator[np.ndarray]:
        """Yields int32[d, n], how often each image was drawn, until all draws are made."""
        rng = np.random.default_rng(seed)
        count, total = self.count, sum(members.size for members in self.strata)
        size = max(1, min(count, _CHUNK // max(1, len(self.units))))
        for start in range(0, count, size):
            rows = min(size, count - start)
            counts = np.zeros((rows, total), np.int32)
            for members in self.strata:
                picks = rng.integers(0, members.size, (rows, members.size)) + members.size * np.arange(rows)[:, None]
                counts[:, members] = np.bincount(picks.ravel(), minlength=rows * members.size).reshape(rows, -1)
            yield counts[:, self.units] if self.is_grouped else counts

    @property
    def smallest(self) -> int:
        """Number of units in the smallest stratum."""
        return min(members.size for members in self.strata)

    @property
    def method(self) -> str:
        """How the intervals were made, in words."""
        return f'bootstrap, {self.count:,} draws of {"whole groups" if self.is_grouped else "images"} within each class'

    def interval(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The 95 % interval of each column of float[draws, k], from the percentiles of the draws, NaN aside.

        With few units the percentiles are taken further out, as Student's t is wider than the normal distribution
        (Hesterberg, The American Statistician 69, 2015, section 5.1).
        """
        units = max(2, self.smallest)
        quantile = scipy.stats.t.ppf(0.5 - LEVEL / 2, units - 1) * np.sqrt(units / (units - 1))
        low = float(scipy.stats.norm.cdf(quantile))
        with np.errstate(all='ignore'):
            bounds = np.nanquantile(values, [low, 1 - low], axis=0)
        return bounds[0], bounds[1]


def share(part: np.ndarray, whole: np.ndarray, resampler: Resampler, why: str = 'there are none') -> Figure:
    """The share of the images `whole`, bool[n], that `part`, bool[n], is: Wilson, or whole groups drawn again."""
    part = part & whole
    count, n = int(part.sum()), int(whole.sum())
    if not n or not resampler.is_grouped:
        return intervals.proportion(count, n, why)

    def measure(counts: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid='ignore'):
            return {'': (counts @ part) / (counts @ whole)}

    low, high = (float(bound[0]) for bound in resampler.interval(resampler.measure(measure)[''][:, None]))
    units = len(np.unique(resampler.units[whole]))
    if low == high and count in (0, n):  # no draw differs
        bound = intervals.lower_bound_of_all(units)
        low, high = (bound, 1.0) if count else (0.0, 1 - bound)
    value = count / n
    return intervals.figure(value, min(low, value), max(high, value), n, resampler.method, groups=units)
