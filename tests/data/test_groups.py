"""Frames of a video and images of a person stay together, whether folders or the stems of file names say so."""

import collections
import pathlib
import subprocess
import sys
from collections.abc import Iterable, Mapping

import pytest

from fakeimg.data.datasets import DataSet, open_path
from fakeimg.data.layouts import Listing, read_listing
from fakeimg.data.splits import ImpossibleSplit
from tests.support.files import write_tree


def read(path: pathlib.Path, names: Iterable[str]) -> Listing:
    return read_listing(write_tree(path / 'set', {name: name.encode() for name in names}))


def groups_of(listing: Listing) -> dict[str, str]:
    return dict(zip(listing.files.names, listing.groups, strict=True))


def split(path: pathlib.Path, names: Iterable[str], fraction: float = 0.1) -> DataSet:
    return open_path(write_tree(path / 'set', {name: name.encode() for name in names}), fraction)


def check_whole(data: DataSet) -> Mapping[str, set[str]]:
    """Every split has both classes, and no group is in two of them; returns the groups."""
    groups = {name: set(part.groups) - {''} for name, part in data.splits.items()}
    assert set(groups) == {'train', 'validation', 'test'}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values()))
    for part in data.splits.values():
        assert set(part.labels.tolist()) == {0, 1}
    return groups


FORENSICS = [
    *(f'original_sequences/youtube/c23/frames/{v:03}/{k:04}.png' for v in range(20) for k in range(3)),
    *(f'manipulated_sequences/{method}/c23/frames/{v:03}_{v ^ 1:03}/{k:04}.png'
      for method in ('Deepfakes', 'NeuralTextures') for v in range(20) for k in range(3)),
]  # fmt: skip


def test_a_forgery_belongs_to_the_videos_that_it_was_made_of(tmp_path: pathlib.Path) -> None:
    listing = read(tmp_path, FORENSICS)
    groups = groups_of(listing)
    assert set(listing.generators) == {'youtube', 'Deepfakes', 'NeuralTextures'}
    assert len(set(groups.values())) == 10
    swapped = groups['manipulated_sequences/Deepfakes/c23/frames/004_005/0000.png']
    assert swapped == groups['original_sequences/youtube/c23/frames/004/0002.png']
    assert swapped == groups['original_sequences/youtube/c23/frames/005/0001.png']
    assert swapped != groups['original_sequences/youtube/c23/frames/006/0001.png']
    assert '10 groups found by name (180 images' in ' '.join(listing.notes)
    check_whole(split(tmp_path, FORENSICS))


@pytest.mark.parametrize(
    ('pattern', 'stem'),
    [
        ('{known}/vid{video:03}_frame{frame:03}.jpg', 'vid003'),
        ('{known}/clip-{video}-{frame:04}.png', 'clip-3'),
        ('{known}/Actor_{video:02} take {frame}.jpg', 'Actor_03'),
        ('{known}/s{video:03}_{frame}.png', 's003'),
        ('{known}/{video:03}_frame_{frame}.png', '003'),
        ('{known}/video_{video:04}/{frame}.jpg', 'video_0003'),
        ('{known}/set/person{video:02}/crops/{frame}.jpg', 'person03'),
    ],
)
def test_frames_of_one_video_are_a_group(tmp_path: pathlib.Path, pattern: str, stem: str) -> None:
    names = [
        pattern.format(known=known, video=video + 50 * (known == 'fake'), frame=frame)
        for known in ('real', 'fake') for video in range(12) for frame in range(5)
    ]  # fmt: skip
    groups = collections.Counter(read(tmp_path, names).groups)
    assert groups[stem] == 5
    assert len(groups) == 24
    assert '' not in groups
    assert set.union(*check_whole(split(tmp_path, names)).values()) == set(groups)


@pytest.mark.parametrize(
    'pattern',
    ['{index:06}.jpg', '{known}_{index:04}.jpg', '{known}.{index}.png', 'image {index}.jpg', 'IMG-{index:05}.jpg'],
)
def test_images_that_are_numbered_throughout_have_no_group(tmp_path: pathlib.Path, pattern: str) -> None:
    names = [f'{known}/{pattern.format(known=known, index=index)}' for known in ('real', 'fake') for index in range(30)]
    listing = read(tmp_path, names)
    assert set(listing.groups) == {''}
    assert listing.notes == []


