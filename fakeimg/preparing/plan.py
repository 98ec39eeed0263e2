"""What a prepared set will hold, decided before anything is written: splits, order, shards."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping

import numpy as np

import fakeimg
from fakeimg.auditing.fingerprints import find_copies
from fakeimg.console import SILENT, Console
from fakeimg.data import copies, datasets, formats, layouts, openforensics, records, splits
from fakeimg.data import files as files_lib
from fakeimg.errors import UserError
from fakeimg.preparing.dedupe import Dropped, describe, drop_copies
from fakeimg.preparing.items import Encoding, ImageItems, Items, PhotoItems

SHARD_BYTES = 64 << 20  # of images; a killed run loses half of it for each worker, on average
SHARD_ITEMS = (128, 4096)  # least and most images a shard
_SIZE_SAMPLE = 256  # images whose sizes are looked at
_DEFAULT_FRACTION = 0.1  # of a set without splits


@dataclasses.dataclass(frozen=True)
class Options:
    """User options.

    Attributes:
        encoding: size and encoder of the images.
        limit: most images of a split, by name hash; 0 takes all.
        validation_fraction: of train, split off where there is no validation split; None splits off 0.1, and only
            where there are no splits at all.
        margin: side of a face crop in lengths of the box's longer side (OpenForensics).
        size: side of a face crop after resizing, pixels (OpenForensics).
        min_face: faces whose box is smaller than this are left out, pixels (OpenForensics).
        class_names: the class of each folder name or label, in lower case.
        dedupe: leave copies out (see `dedupe.drop_copies`).
        near: with dedupe, near copies of an earlier split's images as well.
        columns: of a table, see `tables.columns_of`.
    """

    encoding: Encoding
    limit: int
    validation_fraction: float | None
    margin: float
    size: int
    min_face: int
    class_names: Mapping[str, int]
    dedupe: bool = False
    near: bool = False
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The items of each split in writing order, and how many of them make a shard.

    Attributes:
        layout: what was recognised, in words.
        splits: items by split.
        shard_items: items a shard.
        key: identifies options and listing; a run is continued only by one with the same key.
        notes: warnings for the user.
        counts: of OpenForensics' annotations, by split.
        dropped: the copies that are left out.
        near_groups: whether near copies are in one group wherever a split is made, here or by a training.
        made_from: the images and the settings as the user gave them.
    """

    layout: str
    splits: dict[str, Items]
    shard_items: int
    key: str
    notes: list[str]
    counts: dict[str, openforensics.Counts]
    dropped: list[Dropped]
    near_groups: bool = False
    made_from: Mapping[str, object] | None = None

    def num_shards(self, split: str) -> int:
        return max(1, -(-len(self.splits[split]) // self.shard_items))

    @property
    def num_items(self) -> int:
        return sum(map(len, self.splits.values()))


def make_plan(path: str, options: Options, workers: int = 1, console: Console = SILENT) -> Plan:
    """Lists the images of `path` and decides where each will go.

    All images that a split will be taken from are read and decoded, by `workers` processes, so that copies stay
    together; and all images there are, where copies are to be left out.

    Raises:
        UserError: see `layouts.read_listing` and `openforensics.read_annotations`; a prepared set.
    """
    if records.is_prepared(path):
        raise UserError(f'{path} is a prepared set already; prepare the original images.')
    fraction = options.validation_fraction
    if fraction is not None and not 0 <= fraction < 0.5:
        raise UserError(f'validation_fraction is {fraction}; it must be at least 0 and below 0.5.')
    expanded = os.path.expanduser(path)
    listed = files_lib.list_files(path) if not layouts.is_table(expanded) else None
    annotations = openforensics.find_annotations(listed.names) if listed else {}
    parts: dict[str, Items]
    notes, counts, near_groups = [], {}, False
    if listed and annotations:
        layout, parts, counts = _openforensics(listed, annotations, options)
    else:
        listing = layouts.read_listing(path, options.class_names, listed, options.columns)
        near_groups = 'validation' not in listing.splits  # then training splits it off, if not this command
        has_splits = None not in listing.splits
        if fraction is None:
            fraction = 0.0 if has_splits else _DEFAULT_FRACTION
        if near_groups:
            listed_splits, warnings, near_groups = _split_joined(listing, fraction, workers, console)
        else:
            listed_splits, warnings = datasets.split_listing(listing, fraction, joins_copies=False)
        layout = listing.layout
        notes = [*listing.notes, *formats.describe_left_out(listing.left_out), *warnings]
        parts = {name: ImageItems(name, split, options.encoding) for name, split in listed_splits.items()}
    dropped: list[Dropped] = []
    if options.dedupe:
        sizes = {split: len(items) for split, items in parts.items()}
        parts, dropped = drop_copies(parts, options.near, workers, console)
        notes += describe(dropped, sizes)
    ordered = {}
    for split, items in parts.items():
        order = splits.hash_order(items.names)
        ordered[split] = items.take(order[: options.limit or None])
    key = _key(ordered, options)
    return Plan(layout, ordered, _shard_items(ordered), key, notes, counts, dropped, near_groups)


def _split_joined(
    listing: layouts.Listing, fraction: float, workers: int, console: Console
) -> tuple[dict[str, datasets.Split], list[str], bool]:
    """The splits of a listing, with notes; copies are in one group where they belong to train or to no split.

    Not where no split could then be made: False says so.
    """
    rows = np.flatnonzero([split in (None, 'train') for split in listing.splits])
    files = listing.files.take(rows)
    before = [listing.groups[row] for row in rows]
    found = find_copies(files, workers, console)
    after, parted = copies.join_groups(files.names, before, listing.labels[rows], found.exact, found.near)
    groups = list(listing.groups)
    for row, group in zip(rows.tolist(), after, strict=True):
        groups[row] = group
    joined, notes = dataclasses.replace(listing, groups=groups), copies.describe(before, after, parted)
    try:
        # As training would do it, if this command does not.
        datasets.split_listing(joined, fraction or _DEFAULT_FRACTION, joins_copies=False)
    except splits.ImpossibleSplit:
        joined, notes = listing, [copies.PARTED] * (after != before)
    parts, more = datasets.split_listing(joined, fraction, joins_copies=False)
    return parts, [*notes, *more], joined is not listing


def _openforensics(
    files: files_lib.Files, annotations: Mapping[str, str], options: Options
) -> tuple[str, dict[str, Items], dict[str, openforensics.Counts]]:
    parts: dict[str, Items] = {}
    counts = {}
    place = {name: index for index, name in enumerate(files.names)}
    photo_names = openforensics.PhotoNames(files.names)
    for split, name in annotations.items():
        photos, counts[split] = openforensics.read_annotations(
            files.read(place[name]), name, split, photo_names, options.min_face
        )
        rows = np.array([place[photo.name] for photo in photos], int)
        quality = options.encoding.quality or Encoding.parse(options.size, '').quality
        parts[split] = PhotoItems(split, files.take(rows), photos, options.margin, options.size, quality)
    if not any(map(len, parts.values())):
        missing = next((count.first_missing for count in counts.values() if count.first_missing), 'none listed')
        raise UserError(f'no photo with a usable face was found beside {", ".join(annotations.values())} ({missing}).')
    return 'OpenForensics (*_poly.json, one crop a face)', parts, counts


def _shard_items(parts: Mapping[str, Items]) -> int:
    largest = max(parts.values(), key=len)
    files = largest.files
    sizes = []
    for index in np.linspace(0, len(files) - 1, min(_SIZE_SAMPLE, len(files)), dtype=int):
        try:
            sizes.append(len(files.read(int(index))))
        except OSError:
            continue
    mean = max(1, sum(sizes) // max(1, len(sizes)))
    return int(np.clip(SHARD_BYTES // mean, *SHARD_ITEMS))


def _key(parts: Mapping[str, Items], options: Options) -> str:
    plain = {name: value for name, value in dataclasses.asdict(options).items() if name != 'columns' or value}
    state = hashlib.sha256(json.dumps([fakeimg.__version__, records.VERSION, plain]).encode())
    for split, items in parts.items():
        state.update(f'{split} {len(items)}\n'.encode())
        for columns in _columns(items):
            for value in columns:
                state.update(f'{value}\0'.encode('utf-8', 'surrogateescape'))
    return state.hexdigest()


def _columns(items: Items) -> list[Iterable]:
    if isinstance(items, ImageItems):
        split = items.split
        return [split.names, split.labels, split.generators, split.groups]
    assert isinstance(items, PhotoItems)
    return [items.names, items.photos]
