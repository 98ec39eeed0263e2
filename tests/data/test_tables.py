"""Images listed in a CSV or JSONL table, beside it, below it, in an archive or anywhere on the disk."""

import json
import os
import pathlib
from collections.abc import Sequence

import pytest

from fakeimg.data.datasets import open_path
from fakeimg.data.labels import class_names
from fakeimg.data.layouts import Listing, read_listing
from fakeimg.errors import UserError
from tests.support.files import FORMS, write_form, write_tree

IMAGES = {name: name.encode() for name in ('a b/1.jpg', 'a b/2.jpg', 'c/3.png', 'c/4.png')}
LABELS = {'a b/1.jpg': 'real', 'a b/2.jpg': 'Fake', 'c/3.png': 'ai', 'c/4.png': 'nature'}
ROWS = list(LABELS.items())


def delimited(columns: Sequence[str], rows: Sequence[Sequence[str]], delimiter: str = ',') -> bytes:
    return '\n'.join(delimiter.join(row) for row in [columns, *rows]).encode() + b'\n'


def read(folder: pathlib.Path, name: str, table: bytes, names: Sequence[str] = ()) -> Listing:
    write_tree(folder, {**IMAGES, name: table})
    return read_listing(str(folder / name), class_names(names))


def labels_of(listing: Listing) -> dict[str, int]:
    return dict(zip(listing.files.names, listing.labels.tolist(), strict=True))


@pytest.mark.parametrize(
    ('name', 'table'),
    [
        ('list.csv', delimited(['path', 'label'], ROWS)),
        ('list.CSV', delimited(['path', 'label'], ROWS)),
        ('list.csv', delimited(['File', 'CLASS'], ROWS).replace(b'\n', b'\r\n')),
        ('list.csv', b'\xef\xbb\xbf' + delimited(['path', 'label'], ROWS, ';')),
        ('list.tsv', delimited(['label', 'image', 'more'], [(label, path, '') for path, label in ROWS], '\t')),
        ('list.csv', delimited(['path', 'label'], [(f'./{path}', f' {label} ') for path, label in ROWS])),
        ('list.csv', delimited(['path', 'label'], [(path.replace('/', '\\'), label) for path, label in ROWS])),
        ('list.csv', delimited(['path', 'label'], [(f'"{path}"', f'"{label}"') for path, label in ROWS])),
        ('list.csv', delimited(['path', 'label'], [*ROWS, ('./a b//1.jpg', 'real')])),
        (
            'list.jsonl',
            '\n\n'.join(json.dumps({'File_Name': path, 'label': label}) for path, label in ROWS).encode(),
        ),
    ],
)  # fmt: skip
def test_tables_of_every_kind(tmp_path: pathlib.Path, name: str, table: bytes) -> None:
    listing = read(tmp_path, name, table)
    assert labels_of(listing) == {'a b/1.jpg': 0, 'a b/2.jpg': 1, 'c/3.png': 1, 'c/4.png': 0}
    assert [listing.files.read(index) for index in range(4)] == [name.encode() for name in listing.files.names]
    assert listing.layout == f'table ({name})'
    assert (set(listing.splits), set(listing.generators), set(listing.groups)) == ({None}, {'list'}, {''})
    assert listing.notes == []


@pytest.mark.parametrize('suffix', ['csv', 'jsonl'])
def test_split_source_and_group_are_taken_over(tmp_path: pathlib.Path, suffix: str) -> None:
    columns = ['path', 'label', 'split', 'source', 'group']
    rows = [
        ('a b/1.jpg', 'real', 'Train', 'web', 'anna'),
        ('a b/2.jpg', 'fake', 'dev', 'sdxl', ''),
        ('c/3.png', 'fake', 'test-challenge', '', 'bert'),
    ]
    table = delimited(columns, rows)
    if suffix == 'jsonl':
        table = '\n'.join(json.dumps(dict(zip(columns, row, strict=True))) for row in rows).encode()
    listing = read(tmp_path, f'list.{suffix}', table)
    assert listing.splits == ['train', 'validation', 'test_challenge']
    assert listing.generators == ['web', 'sdxl', 'list']
    assert listing.groups == ['anna', '', 'bert']


