"""Statistics of resamples: an image that was drawn k times has the weight k, and nothing is copied or sorted again."""

from collections.abc import Callable

import numpy as np


def over_draws(statistic: Callable[[np.ndarray], float], weights: np.ndarray | None, n: int) -> float | np.ndarray:
    """What `statistic` makes of each row of weights.

    Args:
        statistic: takes float64[n].
        weights: whole numbers [n] or [draws, n]; None counts each of the n images once.

    Returns:
        A float, or float64[draws].
    """
    if weights is None:
        return float(statistic(np.ones(n)))
    weights = np.asarray(weights)
    if weights.ndim == 1:
        return float(statistic(weights.astype(np.float64)))
    # Row by row: what 20,000 images need stays in the cache of a core.
    return np.array([statistic(row.astype(np.float64)) for row in weights], np.float64)


def tie_ends(ordered: np.ndarray) -> np.ndarray:
    """int[k]: the last place of each of the k different values of an ordered array."""
    return np.flatnonzero(np.append(ordered[1:] != ordered[:-1], len(ordered) > 0))


def running(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """float64[k + 1]: sums of `values` up to and with each end, after a 0."""
    return np.concatenate([[0.0], np.cumsum(values)[ends]])
