"""How copies relate to splits and classes: which leak across splits, which contradict each other, which are surplus."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fakeimg.auditing import duplicates
from fakeimg.data.labels import LABELS

PAIRS_SHOWN = 12


@dataclasses.dataclass(frozen=True)
class Exact:
    """int64[n] each: images with the same number are copies, by all bytes of the file, or by all decoded pixels."""

    bytes: NDArray[np.int64]
    pixels: NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Relations:
    """What clusters of copies mean.

    Attributes:
        leaks: (earlier split, later split) -> images of the later one that have a copy in the earlier one; a
            image counts once, for the earliest split that has a copy.
        leaks_by_label: the same by the label of the later image.
        contradicting: images in clusters that hold both labels.
        surplus: int64[splits, classes], images beyond the first of their cluster in the same split and class.
        across, both, within: pairs of rows to look at, first the image that is kept.
    """

    leaks: Mapping[tuple[int, int], int]
    leaks_by_label: Mapping[tuple[int, int, int], int]
    contradicting: int
    surplus: NDArray[np.int64]
    across: Sequence[tuple[int, int]]
    both: Sequence[tuple[int, int]]
    within: Sequence[tuple[int, int]]


def find_exact(facts: NDArray) -> Exact:
    """Finds exact copies among FACTS[n]; broken images are copies of nothing, by pixels."""
    return Exact(
        duplicates.exact_clusters(facts['bytes_hash']),
        duplicates.exact_clusters(facts['pixels_hash']),
    )


def find_near(facts: NDArray, exact: Exact) -> NDArray[np.int64]:
    """Numbers images so that near copies, and exact ones, share a number: int64[n]."""
    return near_clusters(facts['phash'], facts['thumbnail'], exact.pixels)


def near_clusters(
    phash: NDArray[np.uint64], thumbnails: NDArray[np.uint8], exact: NDArray[np.int64]
) -> NDArray[np.int64]:
    """As `find_near`, of uint64[n], uint8[n, 16, 16] and the numbers int64[n] of exact copies."""
    near = duplicates.near_pairs(phash, thumbnails)
    first = np.unique(exact, return_index=True)[1]
    same = np.stack([first[exact], np.arange(len(exact))], 1)
    return duplicates.clusters(len(exact), np.concatenate([near, same]))


def relate(
    clusters: NDArray[np.int64], split: np.ndarray, labels: np.ndarray, known: NDArray[np.int64] | None = None
) -> Relations:
    """Says what clusters of copies mean.

    Args:
        clusters: int64[n], copies share a number.
        split: int[n]; a lower number is an earlier split, which keeps an image that several hold.
        labels: int[n], 0 or 1.
        known: int64[n], finer clusters whose own relations are not to be counted again.
    """
    keeper = keepers(clusters, split)
    leaks, surplus, both = relate_masks(clusters, split, labels)
    if known is not None:
        exact = relate_masks(known, split, labels)
        leaks, surplus, both = leaks & ~exact[0], surplus & ~exact[1], both & ~exact[2]
    table = np.zeros((int(split.max(initial=0)) + 1, len(LABELS)), np.int64)
    np.add.at(table, (split[surplus], labels[surplus]), 1)
    by_label = _count(split[keeper][leaks], split[leaks], labels[leaks])
    by_split: dict[tuple[int, int], int] = {}
    for (early, late, _), count in by_label.items():
        by_split[early, late] = by_split.get((early, late), 0) + count
    return Relations(
        leaks=by_split,
        leaks_by_label=by_label,
        contradicting=int(both.sum()),
        surplus=table,
        across=_pairs(keeper, leaks),
        both=_opposites(clusters, labels, both),
        within=_pairs(_first(clusters, split, labels), surplus),
    )


def keepers(clusters: NDArray[np.int64], split: np.ndarray) -> NDArray[np.int64]:
    """int64[n]: of each image's cluster the row to keep, the first one of the earliest split."""
    order = np.lexsort((np.arange(len(clusters)), split, clusters))
    starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
    keeper = np.empty(len(clusters), np.int64)
    keeper[order] = np.repeat(order[starts], np.diff(np.append(starts, len(order))))
    return keeper


def relate_masks(
    clusters: NDArray[np.int64], split: np.ndarray, labels: np.ndarray
) -> tuple[NDArray[np.bool], NDArray[np.bool], NDArray[np.bool]]:
    """bool[n] each: has a copy in an earlier split; repeats one of its own split and class; has one of both labels."""
    is_first = _first(clusters, split, labels) == np.arange(len(clusters))
    return split != split[keepers(clusters, split)], ~is_first, _mixed(clusters, labels)


def _mixed(clusters: NDArray[np.int64], labels: np.ndarray) -> NDArray[np.bool]:
    size = int(clusters.max(initial=-1)) + 1
    fakes = np.bincount(clusters, labels, size)
    return ((fakes > 0) & (fakes < np.bincount(clusters, minlength=size)))[clusters]


def _first(clusters: NDArray[np.int64], split: np.ndarray, labels: np.ndarray) -> NDArray[np.int64]:
    """int64[n]: the first row of the same cluster, split and class."""
    key = (clusters * (int(split.max(initial=0)) + 1) + split) * len(LABELS) + labels
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return first[inverse]


def _count(*columns: np.ndarray) -> dict[tuple, int]:
    rows, counts = np.unique(np.stack(columns, 1), axis=0, return_counts=True)
    return {tuple(map(int, row)): int(count) for row, count in zip(rows, counts, strict=True)}


def _pairs(keeper: NDArray[np.int64], chosen: NDArray[np.bool]) -> list[tuple[int, int]]:
    """Pairs spread evenly over all that were chosen."""
    rows = np.flatnonzero(chosen)
    rows = rows[np.linspace(0, len(rows) - 1, min(PAIRS_SHOWN, len(rows)), dtype=int)] if len(rows) else rows
    return [(int(keeper[row]), int(row)) for row in rows]


def _opposites(clusters: NDArray[np.int64], labels: np.ndarray, both: NDArray[np.bool]) -> list[tuple[int, int]]:
    rows = np.flatnonzero(both)
    pairs = []
    for cluster in np.unique(clusters[rows])[:PAIRS_SHOWN]:
        members = rows[clusters[rows] == cluster]
        real, fake = members[labels[members] == 0], members[labels[members] == 1]
        if len(real) and len(fake):
            pairs.append((int(real[0]), int(fake[0])))
    return pairs
