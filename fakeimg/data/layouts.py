"""A folder of pictures as data: splits and labels are read off the folders' names, whatever lies in between."""

import collections
import hashlib
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from fakeimg.data.labels import CLASS_NAMES, SPLIT_NAMES, known_names
from fakeimg.errors import UserError

SUFFIXES = ('.jpg', '.jpeg', '.jfif', '.png', '.webp', '.bmp', '.tif', '.tiff')


class FolderSource:
    """A random-access source of encoded pictures, one split of a folder.

    Attributes:
        names: paths below the folder, with forward slashes, sorted.
        labels: int32[n], 0 = real, 1 = fake.
    """

    def __init__(self, root: str, names: Sequence[str], labels: Sequence[int]):
        self.root = root
        self.names = list(names)
        self.labels = np.asarray(labels, np.int32)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> bytes:
        """Reads one file as it is. Raises OSError when it cannot be read."""
        with open(os.path.join(self.root, self.names[index]), 'rb') as file:
            return file.read()


def scan_folder(
    path: str, validation_fraction: float = 0.1, unsorted_split: str = 'train'
) -> tuple[dict[str, FolderSource], list[str]]:
    """Finds the splits and labels of a folder of pictures.

    Split and class are the folder names that the tables in `labels` know, at any depth and in any order:
    `DIR/train/real/1.jpg`, `DIR/Dataset/Train/Fake/x/1.png`, `DIR/biggan/train/ai/1.png`.
    Where there is no validation split, `validation_fraction` of train becomes one; where there are no splits at
    all, a test split of the same size is set aside too. Which pictures go there depends on nothing but the names of
    all pictures of their class, so a set that grows may exchange a few.

    Args:
        path: the folder.
        validation_fraction: share of each class of the training split, below 0.5; 0 carves nothing out.
        unsorted_split: the split that pictures without a split folder belong to.

    Returns:
        The source of each split, and sentences about what was carved out, for the person who runs this.

    Raises:
        UserError: no such folder, no pictures, or a folder whose split or class is unknown or ambiguous.
    """
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        what = 'is not a folder' if root.exists() else 'does not exist'
        raise UserError(f'data path {path} {what}; set config.data.path to a folder of pictures.')
    found: dict[str | None, list[tuple[str, int]]] = collections.defaultdict(list)
    for folder, files in _picture_folders(str(root)):
        parts = pathlib.PurePosixPath(folder).parts
        label = _meaning(parts, CLASS_NAMES, folder, path)
        if label is None:
            raise UserError(
                f'the class of {path}/{folder} is unknown; a folder above the pictures must be named as '
                f'real ({known_names(CLASS_NAMES, 0)}) or fake ({known_names(CLASS_NAMES, 1)}).'
            )
        split = _meaning(parts, SPLIT_NAMES, folder, path)
        prefix = '' if folder == '.' else f'{folder}/'
        found[split] += [(prefix + file, label) for file in files]
    if not found:
        raise UserError(
            f'data path {path} holds no pictures ({", ".join(SUFFIXES)}); '
            'set config.data.path to the folder that holds train/real, train/fake and so on.'
        )
    if None in found and len(found) > 1:
        stray = os.path.dirname(found[None][0][0])
        raise UserError(
            f'{path}/{stray} belongs to no split while other folders do; put it below one named '
            f'{", ".join(SPLIT_NAMES)}, or move it away.'
        )
    splits = {split: sorted(rows) for split, rows in found.items()}
    notes = []
    if None in splits:
        splits[unsorted_split] = splits.pop(None)
        if validation_fraction:
            notes.append(_carve(splits, 'test', validation_fraction))
    if 'train' in splits and 'validation' not in splits and validation_fraction:
        notes.append(_carve(splits, 'validation', validation_fraction))
    sources = {
        split: FolderSource(str(root), *zip(*splits[split], strict=True))
        for split in ('train', 'validation', 'test')
        if splits.get(split)
    }
    return sources, notes


def _picture_folders(root: str) -> Iterator[tuple[str, list[str]]]:
    """Yields (folder relative to root, picture files in it), in sorted order, following links once."""
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(('.', '__MACOSX')))
        pictures = [name for name in files if name.lower().endswith(SUFFIXES) and not name.startswith('.')]
        if pictures:
            yield os.path.relpath(folder, root).replace(os.sep, '/'), pictures


def _meaning(parts: Sequence[str], table: dict, folder: str, root: str):
    meanings = {table[part.lower()] for part in parts if part.lower() in table}
    if len(meanings) > 1:
        known = ' and '.join(repr(part) for part in parts if part.lower() in table)
        raise UserError(f'{root}/{folder} is ambiguous: its folders {known} contradict each other; rename one.')
    return meanings.pop() if meanings else None


def _carve(splits: dict, new_split: str, fraction: float) -> str:
    """Moves the same share of each class from train to `new_split`, chosen by the hash of the names."""
    chosen = set()
    for label in (0, 1):
        names = [name for name, row_label in splits['train'] if row_label == label]
        ranked = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(f'{new_split}/{name}')).digest())
        chosen.update(ranked[: max(round(fraction * len(names)), int(len(names) > 2))])
    splits[new_split] = [row for row in splits['train'] if row[0] in chosen]
    splits['train'] = [row for row in splits['train'] if row[0] not in chosen]
    return (
        f'no {new_split} split found: {len(splits[new_split])} pictures '
        f'({fraction:.0%} of each class, chosen by name hash) were carved out of train, '
        f'which keeps {len(splits["train"])}'
    )
