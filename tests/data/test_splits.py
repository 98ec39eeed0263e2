"""Which images make up a split: split off in whole groups, or sliced as TFDS slices."""

import pathlib

import numpy as np
import pytest

from fakeimg.config import Config
from fakeimg.data.datasets import DataSet, open_path
from fakeimg.data.splits import hash_order, read_slice, split_off
from fakeimg.errors import UserError
from fakeimg.training.program import build
from tests.support.sets import COUNTS, Sets, tfds_rows

SLICES = [
    'train[:10%]', 'train[90%:]', 'train[10%:37%]', 'train[-15%:]', 'train[:10]', 'train[7:23]', 'train[-5:]',
    'train[:3]+train[-3:]', 'train+test', 'train[:1%]', 'train[33%:38%]', 'train[:10]+test[50%:]', 'train[:100%]',
]  # fmt: skip


def split_off_groups(sizes: dict[str, int], labels: dict[str, list[int]], fraction: float) -> dict[str, set[bool]]:
    """Returns, for each group, whether its images were chosen."""
    groups = [group for group, size in sizes.items() for _ in range(size)]
    own = [labels[group][i % len(labels[group])] for group, size in sizes.items() for i in range(size)]
    names = [f'{i}.jpg' for i in range(len(groups))]
    chosen = split_off(names, np.array(own, np.int32), groups, 'validation', fraction)
    assert chosen.dtype == bool
    order = np.random.default_rng(0).permutation(len(names))  # the order of the names does not matter
    again = split_off(
        [names[i] for i in order], np.array(own)[order], [groups[i] for i in order], 'validation', fraction
    )
    np.testing.assert_array_equal(again, chosen[order])
    found: dict[str, set[bool]] = {}
    for group, is_chosen in zip(groups, chosen, strict=True):
        found.setdefault(group, set()).add(bool(is_chosen))
    return found


def test_carving_is_stratified_and_fixed() -> None:
    names = [f'{i}.jpg' for i in range(1000)]
    labels = np.array([i % 5 == 0 for i in range(1000)], np.int32)
    chosen = split_off(names, labels, [''] * 1000, 'validation', 0.1)
    assert np.bincount(labels[chosen]).tolist() == [80, 20]
    # The numbers of this very choice: whoever changes them changes everybody's validation split.
    assert np.flatnonzero(chosen)[:8].tolist() == [37, 38, 39, 42, 52, 76, 84, 98]
    other = split_off(names, labels, [''] * 1000, 'test', 0.1)
    assert 2 < (chosen & other).sum() < 25  # independent of each other


def test_carving_never_parts_a_group() -> None:
    rng = np.random.default_rng(1)
    sizes = {f'id{i}': int(rng.integers(1, 12)) for i in range(300)}
    labels = {group: [[0], [1], [0, 1]][i % 3] for i, group in enumerate(sizes)}
    found = split_off_groups(sizes, labels, 0.1)
    assert all(len(chosen) == 1 for chosen in found.values())
    for kind in ([0], [1], [0, 1]):
        own = {group: size for group, size in sizes.items() if labels[group] == kind and size > 0}
        share = sum(size for group, size in own.items() if True in found[group]) / sum(own.values())
        assert 0.1 <= share < 0.13  # at most one group too much


def test_a_huge_group_stays_in_train() -> None:
    sizes = {'huge': 5000, **{f'id{i}': 5 for i in range(100)}}
    found = split_off_groups(sizes, dict.fromkeys(sizes, [0]), 0.01)
    assert found['huge'] == {False}
    assert sum(5 for chosen in found.values() if chosen == {True}) == 55


@pytest.mark.parametrize(('count', 'chosen'), [(1, 0), (2, 0), (3, 1), (15, 2), (20, 2)])
def test_few_images_still_give_one_where_three_splits_are_possible(count: int, chosen: int) -> None:
    labels = np.zeros(count, np.int32)
    assert split_off([str(i) for i in range(count)], labels, [''] * count, 'validation', 0.1).sum() == chosen


def test_one_group_alone_is_not_split_off() -> None:
    assert split_off_groups({'a': 10}, {'a': [0, 1]}, 0.1) == {'a': {False}}


def test_hash_order_is_a_permutation_unrelated_to_the_names() -> None:
    names = [f'real/{i}.jpg' for i in range(500)] + [f'fake/{i}.jpg' for i in range(500)]
    order = hash_order(names)
    assert sorted(order) == list(range(1000))
    assert 200 < (order[:500] < 500).sum() < 300
    assert [names[i] for i in order] == [names[::-1][i] for i in hash_order(names[::-1])]
    assert hash_order(['\udce9', 'a']).shape == (2,)
    assert hash_order([]).shape == (0,)


