"""The preparation as a whole: any layout in, a prepared set out."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import rich.table

from fakeimg.console import SILENT, Console
from fakeimg.preparing import build
from fakeimg.preparing.plan import Options, Plan, make_plan


def prepare(
    path: str,
    options: Options,
    out: pathlib.Path,
    *,
    workers: int = 1,
    console: Console = SILENT,
    made_from: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Writes a prepared set, or what is left of it to write.

    Args:
        path: a folder, an archive, a table, or OpenForensics as it was released.
        options: of the user.
        out: the folder to create.
        workers: processes.
        console: shows the layout, warnings, progress and counts.
        made_from: the images and the settings as the user gave them, for `prepared.json`.

    Returns:
        The summary, as in `prepared.json`.

    Raises:
        UserError: see `make_plan` and `build.build`.
    """
    with build.claim(out):
        plan = dataclasses.replace(make_plan(path, options, workers, console), made_from=made_from)
        console.say(f'layout: {plan.layout}, {plan.num_items:,} images')
        for note in plan.notes:
            console.warn(note)
        _show_annotations(plan, console)
        summary = build.write(plan, out, workers, console)
    _show_summary(summary, console)
    if plan.dropped:
        console.warn(f'{len(plan.dropped):,} copies were left out; {out / build.DROPPED} lists them')
    if summary['unreadable']:
        console.warn(
            f'{summary["unreadable"]:,} images cannot be read and were left out; {out / build.UNREADABLE} lists them'
        )
    for split, counts in summary['counts'].items():
        for name in (name for name, count in counts.items() if not count):
            console.warn(f'split {split} has no {name} images')
    return summary


def _show_annotations(plan: Plan, console: Console) -> None:
    if not plan.counts:
        return
    table = rich.table.Table('split', 'what', 'listed', 'found')
    for split, counts in plan.counts.items():
        for what, listed, found in counts.listed_and_found():
            table.add_row(split, what, f'{listed:,}', f'{found:,}')
    console.table(table, 90)
    for split, counts in plan.counts.items():
        if left_out := counts.left_out():
            listed = ', '.join(f'{number:,} {reason}' for reason, number in left_out.items())
            console.warn(f'{split}, left out: {listed}')


def _show_summary(summary: dict[str, Any], console: Console) -> None:
    table = rich.table.Table('split', 'real', 'fake', 'MB', 'shards')
    for split, counts in summary['counts'].items():
        size, number = summary['bytes'][split] / 1e6, len(summary['shards'][split])
        table.add_row(split, f'{counts["real"]:,}', f'{counts["fake"]:,}', f'{size:,.1f}', str(number))
    console.table(table, 90)
