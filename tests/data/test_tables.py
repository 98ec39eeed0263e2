"""Images listed in a CSV or JSONL table, beside it, below it, in an archive or anywhere on the disk."""

import json
import os
import pathlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal

import pytest

from fakeimg.data.datasets import open_path
from fakeimg.data.labels import class_names
from fakeimg.data.layouts import Listing, read_listing
from fakeimg.data.tables import columns_of
from fakeimg.errors import UserError
from tests.support.files import FORMS, write_form, write_tree

Form = Literal['NFC', 'NFD']
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


def table_of(columns: str, values: Mapping[str, str], line: str = '{path},{value}') -> bytes:
    rows = [line.format(path=path, value=values[label.lower()]) for path, label in ROWS]
    return '\n'.join([columns, *rows] if columns else rows).encode()


WORDS = {'real': 'real', 'nature': 'real', 'fake': 'fake', 'ai': 'fake'}
ONE_IS_FAKE = {'real': '0.0', 'nature': '0.0', 'fake': '1.0', 'ai': '1.0'}
TRUE_IS_REAL = {'real': 'True', 'nature': 'TRUE', 'fake': 'False', 'ai': 'false'}


@pytest.mark.parametrize(
    ('name', 'table'),
    [
        ('l.csv', table_of('image_path,target', WORDS)),
        ('l.csv', table_of('Image Path,Ground-Truth', WORDS)),
        (
            'l.csv',
            table_of('fname,type', {'real': 'real photo', 'nature': 'Original', 'fake': 'Deepfakes', 'ai': 'AI'}),
        ),
        ('l.csv', table_of('filepath,is_fake', ONE_IS_FAKE)),
        ('l.csv', table_of('filepath,is_real', TRUE_IS_REAL)),
        ('l.csv', table_of('img_name,deepfake', {'real': 'no', 'nature': 'N', 'fake': 'Yes', 'ai': 'y'})),
        ('l.csv', table_of('path,label', WORDS).decode().encode('utf-16')),
        ('l.tsv', table_of('path\tlabel', WORDS, '{path}\t{value}').decode().encode('utf-16-be')),
        ('l.csv', table_of('sep=;\npath;label', WORDS, '{path};{value}')),
        ('l.csv', table_of('sep=|\r\nfile|class', WORDS, '{path}|{value}\r')),
        ('l.csv', table_of('', WORDS)),
        ('l.txt', table_of('', WORDS, '{path} {value}')),
        ('l.lst', table_of('', WORDS, '{value}\t{path}')),
        ('l.txt', table_of('path;label', WORDS, '{path};{value}')),
    ],
)
def test_tables_as_people_write_them(tmp_path: pathlib.Path, name: str, table: bytes) -> None:
    assert labels_of(read(tmp_path, name, table)) == {'a b/1.jpg': 0, 'a b/2.jpg': 1, 'c/3.png': 1, 'c/4.png': 0}


@pytest.mark.parametrize('number', ['0', '1.0', 'True'])
def test_a_refused_number_comes_with_what_to_type(tmp_path: pathlib.Path, number: str) -> None:
    other = {'0': '1', '1.0': '0.0', 'True': 'False'}[number]
    table = table_of('path,label', {'real': number, 'nature': number, 'fake': other, 'ai': other})
    with pytest.raises(UserError, match='means real in some sets and fake in others') as caught:
        read(tmp_path, 'l.csv', table)
    assert {flag for flag, _ in caught.value.add} == {'label'}
    assert {item.split('=')[0] for _, item in caught.value.add} == {number, other}
    assert labels_of(read(tmp_path, 'l.csv', table, [f'{number}=real', f'{other}=fake']))['a b/1.jpg'] == 0


