"""The images of a report: wrong, borderline and right ones of both classes, with words under each."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fakeimg import pages
from fakeimg.data.datasets import Split
from fakeimg.explaining import overlay, page
from fakeimg.explaining.checks import Replaced
from fakeimg.explaining.maps import Explanation
from fakeimg.scoring import Predictions

PER_GROUP = 6  # of six groups
_NAME_SHOWN = 60  # characters, the end of it


Maps = Mapping[str, tuple[Explanation, Replaced]]  # by the names of the images
NO_MAPS: Maps = {}
Group = tuple[str, str, list[int]]  # heading, words, and rows of the predictions


def groups(predictions: Predictions, threshold: float) -> list[Group]:
    """The images that the detector got wrong, was unsure about, and got right; at most `PER_GROUP` of each."""
    labels = np.asarray(predictions.labels)
    fake = predictions.probabilities >= threshold
    logits = np.asarray(predictions.logits, np.float64)
    distance = np.abs(logits - _log_odds(threshold))
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
        found.append((title, words, rows[np.argsort(order[rows], kind='stable')][:PER_GROUP].tolist()))
    return found


def sheets(
    metrics: dict[str, Any], predictions: Predictions, split: Split | None, no_images: bool, maps: Maps
) -> list[pages.Sheet]:
    """The `groups` with words below each image, and its map beside it if there is one; no images with `no_images`."""
    threshold, scores, labels = metrics['threshold'], predictions.probabilities, np.asarray(predictions.labels)
    place = {} if split is None or no_images else {name: row for row, name in enumerate(split.names)}
    found = []
    for title, words, rows in groups(predictions, threshold):
        thumbnails = []
        for row in rows:
            name = predictions.names[row]
            said = _verdict(int(labels[row]), bool(scores[row] >= threshold), float(scores[row]))
            uris, lines = _map(maps.get(name))
            thumbnails.append(pages.Thumbnail([*_uris(split, place.get(name)), *uris], [said, *lines, _end(name)]))
        found.append(pages.Sheet(title, thumbnails, words if rows else 'None.'))
    return found


def _map(found: tuple[Explanation, Replaced] | None) -> tuple[list[str], list[str]]:
    """The map of an image as a data URI, and what is said below it."""
    return ([], []) if found is None else ([pages.uri(overlay.overlay(found[0]))], page.lines(*found))


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
