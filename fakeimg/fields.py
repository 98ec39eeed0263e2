"""Sections of a configuration: dataclasses whose fields keep their types and whose misspelt fields say so.

A field is named by its path, such as `optimizer.momentum`.
"""

import difflib
import typing
from typing import Any

from fakeimg.errors import UserError


class UnknownField(UserError, AttributeError):
    """A field that does not exist."""


class Section:
    """The base class of configurations and their parts; a part's class is named as its field, in capitals."""

    if not typing.TYPE_CHECKING:  # which would otherwise accept every name

        def __getattr__(self, name):
            raise _unknown(type(self), name)

        def __setattr__(self, name, value):
            kind = _kind(type(self), name)
            if isinstance(value, list):
                value = tuple(value)
            elif type(value) is int and kind in (float, float | None):
                value = float(value)
            if not isinstance(value, tuple if typing.get_origin(kind) is tuple else kind):
                expected = getattr(kind, '__name__', str(kind)).removesuffix(' | None')
                raise UserError(f'{_path(type(self), name)} is {value!r}; it must be of type {expected}.')
            object.__setattr__(self, name, value)

    def require(self, name: str, ok: bool, wanted: str) -> None:
        """Raises UserError, which says what the field must be, unless `ok`."""
        if not ok:
            raise UserError(f'{_path(type(self), name)} is {getattr(self, name)!r}; it must be {wanted}.')

    def require_one_of(self, name: str, *choices: str) -> None:
        """Raises UserError unless the field is one of `choices`."""
        listed = ' or '.join(choices) if len(choices) == 2 else f'one of {", ".join(choices)}'
        self.require(name, getattr(self, name) in choices, listed)


def _kind(section: type, name: str) -> Any:
    if name not in section.__annotations__:
        raise _unknown(section, name)
    return section.__annotations__[name]


def _path(section: type, name: str) -> str:
    return '.'.join(('config', *([] if section.__name__ == 'Config' else [section.__name__.lower()]), name))


def _unknown(section: type, name: str) -> UnknownField:
    similar = difflib.get_close_matches(name, section.__annotations__, 1)
    advice = f'Did you mean {similar[0]}?' if similar else 'All fields are in fakeimg/config.py.'
    return UnknownField(f'unknown config field {_path(section, name)}. {advice}')


def get_field(config: Section, field: str) -> Any:
    """Returns the value of a field by its path. Raises UserError if there is none."""
    value: Any = config
    for name in field.split('.'):
        if not isinstance(value, Section):
            raise UnknownField(f'unknown config field config.{field}. All fields are in fakeimg/config.py.')
        _kind(type(value), name)
        value = getattr(value, name)
    return value


def set_field(config: Section, field: str, value: Any) -> None:
    """Sets a field by its path. Raises UserError if there is none, or if the value is not of its type."""
    get_field(config, field)
    section, _, name = field.rpartition('.')
    setattr(get_field(config, section) if section else config, name, value)


def to_plain(section: Section) -> dict[str, Any]:
    """A section as JSON has it: nested dicts, tuples as lists, without what is None."""
    plain = {}
    for name, value in vars(section).items():
        if value is not None:
            plain[name] = to_plain(value) if isinstance(value, Section) else value
            if isinstance(value, tuple):
                plain[name] = list(value)
    return plain


def update(section: Section, values: dict[str, Any]) -> None:
    """Takes over what `to_plain` gave; what it has no field for is ignored."""
    for name, value in vars(section).items():
        if isinstance(value, Section):
            update(value, values.get(name, {}))
        elif name in values:
            setattr(section, name, values[name])


def changed_fields(old: Section, new: Section, prefix: str = '') -> list[str]:
    """Lists `field: old -> new` for every field that differs, by path."""
    lines = []
    for name, before in sorted(vars(old).items()):
        after = getattr(new, name)
        if isinstance(before, Section):
            lines += changed_fields(before, after, f'{prefix}{name}.')
        elif before != after:
            before, after = (list(value) if isinstance(value, tuple) else value for value in (before, after))
            lines.append(f'{prefix}{name}: {before!r} -> {after!r}')
    return lines
