"""Copies of an image stay on one side of a split that is made, and no chain of copies makes one group of a set."""

import pathlib
import zipfile

import numpy as np
import pytest

from fakeimg.config import Config
from fakeimg.data import copies
from fakeimg.data.datasets import DataSet, open_data, open_path
from fakeimg.data.files import list_files
from fakeimg.data.splits import split_off
from tests.support.files import FORMS, write_form, write_tree, write_zip

LABELS = np.arange(60, dtype=np.int32) % 2


def images_with_copies() -> dict[str, bytes]:
    """60 files of each class, of one size; of each class, ten images come three times, under other names."""
    tree = {}
    for label in ('real', 'fake'):
        for index in range(60):
            tree[f'{label}/{index}.jpg'] = f'{label} {index if index >= 30 else index % 10:03}'.encode() * 30
    return tree


def parted(data: DataSet) -> int:
    """How many images have a copy in another split."""
    homes: dict[bytes, set[str]] = {}
    for name, part in data.splits.items():
        for index in range(len(part)):
            homes.setdefault(part[index], set()).add(name)
    return sum(len(names) > 1 for names in homes.values())


@pytest.mark.parametrize('form', FORMS)
def test_files_of_the_same_bytes_are_found_in_every_form(tmp_path: pathlib.Path, form: str) -> None:
    one, two = b'one' * 50, b'two' * 50
    contents = (one, two, one, one[:-1] + b'f', b'', b'', two[:-1] + b'p', b'x')
    tree = {f'{index}.jpg': data for index, data in enumerate(contents)}
    same = copies.same_bytes(list_files(write_form(form, tmp_path, tree)))
    assert same[0] == same[2]
    assert len(set(same.tolist())) == 7  # empty files are copies of nothing


def test_files_that_cannot_be_read_are_copies_of_nothing(tmp_path: pathlib.Path) -> None:
    files = list_files(write_tree(tmp_path, {f'{name}.jpg': b'same' for name in 'abcd'}))
    for name in 'bd':
        (tmp_path / f'{name}.jpg').unlink()
    same = copies.same_bytes(files)
    assert same[0] == same[2]
    assert len(set(same.tolist())) == 3


@pytest.mark.parametrize('form', ['folder', 'zip'])
def test_a_split_that_is_made_parts_no_copies(tmp_path: pathlib.Path, form: str) -> None:
    tree = images_with_copies()
    path = write_tree(tmp_path, tree) if form == 'folder' else write_zip(tmp_path / 'a.zip', tree, zipfile.ZIP_DEFLATED)
    data = open_path(path, 0.2)
    assert parted(data) == 0
    assert '60 images are kept on one side of a split with copies of them' in data.notes
    assert all(set(part.labels.tolist()) == {0, 1} for part in data.splits.values())
    assert not any(data.splits['train'].groups)  # a copy is no video: only splits know of it
    assert parted(open_path(path, 0.2, split_version=1)) > 5


def test_runs_of_before_keep_their_splits(tmp_path: pathlib.Path, config: Config) -> None:
    """The choice by names alone, which such a run was trained on, and which its tests must not meet."""
    config.data.path, config.data.split_version = write_tree(tmp_path / 'set', images_with_copies()), 1
    config.data.validation_fraction = 0.2
    data = open_data(config)
    names = [name for part in data.splits.values() for name in part.names]
    labels = np.array([int(name.startswith('fake')) for name in names])
    is_test = split_off(names, labels, [''] * len(names), 'test', 0.2)
    assert set(data.splits['test'].names) == {name for name, chosen in zip(names, is_test, strict=True) if chosen}
    config.data.split_version = 2
    assert parted(open_data(config)) == 0


def test_copies_join_the_groups_that_they_are_in() -> None:
    names = [f'{row}.jpg' for row in range(60)]
    groups = ['video b', 'video b', 'video a', 'video a', '', '', '', *[''] * 53]
    exact, near = np.arange(60), np.arange(60)
    exact[4] = exact[1]  # an image alone and a frame
    near[[5, 6]] = near[5]
    near[[1, 2, 4]] = near[1]
    joined, count = copies.join_groups(names, groups, LABELS, exact, near)
    assert joined[:7] == ['4.jpg'] * 5 + ['5.jpg'] * 2
    assert joined[7:] == [''] * 53
    assert count == 0


@pytest.mark.parametrize('kind', ['near', 'exact'])
def test_a_chain_of_copies_does_not_make_one_group_of_a_set(kind: str) -> None:
    names = [f'{row:03}.jpg' for row in range(300)]
    groups = [f'video {row // 10}' for row in range(300)]
    labels = np.arange(300, dtype=np.int32) // 10 % 2
    chain, pair = np.arange(300), np.arange(300)
    chain[::10] = 0  # the first frame of each video is black
    pair[5] = chain[5] = 15  # two videos share another frame
    if kind == 'near':
        joined, parted = copies.join_groups(names, groups, labels, pair, chain)
    else:
        joined, parted = copies.join_groups(names, groups, labels, chain)
    assert parted == 300
    assert 'are linked by copies into groups that are too large' in copies.describe(groups, joined, parted)[-1]
    # What is surer than the chain holds.
    assert len(set(joined)) == (29 if kind == 'near' else 30)


def test_a_set_that_copies_would_make_indivisible_is_split_without_them(tmp_path: pathlib.Path) -> None:
    tree = {f'real/{index}.jpg': f'{index}'.encode() for index in range(40)}
    tree |= {f'fake/{index}.jpg': b'%d' % (index % 2) * 9 for index in range(20)}  # two images, ten times each
    data = open_path(write_tree(tmp_path, tree), 0.1)
    assert set(data.splits) == {'train', 'validation', 'test'}
    assert copies.PARTED in data.notes
