"""Near copies stay on one side of every split of a set that was prepared, here and when it is trained on."""

import io
import json
import pathlib

import numpy as np
import PIL.Image
import pytest

from fakeimg.auditing import checks, copies, duplicates, fingerprints
from fakeimg.auditing.audit import measure_data
from fakeimg.data import demo, records
from fakeimg.data.copies import PARTED
from fakeimg.data.datasets import open_path
from fakeimg.data.files import list_files
from tests.support.files import write_tree
from tests.support.sets import prepare


def variants(data: bytes) -> list[bytes]:
    """An image, and four near copies of it: compressed, enlarged, brightened, in another format."""
    image = PIL.Image.open(io.BytesIO(data))
    files = [io.BytesIO() for _ in range(4)]
    image.save(files[0], 'JPEG', quality=50)
    image.resize((96, 96), PIL.Image.Resampling.BICUBIC).save(files[1], 'PNG')
    image.point([min(255, round(1.1 * level)) for level in range(256)] * 3).save(files[2], 'JPEG', quality=95)
    image.save(files[3], 'WEBP')
    return [data, *(file.getvalue() for file in files)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """30 faces five times each, by names that do not say so."""
    faces, tree = demo.DemoFaces('train', size=48, num_examples=30), {}
    for index in range(30):
        for number, data in enumerate(variants(faces[index])):
            name = np.random.default_rng(5 * index + number).integers(1 << 40)
            tree[f'{("real", "fake")[faces.labels[index]]}/{name:x}.img'] = data
    return pathlib.Path(write_tree(tmp_path_factory.mktemp('near') / 'faces', tree))


def leaks(path: pathlib.Path, fraction: float = 0.1) -> int:
    """Images of a later split with a near copy in an earlier one, as the audit counts them."""
    evidence = measure_data(open_path(str(path), fraction), workers=0)
    exact = copies.find_exact(evidence.images.facts)
    finding = next(checks.check_near_copies(evidence, exact))
    return sum(leak['count'] for leak in finding.details.get('leaks', ()))


def test_near_copies_are_on_one_side_of_the_splits_that_prepare_makes(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert leaks(folder) > 10  # a folder is split by names and bytes; training says so
    summary = prepare(folder, tmp_path / 'out')
    assert set(summary['counts']) == {'train', 'validation', 'test'}
    assert all(min(counts.values()) for counts in summary['counts'].values())
    assert leaks(tmp_path / 'out') == 0
    assert any('150 images are kept on one side' in note for note in summary['notes'])
    data = open_path(str(tmp_path / 'out'), 0.1)
    assert data.has_near_groups
    groups = [set(part.groups) for part in data.splits.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 30


def test_near_copies_are_on_one_side_of_what_training_splits_off(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Of a set with train and test, prepare makes no split; training takes validation from train."""
    (tmp_path / 'set').mkdir()
    (tmp_path / 'set/train').symlink_to(folder)
    (tmp_path / 'set/test').mkdir()
    for label in ('real', 'fake'):
        (tmp_path / 'set/test' / label).mkdir()
        for path in sorted((folder / label).iterdir())[:6]:
            (tmp_path / 'set/test' / label / path.name).write_bytes(path.read_bytes())
    prepare(tmp_path / 'set', tmp_path / 'out')
    data = open_path(str(tmp_path / 'out'), 0.2)
    assert len(data.splits['validation']) >= 20
    groups = {name: set(part.groups) - {''} for name, part in data.splits.items()}
    assert len(groups['train']) + len(groups['validation']) == 30
    assert not groups['train'] & groups['validation']
    assert not groups['test']  # given, and nobody's to change; the audit tells of its copies
    assert json.loads((tmp_path / 'out' / records.SUMMARY).read_text())['near_groups']


def test_wrong_matches_in_a_row_do_not_make_one_group_of_a_set(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chain(phash: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
        return np.stack([np.arange(len(phash) - 1), np.arange(1, len(phash))], axis=1)

    monkeypatch.setattr(duplicates, 'near_pairs', chain)
    summary = prepare(folder, tmp_path / 'out')
    assert all(min(counts.values()) >= 5 for counts in summary['counts'].values())
    assert any('150 images are linked by copies into groups that are too large' in note for note in summary['notes'])


def test_a_set_that_near_copies_would_make_indivisible_is_prepared_without_them(tmp_path: pathlib.Path) -> None:
    faces, tree = demo.DemoFaces('train', size=48, num_examples=40), {}
    for index in range(40):
        if faces.labels[index] == 0:
            tree[f'real/{index}.jpg'] = faces[index]
    fakes = [faces[index] for index in range(40) if faces.labels[index]][:2]
    for which, data in enumerate(fakes):
        tree |= {f'fake/{which} {number}.jpg': copy for number, copy in enumerate(variants(data))}
    summary = prepare(write_tree(tmp_path / 'set', tree), tmp_path / 'out')
    assert set(summary['counts']) == {'train', 'validation', 'test'}
    assert PARTED in summary['notes']
    assert not summary['near_groups']


def test_copies_are_those_of_the_audit_however_many_processes_look(folder: pathlib.Path) -> None:
    data = open_path(str(folder))
    facts = measure_data(data, workers=0).images.facts
    exact = copies.find_exact(facts)
    found = fingerprints.find_copies(list_files(str(folder)), workers=0)
    assert data.splits['train'].names == list_files(str(folder)).names
    np.testing.assert_array_equal(found.exact, exact.pixels)
    np.testing.assert_array_equal(found.near, copies.find_near(facts, exact))
