"""Where rows go: a stream, or a file that a later command continues after a kill."""

import csv
import json
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any, Protocol

from fakeimg import files
from fakeimg.applying import rows as rows_lib
from fakeimg.applying.rows import Row
from fakeimg.data.inputs import Input
from fakeimg.errors import UserError

RESUMABLE = ('csv', 'jsonl')
_FLUSH = 0.1  # seconds: a reader that waits sees rows this soon, and a disk is not asked for each batch


class Sink(Protocol):
    """Takes the rows of some images at a time, the last row of each image its own, those of its faces before it."""

    def write(self, rows: Sequence[Row]) -> None: ...

    def close(self, *, is_whole: bool = True) -> None:
        """Ends the file, which has all its rows if `is_whole`."""
        ...


class TextSink:
    """Lines of text; `header` where they begin a file."""

    def __init__(self, stream: IO[str], form: str, *, header: bool = True):
        self._stream, self._form, self._flushed = stream, form, 0.0
        if header:
            stream.write(rows_lib.header(form))

    def write(self, rows: Sequence[Row]) -> None:
        self._stream.write(rows_lib.lines(self._form, rows))
        now = time.monotonic()
        if now - self._flushed >= _FLUSH:
            self._stream.flush()
            self._flushed = now

    def close(self, *, is_whole: bool = True) -> None:
        del is_whole  # what is there can be continued
        self._stream.close()


class ParquetSink:
    """A Parquet file, which takes its place once it is whole."""

    def __init__(self, path: pathlib.Path):
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise UserError(
                'Parquet needs pyarrow, which is not installed: pip install "fakeimg[parquet]"; or write csv or jsonl.'
            ) from None
        kinds = {name: pyarrow.float64() for name in ('probability', 'logit', 'threshold', 'stability')}
        self._arrow = pyarrow
        self._schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in Row._fields])
        self._partial, self._path = path.with_name(f'{path.name}.partial'), path
        self._file = pyarrow.parquet.ParquetWriter(self._partial, self._schema)

    def write(self, rows: Sequence[Row]) -> None:
        columns = [
            [_text(value) if isinstance(value, str) else value for value in column]
            for column in zip(*rows, strict=True)
        ]
        self._file.write_table(self._arrow.table(columns, schema=self._schema))

    def close(self, *, is_whole: bool = True) -> None:
        self._file.close()
        if is_whole:
            self._partial.replace(self._path)
        else:
            self._partial.unlink()


def require_new(path: pathlib.Path) -> None:
    """Raises UserError where there is something already."""
    if path.exists():
        raise UserError(f'{path} exists; go on with it (resume), replace it (overwrite), or name another file.')


def open_file(path: pathlib.Path, form: str, *, overwrite: bool = False) -> Sink:
    """A new file.

    Raises:
        UserError: it exists and is not to be overwritten, it cannot be written to, or Parquet is not to be had.
    """
    if not overwrite:
        require_new(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return ParquetSink(path) if form == 'parquet' else TextSink(open(path, 'w', **files.TEXT), form)
    except OSError as error:
        raise UserError(f'{path} cannot be written to ({error.strerror}); name another file.') from error


def continue_file(path: pathlib.Path, form: str, inputs: Iterator[Input], now: Row) -> tuple[Sink, int]:
    """A file that an earlier command has begun; what a kill has cut is cut off.

    Args:
        path: the file.
        form: of its rows.
        inputs: those of the whole file; the images that it has rows of are taken from them.
        now: a row with the `model` and `threshold` of the rows to come, and `stability` and `faces` where they will
            have these.

    Returns:
        The file, and the number of images that it has rows of already.

    Raises:
        UserError: its rows are of another model, threshold or other images, or have other columns, or no file of this
            form can be continued.
    """
    if form not in RESUMABLE:
        raise UserError(f'a file of {form} cannot be continued; write {" or ".join(RESUMABLE)}.')
    done = end = 0
    try:
        with open(path, 'rb') as file:
            for row, offset in _complete(file, form):
                if row is not None:
                    _check(row, next(inputs, None), now, path)
                    done += 1
                end = offset
        with open(path, 'r+b') as file:
            file.truncate(end)
        return TextSink(open(path, 'a', **files.TEXT), form, header=not end), done
    except OSError as error:
        raise UserError(f'{path} cannot be continued ({error.strerror}); name another file.') from error


def _complete(file: IO[bytes], form: str) -> Iterator[tuple[dict[str, Any] | None, int]]:
    """The rows of images, each with the offset behind it; None is the header."""
    offset = 0

    def lines() -> Iterator[str]:
        nonlocal offset
        for line in file:
            if not line.endswith(b'\n'):
                return  # cut by a kill
            offset += len(line)
            yield line.decode('utf-8', 'surrogateescape')

    try:
        if form == 'jsonl':
            for line in lines():
                row = json.loads(line)
                if not rows_lib.is_face(row['faces']):
                    yield row, offset
            return
        cells = csv.reader(lines(), strict=True)
        if next(cells, None) != list(Row._fields):
            if offset:
                raise UserError(f'{file.name} is no file of predictions, or of another fakeimg; name another file.')
            return
        yield None, offset
        for values in cells:
            row = dict(zip(Row._fields, values, strict=True))
            if not rows_lib.is_face(row['faces']):
                yield row, offset
    except (csv.Error, ValueError):  # what follows was not written whole
        return


def _check(row: dict[str, Any], image: Input | None, now: Row, path: pathlib.Path) -> None:
    expected = None if image is None else rows_lib.named(image.name)
    if row['path'] not in (expected, image and image.name):
        raise UserError(
            f'{path} has rows of other images: {row["path"]} where {expected or "nothing"} should be; give the same '
            'images in the same order, or name another file.'
        )
    if row['model'] != now.model:
        raise UserError(f'{path} has rows of the model {row["model"]}, not {now.model}; name another file.')
    if round(float(row['threshold']), 6) != round(now.threshold or 0.0, 6):
        raise UserError(
            f'{path} has rows with the threshold {row["threshold"]}, not {now.threshold:.6f}; name another.'
        )
    for name in ('stability', 'faces'):
        is_there, is_asked = row[name] not in ('', None), getattr(now, name) is not None
        if row['verdict'] and is_there != is_asked:
            raise UserError(
                f'{path} has rows {"with" if is_there else "without"} {name}; give the same options, or name another '
                'file.'
            )


def _text(value: str) -> str:
    return value.encode('utf-8', 'backslashreplace').decode()
