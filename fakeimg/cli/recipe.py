"""The flag --config: recipes by name or path, and an override for each of their fields."""

import difflib
import inspect
import pathlib
import re
import shlex
import textwrap
from collections.abc import Collection, Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

import fakeimg
from fakeimg.cli import data_names
from fakeimg.config import DEGRADATIONS, DEMO, Config
from fakeimg.errors import UserError
from fakeimg.fields import Section, get_field
from fakeimg.networks import NETWORKS

# A field in the source of its section: name, default, comment. Sections themselves are not matched.
_FIELD = re.compile(r'^    (\w+): [^=\n]+ = (?!dataclasses)(.+?)(?:  # (.*))?$', re.MULTILINE)

# Fields, and sections of them, that only a training reads.
_OF_TRAINING = (
    *('epochs', 'steps', 'early_stopping', 'microbatches'),
    *('log_every_steps', 'validate_every_epochs', 'checkpoint_every_steps'),
    *('finetune.', 'augment.', 'loss.', 'optimizer.', 'data.balanced_sampling'),
)


def define_config() -> flags.FlagHolder:
    """Defines `--config`, overrides for each field (`--config.batch_size=64`), and flags for the data."""
    data_names.define()
    return config_flags.DEFINE_config_file('config', None, 'Recipe, by name or path.')


def read_config(holder: flags.FlagHolder) -> tuple[Config, str]:
    """Returns the configuration after overrides, and the recipe's name (its file name without .py).

    Raises:
        UserError: no recipe was given, or its file cannot be read.
    """
    config = holder.value
    if config is None:
        raise UserError(f'no recipe given; add --config NAME, one of {", ".join(names())}, or the path of your own.')
    try:
        config.data  # noqa: B018  a recipe that failed to load reports it at its first use
    except (OSError, SyntaxError) as error:
        raise UserError(unreadable(error)) from error
    if not isinstance(config, Config):
        raise UserError(f'get_config() of {path()} must return what fakeimg.config.default_config() returned to it.')
    if 'data.image_size' in overrides() and 'data.resize_size' not in overrides():
        before: Any = flags.FLAGS['config.data.image_size'].default
        config.data.keep_ratio(before)
    data_names.apply(config)
    return config, path().stem


def folder() -> pathlib.Path:
    """Where the recipes lie: beside the package in a clone, inside it where a wheel was installed."""
    package = pathlib.Path(fakeimg.__file__).parent
    inside = package / 'configs'
    return inside if inside.is_dir() else package.parent / 'configs'


def names() -> list[str]:
    """The recipes that come with fakeimg."""
    return sorted(path.stem for path in folder().glob('*.py') if not path.stem.startswith('_'))


def resolve_names(arguments: Sequence[str]) -> list[str]:
    """Replaces the name of a recipe after --config by its path, and puts it first.

    Raises:
        UserError: neither a file nor a recipe that comes with fakeimg, or an override of a field that does not exist.
    """
    resolved, recipes = list(arguments), []
    for place, argument in enumerate(arguments):
        if argument in ('--config', '-config') and place + 1 < len(resolved):
            resolved[place + 1] = _resolve(resolved[place + 1])
            recipes += [place, place + 1]
        elif argument.startswith(('--config=', '-config=')):
            resolved[place] = f'--config={_resolve(argument.split("=", 1)[1])}'
            recipes.append(place)
        elif override := re.match(r'--?(?:no)?config\.([^=]+)', argument):
            get_field(Config(), override[1])
    others = [argument for place, argument in enumerate(resolved) if place not in recipes]
    return [*(resolved[place] for place in recipes), *others]  # ml_collections wants it before its fields


def _resolve(name: str) -> str:
    if pathlib.Path(name).exists():
        return name
    shipped = folder() / f'{pathlib.Path(name).name.removesuffix(".py")}.py'
    if shipped.is_file() and name in (shipped.stem, shipped.name, f'configs/{shipped.name}'):
        return str(shipped)
    if '/' not in name and '.' not in name:
        similar = difflib.get_close_matches(name, names(), 1)
        hint = f'did you mean {similar[0]}? All are' if similar else 'it must be one of'
        raise UserError(f'there is no recipe {name!r}; {hint} {", ".join(names())}, or the path of a file.')
    return name  # reading it will say what is wrong


def path() -> pathlib.Path:
    """The file that was given as --config."""
    return pathlib.Path(config_flags.get_config_filename(flags.FLAGS['config']).split(':')[0])


def overrides() -> dict[str, Any]:
    """The fields that were changed on the command line: `{'data.path': 'DIR'}`."""
    return config_flags.get_override_values(flags.FLAGS['config'])


def without_effect(config: Config, searched: Collection[str] = (), *, trains: bool = True) -> list[str]:
    """Notes about fields of the command line that do nothing beside what the others say.

    Args:
        config: after overrides.
        searched: fields that will take other values still.
        trains: whether the verb trains.
    """
    augment, optimizer = config.augment, config.optimizer
    # Each with the field that decides, whether it has an effect then, and why not.
    decided = {
        'epochs': ('steps', not config.steps, f'config.steps={config.steps} is given'),
        'data.demo_examples': ('data.path', config.data.path == DEMO, 'the images are not the demo faces'),
    }
    methods = {'momentum': ('sgd', 'muon'), 'adamw_learning_rate': ('muon',)}  # that the fields are of
    reason = f'config.optimizer.name is {optimizer.name}'
    decided |= {f'optimizer.{field}': ('optimizer.name', optimizer.name in of, reason) for field, of in methods.items()}
    is_degraded, never = augment.degradation_probability > 0, 'config.augment.degradation_probability is 0'
    decided |= {f'augment.{kind}': ('augment.degradation_probability', is_degraded, never) for kind in DEGRADATIONS}
    notes = []
    for field in overrides():
        by, has_effect, reason = decided.get(field, ('', True, ''))
        if not trains and field.startswith(_OF_TRAINING):
            by, has_effect, reason = '', False, 'nothing is trained'
        if not has_effect and by not in searched:
            notes.append(f'config.{field} has no effect, because {reason}')
    return notes


def as_flags(changes: dict[str, Any]) -> str:
    """The recipe and overrides of this command line, with `changes` on top, as a person types them."""
    fields = {**overrides(), **changes}
    recipe = path().stem if path().parent == folder() else str(path())
    return shlex.join(['--config', recipe, *(f'--config.{field}={value}' for field, value in fields.items())])


def unreadable(error: Exception) -> str:
    """The sentence about a recipe that cannot be loaded."""
    reason = str(error).strip().splitlines()[-1].strip()
    return f'the recipe given with --config cannot be read: {reason}; recipes lie in configs/.'


def help_text() -> str:
    """All recipes, and all fields with their defaults and comments, section by section, from config.py."""
    recipes = textwrap.fill(', '.join(names()), 100, initial_indent='  ', subsequent_indent='  ')
    lines = ['Recipes:', recipes, '', 'Fields of a recipe, set with --config.FIELD=VALUE (here with their defaults):']
    for section in (Config(), *(value for value in vars(Config()).values() if isinstance(value, Section))):
        lines.append('')
        for name, default, comment in _FIELD.findall(inspect.getsource(type(section))):
            if default == 'None':
                default = next(options[name] for options in NETWORKS.values() if name in options)
            path = name if isinstance(section, Config) else f'{type(section).__name__.lower()}.{name}'
            start = f'  {path}={default}'.ljust(38)
            first, *others = textwrap.wrap(comment, 100 - 39) or ['']
            lines += [f'{start} {first}'.rstrip(), *(' ' * 39 + other for other in others)]
    return '\n'.join(lines)
