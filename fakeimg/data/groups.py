"""What must stay together: frames of one video, images of one person, by folder or by the stem of file names."""

import collections
import re
from collections.abc import Mapping, Sequence

import numpy as np

from fakeimg.data import names as names_lib
from fakeimg.data.folders import Folder, folder_of

# Folders below a class are sources (generators, data sets) up to this number, and identities or videos beyond.
MAX_GENERATORS_BELOW_CLASS = 20
_MAX_SOURCES_BESIDE_GROUPS = 5  # of a class whose other one has groups; so few could not be spread over three splits
_LEAST_NUMBERED = 6  # numbers that are not said to be videos must be so many; fewer may be versions, or sizes

_MARK = r'(?:vid|video|clip|id|identity|subject|person|actor|speaker|seq|sequence|scene|shot|track|movie|film)'
_MARKED_NAME = re.compile(rf'{_MARK}[ _.-]?(?:\d+|[a-z])(?:[ _.-].*)?', re.IGNORECASE)
_NUMBERS = re.compile(r'\d+(?:_\d+)*')
_FRAME = re.compile(r'(.+?)(?:[ _.-]+|(?<=\d))(?:frames?|frm|fr|f)[ _.-]*\d+(?:\D.*)?', re.IGNORECASE)
_MARKED_STEM = re.compile(
    rf'((?:.*?[ _.-])??(?P<mark>{_MARK})[ _.-]?(?:\d+|[a-z])(?:[ _.-](?P=mark)[ _.-]?\d+)?)(?:[ _.-].+)?', re.IGNORECASE
)
_FRAME_NUMBER = re.compile(r'(?:frames?|frm|fr|f|img|image)?[ _.-]?\d+\.\w+', re.IGNORECASE)
_TRAILING = re.compile(r'(.*?)[ _.-]+\d+')
_SYNSET = re.compile(r'n\d{8}')  # a class of ImageNet
# A target, and perhaps the source whose face it wears: 000_003 of FaceForensics++, id0_id1_0003 of Celeb-DF.
_IDS = re.compile(r'((?P<kind>[A-Za-z]{0,8})\d+)(?:_((?P=kind)\d+))?(?:_.*)?')


def read_sources(
    folders: Mapping[str, Folder], names: Sequence[str], has_stems: bool = True, few_videos: bool = True
) -> tuple[dict[str, str], list[str], list[str]]:
    """Finds the source and the group of images by the folders below their class, and groups by file names.

    Args:
        folders: of all images.
        names: of the images.
        has_stems: False takes groups from file names only where they say that they are of videos.
        few_videos: False takes numbered folders for videos only where there are several.

    Returns:
        Folder -> source ('' for none); the group of each image ('' for none); notes for the user.
    """
    below = {name: folder.below for name, folder in folders.items()}
    first = {parts[0] for parts in below.values() if parts}
    level = _video_level(below, names, few=few_videos)
    notes: list[str] = []
    if level is not None:
        sources = {name: parts[0] if level and parts else '' for name, parts in below.items()}
        group_of = {name: parts[level] if len(parts) > level else '' for name, parts in below.items()}
        if level == 0:
            first = set()
    elif len(first) <= MAX_GENERATORS_BELOW_CLASS:
        sources = {name: parts[0] if parts else '' for name, parts in below.items()}
        group_of = dict.fromkeys(below, '')
    else:
        sources, group_of = _groups_of_classes(folders)
        first -= set(sources.values())
    if len(first) > 1:
        is_sources = level is not None or len(first) <= MAX_GENERATORS_BELOW_CLASS
        meaning = 'generators' if is_sources else 'groups (identities, videos) that must not be split'
        notes.append(f'{len(first)} folder names below the classes, such as {min(first)!r}, are read as {meaning}')
    groups = [group_of[folder_of(name)] for name in names]
    found = level is not None
    groups, more = add_stems(names, groups, has_stems)
    groups, more_notes = link_ids(groups)
    if found or more or more_notes:
        notes += [describe(groups), *more_notes]
    return sources, groups, notes


