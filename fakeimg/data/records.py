"""A prepared set: ArrayRecord shards of tf.train.Example with TFDS metadata and a manifest, written and read.

manifest.csv            one row a record, in record order; its SHA-256 is the set's digest
prepared.json           digest, counts, layout, options
dataset_info.json, features.json, fakeimg-SPLIT.array_record-00000-of-00004     as TFDS reads them
"""

import csv
import dataclasses
import hashlib
import json
import os
import pathlib
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import numpy as np
from array_record.python import (
    array_record_data_source,
    array_record_module,  # pyright: ignore[reportAttributeAccessIssue]  # compiled
)

from fakeimg.data.example import decode_image
from fakeimg.data.labels import LABELS
from fakeimg.errors import UserError
from fakeimg.files import TEXT

VERSION = 1  # of this layout of files
MANIFEST, SUMMARY = 'manifest.csv', 'prepared.json'
# One record a chunk for random access; images are compressed already.
WRITER_OPTIONS = 'group_size:1,uncompressed'
RUN = 128  # records that `RecordFiles.load` reads at a time


def write_rows(file: TextIO) -> Any:
    """Returns a CSV writer. It quotes every text: a name may hold a carriage return, which csv would leave bare."""
    return csv.writer(file, lineterminator='\n', quoting=csv.QUOTE_NONNUMERIC)


def shard_name(split: str, index: int | str, count: int | str) -> str:
    """Returns the file name that TFDS expects of a shard."""
    numbers = (f'{number:05d}' if isinstance(number, int) else number for number in (index, count))
    return f'fakeimg-{split}.array_record-{"-of-".join(numbers)}'


class RecordFiles:
    """The images of one split of a prepared set, read by several threads at once."""

    def __init__(self, shards: Sequence[str], names: list[str], rows: np.ndarray):
        self.names = names
        self._rows = rows  # int64[n], places in all shards of the split
        self._shards = list(shards)
        self._records = array_record_data_source.ArrayRecordDataSource(self._shards)
        self._loaded: list[bytes | None] | None = None  # see `load`
        if len(self._records) != len(names):
            raise ValueError(f'{len(self._records)} records, {len(names)} in the manifest')

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """Returns the encoded image. Raises OSError when the record is damaged."""
        if self._loaded is not None and (image := self._loaded[index]) is not None:
            return image
        try:
            return decode_image(self._records[int(self._rows[index])])
        except Exception as error:  # array_record raises whatever its C++ does
            raise OSError(f'damaged record: {" ".join(str(error).split())[:200]}') from None

    def take(self, indices: Sequence[int] | np.ndarray) -> 'RecordFiles':
        part = object.__new__(RecordFiles)  # shares the open readers
        part.names = [self.names[index] for index in indices]
        part._rows = self._rows[np.asarray(indices, int)]
        part._shards, part._records = self._shards, self._records
        part._loaded = None
        return part

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_loaded': None}

    def size_in_bytes(self) -> int:
        """About what all encoded images take."""
        return int(sum(map(os.path.getsize, self._shards)) * len(self) / max(1, len(self._records)))

    @property
    def num_loaded(self) -> int:
        """How many images are in memory."""
        return sum(image is not None for image in self._loaded or ())

    def load(self) -> threading.Thread | None:
        """Starts a thread, and returns it, that loads all images into memory, from which `read` takes them then.

        In runs a record costs a tenth of what it costs alone (1 against 14 us for images of 32 px), and a disk or
        a network gives many times as much.
        """
        if self._loaded is None:
            loaded: list[bytes | None] = [None] * len(self)
            self._loaded = loaded
            thread = threading.Thread(target=_load_records, args=(weakref.ref(self),), name='load records')
            thread.start()
            return thread


def _load_records(files_of: Callable[[], RecordFiles | None]) -> None:
    """Fills `_loaded` run by run, as long as the files are referred to and the main thread lives."""
    files = files_of()
    if files is None:
        return
    rows, shards, order = files._rows, files._shards, np.argsort(files._rows)
    del files
    start = 0
    for shard in shards:
        try:
            reader = array_record_module.ArrayRecordReader(shard, options='readahead_buffer_size:1048576')
            count = reader.num_records()
        except Exception:  # gone or damaged since the set was opened; array_record raises whatever its C++ does
            return
        for first in range(0, count, RUN):
            last = min(first + RUN, count)
            chosen = order[slice(*np.searchsorted(rows, (start + first, start + last), sorter=order))]
            if len(chosen) * 8 < last - first:
                continue  # a few of many are cheaper one by one
            try:
                images = [decode_image(record) for record in reader.read(first, last)]
            except Exception:  # damaged; reading one by one will say which
                continue
            files = files_of()
            if files is None or files._loaded is None or not threading.main_thread().is_alive():
                return
            for index in chosen.tolist():
                files._loaded[index] = images[rows[index] - start - first]
            del files
        start += count


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared set on disk: its summary, and of each split the files and the manifest's columns."""

    summary: dict[str, Any]
    files: dict[str, RecordFiles]
    columns: dict[str, dict[str, list[str]]]  # split -> label, source, group -> one value a record
    digests: dict[str, np.ndarray]  # split -> S32[n], SHA-256 of each image's bytes


