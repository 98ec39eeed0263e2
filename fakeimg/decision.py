"""From a score to an answer: the threshold and the unsure band that validation fixed, on the scale of the network."""

import dataclasses
import pathlib

import scipy.special

from fakeimg import files, operating
from fakeimg.errors import UserError
from fakeimg.meta import Meta
from fakeimg.operating import Operating

CARRIED = ('fpr=0.01', 'balanced_accuracy')  # the first that validation supports is taken
FINEST = 30.0  # log-odds: beyond, two P(fake) in float64 may be one


@dataclasses.dataclass(frozen=True)
class Decision:
    """How log-odds become `real`, `fake` or `unsure`.

    An image is called fake only where threshold and band both say so, and real likewise; between them it is unsure.

    Attributes:
        rule: that chose the threshold: `fpr=0.01`, `balanced_accuracy`, ...; a number for one that was given.
        threshold: on P(fake) as the network gives it.
        low, high: log-odds; real lies below `low`, fake from `high` on. Without a band, those of the threshold.
        error_rate: of decided images, which the band promises; None without a band.
        note: why something is missing, for the user; or ''.
    """

    rule: str = '0.5'
    threshold: float = 0.5
    low: float = 0.0
    high: float = 0.0
    error_rate: float | None = None
    note: str = ''

    def label(self, probability: float) -> str:
        """`real` or `fake`, by the threshold alone."""
        return 'fake' if probability >= self.threshold else 'real'

    def verdict(self, probability: float, logit: float) -> str:
        """`real`, `fake` or `unsure`."""
        if probability >= self.threshold and logit >= self.high:
            return 'fake'
        return 'real' if probability < self.threshold and logit < self.low else 'unsure'


def carried(operating: Operating | None, threshold: str | float | None = None) -> Decision:
    """The decision that validation fixed.

    Args:
        operating: what validation fixed; None if nothing did.
        threshold: a number on P(fake), or a rule; None takes the first of CARRIED that validation supports, else 0.5.

    Raises:
        UserError: a rule that validation did not fix or does not support, or no such rule.
    """
    number = _number(threshold)
    if operating is None:
        if number is None and threshold is not None:
            raise UserError(f'no threshold {threshold} is carried: evaluate the run with it first, or give a number.')
        number = 0.5 if number is None else number
        return _at(f'{number:g}', number, note='no threshold or unsure band is carried; evaluating the run fixes them')
    if number is not None:
        return _with_band(_at(f'{number:g}', number), operating)
    found, reasons = operating['thresholds'], []
    for rule in CARRIED if threshold is None else (str(threshold),):
        if rule not in found:
            reasons.append(f'{rule} was not fitted (there are {", ".join(found)}); evaluate the run with it first')
        elif 'threshold' not in found[rule]:
            reasons.append(f'validation does not support {rule}: it {found[rule]["why"]}')
        elif abs(logit := _raw(found[rule]['threshold'], operating)) > FINEST:
            reasons.append(f'{rule} lies where P(fake) of this network cannot be told from {int(logit > 0)}')
        else:
            return _with_band(_at(rule, float(scipy.special.expit(logit))), operating)
    if threshold is not None:
        raise UserError(f'{reasons[0]}; or give a number.')
    return _with_band(_at('0.5', 0.5, note=f'the threshold is 0.5: {reasons[0]}'), operating)


def of_run(run: pathlib.Path, meta: Meta, step: int) -> Operating | None:
    """What validation fixed for a checkpoint of a run folder; None where nothing did, or for another checkpoint.

    Raises:
        UserError: the file is damaged, or of another run.
    """
    path = run / operating.FILE
    if not path.exists():
        return None
    found = operating.load(path)
    if found['step'] != step:
        return None
    if found['checkpoint'] != operating.key(meta, step, '', '')['checkpoint']:
        raise UserError(f'{files.shown(path)} was fitted for another run; delete it, and evaluate the run again.')
    return found


def _number(threshold: str | float | None) -> float | None:
    try:
        number = None if threshold is None else float(threshold)
    except ValueError:
        return None
    if number is not None and not 0 <= number <= 1:
        raise UserError(f'threshold is {threshold}; it must be a probability, from 0 to 1, or a rule as fpr=0.01.')
    return number


def _at(rule: str, threshold: float, note: str = '') -> Decision:
    logit = float(scipy.special.logit(threshold))
    return Decision(rule, threshold, logit, logit, note=note)


def _with_band(decision: Decision, operating: Operating) -> Decision:
    rate, band = min(operating['unsure'].items(), key=lambda item: abs(float(item[0]) - 0.05))
    if 'low' not in band:
        note = decision.note or f'no unsure band is carried: {band["why"]}'
        return dataclasses.replace(decision, note=note)
    low, high = (_raw(band[name], operating) for name in ('low', 'high'))
    return dataclasses.replace(decision, low=low, high=high, error_rate=float(rate))


def _raw(probability: float, fitted: Operating) -> float:
    """The network's log-odds for a calibrated P(fake)."""
    line = operating.calibration_of(fitted)
    return float((scipy.special.logit(probability) - line.intercept) / line.slope)
