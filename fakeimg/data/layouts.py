"""What a set of files says about its images: class, split, generator and group, from folder names or a table."""

import collections
import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence

import numpy as np

from fakeimg.data import formats, rows, tables
from fakeimg.data.files import Files, FolderFiles, list_files
from fakeimg.data.folders import Folder, folder_of, read_folders
from fakeimg.data.groups import groups_by_name, read_sources
from fakeimg.data.labels import CLASS_NAMES, LABELS, known_names
from fakeimg.errors import UserError

_FEW = 6  # folder names that a message lists
_UNNAMED = ('split/class', 'class only')  # layouts that no published set is known by


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
    return stem if suffix.lower() in ('.zip', '.tar', *rows.SUFFIXES) else name


def is_table(path: str) -> bool:
    return path.lower().endswith(rows.SUFFIXES) and os.path.isfile(path)


def read_listing(
    path: str,
    class_names: Mapping[str, int] = CLASS_NAMES,
    files: Files | None = None,
    columns: Mapping[str, str] | None = None,
    few_videos: bool = True,
) -> Listing:
    """Lists the images of a folder, a zip or tar archive, or a table (.csv, .jsonl).

    Split and class are the folder names that `names` understands, at any depth below `path` and in any order:
    `DIR/train/real/1.jpg`, `DIR/Dataset/Train/Fake/x/1.png`, `DIR/biggan/train/ai/1.png`. A set whose folders do not
    say its classes may have a table at its top instead.

    Args:
        path: of the set.
        class_names: the class of each name, in lower case.
        files: what `list_files(path)` returned, to spare listing them again.
        columns: of a table, see `tables.columns_of`.
        few_videos: whether a few numbered folders can be videos, see `groups.read_sources`.

    Raises:
        UserError: nothing there, no images, or a class or split that is unknown or ambiguous.
    """
    path = os.path.expanduser(path)
    if is_table(path):
        folder, name = os.path.split(os.path.abspath(path))
        return _from_table(FolderFiles(folder, [name]), name, class_names, columns, set_name(path))
    files = list_files(path) if files is None else files
    images, left_out = formats.find_images(files)
    if not len(images):
        others = ''.join(f'; {note}' for note in formats.describe_left_out(left_out))
        raise UserError(
            f'data path {path} holds no images ({", ".join(formats.SUFFIXES)}{others}); '
            'give the folder that holds train/real, train/fake and so on.'
        )
    folders, notes = read_folders((files.names[index] for index in images), class_names, path)
    is_unknown = any(folder.label is None for folder in folders.values())
    described, stray = [], []
    if is_unknown or not any(folder.split for folder in folders.values()):
        described, stray = _top_tables(path, files, class_names, columns, is_unknown)
    if not is_unknown:
        unused = [f'{listing.layout} says more than the folders; it is not used unless it is given as the data path'
                  for listing in described if any(listing.splits) or any(listing.groups)]  # fmt: skip
        listing = _from_folders(path, files.take(images), folders, [*notes, *unused, *stray], few_videos)
        return dataclasses.replace(listing, left_out=left_out)
    if len(described) == 1:
        return dataclasses.replace(described[0], notes=[*described[0].notes, *stray])
    if any(name.endswith('_poly.json') for name in files.names):
        raise UserError(
            f'{path} is OpenForensics as it was released, whose faces have to be cut out first; '
            f'run fakeimg prepare {shlex.quote(path)}.'
        )
    raise _unknown_class(path, folders, class_names, stray)


def _top_tables(
    path: str, files: Files, class_names: Mapping[str, int], columns: Mapping[str, str] | None, is_needed: bool
) -> tuple[list[Listing], list[str]]:
    """What the tables at the top of a set describe, and notes about those that describe nothing in it."""
    described, notes = [], []
    for name in files.names:
        if '/' in name or not name.lower().endswith(rows.SUFFIXES):
            continue
        try:
            described.append(_from_table(files, name, class_names, columns, set_name(path)))
        except tables.StrayTable as error:
            if not name.lower().endswith('.txt'):  # most texts are no tables
                notes.append(f'{name} is passed over, since it does not describe the images ({str(error).rstrip(".")})')
        except UserError:
            if is_needed:
                raise
    return described, notes


