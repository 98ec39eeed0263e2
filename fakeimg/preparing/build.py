"""Carries out a plan: shards by worker processes, then the manifest, then the folder under its name, all at once."""

import contextlib
import csv
import dataclasses
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import fakeimg
from fakeimg import files
from fakeimg.console import SILENT, Console
from fakeimg.data import records
from fakeimg.data.example import Record
from fakeimg.data.labels import LABELS
from fakeimg.errors import UserError
from fakeimg.preparing import shards
from fakeimg.preparing.plan import Plan
from fakeimg.runtime import pool

_LOCK, _PLAN = '.lock', '.plan'
UNREADABLE, DROPPED = 'bad_pictures.csv', 'dropped.csv'
_LEFTOVER = re.compile(r'.*\.\d+\.(partial|rows|json)')  # of a worker that was killed


def build(plan: Plan, out: pathlib.Path, workers: int, console: Console = SILENT) -> dict[str, Any]:
    """Writes a prepared set, or what is left of it to write.

    Until it is whole it lies in `OUT.partial`, where the same command finds its finished shards.

    Args:
        plan: what to write.
        out: the folder to create; it may exist if it is empty.
        workers: processes.
        console: shows the progress.

    Returns:
        The summary, as in `prepared.json`.

    Raises:
        UserError: something else is in `out`, another run is writing it, or it cannot be written.
    """
    with claim(out):
        return write(plan, out, workers, console)


def write(plan: Plan, out: pathlib.Path, workers: int, console: Console = SILENT) -> dict[str, Any]:
    """What `build` does, for one who has a `claim` on the folder."""
    if records.is_prepared(str(out)):
        summary = json.loads((out / records.SUMMARY).read_text())
        if summary['plan'] != plan.key:
            raise UserError(f'{out} holds a set prepared from other images or options; choose another folder.')
        return summary
    partial = _partial(out)
    with _named_errors(partial):
        _sign(partial, plan.key)
    if not (partial / records.SUMMARY).exists():
        _write_shards(plan, partial, workers, console)
    summary = json.loads((partial / records.SUMMARY).read_text())
    clean(partial)
    try:
        os.rename(partial, os.path.abspath(out))  # '.' cannot be renamed to
    except OSError as error:
        raise UserError(f'{partial} is whole, but cannot be renamed to {out} ({error.strerror}).') from None
    return summary


