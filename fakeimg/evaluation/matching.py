"""Which image of a data set each name in a table means: by its path, by the end of it, or by its file name."""

import collections
import posixpath
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

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
