import os
import pathlib
from collections.abc import Iterable

import numpy as np
import pytest

from fakeimg.config import Config
from fakeimg.data.datasets import open_path
from fakeimg.data.labels import class_names
from fakeimg.data.layouts import read_listing
from fakeimg.errors import UserError
from fakeimg.training.program import build
from tests.support.files import FORMS, write_form


def make(root: pathlib.Path, names: Iterable[str]) -> str:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return str(root)


@pytest.mark.parametrize(
    'layout',
    [
        ('train/REAL', 'train/FAKE', 'test/REAL', 'test/FAKE'),
        ('Dataset/Train/Real', 'Dataset/Train/Fake', 'Dataset/Test/Real', 'Dataset/Test/Fake'),
        ('rvf/real-vs-fake/train/real', 'rvf/real-vs-fake/train/fake', 'rvf/real-vs-fake/test/real', 'rvf/x/test/fake'),
        ('biggan/train/nature', 'biggan/train/ai', 'biggan/test/nature', 'biggan/test/ai'),
        ('train/gan/0_real', 'train/gan/1_fake', 'test/gan/0_real', 'test/gan/1_fake'),
    ],
)
def test_splits_and_labels_by_name(tmp_path: pathlib.Path, layout: tuple[str, ...]) -> None:
    folder = make(tmp_path, [f'{part}/sub/{i}.jpg' for part in layout for i in range(20)])
    data = open_path(folder, 0.1)
    sources, notes = data.splits, data.notes
    assert {name: len(source) for name, source in sources.items()} == {'train': 36, 'validation': 4, 'test': 40}
    for source in sources.values():
        assert source.labels.dtype == np.int32
        for name, label in zip(source.names, source.labels, strict=True):
            assert label == (layout.index(name.split('/sub')[0]) % 2)
        assert source[1] == source.names[1].encode()
    assert len(notes) == 1
    assert '4 images (10% of each class' in notes[0]


def test_split_off_validation_is_stable_and_stratified(tmp_path: pathlib.Path) -> None:
    names = [f'train/real/{i}.jpg' for i in range(200)] + [f'train/fake/{i}.jpg' for i in range(100)]
    first = open_path(make(tmp_path / 'a', names), 0.2).splits
    again = open_path(make(tmp_path / 'b', reversed(names)), 0.2).splits
    assert first['validation'].names == again['validation'].names
    assert np.bincount(first['validation'].labels).tolist() == [40, 20]
    assert not set(first['validation'].names) & set(first['train'].names)
    grown = open_path(make(tmp_path / 'b', ['train/real/new.jpg']), 0.2).splits
    assert len(set(grown['validation'].names) ^ set(first['validation'].names)) <= 2


def test_own_validation_split_is_left_alone(tmp_path: pathlib.Path) -> None:
    folder = make(
        tmp_path, [f'{s}/{c}/{i}.png' for s in ('train', 'valid') for c in ('real', 'fake') for i in range(5)]
    )
    data = open_path(folder, 0.1)
    sources, notes = data.splits, data.notes
    assert {name: len(source) for name, source in sources.items()} == {'train': 10, 'validation': 10}
    assert not notes


def test_classes_without_splits_are_split_in_three(tmp_path: pathlib.Path) -> None:
    folder = make(tmp_path, [f'{c}/{i}.webp' for c in ('real', 'fake') for i in range(50)])
    data = open_path(folder, 0.1)
    sources, notes = data.splits, data.notes
    assert {name: len(source) for name, source in sources.items()} == {'train': 82, 'validation': 8, 'test': 10}
    assert len(notes) == 2


def test_file_names_of_any_bytes(tmp_path: pathlib.Path) -> None:
    folder = make(tmp_path, [f'{c}/{i}.png' for c in ('real', 'fake') for i in range(9)])
    for i in range(9):
        (tmp_path / 'real' / os.fsdecode(b'caf\xe9%d.jpg' % i)).write_bytes(b'')
    sources = open_path(folder, 0.2).splits
    assert sum(map(len, sources.values())) == 27


def test_small_classes_still_give_every_split_something(tmp_path: pathlib.Path) -> None:
    sources = open_path(make(tmp_path, [f'{c}/{i}.png' for c in ('real', 'fake') for i in range(5)]), 0.1).splits
    assert {name: len(source) for name, source in sources.items()} == {'train': 6, 'validation': 2, 'test': 2}


