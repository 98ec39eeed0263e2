"""Images listed in a table (CSV, JSONL, `path label` text): path and label, perhaps split, source and group."""

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fakeimg.data import names as names_lib
from fakeimg.data.files import Files, FolderFiles, list_files
from fakeimg.data.labels import SPLITS, known_names, name_key
from fakeimg.data.rows import IMAGE_SUFFIXES, StrayTable, read_rows
from fakeimg.errors import UserError

# Names of columns, the ones to prefer first.
COLUMNS = {
    'path': (
        'path', 'file', 'file_name', 'filename', 'image', 'image_path', 'img_path', 'filepath', 'file_path',
        'image_file', 'image_name', 'img', 'img_name', 'images', 'fname', 'relative_path', 'name',
    ),
    'label': (
        'label_str', 'label', 'class', 'target', 'labels', 'class_name', 'label_name', 'ground_truth', 'gt', 'y',
        'is_fake', 'fake', 'is_generated', 'is_ai', 'is_synthetic', 'is_deepfake', 'deepfake', 'is_real', 'real',
        'category', 'type',
    ),
    'split': ('split', 'subset', 'partition'),
    'source': ('source', 'generator', 'generator_name'),
    'group': ('group', 'group_id', 'video', 'video_id', 'identity'),
}  # fmt: skip
_SAYS_FAKE = ('is_fake', 'fake', 'is_generated', 'is_ai', 'is_synthetic', 'is_deepfake', 'deepfake')
_SAYS_REAL = ('is_real', 'real')
_TRUE, _FALSE = ('1', 'true', 'yes', 'y', 't'), ('0', 'false', 'no', 'n', 'f')
# The CSVs of the 140k faces, which call a real face 1; paths in them start below this folder.
_140K_COLUMNS = {'original_path', 'id', 'label', 'path'}
_140K_FOLDER = 'real_vs_fake/real-vs-fake'


class TableRow(NamedTuple):
    path: str
    label: int
    split: str | None
    generator: str
    group: str | None  # None where the table has no such column


def columns_of(settings: Sequence[str], known: Sequence[str] = tuple(COLUMNS), name: str = 'columns') -> dict[str, str]:
    """Reads `path=NAME`, `label=NAME` and so on: which column of a table holds what.

    Args:
        settings: what the user says.
        known: what a table may have columns for.
        name: of the setting, for messages.

    Raises:
        UserError: another form, or something that no table has a column for.
    """
    columns = {}
    for item in settings:
        what, _, column = item.partition('=')
        if what.strip() not in known or not column.strip():
            raise UserError(f'{name} is {item!r}; it must be {"=NAME, ".join(known)}=NAME.')
        columns[what.strip()] = column_key(column)
    return columns


def read_table(
    data: bytes, name: str, class_names: Mapping[str, int], columns: Mapping[str, str] | None = None
) -> list[TableRow]:
    """Reads a table. Where it has no split column, folders in the paths that name a split say it.

    Args:
        data: the file's bytes; UTF-8 or UTF-16.
        name: of the file; its suffix says whether it is JSONL, its stem may name the split.
        class_names: the class of each label, in lower case.
        columns: what the user says about columns, see `columns_of`.

    Raises:
        UserError: not a table, a column missing, a label or split that is unknown, an image listed twice.
    """
    records = [{column_key(column): value for column, value in row.items()} for row in read_rows(data, name)]
    if not records:
        raise StrayTable(f'{name} lists no images.')
    known = records[0].keys()
    try:
        chosen = {what: _columns(what, known, columns or {}, name) for what in COLUMNS}
    except StrayTable as error:
        raise _propose(error, records, columns or {}) from None
    path_column = chosen['path'][0]
    if known >= _140K_COLUMNS and chosen['label'][0] == 'label':
        class_names = {'1': 0, '0': 1}
    labels = read_labels(records, chosen['label'], class_names, name)
    splits = _read_splits(records, chosen['split'], columns or {}, name)
    paths = [posixpath.normpath(str(record.get(path_column) or '').strip().replace('\\', '/')) for record in records]
    if splits is None:
        own = names_lib.split_of(os.path.splitext(os.path.basename(name))[0])
        splits = _splits_of_paths(paths, str(own.value) if own and own.grade <= names_lib.PLAIN else None)
    source, group = (next(iter(chosen[what]), None) for what in ('source', 'group'))
    rows: dict[str, TableRow] = {}
    for record, path, label, split in zip(records, paths, labels, splits, strict=True):
        if path in rows and rows[path].label != label:
            raise UserError(f'{name} lists {path!r} as real and as fake; correct it.')
        rows[path] = TableRow(
            path=path,
            label=label,
            split=split,
            generator=str(record.get(source) or '') if source else '',
            group=str(record.get(group) or '') if group else None,
        )
    return list(rows.values())


