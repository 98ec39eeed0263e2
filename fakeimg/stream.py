"""Scores images as they come: decoded ahead by threads, a batch at a time, for lists of any length.

Memory holds a few batches, whatever the number of images. `scoring` does the same for a split, whose order and size are
known before.
"""

import collections
import concurrent.futures
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from fakeimg.data import pipeline
from fakeimg.data.datasets import Split
from fakeimg.data.inputs import Input, InputFiles
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.errors import TrainingDiverged
from fakeimg.runtime import parallel
from fakeimg.scoring import Scorer


class Scored(NamedTuple):
    """What a network says about an image.

    Attributes:
        image: what was scored.
        logit: log-odds of fake; None where it cannot be read.
        features: float32[F], the head's input; None where it cannot be read.
        reason: why it cannot be read, or None.
    """

    image: Input
    logit: float | None = None
    features: np.ndarray | None = None
    reason: str | None = None


def score_stream(scorer: Scorer, variables: Any, images: Iterable[Input]) -> Iterator[Scored]:
    """Yields what `scorer` says about each image, in order, and reads no more than a few batches ahead.

    Raises:
        TrainingDiverged: a score is not finite.
    """
    config = scorer.config
    threads = pipeline.num_threads(config.data.threads, config.data.resize_size)
    parts = _parts(iter(images), config.batch_size)
    decoding: collections.deque[concurrent.futures.Future] = collections.deque()
    running: collections.deque[tuple[list[Input], dict[str, str], Any]] = collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        while True:
            # One more than the threads, so that each has its next batch when it is done with one.
            for part in itertools.islice(parts, threads + 1 - len(decoding)):
                decoding.append(pool.submit(_decode, scorer, part))
            if not decoding:
                break
            part, batch, reasons = decoding.popleft().result()
            running.append((part, reasons, scorer.predict(variables, scorer.devices.split(batch))))
            if len(running) > 1:  # read the last batch's outputs while this one is computed
                yield from _read(*running.popleft())
        if running:
            yield from _read(*running.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _parts(images: Iterator[Input], size: int) -> Iterator[list[Input]]:
    while part := list(itertools.islice(images, size)):
        yield part


def _decode(scorer: Scorer, part: list[Input]) -> tuple[list[Input], pipeline.Batch, dict[str, str]]:
    split = Split(InputFiles(part), np.zeros(len(part), np.int32), [''] * len(part), [''] * len(part))
    unreadable = UnreadableImages('images', len(part), 1.0)
    batch = pipeline.EvalBatches(split, scorer.config, unreadable, shard=parallel.shard())[0]
    return part, batch, unreadable.reasons


def _read(part: list[Input], reasons: dict[str, str], outputs: Any) -> Iterator[Scored]:
    logits, features, weights = jax.device_get(outputs)
    for place, image in enumerate(part):
        if not weights[place]:
            yield Scored(image, reason=reasons.get(str(place), 'another process could not read it'))
        elif not np.isfinite(logits[place]):
            raise TrainingDiverged(
                f'the score of {image.name} is not finite: these weights are ruined; take an earlier checkpoint.'
            )
        else:
            yield Scored(image, float(logits[place]), features[place])
