"""The splits that a training learns from and is chosen by, checked against each other."""

import shlex
from collections.abc import Mapping

from fakeimg.config import Config
from fakeimg.data.datasets import DataSet, Split, class_counts
from fakeimg.errors import UserError


def training_splits(data: DataSet, config: Config) -> dict[str, Split]:
    """Returns all splits, train and validation as `config.data` slices them.

    Raises:
        UserError: no such split, or the two share images.
    """
    slices = {'train': config.data.train_split, 'validation': config.data.validation_split}
    if slices['validation'] == 'validation' and 'validation' not in data.splits:
        del slices['validation']
    parts = {name: data.get(part) for name, part in slices.items()}
    check_disjoint({f'config.data.{name}_split={slices[name]}': part for name, part in parts.items()})
    return {**data.splits, **parts}


def split_notes(parts: Mapping[str, Split]) -> list[str]:
    """Warnings about splits that lack a class, and groups that are in train and validation."""
    lacks = {name: class_counts(part) for name, part in parts.items() if len(part) and 0 in class_counts(part)}
    notes = [f'the split {name} has no {("real", "fake")[counts.index(0)]} images' for name, counts in lacks.items()]
    if {'train', 'validation'} <= parts.keys():
        groups = set(parts['train'].groups) & set(parts['validation'].groups) - {''}
        if groups:
            notes.append(
                f'{len(groups):,} groups ({min(groups)!r}, ...) are in both train and validation; keep them whole'
            )
    return notes


def near_copies_notes(data: DataSet, config: Config) -> list[str]:
    """What nobody has looked at in splits that were made, and how to."""
    if not data.made or data.has_near_groups or config.data.split_version == 1:
        return []
    named = ' with the same label and columns' if config.data.labels or config.data.columns else ''
    return [
        'near copies, such as one image in two sizes, may be on both sides of the splits that were made: prepare keeps '
        f'them on one side, and fakeimg audit {shlex.quote(config.data.path)}{named} shows them'
    ]


def check_disjoint(parts: Mapping[str, Split]) -> None:
    """Raises UserError when a later split has images of the first one."""
    (train, first), *others = parts.items()
    known = set(first.names)
    for name, part in others:
        if shared := known.intersection(part.names):
            raise UserError(
                f'the splits {train} and {name} share {len(shared)} images; choose splits that have none in common.'
            )
