"""What a set of files says about its images: class, split, generator and group, from folder names or a table."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fakeimg.data import formats, tables
from fakeimg.data.files import Files, FolderFiles, list_files
from fakeimg.data.labels import CLASS_NAMES, SPLIT_NAMES, known_names
from fakeimg.errors import UserError

# Folders below a class are generators up to this number, and identities or videos beyond.
MAX_GENERATORS_BELOW_CLASS = 20


@dataclasses.dataclass
class Listing:
    """The images of a set, one row each, unread.

    Attributes:
        layout: what was recognised, in words.
        files: the images; `files.names` are unique.
        labels: int32[n], 0 = real, 1 = fake.
        splits: of each image; None throughout where the set has none.
        generators: generator or data set of each image.
        groups: what must stay in one split (a photo, an identity); '' for an image without a group.
        notes: warnings for the user.
        left_out: how many files that are no images that can be read, by kind, see `formats.find_images`.
    """

    layout: str
    files: Files
    labels: np.ndarray
    splits: list[str | None]
    generators: list[str]
    groups: list[str]
    notes: list[str]
    left_out: dict[str, int] = dataclasses.field(default_factory=dict)


def set_name(path: str) -> str:
    """Returns the name of a set: its folder's or file's, without an archive's suffix."""
    name = os.path.basename(os.path.abspath(os.path.expanduser(path)))
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in ('.zip', '.tar', *tables.SUFFIXES) else name


def is_table(path: str) -> bool:
    return path.lower().endswith(tables.SUFFIXES) and os.path.isfile(path)


def read_listing(path: str, class_names: Mapping[str, int] = CLASS_NAMES, files: Files | None = None) -> Listing:
    """Lists the images of a folder, a zip or tar archive, or a table (.csv, .jsonl).

    Split and class are the folder names that the tables in `labels` know, at any depth and in any order:
    `DIR/train/real/1.jpg`, `DIR/Dataset/Train/Fake/x/1.png`, `DIR/biggan/train/ai/1.png`. A set whose folders do not
    say its classes may have a table at its top instead. `files` spares listing them again.

    Raises:
        UserError: nothing there, no images, or a class or split that is unknown or ambiguous.
    """
    path = os.path.expanduser(path)
    if is_table(path):
        folder, name = os.path.split(os.path.abspath(path))
        return _from_table(path, FolderFiles(folder, [name]), name, class_names)
    files = list_files(path) if files is None else files
    images, left_out = formats.find_images(files)
    if not len(images):
        others = ''.join(f'; {note}' for note in formats.describe_left_out(left_out))
        raise UserError(
            f'data path {path} holds no images ({", ".join(formats.SUFFIXES)}{others}); '
            'give the folder that holds train/real, train/fake and so on.'
        )
    folders = _read_folders((files.names[index] for index in images), class_names)
    if any(folder.label is None for folder in folders.values()):
        top = [name for name in files.names if '/' not in name and name.lower().endswith(tables.SUFFIXES)]
        if len(top) == 1:
            return _from_table(path, files, top[0], class_names)
        if any(name.endswith('_poly.json') for name in files.names):
            raise UserError(
                f'{path} is OpenForensics as it was released, whose faces have to be cut out first; '
                f'run fakeimg prepare {path}.'
            )
        raise _unknown_class(path, folders, class_names)
    return dataclasses.replace(_from_folders(path, files.take(images), folders), left_out=left_out)


@dataclasses.dataclass
class _Folder:
    """What the parts of one folder's path mean."""

    label: int | None
    split: str | None
    above: tuple[str, ...]  # parts without a meaning, above the class
    below: tuple[str, ...]
    class_part: str
    split_part: str
    count: int = 0


def _read_folders(names: Iterable[str], class_names: Mapping[str, int]) -> dict[str, _Folder]:
    folders: dict[str, _Folder] = {}
    for name in names:
        folder = _folder(name)
        if folder not in folders:
            folders[folder] = _read_parts(folder, class_names)
        folders[folder].count += 1
    return folders


def _read_parts(folder: str, class_names: Mapping[str, int]) -> _Folder:
    parts = [part for part in folder.split('/') if part]
    class_part = _only_meaning(parts, class_names, folder)
    split_part = _only_meaning(parts, SPLIT_NAMES, folder)
    free = [part not in (class_part, split_part) for part in parts]
    place = parts.index(class_part) if class_part else len(parts)
    return _Folder(
        label=class_names[class_part.lower()] if class_part else None,
        split=SPLIT_NAMES[split_part.lower()] if split_part else None,
        above=tuple(part for part, ok in zip(parts[:place], free, strict=False) if ok),
        below=tuple(part for part, ok in zip(parts[place:], free[place:], strict=True) if ok),
        class_part=class_part,
        split_part=split_part,
    )


def _only_meaning(parts: Sequence[str], table: Mapping, folder: str) -> str:
    """Returns the innermost part that the table knows ('' for none); all known parts must mean the same."""
    known = [part for part in parts if part.lower() in table]
    if len({table[part.lower()] for part in known}) > 1:
        raise UserError(
            f'{folder} is ambiguous: its folders {" and ".join(map(repr, known))} contradict each other; rename one.'
        )
    return known[-1] if known else ''


