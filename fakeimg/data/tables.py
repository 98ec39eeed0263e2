"""Images listed in a CSV or JSONL table: path and label, perhaps split, source (the generator) and group."""

import csv
import io
import json
import os
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fakeimg.data.files import Files, FolderFiles
from fakeimg.data.labels import SPLIT_NAMES, known_names
from fakeimg.errors import UserError

SUFFIXES = ('.csv', '.tsv', '.jsonl')
_PATH_COLUMNS = ('path', 'file', 'file_name', 'filename', 'image')
_LABEL_COLUMNS = ('label_str', 'label', 'class')
# The CSVs of the 140k faces, which call a real face 1; paths in them start below this folder.
_140K_COLUMNS = {'original_path', 'id', 'label', 'path'}
_140K_FOLDER = 'real_vs_fake/real-vs-fake'


class TableRow(NamedTuple):
    path: str
    label: int
    split: str | None
    generator: str
    group: str


def read_table(data: bytes, name: str, class_names: Mapping[str, int]) -> list[TableRow]:
    """Reads a table. Where it has no split column, folders in the paths that name a split say it.

    Args:
        data: the file's bytes, UTF-8.
        name: of the file; its suffix says whether it is JSONL, its stem may name the split.
        class_names: the class of each label, in lower case.

    Raises:
        UserError: not a table, a column missing, a label or split that is unknown, an image listed twice.
    """
    text = data.decode('utf-8-sig', 'surrogateescape')
    records = _read_jsonl(text, name) if name.lower().endswith('.jsonl') else _read_csv(text, name)
    if not records:
        raise UserError(f'{name} lists no images.')
    columns = records[0].keys()
    path_column, label_column = _column(columns, _PATH_COLUMNS, name), _column(columns, _LABEL_COLUMNS, name)
    if columns >= _140K_COLUMNS and label_column == 'label':
        class_names = {'1': 0, '0': 1}
    file_split = SPLIT_NAMES.get(os.path.splitext(os.path.basename(name))[0].lower())
    rows, labels = [], {}
    for record in records:
        path = posixpath.normpath(str(record.get(path_column) or '').replace('\\', '/'))
        label = _label(record.get(label_column), class_names, name)
        if labels.setdefault(path, label) != label:
            raise UserError(f'{name} lists {path!r} as real and as fake; correct it.')
        rows.append(
            TableRow(
                path=path,
                label=label,
                split=_split(record.get('split'), path, name) or file_split,
                generator=str(record.get('source') or ''),
                group=str(record.get('group') or ''),
            )
        )
    return list({row.path: row for row in rows}.values())


def find_images(rows: Sequence[TableRow], files: Files, table: str) -> tuple[list[TableRow], Files]:
    """Returns the rows whose images exist, and their files in the same order.

    Raises:
        UserError: none of them exists.
    """
    folder = os.path.dirname(table)
    prefixes = [folder, os.path.join(folder, _140K_FOLDER)]
    present, places = [], []
    if isinstance(files, FolderFiles):  # a path may lead anywhere on the disk
        for row in rows:
            names = [os.path.join(prefix, row.path) for prefix in prefixes]
            name = next((name for name in names if os.path.isfile(os.path.join(files.root, name))), None)
            if name is not None:
                present.append(row)
                places.append(name)
        images: Files = FolderFiles(files.root, places)
    else:
        index_of = {name: index for index, name in enumerate(files.names)}
        for row in rows:
            names = [os.path.normpath(os.path.join(prefix, row.path)) for prefix in prefixes]
            index = next((index_of[name] for name in names if name in index_of), None)
            if index is not None:
                present.append(row)
                places.append(index)
        images = files.take(places)
    if not present:
        raise UserError(f'no image that {table} lists exists (first: {rows[0].path}); paths start at its folder.')
    return present, images


def _read_csv(text: str, name: str) -> list[dict[str, Any]]:
    header = text.split('\n', 1)[0]
    delimiter = max(',;\t', key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=''), delimiter=delimiter, strict=True)
    try:
        return [{(key or '').strip().lower(): value for key, value in record.items()} for record in reader]
    except csv.Error as error:
        raise UserError(f'{name}, line {reader.reader.line_num}: {error}; correct it.') from None


def _read_jsonl(text: str, name: str) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(text.split('\n'), 1):
        if line.strip():
            try:
                records.append({key.lower(): value for key, value in json.loads(line).items()})
            except (json.JSONDecodeError, AttributeError, RecursionError):
                raise UserError(f'{name}, line {number}: not a JSON object; correct it.') from None
    return records


def _column(columns, names: Sequence[str], table: str) -> str:
    column = next((name for name in names if name in columns), None)
    if column is None:
        raise UserError(f'{table} has no column {" or ".join(names)}; its columns are {", ".join(columns)}.')
    return column


def _label(value: Any, class_names: Mapping[str, int], table: str) -> int:
    name = str(value).strip().lower()
    if name in class_names:
        return class_names[name]
    if name in ('0', '1', 'true', 'false'):
        raise UserError(
            f'{table} has the label {value!r}, which means real in some sets and fake in others; '
            f'define it with label real={value} or label fake={value}, and the other one likewise.'
        )
    raise UserError(
        f'{table} has the unknown label {value!r}; known are real ({known_names(class_names, 0)}) and '
        f'fake ({known_names(class_names, 1)}); add it with label real={value} or label fake={value}.'
    )


def _split(value: Any, path: str, table: str) -> str | None:
    if value:
        if str(value).lower() not in SPLIT_NAMES:
            raise UserError(f'{table} has the unknown split {value!r}; known are {", ".join(SPLIT_NAMES)}.')
        return SPLIT_NAMES[str(value).lower()]
    parts = [part.lower() for part in path.split('/')[:-1]]
    return next((SPLIT_NAMES[part] for part in parts if part in SPLIT_NAMES), None)
