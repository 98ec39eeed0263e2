"""One tree of files, in a folder, a zip and a tar archive; and what becomes of damaged and hostile ones."""

import contextlib
import io
import os
import pathlib
import pickle
import struct
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fakeimg.data import archives
from fakeimg.data.copies import same_bytes
from fakeimg.data.datasets import open_path
from fakeimg.data.files import Files, list_files, prefetched
from fakeimg.errors import UserError
from tests.support.files import FORMS, INVALID, write_form, write_tar, write_tree, write_zip

TREE = {
    name: name.encode() * (500 * number)  # the first one is empty
    for number, name in enumerate(
        [
            'top.txt', 'train/real/1.jpg', 'train/real/a b [1] (2).jpg', 'train/real/"q" \'r\'.JPG',
            'train/fake/ünï.png', 'train/fake/人 лицо.png', 'train/fake/line\nbreak.jpg', 'train/fake/return\r.jpg',
            'train/fake/%41*?$x.jpg', 'train/fake/back\\slash.jpg', f'deep/{"d" * 90}/{"e" * 90}/{"f" * 90}.jpg',
            'train.jpg', 'train-2/1.jpg',
        ]
    )
}  # fmt: skip


def contents(files: Files) -> dict[str, bytes]:
    return {name: files.read(index) for index, name in enumerate(files.names)}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_same_names_and_bytes_wherever_they_lie(tmp_path: pathlib.Path, form: str) -> None:
    hidden = {'.hidden.jpg': b'', 'train/.cache/1.jpg': b'', '__MACOSX/train/._1.jpg': b'', 'train/.DS_Store': b''}
    files = list_files(write_form(form, tmp_path, {**TREE, **hidden}))
    assert files.names == sorted(TREE)
    assert len(files) == len(TREE)
    assert contents(files) == TREE


@pytest.mark.parametrize('form', ['folder', 'gnu.tar', 'pax.tar'])
def test_names_that_are_not_utf8(tmp_path: pathlib.Path, form: str) -> None:
    tree = {INVALID: b'1', 'train/real/caf\u00e9.jpg': b'2'}
    assert contents(list_files(write_form(form, tmp_path, tree))) == tree


def test_a_leading_dot_is_no_folder(tmp_path: pathlib.Path) -> None:
    tree = {'./train/real/1.jpg': b'1', './train/./.hidden.jpg': b'2'}
    for path in (write_zip(tmp_path / 'a.zip', tree), write_tar(tmp_path / 'a.tar', tree)):
        assert contents(list_files(path)) == {'train/real/1.jpg': b'1'}


def test_a_part_keeps_its_order_also_in_another_process(tmp_path: pathlib.Path, form: str) -> None:
    files = list_files(write_form(form, tmp_path, TREE))
    names = [files.names[index] for index in (5, 2, 9)]
    for indices in ([5, 2, 9], np.array([5, 2, 9]), range(5, 6)):
        part = files.take(indices)
        assert part.names == names[: len(indices)]
        part.read(0)  # opened before it is sent
        sent = pickle.dumps(part)
        assert len(sent) < 2000
        assert contents(pickle.loads(sent)) == {name: TREE[name] for name in part.names}
    assert files.take([]).names == []
    assert contents(files.take([5, 2, 9]).take([1])) == {names[1]: TREE[names[1]]}


def test_many_threads_read_at_once_through_one_descriptor(tmp_path: pathlib.Path, form: str) -> None:
    tree = {f'{i}.jpg': os.urandom(3000 + i) for i in range(100)}
    files = list_files(write_form(form, tmp_path, tree))
    before = len(os.listdir('/proc/self/fd'))
    with ThreadPoolExecutor(16) as pool:
        read = list(pool.map(files.read, [*range(100)] * 5))
    assert read == [tree[name] for name in files.names] * 5
    assert len(os.listdir('/proc/self/fd')) <= before + 1
    del files
    assert len(os.listdir('/proc/self/fd')) <= before


def test_thousands_in_one_folder_and_thousands_of_folders(tmp_path: pathlib.Path, form: str) -> None:
    tree = {f'flat/{i}.jpg': b'' for i in range(2000)} | {f'wide/{i}/x.jpg': b'%d' % i for i in range(2000)}
    files = list_files(write_form(form, tmp_path, tree))
    assert files.names == sorted(tree)
    assert files.read(files.names.index('wide/1234/x.jpg')) == b'1234'