def groups_by_name(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Finds groups by folders and file names of images whose classes a table says; with notes for the user."""
    below = {folder: tuple(folder.split('/')) for folder in {folder_of(name) for name in names}}
    level = _video_level(below, names, many=False)
    at = {name: parts[level] if level is not None and len(parts) > level else '' for name, parts in below.items()}
    groups, more = add_stems(names, [at[folder_of(name)] for name in names])
    groups, notes = link_ids(groups)
    return groups, [describe(groups), *notes] if more or level is not None else notes


def describe(groups: Sequence[str]) -> str:
    """The note about groups that were found by names."""
    found = collections.Counter(group for group in groups if group)
    return (
        f'{len(found):,} groups found by name ({found.total():,} images; such as {min(found)!r}): frames of one video, '
        'or images of one person, stay on one side of every split that is made; a table whose column group is empty '
        'says otherwise'
    )


def _groups_of_classes(folders: Mapping[str, Folder]) -> tuple[dict[str, str], dict[str, str]]:
    """Many folders below the classes: groups, but for those of a class that has few of its own."""
    names_of: dict[int | None, set[str]] = collections.defaultdict(set)
    paths_of: dict[str, set[tuple[str, ...]]] = collections.defaultdict(set)
    for folder in folders.values():
        if folder.below:
            names_of[folder.label].add(folder.below[0])
            paths_of[folder.below[0]].add(folder.below)
    few = {
        name
        for label, names in names_of.items()
        for name in names
        if len(names) <= _MAX_SOURCES_BESIDE_GROUPS
        and not any(names & others for other, others in names_of.items() if other != label)
    }
    sources, groups = {}, {}
    for name, folder in folders.items():
        first = folder.below[0] if folder.below else ''
        sources[name] = first if first in few else ''
        # The folders of one identity are one group.
        whole = '/'.join(folder.below) if first and len(paths_of[first]) == 1 else first
        groups[name] = '' if first in few else whole
    return sources, groups


def _video_level(
    below: Mapping[str, tuple[str, ...]], names: Sequence[str], many: bool = True, few: bool = True
) -> int | None:
    """The outermost level of folders below the classes whose names are those of videos or people."""
    for level in range(max((len(parts) for parts in below.values()), default=0)):
        at = {parts[level] for parts in below.values() if len(parts) > level}
        if len(at) < 2:
            continue
        if sum(_MARKED_NAME.fullmatch(name) is not None for name in at) >= 0.8 * len(at):
            return level
        numbers = {name for name in at if _NUMBERS.fullmatch(name)}
        if len(numbers) < 0.8 * len(at):
            if many and level and len(at) > MAX_GENERATORS_BELOW_CLASS and not any(map(_SYNSET.fullmatch, at)):
                return level
            continue
        has_pairs = any('_' in name and name.partition('_')[0] in numbers for name in numbers)
        if has_pairs or (len(at) >= _LEAST_NUMBERED and _restarts(below, level, names)):
            return level
        if few and len(at) < _LEAST_NUMBERED and _are_counted(at) and _hold_frames(below, level, names):
            return level
    return None


def _are_counted(names: set[str]) -> bool:
    """Whether folders are counted, as videos are (000, 001, or 7, 8, 9), and not named by a size or a version."""
    numbers = sorted(int(name) for name in names if name.isdecimal())
    is_padded = len({*map(len, names)}) == 1 and any(name.startswith('0') for name in names)
    return len(numbers) == len(names) and (is_padded or numbers[-1] - numbers[0] == len(numbers) - 1)


def _hold_frames(below: Mapping[str, tuple[str, ...]], level: int, names: Sequence[str]) -> bool:
    """Whether files have numbers for names that begin anew in each folder, among those of one class and source."""
    inside: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for name in names:
        folder, _, file = name.rpartition('/')
        parts = below[folder]
        if len(parts) > level:
            beside = folder.removesuffix('/'.join(parts)) + '/'.join((*parts[:level], '', *parts[level + 1 :]))
            inside[beside][file] += 1
    total = sum(files.total() for files in inside.values())
    are_numbered = all(_FRAME_NUMBER.fullmatch(file) for files in inside.values() for file in files)
    return are_numbered and sum(map(len, inside.values())) <= 0.75 * total


def _restarts(below: Mapping[str, tuple[str, ...]], level: int, names: Sequence[str]) -> bool:
    """Whether files are numbered anew in each folder, as frames are, and not throughout, as images in chunks are."""
    inside = [name.rpartition('/')[2] for name in names if len(below[folder_of(name)]) > level]
    return len(set(inside)) <= 0.75 * len(inside)


def add_stems(names: Sequence[str], groups: Sequence[str], has_stems: bool = True) -> tuple[list[str], bool]:
    """Gives images without a group one where several share the stem of a file name, and there are several stems.

    `vid003_frame012` says that it is one of several frames; `a7_012` does not, so that there must be more of its kind.
    One stem alone (`real_0001`) is a class's or a source's.

    Args:
        names: of the images.
        groups: known ones; '' for an image without.
        has_stems: False leaves out stems that do not say that they are of videos.

    Returns:
        The groups, and whether there are new ones.
    """
    stems = [('', '', '') if group else _stem(name) for name, group in zip(names, groups, strict=True)]
    kinds: dict[tuple[str, str], collections.Counter] = collections.defaultdict(collections.Counter)
    for sign, shape, stem in stems:
        if sign:
            kinds[sign, shape][stem] += 1
    accepted: set[tuple[str, str]] = set()
    for kind, counts in kinds.items():
        several = {stem: count for stem, count in counts.items() if count > 1}
        inside = sum(several.values())
        if kind[0] == 'marked':
            is_video = len(several) > 1 and inside >= 0.5 * counts.total()
        else:
            least = _LEAST_NUMBERED if kind[1] else MAX_GENERATORS_BELOW_CLASS + 1
            is_video = has_stems and len(several) >= least and inside >= 0.6 * counts.total()
            is_video = is_video and max(several.values()) <= 0.5 * counts.total()
        if is_video:
            accepted.add(kind)
    if not accepted:
        return list(groups), False
    found = [
        stem if (sign, shape) in accepted and kinds[sign, shape][stem] > 1 else group
        for (sign, shape, stem), group in zip(stems, groups, strict=True)
    ]
    return found, True


def _stem(name: str) -> tuple[str, str, str]:
    """(how sure: marked, plain, or '' for none; its shape, '' for words; the stem) of a file name."""
    text = name.rpartition('/')[2].rpartition('.')[0]
    if text.isdecimal():  # most often
        return '', '', ''
    frame = _FRAME.fullmatch(text)
    marked = _MARKED_STEM.fullmatch(frame[1] if frame else text)
    trailing = _TRAILING.fullmatch(text)
    if marked:
        stem = marked[1]
    elif frame:
        stem = frame[1]
    elif trailing:
        stem = trailing[1]
    else:
        return '', '', ''
    stem = stem.strip(' _.-')
    if not stem or names_lib.is_plain(stem) and not marked or _SYNSET.fullmatch(stem):
        return '', '', ''
    shape = re.sub(r'\d+', '#', stem.lower())
    return 'marked' if marked or frame else 'plain', shape if '#' in shape else '', stem


def link_ids(groups: Sequence[str]) -> tuple[list[str], list[str]]:
    """Joins the groups of forgeries named by target and source (`000_003`) with those of both (`000`, `003`).

    Returns:
        The groups, and notes about what could not be joined.
    """
    ids = {group: _ids(group) for group in dict.fromkeys(groups) if group}
    targets = {own[0] for own in ids.values() if len(own) == 1}
    if not any(len(own) == 2 and targets & {*own} for own in ids.values()):
        return list(groups), []
    linked = _components(ids)
    largest = max(collections.Counter(linked[group] for group in groups if group).values())
    if largest <= 0.5 * sum(map(bool, groups)):
        return [group and linked[group] for group in groups], []
    by_target = {group: own[0] for group, own in ids.items()}
    note = (
        'forgeries named by target and source link nearly all videos with each other, so only those of one target are '
        'kept together: a source may be in another split'
    )
    return [group and by_target[group] for group in groups], [note]


def _ids(group: str) -> tuple[str, ...]:
    match = _IDS.fullmatch(group.rpartition('/')[2])
    if match is None:
        return (group,)
    target, source = match[1], match[3]
    # 003_12 is clip 12 of video 003; ids without letters have one length.
    return (target, source) if source and (match['kind'] or len(source) == len(target)) else (target,)


def _components(ids: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Group -> the first of the ids that a chain of forgeries connects with it."""
    import scipy.sparse  # a quarter of a second, which every process that reads data would pay
    from scipy.sparse import csgraph

    place = {name: index for index, name in enumerate(sorted({name for own in ids.values() for name in own}))}
    pairs = np.array([[place[own[0]], place[own[-1]]] for own in ids.values()])
    links = scipy.sparse.coo_matrix((np.ones(len(pairs), bool), pairs.T), (len(place), len(place)))
    component = csgraph.connected_components(links, directed=False)[1]
    known = list(place)
    first = [known[index] for index in np.unique(component, return_index=True)[1]]
    return {group: first[component[place[own[0]]]] for group, own in ids.items()}
