"""Rows of predictions in the forms that people and programs read."""

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from fakeimg.errors import UserError

FORMATS = ('csv', 'jsonl', 'parquet')


class Row(NamedTuple):
    """One image, or one face in it; the columns of every file, in their order. None is an empty cell.

    Attributes:
        path: as the user named it.
        label: `real` or `fake`, by the threshold alone.
        probability: P(fake), six decimals.
        logit: log-odds of fake, six decimals.
        threshold: on P(fake).
        verdict: `real`, `fake` or `unsure`; empty where the image cannot be read.
        stability: 1 where mild changes of the image do not move P(fake), 0 where they move it from 0 to 1.
        faces: how many were found, or which of them this row is, with its box: left, top, width, height, pixels.
        provenance: what the file declares of itself; no part of the score.
        note: what to know before the verdict is believed, or why the image cannot be read.
        model: name and digest of the weights.
    """

    path: str
    label: str | None = None
    probability: float | None = None
    logit: float | None = None
    threshold: float | None = None
    verdict: str | None = None
    stability: float | None = None
    faces: str | None = None
    provenance: str | None = None
    note: str | None = None
    model: str | None = None

    @property
    def is_face(self) -> bool:
        """Whether this is the row of a face, not of an image."""
        return is_face(self.faces)


def is_face(cell: str | None) -> bool:
    """Whether the cell `faces` is that of a face, not of an image."""
    return ' of ' in (cell or '')


_FORMULA = frozenset('=+-@\t\r')  # what a spreadsheet takes for the beginning of one
_LETTERS = {
    'p': 'path', 'l': 'label', 's': 'probability', 'g': 'logit', 't': 'threshold', 'v': 'verdict', 'b': 'stability',
    'f': 'faces', 'x': 'provenance', 'n': 'note', 'm': 'model',
}  # fmt: skip


def require_format(name: str) -> None:
    """Raises UserError for what is neither one of FORMATS nor a template that names a column."""
    if name in FORMATS:
        return
    letters = re.findall('%(.?)', name.replace('%%', ''))
    known = ', '.join(f'%{letter} {column}' for letter, column in _LETTERS.items())
    if not letters:
        raise UserError(f'format is {name!r}; it must be {", ".join(FORMATS)}, or a template of {known}.')
    for letter in letters:
        if letter not in _LETTERS:
            raise UserError(f'format is {name!r}, which has %{letter}; there are {known}, and %% for a percent sign.')


def header(form: str) -> str:
    """What a file of a form begins with."""
    return ','.join(Row._fields) + '\n' if form == 'csv' else ''


def lines(form: str, rows: Sequence[Row]) -> str:
    """Rows as text, with their line ends."""
    if form == 'csv':
        text = io.StringIO()
        plain, quoted = (
            csv.writer(text, lineterminator='\n', quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
        )
        for row in rows:
            cells = [named(row.path), *map(_cell, row[1:])]
            # A bare carriage return would be taken for a line end.
            (quoted if '\r' in row.path or '\r' in (row.note or '') else plain).writerow(cells)
        return text.getvalue()
    if form == 'jsonl':
        return ''.join(
            json.dumps({name: _rounded(value) for name, value in row._asdict().items()}) + '\n' for row in rows
        )
    # A name may hold line ends; a row may not.
    return ''.join(
        re.sub('%(.)', lambda match, row=row: '%' if match[1] == '%' else _plain(row, match[1]), form) + '\n'
        for row in rows
    )


def _plain(row: Row, letter: str) -> str:
    return ''.join(
        char if char.isprintable() or '\udc80' <= char <= '\udcff' else char.encode('unicode_escape').decode()
        for char in _cell(getattr(row, _LETTERS[letter]))
    )


def named(path: str) -> str:
    """The same file by a name that no spreadsheet takes for a formula."""
    return f'./{path}' if path[:1] in _FORMULA and path != '-' else path


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ''
    return f'{value:.6f}'


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value
