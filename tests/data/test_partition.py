"""The splits that training takes: which it has, what they may not share, and what is said about them."""

import pathlib

import numpy as np
import pytest

from fakeimg.config import Config
from fakeimg.data import partition
from fakeimg.data.datasets import DataSet, Split, open_data
from fakeimg.data.files import FolderFiles
from fakeimg.errors import UserError
from tests.support.files import write_tree


def split(names: list[str], labels: list[int], groups: list[str] | None = None) -> Split:
    return Split(FolderFiles('', names), np.array(labels, np.int32), ['set'] * len(names), groups or [''] * len(names))


def data_of(**splits: Split) -> DataSet:
    return DataSet(splits, 'digest', 'split/class', False, [])


def test_splits_are_those_of_the_set_and_the_slices_that_the_recipe_names(config: Config) -> None:
    names = [f'{index}.jpg' for index in range(10)]
    data = data_of(train=split(names, [0, 1] * 5), test=split(['t.jpg'], [1]))
    assert list(partition.training_splits(data, config)) == ['train', 'test']  # no validation: none is asked for
    config.data.train_split, config.data.validation_split = 'train[:60%]', 'train[60%:]'
    parts = partition.training_splits(data, config)
    assert [len(parts[name]) for name in ('train', 'validation', 'test')] == [6, 4, 1]
    assert sorted([*parts['train'].names, *parts['validation'].names]) == names
    config.data.validation_split = 'validation[:5]'
    with pytest.raises(UserError, match="there is no split 'validation' in this data; it has train, test"):
        partition.training_splits(data, config)


def test_a_later_split_may_not_share_images_with_the_first() -> None:
    first, second, third = split(['a', 'b'], [0, 1]), split(['c'], [0]), split(['d', 'b'], [0, 1])
    partition.check_disjoint({'train': first, 'validation': second})
    with pytest.raises(UserError, match='the splits train and test share 1 images; choose splits that have none'):
        partition.check_disjoint({'train': first, 'validation': second, 'test': third})


def test_what_a_split_lacks_and_which_groups_it_shares_is_said() -> None:
    train = split(['a', 'b', 'c'], [0, 1, 1], ['photo 2', '', 'photo 1'])
    assert partition.split_notes({'train': train, 'validation': split(['d', 'e'], [0, 1], ['', 'photo 3'])}) == []
    assert partition.split_notes({'train': train, 'test': split(['d'], [0], ['photo 1'])}) == [
        'the split test has no fake images'
    ]
    assert partition.split_notes({'train': train, 'validation': split(['d'], [1], ['photo 2'])}) == [
        'the split validation has no real images',
        "1 groups ('photo 2', ...) are in both train and validation; keep them whole",
    ]
    assert partition.split_notes({'train': train, 'empty': split([], [])}) == []


def test_what_was_not_looked_at_is_said_with_what_to_type(config: Config, tmp_path: pathlib.Path) -> None:
    tree = {f'{label}/{index}.jpg': f'{label}{index}'.encode() for label in ('real', 'fake') for index in range(20)}
    config.data.path = write_tree(tmp_path / 'my set', tree)
    (note,) = partition.near_copies_notes(open_data(config), config)
    assert f"fakeimg audit '{tmp_path}/my set' shows them" in note
    assert 'prepare keeps them on one side' in note
    config.data.labels = ('original=real',)
    assert "my set' with the same label and columns shows" in partition.near_copies_notes(open_data(config), config)[0]
    config.data.split_version = 1
    assert partition.near_copies_notes(open_data(config), config) == []
    config.data.split_version = 2
    whole = data_of(train=split(['a'], [0]), validation=split(['b'], [1]))
    assert partition.near_copies_notes(whole, config) == []  # nothing was split off
