import io
import os
import pathlib
import threading
from collections.abc import Iterator

import pytest

from fakeimg.applying import inputs
from fakeimg.data.decode import BadImage
from fakeimg.data.inputs import Input, read_content
from fakeimg.errors import UserError
from tests.support.files import write_form, write_tree
from tests.support.sets import Sets

TREE = {'b/2.jpg': b'two', 'a.jpg': b'one', 'b/sub/3.txt': b'three', '.hidden/x.jpg': b'no'}


def found(*arguments: object) -> list[tuple[str, bytes | str]]:
    images = inputs.find([str(argument) for argument in arguments], io.BytesIO(b'from stdin'))
    rows = [(one.name, content(one)) for one in images.inputs]
    assert images.total == len(rows)
    return rows


def content(image: Input) -> bytes | str:
    try:
        return read_content(image.content)
    except (OSError, BadImage) as error:
        return f'error: {error}'


def listed(data: bytes, separator: bytes = b'\n') -> Iterator[Input]:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    with open(reader, 'rb') as file:
        yield from inputs.listed(file, separator)


def test_a_folder_gives_every_file_in_the_order_of_their_names(tmp_path: pathlib.Path) -> None:
    root = write_tree(tmp_path / 'set', TREE)
    (tmp_path / 'set/loop').symlink_to(tmp_path / 'set')
    os.mkfifo(tmp_path / 'set/pipe')  # reading it would wait for ever
    assert found(root) == found(f'{root}/') == [
        (f'{root}/a.jpg', b'one'), (f'{root}/b/2.jpg', b'two'), (f'{root}/b/sub/3.txt', b'three'),
        (f'{root}/pipe', 'error: not a regular file'),
    ]  # fmt: skip


@pytest.mark.parametrize('form', ['stored.zip', 'deflated.zip', 'gnu.tar'])
def test_an_archive_gives_its_members(form: str, tmp_path: pathlib.Path) -> None:
    path = write_form(form, tmp_path, TREE)
    assert found(path) == [(f'{path}/a.jpg', b'one'), (f'{path}/b/2.jpg', b'two'), (f'{path}/b/sub/3.txt', b'three')]


def test_a_prepared_set_gives_its_records(sets: Sets) -> None:
    path = sets.prepared if hasattr(sets, 'prepared') else sets.paths[-1]
    rows = found(path)
    assert rows and all(name.startswith(f'{path}/') and data for name, data in rows)


def test_arguments_keep_their_order_and_may_come_twice(tmp_path: pathlib.Path) -> None:
    root = write_tree(tmp_path, TREE)
    rows = found(f'{root}/b/2.jpg', '-', f'{root}/none.jpg', f'{root}/b/2.jpg', f'{root}/b/*')
    assert [data for _, data in rows] == [
        b'two',
        b'from stdin',
        'error: there is no such file',
        b'two',
        b'two',
        b'three',
    ]
    assert rows[1][0] == '-'


def test_a_name_with_brackets_is_a_name_before_it_is_a_pattern(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'a[1].jpg').write_bytes(b'itself')
    (tmp_path / 'a1.jpg').write_bytes(b'another')
    assert found(tmp_path / 'a[1].jpg') == [(f'{tmp_path}/a[1].jpg', b'itself')]


def test_what_names_nothing_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'empty').mkdir()
    for arguments, message in (
        ([f'{tmp_path}/*.png'], 'no file fits .*png; check the pattern'),
        ([f'{tmp_path}/empty'], 'empty holds no files; check the path'),
    ):
        with pytest.raises(UserError, match=message):
            found(*arguments)
    with pytest.raises(UserError, match='there is nothing on standard input'):
        inputs.find(['-'], io.BytesIO(b''))


def test_a_list_names_images_and_blank_lines_nothing(tmp_path: pathlib.Path) -> None:
    root = write_tree(tmp_path, {**TREE, 'odd\nname.jpg': b'odd', 'caf\udce9.jpg': b'bytes'})
    lines = f'{root}/a.jpg\n\n  \n{root}/b\r\n{root}/caf'.encode() + b'\xe9.jpg\n' + f'{root}/none.jpg'.encode()
    rows = [(one.name.removeprefix(root), content(one)) for one in listed(lines)]
    assert rows == [
        ('/a.jpg', b'one'), ('/b/2.jpg', b'two'), ('/b/sub/3.txt', b'three'), ('/caf\udce9.jpg', b'bytes'),
        ('/none.jpg', 'error: there is no such file'),
    ]  # fmt: skip
    nul = f'{root}/odd\nname.jpg\0{root}/a.jpg\0'.encode()
    assert [content(one) for one in listed(nul, b'\0')] == [b'odd', b'one']
    (tmp_path / 'empty').mkdir()
    broken = [content(one) for one in listed(f'{root}/empty\n{root}/a.jpg\n'.encode())]
    assert broken == [f'error: {root}/empty holds no files; check the path', b'one']  # the others follow


def test_a_long_list_is_read_as_it_is_taken(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'list').write_bytes(b''.join(b'name %d.jpg\n' % number for number in range(40_000)))
    with open(tmp_path / 'list', 'rb', buffering=0) as file:
        names = inputs.listed(file)
        assert [next(names).name for _ in range(3)] == ['name 0.jpg', 'name 1.jpg', 'name 2.jpg']
        assert file.tell() < 200_000
        assert sum(1 for _ in names) == 39_997


def test_a_pattern_finds_folders_as_a_shell_does(tmp_path: pathlib.Path) -> None:
    root = write_tree(tmp_path / 'set', TREE)
    assert [data for _, data in found(f'{root}/*')] == [b'one', b'two', b'three']
    assert [data for _, data in found(f'{root}/**')] == [b'one', b'two', b'three']  # each once


def test_a_pipe_is_read_once_and_only_where_it_is_named(tmp_path: pathlib.Path) -> None:
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b'piped',))
    writer.start()
    images = inputs.find([str(pipe)], io.BytesIO())
    writer.join()
    [image] = images.inputs
    assert [content(image), content(image)] == [b'piped'] * 2
    [listed_one] = listed(f'{pipe}\n'.encode())
    assert content(listed_one) == 'error: not a regular file'