@pytest.mark.parametrize('spec', SLICES)
def test_slices_are_those_of_tfds(sets: Sets, spec: str) -> None:
    expected = tfds_rows(sets.prepared, spec)
    rows = [expected[index] for index in range(len(expected))]
    for path in (sets.prepared, sets.folder):
        part = sets.open(path).get(spec)
        assert part.names == [row['name'].decode() for row in rows]
        assert part.labels.tolist() == [row['label'] for row in rows]
        assert [part[index] for index in range(len(part))] == [row['image'] for row in rows]


def test_a_whole_split_of_a_prepared_set_has_the_order_of_tfds(sets: Sets) -> None:
    rows = tfds_rows(sets.prepared, 'train')
    names = [rows[index]['name'].decode() for index in range(len(rows))]
    assert sets.open(sets.prepared).get('train').names == names
    folder = sets.open(sets.folder).get('train')
    assert [folder.names[index] for index in hash_order(folder.names)] == names


def test_a_slice_of_a_slice_keeps_what_belongs_to_an_image(sets: Sets) -> None:
    for path in (sets.prepared, sets.folder):
        part = sets.open(path).get('train[:10]+test[:10]').take(np.array([15, 3, 3]))
        for index, name in enumerate(part.names):
            assert part[index] == (sets.folder / name).read_bytes()
            assert part.labels[index] == ('/fake/' in name)
            assert (part.generators[index], part.groups[index]) == ('folder', '')


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        ('train[:0]', r"the split 'train\[:0\]' selects no images; widen it"),
        ('train[20:10]', 'selects no images'),
        ('train[50%:50%]', 'selects no images'),
        ('holdout', "there is no split 'holdout' in this data; it has train, test"),
        ('train+holdout[:5]', "there is no split 'holdout'"),
        ('train+', "there is no split ''"),
        ('', "there is no split ''"),
        ('all', "there is no split 'all'"),
        ('train[:110%]', r"the split 'train\[:110%\]' cannot be read .*; write it like train\[:10%\]"),
        ('train[:100000]', 'cannot be read .*incompatible with'),
        ('train[abc]', 'cannot be read'),
        ('train[', 'cannot be read'),
        ('train[::2]', 'cannot be read'),
        ('train[:1e3]', 'cannot be read'),
        ('train[:1shard]', 'counts shards; write it in images or percent'),
    ],
)
def test_empty_and_nonsense_slices_are_refused(sets: Sets, spec: str, message: str) -> None:
    for path in (sets.prepared, sets.folder):
        with pytest.raises(UserError, match=message) as refusal:
            sets.open(path).get(spec)
        assert '\n' not in str(refusal.value)


def test_a_split_that_is_named_as_it_is_needs_no_tfds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__('sys').modules, 'tensorflow_datasets.core', None)
    assert read_slice('train', {'train': 5}) == {'train': [slice(0, 5)]}


def test_carving_is_the_same_from_folder_archive_table_and_prepared_set(sets: Sets) -> None:
    expected: DataSet = open_path(str(sets.folder), 0.2)
    assert len(expected.splits['validation']) == round(0.2 * COUNTS['train'])
    for path in sets.paths:
        data = open_path(str(path), 0.2)
        for split, source in expected.splits.items():
            assert set(data.splits[split].names) == set(source.names), path
        assert data.notes == expected.notes


@pytest.mark.parametrize('kind', ['prepared', 'folder'])
def test_train_and_validation_may_not_share_images(sets: Sets, config: Config, kind: str) -> None:
    config.data.path = str(getattr(sets, kind))
    config.data.train_split, config.data.validation_split = 'train[:60%]', 'train[50%:]'
    with pytest.raises(UserError, match=r'train_split=train\[:60%\] and .* share 6 images; choose splits that have'):
        build(config)
    config.data.train_split = 'train[:50%]'
    setup = build(config)
    assert (len(setup.splits['train']), len(setup.splits['validation'])) == (30, 30)
    assert not set(setup.splits['train'].names) & set(setup.splits['validation'].names)


def test_images_by_name_stay_together_over_paths(tmp_path: pathlib.Path) -> None:
    names = [f'{c}/{i}.png' for c in ('real', 'fake') for i in range(30)]
    for root in ('a', 'b/c'):
        for name in names:
            (tmp_path / root / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / root / name).touch()
    first, second = (open_path(str(tmp_path / root), 0.2).splits for root in ('a', 'b/c'))
    assert {split: part.names for split, part in first.items()} == {split: part.names for split, part in second.items()}
