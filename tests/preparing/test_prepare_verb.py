"""`python -m fakeimg.prepare` as a person starts it."""

import csv
import json
import pathlib

import numpy as np
import pytest

from fakeimg.data import openforensics, records
from fakeimg.data.datasets import open_path
from fakeimg.data.decode import decode_rgb
from fakeimg.preparing.items import encode_jpeg
from tests.support.coco import coco, face, photo
from tests.support.files import write_form, write_tree, write_zip
from tests.support.sets import contents, image
from tests.support.verbs import Verb, assert_refused


def test_prepare_says_what_it_found_and_what_comes_next(verb: Verb, tmp_path: pathlib.Path) -> None:
    tree = {f'train/{c}/{i}.jpg': image(i + 20 * (c == 'fake')) for c in ('Originals', 'fake') for i in range(20)}
    archive = write_zip(tmp_path / 'faces.zip', {**tree, 'train/fake/broken.jpg': b'broken', 'test/fake/1.png': b''})
    command = ('prepare', archive, '--out', 'data/faces', '--label', 'real=originals', '--workers=2')
    made = verb(*command, '--validation_fraction=0.1')
    assert made.returncode == 0, made.stderr
    assert made.stderr == ''
    out = tmp_path / 'work/data/faces'
    summary = json.loads((out / records.SUMMARY).read_text())
    for line in (
        'layout: split/class ({test,train}/{Originals,fake}), 42 images',
        '!! no validation split found: 4 images (10% of each class, chosen by the hash of their names) were split',
        '!! 2 images cannot be read and were left out; data/faces/bad_pictures.csv lists them.',
        '!! split test has no real images.',
        '!! split test has no fake images.',
        f'prepared: data/faces, digest {summary["digest"]}',
        'next: fakeimg audit data/faces',
    ):
        assert line in made.stdout
    assert summary['counts'] == {
        'train': {'real': 18, 'fake': 18}, 'validation': {'real': 2, 'fake': 2}, 'test': {'real': 0, 'fake': 0},
    }  # fmt: skip
    assert {split: len(source) for split, source in open_path(str(out)).splits.items()} == {
        'train': 36,
        'validation': 4,
    }
    before = contents(out)
    again = verb(*command, '--validation_fraction=0.1')
    assert again.returncode == 0, again.stderr
    assert f'prepared: data/faces, digest {summary["digest"]}' in again.stdout
    assert_refused(verb(*command), 'data/faces holds a set prepared from other images or options; choose another')
    assert contents(out) == before
    assert [path.name for path in out.parent.iterdir()] == ['faces']


@pytest.mark.parametrize(
    ('flags', 'sentence'),
    [
        ((), 'say what to prepare, and nothing else: fakeimg prepare SOURCE --out DIR'),
        (('faces', 'more', '--out=out'), 'say what to prepare, and nothing else'),
        (('faces',), 'say where the prepared set goes: --out DIR'),
        (('nowhere', '--out=out'), 'data path nowhere does not exist'),
        (('faces', '--out=out', '--limit=-1'), '--limit is -1; it must be 0 (all) or more'),
        (('faces', '--out=out', '--encode=png:3'), "encode is 'png:3'; it must be jpeg:QUALITY"),
        (('faces', '--out=out', '--encode=jpeg:101'), "encode is 'jpeg:101'"),
        (('faces', '--out=out', '--to_size=4'), 'to_size is 4; it must be 0 (unchanged) or at least 8 pixels'),
        (('faces', '--out=out', '--validation_fraction=0.5'), 'validation_fraction is 0.5; it must be'),
        (('faces', '--out=out', '--label=genuine'), "label is 'genuine'; it must be NAME=real"),
        (('faces', '--out=out', '--margin=0.5'), '--margin is 0.5; it must be from 1 to 10'),
        (('faces', '--out=faces'), 'faces exists and holds something else; choose another folder'),
    ],
)
def test_mistakes_on_the_command_line(
    verb: Verb, faces: pathlib.Path, tmp_path: pathlib.Path, flags: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / 'work/faces').symlink_to(faces) if '--out=faces' not in flags else faces.rename(tmp_path / 'work/faces')
    before = sorted(path.name for path in (tmp_path / 'work').iterdir())
    assert_refused(verb('prepare', *flags), sentence)
    assert sorted(path.name for path in (tmp_path / 'work').iterdir()) == before


PHOTOS = {
    'of/Images/Train/a.jpg': (1, 60, 80), 'of/Images/Train/b.jpg': (2, 40, 30), 'of/Images/Val/a.jpg': (3, 50, 50),
    'of/Images/Test-Dev/d.jpg': (4, 64, 64), 'of/Images/Test-Challenge/e.jpg': (5, 64, 70),
}  # fmt: skip
ANNOTATIONS = {
    'of/Train_poly.json': coco(
        [
            photo(7, 'Images/Train/a.jpg'),
            photo(3, 'Images/Train/b.jpg'),
            photo(5, 'Images/Train/gone.jpg'),
        ],
        [
            face(11, 3, 1, 12, 10, 16, 20),
            face(12, 7, 0, 30, 20, 15, 10),
            face(13, 7, 1, -6, -5, 12, 12),
            face(14, 7, 1, 10, 10, 7, 7),  # too small
            face(15, 7, 1, 500, 500, 20, 20),  # outside the photo
            face(16, 5, 0, 10, 10, 20, 20),  # on the missing photo
        ],
    ),
    'of/Val_poly.json': coco([photo(7, 'Images/Val/a.jpg')], [face(11, 7, 1, 20, 20, 10, 10)]),
    'of/Test-Dev_poly.json': coco([photo(1, 'Images/Test-Dev/d.jpg')], [face(1, 1, 0, 5, 5, 40, 44)]),
    'of/Test-Challenge_poly.json': coco([photo(1, 'Images/Test-Challenge/e.jpg')], [face(1, 1, 1, 5, 5, 30, 20)]),
}