@pytest.mark.parametrize('keep', [10, 1000, 0.5, -10, -30])
@pytest.mark.parametrize('method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_cut_short_is_refused(tmp_path: pathlib.Path, keep: float, method: int) -> None:
    path = pathlib.Path(write_zip(tmp_path / 'a.zip', {f'{i}.jpg': os.urandom(400) for i in range(20)}, method))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep == 0.5 else int(keep)])
    with pytest.raises(UserError, match=r'a\.zip is not a whole zip archive .*; get it again'):
        list_files(str(path))


# Members of two blocks each, then the two blocks of zeros that mark the end.
@pytest.mark.parametrize(
    'keep', [3 * 512 + 100, 3 * 512, 4 * 512, 5 * 512, 20 * 512, 40 * 512 - 100, 40 * 512, 2 * 512 + 30]
)
def test_a_tar_cut_short_is_refused(tmp_path: pathlib.Path, keep: int) -> None:
    path = pathlib.Path(write_tar(tmp_path / 'a.tar', {f'{i}.jpg': b'x' * 500 for i in range(20)}))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r'a\.tar is not a whole tar archive .*; get it again'):
        list_files(str(path))


def test_an_empty_archive_lists_nothing(tmp_path: pathlib.Path) -> None:
    for form in FORMS[1:]:
        assert list_files(write_form(form, tmp_path, {})).names == []