def find_images(rows: Sequence[TableRow], files: Files, table: str) -> tuple[list[TableRow], Files]:
    """Returns the rows whose images exist, and their files in the same order.

    A name with accents is found in whichever form, composed or not, the disk stores it.

    Raises:
        StrayTable: none of them exists.
    """
    folder = os.path.dirname(table)
    prefixes = [folder, os.path.join(folder, _140K_FOLDER)]
    present, places = [], []
    if isinstance(files, FolderFiles):  # a path may lead anywhere on the disk
        composed: dict[str, str] | None = None
        for row in rows:
            names = [os.path.join(prefix, row.path) for prefix in prefixes]
            name = next((name for name in names if os.path.isfile(os.path.join(files.root, name))), None)
            if name is None and not row.path.isascii():
                composed = _composed(list_files(files.root).names) if composed is None else composed
                name = next((composed[key] for name in names if (key := _compose(name)) in composed), None)
            if name is not None:
                present.append(row)
                places.append(name)
        images: Files = FolderFiles(files.root, places)
    else:
        index_of = {name: index for index, name in enumerate(files.names)}
        composed = _composed(files.names)
        for row in rows:
            names = [os.path.normpath(os.path.join(prefix, row.path)) for prefix in prefixes]
            names += [composed.get(_compose(name), '') for name in names]
            index = next((index_of[name] for name in names if name in index_of), None)
            if index is not None:
                present.append(row)
                places.append(index)
        images = files.take(places)
    if not present:
        raise StrayTable(f'no image that {table} lists exists (first: {rows[0].path}); paths start at its folder.')
    return present, images


def _compose(name: str) -> str:
    return unicodedata.normalize('NFC', os.path.normpath(name))


def _composed(names: Iterable[str]) -> dict[str, str]:
    """Names with letters outside ASCII, by their composed form."""
    return {_compose(name): name for name in names if not name.isascii()}


def column_key(name: Any) -> str:
    """The name of a column as tables are searched for it: lower case, words joined by underscores."""
    return name_key(str(name or '')).replace(' ', '_').replace('-', '_')


def _columns(what: str, known: Iterable[str], given: Mapping[str, str], table: str) -> list[str]:
    """The columns that may hold it, the best first; at least one for paths and labels."""
    if what in given:
        if given[what] not in known:
            raise UserError(
                f'{table} has no column {given[what]!r}, which columns names as {what}; its columns are '
                f'{", ".join(known)}.'
            )
        return [given[what]]
    found = [name for name in COLUMNS[what] if name in known]
    if not found and what in ('path', 'label'):
        raise StrayTable(
            f'{table} has no column {" or ".join(COLUMNS[what][:3])}; its columns are {", ".join(known)}.',
        )
    return found


