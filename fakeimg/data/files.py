"""The files of a data set wherever they lie: a folder, a zip or a tar archive, read in place.

All three are a list of names with a thread-safe `read(index)`; `take` gives a part that is cheap to send to a process.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from fakeimg.data.archives import ArchiveFiles, is_hidden, list_archive
from fakeimg.errors import UserError

READ_AHEAD = 16  # files


class Files(Protocol):
    """Names below a root, with forward slashes, and the bytes behind them."""

    names: list[str]

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Returns the bytes of file `index`; raises OSError when they cannot be read."""
        ...

    def take(self, indices: Sequence[int] | np.ndarray) -> 'Files':
        """Returns some of the files, in the order of `indices`."""
        ...


class FolderFiles:
    """Files below a folder, or anywhere where `names` are absolute; `on_disk`, where they are named otherwise there."""

    def __init__(self, root: str, names: list[str], on_disk: list[str] | None = None):
        self.root = root
        self.names = names
        self._on_disk = on_disk
        self._opened: dict[int, int] = {}  # descriptors of files that will be read soon

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_opened': {}}

    def __del__(self) -> None:
        for descriptor in self._opened.values():
            os.close(descriptor)

    def read(self, index: int) -> bytes:
        descriptor = self._opened.pop(index, None)
        path = self.path(index)
        with open(path if descriptor is None else descriptor, 'rb', buffering=0) as file:
            return file.read()

    def prefetch(self, index: int) -> None:
        """Lets the disk fetch a file without waiting for it."""
        try:
            self._opened[index] = os.open(self.path(index), os.O_RDONLY | os.O_CLOEXEC)
            os.posix_fadvise(self._opened[index], 0, 0, os.POSIX_FADV_WILLNEED)
        except OSError:  # reading it will say why
            pass

    def take(self, indices: Sequence[int] | np.ndarray) -> 'FolderFiles':
        names, on_disk = self.names, self._on_disk
        return FolderFiles(
            self.root, [names[index] for index in indices], on_disk and [on_disk[index] for index in indices]
        )

    def path(self, index: int) -> str:
        """Where a file lies."""
        return os.path.join(self.root, (self._on_disk or self.names)[index])


class ChosenFiles:
    """Some files of several lists."""

    def __init__(self, parts: Sequence[Any], rows: np.ndarray):
        self.names = [parts[part].names[index] for part, index in rows]
        self._parts = parts
        self._rows = rows  # int64[n, 2]: part, index in it

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        part, place = self._rows[index]
        return self._parts[part].read(int(place))

    def take(self, indices: Sequence[int] | np.ndarray) -> 'ChosenFiles':
        return ChosenFiles(self._parts, self._rows[np.asarray(indices, int)])


def all_of(parts: Sequence[Any]) -> ChosenFiles:
    rows = [(number, index) for number, part in enumerate(parts) for index in range(len(part))]
    return ChosenFiles(parts, np.array(rows, np.int64))


def read_start(files: Files, index: int, size: int) -> bytes:
    """Returns the first `size` bytes of a file, or all if there are fewer; raises OSError as `read` does."""
    if not isinstance(files, FolderFiles):
        return files.read(index)[:size]
    with open(files.path(index), 'rb', buffering=0) as file:
        return file.read(size)


def prefetched(files: Files) -> Iterator[int]:
    """Yields 0, 1, ... for each file in turn, and lets the disk fetch the next READ_AHEAD files meanwhile."""
    ahead = files if isinstance(files, FolderFiles | ArchiveFiles) and hasattr(os, 'posix_fadvise') else None
    for index in range(-READ_AHEAD, len(files)):
        if ahead is not None and index + READ_AHEAD < len(files):
            ahead.prefetch(index + READ_AHEAD)
        if index >= 0:
            yield index


def list_files(path: str) -> Files:
    """Lists every file of a folder (following links once), a zip or a tar archive, by name; hidden ones are left out.

    Raises:
        UserError: nothing there, an unreadable folder, a damaged or unsuitable archive, or one whose member points
            outside.
    """
    path = os.path.expanduser(path)
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        what = 'does not exist' if isinstance(error, FileNotFoundError) else f'cannot be read ({error.strerror})'
        raise UserError(f'data path {path} {what}; give a folder of images, an archive, or a table.') from None
    if stat.S_ISDIR(mode):
        return _without_backslashes(path, _walk(path))
    return list_archive(path)


def _without_backslashes(root: str, on_disk: list[str]) -> FolderFiles:
    """The files of a folder, with slashes where most have backslashes, as tools leave archives of Windows."""
    if 2 * sum('\\' in name for name in on_disk) <= len(on_disk):
        return FolderFiles(root, on_disk)
    names = {name.replace('\\', '/').removeprefix('./'): name for name in on_disk}
    if len(names) < len(on_disk):
        return FolderFiles(root, on_disk)
    shown = sorted(name for name in names if not any(map(is_hidden, name.split('/'))))
    return FolderFiles(root, shown, [names[name] for name in shown])


def _walk(root: str) -> list[str]:
    seen: set[tuple[int, int]] = set()
    names: list[str] = []
    pending = ['']
    while pending:
        folder = pending.pop()
        subfolders, files = [], []
        try:
            status = os.stat(os.path.join(root, folder))
            if (status.st_dev, status.st_ino) in seen:
                continue  # a link back to a folder above it, or two ways to one folder
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(os.path.join(root, folder)) as entries:
                for entry in entries:
                    if not is_hidden(entry.name):
                        (subfolders if _is_folder(entry) else files).append(folder + entry.name)
        except OSError as error:
            raise UserError(
                f'folder {os.path.join(root, folder)} cannot be read ({error.strerror}); '
                'change its permissions or move it away.'
            ) from None
        names += files
        pending += [f'{name}/' for name in sorted(subfolders, reverse=True)]
    names.sort()  # the order of an archive of the same folder
    return names


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads round in a circle
        return False
