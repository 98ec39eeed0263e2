"""Turns images into a prepared set: fakeimg prepare SOURCE --out data/faces

SOURCE is a folder, a zip or tar archive, a table (.csv, .jsonl) of any layout that fakeimg knows, or OpenForensics.
The same command continues a run that was stopped.
"""

import pathlib
import shlex
from collections.abc import Sequence

from absl import flags

from fakeimg.cli import commands, data_names, verb
from fakeimg.data import labels, tables
from fakeimg.errors import UserError
from fakeimg.preparing import plan
from fakeimg.preparing.items import Encoding
from fakeimg.preparing.prepare import prepare
from fakeimg.runtime import pool

_OUT = flags.DEFINE_string('out', None, 'Folder to create.')
_TO_SIZE = flags.DEFINE_integer('to_size', 0, 'Length to bring the short side to, pixels; 0: unchanged.')
_ENCODE = flags.DEFINE_string('encode', '', 'jpeg:QUALITY writes both classes with one encoder; empty: original bytes.')
_LIMIT = flags.DEFINE_integer('limit', 0, 'Most images a split (photos of OpenForensics), by name hash; 0: all.')
_FRACTION = flags.DEFINE_float(
    'validation_fraction', None, 'Share of train that becomes validation where there is none; default 0.1 where '
    'there are no splits at all, else none.')  # fmt: skip
_MARGIN = flags.DEFINE_float('margin', 1.3, 'OpenForensics: side of a crop, in lengths of the face box.')
_SIZE = flags.DEFINE_integer('size', 224, 'OpenForensics: side of a crop after resizing, pixels.')
_MIN_FACE = flags.DEFINE_integer('min_face', 32, 'OpenForensics: smaller faces are left out, pixels.')
_DEDUPE = flags.DEFINE_bool('dedupe', False, 'Leave out copies, from the later split where there are several.')
_NEAR = flags.DEFINE_bool('near', False, 'With --dedupe: near copies of images in an earlier split as well.')
_WORKERS = flags.DEFINE_integer('workers', 0, 'Processes; 0: one a core.')
# What decides what comes out.
_DECIDING = (_TO_SIZE, _ENCODE, _LIMIT, _FRACTION, _MARGIN, _SIZE, _MIN_FACE, _DEDUPE, _NEAR)

data_names.define()


def main(argv: Sequence[str]) -> None:
    if len(argv) != 2:
        raise UserError('say what to prepare, and nothing else: fakeimg prepare SOURCE --out DIR.')
    if not _OUT.value:
        raise UserError('say where the prepared set goes: --out DIR.')
    verb.require(_LIMIT.value >= 0, 'limit', _LIMIT.value, '0 (all) or more')
    verb.require(_WORKERS.value >= 0, 'workers', _WORKERS.value, '0 (one a core) or more')
    verb.require(1 <= _MARGIN.value <= 10, 'margin', _MARGIN.value, 'from 1 to 10')
    verb.require(_SIZE.value >= 8, 'size', _SIZE.value, 'at least 8 pixels')
    verb.require(_MIN_FACE.value >= 1, 'min_face', _MIN_FACE.value, 'at least 1 pixel')
    options = plan.Options(
        encoding=Encoding.parse(_TO_SIZE.value, _ENCODE.value),
        limit=_LIMIT.value,
        validation_fraction=_FRACTION.value,
        margin=_MARGIN.value,
        size=_SIZE.value,
        min_face=_MIN_FACE.value,
        class_names=labels.class_names(data_names.labels()),
        columns=tables.columns_of(data_names.columns()),
        dedupe=_DEDUPE.value,
        near=_NEAR.value,
    )
    verb.require(options.dedupe or not options.near, 'near', True, 'given together with --dedupe')
    console = verb.console()
    out = pathlib.Path(_OUT.value).expanduser()
    workers = _WORKERS.value or pool.default_workers()
    made_from = commands.made_from(argv[1], [flag.name for flag in _DECIDING] + ['label', 'columns'])
    summary = prepare(argv[1], options, out, workers=workers, console=console, made_from=made_from)
    console.say(f'prepared: {out}, digest {summary["digest"]}')
    console.say(f'next: fakeimg audit {shlex.quote(str(out))}')
