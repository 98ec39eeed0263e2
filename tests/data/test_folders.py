"""What the names of folders say: classes and splits as whole names and by words in them, and names that say neither."""

import collections
import pathlib
from collections.abc import Sequence

import pytest

from fakeimg.data import names as names_lib
from fakeimg.data.labels import CLASS_NAMES, class_names
from fakeimg.data.layouts import Listing, read_listing
from fakeimg.errors import UserError
from tests.support.files import write_tree

REAL, FAKE = 0, 1


def read(path: pathlib.Path, folders: Sequence[str], labels: Sequence[str] = ()) -> Listing:
    tree = {f'{folder}/{index}.jpg': b'' for folder in folders for index in range(2)}
    return read_listing(write_tree(path / 'set', tree), class_names(labels))


def meanings(listing: Listing) -> dict[str, tuple[str | None, int]]:
    rows = zip(listing.files.names, listing.splits, listing.labels.tolist(), strict=True)
    return {name.rpartition('/')[0]: (split, label) for name, split, label in rows}


@pytest.mark.parametrize(
    ('train', 'test'),
    [
        ('training_set', 'test_set'),
        ('train_images', 'Test Images'),
        ('train2017', 'test2017'),
        ('Train-v2', 'testing-v2'),
        ('myTrain', 'myTest'),
        ('cifar_train', 'cifar_test'),
    ],
)
def test_splits_are_read_by_a_word_above_the_classes(tmp_path: pathlib.Path, train: str, test: str) -> None:
    listing = read(tmp_path, [f'{split}/{known}' for split in (train, test) for known in ('real', 'fake')])
    assert meanings(listing) == {
        f'{train}/real': ('train', REAL), f'{train}/fake': ('train', FAKE),
        f'{test}/real': ('test', REAL), f'{test}/fake': ('test', FAKE),
    }  # fmt: skip
    assert f'{train!r} as train' in listing.notes[0]


@pytest.mark.parametrize('pattern', ['{}_{}', '{1}-{0}', '{}_{}_images', '{0}/{1}_photos', 'crops/{1} ({0})'])
def test_one_name_can_say_split_and_class(tmp_path: pathlib.Path, pattern: str) -> None:
    pairs = {pattern.format(split, name): (split, label) for split in ('train', 'test')
             for name, label in (('real', REAL), ('fake', FAKE))}  # fmt: skip
    assert meanings(read(tmp_path, list(pairs))) == pairs


def test_names_in_camel_case_and_a_numbered_validation_split(tmp_path: pathlib.Path) -> None:
    camel = read(tmp_path / 'camel', ['realTrain', 'FakeTrain', 'realTest', 'FakeTest'])
    assert meanings(camel) == {
        'realTrain': ('train', REAL), 'FakeTrain': ('train', FAKE),
        'realTest': ('test', REAL), 'FakeTest': ('test', FAKE),
    }  # fmt: skip
    folders = [f'{split}/{known}' for split in ('train', 'Validation-v2', 'test') for known in ('real', 'fake')]
    splits = {name.split('/')[0]: split for name, (split, _) in meanings(read(tmp_path, folders)).items()}
    assert splits == {'train': 'train', 'Validation-v2': 'validation', 'test': 'test'}


@pytest.mark.parametrize(
    ('real', 'fake'),
    [
        ('training_real', 'training_fake'),
        ('real_images', 'fake_images'),
        ('Original', 'Deepfakes'),
        ('real_ffhq', 'fake_sdxl'),
        ('Celeb-real', 'Celeb-synthesis'),
        ('RealFaces', 'FakeFaces'),
        ('authentic photos', 'tampered'),
        ('class_real', 'class_forged'),
        ('AI/real', 'AI/fake'),
        ('coco_train2017/real', 'FLUX.1-dev/fake'),
        ('fake_project/data/real', 'fake_project/data/fake'),
        ('deepfake_detection/pristine', 'deepfake_detection/manipulated'),
        ('real/coco_train2017', 'fake/sdxl'),
        ('real/test-shots', 'fake/FLUX.1-dev'),
        ('real/ffhq', 'fake/real-esrgan'),
        ('real/imagenet', 'fake/RealVisXL'),
    ],
)
def test_classes_without_splits(tmp_path: pathlib.Path, real: str, fake: str) -> None:
    assert meanings(read(tmp_path, [real, fake])) == {real: (None, REAL), fake: (None, FAKE)}


def test_words_below_a_class_that_part_only_one_class_name_sources(tmp_path: pathlib.Path) -> None:
    folders = ['real/coco_train2017', 'real/coco_val2017', 'fake/sdxl', 'fake/sdxl-test']
    listing = read(tmp_path, folders)
    assert {split for split, _ in meanings(listing).values()} == {None}
    assert set(listing.generators) == {folder.split('/')[1] for folder in folders}


@pytest.mark.parametrize(
    'name', ['RealVisXL', 'real-esrgan', 'RealNVP', 'not_real', 'real_vs_fake', 'unreal', 'realistic', 'train', 'ffhq']
)
def test_names_that_say_no_class(name: str) -> None:
    assert names_lib.class_of(name, CLASS_NAMES) is None


@pytest.mark.parametrize(
    'name', ['FLUX.1-dev', 'trained_gan', 'contest', 'trainstation', 'train_test', 'latest', 'eval']
)
def test_names_that_say_no_split(name: str) -> None:
    assert names_lib.split_of(name) is None


@pytest.mark.parametrize(
    ('folders', 'message'),
    [
        (['training_set', 'holdout_set'], 'holdout_set/.* belongs to no split while other folders do'),
        (['train', 'unseen'], 'unseen/.* belongs to no split while other folders do'),
        (['fold_1', 'fold_2'], "the folder 'fold_1', which looks like a split that is not understood; name it train"),
        (['part_for_training', 'part_for_tuning'], 'part_for_tuning/.* belongs to no split'),
        (['ffhq_train', 'ffhq_holdout'], "the folder 'ffhq_holdout', which looks like a split"),
    ],
)
def test_siblings_that_look_like_splits_are_refused(tmp_path: pathlib.Path, folders: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, [f'{folder}/{known}' for folder in folders for known in ('real', 'fake')])


@pytest.mark.parametrize('folders', [('RealVisXL', 'real'), ('real-esrgan', 'photos'), ('0', '1'), ('edited', 'raw')])
def test_unknown_classes_are_refused_with_what_to_type(tmp_path: pathlib.Path, folders: tuple[str, str]) -> None:
    with pytest.raises(UserError, match='the classes of .* are unknown') as caught:
        read(tmp_path, folders)
    proposed = dict(item.split('=') for flag, item in caught.value.add if flag == 'label')
    assert set(proposed) == {name for name in folders if name != 'real'}
    labels = [f'{name}={known}' for name, known in proposed.items()]
    counts = collections.Counter(read(tmp_path, folders, labels).labels.tolist())
    assert counts == {REAL: 2, FAKE: 2}  # what is proposed can be typed
