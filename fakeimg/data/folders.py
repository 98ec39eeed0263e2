"""What the folders of a set mean: class, split, and the parts around the class that name sources and groups."""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence

from fakeimg.data import names as names_lib
from fakeimg.data.labels import LABELS, SPLITS
from fakeimg.errors import UserError

_Place = tuple[int, names_lib.Meaning]  # a part's place in its path, and what it says


@dataclasses.dataclass
class Folder:
    """What the parts of one folder's path mean.

    Attributes:
        label: 0, 1, or None where no part says the class.
        split: None where no part says it.
        above: parts without a meaning, above the class.
        below: likewise, below it.
        class_part: the part that says the class; ''.
        split_part: the part that says the split; ''.
        hint: what these two say besides (`sdxl` of `fake_sdxl`); ''.
        count: images directly in the folder.
    """

    label: int | None = None
    split: str | None = None
    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    class_part: str = ''
    split_part: str = ''
    hint: str = ''
    count: int = 0


def folder_of(name: str) -> str:
    return name.rpartition('/')[0]


def read_folders(
    names: Iterable[str], class_names: Mapping[str, int], path: str
) -> tuple[dict[str, Folder], list[str]]:
    """Reads the folders of images.

    A whole name that is known says more than a word inside a name, and what the user said more than both. A folder
    that all images share says a class only where no other folder does, and a word in it says nothing.

    Args:
        names: of images, with '/' between folders.
        class_names: the class of each name, in lower case.
        path: of the set, for messages.

    Returns:
        Folder -> what it means, and notes about names that were read by a word.

    Raises:
        UserError: names that contradict each other, or a folder that says no split while its siblings do.
    """
    folders: dict[str, Folder] = {}
    for name in names:
        folders.setdefault(folder_of(name), Folder()).count += 1
    parts = {folder: [part for part in folder.split('/') if part] for folder in folders}
    shared = len(os.path.commonprefix(list(parts.values())))
    classes = _classes(parts, shared, class_names)
    splits = _splits(parts, shared, classes, path)
    notes = []
    for name, folder in folders.items():
        class_place, split_place = classes[name], splits[name]
        _describe(folder, parts[name], class_place, split_place)
        if class_place is not None and class_place[1].grade == names_lib.BESIDE:
            notes.append(f'{folder.class_part!r} as {_label_name(class_place[1])}')
        if split_place is not None and split_place[1].grade > names_lib.WHOLE and folder.split_part:
            notes.append(f'{folder.split_part!r} as {folder.split}')
    if notes:
        notes = [f'folders are read by a word in their names: {_some(list(dict.fromkeys(notes)))}']
    return folders, notes


def _some(texts: Sequence[str], most: int = 6) -> str:
    return ', '.join(texts[:most]) + (f' and {len(texts) - most} more' if len(texts) > most else '')


def _label_name(meaning: names_lib.Meaning) -> str:
    return next(name for name, label in LABELS.items() if label == meaning.value)


def _describe(folder: Folder, parts: list[str], class_place: _Place | None, split_place: _Place | None) -> None:
    folder.class_part = parts[class_place[0]] if class_place else ''
    folder.split_part = parts[split_place[0]] if split_place else ''
    folder.label = int(class_place[1].value) if class_place else None
    folder.split = str(split_place[1].value) if split_place else None
    place = parts.index(folder.class_part) if class_place else len(parts)
    free = [part for part in parts[:place] if part not in (folder.class_part, folder.split_part)]
    folder.above = tuple(free)
    folder.below = tuple(part for part in parts[place:] if part not in (folder.class_part, folder.split_part))
    said = (place for place in (class_place, split_place) if place and place[1].grade == names_lib.BESIDE)
    folder.hint = next((names_lib.without_meaning(parts[place[0]]) for place in said), '')


def _classes(parts: dict[str, list[str]], shared: int, class_names: Mapping[str, int]) -> dict[str, _Place | None]:
    meanings = {
        part: names_lib.class_of(part, class_names) for part in {part for own in parts.values() for part in own}
    }

    def read(start: int) -> dict[str, _Place | None]:
        classes = {}
        for folder, own in parts.items():
            found = [
                (place, meaning) for place, part in enumerate(own) if place >= start and (meaning := meanings[part])
            ]
            known = [
                (place, meaning) for place, meaning in found if place >= shared or meaning.grade <= names_lib.PLAIN
            ]
            classes[folder] = _surest(known, own, folder)
        return classes

    classes = read(shared)
    by_word = all(place is None or place[1].grade > names_lib.WHOLE for place in classes.values())
    return read(0) if None in classes.values() and by_word else classes


