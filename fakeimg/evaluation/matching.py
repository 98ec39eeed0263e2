"""Which image of a set another name for it means: by its path, by the end of it, by its file name, or by its bytes."""

import collections
import posixpath
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from fakeimg.errors import UserError

_UNKNOWN, _AMBIGUOUS = -1, -2


def match(names: Sequence[str], known: Sequence[str], table: str) -> np.ndarray:
    """Finds the image that each name means.

    One of the two paths must be the end of the other: `a.jpg`, `fake/a.jpg` and `/data/set/test/fake/a.jpg` all mean
    `test/fake/a.jpg`. Backslashes are slashes, and letters with accents are the same composed or not.

    Args:
        names: n names as a table has them.
        known: paths of the set's images.
        table: its name, for messages.

    Returns:
        int64[n], places in `known`, no two alike.

    Raises:
        UserError: a name that the set does not have, that fits several of its images, or that comes twice.
    """
    index = _Index(known)
    places = np.array([index.find(name) for name in names], np.int64)
    ambiguous, unknown = (np.flatnonzero(places == value).tolist() for value in (_AMBIGUOUS, _UNKNOWN))
    if ambiguous:
        name = names[ambiguous[0]]
        fitting = ' and '.join(map(repr, index.fitting(name)[:2]))
        raise UserError(f'{table}: {name!r} fits several images of the set ({fitting}, for example); give paths.')
    if unknown:
        first = names[unknown[0]]
        hint = 'leave those rows out, or name the data and split that were scored'
        if index.find(posixpath.basename(_key(first))) >= 0:
            hint = 'if only the folders differ, leave them out of the names'
        raise UserError(
            f'{table} has {len(unknown):,} names that the set does not have (first: {first!r}; the set has names '
            f'like {known[0]!r}); {hint}.'
        )
    refuse_doubles([known[int(place)] for place in places], table)
    return places


def match_bytes(
    digests: np.ndarray, labels: np.ndarray, known: np.ndarray, known_labels: np.ndarray
) -> Int[np.ndarray, ' n']:
    """Finds images by what their files hold, for sets that name the same images differently.

    Of several images with the same bytes, the first of one set is the first of the other: real ones before fake ones,
    and in the order of the set.

    Args:
        digests: S16[n], see `seen.digests`; empty for an image that was not read, which is found nowhere.
        labels: int32[n], 1 = fake.
        known, known_labels: S16[m] and int32[m] of the set in which to find them.

    Returns:
        int64[n], places in `known`, no two alike; -1 where it has no such image.
    """
    places = {key: place for place, key in enumerate(_numbered(known, known_labels)) if key[0]}
    return np.array([places.get(key, _UNKNOWN) for key in _numbered(digests, labels)], np.int64)


def _numbered(digests: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
    """Each digest, and how many images before this one have the same."""
    keys: list[bytes] = digests.tolist()
    numbers = [0] * len(keys)
    counts: collections.Counter[bytes] = collections.Counter()
    for row in np.argsort(labels, kind='stable').tolist():
        numbers[row] = counts[keys[row]]
        counts[keys[row]] += 1
    return list(zip(keys, numbers, strict=True))


def refuse_doubles(names: Sequence[str], table: str) -> None:
    """Raises UserError where a name comes twice."""
    (name, count), *_ = collections.Counter(names).most_common(1) or [('', 0)]
    if count > 1:
        raise UserError(f'{table} has {count} scores of {name!r}; keep one for each image.')


class _Index:
    """Paths, found by themselves and by their ends."""

    def __init__(self, known: Sequence[str]):
        self._known = known
        self._exact = {name: place for place, name in enumerate(known)}
        self._parts = [_key(name).split('/') for name in known]
        self._whole = _places(['/'.join(parts) for parts in self._parts])
        self._ends: dict[int, dict[str, int]] = {}  # number of parts -> the last ones of each path

    def find(self, name: str) -> int:
        if name in self._exact:
            return self._exact[name]
        parts = _key(name).split('/')
        for start in range(len(parts)):
            place = self._whole.get('/'.join(parts[start:]))
            if place is not None:
                return place
        count = len(parts)
        if count not in self._ends:
            self._ends[count] = _places(['/'.join(own[-count:]) for own in self._parts])
        return self._ends[count].get('/'.join(parts), _UNKNOWN)

    def fitting(self, name: str) -> list[str]:
        parts = _key(name).split('/')
        ends = (own[-len(parts) :] == parts or parts[-len(own) :] == own for own in self._parts)
        return [self._known[place] for place, fits in enumerate(ends) if fits]


def _places(names: Sequence[str]) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        places[name] = _AMBIGUOUS if name in places else place
    return places


def _key(name: str) -> str:
    """A path in one form: composed letters, slashes, nothing before the first name."""
    path = unicodedata.normalize('NFC', name.strip()).replace('\\', '/')
    return re.sub(r'^([A-Za-z]:)?(\.{0,2}/)+', '', posixpath.normpath(path))
