"""Corrections of log-odds that keep their order: temperature, Platt scaling, and another share of fakes."""

from collections.abc import Sequence

import numpy as np
import scipy.optimize
import scipy.special

from fakeimg.errors import UserError
from fakeimg.evaluation.bounds import unit_numbers
from fakeimg.evaluation.calibration import log_loss
from fakeimg.operating import Calibration

FOLDS = 5
# Of the slope, for scores of deviation 1: above 0, so that a detector that is worse than a guess keeps its order.
_SLOPES = (1e-3, 1e2)


def temperature(labels: np.ndarray, logits: np.ndarray) -> Calibration:
    """One slope for all logits (Guo et al., ICML 2017, section 4.2), by log loss against the targets of `platt`."""
    scale = float(np.sqrt(np.mean(np.square(logits)))) if len(logits) else 0.0
    if not scale:  # no slope changes a logit of 0
        return Calibration('temperature')
    targets, scaled = _targets(labels), logits / scale
    found = scipy.optimize.minimize_scalar(
        lambda power: log_loss(targets, np.exp(power) * scaled),
        bounds=np.log(_SLOPES),
        method='bounded',
        options={'xatol': 1e-8},
    )
    return Calibration('temperature', float(np.exp(found.x)) / scale)


def platt(labels: np.ndarray, logits: np.ndarray) -> Calibration:
    """Slope and intercept by log loss (Platt, "Advances in Large Margin Classifiers", 1999, section 2.2).

    Platt's targets, (fakes + 1) / (fakes + 2) and 1 / (reals + 2) in place of 1 and 0, keep the optimum finite where
    the classes are separable or there is only one. Where all scores are equal, only the intercept is fitted.
    """
    targets, centre, scale = _targets(labels), float(np.mean(logits)), float(np.std(logits))
    if scale <= 1e-9 * max(1.0, abs(centre)):
        return Calibration('platt', 1.0, float(scipy.special.logit(targets.mean())) - centre)
    scaled = (logits - centre) / scale

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        lines = line[0] * scaled + line[1]
        errors = scipy.special.expit(lines) - targets
        return log_loss(targets, lines), np.array([np.mean(errors * scaled), np.mean(errors)])

    found = scipy.optimize.minimize(
        loss,
        [1.0, scipy.special.logit(targets.mean())],
        jac=True,
        method='TNC',  # L-BFGS-B wakes the threads of a BLAS for two numbers
        bounds=[_SLOPES, (None, None)],
        options={'ftol': 1e-13, 'gtol': 1e-8, 'xtol': 1e-9, 'maxfun': 300},
    )
    slope = float(found.x[0]) / scale
    return Calibration('platt', slope, float(found.x[1]) - slope * centre)


def choose(
    labels: np.ndarray, logits: np.ndarray, groups: Sequence[str] | None = None, *, seed: int = 0
) -> Calibration:
    """The calibration with the least log loss on images that it was not fitted on, of five folds of validation.

    Nothing is changed where nothing is gained, where there is one class, or where a class has a single group.

    Args:
        labels: int[n], 0 real, 1 fake, of validation.
        logits: float64[n], log-odds of fake.
        groups: kept together in a fold; '' is a group of its own.
        seed: of the folds.
    """
    units = unit_numbers(labels, groups)
    folds = min(FOLDS, *(len(np.unique(units[labels == label])) for label in (0, 1)))
    if folds < 2:
        return Calibration()
    fold = _folds(labels, units, folds, seed)
    if any(len(np.unique(labels[fold != one])) < 2 for one in range(folds)):
        return Calibration()
    before = log_loss(labels, logits)
    best, least = Calibration(), before
    for method in (temperature, platt):
        outside = np.empty(len(logits))
        for one in range(folds):
            outside[fold == one] = method(labels[fold != one], logits[fold != one]).apply(logits[fold == one])
        if (loss := log_loss(labels, outside)) < least:
            fitted = method(labels, logits)
            if log_loss(labels, fitted.apply(logits)) < before:
                best, least = fitted, loss
    return best


def to_prevalence(logits: np.ndarray, fitted: float, stated: float) -> np.ndarray:
    """Log-odds for a world with another share of fakes, by Bayes' rule (Elkan, IJCAI 2001, theorem 2).

    Args:
        logits: float64[n], calibrated where the share of fakes is `fitted`.
        fitted: that share.
        stated: the share of fakes where the detector is used.

    Raises:
        UserError: `stated` is no share between 0 and 1, or `fitted` is 0 or 1.
    """
    if not 0 < fitted < 1:
        raise UserError('validation has images of one class only; a prevalence cannot be corrected for.')
    if not 0 < stated < 1:
        raise UserError(
            f'prevalence is {stated:g}; it must lie between 0 and 1, as 0.1 does where 1 image in 10 is fake.'
        )
    return logits + scipy.special.logit(stated) - scipy.special.logit(fitted)


def _targets(labels: np.ndarray) -> np.ndarray:
    fakes = labels.sum()
    return np.where(labels == 1, (fakes + 1) / (fakes + 2), 1 / (len(labels) - fakes + 2))


def _folds(labels: np.ndarray, units: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """int[n]: the fold of each image; those of a group share one, and each fold has its part of both classes."""
    _, first, place = np.unique(units, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(first))
    order = order[np.argsort(labels[first[order]], kind='stable')]
    fold = np.empty(len(first), int)
    fold[order] = np.arange(len(first)) % folds
    return fold[place]
