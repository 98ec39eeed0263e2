"""How far probabilities can be taken at their word: proper scores, calibration errors and the rows of a diagram.

Everywhere `labels` is int[n] (0 real, 1 fake) and `logits` float64[n], log-odds of fake. `weights`, where it is taken,
says how often a resample holds each image, whole numbers [n] or [draws, n]; the result is then a float or
float64[draws]. What a set does not define is NaN.
"""

import itertools
from typing import Any

import numpy as np
import scipy.fft
import scipy.optimize
import scipy.special

from fakeimg.evaluation.counts import over_draws, running, tie_ends
from fakeimg.evaluation.intervals import wilson

BINS = 15
Statistic = Any  # a float, or float64[draws]
_CELLS = 2048  # of [0, 1], for smooth ECE; the narrowest kernel is two of them wide
_NARROWEST = 0.001


def log_loss(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> Statistic:
    """Mean negative log-likelihood, nats."""
    return _mean(np.logaddexp(0, logits) - labels * logits, weights)


def brier(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> Statistic:
    """Mean squared difference of P(fake) and label (Brier, Monthly Weather Review 78, 1950)."""
    return _mean((scipy.special.expit(logits) - labels) ** 2, weights)


def cllr(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None, *, prior: float = 0.5) -> Statistic:
    """Cost of the log-likelihood ratios, bits: 0 for an oracle, 1 for a detector that says nothing.

    Brümmer and du Preez, Computer Speech and Language 20, 2006, equation 11.

    Args:
        labels, logits, weights: see the module.
        prior: the share of fakes that the logits assume; its log-odds are taken off them.
    """
    ratios = logits - scipy.special.logit(prior)
    fake, real = labels == 1, labels == 0
    halves = (
        _mean(np.logaddexp(0, sign * ratios[rows]), None if weights is None else np.asarray(weights)[..., rows])
        for sign, rows in ((-1, fake), (1, real))
    )
    return sum(halves) / (2 * np.log(2))


def cllr_min(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> Statistic:
    """Cllr after the best monotone recalibration on the same images, bits: what ranking alone costs.

    Pool adjacent violators, Brümmer and du Preez, 2006, section 5; equal scores stay equal. Cllr minus this is the
    loss by calibration.
    """
    order = np.argsort(logits)
    fake, ends = labels[order].astype(np.float64), tie_ends(logits[order])

    def statistic(weights: np.ndarray) -> float:
        weights = weights[order]
        every, fakes = np.diff(running(weights, ends)), np.diff(running(weights * fake, ends))
        present = every > 0
        every, fakes = every[present], fakes[present]
        total, real = fakes.sum(), every.sum() - fakes.sum()
        if not total or not real:
            return np.nan
        blocks = scipy.optimize.isotonic_regression(fakes / every, weights=every).blocks[:-1]
        of_fake = np.add.reduceat(fakes, blocks) / total
        of_real = np.add.reduceat(every - fakes, blocks) / real
        both = of_fake + of_real
        return -(scipy.special.xlogy(of_fake, of_fake / both) + scipy.special.xlogy(of_real, of_real / both)).sum() / (
            2 * np.log(2)
        )

    return over_draws(statistic, weights, len(labels))


def ece(
    labels: np.ndarray,
    logits: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    bins: int = BINS,
    debiased: bool = True,
) -> Statistic:
    """Expected calibration error of P(fake) over bins that hold equally many images; equal scores share a bin.

    The plain estimate takes noise for error and is never 0. Debiased as Kumar, Liang and Ma, NeurIPS 2019, section 5:
    what a normal error of each bin's share adds is subtracted, here in closed form, the mean of a folded normal
    distribution, and what falls below 0 is 0.
    """
    order = np.argsort(logits)
    fake, scores, ends = labels[order], scipy.special.expit(logits[order]), tie_ends(logits[order])

    def statistic(weights: np.ndarray) -> float:
        weights = weights[order]
        counts = running(weights, ends)
        edges = _bin_edges(counts, bins)
        fakes, sums = (np.diff(running(weights * values, ends)[edges]) for values in (fake, scores))
        return _binned(np.diff(counts[edges]), fakes, sums, debiased)

    return over_draws(statistic, weights, len(labels))


def ece_perfect(
    logits: np.ndarray, *, bins: int = BINS, debiased: bool = True, draws: int | None = None, seed: int = 0
) -> tuple[float, float, float]:
    """The ECE that a perfectly calibrated model with these scores would show: labels are drawn from P(fake).

    Args:
        logits: float64[n].
        bins, debiased: as in `ece`.
        draws: sets of labels; None: 1,000, or fewer, at least 50, above 20,000 images.
        seed: of the labels.

    Returns:
        The mean, and the 2.5 and 97.5 % quantiles.
    """
    if not len(logits):
        return np.nan, np.nan, np.nan
    ordered = np.sort(logits)
    scores, ends = scipy.special.expit(ordered), tie_ends(ordered)
    edges = _bin_edges(running(np.ones(len(scores)), ends), bins)
    rows = np.concatenate([[0], ends + 1])[edges]  # where each bin begins
    counts, sums = np.diff(rows).astype(float), np.add.reduceat(scores, rows[:-1])
    rng = np.random.default_rng(seed)
    draws = draws or int(np.clip(20_000_000 // len(scores), 50, 1000))
    values = np.empty(draws)
    for draw in range(draws):
        fakes = np.add.reduceat((rng.random(len(scores)) < scores).astype(float), rows[:-1])
        values[draw] = _binned(counts, fakes, sums, debiased)
    low, high = np.quantile(values, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def smooth_ece(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> Statistic:
    """Smooth calibration error of P(fake), without bins and without a width to choose.

    Blasiok and Nakkiran, ICLR 2024, section 3: residuals are smoothed by a Gaussian kernel that is reflected at 0 and
    1, and the kernel is as wide as the error that it finds, but at least 0.001, as in their relplot. On a grid of
    2,048 cells the kernel is a factor of each cosine wave.
    """
    scores = scipy.special.expit(logits)
    places = np.clip(scores * _CELLS - 0.5, 0, _CELLS - 1)  # between the middles of two cells
    cells = np.minimum(places.astype(int), _CELLS - 2)
    upper = places - cells
    residuals = labels - scores
    waves = (np.pi * np.arange(_CELLS)) ** 2 / 2

    def statistic(weights: np.ndarray) -> float:
        total = weights.sum()
        if not total:
            return np.nan
        mass = weights * residuals / total
        right = mass * upper
        grid = np.bincount(cells, mass - right, _CELLS)
        grid[1:] += np.bincount(cells, right, _CELLS)[:-1]
        spectrum = scipy.fft.dct(grid)

        def error(width: float) -> float:
            smoothed: Any = scipy.fft.idct(spectrum * np.exp(-waves * width**2))
            return float(np.abs(smoothed).sum())

        narrowest = error(_NARROWEST)
        if narrowest <= _NARROWEST:
            return narrowest
        found = scipy.optimize.root_scalar(lambda width: error(width) - width, bracket=(_NARROWEST, 1.0), xtol=1e-6)
        return float(found.root)

    return over_draws(statistic, weights, len(labels))


def reliability(labels: np.ndarray, logits: np.ndarray, *, bins: int = BINS) -> list[dict[str, Any]]:
    """Rows of a reliability diagram, over the bins of `ece`.

    Returns:
        Of each bin: `p`, the mean P(fake); `share_fake` with Wilson's interval `low` and `high`; and `n`.
    """
    if not len(labels):
        return []
    order = np.argsort(logits)
    scores, fake, ends = scipy.special.expit(logits[order]), labels[order], tie_ends(logits[order])
    edges = _bin_edges(running(np.ones(len(scores)), ends), bins)
    rows = []
    for start, stop in itertools.pairwise(np.concatenate([[0], ends + 1])[edges]):
        n, fakes = int(stop - start), int(fake[start:stop].sum())
        low, high = wilson(fakes, n)
        rows.append({'p': float(scores[start:stop].mean()), 'share_fake': fakes / n, 'low': low, 'high': high, 'n': n})
    return rows


def _mean(values: np.ndarray, weights: np.ndarray | None) -> Statistic:
    """Weighted mean; NaN of nothing."""
    weights = np.ones(len(values)) if weights is None else np.asarray(weights)
    total = weights.sum(-1, dtype=np.float64)
    with np.errstate(invalid='ignore'):
        mean = np.einsum('...n,n', weights, values) / total  # dot would wake the threads of a BLAS
    return mean if weights.ndim > 1 else float(mean)


def _bin_edges(counts: np.ndarray, bins: int) -> np.ndarray:
    """Where bins of equal mass begin and end, int[at most bins + 1], among different scores with running `counts`.

    A score belongs to the bin in which the middle of its images lies.
    """
    middles = counts[1:] + counts[:-1]  # twice, so that the comparison is one of whole numbers
    cuts = np.searchsorted(middles * bins, 2 * counts[-1] * np.arange(1, bins))
    edges = np.unique(np.concatenate([[0], cuts, [len(counts) - 1]]))
    return edges[np.concatenate([[True], np.diff(counts[edges]) > 0])]


def _binned(counts: np.ndarray, fakes: np.ndarray, scores: np.ndarray, debiased: bool) -> float:
    """ECE of bins that hold `counts` images, `fakes` of them fake, with `scores`, the sum of P(fake)."""
    if not counts.size:
        return np.nan
    shares, gaps = fakes / counts, np.abs(fakes - scores) / counts
    if debiased:
        deviations = np.sqrt(np.maximum(shares * (1 - shares), 0) / counts)
        with np.errstate(divide='ignore', invalid='ignore'):
            ratios = np.where(deviations > 0, gaps / deviations, np.inf)
        folded = deviations * np.sqrt(2 / np.pi) * np.exp(-(ratios**2) / 2) + gaps * scipy.special.erf(
            ratios / np.sqrt(2)
        )
        gaps = 2 * gaps - folded
    return max(0.0, float(counts @ gaps / counts.sum()))
