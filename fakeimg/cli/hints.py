"""What somebody probably meant by a flag that a verb does not have, and the one flag for data that every verb takes."""

import dataclasses
import difflib
import types
from collections.abc import Iterator, Sequence

from absl import flags

from fakeimg.config import Config
from fakeimg.fields import Section

# What other tools call our flags and fields.
_OTHER_WORDS = {
    'data': 'data_path', 'dataset': 'data_path', 'data_dir': 'data_path', 'dataroot': 'data_path', 'input': 'data_path',
    'output': 'out', 'output_dir': 'out', 'outdir': 'out',
    'lr': 'config.optimizer.base_learning_rate', 'learning_rate': 'config.optimizer.base_learning_rate',
    'model': 'config.model.name', 'arch': 'config.model.name', 'optimizer': 'config.optimizer.name',
    'bs': 'config.batch_size', 'num_epochs': 'config.epochs', 'max_steps': 'config.steps',
    'size': 'config.data.image_size', 'img_size': 'config.data.image_size',
    'workers': 'config.data.threads', 'num_workers': 'config.data.threads',
    'weights': 'config.init.weights', 'pretrained': 'config.init.weights', 'amp': 'config.precision',
    'checkpoint': 'step', 'ckpt': 'step', 'run': 'workdir', 'logdir': 'workdir', 'save_dir': 'workdir',
}  # fmt: skip


def with_data_path(module: types.ModuleType, arguments: Sequence[str]) -> list[str]:
    """The arguments with --data_path as the verb names its data: a field of the recipe, or a name without a flag."""
    arguments = list(arguments)
    if 'data_path' in flags.FLAGS:
        return arguments
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition('=')
        if name not in ('--data_path', '--data-path', '-data_path') or not (equals or arguments[place + 1 :]):
            continue
        value, end = (value, place + 1) if equals else (arguments[place + 1], place + 2)
        named = f'--config.data.path={value}' if 'config' in flags.FLAGS else value
        takes_data = 'config' in flags.FLAGS or 'DIR' in (module.__doc__ or '') or 'SOURCE' in (module.__doc__ or '')
        return [*arguments[:place], named, *arguments[end:]] if takes_data else arguments
    return arguments


def with_settings(arguments: Sequence[str], settings: Sequence[tuple[str, str]]) -> list[str]:
    """The arguments with some settings more, see `UserError.add`; flags that take one value lose the one they had."""
    known = {name: flags.FLAGS[name] for name, _ in settings if name in flags.FLAGS}
    kept, takes_next = [], False
    for argument in arguments:
        name, equals, _ = argument.lstrip('-').partition('=')
        replaced = argument.startswith('-') and name in known and not isinstance(known[name], flags.MultiFlag)
        if not (replaced or takes_next):
            kept.append(argument)
        takes_next = replaced and not equals and not known[name].boolean
    return [*kept, *(f'--{name}={value}' if value else f'--{name}' for name, value in settings)]


def meant(unknown: str) -> str:
    """The flag that is closest to an unknown one, for a message; empty if none is."""
    unknown = unknown.replace('-', '_')
    of_verbs = flags.FLAGS.flags_by_module_dict()
    known = [flag.name for module, own in of_verbs.items() if module.startswith('fakeimg') for flag in own]
    fields = list(_fields(Config(), 'config')) if 'config' in flags.FLAGS else []
    other = _OTHER_WORDS.get(unknown, '')
    if other in known or other in fields:
        return other
    if other == 'data_path' and fields:
        return 'config.data.path'
    by_end = {field.rpartition('.')[2]: field for field in reversed(fields)}
    by_end |= {field.removeprefix('config.').replace('.', '_'): field for field in fields}
    by_end |= {name: name for name in known}
    (close,) = difflib.get_close_matches(unknown, by_end, 1, 0.7) or ['']
    return by_end.get(close, '')


def _fields(section: Section, path: str) -> Iterator[str]:
    for field in dataclasses.fields(section):  # pyright: ignore[reportArgumentType]  # sections are dataclasses
        value = vars(section).get(field.name)
        if isinstance(value, Section):
            yield from _fields(value, f'{path}.{field.name}')
        else:
            yield f'{path}.{field.name}'
