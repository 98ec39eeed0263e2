"""OpenForensics (Le et al., ICCV 2021), from names, bytes and pixels: its COCO-style annotations and face crops."""

import collections
import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from fakeimg.data.decode import MAX_PIXELS
from fakeimg.data.labels import CLASS_NAMES, LABELS, known_names
from fakeimg.errors import UserError

SPLITS = {'Train': 'train', 'Val': 'validation', 'Test-Dev': 'test', 'Test-Challenge': 'test_challenge'}
_SPLITS_BY_LOWER_NAME = {official.lower(): split for official, split in SPLITS.items()}
_FOLDERS = {split: official for official, split in _SPLITS_BY_LOWER_NAME.items()}
_SUFFIX = '_poly.json'
_FARTHEST = 1e9  # pixels; a box that goes farther is nonsense, also where it is finite

Box = tuple[float, float, float, float]


class BadBox(Exception):
    """No crop can be cut from this photo for this box. The message says why."""


@dataclasses.dataclass(frozen=True)
class Face:
    """One annotated face: 0 = real, 1 = fake; left, top, width, height in pixels of the photo at full size.

    `annotation` is the entry's id, or '#' and its position where the file gives none or repeats one.
    """

    label: int
    box: Box
    annotation: str


@dataclasses.dataclass(frozen=True)
class Photo:
    """The listed name of one photo, its id (unique only within its split), and its usable faces, at least one."""

    name: str
    image_id: str
    split: str
    faces: tuple[Face, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
    """What one annotation file lists, and what became of it.

    faces_listed = real_found + fake_found + crowds + small + broken + on_missing_photos, and
    photos_listed = the photos returned + photos_missing + photos_broken + photos_without_faces.
    A face that fits several reasons is broken before it is a crowd, a crowd before it is small, and small before it
    is on a missing photo. real_listed and fake_listed count the entries of a known class, usable or not.
    photos_broken are entries without an id, or with one that an earlier entry has; where the two name different files
    both count, because the faces could be either's. first_missing is a file name that was not found, or ''.
    """

    split: str
    min_face: int
    photos_listed: int
    photos_missing: int
    photos_broken: int
    photos_without_faces: int
    first_missing: str
    faces_listed: int
    real_listed: int = 0
    fake_listed: int = 0
    real_found: int = 0
    fake_found: int = 0
    crowds: int = 0
    small: int = 0
    broken: int = 0
    on_missing_photos: int = 0

    def listed_and_found(self) -> list[tuple[str, int, int]]:
        """Returns rows (what, number listed, number found)."""
        return [
            ('photos', self.photos_listed, self.photos_listed - self.photos_missing - self.photos_broken),
            ('real faces', self.real_listed, self.real_found),
            ('fake faces', self.fake_listed, self.fake_found),
        ]

    def left_out(self) -> dict[str, int]:
        """Returns what was left out, in words, each with its number above 0."""
        reasons = {
            'photos missing': self.photos_missing,
            'broken photo entries': self.photos_broken,
            'photos without a usable face': self.photos_without_faces,
            'faces on missing photos': self.on_missing_photos,
            f'faces under {self.min_face} px': self.small,
            'crowds': self.crowds,
            'broken face entries': self.broken,
        }
        return {reason: number for reason, number in reasons.items() if number}


def find_annotations(names: Iterable[str]) -> dict[str, str]:
    """Finds each split's `*_poly.json` among relative names with forward slashes, in the order of SPLITS.

    Raises UserError when two files claim the same split, or one names no known split.
    """
    files: dict[str, str] = {}
    for name in sorted(name for name in names if name.lower().endswith(_SUFFIX)):
        *folders, file = name.split('/')
        if file.startswith('.') or '__MACOSX' in folders:
            continue  # macOS leaves a '._Train_poly.json' beside each file it packs
        split = _SPLITS_BY_LOWER_NAME.get(file[: -len(_SUFFIX)].lower())
        if split is None:
            known = ', '.join(official + _SUFFIX for official in SPLITS)
            raise UserError(f'{name} names no split of OpenForensics; call it one of {known}, or move it away.')
        if split in files:
            raise UserError(f'{files[split]} and {name} claim the same split; move one of them away.')
        files[split] = name
    return {split: files[split] for split in SPLITS.values() if split in files}


class PhotoNames:
    """The names of a folder or archive, indexed once to be looked up by what annotations call their photos."""

    def __init__(self, names: Iterable[str]):
        self._names = frozenset(names)
        self._by_last_two: dict[str, str] = {}
        # Of several with the same ending the one with the fewest folders counts, then the first by name.
        for name in sorted(self._names, key=lambda name: (name.count('/'), name)):
            *_, folder, file = ('', *name.rsplit('/', 2))
            self._by_last_two.setdefault(f'{folder.lower()}/{file}', name)

    def find(self, file_name: object, split: str, folder: str = '') -> str | None:
        """Returns the listed name that an annotation's file_name means, or None.

        Tried in turn: below `folder` (the annotation file's), below the root, and `{official split}/{basename}` below
        anything, the split in any case. A file_name that is absolute, has '..' or backslashes is not tried as the last.
        """
        if not isinstance(file_name, str):
            return None
        for name in (f'{folder}/{file_name}' if folder else file_name, file_name):
            if name in self._names:
                return name
        parts = file_name.split('/')
        if not {'', '.', '..'}.isdisjoint(parts) or '\\' in file_name or ':' in file_name:
            return None
        return self._by_last_two.get(f'{_FOLDERS[split]}/{parts[-1]}')


def read_annotations(
    data: bytes, name: str, split: str, photo_names: PhotoNames, min_face: int
) -> tuple[list[Photo], Counts]:
    """Reads one annotation file and finds its photos.

    A nonsensical entry is counted, never fatal. A photo's listed width and height are ignored (see crop_face).

    Args:
        data: the bytes of the file that find_annotations gave as `name` of `split`; photos may lie beside it.
        photo_names: where to look for them.
        min_face: a face whose longer side is shorter than this is left out, pixels.

    Returns the photos that were found and have a usable face, in the order of the file, and the counts.
    Raises UserError when it is not JSON, lacks a list, or its categories do not say what is real or fake.
    """
    categories, images, annotations = _load_lists(data, name)
    labels, file_names = _labels_by_category(categories, name), _file_names_by_id(images)
    class_names = {label: class_name for class_name, label in LABELS.items()}
    folder = name.rpartition('/')[0]
    paths = {image: photo_names.find(file_name, split, folder) for image, file_name in file_names.items()}
    faces: dict[str, list[Face]] = collections.defaultdict(list)
    numbers: collections.Counter[str] = collections.Counter()
    seen = set()
    for position, entry in enumerate(annotations):
        entry = entry if isinstance(entry, dict) else {}
        label = labels.get(_id(entry.get('category_id')))
        image, box = _id(entry.get('image_id')), _box(entry.get('bbox'))
        if label is not None:
            numbers[f'{class_names[label]}_listed'] += 1
        if label is None or box is None or image not in paths:
            numbers['broken'] += 1
        elif entry.get('iscrowd'):
            numbers['crowds'] += 1
        elif max(box[2:]) < min_face:
            numbers['small'] += 1
        elif paths[image] is None:
            numbers['on_missing_photos'] += 1
        else:
            numbers[f'{class_names[label]}_found'] += 1
            annotation = _id(entry.get('id'))
            if annotation is None or annotation in seen:
                annotation = f'#{position}'
            seen.add(annotation)
            faces[image].append(Face(label, box, annotation))
    photos = [Photo(file, image, split, tuple(faces[image])) for image, file in paths.items() if file and faces[image]]
    missing = [str(file_names[image]) for image, file in paths.items() if file is None]
    return photos, Counts(
        split=split,
        min_face=min_face,
        photos_listed=len(images),
        photos_missing=len(missing),
        photos_broken=len(images) - len(paths),
        photos_without_faces=len(paths) - len(missing) - len(photos),
        first_missing=missing[0] if missing else '',
        faces_listed=len(annotations),
        **numbers,
    )


def _without_polygons(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop('segmentation', None)  # while parsing, because polygons are nearly all of the file
    return entry


def _load_lists(data: bytes, name: str) -> list[list[Any]]:
    try:
        content = json.loads(data, object_hook=_without_polygons)
    except (ValueError, RecursionError) as error:
        raise UserError(f'{name} cannot be read as JSON ({error}); download it again.') from None
    keys = ('categories', 'images', 'annotations')
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        raise UserError(f'{name} lacks one of the lists {", ".join(keys)}; download it again.')
    return [content[key] for key in keys]


def _labels_by_category(categories: list, name: str) -> dict[str | None, int]:
    entries = [entry for entry in categories if isinstance(entry, dict)]
    pairs = {(_id(entry.get('id')), CLASS_NAMES.get(str(entry.get('name')).strip().lower())) for entry in entries}
    known = [(category, label) for category, label in pairs if category is not None and label is not None]
    labels: dict[str | None, int] = dict(known)
    if not labels or len(labels) < len(known):
        raise UserError(
            f'the "categories" of {name} do not say what is real ({known_names(CLASS_NAMES, 0)}) and what is fake '
            f'({known_names(CLASS_NAMES, 1)}); correct their names.'
        )
    return labels


def _file_names_by_id(images: list) -> dict[str, object]:
    claims: dict[str, list] = collections.defaultdict(list)
    for entry in images:
        if isinstance(entry, dict) and (image := _id(entry.get('id'))) is not None:
            claims[image].append(entry.get('file_name'))
    return {image: names[0] for image, names in claims.items() if names.count(names[0]) == len(names)}


def _id(value: object) -> str | None:
    return str(value) if type(value) in (int, str) else None


def _box(value: object) -> Box | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(type(number) in (int, float) and abs(number) <= _FARTHEST for number in value) or min(value[2:]) <= 0:
        return None
    left, top, width, height = map(float, value)
    return left, top, width, height


def crop_face(
    image: UInt8[np.ndarray, 'h w 3'], box: Box, margin: float, size: int
) -> UInt8[np.ndarray, '{size} {size} 3']:
    """Cuts the square about a face out of a photo at the full size that boxes are measured in.

    Its side is s = round(margin * longer side of the box), at least 1; its left edge lies at
    round(left + width / 2 - s / 2), its top edge likewise (Python's round). What lies outside the image is mirrored
    like numpy.pad's 'reflect'. A square of another side than `size` is resized with Pillow's Lanczos filter, which
    keeps most of the fine detail in which forging leaves traces.

    The result shares no memory with `image`.
    Raises BadBox when the box lies outside the image, or its square has more than MAX_PIXELS.
    """
    (height, width), (box_left, box_top, box_width, box_height) = image.shape[:2], box
    if box_left >= width or box_top >= height or box_left + box_width <= 0 or box_top + box_height <= 0:
        raise BadBox(f'the box {box} lies outside the image of {width} x {height} px')
    length = margin * max(box_width, box_height)
    if length * length > MAX_PIXELS:
        raise BadBox(f'the box {box} with margin {margin} asks for more than {MAX_PIXELS} px')
    side = max(round(length), 1)
    left = round(box_left + box_width / 2 - side / 2)
    top = round(box_top + box_height / 2 - side / 2)
    if min(left, top) >= 0 and left + side <= width and top + side <= height:
        square = image[top : top + side, left : left + side]
    else:
        rows, columns = _reflected(top, side, height), _reflected(left, side, width)
        first = columns.min()
        # Row by row and then column by column takes half the time of indexing both at once.
        square = image[:, first : columns.max() + 1].take(rows, 0).take(columns - first, 1)
    if side == size:
        return square.copy()
    resized = PIL.Image.fromarray(square).resize((size, size), PIL.Image.Resampling.LANCZOS)
    return np.array(resized)


def _reflected(start: int, count: int, length: int) -> np.ndarray:
    """Returns int[count]: where the pixels start, start + 1, ... of a line lie after mirroring at its ends."""
    period = max(2 * (length - 1), 1)
    phase = np.arange(start, start + count) % period
    return np.minimum(phase, period - phase)
