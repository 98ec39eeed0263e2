"""What a user names, as images in order: files, folders, globs, archives, prepared sets, lists, standard input."""

import functools
import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from fakeimg.data import datasets, records
from fakeimg.data.archives import MAX_FILE_SIZE, list_archive
from fakeimg.data.files import Files, FolderFiles, list_files
from fakeimg.data.inputs import Input
from fakeimg.errors import UserError

STANDARD_INPUT = '-'
_READ = 1 << 16  # bytes of a list at a time


class Images(NamedTuple):
    """Images in order.

    Attributes:
        inputs: the images; nothing of them is read yet.
        total: how many there are; None where only the end of a list tells.
    """

    inputs: Iterator[Input]
    total: int | None


def find(arguments: Sequence[str], standard_input: IO[bytes]) -> Images:
    """The images that some arguments name, in order. What is not there is an image that cannot be read.

    Args:
        arguments: files, folders (with all below them, in the order of their names), patterns such as `a/*.jpg`, zip
            and tar archives, prepared sets, and `-`, which is one image on standard input.
        standard_input: where `-` is read from.

    Raises:
        UserError: a folder without files or one that cannot be read, a pattern that nothing fits, a damaged archive, or
            nothing on standard input.
    """
    parts = [part for argument in arguments for part in _expand(argument, standard_input)]
    return Images((one for _, inputs in parts for one in inputs), sum(count for count, _ in parts))


def listed(file: IO[bytes], separator: bytes = b'\n') -> Iterator[Input]:
    """The images that the names in a list mean, each of them as `find` takes it; blank lines are left out.

    Names are bytes, as file systems have them. With NUL as the separator, they may hold line ends.
    """
    rest, is_end = b'', False
    while not is_end:
        chunk = os.read(file.fileno(), _READ)
        is_end = not chunk
        *names, rest = [*(rest + chunk).split(separator), b''] if is_end else (rest + chunk).split(separator)
        for name in names:
            name = name.removesuffix(b'\r') if separator == b'\n' else name
            if name.strip():
                yield from _named(os.fsdecode(name))


def _named(name: str) -> Iterator[Input]:
    """A line of a list: one that cannot be used is a row, not the end of the others."""
    try:
        for _, inputs in _expand(name, None):
            yield from inputs
    except UserError as error:
        yield Input(name, functools.partial(_raise, str(error).rstrip('.')))


def _expand(argument: str, standard_input: IO[bytes] | None) -> Iterator[tuple[int, Iterator[Input]]]:
    """Numbers of images with the images."""
    if argument == STANDARD_INPUT and standard_input is not None:
        data = standard_input.read()
        if not data:
            raise UserError('there is nothing on standard input; give the bytes of one image there.')
        yield 1, iter([Input(STANDARD_INPUT, data)])
        return
    path = os.path.expanduser(argument)
    if not os.path.lexists(path) and re.search(r'[*?\[]', path):
        found = sorted(glob.iglob(path, recursive=True))
        if not found:
            raise UserError(f'no file fits {argument}; check the pattern.')
        for name in found:
            if '**' not in path or not os.path.isdir(name):  # which finds what is in folders too
                yield from _expand(name, None)
        return
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        mode = 0  # reading it says what is wrong
    is_folder = stat.S_ISDIR(mode)
    if is_folder and records.is_prepared(path):
        for name, split in datasets.open_path(path).splits.items():
            yield len(split), _members(f'{argument.rstrip("/")}/{name}', split.files)
    elif is_folder or _is_archive(path):
        files = list_files(path) if is_folder else list_archive(path)
        if not len(files):
            raise UserError(f'{argument} holds no files; check the path.')
        yield len(files), _members(argument.rstrip('/') or '/', files)
    elif stat.S_ISFIFO(mode) and standard_input is not None:  # of a shell, `<(...)`, which can be read once
        with open(path, 'rb') as pipe:
            yield 1, iter([Input(argument, pipe.read())])
    else:
        yield 1, iter([Input(argument, functools.partial(_read_path, path))])


def _members(root: str, files: Files) -> Iterator[Input]:
    separator = '' if root.endswith('/') else '/'
    for index, name in enumerate(files.names):
        is_below = isinstance(files, FolderFiles)
        read = functools.partial(_read_path, files.path(index)) if is_below else functools.partial(files.read, index)
        yield Input(f'{root}{separator}{name}', read)


def _read_path(path: str) -> bytes:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # a pipe, for example, would be waited for
        raise OSError('not a regular file')
    if status.st_size > MAX_FILE_SIZE:
        raise OSError(f'larger than {MAX_FILE_SIZE:,} bytes')
    with open(path, 'rb', buffering=0) as file:
        return file.read()


def _is_archive(path: str) -> bool:
    """Whether a regular file begins like a zip or tar archive."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, 'rb', buffering=0) as file:
            start = file.read(512)
    except (OSError, ValueError):
        return False
    return start[:4] in (b'PK\x03\x04', b'PK\x05\x06', b'PK\x07\x08') or start[257:262] == b'ustar'


def _raise(reason: str) -> bytes:
    raise OSError(reason)