def _from_folders(path: str, files: Files, folders: dict[str, _Folder]) -> Listing:
    stray = next((name for name, folder in folders.items() if folder.split is None), None)
    if stray is not None and any(folder.split for folder in folders.values()):
        raise UserError(
            f'{path}/{stray} belongs to no split while other folders do; put it below one named '
            f'{", ".join(SPLIT_NAMES)}, or move it away.'
        )
    layout, generator = _recognise(path, folders)
    shared = len(os.path.commonprefix([folder.above for folder in folders.values()]))
    below = {folder.below[0] for folder in folders.values() if folder.below}
    has_generators = 0 < len(below) <= MAX_GENERATORS_BELOW_CLASS
    notes = []
    if len(below) > 1:
        meaning = 'generators' if has_generators else 'groups (identities, videos) that must not be split'
        notes.append(f'{len(below)} folder names below the classes, such as {min(below)!r}, are read as {meaning}')
    generator_of, group_of, split_of, label_of = {}, {}, {}, {}
    for name, folder in folders.items():
        candidates = (*(folder.below[:1] if has_generators else ()), *folder.above[shared:], generator)
        generator_of[name] = candidates[0]
        group_of[name] = '' if has_generators else '/'.join(folder.below)
        split_of[name], label_of[name] = folder.split, folder.label
    return Listing(
        layout=layout,
        files=files,
        labels=np.fromiter((label_of[_folder(name)] for name in files.names), np.int32, len(files)),
        splits=[split_of[_folder(name)] for name in files.names],
        generators=[generator_of[_folder(name)] for name in files.names],
        groups=[group_of[_folder(name)] for name in files.names],
        notes=notes,
    )


def _folder(name: str) -> str:
    return name.rpartition('/')[0]


def _recognise(path: str, folders: dict[str, _Folder]) -> tuple[str, str]:
    """Returns the layout in words, and the generator of images whose folders name none."""
    classes = {folder.class_part for folder in folders.values()}
    splits = {folder.split_part for folder in folders.values() if folder.split_part}
    prefix = os.path.commonprefix([folder.above for folder in folders.values()])
    generators = {folder.above[0] for folder in folders.values() if folder.above} - set(prefix)
    wrapper = prefix[-1] if prefix else set_name(path)
    lower = {name.lower() for name in classes}
    if lower <= {'0_real', '1_fake'}:
        return 'CNNDetection / ForenSynths (generator/{0_real,1_fake})', wrapper
    if lower <= {'ai', 'nature'}:
        return 'GenImage (generator/{train,val}/{ai,nature})', wrapper
    if not generators and classes == {'real', 'fake'} and {*prefix, set_name(path)} & {'real-vs-fake', 'real_vs_fake'}:
        return '140k faces (real-vs-fake/{train,valid,test}/{real,fake})', '140k-faces'
    if not generators and classes == {'Real', 'Fake'} and splits == {'Train', 'Validation', 'Test'}:
        kaggle = 'deepfake-and-real-images'
        return f'Kaggle {kaggle} ({{Train,Validation,Test}}/{{Fake,Real}})', kaggle
    if not generators and classes == {'REAL', 'FAKE'} and splits == {'train', 'test'}:
        return 'CIFAKE ({train,test}/{REAL,FAKE})', 'CIFAKE'
    shape = [f'{{{",".join(sorted(splits))}}}'] * bool(splits) + [f'{{{",".join(sorted(classes))}}}']
    return f'{"split/class" if splits else "class only"} ({"/".join(shape)})', wrapper


def _unknown_class(path: str, folders: dict[str, _Folder], class_names: Mapping[str, int]) -> UserError:
    seen = collections.Counter()
    for folder in folders.values():
        if folder.label is None:
            seen[folder.above[-1] if folder.above else 'no folder at all'] += folder.count
    listed = ', '.join(f'{name!r} ({count:,} images)' for name, count in seen.most_common(6))
    more = f' and {len(seen) - 6} more' if len(seen) > 6 else ''
    return UserError(
        f'the classes of {path} are unknown: its folders are {listed}{more}; pass label real=NAME and label fake=NAME '
        f'to prepare or audit, or name the folders real ({known_names(class_names, 0)}) and fake '
        f'({known_names(class_names, 1)}).'
    )


def _from_table(path: str, files: Files, table: str, class_names: Mapping[str, int]) -> Listing:
    listed = tables.read_table(files.read(files.names.index(table)), table, class_names)
    rows, images = tables.find_images(listed, files, table)
    splits = [row.split for row in rows]
    if None in splits and any(splits):
        raise UserError(f'{table} gives a split to some images and none to others; give it to all or to none.')
    notes = []
    if missing := len(listed) - len(rows):
        paths = {row.path for row in rows}
        first = next(row.path for row in listed if row.path not in paths)
        notes.append(f'{missing:,} of {len(listed):,} images in {table} are missing ({first!r}, ...)')
    return Listing(
        layout=f'table ({table})',
        files=images,
        labels=np.array([row.label for row in rows], np.int32),
        splits=splits,
        generators=[row.generator or set_name(path) for row in rows],
        groups=[row.group for row in rows],
        notes=notes,
    )
