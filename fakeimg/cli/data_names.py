"""The flags --label and --columns: what names in data mean that fakeimg cannot know."""

from collections.abc import Sequence

from absl import flags

from fakeimg.config import Config
from fakeimg.data import labels as labels_lib
from fakeimg.data import tables
from fakeimg.errors import UserError

# Labels that mean one class in one set and the other in the next.
_NEVER_CARRIED = ('0', '1', 'true', 'false', 'yes', 'no')


def define() -> None:
    """Defines the flags; a verb that reads data calls it once, before flags are parsed."""
    flags.DEFINE_multi_string('label', [], 'NAME=real or NAME=fake: what a folder name or label means; repeatable.')
    flags.DEFINE_list('columns', [], 'Columns of a table: path=NAME,label=NAME, also split, source and group.')


def labels() -> list[str]:
    """The values of --label, checked. Raises UserError when one says nothing."""
    given: list[str] = flags.FLAGS['label'].value or []
    labels_lib.class_names(given)
    return given


def columns() -> list[str]:
    """The values of --columns, checked. Raises UserError when one says nothing."""
    given: list[str] = flags.FLAGS['columns'].value or []
    tables.columns_of(given)
    return given


def apply(config: Config) -> None:
    """Records the flags in a configuration, so that every later reading of its data uses them."""
    config.data.labels = merge(config.data.labels, labels())
    config.data.columns = tuple(columns()) or config.data.columns


def merge(recorded: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    """The labels that were recorded and those that are given, which win."""
    own = labels_lib.named(given)
    kept = [item for item in recorded if not labels_lib.named([item]).keys() & own.keys()]
    return (*kept, *(item for item in given if item not in kept))


def for_other_data(recorded: Sequence[str]) -> tuple[str, ...]:
    """The labels for another set than the recorded one: numbers mean something else there, words the same."""
    words = [item for item in recorded if not labels_lib.named([item]).keys() & set(_NEVER_CARRIED)]
    return merge(words, labels())


def check_unused(is_prepared: bool) -> None:
    """Raises UserError when flags were given for a prepared set, whose labels are fixed."""
    if is_prepared and (labels() or columns()):
        raise UserError('--label and --columns say how to read images; a prepared set has its labels: leave them out.')
