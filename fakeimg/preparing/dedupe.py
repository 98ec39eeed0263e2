"""Leaves copies out of a set, and says which."""

import dataclasses

import numpy as np

from fakeimg.auditing import copies
from fakeimg.auditing.measure import measure_splits
from fakeimg.console import SILENT, Console
from fakeimg.preparing.items import ImageItems, Items


@dataclasses.dataclass(frozen=True)
class Dropped:
    """An image that is left out, why, and the copy of it that stays ('' if none does)."""

    split: str
    name: str
    reason: str
    kept: str


def drop_copies(
    parts: dict[str, Items], near: bool, workers: int, console: Console = SILENT
) -> tuple[dict[str, Items], list[Dropped]]:
    """Leaves out copies by decoded pixels: later ones of a split, those in a later split, and all of an image that
    carries both labels.

    Args:
        parts: the items of each split, earlier splits first; of OpenForensics, whole photos.
        near: leave out those in a later split that nearly repeat an image of an earlier one, too.
        workers: processes that read and decode all images.
        console: shows the progress.

    Returns:
        The items that remain, and those that do not.
    """
    images = measure_splits({split: items.files for split, items in parts.items()}, workers, console)
    labels = np.concatenate([items.split.labels if isinstance(items, ImageItems) else np.zeros(len(items), np.int32)
                             for items in parts.values()])  # fmt: skip
    exact = copies.find_exact(images.facts)
    across, within, both = copies.relate_masks(exact.pixels, images.split, labels)
    reasons = np.full(len(labels), '', object)
    keepers = copies.keepers(exact.pixels, images.split)
    if near:
        clusters = copies.find_near(images.facts, exact)
        nearly = copies.relate_masks(clusters, images.split, labels)[0] & ~across
        reasons[nearly] = 'near copy in an earlier split'
        keepers[nearly] = copies.keepers(clusters, images.split)[nearly]
    reasons[within] = 'copy in the same split'
    reasons[across] = 'copy in an earlier split'
    reasons[both] = 'copies with both labels'
    dropped = []
    for row in np.flatnonzero(reasons != ''):
        keeper = '' if both[row] else images.names[keepers[row]]
        dropped.append(Dropped(images.splits[images.split[row]], images.names[row], reasons[row], keeper))
    remaining = {
        split: items.take(np.flatnonzero(reasons[images.split == index] == ''))
        for index, (split, items) in enumerate(parts.items())
    }
    return remaining, dropped


def describe(dropped: list[Dropped], sizes: dict[str, int]) -> list[str]:
    """Warnings for the user: how many images were left out of each split, and why."""
    notes = []
    for split, size in sizes.items():
        reasons = [drop.reason for drop in dropped if drop.split == split]
        if reasons:
            listed = ', '.join(f'{reason}: {reasons.count(reason):,}' for reason in sorted(set(reasons)))
            notes.append(f'{len(reasons):,} of {size:,} images are left out of {split} ({listed})')
    return notes
