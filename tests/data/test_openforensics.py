import json
import math
import time
from typing import Any

import numpy as np
import PIL.Image
import pytest

from fakeimg.data import openforensics
from fakeimg.data.decode import decode_rgb
from fakeimg.data.openforensics import (
    BadBox,
    Box,
    Face,
    Photo,
    PhotoNames,
    crop_face,
    find_annotations,
    read_annotations,
)
from fakeimg.errors import UserError
from tests.support.coco import CATEGORIES, coco, face, noise, photo, png


def read(data: bytes, names: list[str], split: str = 'train', min_face: int = 8, name: str = 'Train_poly.json'):
    return read_annotations(data, name, split, PhotoNames(names), min_face)


def mirrored(position: int, length: int) -> int:
    """Walks back and forth between the ends, one bounce at a time."""
    if length == 1:
        return 0
    while not 0 <= position < length:
        position = -position if position < 0 else 2 * (length - 1) - position
    return position


def slow_square(image: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    height, width = image.shape[:2]
    square = np.empty((side, side, 3), np.uint8)
    for y in range(side):
        for x in range(side):
            square[y, x] = image[mirrored(top + y, height), mirrored(left + x, width)]
    return square


def slow_crop(image: np.ndarray, top: int, left: int, side: int, size: int) -> np.ndarray:
    square = PIL.Image.fromarray(slow_square(image, top, left, side))
    return np.asarray(square if side == size else square.resize((size, size), PIL.Image.Resampling.LANCZOS))


A, B, C = noise(60, 80, 1), noise(40, 30, 2), noise(50, 50, 3)
FILES = {
    'of/Images/Train/a.jpg': png(A),
    'of/Images/Train/b.jpg': png(B),
    'of/Images/Val/c.jpg': png(C),
    'of/Train_poly.json': coco(
        [
            photo(7, 'Images/Train/a.jpg'),
            photo(3, 'Images/Train/b.jpg'),
            photo(5, 'Images/Train/gone.jpg'),
        ],
        [
            face(11, 3, 1, 20, 30, 16, 20),  # over the right and the lower border
            face(12, 7, 0, 30.0, 20, 15, 10),
            face(13, 7, 1, -6, -5, 12, 12),  # over the left and the upper border
            face(14, 7, 1, 40, 40, 7, 7.5),
            face(15, 7, 1, 10, 10, 20, 20, iscrowd=1, segmentation={'counts': [3, 1], 'size': [9, 9]}),
            face(16, 5, 0, 10, 10, 20, 20),
            face(17, 7, 1, 50, 30, 7, 8),
        ],
    ),
    # Its ids are those of the training photos; category 1 comes first and is still the fake one.
    'of/Val_poly.json': coco([photo(7, 'Images/Val/c.jpg')], [face(11, 7, 1, 20, 20, 10, 10)], CATEGORIES[::-1]),
}


def test_set_is_read_and_cropped_pixel_for_pixel() -> None:
    annotations = find_annotations(list(FILES))
    assert annotations == {'train': 'of/Train_poly.json', 'validation': 'of/Val_poly.json'}
    photo_names = PhotoNames(FILES)
    photos, counts = [], {}
    for split, name in annotations.items():
        found, counts[split] = read_annotations(FILES[name], name, split, photo_names, 8)
        photos += found
    assert [(photo.name, photo.image_id, photo.split) for photo in photos] == [
        ('of/Images/Train/a.jpg', '7', 'train'),
        ('of/Images/Train/b.jpg', '3', 'train'),
        ('of/Images/Val/c.jpg', '7', 'validation'),
    ]
    crops = {
        (photo.split, face.annotation): (face.label, crop_face(decode_rgb(FILES[photo.name]), face.box, 1.3, 20))
        for photo in photos
        for face in photo.faces
    }
    expected = {
        ('train', '12'): (0, A, 15, 28, 20),  # side 19.5 -> 20; top 25 - 10, left 37.5 - 10 = 27.5 -> 28
        ('train', '13'): (1, A, -7, -8, 16),  # side 15.6 -> 16; left 0 - 8, top 1 - 8
        ('train', '17'): (1, A, 29, 48, 10),  # side 10.4 -> 10; left 53.5 - 5 = 48.5 -> 48
        ('train', '11'): (1, B, 27, 15, 26),
        ('validation', '11'): (1, C, 18, 18, 13),  # left 25 - 6.5 = 18.5 -> 18
    }
    assert list(crops) == list(expected)
    for key, (label, image, top, left, side) in expected.items():
        assert crops[key][0] == label
        np.testing.assert_array_equal(crops[key][1], slow_crop(image, top, left, side, 20), str(key))
    train = counts['train']
    assert train.listed_and_found() == [('photos', 3, 2), ('real faces', 2, 1), ('fake faces', 5, 3)]
    assert train.left_out() == {
        'photos missing': 1, 'faces on missing photos': 1, 'faces under 8 px': 1, 'crowds': 1,
    }  # fmt: skip
    assert train.first_missing == 'Images/Train/gone.jpg'
    assert counts['validation'].left_out() == {}


@pytest.mark.parametrize(
    ('categories', 'labels'),
    [
        (CATEGORIES, [0, 1]),
        ([{'id': 0, 'name': 'fake'}, {'id': 1, 'name': 'REAL'}], [1, 0]),
        ([{'id': 1, 'name': 'Real'}, {'id': 0, 'name': 'Forged'}, {'id': 2, 'name': 'background'}], [1, 0]),
    ],
)
def test_categories_go_by_name_not_by_number(categories: list, labels: list[int]) -> None:
    faces = [face(0, 0, 0, 1, 1, 9, 9), face(1, 0, 1, 1, 1, 9, 9), face(2, 0, 2, 1, 1, 9, 9)]
    photos, counts = read(coco([photo(0, 'a.jpg')], faces, categories), ['a.jpg'])
    assert [face.label for face in photos[0].faces] == labels
    assert (counts.real_found, counts.fake_found, counts.broken) == (1, 1, 1)


BROKEN_BOXES = [
    [], [1, 1, 9], [1, 1, 9, 9, 9], [1, 1, 9, '9'], [1, 1, 9, None], [1, 1, 9, True], [1, 1, 9, math.nan], {'x': 1},
    [1, 1, 9, math.inf], [10**400, 1, 9, 9], [1, -1e300, 9, 9], [1, 1, 0, 9], [1, 1, 9, -9], None, 'box',
]  # fmt: skip
BROKEN_FACES = [
    *('a sentence', None, []),
    *(face(0, 0, 0, bbox=box) for box in BROKEN_BOXES),
    {'id': 0, 'image_id': 0, 'category_id': 0},
    {'id': 0, 'image_id': 0, 'bbox': [1, 1, 9, 9]},
    {'id': 0, 'category_id': 0, 'bbox': [1, 1, 9, 9]},
    *(face(0, 0, category, 1, 1, 9, 9) for category in (5, True, [0])),
    *(face(0, image_id, 0, 1, 1, 9, 9) for image_id in (1, {})),
    face(0, 1, 0, 1, 1, 9, 9, iscrowd=1),
]


@pytest.mark.parametrize('entry', BROKEN_FACES, ids=str)
def test_broken_face_is_counted_and_harms_no_other(entry: Any) -> None:
    good = face(3, 0, 1, 1, 1, 9, 9)
    photos, counts = read(coco([photo(0, 'a.jpg')], [entry, good]), ['a.jpg'])
    assert photos == [Photo('a.jpg', '0', 'train', (Face(1, (1.0, 1.0, 9.0, 9.0), '3'),))]
    assert (counts.faces_listed, counts.broken, counts.fake_listed, counts.fake_found) == (2, 1, 1, 1)
    assert counts.left_out() == {'broken face entries': 1}


def test_every_face_and_every_photo_is_counted_once() -> None:
    images = [
        photo(0, 'a.jpg'),
        photo(1, 'gone.jpg'),
        photo(2, 'b.jpg'),
        photo(3, None),
        'x',
        photo(None, 'a.jpg'),
    ]
    tiny = [face(1, 1, 0, 0, 0, 2, 2), face(2, 2, 0, 0, 0, 2, 2), face(3, 2, 0, 0, 0, 2, 2, iscrowd=1)]
    good = [face(4, 0, 0, 0, 0, 9, 9), face(5, 0, 1, 0, 0, 9, 9), face(6, 3, 1, 0, 0, 9, 9)]
    photos, counts = read(coco(images, [*BROKEN_FACES[:-3], *tiny, *good]), ['a.jpg', 'b.jpg'])
    assert counts.faces_listed == len(BROKEN_FACES[:-3]) + 6
    assert (counts.real_found, counts.fake_found, counts.on_missing_photos) == (1, 1, 1)
    assert (counts.crowds, counts.small, counts.broken) == (1, 2, len(BROKEN_FACES[:-3]))
    assert (counts.photos_listed, counts.photos_missing, counts.photos_broken) == (6, 2, 2)
    assert (counts.photos_without_faces, len(photos)) == (1, 1)


def test_face_is_small_by_its_longer_side() -> None:
    faces = [face(1, 0, 0, 0, 0, 8, 2), face(2, 0, 0, 0, 0, 7.9, 7.9)]
    photos, counts = read(coco([photo(0, 'a.jpg')], faces), ['a.jpg'])
    assert [face.annotation for face in photos[0].faces] == ['1']
    assert counts.small == 1


def test_id_given_to_two_files_belongs_to_neither() -> None:
    images = [photo(0, 'a.jpg'), photo(0, 'b.jpg'), photo(1, 'a.jpg'), photo(1, 'a.jpg')]
    faces = [face(0, 0, 0, 1, 1, 9, 9), face(1, 1, 0, 1, 1, 9, 9)]
    photos, counts = read(coco(images, faces), ['a.jpg', 'b.jpg'])
    assert [(photo.name, photo.image_id) for photo in photos] == [('a.jpg', '1')]
    assert (counts.photos_broken, counts.broken) == (3, 1)


def test_missing_and_repeated_annotation_ids_are_told_apart() -> None:
    faces = [face(id_, 0, 0, 1, 1, 9, 9) for id_ in (4, 4, None, 'x', 1.5)]
    photos, _ = read(coco([photo(0, 'a.jpg')], faces), ['a.jpg'])
    assert [face.annotation for face in photos[0].faces] == ['4', '#1', '#2', 'x', '#4']


def test_polygons_are_dropped_while_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    loads, parsed = json.loads, []
    monkeypatch.setattr(json, 'loads', lambda *args, **options: parsed.append(loads(*args, **options)) or parsed[0])
    read(FILES['of/Train_poly.json'], [])
    assert len(parsed[0]['annotations']) == 7
    assert not any('segmentation' in entry for entry in parsed[0]['annotations'])


LISTS = r'lacks one of the lists categories, images, annotations; download it again\.$'


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (b'', r'^Train_poly\.json cannot be read as JSON \(.*\); download it again\.$'),
        (FILES['of/Train_poly.json'][:-9], r'cannot be read as JSON \(.*\); download it again\.$'),
        (b'\xff\xfe\x00', r'cannot be read as JSON'),
        (b'[' * 200_000, r'cannot be read as JSON'),
        (b'[]', LISTS),
        (b'{"categories": [], "images": []}', LISTS),
        (b'{"categories": [], "images": [], "annotations": {}}', LISTS),
        (
            coco([], [], []),
            r'^the "categories" of Train_poly\.json do not say what is real \(real, .*correct their names\.$',
        ),
        (coco([], [], [{'id': 0, 'name': 'face'}, {'id': {}, 'name': 'real'}, 'real', {'id': 1}]), r'do not say'),
        (coco([], [], [{'id': 0, 'name': 'real'}, {'id': 0, 'name': 'fake'}]), r'do not say what is real'),
    ],
)
def test_unusable_annotations_say_what_to_do(data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(data, [])


def test_annotations_are_found_by_official_name_at_any_depth() -> None:
    names = ['x/y/TEST-challenge_poly.json', 'Test-Dev_poly.json', 'x/Val_poly.json', 'Train_poly.json', 'a/Train.json']
    noise_of_macos = ['._Train_poly.json', '__MACOSX/x/Val_poly.json']
    found = find_annotations(names + noise_of_macos)
    assert list(found.items()) == [
        ('train', 'Train_poly.json'),
        ('validation', 'x/Val_poly.json'),
        ('test', 'Test-Dev_poly.json'),
        ('test_challenge', 'x/y/TEST-challenge_poly.json'),
    ]
    assert find_annotations(['train/real/1.jpg', 'instances.json']) == {}


def test_annotations_that_clash_or_name_no_split_say_what_to_do() -> None:
    with pytest.raises(UserError, match=r'^a/Val_poly\.json and b/val_poly\.json claim the same split; move one'):
        find_annotations(['b/val_poly.json', 'a/Val_poly.json'])
    with pytest.raises(
        UserError, match=r'^a/Test_poly\.json names no split of OpenForensics; call it one of Train_poly'
    ):
        find_annotations(['a/Test_poly.json', 'Train_poly.json'])


@pytest.mark.parametrize(
    ('names', 'found'),
    [
        (['of/Images/Train/a.jpg', 'Images/Train/a.jpg', 'Train/a.jpg'], 'of/Images/Train/a.jpg'),
        (['x/Images/Train/a.jpg', 'Images/Train/a.jpg', 'Train/a.jpg'], 'Images/Train/a.jpg'),
        (['x/y/Train/a.jpg', 'x/y/Val/a.jpg', 'a.jpg'], 'x/y/Train/a.jpg'),
        (['Train/a.jpg'], 'Train/a.jpg'),
        (['x/train/a.jpg'], 'x/train/a.jpg'),
        ([f'{prefix}/Train/a.jpg' for prefix in ('z', 'b', 'a/b', *'cdefghijklmnop')], 'b/Train/a.jpg'),
        (['Val/a.jpg', 'a.jpg', 'Train/b.jpg', 'Train/a.jpg/b', 'xTrain/a.jpg', 'Train/A.jpg'], None),
        ([], None),
    ],
)
def test_photo_is_looked_up_beside_the_annotations_then_at_the_root_then_by_split(names, found) -> None:
    assert PhotoNames(names).find('Images/Train/a.jpg', 'train', 'of') == found
    assert PhotoNames(reversed(names)).find('Images/Train/a.jpg', 'train', 'of') == found


@pytest.mark.parametrize(
    'file_name',
    ['../Train/a.jpg', '/Train/a.jpg', './a.jpg', 'x/../a.jpg', 'Train//a.jpg', 'C:/Train/a.jpg', 'Train\\a.jpg',
     'a.jpg/', '', '.', '..', None, 5, ['a.jpg'], {}],
)  # fmt: skip
def test_odd_file_name_is_found_only_under_that_very_name(file_name: Any) -> None:
    names = ['Train/a.jpg', 'a.jpg', 'of/a.jpg', 'of/Train/a.jpg']
    for folder in ('', 'of'):
        assert PhotoNames(names).find(file_name, 'train', folder) is None
        if file_name and isinstance(file_name, str):
            assert PhotoNames([*names, file_name]).find(file_name, 'train', folder) == file_name
    photos, counts = read(coco([photo(0, file_name)], [face(0, 0, 0, 1, 1, 9, 9)]), names)
    assert (photos, counts.photos_missing, counts.on_missing_photos) == ([], 1, 1)


def test_lookup_does_not_scan() -> None:
    photo_names = PhotoNames([f'x/y/Images/Train/{i}.jpg' for i in range(20_000)])
    start = time.perf_counter()
    for i in range(20_000):
        assert photo_names.find(f'Images/Train/{i}.jpg', 'train', 'of') == f'x/y/Images/Train/{i}.jpg'
    assert time.perf_counter() - start < 5  # a scan would take minutes


@pytest.mark.parametrize(
    ('shape', 'box', 'margin', 'top', 'left', 'side'),
    [
        ((30, 40), (10, 8, 12, 6), 1.0, 5, 10, 12),  # inside, even side
        ((30, 40), (10, 8, 6, 11), 1.0, 8, 8, 11),  # left 13 - 5.5 = 7.5 -> 8, top 13.5 - 5.5
        ((30, 40), (11, 8, 6, 11), 1.0, 8, 8, 11),  # left 14 - 5.5 = 8.5 -> 8
        ((30, 40), (10, 10, 3, 3), 1.5, 10, 10, 4),  # side 4.5 -> 4; left 11.5 - 2 = 9.5 -> 10
        ((30, 40), (10, 10, 5, 5), 1.5, 8, 8, 8),  # side 7.5 -> 8; left 12.5 - 4 = 8.5 -> 8
        ((30, 40), (10.2, 10.7, 9.6, 5), 1.0, 8, 10, 10),  # left 15 - 5, top 13.2 - 5 = 8.2
        ((30, 40), (0, 0, 40, 30), 1.0, -5, 0, 40),
        ((30, 40), (35, 25, 10, 10), 1.3, 24, 34, 13),  # centre 40, 30: 33.5 -> 34, 23.5 -> 24
        ((30, 40), (-9.5, 3, 10, 4), 2.0, -5, -14, 20),  # left -4.5 - 10 = -14.5 -> -14
        ((5, 4), (1, 1, 2, 2), 30.0, -28, -28, 60),  # many times larger than the image
        ((1, 7), (2, 0, 3, 1), 3.0, -4, -1, 9),  # one pixel high: top 0.5 - 4.5 = -4, left 3.5 - 4.5 = -1
        ((7, 1), (0, 2, 1, 3), 3.0, -1, -4, 9),
        ((1, 1), (0, 0, 1, 1), 11.0, -5, -5, 11),
        ((2, 2), (0, 0, 2, 2), 5.0, -4, -4, 10),
        ((30, 40), (10, 10, 0.25, 0.25), 1.0, 10, 10, 1),  # at least one pixel
        ((30, 40), (39.5, 29.5, 500, 20), 0.05, 27, 277, 25),  # the square is beyond the border, the box is not
    ],
)
def test_crop_equals_slow_reflection(
    shape: tuple[int, int], box: Box, margin: float, top: int, left: int, side: int
) -> None:
    image = noise(*shape)
    np.testing.assert_array_equal(crop_face(image, box, margin, side), slow_square(image, top, left, side))
    np.testing.assert_array_equal(crop_face(image, box, margin, 17), slow_crop(image, top, left, side, 17))


def test_crop_over_the_border_equals_numpy_pad() -> None:
    image = noise(12, 12)
    padded = np.pad(image, ((40, 40), (40, 40), (0, 0)), 'reflect')
    np.testing.assert_array_equal(crop_face(image, (0, 0, 12, 12), 92 / 12, 92), padded)


def test_crop_outlives_the_image() -> None:
    image = noise(20, 20)
    crop = crop_face(image, (0, 0, 20, 20), 1.0, 20)
    assert not np.shares_memory(crop, image)
    crop[...] = 0  # writable, whichever way it was made
    crop_face(image, (0, 0, 20, 20), 1.0, 8)[...] = 0
    np.testing.assert_array_equal(image, noise(20, 20))


@pytest.mark.parametrize('box', [(40, 0, 5, 5), (0, 30, 5, 5), (-5, 0, 5, 5), (0, -5.5, 5, 5), (1e9, 1e9, 1e9, 1e9)])
def test_box_outside_the_image_is_a_bad_box(box: Box) -> None:
    with pytest.raises(BadBox, match=r'lies outside the image of 40 x 30 px'):
        crop_face(noise(30, 40), box, 1.3, 8)


def test_huge_box_is_a_bad_box_and_costs_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for longer in (1e9, 1e308):
        with pytest.raises(BadBox, match=r'with margin 1\.3 asks for more than \d+ px'):
            crop_face(noise(30, 40), (0, 0, longer, 5), 1.3, 8)
    monkeypatch.setattr(openforensics, 'MAX_PIXELS', 400)
    assert crop_face(noise(30, 40), (0, 0, 20, 5), 1.0, 8).shape == (8, 8, 3)
    with pytest.raises(BadBox):
        crop_face(noise(30, 40), (0, 0, 20.1, 5), 1.0, 8)
