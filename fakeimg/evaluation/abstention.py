"""What a detector is worth that may leave some images undecided, and which ones it had better leave."""

import numpy as np
import scipy.special

from fakeimg.evaluation.counts import over_draws, running, tie_ends

CURVE_POINTS = 200


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


def _by_confidence(
    labels: np.ndarray, logits: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The order of the images, surest first; which of them are decided wrongly, in it; and where ties end in it."""
    confidence = np.abs(logits - scipy.special.logit(threshold))
    order = np.argsort(-confidence)
    wrong = (scipy.special.expit(logits) >= threshold) != (labels == 1)
    return order, wrong[order].astype(np.float64), tie_ends(confidence[order])
