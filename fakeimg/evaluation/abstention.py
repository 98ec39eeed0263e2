"""What a detector is worth that may leave some images undecided, and which ones it had better leave."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special

from fakeimg.evaluation.bounds import allowed, effective_number, needed, unit_numbers
from fakeimg.evaluation.counts import over_draws, running, tie_ends
from fakeimg.evaluation.intervals import LEVEL

CURVE_POINTS = 200
STEPS = 100  # bands tried, one for about each hundredth of the images
_STARTS = (0.2, 0.6)  # shares of the images that the first band leaves decided: the surest ones alone may mislead
_STEP_LEVEL = 1 - (1 - LEVEL) / len(_STARTS)


def augrc(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None, *, threshold: float = 0.5
) -> float | np.ndarray:
    """Area under the generalised risk-coverage curve: how often, on average, an undetected error is accepted.

    Traub et al., NeurIPS 2024, "Overcoming Common Flaws in the Evaluation of Selective Classification Systems",
    section 3. The generalised risk is the share of all images that are decided and wrong; images are decided in the
    order of their distance from the threshold, equally distant ones together, which averages over their orders. 0 is
    perfect; a detector that guesses has 0.25.

    Args:
        labels: int[n], 1 = fake.
        logits: float64[n], log-odds of fake.
        weights: how often a resample holds each image, whole numbers [n] or [draws, n].
        threshold: on P(fake), from which an image is called fake.

    Returns:
        A float, or float64[draws]; NaN for no images.
    """
    order, wrong, ends = _by_confidence(labels, logits, threshold)

    def statistic(weights: np.ndarray) -> float:
        weights = weights[order]
        decided, errors = running(weights, ends), running(weights * wrong, ends)
        return float(np.trapezoid(errors, decided)) / decided[-1] ** 2 if decided[-1] else np.nan

    return over_draws(statistic, weights, len(labels))


def risk_coverage(labels: np.ndarray, logits: np.ndarray, *, threshold: float = 0.5) -> list[list[float]]:
    """Rows [coverage, share of errors among the decided images], the surest images decided first.

    El-Yaniv and Wiener, JMLR 11, 2010. Equally sure images come together; at most `CURVE_POINTS` rows.
    """
    if not len(labels):
        return []
    _, wrong, ends = _by_confidence(labels, logits, threshold)
    shown = ends[np.unique(np.linspace(0, len(ends) - 1, CURVE_POINTS).round().astype(int))]
    decided = shown + 1
    return np.column_stack([decided / len(wrong), np.cumsum(wrong)[shown] / decided]).tolist()


def unsure_band(
    labels: np.ndarray, scores: np.ndarray, error_rate: float = 0.05, groups: Sequence[str] | None = None
) -> dict[str, Any]:
    """The narrowest band around 0.5 outside of which at most `error_rate` of the images are decided wrongly.

    An image is unsure where low <= P(fake) < high, fake from `high` on, and real below `low`. The promise, an error
    rate of at most `error_rate` among decided images of the same kind, holds for at least 95 % of all validation sets:
    bands are tested from a wide one to ever narrower ones, until the Clopper-Pearson bound of the errors among the
    decided images is first above the rate (fixed sequence testing: Angelopoulos et al., "Learn then Test", 2021,
    section 3.2; for selective classification Geifman and El-Yaniv, NeurIPS 2017). Two sequences share the 5 %, from
    bands that leave a fifth and three fifths of the images decided; the first finds bands of poor detectors, the
    second those of detectors that are sometimes wrong where they are surest. Each band ends next to the score of an
    image, beyond which the others are independent again; equally sure images are decided together. Images of a group
    are counted as in `bounds.effective_number`, which is on the safe side.

    Args:
        labels: int[n], 0 real, 1 fake, of validation.
        scores: float64[n], calibrated P(fake).
        error_rate: between 0 and 1.
        groups: of the images, '' for none.

    Returns:
        `low` and `high`, which are both 0.5 where no image need be unsure, or `why` there is no such band, in words.
    """
    units, n = unit_numbers(labels, groups), len(labels)
    independent, least = effective_number(units), needed(error_rate, level=_STEP_LEVEL)
    if independent < least:
        return {'why': f'needs {least:,} images, has {_counted(n, independent)}'}
    # With few images, the test would hardly ever be passed with an error among them.
    enough = [number for errors in range(3) if (number := needed(error_rate, errors, _STEP_LEVEL)) <= independent / 2]
    fewest = max(enough or [least]) * n // independent
    confidence = np.sort(np.abs(scores - 0.5))[::-1]
    accepted = []
    for share in _STARTS:
        for decided in np.linspace(max(fewest, share * n), n, STEPS).round().astype(int).tolist():
            edge = confidence[decided - 1]
            within = int(np.searchsorted(-confidence, -edge, side='right'))  # all that are as sure as the last
            half = 0.0 if within == n else (edge + confidence[within]) / 2
            low, high = float(0.5 - half), float(0.5 + half)
            kept = (scores >= high) | (scores < low)
            number = int(kept.sum()) if independent == n else effective_number(units[kept])
            wrong = int(((scores >= high) != (labels == 1))[kept].sum())
            if allowed(number, error_rate, _STEP_LEVEL) * kept.sum() < wrong * number:
                break
            accepted.append({'low': low, 'high': high})
    if not accepted:
        return {'why': f'even of the surest images, more than {error_rate:g} may be wrong'}
    return min(accepted, key=lambda band: band['high'])


def _counted(n: int, independent: int) -> str:
    return f'{n:,}' if n == independent else f'{n:,} in groups, which count as {independent:,}'


def _by_confidence(
    labels: np.ndarray, logits: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The order of the images, surest first; which of them are decided wrongly, in it; and where ties end in it."""
    confidence = np.abs(logits - scipy.special.logit(threshold))
    order = np.argsort(-confidence)
    wrong = (scipy.special.expit(logits) >= threshold) != (labels == 1)
    return order, wrong[order].astype(np.float64), tie_ends(confidence[order])
