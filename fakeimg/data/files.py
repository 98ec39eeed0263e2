"""The files of a data set wherever they lie: a folder, a zip or a tar archive, read in place.

All three are a list of names with a thread-safe `read(index)`; `take` gives a part that is cheap to send to a process.
"""

import os
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from fakeimg.errors import UserError

MAX_FILE_SIZE = 1 << 30  # bytes; a larger member of an archive is no image but a bomb
READ_AHEAD = 16  # files
_ZIP_HEADER = struct.Struct('<4s22xHH')  # signature, length of the name, length of the extra field
_COMPRESSED_TARS = {b'\x1f\x8b': 'gunzip', b'BZh': 'bunzip2', b'\xfd7zXZ': 'unxz', b'\x28\xb5\x2f\xfd': 'unzstd'}
_OTHER_ARCHIVES = {b'7z\xbc\xaf': '7z', b'Rar!': 'rar'}
_opening = threading.Lock()


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
    """Files below a folder, or anywhere where `names` are absolute."""

    def __init__(self, root: str, names: list[str]):
        self.root = root
        self.names = names
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
        path = os.path.join(self.root, self.names[index])
        with open(path if descriptor is None else descriptor, 'rb', buffering=0) as file:
            return file.read()

    def prefetch(self, index: int) -> None:
        """Lets the disk fetch a file without waiting for it."""
        try:
            self._opened[index] = os.open(os.path.join(self.root, self.names[index]), os.O_RDONLY | os.O_CLOEXEC)
            os.posix_fadvise(self._opened[index], 0, 0, os.POSIX_FADV_WILLNEED)
        except OSError:  # reading it will say why
            pass

    def take(self, indices: Sequence[int] | np.ndarray) -> 'FolderFiles':
        return FolderFiles(self.root, [self.names[index] for index in indices])


class _ArchiveFiles:
    """Members of an archive by their place in it. Positioned reads on one descriptor need no lock."""

    def __init__(self, path: str, names: list[str], places: np.ndarray):
        self.path = path
        self.names = names
        self._places = places  # int64[n, columns]: offset, stored size, ...
        self._descriptor = None

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_descriptor': None}

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def take(self, indices: Sequence[int] | np.ndarray):
        return type(self)(self.path, [self.names[index] for index in indices], self._places[np.asarray(indices, int)])

    def prefetch(self, index: int) -> None:
        """Lets the disk fetch a member without waiting for it."""
        offset, size = map(int, self._places[index][:2])
        try:
            os.posix_fadvise(self._open(), offset, size + _ZIP_HEADER.size, os.POSIX_FADV_WILLNEED)
        except (OSError, OverflowError):  # reading it will say why
            pass

    def _open(self) -> int:
        with _opening:
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            return self._descriptor

    def _pread(self, size: int, offset: int) -> bytes:
        data = os.pread(self._open(), size, offset)
        if len(data) != size:
            raise OSError(f'{self.path} ends too early')
        return data


class TarFiles(_ArchiveFiles):
    """Members of an uncompressed tar archive."""

    def read(self, index: int) -> bytes:
        offset, size = map(int, self._places[index])
        if size > MAX_FILE_SIZE:
            raise OSError(f'larger than {MAX_FILE_SIZE} bytes')
        return self._pread(size, offset)


class ZipFiles(_ArchiveFiles):
    """Members of a zip archive, stored or deflated; their checksums are verified."""

    def read(self, index: int) -> bytes:
        offset, stored, size, method, checksum = map(int, self._places[index])
        if max(size, stored) > MAX_FILE_SIZE:
            raise OSError(f'larger than {MAX_FILE_SIZE} bytes')
        signature, name_length, extra_length = _ZIP_HEADER.unpack(self._pread(_ZIP_HEADER.size, offset))
        if signature != b'PK\x03\x04':
            raise OSError('no zip member where the directory says')
        data = self._pread(stored, offset + _ZIP_HEADER.size + name_length + extra_length)
        if method == zipfile.ZIP_DEFLATED:
            try:
                data = zlib.decompressobj(-15).decompress(data, size + 1)
            except zlib.error as error:
                raise OSError(f'damaged in its archive: {error}') from None
        if len(data) != size or zlib.crc32(data) != checksum:
            raise OSError('damaged in its archive: wrong checksum')
        return data


