"""How many images of a set are unlike those that a detector was trained on."""

import collections
import functools
from typing import Any

import numpy as np

from fakeimg import known as known_lib
from fakeimg.console import Console
from fakeimg.data.datasets import Split
from fakeimg.data.inputs import Input
from fakeimg.detector import Detector
from fakeimg.known import Facts
from fakeimg.runtime import parallel

COUNTED = 500  # images of a split, which are scored once more for it


def look_at(
    detector: Detector, split: Split, most: int, title: str, console: Console
) -> tuple[list[Facts], np.ndarray, np.ndarray]:
    """Facts, features float32[m, F] and labels int32[m] of up to `most` images of a split, evenly spread over it."""
    rows = np.unique(np.linspace(0, len(split) - 1, min(most, len(split))).round().astype(int)).tolist()
    images = (Input(split.names[row], functools.partial(split.files.read, row)) for row in rows)
    scores = detector.score_inputs(images, look=known_lib.look, measure=lambda features: features)
    found = [
        (scored.seen, scored.measured, split.labels[row])
        for row, scored in zip(rows, console.track(scores, title, len(rows)), strict=True)
        if scored.logit is not None and scored.seen is not None
    ]
    facts, features, labels = zip(*found, strict=True) if found else ((), (), ())
    return list(facts), np.array(features), np.array(labels, np.int32)


def count(detector: Detector, split: Split, console: Console) -> dict[str, Any] | None:
    """How many of up to COUNTED images of a split are unlike the training images, and in what.

    Returns:
        `images`, `unlike`, and `reasons`, how often each fact was one; None where nothing is known.
    """
    known = detector.known
    if parallel.any_process(known is None) or known is None:
        return None
    facts, features, _ = look_at(detector, split, COUNTED, 'comparing with the training images', console)
    distances = known.distances(features) if facts else np.zeros(0)
    found = [known.reasons(one, distance) for one, distance in zip(facts, distances.tolist(), strict=True)]
    names = collections.Counter(name for reasons in found for name in reasons)
    return {'images': len(facts), 'unlike': sum(map(bool, found)), 'reasons': dict(names.most_common())}
