import os
import pathlib
from collections.abc import Iterable

import numpy as np
import pytest

from fakeimg.data.sources import open_path
from fakeimg.errors import UserError


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
    assert '4 pictures (10% of each class' in notes[0]


def test_carved_validation_is_stable_and_stratified(tmp_path: pathlib.Path) -> None:
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


def test_classes_without_splits_are_carved_in_three(tmp_path: pathlib.Path) -> None:
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
        ([], 'holds no pictures'),
        (['train/real/x.txt'], 'holds no pictures'),
        (
            ['train/originals/1.jpg', 'train/fake/1.jpg'],
            r"classes of .* are unknown: seen were 'originals' \(1 pictures\); say it by hand \(--label real",
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
