"""Rules that choose, on validation, the threshold on P(fake) from which an image is called fake.

An image is called fake when its score is at least the threshold. Where any value between two neighbouring scores
decides these images alike, the threshold lies halfway.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fakeimg.errors import UserError
from fakeimg.evaluation.bounds import allowed, effective_number, needed, unit_numbers

RULES = ('fpr=0.01', 'fpr=0.05', 'youden', 'balanced_accuracy', 'f1')
_BEST = RULES[2:]


@dataclasses.dataclass(frozen=True)
class Rule:
    """What `parse` makes of words.

    Attributes:
        name: as it is stored: `fpr=0.01`, `youden`, `0.5`.
        number: the promised false positive rate, or the threshold itself; None of the others.
    """

    name: str
    number: float | None = None

    @property
    def is_fixed(self) -> bool:
        """Whether it is a plain number, which nothing needs to be fitted for."""
        return self.number is not None and not self.name.startswith('fpr=')


def parse(text: str | float) -> Rule:
    """Reads `fpr=RATE`, `youden`, `balanced_accuracy`, `f1` or a number from 0 to 1.

    Raises:
        UserError: it is none of these.
    """
    text = str(text).strip()
    if text in _BEST:
        return Rule(text)
    is_rate = text.startswith('fpr=')
    try:
        number = float(text.removeprefix('fpr='))
    except ValueError:
        raise UserError(
            f'threshold is {text!r}; it must be a number from 0 to 1, or one of the rules fpr=RATE, {", ".join(_BEST)}.'
        ) from None
    if is_rate and not 0 < number < 1:
        raise UserError(f'threshold is {text!r}; the false positive rate must lie between 0 and 1, as in fpr=0.01.')
    if not 0 <= number <= 1:
        raise UserError(f'threshold is {text}; it must be a probability, from 0 to 1.')
    return Rule(f'fpr={number:g}' if is_rate else f'{number:g}', number)


def fit(rule: Rule, labels: np.ndarray, scores: np.ndarray, groups: Sequence[str] | None = None) -> dict[str, Any]:
    """The threshold that a rule chooses.

    `fpr=RATE` is the least strict threshold at which the one-sided 95 % Clopper-Pearson bound of the false positive
    rate is at most RATE: on new images of the same kind the rate is kept in at least 95 % of all validation sets
    (Learn-then-Test, Angelopoulos et al., 2021, with the order of the scores as the fixed sequence). Images of a group
    are counted as in `bounds.effective_number`, which is on the safe side. `youden` (Youden, Cancer 3, 1950) and
    `balanced_accuracy` are the same threshold, for one is twice the other minus 1; `f1` is that of the fakes. Of
    equally good thresholds the strictest is taken.

    Args:
        rule: see `parse`.
        labels: int[n], 0 real, 1 fake, of validation.
        scores: float64[n], P(fake).
        groups: of the images, '' for none.

    Returns:
        `threshold`, or `why` there is none, in words.
    """
    if rule.is_fixed:
        return {'threshold': rule.number}
    if rule.number is not None:
        return _for_rate(rule.number, labels, scores, groups)
    return _best(rule.name, labels, scores)


def _for_rate(rate: float, labels: np.ndarray, scores: np.ndarray, groups: Sequence[str] | None) -> dict[str, Any]:
    real = np.sort(scores[labels == 0])[::-1]
    independent = effective_number(unit_numbers(labels, groups)[labels == 0])
    if independent < needed(rate):
        has = f'{independent:,}'
        if independent < len(real):
            has = f'{len(real):,} in groups, which count as {independent:,}'
        return {'why': f'needs {needed(rate):,} real images, has {has}'}
    errors = math.floor(allowed(independent, rate) * len(real) / independent + 1e-9)
    highest = real[errors]  # of those that must not be called fake
    above = scores[scores > highest]
    threshold = _between(highest, above.min() if above.size else 1.0)
    return {'threshold': threshold} if threshold > highest else {'why': 'too many real images have the highest score'}


def _best(name: str, labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    fakes = int(labels.sum())
    reals = len(labels) - fakes
    if not fakes or not reals:
        return {'why': f'needs images of both classes, has {reals:,} real and {fakes:,} fake'}
    values, places = np.unique(scores, return_inverse=True)
    # Found and falsely called, from each value upwards, and with nothing called fake.
    tp, fp = (
        np.append(np.cumsum(np.bincount(places[labels == label], minlength=len(values))[::-1])[::-1], 0)
        for label in (1, 0)
    )
    quality = 2 * tp / (tp + fp + fakes) if name == 'f1' else tp * reals - fp * fakes
    if values[-1] >= 1:
        quality = quality[:-1]  # no threshold is above all scores
    place = len(quality) - 1 - int(np.argmax(quality[::-1]))
    edges = np.concatenate([[0.0], values, [1.0]])
    return {'threshold': _between(edges[place], edges[place + 1])}


def _between(low: float, high: float) -> float:
    """Halfway, but above `low` where floats allow it."""
    middle = float(low + (high - low) / 2)
    return middle if middle > low else float(high)


def text(threshold: float, digits: int = 6) -> str:
    """`0.9372`, or `1 - 2.1e-07` where so many digits would be 1."""
    shown = f'{threshold:.{digits}g}'
    return f'1 - {1 - threshold:.2g}' if shown == '1' and threshold < 1 else shown
