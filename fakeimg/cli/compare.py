"""Compares detectors on the same images: fakeimg compare RUN... [--data DIR] [--out DIR]

RUN is a run folder, an evaluation of one, or a table of scores (name, score) of any detector. Runs that differ in their
seed alone are one system. Without --data, each run's own test split is used; --data scores all of them on other sets.
"""

import json
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence

from absl import flags

from fakeimg.cli import data_names, verb
from fakeimg.console import Console
from fakeimg.errors import UserError
from fakeimg.evaluation import compare, compare_tables

_DATA = flags.DEFINE_multi_string('data', [], 'A set to score on: folder, archive, table, prepared set; repeatable.')
_OUT = flags.DEFINE_string('out', None, 'Folder for tables and page; default comparisons/NAMES.')
_SPLIT = flags.DEFINE_string('split', 'test', 'train, validation, test, or a part as TFDS slices it: test[:10%].')
_THRESHOLD = flags.DEFINE_string(
    'threshold', '0.5', 'P(fake) from which an image is called fake, or the name of an operating point that each '
    'evaluation has (fpr=0.01).'
)  # fmt: skip
_STEP = flags.DEFINE_string('step', 'best', 'Checkpoint of run folders: best (by validation), latest, or its step.')
_JSON = flags.DEFINE_bool('json', False, 'Print compare.json instead of tables.')

flags.DEFINE_alias('data_path', 'data')
data_names.define()


def main(argv: Sequence[str]) -> None:
    if len(argv) < 2:
        raise UserError('say what to compare: fakeimg compare RUN... (run folders, evaluations or tables of scores).')
    labels, columns = data_names.labels(), data_names.columns()
    if columns and not _DATA.value:
        raise UserError(
            '--columns says how the table of a set is read, and no set is named; add --data, or leave it out.'
        )
    if labels and not _DATA.value and not any(map(os.path.isfile, map(os.path.expanduser, argv[1:]))):
        raise UserError(
            '--label says what names mean in a set or in a table of scores, and there is neither; add --data, or leave '
            'it out.'
        )
    # With --json, standard output holds nothing else.
    console = Console(sys.stderr) if _JSON.value else verb.console()
    result, folder = compare.compare(
        argv[1:],
        _DATA.value,
        _SPLIT.value,
        labels=labels,
        columns=columns,
        threshold=_THRESHOLD.value,
        step=_STEP.value,
        out=pathlib.Path(_OUT.value).expanduser() if _OUT.value else None,
        command=shlex.join(['fakeimg', 'compare', *sys.argv[1:]]),
        console=console,
    )
    if _JSON.value:
        Console(sys.stdout).say(json.dumps(result, indent=2))
        return
    for grid in compare_tables.grids(result):
        console.say('')
        console.table(compare_tables.for_terminal(grid))
    console.say(f'\ntables and page: {folder / "compare.html"}')
