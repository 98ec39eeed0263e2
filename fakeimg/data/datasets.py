"""Opens data: prepared sets, folders, archives, tables, and the demo faces."""

import copy
import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence

import numpy as np

from fakeimg.config import DEMO, Config
from fakeimg.data import copies, demo, formats, layouts, records, splits, tables
from fakeimg.data.files import Files, all_of
from fakeimg.data.images import CachedImages
from fakeimg.data.labels import CLASS_NAMES, SPLITS
from fakeimg.data.labels import class_names as class_names_of
from fakeimg.errors import UserError

_DRAWN = 'demo faces'


@dataclasses.dataclass(frozen=True)
class Split:
    """The encoded images of one split, by number.

    Attributes:
        files: the images by name; read by several threads at once.
        labels: int32[n], 0 = real, 1 = fake.
        generators: generator or data set of each image.
        groups: what must stay in one split; '' for an image without a group.
        digests: S32[n], the SHA-256 of each file; S32[0] of sets that are not prepared.
        cache: the images once decoded, for batches; None decodes each time.
    """

    files: Files
    labels: np.ndarray
    generators: list[str]
    groups: list[str]
    digests: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, 'S32'))
    cache: CachedImages | None = None

    @property
    def names(self) -> list[str]:
        return self.files.names

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> bytes:
        """Returns the bytes of image `index`; raises OSError when they cannot be read."""
        return self.files.read(index)

    def take(self, indices: np.ndarray) -> 'Split':
        """Returns some of the images, in the order of `indices`, int[m]."""
        return Split(
            files=self.files.take(indices),
            labels=self.labels[indices],
            generators=[self.generators[index] for index in indices],
            groups=[self.groups[index] for index in indices],
            digests=self.digests[indices] if len(self.digests) else self.digests,
        )


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The splits of a data set, in the order train, validation, test, others.

    Attributes:
        splits: by name.
        digest: identifies the set: of a prepared one the manifest's SHA-256, of others that of their listing.
        layout: what was recognised, in words.
        is_prepared: True for records, whose order within a split is a shuffled one already.
        notes: warnings for the user.
        left_out: how many files that are no images that can be read, by kind, see `formats.find_images`.
        made: the splits that fakeimg split off, and what is left of the others.
        has_near_groups: whether near copies are in one group, wherever a split might part them.
    """

    splits: dict[str, Split]
    digest: str
    layout: str
    is_prepared: bool
    notes: list[str]
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    made: frozenset[str] = frozenset()
    has_near_groups: bool = False

    @property
    def is_drawn(self) -> bool:
        """Whether these are the demo faces."""
        return self.layout == _DRAWN

    def get(self, name: str) -> Split:
        """Returns a split, or a part of some in TFDS' notation: `train[:10%]`, `train[:100]+validation`.

        A slice of a folder takes images in the order of their names' hashes, the order that a prepared set has.

        Raises:
            UserError: no such split, or a slice that selects nothing.
        """
        if name in self.splits:
            return self.splits[name]
        parts = []
        sizes = {name: len(split) for name, split in self.splits.items()}
        for whole, ranges in splits.read_slice(name, sizes).items():
            split = self.splits[whole]
            order = np.arange(len(split)) if self.is_prepared else splits.hash_order(split.names)
            parts += [split.take(order[part]) for part in ranges]
        if not sum(map(len, parts)):
            raise UserError(f'the split {name!r} selects no images; widen it.')
        return parts[0] if len(parts) == 1 else _join(parts)


def _join(parts: Sequence[Split]) -> Split:
    return Split(
        files=all_of([part.files for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        generators=[name for part in parts for name in part.generators],
        groups=[group for part in parts for group in part.groups],
        digests=np.concatenate([part.digests for part in parts]),
    )


def demo_split(faces: demo.DemoFaces) -> Split:
    """Returns demo faces as a split."""
    return Split(all_of([faces]), faces.labels, ['demo'] * len(faces), [''] * len(faces))


def located(config: Config) -> Config:
    """A copy that says where its images and weights are whatever the working directory: with absolute paths."""
    config = copy.deepcopy(config)
    if config.data.path not in ('', DEMO):
        config.data.path = os.path.abspath(os.path.expanduser(config.data.path))
    weights = os.path.expanduser(config.init.weights)
    if os.path.isfile(weights):
        config.init.weights = os.path.abspath(weights)
    return config


def open_data(config: Config) -> DataSet:
    """Opens the data of a training.

    Args:
        config: the whole configuration; of `data`, what says where the images are and how to read and split them.

    Raises:
        UserError: no path was given; otherwise see `open_path`.
    """
    if not config.data.path:
        raise UserError(
            f'there are no images; say where they are with config.data.path=DIR, or set config.data.path={DEMO} for '
            'faces drawn by code, to try fakeimg.'
        )
    if config.data.path != DEMO:
        # Where validation is a slice of another split, nothing is split off for it.
        is_whole = config.data.validation_split == 'validation'
        return open_path(
            config.data.path,
            config.data.validation_fraction if is_whole else 0.0,
            class_names=class_names_of(config.data.labels),
            columns=tables.columns_of(config.data.columns),
            split_version=config.data.split_version,
        )
    counts = {split: config.data.demo_examples // (1 if split == 'train' else 4) for split in demo.SPLIT_SIZES}
    parts = {split: demo_split(demo.DemoFaces(split, num_examples=count // 2 * 2)) for split, count in counts.items()}
    warning = 'DEMO FACES: the images are drawn by code; nothing learned from them holds for real ones'
    return DataSet(parts, _listing_digest(parts), _DRAWN, False, [warning])


def open_path(
    path: str,
    validation_fraction: float = 0.0,
    unsorted_split: str = 'train',
    class_names: Mapping[str, int] = CLASS_NAMES,
    columns: Mapping[str, str] | None = None,
    split_version: int = 2,
) -> DataSet:
    """Opens a prepared set, a folder, a zip or tar archive, or a table.

    Where there is no validation split, `validation_fraction` of train becomes one; where there are no splits at all,
    a test split of the same size is set aside too (see `splits.split_off`).

    Args:
        path: of the set.
        validation_fraction: share of each class of the training split, below 0.5; 0 splits nothing off.
        unsorted_split: the split that images without one belong to.
        class_names: the class of each folder name or label, in lower case.
        columns: of a table, see `tables.columns_of`.
        split_version: 2 keeps files of the same bytes on one side of a split that is made, and sees videos in few
            numbered folders; 1 does as older runs did.

    Raises:
        ImpossibleSplit: a split that is made would lack a class.
        UserError: see `records.open_prepared` and `layouts.read_listing`.
    """
    if records.is_prepared(path):
        prepared = records.open_prepared(path)
        parts = {
            split: Split(
                files=files,
                labels=np.array(prepared.columns[split]['label'], np.int32),
                generators=prepared.columns[split]['source'],
                groups=prepared.columns[split]['group'],
                digests=prepared.digests[split],
            )
            for split, files in prepared.files.items()
        }
        found = set(parts)
        notes = add_splits(parts, validation_fraction, joins_copies=split_version > 1)
        layout = f'prepared from {prepared.summary["layout"]}'
        made = frozenset(parts.keys() - found)
        data = DataSet(_in_order(parts), prepared.summary['digest'], layout, True, notes, made=made)
        return dataclasses.replace(data, has_near_groups=bool(prepared.summary.get('near_groups')))
    listing = layouts.read_listing(path, class_names, columns=columns, few_videos=split_version > 1)
    parts, notes = split_listing(listing, validation_fraction, unsorted_split, split_version > 1)
    made = frozenset(parts.keys() - set(listing.splits))
    notes = [*listing.notes, *formats.describe_left_out(listing.left_out), *notes]
    digest = _listing_digest(parts)
    return DataSet(parts, digest, listing.layout, False, notes, left_out=listing.left_out, made=made)


def split_listing(
    listing: layouts.Listing, validation_fraction: float, unsorted_split: str = 'train', joins_copies: bool = True
) -> tuple[dict[str, Split], list[str]]:
    """Returns the splits of a listing, with those split off train, and warnings about these."""
    whole = Split(listing.files, listing.labels, listing.generators, listing.groups)
    codes = {split: code for code, split in enumerate(dict.fromkeys(listing.splits))}
    split_of = np.fromiter((codes[split] for split in listing.splits), np.int8, len(listing.splits))
    parts = {split or unsorted_split: whole.take(np.flatnonzero(split_of == code)) for split, code in codes.items()}
    notes = add_splits(parts, validation_fraction, has_splits=None not in codes, joins_copies=joins_copies)
    return _in_order(parts), notes


def add_splits(parts: dict[str, Split], fraction: float, has_splits: bool = True, joins_copies: bool = True) -> list:
    """Splits the missing splits off `parts['train']`, and returns notes about them.

    Raises:
        ImpossibleSplit: one of them, or what is left of train, would lack a class.
    """
    missing = [split for split in (('validation',) if has_splits else ('test', 'validation')) if split not in parts]
    if not (fraction and missing and 'train' in parts):
        return []
    train = parts['train']
    if joins_copies:
        known = len(train.digests)
        alike = np.unique(train.digests, return_inverse=True)[1] if known else copies.same_bytes(train.files)
        whole, parted = copies.join_groups(train.names, train.groups, train.labels, alike)
        try:
            made, notes = _split_off(train, whole, missing, fraction)
            parts |= made
            return [*copies.describe(train.groups, whole, parted), *notes]
        except splits.ImpossibleSplit:
            if whole == train.groups:
                raise
    made, notes = _split_off(train, train.groups, missing, fraction)
    parts |= made
    return [copies.PARTED, *notes] if joins_copies else notes


def _split_off(train: Split, whole: Sequence[str], missing: Sequence[str], fraction: float):
    """Splits `missing` off train, in whole groups: all of these splits, and notes about them."""
    parts: dict[str, Split] = {}
    notes: list[str] = []
    for split in missing:
        is_new = splits.split_off(train.names, train.labels, whole, split, fraction)
        splits.check_classes(train.labels, whole, is_new, split)
        if is_new.any() and not is_new.all():
            unit = 'groups' if any(whole) else 'names'
            notes.append(
                f'no {split} split found: {is_new.sum():,} images ({fraction:.0%} of each class, chosen by the '
                f'hash of their {unit}) were split off train, which keeps {(~is_new).sum():,}'
            )
            parts[split], train = train.take(np.flatnonzero(is_new)), train.take(np.flatnonzero(~is_new))
            whole = [group for group, new in zip(whole, is_new, strict=True) if not new]
    return {**parts, 'train': train}, notes


def _in_order(parts: dict[str, Split]) -> dict[str, Split]:
    return {split: parts[split] for split in (*SPLITS, *sorted(parts.keys() - set(SPLITS))) if split in parts}


def class_counts(split: Split) -> tuple[int, int]:
    """Returns (real, fake) counts."""
    fake = int(split.labels.sum())
    return len(split) - fake, fake


def _listing_digest(parts: dict[str, Split]) -> str:
    """A SHA-256 over split, name and label of every image: the same listing, the same digest."""
    state = hashlib.sha256()
    for split in sorted(parts):
        for name, label in zip(parts[split].names, parts[split].labels, strict=True):
            state.update(f'{split}\0{name}\0{label}\n'.encode('utf-8', 'surrogateescape'))
    return state.hexdigest()
