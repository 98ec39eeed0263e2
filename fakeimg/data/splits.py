"""Which images make up a split: split off train by hash in whole groups, or sliced as TFDS does (`train[:10%]`)."""

import collections
import hashlib
import os
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from fakeimg.errors import UserError


def file_part(name: str) -> str:
    """Returns the name of a split as part of a file name: `test[:10%]` becomes test_10."""
    return re.sub(r'\W+', '_', name).strip('_')


def hash_order(names: Sequence[str]) -> Int[np.ndarray, ' n']:
    """Returns the order of `names` by their SHA-256: fixed, and unrelated to class or folder."""
    digests = np.empty(len(names), 'S16')
    for index, name in enumerate(names):
        digests[index] = hashlib.sha256(os.fsencode(name)).digest()[:16]
    return np.argsort(digests, kind='stable')


def split_off(
    names: Sequence[str], labels: Int[np.ndarray, ' n'], groups: Sequence[str], new_split: str, fraction: float
) -> Bool[np.ndarray, ' n']:
    """Chooses the same share of each class for a new split, by the hash of the names, in whole groups.

    The choice depends on nothing but the names (of groups, where there are any) of all images of their class, so a
    set that grows may exchange a few. Groups that hold both classes count as a third class.

    Args:
        names: of all candidates, unique.
        labels: 0 or 1.
        groups: '' for an image without a group.
        new_split: enters the hash, so that two splits are independent of each other.
        fraction: of the images.

    Returns:
        True for images of the new split.
    """
    members: dict[str, list[int]] = collections.defaultdict(list)
    for index, group in enumerate(groups):
        members[group or names[index]].append(index)
    strata: dict[frozenset, list[str]] = collections.defaultdict(list)
    for key, rows in members.items():
        strata[frozenset(int(labels[row]) for row in rows)].append(key)
    is_new = np.zeros(len(names), bool)
    for keys in strata.values():
        ranked = sorted(keys, key=lambda key: hashlib.sha256(os.fsencode(f'{new_split}/{key}')).digest())
        goal = fraction * sum(len(members[key]) for key in keys)
        goal = max(round(goal), int(len(keys) > 2))  # small classes still give every split something
        taken = 0
        for key in ranked:
            if taken >= goal:
                break
            # A group that would more than double the goal stays in train, unless there is no other.
            if taken + len(members[key]) <= 2 * goal or (key == ranked[-1] and not taken and len(keys) > 2):
                is_new[members[key]] = True
                taken += len(members[key])
    return is_new


class ImpossibleSplit(UserError):
    """A split with both classes and whole groups cannot be made."""


def check_classes(
    labels: Int[np.ndarray, ' n'], groups: Sequence[str], is_new: Bool[np.ndarray, ' n'], new_split: str
) -> None:
    """Raises ImpossibleSplit when a new split, or what is left for train, lacks a class that there is."""
    for label, name in enumerate(('real', 'fake')):
        own = labels == label
        if own.all() or not own.any():  # a set of one class is refused by whoever needs both
            continue
        for part, mask in ((new_split, is_new), ('train', ~is_new)):
            if not (own & mask).any():
                of_class = {groups[int(row)] or row for row in np.flatnonzero(own)}
                what = f'{int(own.sum()):,} images'
                if len(of_class) < own.sum():
                    what += f' are {len(of_class):,} groups that must stay whole'
                else:
                    what += ' are too few'
                raise ImpossibleSplit(
                    f'no {new_split} split can be made: {part} would have no {name} images (the {what}); add {name} '
                    'images, or put the images into folders named train, validation and test, or give a table whose '
                    'column split says it.'
                )


def read_slice(spec: str, sizes: dict[str, int]) -> dict[str, list[slice]]:
    """Parses a TFDS split specification such as `train`, `train[:10%]` or `train[:100]+validation`.

    Args:
        spec: the specification.
        sizes: images in each split there is.

    Returns:
        The ranges of each split in it.

    Raises:
        UserError: a split that does not exist, or a slice that TFDS would refuse.
    """
    if spec in sizes:
        return {spec: [slice(0, sizes[spec])]}
    unknown = next((part for part in spec.split('+') if part.split('[')[0].strip() not in sizes), None)
    if unknown is not None:
        name = unknown.split('[')[0].strip()
        raise UserError(f'there is no split {name!r} in this data; it has {", ".join(sizes)}.')
    if 'shard' in spec.partition('[')[2]:
        raise UserError(f'the split {spec!r} counts shards; write it in images or percent, like train[:10%].')
    from tensorflow_datasets.core import splits as tfds_splits  # a second of imports, so only where it is needed

    infos = {name: tfds_splits.SplitInfo(name=name, shard_lengths=[size], num_bytes=0) for name, size in sizes.items()}
    try:
        parts = tfds_splits.ReadInstruction.from_spec(spec).to_absolute(infos)
    except (ValueError, AssertionError) as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'the split {spec!r} cannot be read ({reason}); write it like train[:10%].') from None
    ranges: dict[str, list[slice]] = {}
    for part in parts:
        ranges.setdefault(part.splitname, []).append(slice(part.from_, part.to))
    return ranges
