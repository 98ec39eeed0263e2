"""Labels by name, in one table: fake = 1 = positive, real = 0, everywhere."""

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
SPLITS = tuple(dict.fromkeys(SPLIT_NAMES.values()))  # earlier ones keep an image that several hold


def known_names(table: Mapping[str, int] | Mapping[str, str], value: int | str) -> str:
    """Returns the folder names that stand for `value`, comma-separated, for messages."""
    return ', '.join(name for name, meaning in table.items() if meaning == value)


def class_names(labels: Sequence[str] = ()) -> dict[str, int]:
    """Returns the table of class names, with those of the user added, each `real=NAME` or `fake=NAME`.

    Raises:
        UserError: another form, or one name for both classes.
    """
    added: dict[str, int] = {}
    for item in labels:
        label, _, name = item.partition('=')
        if label not in LABELS or not name:
            raise UserError(f'label is {item!r}; it must be real=NAME or fake=NAME.')
        if added.setdefault(name.lower(), LABELS[label]) != LABELS[label]:
            raise UserError(f'label gives {name!r} to both classes; give it to one.')
    return {**CLASS_NAMES, **added}
