"""Writes one shard, in a worker process: it is whole under its name, or it is not there."""

import dataclasses
import json
import os
import pathlib

from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from fakeimg.data.example import encode_example
from fakeimg.data.files import prefetched
from fakeimg.data.records import WRITER_OPTIONS, write_rows
from fakeimg.errors import UserError
from fakeimg.files import TEXT
from fakeimg.preparing.items import Items
from fakeimg.runtime import pool

_TICK_EVERY = 64  # images between reports of progress


@dataclasses.dataclass(frozen=True)
class Task:
    """Everything that a worker needs for one shard.

    Attributes:
        path: where the shard will be; `path` + ROWS and BAD lie beside it until the set is finished.
        items: its images or photos.
    """

    path: pathlib.Path
    items: Items


@dataclasses.dataclass(frozen=True)
class Written:
    """A finished shard: its records, and the bytes of its images."""

    path: pathlib.Path
    num_records: int
    num_bytes: int


def rows_file(path: pathlib.Path) -> pathlib.Path:
    """The manifest rows of a shard, CSV without a header."""
    return path.with_name(f'{path.name}.rows')


def bad_file(path: pathlib.Path) -> pathlib.Path:
    """JSON: counts of a shard, and the (name, reason) of each image that could not be read."""
    return path.with_name(f'{path.name}.json')


def write_shard(task: Task) -> Written:
    """Writes a shard, or finds it finished by an earlier run.

    Raises:
        UserError: no space left, or another reason why nothing can be written.
    """
    if (finished := _read_finished(task.path)) is not None:
        pool.tick(len(task.items))
        return finished
    # Another process id, another name: what a killed run leaves behind, or still writes, cannot get in the way.
    partial = task.path.with_name(f'{task.path.name}.{os.getpid()}.partial')
    bad: list[tuple[str, str]] = []
    num_records = num_bytes = 0
    try:
        with open(partial.with_suffix('.rows'), 'w', **TEXT) as file:
            rows = write_rows(file)
            writer = array_record_module.ArrayRecordWriter(str(partial), WRITER_OPTIONS)
            for index in prefetched(task.items.files):
                for data, row in task.items.records(index, bad):
                    writer.write(encode_example(data, row))
                    rows.writerow(row)
                    num_records += 1
                    num_bytes += len(data)
                if index % _TICK_EVERY == _TICK_EVERY - 1:
                    pool.tick(_TICK_EVERY)
            writer.close()
        sizes = [os.path.getsize(partial), os.path.getsize(partial.with_suffix('.rows'))]
        facts = {'records': num_records, 'bytes': num_bytes, 'sizes': sizes, 'bad': bad}
        partial.with_suffix('.json').write_text(json.dumps(facts))
        os.replace(partial.with_suffix('.rows'), rows_file(task.path))
        os.replace(partial.with_suffix('.json'), bad_file(task.path))
        os.replace(partial, task.path)  # last: a shard under its name has the other two beside it
    except (OSError, RuntimeError) as error:  # the latter is array_record's, whose writes fail at close at the latest
        reason = getattr(error, 'strerror', None) or ' '.join(str(error).split())[:200]
        raise cannot_write(task.path.parent, reason) from error
    pool.tick(len(task.items) % _TICK_EVERY)
    return Written(task.path, num_records, num_bytes)


def cannot_write(folder: pathlib.Path, reason: str | None) -> UserError:
    return UserError(
        f'cannot write {folder} ({reason}); free some space or fix the permissions, then run the same command again '
        '(finished shards are kept).'
    )


def _read_finished(path: pathlib.Path) -> Written | None:
    """Describes a shard that an earlier run finished; None where there is none, or a power failure cut it short."""
    try:
        facts = json.loads(bad_file(path).read_text())
        whole = facts['sizes'] == [os.path.getsize(path), os.path.getsize(rows_file(path))]
        return Written(path, facts['records'], facts['bytes']) if whole else None
    except (OSError, ValueError, KeyError):
        return None


def read_bad(path: pathlib.Path) -> list[tuple[str, str]]:
    """Returns (name, reason) of the images of a finished shard that could not be read."""
    return [(name, reason) for name, reason in json.loads(bad_file(path).read_text())['bad']]
