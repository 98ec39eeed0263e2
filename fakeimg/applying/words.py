"""What a prediction means, in a sentence for a person."""

from typing import Any

from fakeimg import portable
from fakeimg.detector import Detector
from fakeimg.prediction import Prediction

_LOOKS = {'fake': 'looks generated', 'real': 'looks real', 'unsure': 'this detector cannot tell'}


def of_test(detector: Detector) -> dict[str, Any]:
    """The counts (`tp`, `fp`, `tn`, `fn`) of the detector's threshold on its own test set; empty if it has none."""
    if detector.run is None:
        return {}
    points = portable.metrics_on_test(detector.run, detector.step).get('operating_points') or ()
    return next((point['confusion'] for point in points if point['name'] == detector.decision.rule), {})


def sentence(prediction: Prediction, counts: dict[str, Any]) -> str:
    """What the verdict says, and how often such a verdict was wrong on the detector's test set.

    Args:
        prediction: of one image.
        counts: see `of_test`.
    """
    if prediction.verdict is None:
        return prediction.error or 'it cannot be read'
    parts = [_LOOKS[prediction.verdict]]
    if counts and prediction.verdict == 'fake':
        parts.append(f'{_of("wrong about", counts["fp"], counts["fp"] + counts["tn"], "real image")} on its test set')
    elif counts and prediction.verdict == 'real':
        parts.append(f'{_of("misses", counts["fn"], counts["fn"] + counts["tp"], "fake image")} on its test set')
    return '; '.join([*parts, *([prediction.note] if prediction.note else [])])


def _of(verb: str, wrong: int, number: int, what: str) -> str:
    if not wrong:
        return f'{verb} none of {number:,} {what}s'
    each = number / wrong
    return f'{verb} 1 {what} in {each:,.0f}' if each >= 10 else f'{verb} {100 / each:.0f} of 100 {what}s'
