"""Copies that must stay on one side of a split: files of the same bytes, and groups that copies of any kind join."""

import concurrent.futures
import hashlib
import os
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from fakeimg.data.archives import ArchiveFiles
from fakeimg.data.files import Files, FolderFiles

# A joined group may hold this share of each class besides the largest group in it, by exact and by near copies. A black
# frame in each video, or wrong matches in a row, would otherwise make one group of the whole set.
MOST_EXACT, MOST_NEAR = 0.5, 0.1
_FEW = 16  # images of a class that a joined group may have in a small set, up to half of them
_SAMPLE = 16  # bytes from the middle of a file, where images of one size differ
_THREADS = 4  # a disk in a network answers several at once; more only wait for each other
_PER_TASK = 256  # files

Clusters = Int[np.ndarray, ' n']


def same_bytes(files: Files) -> Clusters:
    """Numbers files so that those of the same bytes share a number: int64[n].

    Only files that are alike in their size and some bytes of their middle (in a zip, in size and checksum) are read
    whole. One that is empty or cannot be read is a copy of nothing.
    """
    rows = np.arange(len(files))
    if isinstance(files, ArchiveFiles):
        marks = np.unique(files.marks(), axis=0, return_inverse=True)[1].reshape(-1)
    elif isinstance(files, FolderFiles):
        marks = _each(files, rows, _mark)
    else:
        marks = np.zeros(len(files), int)
    _, numbers, counts = np.unique(marks, return_inverse=True, return_counts=True)
    alike = np.flatnonzero(counts[numbers] > 1)
    values = np.array([f'row {row}' for row in rows], 'S64')
    values[alike] = _each(files, alike, _digest)
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _each(files: Files, rows: np.ndarray, describe: Callable[[Files, int], bytes]) -> np.ndarray:
    """S64[m]: what `describe` says of each file; something of its own for one that cannot be read."""

    def describe_some(part: np.ndarray) -> list[bytes]:
        values = []
        for row in part.tolist():
            try:
                values.append(describe(files, row))
            except OSError:
                values.append(f'row {row}'.encode())
        return values

    parts = [rows[start : start + _PER_TASK] for start in range(0, len(rows), _PER_TASK)]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
        return np.array([value for values in threads.map(describe_some, parts) for value in values], 'S64')


def _mark(files: Files, row: int) -> bytes:
    assert isinstance(files, FolderFiles)
    descriptor = os.open(files.path(row), os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        return f'{size} {os.pread(descriptor, _SAMPLE, size // 2).hex()}'.encode()
    finally:
        os.close(descriptor)


def _digest(files: Files, row: int) -> bytes:
    data = files.read(row)
    if not data:
        raise OSError('empty')
    return hashlib.sha256(data).hexdigest().encode()


def join_groups(
    names: Sequence[str],
    groups: Sequence[str],
    labels: Int[np.ndarray, ' n'],
    exact: Clusters,
    near: Clusters | None = None,
) -> tuple[list[str], int]:
    """Joins the groups of images that are copies of each other.

    Args:
        names: of the images, unique.
        groups: '' for an image without one.
        labels: 0 or 1.
        exact: int64[n], copies share a number.
        near: likewise; exact copies and near ones.

    Returns:
        The groups; a joined one has the first name among its groups, or images without one. And how many images have
        copies that are not kept together, since too many others would be joined with them.
    """
    keys = [group or name for group, name in zip(groups, names, strict=True)]
    known = sorted(set(keys))
    place = {key: index for index, key in enumerate(known)}
    unit = np.array([place[key] for key in keys], np.int64)
    sizes = np.stack([np.bincount(unit, labels == label, len(known)) for label in (0, 1)])
    home, parted = np.arange(len(known)), np.zeros(len(known), bool)
    for clusters, share in ((exact, MOST_EXACT), (near, MOST_NEAR)):
        if clusters is None or len(np.unique(clusters)) == len(clusters):
            continue
        joined = _components(unit, clusters, home)
        too_large = np.zeros(len(known), bool)
        for own in sizes:
            largest = np.zeros(joined.max() + 1)
            np.maximum.at(largest, joined, own)
            most = max(share * own.sum(), min(_FEW, own.sum() / 2))
            too_large |= (np.bincount(joined, own) - largest > most)[joined]
        parted |= too_large
        home = np.unique(np.where(too_large, home, len(known) + joined), return_inverse=True)[1]
    first = np.unique(home, return_index=True)[1]
    members = np.bincount(home)
    new = [
        known[first[home[own]]] if members[home[own]] > 1 else group for own, group in zip(unit, groups, strict=True)
    ]
    return new, int(sizes[:, parted].sum())


def _components(unit: np.ndarray, clusters: Clusters, home: np.ndarray) -> np.ndarray:
    """The groups, numbered anew so that those that share a cluster, or are joined already, share a number."""
    import scipy.sparse  # a quarter of a second, which every process that reads data would pay
    from scipy.sparse import csgraph

    first_image = np.unique(clusters, return_index=True, return_inverse=True)
    first_unit = np.unique(home, return_index=True)[1]
    left = np.concatenate([unit, np.arange(len(home))])
    right = np.concatenate([unit[first_image[1]][first_image[2]], first_unit[home]])
    links = scipy.sparse.coo_matrix((np.ones(len(left), bool), (left, right)), (len(home), len(home)))
    return csgraph.connected_components(links, directed=False)[1]


PARTED = (
    'copies of images are not kept together, since no split could then be made with both classes in each part; the '
    'audit shows those that are on both sides'
)


def describe(before: Sequence[str], after: Sequence[str], parted: int) -> list[str]:
    """Notes for the user about what `join_groups` did."""
    joined = sum(one != other for one, other in zip(before, after, strict=True))
    notes = []
    if joined:
        notes.append(f'{joined:,} images are kept on one side of a split with copies of them')
    if parted:
        notes.append(
            f'{parted:,} images are linked by copies into groups that are too large to keep together, so copies of '
            'some may be on both sides of a split; the audit shows them'
        )
    return notes
