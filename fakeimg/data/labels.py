"""Labels by name, in one table: fake = 1 = positive, real = 0, everywhere."""

import unicodedata
from collections.abc import Mapping, Sequence

from fakeimg.errors import UserError

LABELS = {'real': 0, 'fake': 1}

# Folder names as data sets of the field spell them, compared in lower case.
CLASS_NAMES = {
    **dict.fromkeys(('real', 'reals', '0_real', 'nature', 'natural', 'authentic', 'genuine', 'pristine'), 0),
    **dict.fromkeys(
        ('fake', 'fakes', '1_fake', 'ai', 'forged', 'generated', 'synthetic', 'manipulated', 'deepfake'), 1
    ),
}
SPLIT_NAMES = {
    **dict.fromkeys(('train', 'training'), 'train'),
    **dict.fromkeys(('validation', 'valid', 'val', 'dev'), 'validation'),
    **dict.fromkeys(('test', 'testing', 'test-dev', 'test_dev'), 'test'),
    **dict.fromkeys(('test-challenge', 'test_challenge'), 'test_challenge'),
}
# Labels that mean one class in one set and the other in the next.
_NEVER_CARRIED = ('0', '1', 'true', 'false', 'yes', 'no')
SPLITS = tuple(dict.fromkeys(SPLIT_NAMES.values()))  # earlier ones keep an image that several hold


def known_names(table: Mapping[str, int] | Mapping[str, str], value: int | str) -> str:
    """Returns the folder names that stand for `value`, comma-separated, for messages."""
    return ', '.join(name for name, meaning in table.items() if meaning == value)


def name_key(name: str) -> str:
    """A name as tables hold it: lower case, and letters with their accents composed, however a disk stores them."""
    return unicodedata.normalize('NFC', name).strip().lower()


def class_names(labels: Sequence[str] = ()) -> dict[str, int]:
    """Returns the table of class names, with those of the user added, each `NAME=real` or `NAME=fake`.

    `real=NAME` is the same as `NAME=real`.

    Raises:
        UserError: another form, or one name for both classes.
    """
    return {**CLASS_NAMES, **named(labels)}


def named(labels: Sequence[str]) -> dict[str, int]:
    """Returns the user's part of `class_names`."""
    added: dict[str, int] = {}
    for item in labels:
        name, label = _name_and_label(item)
        if added.setdefault(name_key(name), LABELS[label]) != LABELS[label]:
            raise UserError(f'label gives {name!r} to both classes; give it to one.')
    return added


def merged(recorded: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    """The labels that were recorded and those that are given, which win."""
    own = named(given)
    kept = [item for item in recorded if not named([item]).keys() & own.keys()]
    return (*kept, *(item for item in given if item not in kept))


def for_other_data(recorded: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    """The labels for another set than the recorded one: numbers mean something else there, words the same."""
    words = [item for item in recorded if not named([item]).keys() & set(_NEVER_CARRIED)]
    return merged(words, given)


def _name_and_label(item: str) -> tuple[str, str]:
    name, _, label = item.rpartition('=')
    first, _, rest = item.partition('=')
    if name in LABELS and label in LABELS and name != label:
        raise UserError(f'label is {item!r}, which can be read both ways; rename the folder.')
    if label in LABELS and name.strip():
        return name, label
    if first in LABELS and rest.strip():
        return rest, first
    raise UserError(f'label is {item!r}; it must be NAME=real or NAME=fake.')