def _propose(error: UserError, records: list[dict[str, Any]], given: Mapping[str, str]) -> UserError:
    """The error with a command that names the columns which look like paths and like labels, where there are such."""
    values = {column: [str(record.get(column) or '') for record in records[:1000]] for column in records[0]}
    paths = [column for column, own in values.items() if own[0].lower().endswith(IMAGE_SUFFIXES)]
    labels = [column for column, own in values.items() if len(set(own)) == 2 and column not in paths]
    if paths and labels:
        named = {'path': paths[0], 'label': labels[0], **given}
        error.add = (('columns', ','.join(f'{what}={column}' for what, column in named.items())),)
    return error


def read_labels(
    records: list[dict[str, Any]], columns: Sequence[str], class_names: Mapping[str, int], table: str
) -> list[int]:
    """The labels of rows by the first of some columns whose values are all understood.

    Raises:
        UserError: there is none.
    """
    problem: UserError | None = None
    for column in columns:
        known: dict[str, int] = {}
        try:
            for record in records:
                value = str(record.get(column))
                if value not in known:
                    known[value] = _label(record.get(column), column, class_names, table)
        except UserError as error:
            problem = problem or _with_all_labels(error, records, column)
            continue
        return [known[str(record.get(column))] for record in records]
    assert problem is not None
    raise problem


def _label(value: Any, column: str, class_names: Mapping[str, int], table: str) -> int:
    name = name_key(str(value))
    number = re.sub(r'([01])\.0+', r'\1', name)
    for known in (name, number):
        if known in class_names:
            return class_names[known]
    name = number
    if name in _TRUE + _FALSE and column in _SAYS_FAKE + _SAYS_REAL:
        return int((name in _TRUE) == (column in _SAYS_FAKE))
    meaning = names_lib.class_of(name, class_names)
    if meaning is not None and meaning.grade <= names_lib.PLAIN:
        return int(meaning.value)
    if name in ('0', '1', 'true', 'false'):
        raise UserError(
            f'{table} has the label {value!r}, which means real in some sets and fake in others; '
            f'define it with label {value}=real or label {value}=fake, and the other one likewise.'
        )
    raise UserError(
        f'{table} has the unknown label {value!r}; known are real ({known_names(class_names, 0)}) and '
        f'fake ({known_names(class_names, 1)}); add it with label {value}=real or label {value}=fake.'
    )


def _with_all_labels(error: UserError, records: list[dict[str, Any]], column: str) -> UserError:
    """The error with a command that defines the values of a column, where they are two: the first is called real."""
    values = sorted({str(record.get(column)) for record in records})
    if len(values) == 2:
        error.add = (('label', f'{values[0]}=real'), ('label', f'{values[1]}=fake'))
    return error


def _read_splits(
    records: list[dict[str, Any]], columns: Sequence[str], given: Mapping[str, str], table: str
) -> list[str | None] | None:
    """The split of each row; None where no column says it."""
    column = next(iter(columns), None)
    if column is None or not any(record.get(column) for record in records):
        return None
    splits: list[str | None] = []
    for record in records:
        meaning = names_lib.split_of(str(record.get(column) or ''))
        if record.get(column) and (meaning is None or meaning.grade > names_lib.PLAIN):
            if column != 'split' and 'split' not in given:
                return None
            raise UserError(
                f'{table} has the unknown split {record[column]!r}; known are {", ".join(SPLITS)}; correct the table.'
            )
        splits.append(str(meaning.value) if meaning else None)
    return splits


def _splits_of_paths(paths: Sequence[str], file_split: str | None) -> list[str | None]:
    """The splits that folders in the paths name as a whole; of absolute paths, below the folder that all share."""
    shared = os.path.commonpath(paths).count('/') + 1 if len(paths) > 1 and all(map(os.path.isabs, paths)) else 0
    splits = []
    for path in paths:
        meanings = map(names_lib.split_of, path.split('/')[shared:-1])
        known = (str(meaning.value) for meaning in meanings if meaning and meaning.grade == names_lib.WHOLE)
        splits.append(next(known, file_split))
    return splits
