"""Copies and near copies among many images, from the identities, hashes and thumbnails of facts.py.

Whole arrays, no loop over images; memory is bounded because candidates are made and compared in blocks.
"""

from collections.abc import Iterator

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse import csgraph

# Chosen so that re-encoded, resized, greyed and brightened copies are found, and no two faces in the same pose are
# called copies; docs/data.md has the figures.
RADIUS = 7  # bits; the most for which four bands within one bit each miss nothing: 4 * (1 + 1) - 1
SIMILARITY = 0.975  # correlation of thumbnails; less would confuse faces in the same pose
LEAST_CONTRAST = 4.0  # grey levels, standard deviation of a thumbnail; photographs hardly ever have less

MOST_PAIRS = 1 << 20  # kept at a time: 16 MB
_BANDS, _BAND_BITS = 4, 16
BLOCK = 1 << 20  # candidates made at a time: about 50 MB
_COMPARED = 1 << 14  # thumbnails compared at a time: about 50 MB
_LEADER_ROUNDS = 32

Pairs = NDArray[np.int64]


def exact_clusters(identities: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Numbers images so that equal identities share a number.

    Args:
        identities: bytes_[n], FACTS 'bytes_hash' or 'pixels_hash'; b'' is equal to nothing (a broken image).

    Returns:
        int64[n], numbers from 0.
    """
    _, cluster = np.unique(identities, return_inverse=True)
    unknown = np.flatnonzero(identities == b'')
    cluster[unknown] = len(identities) + np.arange(len(unknown))
    return np.unique(cluster, return_inverse=True)[1].astype(np.int64)


def clusters(count: int, pairs: Pairs) -> NDArray[np.int64]:
    """int64[count], numbers from 0: images that a chain of pairs connects share a number."""
    links = scipy.sparse.coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    return csgraph.connected_components(links, directed=False)[1].astype(np.int64)


def near_pairs(
    phash: NDArray[np.uint64],
    thumbnails: NDArray[np.uint8],
    *,
    radius: int = RADIUS,
    similarity: float = SIMILARITY,
    most_pairs: int = MOST_PAIRS,
) -> Pairs:
    """Finds images that are copies of each other but for compression, size, format, brightness or colour.

    Candidates are hashes at most `radius` bits apart; thumbnails decide. Not found: mirrored, rotated or clearly
    cropped copies, and images of less than LEAST_CONTRAST, whose hash and correlation are noise (these include all
    broken ones, whose thumbnails are black).

    The pairs connect what is alike, which `clusters` makes of them; they are not all pairs of it. Of images of
    equal hash, each is paired with the first one it resembles, and that one stands for them in the search, so ten
    thousand copies make ten thousand pairs; exact copies need not be removed before. Beyond `most_pairs` (and 2 * n),
    pairs are thinned to a spanning forest.

    Args:
        phash: uint64[n].
        thumbnails: uint8[n, side, side].
        radius: bits, at most 7: beyond, the search would miss some.
        similarity: least correlation of thumbnails, 0..1.
        most_pairs: bounds memory, 16 bytes each.

    Returns:
        int64[m, 2], sorted, each row increasing.

    Raises:
        ValueError: `radius` is more than 7.
    """
    flat = thumbnails.reshape(len(thumbnails), thumbnails[0].size if len(thumbnails) else 0)
    rows = np.flatnonzero(_contrast(flat) >= LEAST_CONTRAST)
    rows, links = _leaders(phash, flat, rows, similarity)
    component = np.zeros(0, np.int64)
    bound = max(most_pairs, 2 * len(phash))  # above what a forest takes, or it would be thinned again and again
    for block in hash_pairs(phash[rows], radius):
        pairs = np.sort(rows[block], 1)
        if len(component):
            pairs = pairs[component[pairs[:, 0]] != component[pairs[:, 1]]]
        links.append(pairs[_alike(flat, pairs, similarity)])
        if sum(map(len, links)) > bound:
            links = [_forest(len(phash), np.concatenate(links))]
            component = clusters(len(phash), links[0])
    return np.unique(np.concatenate(links), axis=0)


def hash_pairs(phash: NDArray[np.uint64], radius: int = RADIUS) -> Iterator[Pairs]:
    """Yields blocks of all pairs of positions whose hashes are at most `radius` bits apart; a pair may come again.

    Multi-index hashing (Norouzi, Punjani & Fleet 2012, section 3): of hashes at most 7 bits apart, one of four
    16-bit bands is at most one bit apart, so only neighbours in a table of 65,536 entries need be looked at: about
    n**2 / 2000 for even hashes.

    Raises:
        ValueError: `radius` is more than 7.
    """
    if radius > RADIUS:
        raise ValueError(f'radius {radius} is more than {RADIUS}: four bands would miss pairs')
    for band in range(_BANDS):
        keys = ((phash >> np.uint64(_BAND_BITS * band)) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.argsort(keys, kind='stable')
        hashes, keys = phash[order], keys[order]
        ends = np.cumsum(np.bincount(keys, minlength=1 << _BAND_BITS))
        starts = np.concatenate([[0], ends[:-1]])
        for flipped in (0, *(1 << bit for bit in range(_BAND_BITS))):
            # Looked up from the side where the bit is clear, so that each pair is met once.
            left_rows = np.flatnonzero(keys & flipped == 0)
            bands = keys[left_rows] | flipped
            first = starts[bands] if flipped else left_rows + 1
            count = ends[bands] - first
            for some in _blocks(count):
                left = np.repeat(left_rows[some], count[some])
                before = np.cumsum(count[some]) - count[some]
                right = np.arange(len(left)) + np.repeat(first[some] - before, count[some])
                near = np.bitwise_count(hashes[left] ^ hashes[right]) <= radius
                if near.any():
                    yield np.stack([order[left[near]], order[right[near]]], 1)


def _blocks(count: NDArray[np.int64]) -> Iterator[slice]:
    """Slices of consecutive entries that sum to at most BLOCK (or are one entry)."""
    total, begin = np.cumsum(count), 0
    while begin < len(count):
        done = total[begin - 1] if begin else 0
        end = max(int(np.searchsorted(total, done + BLOCK, 'right')), begin + 1)
        yield slice(begin, end)
        begin = end


def _leaders(
    phash: NDArray[np.uint64], flat: NDArray[np.uint8], rows: NDArray[np.int64], similarity: float
) -> tuple[NDArray[np.int64], list[Pairs]]:
    """Rows that stand for all of equal hash that look like them, and the pairs that tie the others to them."""
    leaders, links = [], []
    for _ in range(_LEADER_ROUNDS):
        _, first, inverse = np.unique(phash[rows], return_index=True, return_inverse=True)
        leader = rows[first][inverse]
        follows = leader != rows
        pairs = np.stack([leader, rows], 1)[follows]
        alike = _alike(flat, pairs, similarity)
        leaders.append(rows[first])
        links.append(pairs[alike])
        rows = rows[follows][~alike]
        if not len(rows):
            break
    return np.sort(np.concatenate([*leaders, rows])), links


def _contrast(flat: NDArray[np.uint8]) -> NDArray[np.float64]:
    blocks = [flat[begin : begin + _COMPARED].std(1) for begin in range(0, len(flat), _COMPARED)]
    return np.concatenate([np.zeros(0), *blocks])


def _alike(flat: NDArray[np.uint8], pairs: Pairs, similarity: float) -> NDArray[np.bool]:
    alike = np.zeros(len(pairs), bool)
    for begin in range(0, len(pairs), _COMPARED):
        left, right = (flat[side].astype(np.float32) for side in pairs[begin : begin + _COMPARED].T)
        left -= left.mean(1, keepdims=True)
        right -= right.mean(1, keepdims=True)
        norms = np.sqrt((left**2).sum(1) * (right**2).sum(1))
        alike[begin : begin + _COMPARED] = (left * right).sum(1) >= similarity * norms
    return alike


def _forest(count: int, pairs: Pairs) -> Pairs:
    """As few of the pairs as connect the same images."""
    pairs = np.unique(pairs, axis=0)
    links = scipy.sparse.csr_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    return np.stack(csgraph.minimum_spanning_tree(links).nonzero(), 1).astype(np.int64)
