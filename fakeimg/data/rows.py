"""The rows of a table file, whatever its encoding and separator: CSV, TSV, JSONL, or lines of `path label`."""

import codecs
import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from fakeimg.errors import UserError

SUFFIXES = ('.csv', '.tsv', '.jsonl', '.txt', '.lst')
_TEXT_SUFFIXES = ('.txt', '.lst')
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jfif', '.png', '.webp', '.bmp', '.tif', '.tiff', '.gif', '.avif', '.heic', '.jp2')
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF32_LE, 'utf-32'), (codecs.BOM_UTF32_BE, 'utf-32'),
                     (codecs.BOM_UTF16_LE, 'utf-16'), (codecs.BOM_UTF16_BE, 'utf-16'))  # fmt: skip


class StrayTable(UserError):
    """A table that does not describe the images beside it."""


def read_rows(data: bytes, name: str) -> list[dict[str, Any]]:
    """Returns the rows of a table, by the names of its columns.

    A table without a line of names, whose rows are an image's path and one other value, has the columns path and
    label.

    Args:
        data: the file's bytes; UTF-8 or UTF-16.
        name: of the file; its suffix says what it is.

    Raises:
        StrayTable: not such a table.
    """
    text = _decode(data, name)
    if name.lower().endswith('.jsonl'):
        return _read_jsonl(text, name)
    return _read_lines(text, name) if name.lower().endswith(_TEXT_SUFFIXES) else _read_csv(text, name)


def _decode(data: bytes, name: str) -> str:
    encoding = next((encoding for mark, encoding in _BYTE_ORDER_MARKS if data.startswith(mark)), None)
    if encoding is None and b'\0' in data[:64]:  # UTF-16 without a mark: every other byte of plain text is zero
        encoding = 'utf-16-le' if data[1:2] == b'\0' else 'utf-16-be'
    if encoding is None:
        return data.decode('utf-8-sig', 'surrogateescape')
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise StrayTable(f'{name} is neither UTF-8 nor UTF-16; save it as UTF-8.') from None


def _read_csv(text: str, name: str) -> list[dict[str, Any]]:
    first, _, rest = text.partition('\n')
    delimiter = None
    if first.strip().strip('"').lower().startswith('sep='):  # a line for spreadsheets
        delimiter, text = first.strip().strip('"')[4:5] or '\t', rest
    header = text.split('\n', 1)[0]
    delimiter = delimiter or max(',;\t|', key=header.count)
    reader = csv.reader(io.StringIO(text, newline=''), delimiter=delimiter, strict=True)
    try:
        lines = [line for line in reader if line]
    except csv.Error as error:
        raise StrayTable(f'{name}, line {reader.line_num}: {error}; correct it.') from None
    return _with_names(lines)


def _with_names(lines: list[list[str]]) -> list[dict[str, Any]]:
    if lines and len(lines[0]) == 2 and sum(map(_is_image, lines[0])) == 1:
        path = int(_is_image(lines[0][1]))
        return [{'path': line[path], 'label': line[1 - path]} for line in lines if len(line) == 2]
    return [dict(zip(lines[0], [*line, *[None] * len(lines[0])], strict=False)) for line in lines[1:]]


def _is_image(text: str) -> bool:
    return text.strip().lower().endswith(IMAGE_SUFFIXES)


def _read_lines(text: str, name: str) -> list[dict[str, Any]]:
    """Lines of a path, which may hold spaces, and a label; or a table with separators under another suffix."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    pairs: list[Sequence[str]] = []
    for line in lines:
        path, _, label = line.replace('\t', ' ').rpartition(' ')
        label, _, last = (label, '', path) if _is_image(path) else line.replace('\t', ' ').partition(' ')
        if not _is_image(last):
            break
        pairs.append((last.strip(), label.strip()))
    if lines and len(pairs) == len(lines):
        return [{'path': path, 'label': label} for path, label in pairs]
    if lines and any(delimiter in lines[0] for delimiter in ',;\t|'):
        return _read_csv(text, name)
    raise StrayTable(f'{name} does not hold lines of a path and a label; give a CSV table.')


def _read_jsonl(text: str, name: str) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(text.split('\n'), 1):
        if line.strip():
            try:
                records.append(dict(json.loads(line).items()))
            except (json.JSONDecodeError, AttributeError, RecursionError):
                raise StrayTable(f'{name}, line {number}: not a JSON object; correct it.') from None
    return records