def test_odd_names_hidden_files_and_link_loops(tmp_path: pathlib.Path) -> None:
    odd = [
        'train/real/a b [1].jpg',
        'train/real/ünï\n.jpg',
        'train/fake/"q".JPG',
        'train/fake/x.txt',
        'train/real/.h.jpg',
    ]
    folder = make(tmp_path, odd + [f'train/{c}/{i}.png' for c in ('real', 'fake') for i in range(9)])
    (tmp_path / 'train' / 'real' / 'loop').symlink_to(tmp_path, target_is_directory=True)
    sources = open_path(folder, 0.1).splits
    assert sum(map(len, sources.values())) == 21


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        ([], 'holds no images'),
        (['train/real/x.txt'], 'holds no images'),
        (
            ['train/photos/1.jpg', 'train/fake/1.jpg'],
            r"classes of .* are unknown: its folders are 'photos' \(1 images\); say which is which with label ",
        ),
        (['train/real/fake/1.jpg'], "'real' and 'fake' contradict each other"),
        (['train/test/real/1.jpg'], "'train' and 'test' contradict each other"),
        (['train/real/1.jpg', 'holdout/real/1.jpg'], 'holdout/real belongs to no split'),
    ],
)
def test_refused_folders(tmp_path: pathlib.Path, names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_path(make(tmp_path, names))


def test_missing_path(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match='nowhere does not exist; give a folder'):
        open_path(str(tmp_path / 'nowhere'))
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='is neither a folder'):
        open_path(str(tmp_path / 'file'))


GANS = ('biggan', 'stargan')
NAMED_LAYOUTS = {
    'split/class ({test,train}/{fake,real})': (
        [f'{s}/{c}/1.jpg' for s in ('train', 'test') for c in ('real', 'fake')], 'set', {'train', 'test'},
    ),
    'class only ({fake,real})': (['real/1.jpg', 'fake/1.jpg'], 'set', {'train'}),
    'Kaggle deepfake-and-real-images ({Train,Validation,Test}/{Fake,Real})': (
        [f'Dataset/{s}/{c}/1.jpg' for s in ('Train', 'Validation', 'Test') for c in ('Fake', 'Real')],
        'deepfake-and-real-images', {'train', 'validation', 'test'},
    ),
    '140k faces (real-vs-fake/{train,valid,test}/{real,fake})': (
        [f'real_vs_fake/real-vs-fake/{s}/{c}/1.jpg' for s in ('train', 'valid', 'test') for c in ('real', 'fake')],
        '140k-faces', {'train', 'validation', 'test'},
    ),
    'CIFAKE ({train,test}/{REAL,FAKE})': (
        [f'{s}/{c}/1.jpg' for s in ('train', 'test') for c in ('REAL', 'FAKE')], 'CIFAKE', {'train', 'test'},
    ),
    'CNNDetection / ForenSynths (generator/{0_real,1_fake})': (
        [f'{g}/{c}/1.png' for g in GANS for c in ('0_real', '1_fake')]
        + [f'progan/{category}/{c}/1.png' for category in ('cat', 'car') for c in ('0_real', '1_fake')],
        {*GANS, 'progan'}, {'train'},
    ),
    'GenImage (generator/{train,val}/{ai,nature})': (
        [f'{g}/{s}/{c}/1.png' for g in GANS for s in ('train', 'val') for c in ('ai', 'nature')],
        set(GANS), {'train', 'validation'},
    ),
}  # fmt: skip


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('layout', NAMED_LAYOUTS)
def test_named_layouts_are_recognised_in_folders_and_archives(tmp_path: pathlib.Path, layout: str, form: str) -> None:
    names, sources, splits = NAMED_LAYOUTS[layout]
    path = pathlib.Path(write_form(form, tmp_path, {name: name.encode() for name in [*names, 'README.md', 'a/b.txt']}))
    path = path.rename(path.with_name(f'set{path.suffix}'))
    listing = read_listing(str(path))
    assert listing.layout == layout
    assert listing.files.names == sorted(names)
    assert {split or 'train' for split in listing.splits} == splits
    assert set(listing.generators) == ({sources} if isinstance(sources, str) else sources)
    for index, name in enumerate(listing.files.names):
        assert listing.labels[index] == any(part in name.lower() for part in ('/fake/', '1_fake', '/ai/')) or (
            name.startswith('fake/')
        )
        assert listing.generators[index] in name or isinstance(sources, str)
        assert listing.files.read(index) == name.encode()
    assert not any(listing.groups)
    assert listing.notes == []


