"""What images hold: which set they are, and which of them a run has seen, so that they are recognised anywhere."""

import contextlib
import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np

from fakeimg.data.datasets import DataSet, Split
from fakeimg.data.files import Files
from fakeimg.files import replacing

BYTES = 16  # of a SHA-256; among a billion images, two differing ones share them with a probability of 1e-21
DTYPE = f'S{BYTES}'
SAMPLED = 64
_SCORED = 'digests.npy'


def content_digest(data: DataSet) -> str:
    """Tells sets apart whose files are named alike, such as one set in two qualities, by what some files hold.

    Returns:
        A SHA-256 over the set's digest and the bytes of up to `SAMPLED` images of each split; the digest itself of a
        prepared set and of drawn faces, which it identifies.
    """
    if data.is_prepared or data.is_drawn:
        return data.digest
    state = hashlib.sha256(data.digest.encode())
    for name, split in sorted(data.splits.items()):
        for index in np.unique(np.linspace(0, len(split) - 1, min(SAMPLED, len(split))).astype(int)):
            state.update(f'{name} {index} {_file_digest(split, int(index))}\n'.encode())
    return state.hexdigest()


def _file_digest(split: Split, index: int) -> str:
    try:
        return hashlib.sha256(split[index]).hexdigest()
    except OSError:
        return 'unreadable'


class WatchedFiles:
    """Files that remember the digest of what was read of each.

    Attributes:
        digests: S16[n], the first bytes of each file's SHA-256; empty for one that nobody read.
    """

    def __init__(self, files: Files):
        self._files = files
        self.digests = np.zeros(len(files), DTYPE)

    @property
    def names(self) -> list[str]:
        return self._files.names

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> bytes:
        data = self._files.read(index)
        if not self.digests[index]:
            self.digests[index] = hashlib.sha256(data).digest()[:BYTES]
        return data

    def take(self, indices: Sequence[int] | np.ndarray) -> Files:
        return self._files.take(indices)

    def read_rest(self) -> None:
        """Reads what nobody has read in this process: of several, each scores its own share."""
        for index in np.flatnonzero(self.digests == b'').tolist():
            with contextlib.suppress(OSError):
                self.read(index)


def watched(split: Split) -> Split:
    """A split whose digests `digests` can tell later; a prepared one knows them, and is returned as it is."""
    return split if len(split.digests) else dataclasses.replace(split, files=WatchedFiles(split.files))


def digests(split: Split) -> np.ndarray:
    """S16[n] of the images of a prepared or a watched split; empty for those that were not read."""
    if len(split.digests):
        return split.digests.astype(DTYPE)
    assert isinstance(split.files, WatchedFiles)
    return split.files.digests


def write_scored(folder: pathlib.Path, digests: np.ndarray) -> None:
    """Writes S16[n] of the images of an evaluation, in the order of its `predictions.csv`."""
    with replacing(folder / _SCORED, 'wb') as file:
        np.save(file, digests)


def read_scored(folder: pathlib.Path) -> np.ndarray:
    """S16[n] of what `write_scored` wrote; S16[0] for an evaluation by an early fakeimg, or of others' detectors."""
    path = folder / _SCORED
    return np.load(path) if path.exists() else np.zeros(0, DTYPE)


class SeenImages:
    """The file of a run folder with the digests of the images that it has read for training and validation.

    Each process writes its own; an image that several hold is in each.

    Args:
        workdir: the run folder.
        index: of the process.
        origin: the run that the initial weights are of, which have seen its images.
    """

    def __init__(self, workdir: pathlib.Path, index: int, origin: pathlib.Path | None = None):
        self._path = workdir / (f'seen_images.{index}.npz' if index else 'seen_images.npz')
        self._before = read(workdir, *([origin] if origin else []))
        self._learned = read(origin).get('train', np.zeros(0, DTYPE)) if origin else np.zeros(0, DTYPE)
        self._written = -1

    def new_notes(self, validation: Split) -> list[str]:
        """What is to be said, once, of validation images that the initial weights have learned."""
        shown = digests(validation)
        known = int(np.isin(shown[shown != b''], self._learned).sum())
        self._learned = self._learned[:0]
        if not known:
            return []
        return [
            f'the run that config.init.weights names was trained on {known:,} of the {len(shown):,} validation images: '
            'validation is too good to be true, and so may be the choice of the best checkpoint and of thresholds; '
            'split both sets alike, or give validation images that are new to it (config.data.validation_split).'
        ]

    def write(self, splits: dict[str, Split]) -> None:
        """Writes what train and validation have shown so far, with what earlier parts of the run were shown."""
        parts = {name: digests(splits[name]) for name in ('train', 'validation') if name in splits}
        count = sum(int(np.count_nonzero(part)) for part in parts.values())
        if count == self._written:
            return
        self._written = count
        seen = dict(self._before)
        for name, part in parts.items():
            seen[name] = _union(part[part != b''], self._before.get(name))
        partial = self._path.with_suffix('.partial')
        with open(partial, 'wb') as file:
            np.savez(file, **seen)  # pyright: ignore[reportArgumentType]
        partial.replace(self._path)


def read(*runs: pathlib.Path) -> dict[str, np.ndarray]:
    """S16[m] of the images that runs have seen, `train` and `validation`; empty for those of an early fakeimg."""
    seen: dict[str, np.ndarray] = {}
    for path in (path for run in runs for path in sorted(run.glob('seen_images*.npz'))):
        with np.load(path) as parts:
            for name in parts.files:
                seen[name] = _union(parts[name], seen.get(name))
    return seen


def _union(one: np.ndarray, other: np.ndarray | None) -> np.ndarray:
    return np.unique(one if other is None else np.concatenate([one, other]))