def is_prepared(path: str) -> bool:
    return os.path.isfile(os.path.join(os.path.expanduser(path), SUMMARY))


def open_prepared(path: str) -> Prepared:
    """Opens a prepared set.

    Raises:
        UserError: files missing, or changed since it was prepared.
    """
    folder = pathlib.Path(path).expanduser()
    try:
        summary = json.loads((folder / SUMMARY).read_text())
        if summary['version'] > VERSION:
            raise UserError(f'{path} was prepared by a newer fakeimg; update fakeimg, or prepare it again.')
        all_lengths, all_sizes = summary['shards'], summary['shard_bytes']
        if file_digest(folder / MANIFEST) != summary['digest']:
            raise UserError(f'{path}/{MANIFEST} was changed since the set was prepared; prepare it again.')
        names: dict[str, list[str]] = {}
        columns: dict[str, dict[str, list[str]]] = {}
        digests: dict[str, bytearray] = {}
        with open(folder / MANIFEST, **TEXT) as file:
            reader = csv.reader(file)
            next(reader)
            for split, name, label, generator, group, *_, sha256 in reader:
                if split not in names:
                    names[split], digests[split] = [], bytearray()
                    columns[split] = {'label': [], 'source': [], 'group': []}
                names[split].append(name)
                for column, value in zip(columns[split].values(), (label, generator, group), strict=True):
                    column.append(value)
                digests[split] += bytes.fromhex(sha256)
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise UserError(f'{path} is not a whole prepared set ({error}); prepare it again.') from None
    files = {}
    for split, split_names in names.items():
        lengths, sizes = all_lengths[split], all_sizes[split]
        shards = [str(folder / shard_name(split, index, len(lengths))) for index in range(len(lengths))]
        for shard, size in zip(shards, sizes, strict=True):
            if not os.path.isfile(shard):
                raise UserError(f'{shard} is missing; copy the whole set again, or prepare it again.')
            if os.path.getsize(shard) != size:
                raise UserError(f'{shard} is not whole; copy the whole set again, or prepare it again.')
        try:
            files[split] = RecordFiles(shards, split_names, np.arange(len(split_names)))
        except (RuntimeError, ValueError) as error:  # array_record looks at the ends of each shard when it opens it
            reason = ' '.join(str(error).split())[:200]
            raise UserError(
                f'the shards of split {split} in {path} are damaged ({reason}); copy the whole set again, '
                'or prepare it again.'
            ) from None
    return Prepared(
        summary, files, columns, {split: np.frombuffer(bytes(packed), 'S32') for split, packed in digests.items()}
    )


def file_digest(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def write_metadata(folder: pathlib.Path, shard_lengths: dict[str, list[int]], shard_bytes: dict[str, int]) -> None:
    """Writes `dataset_info.json` and `features.json`, so that `tfds.builder_from_directory(folder)` works."""
    import tensorflow_datasets as tfds  # a second of imports
    from etils import epath

    text = tfds.features.Text()
    features = tfds.features.FeaturesDict(
        {
            'image': tfds.features.Image(shape=(None, None, 3)),
            'label': tfds.features.ClassLabel(names=sorted(LABELS, key=LABELS.__getitem__)),
            **dict.fromkeys(('name', 'split', 'source', 'group', 'format', 'sha256'), text),
            **dict.fromkeys(('width', 'height', 'size'), tfds.features.Scalar(np.int64)),
        }
    )
    template = tfds.core.ShardedFileTemplate(
        data_dir=epath.Path(folder),
        dataset_name='fakeimg',
        filetype_suffix='array_record',
        template='{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
    )
    infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=lengths,
            num_bytes=shard_bytes[split],
            filename_template=template.replace(split=split),
        )
        for split, lengths in shard_lengths.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features,
        split_infos=infos,
        filename_template=template,
        check_data=False,
    )
