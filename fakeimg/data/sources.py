"""Opens the data that a configuration names: a folder of pictures, or the built-in demo faces."""

import hashlib
from typing import Protocol

import numpy as np

from fakeimg.config import Config
from fakeimg.data import demo, layouts
from fakeimg.errors import UserError

SPLITS = ('train', 'validation', 'test')


class Source(Protocol):
    """A random-access source of encoded pictures, one split.

    `source[i]` returns the bytes of picture i and may raise OSError.
    """

    names: list[str]
    labels: np.ndarray  # int32[n]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> bytes: ...


def open_sources(config: Config) -> tuple[dict[str, Source], list[str]]:
    """Opens every split of the data.

    Args:
        config: the whole configuration; `data.path`, `data.demo_examples`, `data.validation_fraction` are read.

    Returns:
        The source of each split by name, and sentences that a person should read.

    Raises:
        UserError: see `layouts.scan_folder`.
    """
    if config.data.path:
        sources, notes = layouts.scan_folder(config.data.path, config.data.validation_fraction)
        return dict(sources), notes
    sizes = {split: config.data.demo_examples // (1 if split == 'train' else 4) for split in SPLITS}
    return {split: demo.DemoFaces(split, num_examples=size // 2 * 2) for split, size in sizes.items()}, [
        'DEMO FACES: config.data.path is empty, so the pictures are drawn by code; '
        'nothing learned from them holds for real ones'
    ]


def get_source(sources: dict[str, Source], split: str) -> Source:
    """Returns one split. Raises UserError naming the splits there are."""
    if split not in sources:
        raise UserError(f'there is no split {split!r} in this data; it has {", ".join(sources)}.')
    return sources[split]


def class_counts(source: Source) -> tuple[int, int]:
    """Returns (real, fake) counts."""
    fake = int(source.labels.sum())
    return len(source) - fake, fake


def digest(sources: dict[str, Source]) -> str:
    """Returns a SHA-256 over split, name and label of every picture: the same listing, the same digest."""
    state = hashlib.sha256()
    for split in sorted(sources):
        for name, label in zip(sources[split].names, sources[split].labels, strict=True):
            state.update(f'{split}\0{name}\0{label}\n'.encode('utf-8', 'surrogateescape'))
    return state.hexdigest()