@pytest.mark.parametrize('form', ['folder', 'stored.zip'])
def test_openforensics_becomes_one_crop_a_face(verb: Verb, tmp_path: pathlib.Path, form: str) -> None:
    photos = {name: image(seed, height, width) for name, (seed, height, width) in PHOTOS.items()}
    source = write_form(form, tmp_path, {**photos, **ANNOTATIONS})
    flags = ('--size=24', '--min_face=8', '--margin=1.3', '--encode=jpeg:90', '--workers=2')
    made = verb('prepare', source, '--out', 'out', *flags)
    assert made.returncode == 0, made.stderr
    assert made.stderr == ''
    rows = {tuple(line.replace('│', ' ').split()) for line in made.stdout.splitlines()}
    assert rows >= {
        ('train', 'photos', '3', '2'), ('train', 'real', 'faces', '2', '1'), ('train', 'fake', 'faces', '4', '3'),
        ('validation', 'photos', '1', '1'), ('test', 'real', 'faces', '1', '1'),
        ('test_challenge', 'fake', 'faces', '1', '1'),
    }  # fmt: skip
    assert 'layout: OpenForensics (*_poly.json, one crop a face), 5 images' in made.stdout
    assert '!! train, left out: ' in made.stdout
    assert '1 photos missing' in made.stdout
    assert '!! 1 images cannot be read and were left out' in made.stdout
    out = tmp_path / 'work/out'
    with open(out / 'bad_pictures.csv', newline='') as file:
        (_, bad) = csv.reader(file)
    assert bad[:2] == ['train', 'of/Images/Train/a.jpg/15']
    assert 'lies outside the image of 80 x 60 px' in bad[2]

    splits = open_path(str(out)).splits
    assert {split: len(part) for split, part in splits.items()} == {
        'train': 3, 'validation': 1, 'test': 1, 'test_challenge': 1,
    }  # fmt: skip
    assert dict(zip(splits['train'].names, splits['train'].groups, strict=True)) == {
        'of/Images/Train/a.jpg/12': 'train/7',
        'of/Images/Train/a.jpg/13': 'train/7',
        'of/Images/Train/b.jpg/11': 'train/3',
    }
    assert splits['validation'].groups == ['validation/7']  # another photo than train's 7
    assert set(splits['train'].generators) == {'OpenForensics'}
    boxes = {
        'of/Images/Train/a.jpg/12': (0, 30, 20, 15, 10), 'of/Images/Train/a.jpg/13': (1, -6, -5, 12, 12),
        'of/Images/Train/b.jpg/11': (1, 12, 10, 16, 20), 'of/Images/Val/a.jpg/11': (1, 20, 20, 10, 10),
        'of/Images/Test-Dev/d.jpg/1': (0, 5, 5, 40, 44), 'of/Images/Test-Challenge/e.jpg/1': (1, 5, 5, 30, 20),
    }  # fmt: skip
    for part in splits.values():
        for index, name in enumerate(part.names):
            label, *box = boxes.pop(name)
            photo = decode_rgb(photos[name.rpartition('/')[0]])
            left, top, width, height = box
            crop = openforensics.crop_face(photo, (left, top, width, height), 1.3, 24)
            assert part.labels[index] == label
            assert part[index] == encode_jpeg(crop, 90)
            assert decode_rgb(part[index]).shape == (24, 24, 3)
    assert not boxes


def test_a_table_is_prepared_too(verb: Verb, tmp_path: pathlib.Path) -> None:
    tree = {f'images/{i}.png': image(i, kind='PNG') for i in range(8)}
    table = 'path,label,split,group\n' + ''.join(
        f'images/{i}.png,{i % 2},{("train", "val")[i // 6]},id{i // 2}\n' for i in range(8)
    ) + 'gone.png,0,train,\n'  # fmt: skip
    write_tree(tmp_path / 'work', {**tree, 'list.csv': table.encode()})
    assert_refused(verb('prepare', 'list.csv', '--out=out'), "label '0', which means real in some sets")
    made = verb('prepare', 'list.csv', '--out=out', '--label=real=0', '--label=fake=1', '--to_size=8')
    assert made.returncode == 0, made.stderr
    assert "!! 1 of 9 images in list.csv are missing ('gone.png', ...)." in made.stdout
    splits = open_path(str(tmp_path / 'work/out')).splits
    assert np.bincount(splits['train'].labels).tolist() == [3, 3]
    assert sorted(splits['validation'].groups) == ['id3', 'id3']
    assert decode_rgb(splits['train'][0]).shape == (8, 10, 3)
