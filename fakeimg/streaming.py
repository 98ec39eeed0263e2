"""Scores images as they come: decoded ahead by threads, a batch at a time, for lists of any length.

Memory holds a few batches, whatever the number of images. `scoring` does the same for a split, whose order and size are
known before.
"""

import collections
import concurrent.futures
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fakeimg.data import pipeline
from fakeimg.data.datasets import Split
from fakeimg.data.inputs import Input, InputFiles
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.errors import TrainingDiverged
from fakeimg.runtime import parallel
from fakeimg.scoring import Scorer, probabilities

Look = Callable[[Sequence[bytes], np.ndarray], Sequence[Any]]
Measure = Callable[[np.ndarray], Any]


class Scored(NamedTuple):
    """What a network says about an image.

    Attributes:
        image: what was scored.
        logit: log-odds of fake; None where it cannot be read.
        probability: P(fake); None where it cannot be read.
        measured: what `measure` returned for it; None where it cannot be read.
        seen: what `look` returned; None where the image cannot be read.
        reason: why it cannot be read, or None.
    """

    image: Input
    logit: float | None = None
    probability: float | None = None
    measured: Any = None
    seen: Any = None
    reason: str | None = None


class _ReadFiles(InputFiles):
    """Inputs that keep what was read of them."""

    def __init__(self, images: list[Input]):
        super().__init__(images)
        self.contents = [b''] * len(images)

    def read(self, index: int) -> bytes:
        self.contents[index] = super().read(index)
        return self.contents[index]


def score_stream(
    scorer: Scorer,
    variables: Any,
    images: Iterable[Input],
    *,
    look: Look | None = None,
    measure: Measure | None = None,
) -> Iterator[Scored]:
    """Yields what `scorer` says about each image, in order, and reads no more than a few batches ahead.

    Args:
        scorer, variables: the network.
        images: to be scored.
        look: is shown a batch in a thread, while another is computed: the encoded bytes of each image, and
            uint8[b, S, S, 3], pixels of it at the scale and of the size that the network is given, black for one that
            cannot be read. It returns something for each. With several processes, each shows its own share.
        measure: maps the features of a batch, float32[b, F], the head's input, to an array [b, ...].

    Raises:
        TrainingDiverged: a score is not finite.
    """
    config = scorer.config
    threads = pipeline.num_threads(config.data.threads, config.data.resize_size)
    parts = _parts(iter(images), config.batch_size)
    decoding: collections.deque[concurrent.futures.Future] = collections.deque()
    running: collections.deque[tuple[_Part, Any]] = collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        while True:
            # One more than the threads, so that each has its next batch when it is done with one.
            for part in itertools.islice(parts, threads + 1 - len(decoding)):
                decoding.append(pool.submit(_decode, scorer, part, look))
            if not decoding:
                break
            part, batch = decoding.popleft().result()
            running.append((part, scorer.predict(variables, scorer.devices.split(batch))))
            if len(running) > 1:  # read the last batch's outputs while this one is computed
                yield from _read(*running.popleft(), measure)
        if running:
            yield from _read(*running.popleft(), measure)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _parts(images: Iterator[Input], size: int) -> Iterator[list[Input]]:
    while part := list(itertools.islice(images, size)):
        yield part


class _Part(NamedTuple):
    images: list[Input]
    reasons: dict[str, str]
    seen: list[Any]


def _decode(scorer: Scorer, images: list[Input], look: Look | None) -> tuple[_Part, pipeline.Batch]:
    read, count = _ReadFiles(images), len(images)
    split = Split(read, np.zeros(count, np.int32), [''] * count, [''] * count)
    unreadable = UnreadableImages('images', count, 1.0)
    batch = pipeline.EvalBatches(split, scorer.config, unreadable, shard=parallel.shard())[0]
    seen: list[Any] = [None] * count
    if look is not None:
        index, share = parallel.shard()[0], len(batch['weight'])
        own = slice(index * share, (index + 1) * share)
        contents = read.contents[own]
        if contents:  # of several processes, one may have no image of the last batch
            size = scorer.config.data.image_size  # what lies beyond is black where an image was resized
            seen[own] = look(contents, batch['image'][: len(contents), :size, :size])
    return _Part(images, unreadable.reasons, seen), batch


def _read(part: _Part, outputs: Any, measure: Measure | None) -> Iterator[Scored]:
    logits, features, weights = outputs
    logits, weights = jax.device_get((logits, weights))
    count = len(part.images)
    measured = [None] * count if measure is None else measure(jax.device_get(features)[:count])
    rows = zip(part.images, weights.tolist(), logits.tolist(), probabilities(logits).tolist(), strict=False)
    for place, (image, weight, logit, probability) in enumerate(rows):
        if not weight:
            yield Scored(image, reason=part.reasons.get(str(place), 'another process could not read it'))
        elif not math.isfinite(logit):
            raise TrainingDiverged(
                f'the score of {image.name} is not finite: these weights are ruined; take an earlier checkpoint.'
            )
        else:
            yield Scored(image, logit, probability, measured[place], part.seen[place])
