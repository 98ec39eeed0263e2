"""What an audit looks at, and what it reports."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fakeimg.auditing.measure import MeasuredImages

LEVELS = ('ok', 'note', 'warn', 'fail')


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A data set as the checks see it: what was measured, and what its listing says.

    Attributes:
        images: facts of every image.
        labels: int32[n], 0 = real, 1 = fake.
        generators: generator or data set of each image.
        groups: what must stay in one split; '' for an image without a group.
        is_prepared: True where images may have been encoded anew under their old names.
        left_out: how many files there are besides the images, by kind, see `formats.find_images`.
        made: the splits that fakeimg split off, and what is left of the others.
    """

    images: MeasuredImages
    labels: np.ndarray
    generators: Sequence[str]
    groups: Sequence[str]
    is_prepared: bool = False
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    made: frozenset[str] = frozenset()

    def rows(self, split: int, label: int | None = None, readable: bool = True) -> np.ndarray:
        """bool[n]: the images of a split, of one class if there is a `label`, and only those that can be read."""
        mask = self.images.split == split
        if label is not None:
            mask &= self.labels == label
        return mask & (self.images.facts['problem'] == b'') if readable else mask


class Command(NamedTuple):
    """A command that helps: a verb, and its settings by name, '' for a switch.

    The verb `audit` spells it: it knows the images, what they were called on its own command line, and what a flag is.
    """

    verb: str
    settings: tuple[tuple[str, str], ...] = ()


AUDIT_AGAIN = Command('audit')
LEAVE_OUT_COPIES = Command('prepare', (('dedupe', ''),))
LEAVE_OUT_NEAR_COPIES = Command('prepare', (('dedupe', ''), ('near', '')))
KEEP_COPIES_TOGETHER = Command('prepare')


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of an audit.

    Attributes:
        name: by which it can be allowed.
        level: one of LEVELS; 'fail' is a line crossed.
        sentence: what was found, in numbers.
        advice: why it matters and what to do about it; '' where all is well.
        details: figures behind it, ready for JSON.
        pairs: rows of images to be shown side by side.
        commands: what to type, one of them or one after the other, as `advice` says.
        typed: the same, ready to be copied.
    """

    name: str
    level: str
    sentence: str
    advice: str = ''
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    pairs: Sequence[tuple[int, int]] = ()
    commands: Sequence[Command] = ()
    typed: Sequence[str] = ()
