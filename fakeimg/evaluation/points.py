"""Thresholds that validation fixed on calibrated scores, among the scores that are judged."""

import contextlib
import dataclasses

import scipy.special

from fakeimg.decision import CARRIED, FINEST
from fakeimg.errors import UserError
from fakeimg.evaluation import recalibration, thresholds
from fakeimg.evaluation.figures import Point
from fakeimg.evaluation.options import Options
from fakeimg.operating import Operating, calibration_of
from fakeimg.scoring import Predictions


def require_allowed(options: Options, operating: Operating | None) -> None:
    """Raises UserError where the threshold or the prevalence needs what validation fixed, and there is nothing."""
    rule = thresholds.parse(options.threshold)
    if operating is not None:
        return
    if rule.number is None or not rule.is_fixed:
        raise UserError(
            f'threshold {rule.name} is a rule for scores of validation images, and there are none; give these, or a '
            'number.'
        )
    if options.prevalence is not None:
        raise UserError('prevalence corrects calibrated scores, and there is no validation to calibrate with; give it.')


def resolve(options: Options, operating: Operating | None) -> Point:
    """The threshold that was asked for, on P(fake) as the detector gives it.

    Raises:
        UserError: a rule that validation did not fix.
    """
    require_allowed(options, operating)
    rule = thresholds.parse(options.threshold)
    if rule.number is not None and rule.is_fixed:
        return Point(rule.name, rule.number)
    assert operating is not None
    found = operating['thresholds'][rule.name]
    if 'threshold' not in found:
        raise UserError(f'validation does not support the threshold {rule.name}: it {found["why"]}; give a number.')
    return _carried(rule.name, operating, options)


def _carried(rule: str, operating: Operating, options: Options) -> Point:
    """A threshold of `operating`, which has those of calibrated scores."""
    more = {name: operating[name] for name in ('n', 'digest') if name in operating}
    threshold = on_scale(operating['thresholds'][rule]['threshold'], operating, options)
    return Point(rule, threshold, operating.get('source', 'validation'), more)


def on_scale(probability: float, operating: Operating, options: Options) -> float:
    """What a calibrated P(fake) is among the scores that are judged: the network's own, or `corrected` ones.

    Raises:
        UserError: the network is so sure of itself that P(fake) has no digits left there.
    """
    if probability in (0.0, 1.0):
        return probability
    logit = scipy.special.logit(probability)
    if options.prevalence is not None:
        share = operating['fake'] / operating['n']
        return _probability(float(recalibration.to_prevalence(logit, share, options.prevalence)))
    line = calibration_of(operating)
    return _probability(float((logit - line.intercept) / line.slope))


def _probability(logit: float) -> float:
    if abs(logit) > FINEST:
        raise UserError(
            f'the threshold lies at log-odds of {logit:.0f}, where P(fake) of this network cannot be told from '
            f'{int(logit > 0)}; prevalence=0.5 judges calibrated scores in place of its own.'
        )
    return float(scipy.special.expit(logit))


def own_threshold(point: Point, options: Options, operating: Operating | None) -> float:
    """A threshold among `corrected` scores as one on the P(fake) that the network gives."""
    if options.prevalence is None or operating is None or point.threshold in (0.0, 1.0):
        return point.threshold
    share, line = operating['fake'] / operating['n'], calibration_of(operating)
    logit = recalibration.to_prevalence(scipy.special.logit(point.threshold), options.prevalence, share)
    return _probability(float((logit - line.intercept) / line.slope))


def corrected(predictions: Predictions, options: Options, operating: Operating | None) -> Predictions:
    """Scores for the prevalence that was asked for: calibrated, then moved by Bayes' rule.

    Raises:
        UserError: there is no validation that says what the scores assume.
    """
    require_allowed(options, operating)
    if options.prevalence is None or operating is None:
        return predictions
    calibrated = calibration_of(operating).apply(predictions.logits)
    logits = recalibration.to_prevalence(calibrated, operating['fake'] / operating['n'], options.prevalence)
    return dataclasses.replace(predictions, logits=logits)


def with_carried(point: Point, operating: Operating | None, options: Options) -> list[Point]:
    """The threshold that was asked for, 0.5, and those that validation fixed."""
    points = [point]
    if point.name != '0.5':
        points.append(Point('0.5', 0.5))
    if operating is not None:
        for rule in CARRIED:
            if rule != point.name and 'threshold' in operating['thresholds'].get(rule, {}):
                with contextlib.suppress(UserError):  # it cannot be told on this scale
                    points.append(_carried(rule, operating, options))
    return points
