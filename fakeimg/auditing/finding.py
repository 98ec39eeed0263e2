"""What an audit looks at, and what it finds."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from fakeimg.auditing.measure import Measured

LEVELS = ('ok', 'note', 'warn', 'fail')


@dataclasses.dataclass(frozen=True)
class Audited:
    """A measured data set and what its listing says.

    Attributes:
        measured: facts of every image.
        labels: int32[n], 0 = real, 1 = fake.
        generators: generator or data set of each image.
        groups: what must not straddle splits; '' where an image stands for itself.
        is_prepared: True where images may have been encoded anew under their old names.
    """

    measured: Measured
    labels: np.ndarray
    generators: Sequence[str]
    groups: Sequence[str]
    is_prepared: bool = False

    def rows(self, split: int, label: int | None = None, readable: bool = True) -> np.ndarray:
        """bool[n]: the images of a split, and of a class where one is given."""
        chosen = self.measured.split == split
        if label is not None:
            chosen &= self.labels == label
        return chosen & (self.measured.facts['problem'] == b'') if readable else chosen


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of an audit.

    Attributes:
        name: by which `--allow` knows it.
        level: one of LEVELS; 'fail' is a line crossed.
        sentence: what was found, in numbers.
        advice: what to do about it; '' where there is nothing to do.
        details: figures behind it, ready for JSON.
        pairs: rows of images to be shown side by side.
    """

    name: str
    level: str
    sentence: str
    advice: str = ''
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    pairs: Sequence[tuple[int, int]] = ()
