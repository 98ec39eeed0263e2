"""Looks for what ruins results before anyone trains: fakeimg audit DIR

Copies across splits, wrong labels, header facts that give the class away, splits that look different, broken files.
DIR is a prepared set, a folder, an archive or a table. Exit code 1 when a line is crossed.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from fakeimg.auditing.audit import audit
from fakeimg.cli import commands, data_names, verb
from fakeimg.data import datasets, labels, layouts, seen, tables
from fakeimg.errors import UserError
from fakeimg.runtime import pool

_OUT = flags.DEFINE_string('out', None, 'Folder for audit.json and audit.html; default audits/NAME-DIGEST.')
_ALLOW = flags.DEFINE_multi_string('allow', [], 'Finding to ignore in the exit code, by its name; repeatable.')
_FRACTION = flags.DEFINE_float('validation_fraction', 0.1, 'Share of train that training will split off; 0: none.')
_WORKERS = flags.DEFINE_integer('workers', 0, 'Processes; 0: one a core.')

data_names.define()


def main(argv: Sequence[str]) -> int:
    if len(argv) != 2:
        raise UserError('say what to audit, and nothing else: fakeimg audit DIR.')
    verb.require(_WORKERS.value >= 0, 'workers', _WORKERS.value, '0 (one a core) or more')
    console = verb.console()
    name = layouts.set_name(argv[1])
    data = datasets.open_path(
        argv[1],
        _FRACTION.value,  # what is judged is the split that training will make
        class_names=labels.class_names(data_names.labels()),
        columns=tables.columns_of(data_names.columns()),
    )
    out = pathlib.Path(_OUT.value or f'audits/{name}-{seen.content_digest(data)[:8]}').expanduser()
    path = pathlib.Path(argv[1]).expanduser().resolve()
    if path == out.resolve() or path in out.resolve().parents:
        raise UserError(f'--out {out} lies inside the data; choose a folder elsewhere.')
    console.say(f'layout: {data.layout}, {sum(map(len, data.splits.values())):,} images, digest {data.digest[:12]}')
    for note in data.notes:
        console.warn(note)
    images = commands.images(argv[1], ['label', 'columns', _FRACTION.name])
    result = audit(
        data,
        allowed=_ALLOW.value,
        workers=_WORKERS.value or pool.default_workers(),
        console=console,
        spell=lambda command: commands.spell(command, images),
    )
    page = result.write(out, f'Audit of {name}')
    console.say(f'{result.verdict.upper() if result.verdict == "fail" else result.verdict}: {page}')
    return int(result.verdict == 'fail')
