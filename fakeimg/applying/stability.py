"""How much a score depends on what should not matter: the same image, mildly re-encoded."""

import io
import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import PIL.Image

from fakeimg.data import decode
from fakeimg.data.inputs import Input, read_content
from fakeimg.prediction import Prediction

FLIPS = 'a mild re-encoding changes the verdict'
_QUALITIES = (90, 75)  # of JPEG
_SCALE = 0.9
COUNT = 1 + len(_QUALITIES) + 2  # the image, recompressed, resized, mirrored


def variants(images: Iterable[Input]) -> Iterator[Input]:
    """Yields COUNT inputs for each image: itself, and what is made of it once it is read."""
    for image in images:
        made = _Made(image)
        yield Input(image.name, lambda made=made: made.read(0))
        for number in range(1, COUNT):
            yield Input(image.name, lambda made=made, number=number: made.read(number))


def of(predictions: Sequence[Prediction]) -> float | None:
    """1 less the greatest difference between P(fake) of an image and of what was made of it; None if it is unreadable.

    Args:
        predictions: of the COUNT variants of an image.
    """
    scores = [prediction.probability for prediction in predictions if prediction.probability is not None]
    return 1 - (max(scores) - min(scores)) if len(scores) == COUNT else None


def flips(predictions: Sequence[Prediction]) -> bool:
    """Whether the verdict on a variant is not the one on the image itself."""
    return len({prediction.verdict for prediction in predictions}) > 1


class _Made:
    """An image and its variants, each encoded when it is asked for; shared by the threads that read a batch."""

    def __init__(self, image: Input):
        self._image = image
        self._data: bytes | None = None
        self._lock = threading.Lock()

    def read(self, number: int) -> bytes:
        with self._lock:  # two batches may hold parts of it
            if self._data is None:
                self._data = read_content(self._image.content)
            data = self._data
        if not number:
            return data
        image = PIL.Image.fromarray(np.ascontiguousarray(decode.decode_rgb(data)))
        if number <= len(_QUALITIES):
            return _encoded(image, 'JPEG', quality=_QUALITIES[number - 1])
        if number == COUNT - 1:
            return _encoded(image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT), 'PNG', compress_level=1)
        size = [max(1, round(side * _SCALE)) for side in image.size]
        return _encoded(image.resize((size[0], size[1]), PIL.Image.Resampling.BICUBIC), 'PNG', compress_level=1)


def _encoded(image: PIL.Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
