"""Zip and tar archives, whose members are read in place; and what is wrong with those that cannot be."""

import os
import re
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

from fakeimg.data.strangers import describe_stranger
from fakeimg.errors import UserError

MAX_FILE_SIZE = 1 << 30  # bytes; a larger member of an archive is no image but a bomb
_ZIP_HEADER = struct.Struct('<4s22xHH')  # signature, length of the name, length of the extra field
_ZIP_END = struct.Struct('<4sHH')  # the end of a zip's directory: signature, number of this part and of the first one
_MADE_BY_WINDOWS = (0, 10, 11, 14)  # systems whose names hold no backslash but as a separator (PKWARE's APPNOTE 4.4.2)
_COMPRESSED_TARS = {
    b'\x1f\x8b': 'gunzip', b'BZh': 'bunzip2', b'\xfd7zXZ': 'unxz', b'\x28\xb5\x2f\xfd': 'unzstd',
    b'\x1f\x9d': 'uncompress', b'LZIP': 'lzip -d', b'\x04\x22\x4d\x18': 'lz4 -d',
}  # fmt: skip
_OTHER_ARCHIVES = {b'7z\xbc\xaf': '7z', b'Rar!': 'rar'}
_START = 512  # bytes: a block of a tar archive
_opening = threading.Lock()


class ArchiveFiles:
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

    def marks(self) -> np.ndarray:
        """int64[n, k]: numbers from the directory that are equal for members of the same bytes."""
        return self._places[:, 1:2]

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


class TarFiles(ArchiveFiles):
    """Members of an uncompressed tar archive."""

    def read(self, index: int) -> bytes:
        offset, size = map(int, self._places[index])
        if size > MAX_FILE_SIZE:
            raise OSError(f'larger than {MAX_FILE_SIZE} bytes')
        return self._pread(size, offset)


class ZipFiles(ArchiveFiles):
    """Members of a zip archive, stored or deflated; their checksums are verified."""

    def marks(self) -> np.ndarray:
        return self._places[:, [2, 4]]  # size and checksum

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


def list_archive(path: str) -> 'ZipFiles | TarFiles':
    """Lists every file of a zip or tar archive by name; hidden ones are left out.

    Raises:
        UserError: damaged or unsuitable, or with a member that points outside.
    """
    try:
        with open(path, 'rb') as file:
            start = file.read(_START)
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror}).') from None
    if re.search(r'\.(zip|tar|7z|gz)\.\d{2,3}$', path, re.IGNORECASE):
        whole = path.rpartition('.')[0]
        raise UserError(f'{path} is one piece of an archive; join them first: cat {whole}.* > {whole}')
    if command := next((tool for magic, tool in _COMPRESSED_TARS.items() if start.startswith(magic)), None):
        raise UserError(
            f'{path} is compressed as a whole, so its images cannot be read in place; run {command} on it first.'
        )
    if kind := next((kind for magic, kind in _OTHER_ARCHIVES.items() if start.startswith(magic)), None):
        raise UserError(f'{path} is a {kind} archive, which cannot be read in place; unpack it first.')
    if _is_part_of_zip(path, start):
        whole = os.path.splitext(path)[0]
        raise UserError(
            f'{path} is one part of a split zip archive (.z01, .z02, ..., .zip); join them first: '
            f'zip -s 0 {whole}.zip -O {whole}-whole.zip'
        )
    if start[:2] == b'PK' or zipfile.is_zipfile(path):
        return _list_zip(path)
    if start[257:262] == b'ustar' or tarfile.is_tarfile(path):
        return _list_tar(path)
    what = describe_stranger(start)
    raise UserError(
        f'{path} is {what}.'
        if what
        else f'{path} is neither a folder, a zip or tar archive, nor a table (.csv, .jsonl) of images.'
    )


def _is_part_of_zip(path: str, start: bytes) -> bool:
    """Whether a file is the first part of a split zip archive, by its mark, or the last one, by its number."""
    if start.startswith((b'PK\x07\x08', b'PK00PK')):
        return True
    with open(path, 'rb') as file:
        file.seek(max(0, os.path.getsize(path) - 22 - 65535))  # a comment of any length may follow
        end = file.read()
    place = end.rfind(b'PK\x05\x06')
    if start[:2] != b'PK' and not path.lower().endswith('.zip') or not 0 <= place <= len(end) - _ZIP_END.size:
        return False
    _, part, first = _ZIP_END.unpack_from(end, place)
    return part not in (0, 0xFFFF) or first not in (0, 0xFFFF)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is left out by its name: hidden, or something that a desktop left there."""
    return name.startswith(('.', '__MACOSX')) or name in ('Thumbs.db', 'desktop.ini')


def _is_listed(name: str, path: str) -> bool:
    parts = name.split('/')
    if name.startswith('/') or '..' in parts:
        raise UserError(f'{path} holds {name!r}, which points outside the archive; it is not to be trusted.')
    return not any(map(is_hidden, parts))


def _list_zip(path: str) -> ZipFiles:
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    members = {}
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            backslashes = _have_backslashes(infos)
            for info in infos:
                name = info.filename.replace('\\', '/') if backslashes else info.filename
                name = name.removeprefix('./')
                if name.endswith('/') or not _is_listed(name, path):
                    continue
                if info.flag_bits & 1 or info.compress_type not in methods:
                    what = 'encrypted' if info.flag_bits & 1 else 'compressed in an unusual way'
                    raise UserError(f'{path} holds {name!r}, which is {what}; unpack the archive first.')
                place = (info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC)
                members[name] = tuple(min(number, 1 << 62) for number in place)  # a bomb may claim more than an int64
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        reason = 'its end is missing' if str(error) == 'File is not a zip file' else error
        raise UserError(f'{path} is not a whole zip archive ({reason}); get it again.') from None
    names = sorted(members)
    return ZipFiles(path, names, np.array([members[name] for name in names], np.int64).reshape(-1, 5))


def _have_backslashes(infos: Sequence[zipfile.ZipInfo]) -> bool:
    """Whether backslashes separate folders in a zip's names, as some programs for Windows write them."""
    names = [info.filename for info in infos if '\\' in info.filename]
    by_windows = bool(names) and all(info.create_system in _MADE_BY_WINDOWS for info in infos)
    return by_windows or 2 * len(names) > len(infos)


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
