"""What a row means, in a sentence for a person."""

import collections
import csv

from fakeimg import known, portable
from fakeimg.applying.rows import Row
from fakeimg.decision import Decision
from fakeimg.detector import DRAWN, Detector
from fakeimg.files import TEXT

_LOOKS = {'fake': 'looks generated', 'real': 'looks real', 'unsure': 'this detector cannot tell'}
_MOST = 100_000  # rows that are read of the scores of a test set


def of_test(detector: Detector) -> dict[str, int]:
    """How often the detector is wrong on its own test set: `real` images and those `real_called_fake`, for example.

    Empty where the test set has not been evaluated.
    """
    counts: dict[str, int] = collections.Counter()
    if detector.run is None:
        return {}
    folder, metrics = portable.evaluation_on_test(detector.run, detector.step)
    # There may be none of this checkpoint, or one whose scores are other ones.
    if not metrics or metrics.get('prevalence') is not None or metrics.get('flip'):
        return {}
    if stored := metrics.get('verdicts'):
        return stored['counts'] if stored['decision'] == bounds(detector.decision) else {}
    try:
        with open(folder / 'predictions.csv', **TEXT) as file:
            for row, _ in zip(csv.DictReader(file), range(_MOST), strict=False):
                own = ('real', 'fake')[int(row['label'])]
                verdict = detector.decision.verdict(float(row['probability']), float(row['logit']))
                counts[own] += 1
                counts[f'{own}_called_{verdict}'] += 1
    except (OSError, ValueError, KeyError):
        return {}
    return counts


def bounds(decision: Decision) -> list[float]:
    """What verdicts depend on, for `metrics.json` of a portable detector."""
    return [decision.threshold, decision.low, decision.high]


def sentence(row: Row, counts: dict[str, int]) -> str:
    """What the verdict says, and how often such a verdict was wrong on the detector's test set.

    Args:
        row: of one image.
        counts: see `of_test`.
    """
    if row.verdict is None:
        return row.note or 'it cannot be read'
    if any(reason in (row.note or '') for reason in (known.UNLIKE, DRAWN)):  # no figure of the test set holds
        return f'a guess: {_LOOKS[row.verdict]}; {row.note}'
    parts = [_LOOKS[row.verdict]]
    other = {'fake': 'real', 'real': 'fake'}.get(row.verdict)
    if counts and other:
        wrong = _of(counts[f'{other}_called_{row.verdict}'], counts[other], f'{other} image')
        parts.append(f'wrong about {wrong} on its test set')
    return '; '.join([*parts, *([row.note] if row.note else [])])


def _of(wrong: int, number: int, what: str) -> str:
    if not wrong:
        return f'none of {number:,} {what}s'
    each = number / wrong
    return f'1 {what} in {each:,.0f}' if each >= 10 else f'{100 / each:.0f} of 100 {what}s'