def test_people_by_name_are_groups_and_words_for_any_image_are_not(tmp_path: pathlib.Path) -> None:
    people = [
        f'{first}_{last}' for first in ('Ana', 'Bo', 'Cem', 'Dee', 'Eva') for last in ('Li', 'Roy', 'Sax', 'Ude', 'Vos')
    ]
    names = [
        f'{known}/{person}_{index:04}.jpg' for known in ('real', 'fake') for person in people for index in range(3)
    ]
    others = [f'real/{word}_{index:04}.jpg' for word in ('photo', 'face', 'sample image') for index in range(5)]
    groups = groups_of(read(tmp_path, [*names, *others]))
    assert {groups[name] for name in names} == set(people)
    assert {groups[name] for name in others} == {''}


def test_few_sources_of_one_class_beside_many_groups_of_the_other_are_split_too(tmp_path: pathlib.Path) -> None:
    fakes = [f'fake/gen{gen:02}/{index}.jpg' for gen in range(40) for index in range(4)]
    data = split(tmp_path, [*fakes, *(f'real/coco/{index}.jpg' for index in range(160))])
    assert len(set.union(*check_whole(data).values())) == 40
    for name in ('validation', 'test'):
        assert 12 <= min(collections.Counter(data.splits[name].labels.tolist()).values())


def test_a_split_that_would_lack_a_class_is_refused_with_what_to_type(tmp_path: pathlib.Path) -> None:
    reals = [f'real/video_{video:02}/{frame}.jpg' for video in range(30) for frame in range(4)]
    fakes = [f'fake/video_{video}/{frame}.jpg' for video in (90, 91) for frame in range(20)]
    with pytest.raises(
        ImpossibleSplit, match=r'would have no fake images .*2 groups.*whole.*train, validation and test'
    ):
        split(tmp_path, [*reals, *fakes])
    with pytest.raises(ImpossibleSplit, match=r'would have no real images \(the 1 images are too few\)'):
        split(tmp_path / 'few', ['real/a.jpg', *(f'fake/{index}.jpg' for index in range(30))])


def test_opening_data_imports_no_scipy() -> None:
    """Every process that decodes or prepares images starts with this import."""
    code = "import sys, fakeimg.data.datasets, fakeimg.preparing.shards; assert not {'scipy', 'jax'} & set(sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.parametrize('pattern', ['{known}/{video:03}/{frame:04}.png', '{known}/x/{video}/frame_{frame}.jpg'])
@pytest.mark.parametrize('count', [4, 5])
def test_a_few_numbered_folders_of_frames_are_videos(tmp_path: pathlib.Path, pattern: str, count: int) -> None:
    names = [
        pattern.format(known=known, video=video, frame=frame)
        for known in ('real', 'fake') for video in range(count) for frame in range(8)
    ]  # fmt: skip
    listing = read(tmp_path, names)
    assert set(collections.Counter(listing.groups).values()) == {16}
    check_whole(split(tmp_path, names))
    before = read_listing(str(tmp_path / 'set'), few_videos=False)  # as runs of before were split
    assert set(before.groups) == {''}


@pytest.mark.parametrize(
    'folders',
    [('256', '512', '1024'), ('1.4', '1.5'), ('2', '3', 'sdxl'), ('stylegan', 'stylegan2', 'stylegan3'), ('v1', 'v2')],
)
def test_a_few_generators_stay_generators(tmp_path: pathlib.Path, folders: tuple[str, ...]) -> None:
    names = [
        f'{known}/{folder}/{index:04}.png' for known in ('real', 'fake') for folder in folders for index in range(9)
    ]
    listing = read(tmp_path, names)
    assert set(listing.generators) == set(folders)
    assert set(listing.groups) == {''}


def test_a_few_numbered_chunks_of_images_that_are_numbered_throughout_are_no_videos(tmp_path: pathlib.Path) -> None:
    names = [
        f'{known}/{chunk:03}/{chunk * 10 + i:05}.png'
        for known in ('real', 'fake')
        for chunk in range(4)
        for i in range(10)
    ]
    assert set(read(tmp_path, names).groups) == {''}
