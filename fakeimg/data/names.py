"""What a name says: its class or split, as a whole (`real`) or by a word inside it (`training_set`, `real_images`)."""

import functools
import re
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

from fakeimg.data.labels import CLASS_NAMES, SPLIT_NAMES, name_key

# How much a reading can be trusted; lower is better.
BY_USER, WHOLE, PLAIN, BESIDE = range(4)

_CLASS_WORDS = {
    **{name: label for name, label in CLASS_NAMES.items() if name.isalpha() and name != 'nature'},
    **dict.fromkeys(('original', 'originals'), 0),
    **dict.fromkeys(('deepfakes', 'forgery', 'forgeries', 'synthesis', 'synthesized', 'synthesised', 'tampered'), 1),
}
_SPLIT_WORDS = {
    **dict.fromkeys(('train', 'training', 'trainset'), 'train'),
    **dict.fromkeys(('validation', 'valid', 'val', 'valset'), 'validation'),
    **dict.fromkeys(('test', 'testing', 'testset', 'testdev'), 'test'),
    'testchallenge': 'test_challenge',
}  # not dev, which stands in the names of generators (FLUX.1-dev)
# Words that leave the meaning of the others as it is.
_PLAIN_WORDS = frozenset(
    'a b c v x the my for all new final full subset part version release data dataset datasets set sets split folder '
    'dir directory class classes label labels category file files sample samples example examples image images img '
    'imgs pic pics photo photos portrait portraits face faces facial human humans people person video '
    'videos vid vids clip clips frame frames sequence sequences crop crops cropped aligned resized raw processed '
    'extracted small large jpg jpeg png webp'.split()
)
# Words that turn `real` or `fake` into something else: names of generators (Real-ESRGAN, RealNVP), and denials.
_OTHER_SENSE = frozenset(
    'esrgan sr vsr basicvsr nvp vis visxl time world life estate not non no without un vs versus or and to'.split()
)
_SPLIT_LIKE = frozenset(
    'holdout heldout hold held eval evaluation evaluate dev development fold folds unseen learn learning tune tuning '
    'tst trn query gallery challenge public private'.split()
)
_CAMEL = re.compile(r'(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])')
_WORD = re.compile(r'[^\W\d_]+|\d+')


class Meaning(NamedTuple):
    """What a name says.

    Attributes:
        value: a label or a split.
        grade: how it says it: BY_USER, the user told; WHOLE, the whole name is known; PLAIN, one word of it is, and
            the others add nothing (`real_images`); BESIDE, others might (`real_ffhq`).
    """

    value: int | str
    grade: int


def class_of(name: str, class_names: Mapping[str, int]) -> Meaning | None:
    """Returns the class that a name says, None where it says none or both.

    Args:
        name: of a folder, or a label in a table.
        class_names: the class of each name, in lower case; those that are not in CLASS_NAMES are the user's.
    """
    whole = name_key(name)
    if whole in class_names:
        label = class_names[whole]
        return Meaning(label, WHOLE if CLASS_NAMES.get(whole) == label else BY_USER)
    words = _words(name)
    found = {_CLASS_WORDS[word] for word in words if word in _CLASS_WORDS}
    if len(found) != 1:
        return None
    rest = {word for word in words if not _adds_nothing(word) and word not in _CLASS_WORDS}
    if not rest:
        return Meaning(found.pop(), PLAIN)
    parts = _separate(name)
    ends = {parts[0], parts[-1]} & _CLASS_WORDS.keys()
    return Meaning(found.pop(), BESIDE) if ends and not _OTHER_SENSE & {*rest, *parts} else None


@functools.lru_cache(1 << 16)
def split_of(name: str) -> Meaning | None:
    """Returns the split that a name says, None where it says none or several."""
    whole = name_key(name)
    if whole in SPLIT_NAMES:
        return Meaning(SPLIT_NAMES[whole], WHOLE)
    words = _words(name)
    found = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
    if len(found) != 1:
        return None
    if all(_adds_nothing(word) or word in _CLASS_WORDS for word in words):
        return Meaning(found.pop(), PLAIN)
    return Meaning(found.pop(), BESIDE) if _SPLIT_WORDS.keys() & set(_separate(name)) else None


def looks_like_split(name: str, by_word: bool = False) -> bool:
    """Whether a name without a known split says that it is one: `holdout2`, `fold_3`; by one word, `ffhq_holdout`."""
    words = _words(name)
    rest = [word for word in words if not _adds_nothing(word)]
    return split_of(name) is None and (
        (by_word and bool(_SPLIT_LIKE & {*rest} - {'dev'}))  # of FLUX.1-dev
        or (bool(rest) and all(word in _SPLIT_LIKE for word in rest))
        or len({_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}) > 1
    )


def without_meaning(name: str) -> str:
    """What a name says besides class and split: `sdxl` of `fake_sdxl`; '' for nothing."""
    return '_'.join(word for word in _separate(name, digits=True) if not _adds_nothing(word, digits=False)
                    and word not in _CLASS_WORDS)  # fmt: skip


def is_plain(name: str) -> bool:
    """Whether a name consists of words that name nothing in particular: `real`, `face_image`."""
    return all(_adds_nothing(word, digits=False) or word in _CLASS_WORDS for word in _words(name))


def _adds_nothing(word: str, digits: bool = True) -> bool:
    return word in _PLAIN_WORDS or word in _SPLIT_WORDS or (digits and word.isdecimal())


def _words(name: str) -> list[str]:
    """Words and numbers in lower case, parted where the case or the kind of character changes."""
    text = _CAMEL.sub(' ', unicodedata.normalize('NFC', name))
    text = ' '.join(word.lower() for word in _WORD.findall(text))
    for parted, whole in (('deep fake', 'deepfake'), ('test challenge', 'testchallenge'), ('test dev', 'testdev')):
        text = text.replace(parted, whole)
    return text.split()


def _separate(name: str, digits: bool = False) -> list[str]:
    """The pieces between separators (and digits) in lower case; at least one."""
    return [piece for piece in re.split(r'[\W_]+' if digits else r'[\W_\d]+', name_key(name)) if piece] or ['']