@contextlib.contextmanager
def claim(out: pathlib.Path) -> Iterator[None]:
    """Keeps others from preparing a folder, from before its images are read.

    Raises:
        UserError: something else is in `out`, another run is writing it, or it cannot be written.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UserError(f'{out} exists and is not a folder; choose another folder.')
    if records.is_prepared(str(out)):
        yield
        return
    if out.exists() and any(out.iterdir()):
        raise UserError(f'{out} exists and holds something else; choose another folder.')
    refusal = f'another prepare is writing {out}; wait for it.'
    with files.hold_folder(_partial(out), 'prepare', refusal=refusal):
        yield


def _partial(out: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(f'{os.path.abspath(out)}.partial')


def _sign(partial: pathlib.Path, key: str) -> None:
    """Records in the unfinished folder which plan it is for, or checks that it is this one."""
    earlier, new, summary = partial / _PLAN, partial / f'{_PLAN}.partial', partial / records.SUMMARY
    if earlier.exists():
        earlier_key = earlier.read_text()
    elif summary.exists():  # whole, and stopped while it was being cleaned
        earlier_key = json.loads(summary.read_text())['plan']
    elif any(path.name not in (_LOCK, new.name) for path in partial.iterdir()):
        raise UserError(f'{partial} exists and holds something else; move it away, or choose another folder.')
    else:
        new.write_text(key)
        os.replace(new, earlier)  # never half a key
        return
    if earlier_key != key:
        raise UserError(
            f'{partial} holds an unfinished set of other images or options; finish it with its own command, '
            'remove it, or choose another folder.'
        )


def _write_shards(plan: Plan, partial: pathlib.Path, workers: int, console: Console) -> None:
    for leftover in partial.iterdir():
        if _LEFTOVER.fullmatch(leftover.name):
            leftover.unlink(missing_ok=True)  # an orphan may be at work for half a second more
    written: dict[str, list[shards.Written]] = {split: [] for split in plan.splits}
    owners = [split for split in plan.splits for _ in range(plan.num_shards(split))]
    tasks = _tasks(plan, partial)
    with contextlib.closing(
        pool.run_tasks(
            shards.write_shard, tasks, workers=workers, total=plan.num_items, title='preparing', console=console
        )
    ) as results:
        for split, result in zip(owners, results, strict=True):
            written[split].append(result)
    with _named_errors(partial):
        write_summary(plan, partial, written)


def _tasks(plan: Plan, partial: pathlib.Path) -> Iterator[shards.Task]:
    for split, items in plan.splits.items():
        count = plan.num_shards(split)
        for index in range(count):
            part = range(index * plan.shard_items, min((index + 1) * plan.shard_items, len(items)))
            yield shards.Task(partial / records.shard_name(split, index, count), items.take(part))


def write_summary(plan: Plan, partial: pathlib.Path, written: dict[str, list[shards.Written]]) -> None:
    """Writes all that lies beside the shards, `prepared.json` last: then the set is complete but for its name."""
    counts: dict[str, dict[str, int]] = {}
    bad: list[tuple[str, str, str]] = []
    with open(partial / records.MANIFEST, 'w', **files.TEXT) as manifest:
        records.write_rows(manifest).writerow(Record._fields)
        for split, parts in written.items():
            counts[split] = dict.fromkeys(LABELS, 0)
            for part in parts:
                with open(shards.rows_file(part.path), **files.TEXT) as rows:
                    shutil.copyfileobj(rows, manifest)
                    rows.seek(0)
                    for row in csv.reader(rows):
                        counts[split][_CLASS[row[2]]] += 1
                bad += [(split, *item) for item in shards.read_bad(part.path)]
    if not any(part.num_records for parts in written.values() for part in parts):
        shutil.rmtree(partial)  # or the same command would find the shards, and refuse again
        raise UserError(f'none of the images can be read (first: {bad[0][1]}: {bad[0][2]}); nothing was prepared.')
    if bad:
        with open(partial / UNREADABLE, 'w', **files.TEXT) as file:
            records.write_rows(file).writerows([('split', 'name', 'reason'), *bad])
    if plan.dropped:
        with open(partial / DROPPED, 'w', **files.TEXT) as file:
            rows = [dataclasses.astuple(dropped) for dropped in plan.dropped]
            records.write_rows(file).writerows([('split', 'name', 'reason', 'kept'), *rows])
    lengths = {split: [part.num_records for part in parts] for split, parts in written.items()}
    num_bytes = {split: sum(part.num_bytes for part in parts) for split, parts in written.items()}
    records.write_metadata(partial, lengths, num_bytes)
    summary = {
        'version': records.VERSION,
        'fakeimg': fakeimg.__version__,
        'digest': records.file_digest(partial / records.MANIFEST),
        'layout': plan.layout,
        'labels': LABELS,
        'counts': counts,
        'bytes': num_bytes,
        'unreadable': len(bad),
        'dropped': len(plan.dropped),
        'notes': plan.notes,
        'near_groups': plan.near_groups,
        'made_from': plan.made_from,
        'shards': lengths,
        'shard_bytes': {split: [os.path.getsize(part.path) for part in parts] for split, parts in written.items()},
        'plan': plan.key,
    }
    files.write_json(partial / records.SUMMARY, summary)  # from here on the set is whole, but for its name


_CLASS = {str(label): name for name, label in LABELS.items()}


def clean(partial: pathlib.Path) -> None:
    """Removes what only this module needed."""
    for path in partial.iterdir():
        is_of_shard = path.name.endswith('.rows') or re.search(r'array_record.*\.json$', path.name)
        if path.name in (_LOCK, _PLAN) or is_of_shard or _LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _named_errors(folder: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise shards.cannot_write(folder, error.strerror) from error