@pytest.mark.parametrize('method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_an_error_of_its_own(tmp_path: pathlib.Path, method: int) -> None:
    tree = {f'{i}.jpg': os.urandom(500) for i in range(9)}
    path = pathlib.Path(write_zip(tmp_path / 'a.zip', tree, method))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        places = [archive.getinfo(f'{i}.jpg').header_offset for i in range(9)]
    data[places[3] + 300] ^= 8
    data[places[5]] ^= 8  # its signature
    path.write_bytes(data)
    files = list_files(str(path))
    for index in range(9):
        if index in (3, 5):
            with pytest.raises(OSError, match='damaged in its archive|no zip member where the directory says'):
                files.read(index)
        else:
            assert files.read(index) == tree[f'{index}.jpg']


def test_no_flipped_bit_of_a_zip_gives_wrong_bytes_or_a_traceback(tmp_path: pathlib.Path) -> None:
    tree = {f'ü{i}.jpg': (b'%d' % i) * 90 for i in range(4)}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = pathlib.Path(write_zip(tmp_path / 'a.zip', tree, method))
        data = path.read_bytes()
        rng = np.random.default_rng(0)
        for position, bit in zip(rng.integers(len(data), size=300), rng.integers(8, size=300), strict=True):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                files = list_files(str(path))
            except UserError:
                continue
            for index in range(len(files)):
                try:
                    assert files.read(index) in tree.values()
                except OSError:
                    pass


def test_no_flipped_bit_of_a_tar_ends_in_a_traceback(tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(write_tar(tmp_path / 'a.tar', {f'{i}{"n" * 120}.jpg': b'1' for i in range(4)}))
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for position, bit in zip(rng.integers(8000, size=300), rng.integers(8, size=300), strict=True):
        flipped = bytearray(data)
        flipped[position] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            list_files(str(path))
        except UserError:
            continue


def test_an_encrypted_zip_is_refused(tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(write_zip(tmp_path / 'a.zip', {'1.jpg': b'x', '2.jpg': b'y'}))
    data = bytearray(path.read_bytes())
    data[data.rfind(b'PK\x01\x02') + 8] |= 1  # the flag of the last member
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"'2\.jpg', which is encrypted; unpack the archive first"):
        list_files(str(path))


@pytest.mark.parametrize('method', [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_compression_is_refused(tmp_path: pathlib.Path, method: int) -> None:
    path = write_zip(tmp_path / 'a.zip', {'1.jpg': b'x'}, method)
    with pytest.raises(UserError, match='compressed in an unusual way; unpack the archive first'):
        list_files(path)


@pytest.mark.parametrize('name', ['../x.jpg', '/abs.jpg', 'a/../../x.jpg', './/abs.jpg'])
def test_a_member_that_points_outside_is_refused(tmp_path: pathlib.Path, name: str) -> None:
    tree = {'real/1.jpg': b'', name: b''}
    for path in (write_zip(tmp_path / 'a.zip', tree), write_tar(tmp_path / 'a.tar', tree)):
        with pytest.raises(UserError, match='points outside the archive; it is not to be trusted'):
            list_files(path)


@pytest.mark.parametrize(
    ('start', 'message'),
    [
        (b'\x1f\x8b\x08\0', 'compressed as a whole.*; run gunzip on it first'),
        (b'BZh9', 'run bunzip2 on it first'),
        (b'\xfd7zXZ\0', 'run unxz on it first'),
        (b'\x28\xb5\x2f\xfd', 'run unzstd on it first'),
        (b"7z\xbc\xaf'\x1c", 'is a 7z archive, which cannot be read in place; unpack it first'),
        (b'Rar!\x1a\x07', 'is a rar archive, which cannot be read in place; unpack it first'),
        (b'PK\x03\x04', 'is not a whole zip archive'),
        (b'\xff\xd8\xff', 'is neither a folder, a zip or tar archive, nor a table'),
        (b'', 'is neither a folder, a zip or tar archive, nor a table'),
    ],
)
def test_other_files_are_refused_with_advice(tmp_path: pathlib.Path, start: bytes, message: str) -> None:
    path = tmp_path / 'faces.tar.gz'
    path.write_bytes(start + bytes(600) if start else start)
    with pytest.raises(UserError, match=message):
        list_files(str(path))


def test_a_real_tar_gz_is_refused(tmp_path: pathlib.Path) -> None:
    with tarfile.open(tmp_path / 'a.tar.gz', 'w:gz') as archive:
        archive.addfile(tarfile.TarInfo('1.jpg'))
    with pytest.raises(UserError, match='run gunzip on it first'):
        list_files(str(tmp_path / 'a.tar.gz'))


@pytest.mark.parametrize('field', [20, 24])  # compressed size, size
def test_a_member_of_a_claimed_huge_size_is_an_error_of_its_own(tmp_path: pathlib.Path, field: int) -> None:
    path = pathlib.Path(write_zip(tmp_path / 'a.zip', {'1.jpg': b'x', '2.jpg': b'y'}, zipfile.ZIP_DEFLATED))
    data = bytearray(path.read_bytes())
    place = data.rfind(b'PK\x01\x02')
    data[place + field : place + field + 4] = struct.pack('<I', (4 << 30) - 2)
    path.write_bytes(data)
    files = list_files(str(path))
    assert files.read(0) == b'x'
    with pytest.raises(OSError, match='larger than'):
        files.read(1)


def test_a_member_of_a_size_beyond_int64_is_an_error_of_its_own(tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(write_zip(tmp_path / 'a.zip', {'1.jpg': b'x', '2.jpg': b'y'}))
    data = bytearray(path.read_bytes())
    place, end = data.rfind(b'PK\x01\x02'), data.rfind(b'PK\x05\x06')
    extra = struct.pack('<HHQ', 1, 8, (1 << 64) - 1)  # zip64
    data[place + 24 : place + 28] = b'\xff' * 4
    data[place + 30 : place + 32] = struct.pack('<H', len(extra))
    data[end + 12 : end + 16] = struct.pack('<I', struct.unpack('<I', data[end + 12 : end + 16])[0] + len(extra))
    data[end:end] = extra
    path.write_bytes(data)
    files = list_files(str(path))
    assert files.read(0) == b'x'
    with pytest.raises(OSError, match='larger than'):
        files.read(1)


def test_a_deflate_bomb_is_not_unpacked(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, 'MAX_FILE_SIZE', 10_000)
    tree = {'1.jpg': bytes(10_000), '2.jpg': bytes(10_001)}
    for form in FORMS[1:]:
        files = list_files(write_form(form, tmp_path, tree))
        assert files.read(0) == tree['1.jpg']
        with pytest.raises(OSError, match='larger than 10000 bytes'):
            files.read(1)
    path = pathlib.Path(write_zip(tmp_path / 'a.zip', {'1.jpg': bytes(5_000_000)}, zipfile.ZIP_DEFLATED))
    data = bytearray(path.read_bytes())
    place = data.rfind(b'PK\x01\x02') + 24
    data[place : place + 4] = struct.pack('<I', 100)  # what it claims
    path.write_bytes(data)
    with pytest.raises(OSError, match='wrong checksum'):
        list_files(str(path)).read(0)


def test_an_archive_cut_short_later_is_an_error_of_the_members_lost(tmp_path: pathlib.Path) -> None:
    for path in (write_zip(tmp_path / 'a.zip', TREE), write_tar(tmp_path / 'a.tar', TREE)):
        files = list_files(path)
        os.truncate(path, 600)
        with pytest.raises(OSError, match='ends too early'):
            files.read(files.names.index('train-2/1.jpg'))
        pathlib.Path(path).unlink()
        with pytest.raises(FileNotFoundError):
            files.take([0]).read(0)


def test_links_are_followed_once(tmp_path: pathlib.Path) -> None:
    root = tmp_path / 'root'
    write_tree(root, {'real/1.jpg': b'1'})
    write_tree(tmp_path / 'elsewhere', {'2.jpg': b'2', 'more/3.jpg': b'3'})
    (root / 'real/link.jpg').symlink_to(root / 'real/1.jpg')
    (root / 'real/up').symlink_to(root)
    (root / 'real/self').symlink_to(root / 'real/self')
    (root / 'fake').symlink_to(tmp_path / 'elsewhere')
    (root / 'real/dangling.jpg').symlink_to(tmp_path / 'nowhere')
    files = list_files(str(root))
    assert files.names == [
        'fake/2.jpg', 'fake/more/3.jpg', 'real/1.jpg', 'real/dangling.jpg', 'real/link.jpg', 'real/self',
    ]  # fmt: skip
    assert files.read(0) == b'2'
    assert files.read(4) == b'1'
    for index in (3, 5):
        with pytest.raises(OSError):
            files.read(index)


def test_links_in_a_tar(tmp_path: pathlib.Path) -> None:
    with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
        info = tarfile.TarInfo('./real/1.jpg')
        info.size = 3
        archive.addfile(info, io.BytesIO(b'one'))
        for name, kind, target in (
            ('./real/2.jpg', tarfile.LNKTYPE, './real/1.jpg'),
            ('real/3.jpg', tarfile.LNKTYPE, '../etc/passwd'),
            ('real/4.jpg', tarfile.SYMTYPE, '/etc/passwd'),
            ('real/5.jpg', tarfile.FIFOTYPE, ''),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    assert contents(list_files(str(tmp_path / 'a.tar'))) == {'real/1.jpg': b'one', 'real/2.jpg': b'one'}


def test_a_tar_member_with_holes_is_refused_not_left_out(tmp_path: pathlib.Path) -> None:
    with tarfile.open(tmp_path / 'a.tar', 'w', format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo('real/1.jpg')
        info.pax_headers = {'GNU.sparse.size': '1000', 'GNU.sparse.numblocks': '0', 'GNU.sparse.map': '0,1'}
        archive.addfile(info)
    with pytest.raises(UserError, match=r"'real/1\.jpg', which is stored with holes; unpack the archive first"):
        list_files(str(tmp_path / 'a.tar'))


def test_an_unreadable_folder_is_refused_by_name(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, {'real/1.jpg': b'', 'fake/1.jpg': b''})
    scandir = os.scandir

    def refusing(path: str):  # root, as tests may run, reads what has no permission too
        if path.rstrip('/').endswith('fake'):
            raise PermissionError(13, 'Permission denied')
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refusing)
    with pytest.raises(
        UserError, match=r'folder .*/fake/? cannot be read \(Permission denied\); change its permissions'
    ):
        list_files(str(tmp_path))


def test_a_missing_path_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match='nowhere does not exist; give a folder of images, an archive, or a table'):
        list_files(str(tmp_path / 'nowhere'))
    (tmp_path / 'file').write_bytes(b'')
    with pytest.raises(UserError, match=r'cannot be read \(Not a directory\)'):
        list_files(str(tmp_path / 'file/below'))


def open_below(folder: pathlib.Path) -> int:
    """Open descriptors of files there; those of other tests may be closed at any time."""
    links = []
    for descriptor in os.listdir('/proc/self/fd'):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            links.append(os.readlink(f'/proc/self/fd/{descriptor}'))
    return sum(link.startswith(str(folder)) for link in links)


def test_reading_ahead_changes_nothing_and_leaves_nothing_open(tmp_path: pathlib.Path, form: str) -> None:
    tree = {f'{i:03d}.jpg': bytes([i]) * (i * 50 + 1) for i in range(40)}
    path = write_form(form, tmp_path, tree)
    files = list_files(path)
    assert [files.read(index) for index in prefetched(files)] == list(tree.values())
    assert open_below(tmp_path) == (form != 'folder')  # an archive itself
    for index in prefetched(files):
        if index == 3:
            break
    del files
    assert open_below(tmp_path) == 0


def test_a_file_that_vanishes_before_reading_ahead_is_an_error_of_its_own(tmp_path: pathlib.Path) -> None:
    files = list_files(write_tree(tmp_path, {f'{i}.jpg': b'x' for i in range(5)}))
    (tmp_path / '2.jpg').unlink()
    read = []
    for index in prefetched(files):
        try:
            read.append(files.read(index))
        except FileNotFoundError:
            read.append(b'')
    assert read == [b'x', b'x', b'', b'x', b'x']


@pytest.mark.parametrize(
    ('name', 'start', 'message'),
    [
        ('a.zip', b'<!DOCTYPE html><title>Google Drive - Quota exceeded</title>', r'a\.zip is a web page'),
        ('a.zip', b'version https://git-lfs.github.com/spec/v1\noid sha256:1', 'run git lfs pull'),
        ('a.zip.001', b'PK\x03\x04' + bytes(600), r'one piece of an archive; join them first: cat .*a\.zip\.\* > '),
        ('a.tar.00', b'', 'one piece of an archive'),
        ('a.z01', b'PK\x07\x08PK\x03\x04' + bytes(600), r'one part of a split zip archive .* zip -s 0 .*a\.zip'),
        ('a.tar.lz4', b'\x04\x22\x4d\x18' + bytes(600), 'run lz4 -d on it first'),
        ('a.tar', b'x' * 257 + b'ustar' + b'x' * 300, 'is not a whole tar archive'),
    ],
)
def test_what_an_archive_is_instead_is_said(tmp_path: pathlib.Path, name: str, start: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(start)
    with pytest.raises(UserError, match=message):
        list_files(str(tmp_path / name))


def test_the_last_part_of_a_split_zip_is_refused(tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(write_zip(tmp_path / 'a.zip', {f'{i}.jpg': os.urandom(400) for i in range(9)}))
    data = bytearray(path.read_bytes())
    end = data.rfind(b'PK\x05\x06')
    data[end + 4 : end + 8] = struct.pack('<HH', 2, 1)  # this is part 3, and the directory begins in part 2
    path.write_bytes(data[2000:])
    with pytest.raises(UserError, match=r'a\.zip is one part of a split zip archive .* zip -s 0 .*a\.zip'):
        list_files(str(path))


@pytest.mark.parametrize('system', [0, 3])
def test_backslashes_separate_folders_in_zips_of_windows(tmp_path: pathlib.Path, system: int) -> None:
    tree = {'set\\train\\real\\1.jpg': b'1', 'set\\train\\fake\\2.jpg': b'2', 'set\\.hidden\\3.jpg': b'3'}
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        for name in ('set\\', 'set\\train\\'):
            archive.writestr(_member(name, system), b'')
        for name, data in tree.items():
            archive.writestr(_member(name, system), data)
    assert contents(list_files(str(tmp_path / 'a.zip'))) == {'set/train/real/1.jpg': b'1', 'set/train/fake/2.jpg': b'2'}
    with zipfile.ZipFile(tmp_path / 'b.zip', 'w') as archive:
        archive.writestr(_member('..\\outside.jpg', system), b'')
    with pytest.raises(UserError, match='points outside'):
        list_files(str(tmp_path / 'b.zip'))


def test_backslashes_separate_folders_where_a_zip_of_windows_was_unpacked(tmp_path: pathlib.Path) -> None:
    tree = {f'set\\{split}\\{label}\\{index}.jpg': f'{split}{label}{index}'.encode()
            for split in ('train', 'test') for label in ('real', 'fake') for index in range(3)}  # fmt: skip
    for name, data in {**tree, 'set\\.hidden\\1.jpg': b'', 'README.md': b''}.items():
        (tmp_path / name).write_bytes(data)
    data = open_path(str(tmp_path))
    for split in ('train', 'test'):
        part = data.splits[split].take(np.array([4, 1]))
        assert part.labels.tolist() == [1, 0][:: 1 if part.names[0].startswith(f'set/{split}/fake') else -1]
        assert [part[index] for index in range(2)] == [tree[name.replace('/', '\\')] for name in part.names]
    assert same_bytes(data.splits['train'].files).max() == 5
    # One name among others is a name.
    (tmp_path / 'other/real').mkdir(parents=True)
    for name in ('a\\b.jpg', 'c.jpg', 'd.jpg'):
        (tmp_path / 'other/real' / name).write_bytes(b'')
    assert list_files(str(tmp_path / 'other')).names == ['real/a\\b.jpg', 'real/c.jpg', 'real/d.jpg']


def _member(name: str, system: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = system
    return info