@pytest.mark.parametrize(('listed', 'stored'), [('NFC', 'NFD'), ('NFD', 'NFC')])
@pytest.mark.parametrize('form', FORMS)
def test_accents_are_met_half_way(tmp_path: pathlib.Path, form: str, listed: Form, stored: Form) -> None:
    names = ['Zoë/œuf à la coque.jpg', 'Zoë/Å.png']
    files = {unicodedata.normalize(stored, name): name.encode() for name in names}
    rows = [(unicodedata.normalize(listed, name), label) for name, label in zip(names, ('real', 'fake'), strict=True)]
    listing = read_listing(write_form(form, tmp_path, {**files, 'l.csv': delimited(['path', 'label'], rows)}))
    assert [listing.files.read(index) for index in range(2)] == [name.encode() for name in names]
    assert listing.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ('name', 'table', 'reason'),
    [
        ('data.csv', b'a,b\n1,2\n', 'has no column path .*; its columns are a, b'),
        ('results.csv', b'image,score,label\nelsewhere/1.jpg,0.3,real\n', 'no image that results.csv lists exists'),
        ('notes.jsonl', b'{"epoch": 1, "loss": 0.3}\n', 'has no column path'),
    ],
)
def test_a_stray_table_is_passed_over_with_a_note(tmp_path: pathlib.Path, name: str, table: bytes, reason: str) -> None:
    listing = read_listing(write_tree(tmp_path / 'set', {'real/1.jpg': b'', 'fake/1.jpg': b'', name: table}))
    assert listing.layout == 'class only ({fake,real})'
    assert re.search(f'^{name} is passed over, since it does not describe the images .*{reason}', listing.notes[0])


def test_a_table_that_says_more_than_the_folders_is_named(tmp_path: pathlib.Path) -> None:
    table = b'path,label,person\nreal/1.jpg,real,7\nfake/1.jpg,fake,7\n'
    tree = {'real/1.jpg': b'', 'fake/1.jpg': b'', 'l.csv': table.replace(b'person', b'group')}
    notes = read_listing(write_tree(tmp_path / 'set', tree)).notes
    assert notes == ['table (l.csv) says more than the folders; it is not used unless it is given as the data path']


def test_columns_by_hand(tmp_path: pathlib.Path) -> None:
    table = table_of('Bild Datei,verdict,path', WORDS, '{path},{value},nowhere')
    folder = write_tree(tmp_path, {**IMAGES, 'l.csv': table})
    columns = columns_of(['path=Bild Datei', 'label=VERDICT'])
    listing = read_listing(os.path.join(folder, 'l.csv'), columns=columns)
    assert labels_of(listing) == {'a b/1.jpg': 0, 'a b/2.jpg': 1, 'c/3.png': 1, 'c/4.png': 0}
    with pytest.raises(
        UserError, match=r"l\.csv has no column 'nothing', which columns names as label; its columns are"
    ):
        read_listing(os.path.join(folder, 'l.csv'), columns=columns_of(['label=nothing']))
    for item in ('file=x', 'path', 'label='):
        with pytest.raises(UserError, match=f'^columns is {item!r}; it must be path=NAME, label=NAME'):
            columns_of([item])


def test_unknown_columns_come_with_what_to_type(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match='has no column path') as caught:
        read(tmp_path, 'l.csv', table_of('photo,verdict', WORDS))
    assert caught.value.add == (('columns', 'path=photo,label=verdict'),)


def test_frames_in_a_table_are_kept_together_unless_it_says_otherwise(tmp_path: pathlib.Path) -> None:
    names = [f'{v}/shot_{v * 10 + k:02}/{i}.jpg' for v in range(2) for k in range(8) for i in range(4)]
    labels = [('real', 'fake')[int(name[0])] for name in names]
    write_tree(tmp_path, {name: name.encode() for name in names})
    (tmp_path / 'l.csv').write_bytes(delimited(['path', 'label'], list(zip(names, labels, strict=True))))
    assert len(set(read_listing(str(tmp_path / 'l.csv')).groups) - {''}) == 16
    rows = [(name, label, '') for name, label in zip(names, labels, strict=True)]
    (tmp_path / 'l.csv').write_bytes(delimited(['path', 'label', 'group'], rows))
    assert set(read_listing(str(tmp_path / 'l.csv')).groups) == {''}