def test_split_is_read_off_the_paths_or_the_tables_own_name(tmp_path: pathlib.Path) -> None:
    write_tree(tmp_path, {'Train/x/1.jpg': b'', 'valid/x/2.jpg': b'', 'x/3.jpg': b''})
    rows = [('Train/x/1.jpg', 'real'), ('valid/x/2.jpg', 'fake')]
    assert read(tmp_path, 'list.csv', delimited(['path', 'label'], rows)).splits == ['train', 'validation']
    listing = read(tmp_path, 'test.csv', delimited(['path', 'label'], [*rows, ('x/3.jpg', 'real')]))
    assert listing.splits == ['train', 'validation', 'test']
    with pytest.raises(UserError, match=r'list\.csv gives a split to some images and none to others'):
        read(tmp_path, 'list.csv', delimited(['path', 'label'], [*rows, ('x/3.jpg', 'real')]))


FACES_140K = {f'real_vs_fake/real-vs-fake/{s}/{c}/{i}.jpg': b'' for s in ('train', 'valid') for c in ('real', 'fake')
              for i in range(2)}  # fmt: skip


def table_140k(with_text: bool) -> bytes:
    rows = []
    for number, name in enumerate(FACES_140K):
        _, _, split, label, file = name.split('/')
        own = ['1' if label == 'real' else '0', *[label] * with_text]
        rows.append([str(number), f'/kaggle/input/{file}', file[:-4], *own, f'{split}/{label}/{file}'])
    return delimited(['', 'original_path', 'id', 'label', *['label_str'] * with_text, 'path'], rows)


@pytest.mark.parametrize('with_text', [True, False])
@pytest.mark.parametrize('form', FORMS)
def test_the_140k_faces_call_a_real_face_1(tmp_path: pathlib.Path, form: str, with_text: bool) -> None:
    # Class folders that say nothing, or the folders would be read instead of the table.
    tree = {**FACES_140K, 'list.csv': table_140k(with_text), 'preview.jpg': b''}
    path = write_form(form, tmp_path, tree)
    listing = read_listing(path)
    assert listing.layout == 'table (list.csv)'
    assert labels_of(listing) == {name: int('/fake/' in name) for name in FACES_140K}
    assert listing.splits == ['train'] * 4 + ['validation'] * 4


def test_a_number_means_nothing_until_it_is_said(tmp_path: pathlib.Path) -> None:
    table = delimited(['path', 'label'], [('a b/1.jpg', '0'), ('a b/2.jpg', '1')])
    with pytest.raises(UserError, match=r"label '0', .* means real in some sets .* define it with label 0=real or"):
        read(tmp_path, 'list.csv', table)
    assert labels_of(read(tmp_path, 'list.csv', table, ['real=0', 'fake=1'])) == {'a b/1.jpg': 0, 'a b/2.jpg': 1}
    assert labels_of(read(tmp_path, 'list.csv', table, ['real=1', 'fake=0'])) == {'a b/1.jpg': 1, 'a b/2.jpg': 0}
    with pytest.raises(UserError, match='label True, .* means real in some sets'):
        read(tmp_path, 'list.jsonl', b'{"path": "a b/1.jpg", "label": true}')
    with pytest.raises(UserError, match="unknown label 'gan'; known are real .*; add it with label gan=real or"):
        read(tmp_path, 'list.csv', delimited(['path', 'label'], [('a b/1.jpg', 'gan')]))


def test_missing_images_are_counted_and_the_first_named(tmp_path: pathlib.Path) -> None:
    gone = os.fsdecode(b'caf\xe9.jpg')
    rows = [('a b/1.jpg', 'real'), ('c/3.png', 'fake')]
    table = delimited(['path', 'label'], rows) + os.fsencode(f'{gone},fake\nc/5.png,real\nc,real\n,real\n')
    listing = read(tmp_path, 'list.csv', table)
    assert labels_of(listing) == {'a b/1.jpg': 0, 'c/3.png': 1}
    assert listing.notes == [f'4 of 6 images in list.csv are missing ({gone!r}, ...)']
    assert listing.notes[0].encode()  # can be printed
    with pytest.raises(UserError, match=r'no image that list\.csv lists exists \(first: c/5\.png\)'):
        read(tmp_path, 'list.csv', b'path,label\nc/5.png,real\n')