def _surest(found: list[_Place], parts: list[str], folder: str) -> _Place | None:
    """The part that says it most surely: of whole names the innermost, of words the outermost one."""
    if not found:
        return None
    grade = min(meaning.grade for _, meaning in found)
    best = [(place, meaning) for place, meaning in found if meaning.grade == grade]
    if len({meaning.value for _, meaning in best}) > 1:
        if grade == names_lib.BESIDE:
            return None
        known = ' and '.join(repr(parts[place]) for place, _ in best)
        raise UserError(f'{folder} is ambiguous: its folders {known} contradict each other; rename one.')
    return best[-1] if grade <= names_lib.WHOLE else best[0]


def _splits(
    parts: dict[str, list[str]], shared: int, classes: Mapping[str, _Place | None], path: str
) -> dict[str, _Place | None]:
    def read(grade: int) -> dict[str, _Place | None]:
        return {folder: _read_split(own, shared, grade, folder) for folder, own in parts.items()}

    splits = whole = read(names_lib.WHOLE)
    if None in classes.values():  # a table may say it all
        return whole
    if None in whole.values():
        plain = read(names_lib.PLAIN)
        splits = {folder: whole[folder] or plain[folder] for folder in parts}
        if not any(whole.values()) and len(_values(splits)) == 1 and None not in splits.values():
            return dict.fromkeys(parts)  # a word that all share tells nothing apart
    if None not in splits.values():
        return splits
    beside = read(names_lib.BESIDE)
    if any(splits.values()):
        splits = {folder: place or _above_class(beside[folder], classes[folder]) for folder, place in splits.items()}
    elif _is_whole_partition(beside, classes):
        splits = beside
    elif len(_values(beside)) > 1:
        splits = {folder: _above_class(place, classes[folder]) for folder, place in beside.items()}
    stray = next((folder for folder, place in splits.items() if place is None), None)
    if stray is not None and any(splits.values()):
        example, (_, meaning) = next((folder, place) for folder, place in splits.items() if place)
        raise UserError(
            f'{path}/{stray} belongs to no split while other folders do ({example!r}: '
            f'{meaning.value}); put it below one named {", ".join(SPLITS[:3])}, or move it away.'
        )
    if not any(splits.values()):
        has_words = any(_above_class(place, classes[folder]) for folder, place in beside.items())
        _refuse_unknown_splits(parts, shared, classes, path, has_words)
    return splits


def _read_split(parts: list[str], shared: int, grade: int, folder: str) -> _Place | None:
    start = 0 if grade == names_lib.WHOLE else shared
    found = [
        (place, meaning)
        for place, part in enumerate(parts[start:], start)
        if (meaning := names_lib.split_of(part)) is not None and meaning.grade == grade
    ]
    return _surest(found, parts, folder)


def _above_class(split: _Place | None, class_place: _Place | None) -> _Place | None:
    """A word beside others below a class is part of a source's name (`real/coco_train2017`)."""
    return split if split and class_place and split[0] <= class_place[0] else None


def _values(splits: Mapping[str, _Place | None]) -> set:
    return {place[1].value for place in splits.values() if place}


def _is_whole_partition(splits: Mapping[str, _Place | None], classes: Mapping[str, _Place | None]) -> bool:
    """Whether there are several splits, every folder has one, and each has both classes."""
    pairs = {
        (place[1].value, known[1].value) for folder, place in splits.items() if place and (known := classes[folder])
    }
    return all(splits.values()) and len(_values(splits)) > 1 and len(pairs) == 2 * len(_values(splits))


def _refuse_unknown_splits(
    parts: dict[str, list[str]], shared: int, classes: Mapping[str, _Place | None], path: str, has_words: bool
) -> None:
    """Raises UserError for a folder above a class that looks like a split; `has_words`, where others hold its word."""
    for folder, own in parts.items():
        place = classes[folder]
        above = own[shared : place[0] if place else shared]
        odd = next((part for part in above if names_lib.looks_like_split(part, has_words)), None)
        if odd is not None:
            raise UserError(
                f'{path} has the folder {odd!r}, which looks like a split that is not understood; name it '
                f'{", ".join(SPLITS[:3])}, or move it away.'
            )