def test_an_unpacked_140k_is_known_by_its_own_name(tmp_path: pathlib.Path) -> None:
    folder = make(tmp_path / 'real-vs-fake', [f'{s}/{c}/1.jpg' for s in ('train', 'valid') for c in ('real', 'fake')])
    assert read_listing(folder).layout.startswith('140k faces')


@pytest.mark.parametrize(('count', 'are_generators'), [(20, True), (21, False)])
def test_subfolders_are_generators_when_few_and_groups_when_many(
    tmp_path: pathlib.Path, count: int, are_generators: bool
) -> None:
    names = [f'train/{c}/gan{i}/clip/{j}.jpg' for c in ('real', 'fake') for i in range(count) for j in range(2)]
    listing = read_listing(make(tmp_path / 'set', [*names, 'train/real/own.jpg']))
    rows = dict(zip(listing.files.names, zip(listing.generators, listing.groups, strict=True), strict=True))
    expected = ('gan3', '') if are_generators else ('set', 'gan3/clip')
    assert rows['train/real/gan3/clip/0.jpg'] == rows['train/fake/gan3/clip/1.jpg'] == expected
    assert rows['train/real/own.jpg'] == ('set', '')
    meaning = 'generators' if are_generators else 'groups (identities, videos)'
    assert len(listing.notes) == 1
    assert listing.notes[0].startswith(f"{count} folder names below the classes, such as 'gan0', are read as {meaning}")


def test_identities_are_not_parted_by_carving(tmp_path: pathlib.Path) -> None:
    names = [f'{c}/id{i:02}/{j}.jpg' for c in ('real', 'fake') for i in range(40) for j in range(i % 5 + 1)]
    splits = open_path(make(tmp_path, names), 0.2).splits
    seen = {split: {name.split('/')[1] for name in source.names} for split, source in splits.items()}
    assert set(seen) == {'train', 'validation', 'test'}
    assert sum(map(len, seen.values())) == len(set.union(*seen.values())) == 40


def test_labels_by_hand_make_a_layout_known(tmp_path: pathlib.Path) -> None:
    folder = make(tmp_path / 'set', ['train/Photos/1.jpg', 'train/edited/1.jpg', 'test/photos/1.jpg'])
    with pytest.raises(UserError, match=r"its folders are .*'Photos' \(1 images\), 'edited' \(1 images\)"):
        read_listing(folder)
    listing = read_listing(folder, class_names(['real=photos', 'Edited=fake']))
    assert dict(zip(listing.files.names, listing.labels.tolist(), strict=True)) == {
        'test/photos/1.jpg': 0, 'train/Photos/1.jpg': 0, 'train/edited/1.jpg': 1,
    }  # fmt: skip
    assert listing.layout == 'split/class ({test,train}/{Photos,edited,photos})'
    assert listing.splits == ['test', 'train', 'train']


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (['originals'], "^label is 'originals'; it must be NAME=real or NAME=fake"),
        (['true=originals'], "^label is 'true=originals'"),
        (['real='], "^label is 'real='"),
        (['=fake'], "^label is '=fake'"),
        (['real=fake'], "^label is 'real=fake', which can be read both ways"),
        (['real=x', 'fake=X'], "^label gives 'X' to both classes"),
    ],
)
def test_labels_by_hand_that_say_nothing_are_refused(given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        class_names(given)


def test_what_was_seen_is_said_most_frequent_first(tmp_path: pathlib.Path) -> None:
    names = [f'x/{chr(97 + i)}/{j}.jpg' for i in range(8) for j in range(i + 1)]
    with pytest.raises(UserError, match=r"its folders are 'h' \(8 images\), 'g' \(7 images\), .* and 2 more"):
        read_listing(make(tmp_path, names))
    with pytest.raises(UserError, match=r"its folders are 'no folder at all' \(1 images\)"):
        read_listing(make(tmp_path / 'flat', ['1.jpg']))


def test_an_empty_class_is_listed_as_it_is(tmp_path: pathlib.Path, config: Config) -> None:
    make(tmp_path / 'set', [f'train/real/{i}.jpg' for i in range(9)])
    (tmp_path / 'set/train/fake').mkdir()
    listing = read_listing(str(tmp_path / 'set'))
    assert listing.labels.tolist() == [0] * 9
    config.data.path = str(tmp_path / 'set')
    with pytest.raises(UserError, match=r'has no fake images \(7 real, 0 fake\); a detector needs both classes'):
        build(config)
