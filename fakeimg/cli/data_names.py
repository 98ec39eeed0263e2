"""The flags --label and --columns: what names in data mean that fakeimg cannot know."""

from collections.abc import Sequence

from absl import flags

from fakeimg.config import Config
from fakeimg.data import labels as labels_lib
from fakeimg.data import tables
from fakeimg.errors import UserError


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
    config.data.labels = labels_lib.merged(config.data.labels, labels())
    config.data.columns = tuple(columns()) or config.data.columns


def for_other_data(recorded: Sequence[str]) -> tuple[str, ...]:
    """The labels for another set than the recorded one."""
    return labels_lib.for_other_data(recorded, labels())


def check_unused(is_prepared: bool) -> None:
    """Raises UserError when flags were given for a prepared set, whose labels are fixed."""
    if is_prepared and (labels() or columns()):
        raise UserError('--label and --columns say how to read images; a prepared set has its labels: leave them out.')
