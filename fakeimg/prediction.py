"""What a detector says about images of a user: one Prediction each, in order."""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import PIL.Image

from fakeimg.data.inputs import Input, read_input
from fakeimg.decision import Decision
from fakeimg.errors import UserError
from fakeimg.streaming import Scored


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a detector says about one image; of an unreadable one, `error` is a sentence and the figures are None.

    Attributes:
        name: its path, or `image N`, counted from 0, for one that was not a path.
        probability: P(fake); uncalibrated.
        logit: log-odds of fake.
        label: `real` or `fake`; fake where P(fake) is at least the threshold.
        verdict: `real`, `fake`, or `unsure` where threshold and unsure band do not agree, see `decision.Decision`.
        threshold: on P(fake).
        note: what to know before the verdict is believed; or ''.
        error: why the image could not be read, or None.
    """

    name: str
    probability: float | None = None
    logit: float | None = None
    label: str | None = None
    verdict: str | None = None
    threshold: float | None = None
    note: str = ''
    error: str | None = None


def is_one_image(images: Any) -> bool:
    """Whether this is an image, not several: a path, encoded bytes, a PIL image, or an array uint8[H, W, 3]."""
    if isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | PIL.Image.Image):
        return True
    return hasattr(images, '__array__') and np.ndim(images) == 3


def read_inputs(images: Iterable[Any]) -> Iterator[Input]:
    """Images of every form, named; see `inputs.read_input` for the errors."""
    if not isinstance(images, Iterable) and not hasattr(images, '__array__'):
        raise UserError(
            f'predict takes an image (a path, encoded bytes, a PIL image, an array) or several, not a '
            f'{type(images).__name__}.'
        )
    return (read_input(image, place) for place, image in enumerate(images))


def conclude(scored: Scored, decision: Decision, note: str = '') -> Prediction:
    """The prediction for a score."""
    name, logit, probability = scored.image.name, scored.logit, scored.probability
    if logit is None or probability is None:
        return Prediction(name, threshold=decision.threshold, error=f'{name} cannot be read: {scored.reason}')
    label, verdict = decision.label(probability), decision.verdict(probability, logit)
    return Prediction(name, probability, logit, label, verdict, decision.threshold, note)