@pytest.mark.parametrize(
    ('name', 'table', 'message'),
    [
        ('l.csv', b'path,label\na,real\na,fake\n', r"l\.csv lists 'a' as real and as fake; correct it"),
        ('l.csv', b'path,label\nb/a,real\nb/./a,fake\n', r"l\.csv lists 'b/a' as real and as fake; correct it"),
        ('l.csv', b'path,label,split\na,real,holdout\n', "unknown split 'holdout'; known are train, validation, test"),
        ('l.jsonl', b'{"path": "a", "label": "real"}\n\n{"path": \n', r'l\.jsonl, line 3: not a JSON object; correct'),
        ('l.jsonl', b'["a", "real"]\n', r'l\.jsonl, line 1: not a JSON object'),
        ('l.jsonl', b'[' * 100_000, r'l\.jsonl, line 1: not a JSON object'),
        ('l.csv', b'path,label\na,"re"al"\n', r'l\.csv, line 2: .*; correct it'),
        ('l.csv', b'path,label\na,"real\n', r'l\.csv, line 2: unexpected end of data; correct it'),
        ('l.csv', b'photo,label\na,real\n', r'has no column path or file .*; its columns are photo, label'),
        (
            'l.csv',
            b'path,verdict\na,real\n',
            'has no column label_str or label or class; its columns are path, verdict',
        ),
        ('l.csv', b'path,label\na\n', "unknown label None|unknown label 'None'"),
        ('l.csv', b'path,label\n', r'l\.csv lists no images'),
        ('l.csv', b'', r'l\.csv lists no images'),
        ('l.jsonl', b'\n\n', r'l\.jsonl lists no images'),
    ],
)
def test_refused_tables(tmp_path: pathlib.Path, name: str, table: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, name, table)


@pytest.mark.parametrize('form', FORMS)
def test_a_table_at_the_top_speaks_where_folders_say_nothing(tmp_path: pathlib.Path, form: str) -> None:
    table = delimited(['path', 'label'], ROWS)
    path = write_form(form, tmp_path, {**IMAGES, 'labels.csv': table, 'c/labels.csv': b'not this one'})
    listing = read_listing(path)
    assert labels_of(listing) == {'a b/1.jpg': 0, 'a b/2.jpg': 1, 'c/3.png': 1, 'c/4.png': 0}
    for index, name in enumerate(listing.files.names):
        assert listing.files.read(index) == name.encode()
    assert len(listing.files.take([2, 0]).names) == 2


def test_a_table_beside_class_folders_or_a_second_one_is_not_read(tmp_path: pathlib.Path) -> None:
    write_tree(tmp_path / 'a', {'real/1.jpg': b'', 'fake/1.jpg': b'', 'labels.csv': b'nonsense'})
    assert read_listing(str(tmp_path / 'a')).layout == 'class only ({fake,real})'
    table = delimited(['path', 'label'], ROWS)
    write_tree(tmp_path / 'b', {**IMAGES, 'labels.csv': table, 'more.csv': table})
    with pytest.raises(UserError, match='classes of .* are unknown'):
        read_listing(str(tmp_path / 'b'))


def test_a_table_in_an_archive_cannot_lead_out_of_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'secret.jpg').write_bytes(b'secret')
    rows = [*ROWS, ('../secret.jpg', 'real'), (str(tmp_path / 'secret.jpg'), 'real'), ('c/../c/3.png', 'ai')]
    for form in FORMS[1:]:
        path = write_form(form, tmp_path, {**IMAGES, 'l.csv': delimited(['path', 'label'], rows)})
        listing = read_listing(path)
        assert listing.files.names == list(LABELS)
        assert "2 of 6 images in l.csv are missing ('../secret.jpg', ...)" in listing.notes


def test_absolute_paths_are_read_where_they_lie(tmp_path: pathlib.Path) -> None:
    write_tree(tmp_path / 'here', IMAGES)
    write_tree(tmp_path / 'there', {'5.jpg': b'5', '6.jpg': b'6'})
    rows = [(str(tmp_path / 'there/5.jpg'), 'real'), ('../there/6.jpg', 'fake'), ('c/3.png', 'fake')]
    (tmp_path / 'here/l.csv').write_bytes(delimited(['path', 'label'], rows))
    source = open_path(str(tmp_path / 'here/l.csv')).splits['train']
    assert [source[index] for index in range(3)] == [b'5', b'6', b'c/3.png']
    assert source.labels.tolist() == [0, 1, 1]
