"""Labels by name, in one table: fake = 1 = positive, real = 0, everywhere."""

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
    **dict.fromkeys(('test', 'testing'), 'test'),
}


def known_names(table: dict[str, int] | dict[str, str], value: int | str) -> str:
    """Returns the folder names that stand for `value`, comma-separated, for messages."""
    return ', '.join(name for name, meaning in table.items() if meaning == value)
