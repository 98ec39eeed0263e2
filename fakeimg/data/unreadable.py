"""Unreadable images: counted against a limit, and listed in a file."""

import csv
import pathlib
import threading

from fakeimg.errors import UserError
from fakeimg.files import TEXT


class UnreadableImages:
    """The unreadable images met so far in one split; shared by several threads.

    Args:
        split: its name.
        num_examples: of the split.
        max_fraction: of them that may be unreadable.
        limit: what sets `max_fraction`, for messages.
    """

    def __init__(self, split: str, num_examples: int, max_fraction: float, limit: str = 'config.data.max_bad_fraction'):
        self._split = split
        self._num_examples = num_examples
        self._max_fraction = max_fraction
        self._limit = limit
        self._reasons: dict[str, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, name: str, reason: str) -> None:
        with self._lock:
            self._reasons[name] = reason

    @property
    def reasons(self) -> dict[str, str]:
        """Why, by name."""
        with self._lock:
            return dict(self._reasons)

    def summary(self, listed_in: pathlib.Path) -> list[str]:
        """Says how many images were left out, with the reason of the first, and which file lists them; or nothing."""
        if not len(self):
            return []
        name, reason = next(iter(self.reasons.items()))
        return [
            f'{len(self):,} of {self._num_examples:,} images of split {self._split} cannot be read and are left out '
            f'(first: {name}: {reason}); {listed_in} lists them'
        ]

    def check(self) -> None:
        """Raises UserError when more than the tolerated share of the split is unreadable."""
        if len(self) > self._max_fraction * self._num_examples:
            name, reason = next(iter(self._reasons.items()))
            raise UserError(
                f'{len(self)} of {self._num_examples} images of split {self._split} cannot be read '
                f'(first: {name}: {reason}), more than {self._limit}={self._max_fraction} allows; '
                'repair or remove them, or raise that limit.'
            )

    def write(self, path: pathlib.Path) -> None:
        """Adds the images that are not yet listed to the CSV file (split, name, reason) at `path`."""
        with self._lock:
            rows = [(self._split, name, reason) for name, reason in sorted(self._reasons.items())]
        listed = set()
        if path.exists():
            with open(path, **TEXT) as file:
                listed = {tuple(row[:2]) for row in csv.reader(file)}
        new = [row for row in rows if row[:2] not in listed]
        if new:
            with open(path, 'a', **TEXT) as file:
                csv.writer(file).writerows(([] if listed else [('split', 'name', 'reason')]) + new)
