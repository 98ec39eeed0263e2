"""Commands as a person types them, with what this one's command line said about the images."""

import json
import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from absl import flags

from fakeimg.auditing.finding import Command
from fakeimg.data import layouts, records

Settings = Sequence[tuple[str, str]]
_RECIPE = 'resnet50'
_UNKNOWN_SOURCE = 'SOURCE'  # the images that a set of an early fakeimg was prepared from


class Images(NamedTuple):
    """Images as a command line names them.

    Attributes:
        path: of the set.
        read_with: settings that say how it is read and split, a name as often as it was given.
        source: of a prepared set, the images that it was made from.
        made_with: and the settings with which it was made.
    """

    path: str
    read_with: Settings
    source: str | None = None
    made_with: Settings = ()


def given(names: Sequence[str]) -> list[tuple[str, str]]:
    """The flags among `names` that this command line has, a repeated one as often as it was given."""
    settings = []
    for name in names:
        flag = flags.FLAGS[name]
        if flag.present:
            # A list is one flag with commas.
            is_repeated = isinstance(flag, flags.MultiFlag)
            values = (
                flag.value or [] if is_repeated else [flag.serialize().partition('=')[2]] * (flag.value is not False)
            )
            settings += [(name, str(value)) for value in values]
    return settings


def made_from(path: str, names: Sequence[str]) -> Mapping[str, object]:
    """How a set is prepared, for a file beside it: the images, and the flags that decide what comes out."""
    return {'path': os.path.abspath(os.path.expanduser(path)), 'settings': given(names)}


def images(path: str, names: Sequence[str]) -> Images:
    """The images at `path`, read with the flags `names` of this command line."""
    if not records.is_prepared(path):
        return Images(path, given(names))
    summary = json.loads((pathlib.Path(path).expanduser() / records.SUMMARY).read_text())
    made = summary.get('made_from') or {'path': _UNKNOWN_SOURCE, 'settings': []}
    return Images(path, given(names), made['path'], [(name, value) for name, value in made['settings']])


def spell(command: Command, of: Images) -> str:
    """A command on images, whole and quoted for a shell. What `prepare` writes goes where nothing is."""
    verb, settings = command.verb, list(command.settings)
    if verb == 'train':
        fields = [('config.data.validation_fraction', value) if name == 'validation_fraction' else (name, value)
                  for name, value in of.read_with if (name, value) != ('validation_fraction', '0.0')]  # fmt: skip
        words = _words([('config', _RECIPE), ('config.data.path', of.path), *fields, *settings])
    elif verb == 'prepare' and of.source is not None:
        own = {name for name, _ in settings}
        kept = [(name, value) for name, value in of.made_with if name not in own]
        words = [of.source, *_words([('out', _unused(of.path)), *kept, *settings])]
    elif verb == 'prepare':
        words = [of.path, *_words([('out', _unused(f'data/{layouts.set_name(of.path)}')), *of.read_with, *settings])]
    else:
        words = [of.path, *_words([*of.read_with, *settings])]
    return shlex.join(['fakeimg', verb, *words])


def _words(settings: Settings) -> list[str]:
    return [f'--{name}={value}' if value else f'--{name}' for name, value in settings]


def _unused(path: str) -> str:
    path = path.rstrip('/')
    names = (f'{path}-{number}' if number > 1 else path for number in range(1, 1000))
    return next((name for name in names if not os.path.exists(os.path.expanduser(name))), path)