def _from_folders(
    path: str, files: Files, folders: dict[str, Folder], notes: list[str], few_videos: bool = True
) -> Listing:
    layout, generator = _recognise(path, folders)
    shared = len(os.path.commonprefix([folder.above for folder in folders.values()]))
    sources, groups, more = read_sources(folders, files.names, layout.startswith(_UNNAMED), few_videos)
    source_of = {
        name: next(filter(None, (sources[name], *folder.above[shared:], folder.hint, generator)))
        for name, folder in folders.items()
    }
    rows = [folder_of(name) for name in files.names]
    return Listing(
        layout=layout,
        files=files,
        labels=np.fromiter((folders[row].label for row in rows), np.int32, len(files)),
        splits=[folders[row].split for row in rows],
        generators=[source_of[row] for row in rows],
        groups=groups,
        notes=[*notes, *more],
    )


def _recognise(path: str, folders: dict[str, Folder]) -> tuple[str, str]:
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
    shape = [f'{{{",".join(sorted(splits))}}}'] * bool(splits - classes) + [f'{{{",".join(sorted(classes))}}}']
    return f'{_UNNAMED[0] if splits else _UNNAMED[1]} ({"/".join(shape)})', wrapper


def _unknown_class(
    path: str, folders: dict[str, Folder], class_names: Mapping[str, int], notes: Sequence[str]
) -> UserError:
    unknown = {name: folder for name, folder in folders.items() if folder.label is None}
    depth = max(len(folder.above) for folder in unknown.values())
    levels = [collections.Counter() for _ in range(max(depth, 1))]
    innermost = collections.Counter()
    for folder in unknown.values():
        innermost[folder.above[-1] if folder.above else 'no folder at all'] += folder.count
        for level, part in enumerate(folder.above):
            levels[level][part] += folder.count
    # The names that tell images apart and are few: identities and videos are many.
    seen = next((counts for counts in levels if 2 <= len(counts) <= _FEW), innermost)
    listed = ', '.join(f'{name!r} ({count:,} images)' for name, count in seen.most_common(_FEW))
    more = f' and {len(seen) - _FEW} more' if len(seen) > _FEW else ''
    known = {folder.label for folder in folders.values()} - {None}
    first = int(0 in known)  # a guess that the user will check; where there are real images, others are fake
    used = {part for folder in folders.values() if folder.label is not None for part in folder.above}
    add = []
    if len(seen) <= _FEW and 'no folder at all' not in seen and not used & seen.keys():
        order = enumerate(sorted(seen))
        add = [('label', f'{name}={list(LABELS)[first if place == 0 else int(1 not in known or first)]}')
               for place, name in order]  # fmt: skip
    return UserError(
        f'the classes of {path} are unknown: its folders are {listed}{more}; say which is which with label NAME=real '
        f'and label NAME=fake, or name the folders real ({known_names(class_names, 0)}) and fake '
        f'({known_names(class_names, 1)})' + ''.join(f'; {note}' for note in notes) + '.',
        add=add,
    )


def _from_table(
    files: Files, table: str, class_names: Mapping[str, int], columns: Mapping[str, str] | None, source: str
) -> Listing:
    listed = tables.read_table(files.read(files.names.index(table)), table, class_names, columns)
    rows, images = tables.find_images(listed, files, table)
    splits = [row.split for row in rows]
    if None in splits and any(splits):
        raise UserError(f'{table} gives a split to some images and none to others; give it to all or to none.')
    notes = []
    if missing := len(listed) - len(rows):
        paths = {row.path for row in rows}
        first = next(row.path for row in listed if row.path not in paths)
        notes.append(f'{missing:,} of {len(listed):,} images in {table} are missing ({first!r}, ...)')
    groups, more = [row.group or '' for row in rows], []
    if rows[0].group is None:
        groups, more = groups_by_name([row.path for row in rows])
    return Listing(
        layout=f'table ({table})',
        files=images,
        labels=np.array([row.label for row in rows], np.int32),
        splits=splits,
        generators=[row.generator or source for row in rows],
        groups=groups,
        notes=[*notes, *more],
    )
