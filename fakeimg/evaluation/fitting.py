"""Fits what validation fixes for later use, see `fakeimg.operating`.

Nothing here ever sees another split: `evaluate` scores validation, calls `fit`, and applies what comes back elsewhere.
"""

from collections.abc import Sequence

import numpy as np
import scipy.special

from fakeimg.errors import UserError
from fakeimg.evaluation import abstention, recalibration, thresholds
from fakeimg.evaluation.bounds import effective_number, unit_numbers
from fakeimg.evaluation.calibration import log_loss
from fakeimg.operating import Operating


def fit(
    labels: np.ndarray,
    logits: np.ndarray,
    groups: Sequence[str] | None = None,
    error_rate: float = 0.05,
    rules: Sequence[str] = (),
) -> Operating:
    """Fits calibration first, and thresholds and the unsure band on calibrated P(fake). Only for validation.

    Args:
        labels: int[n], 0 real, 1 fake.
        logits: float64[n], log-odds of fake as the network gives them.
        groups: of the images, '' for none.
        error_rate: of decided images, which the unsure band promises.
        rules: further ones than `thresholds.RULES`, as `thresholds.parse` reads them.

    Returns:
        `n`, `real`, `fake`; `independent`, images that count where groups hold several; `calibration` (`method`,
        `slope`, `intercept`, `log_loss_before`, `log_loss_after`); `thresholds`, of each rule `threshold` on
        calibrated P(fake) or `why` it has none; `unsure`, of the error rate as a string, `low` and `high` or `why`.

    Raises:
        UserError: the error rate or a rule is none.
    """
    if not 0 < error_rate < 1:
        raise UserError(f'error rate is {error_rate:g}; it must lie between 0 and 1, as in 0.05.')
    parsed = {rule.name: rule for rule in map(thresholds.parse, [*thresholds.RULES, *rules]) if not rule.is_fixed}
    labels, logits = np.asarray(labels), np.asarray(logits, np.float64)
    calibration = recalibration.choose(labels, logits, groups)
    scores = scipy.special.expit(calibration.apply(logits))
    fakes = int(labels.sum())
    return {
        'n': len(labels),
        'real': len(labels) - fakes,
        'fake': fakes,
        'independent': effective_number(unit_numbers(labels, groups)),
        'calibration': {
            'method': calibration.method,
            'slope': calibration.slope,
            'intercept': calibration.intercept,
            'log_loss_before': _number(log_loss(labels, logits)),
            'log_loss_after': _number(log_loss(labels, calibration.apply(logits))),
        },
        'thresholds': {name: thresholds.fit(rule, labels, scores, groups) for name, rule in parsed.items()},
        'unsure': {f'{error_rate:g}': abstention.unsure_band(labels, scores, error_rate, groups)},
    }


def covers(operating: Operating, rule: str | float, error_rate: float) -> bool:
    """Whether `fit` was asked for this rule and this error rate; a plain number needs no fit."""
    parsed = thresholds.parse(rule)
    return (parsed.is_fixed or parsed.name in operating['thresholds']) and f'{error_rate:g}' in operating['unsure']


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