def read_start(files: Files, index: int, size: int) -> bytes:
    """Returns the first `size` bytes of a file, or all if there are fewer; raises OSError as `read` does."""
    if not isinstance(files, FolderFiles):
        return files.read(index)[:size]
    with open(os.path.join(files.root, files.names[index]), 'rb', buffering=0) as file:
        return file.read(size)


def prefetched(files: Files) -> Iterator[int]:
    """Yields 0, 1, ... for each file in turn, and lets the disk fetch the next READ_AHEAD files meanwhile."""
    ahead = files if isinstance(files, FolderFiles | _ArchiveFiles) and hasattr(os, 'posix_fadvise') else None
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
        return FolderFiles(path, _walk(path))
    try:
        with open(path, 'rb') as file:
            start = file.read(6)
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror}).') from None
    if command := next((tool for magic, tool in _COMPRESSED_TARS.items() if start.startswith(magic)), None):
        raise UserError(
            f'{path} is compressed as a whole, so its images cannot be read in place; run {command} on it first.'
        )
    if kind := next((kind for magic, kind in _OTHER_ARCHIVES.items() if start.startswith(magic)), None):
        raise UserError(f'{path} is a {kind} archive, which cannot be read in place; unpack it first.')
    if start[:2] == b'PK' or zipfile.is_zipfile(path):
        return _list_zip(path)
    if tarfile.is_tarfile(path):
        return _list_tar(path)
    raise UserError(f'{path} is neither a folder, a zip or tar archive, nor a table (.csv, .jsonl) of images.')


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
                    if not _is_hidden(entry.name):
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


def _is_hidden(name: str) -> bool:
    return name.startswith(('.', '__MACOSX')) or name in ('Thumbs.db', 'desktop.ini')


def _is_listed(name: str, path: str) -> bool:
    parts = name.split('/')
    if name.startswith('/') or '..' in parts:
        raise UserError(f'{path} holds {name!r}, which points outside the archive; it is not to be trusted.')
    return not any(map(_is_hidden, parts))


def _list_zip(path: str) -> ZipFiles:
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    members = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = info.filename.removeprefix('./')
                if info.is_dir() or not _is_listed(name, path):
                    continue
                if info.flag_bits & 1 or info.compress_type not in methods:
                    what = 'encrypted' if info.flag_bits & 1 else 'compressed in an unusual way'
                    raise UserError(f'{path} holds {name!r}, which is {what}; unpack the archive first.')
                place = (info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC)
                members[name] = tuple(min(number, 1 << 62) for number in place)  # a bomb may claim more than an int64
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        raise UserError(f'{path} is not a whole zip archive ({error}); get it again.') from None
    names = sorted(members)
    return ZipFiles(path, names, np.array([members[name] for name in names], np.int64).reshape(-1, 5))


def _list_tar(path: str) -> TarFiles:
    members: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(path, 'r:') as archive:
            for info in archive:
                archive.members = []  # or it would keep every header  # pyright: ignore[reportAttributeAccessIssue]
                name = info.name.removeprefix('./')
                if info.size < 0:
                    raise tarfile.ReadError('a member of negative size')
                if not (info.isreg() or info.islnk()) or not _is_listed(name, path):
                    continue
                if info.issparse():
                    raise UserError(f'{path} holds {name!r}, which is stored with holes; unpack the archive first.')
                place = members.get(info.linkname.removeprefix('./')) if info.islnk() else (info.offset_data, info.size)
                if place is not None:
                    members[name] = place
            end = archive.offset
        with open(path, 'rb') as file:
            file.seek(end)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError('no mark of its end')
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise UserError(f'{path} is not a whole tar archive ({error}); get it again.') from None
    names = sorted(members)
    return TarFiles(path, names, np.array([members[name] for name in names], np.int64).reshape(-1, 2))
