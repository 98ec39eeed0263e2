"""The images of a report: wrong, borderline and right ones of both classes, with words under each."""

from typing import Any

import numpy as np

from fakeimg import pages
from fakeimg.data.datasets import Split
from fakeimg.scoring import Predictions

PER_GROUP = 6  # of six groups
_NAME_SHOWN = 60  # characters, the end of it


def sheets(
    metrics: dict[str, Any], predictions: Predictions, split: Split | None, no_images: bool
) -> list[pages.Sheet]:
    """The images that the detector got wrong, was unsure about, and got right; none are shown with `no_images`."""
    threshold = metrics['threshold']
    scores, labels = predictions.probabilities, np.asarray(predictions.labels)
    fake = scores >= threshold
    logits = np.asarray(predictions.logits, np.float64)
    distance = np.abs(logits - _log_odds(threshold))
    place = {} if split is None or no_images else {name: row for row, name in enumerate(split.names)}
    found = []
    for title, words, chosen, order in (
        ('Wrong: real images called fake', 'The surest mistakes first.', (labels == 0) & fake, -distance),
        ('Wrong: fake images called real', 'The surest mistakes first.', (labels == 1) & ~fake, -distance),
        ('Borderline: real images', 'Nearest to the threshold.', labels == 0, distance),
        ('Borderline: fake images', 'Nearest to the threshold.', labels == 1, distance),
        ('Right: real images', 'The surest first.', (labels == 0) & ~fake, -distance),
        ('Right: fake images', 'The surest first.', (labels == 1) & fake, -distance),
    ):
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(order[rows], kind='stable')][:PER_GROUP]
        if not len(rows):
            found.append(pages.Sheet(title, [], 'None.'))
            continue
        thumbnails = [
            pages.Thumbnail(
                _uris(split, place.get(predictions.names[row])),
                [_verdict(int(labels[row]), bool(fake[row]), float(scores[row])), _end(predictions.names[row])],
            )
            for row in rows
        ]
        found.append(pages.Sheet(title, thumbnails, words))
    return found


def _log_odds(threshold: float) -> float:
    clipped = min(max(threshold, 1e-12), 1 - 1e-12)
    return float(np.log(clipped / (1 - clipped)))


def _verdict(label: int, called_fake: bool, score: float) -> str:
    truth, called = ('real', 'fake')[label], ('real', 'fake')[called_fake]
    sure = 'surely ' if abs(score - 0.5) > 0.45 else '' if abs(score - 0.5) > 0.15 else 'barely '
    outcome = 'right' if truth == called else 'wrong'
    return f'{truth}, {sure}called {called}: {outcome}. P(fake) {score:.3f}'


def _end(name: str) -> str:
    return name if len(name) <= _NAME_SHOWN else f'…{name[-_NAME_SHOWN:]}'


def _uris(split: Split | None, row: int | None) -> list[str]:
    return [] if split is None or row is None else pages.thumbnail_of(lambda: split[row])
