"""How every verb starts: flags in, errors out as one sentence and an exit code."""

import gc
import logging as py_logging
import os
import pathlib
import re
import runpy
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from fakeimg.config import Config
from fakeimg.errors import UserError


def run_verb(main: Callable[[Sequence[str]], int | None]) -> None:
    """Parses the command line, runs `main(argv)`, and exits with its return value.

    A UserError ends in its sentence on stderr and its exit code, without a traceback.
    """
    gc.freeze()  # what has been imported stays: collections pass over it, 0.3 s of a start
    logging.set_verbosity(logging.ERROR)  # orbax and grain narrate every save at INFO
    py_logging.getLogger('jax').setLevel(py_logging.ERROR)

    def guarded(argv: Sequence[str]) -> int | None:
        try:
            return main(argv)
        except UserError as error:
            _fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            _fail('interrupted.', 130)
        except Exception:
            if not _has_other_processes():
                raise
            traceback.print_exc()
            _exit(1)

    app.run(guarded, flags_parser=_parse_flags)


def define_config() -> flags.FlagHolder:
    """Defines `--config FILE` and an override for each of its fields (`--config.batch_size=64`)."""
    return config_flags.DEFINE_config_file('config', None, 'Recipe file, such as configs/resnet50.py.')


def read_config(holder: flags.FlagHolder) -> tuple[Config, str]:
    """Returns the configuration after overrides, and the recipe's name (its file name without .py).

    Raises:
        UserError: no recipe was given, or its file cannot be read.
    """
    config = holder.value
    if config is None:
        raise UserError('no recipe given; add --config configs/demo.py (the others lie beside it).')
    try:
        config.lock()  # a recipe that failed to load reports it at its first use
    except (OSError, SyntaxError) as error:
        raise UserError(_unreadable_recipe(error)) from error
    return config, pathlib.Path(_recipe_path()).stem


def read_search() -> list[list[dict[str, Any]]]:
    """Returns the stages of the recipe's `get_search()`: lists of candidates, each the fields it changes.

    Raises:
        UserError: the recipe has none, or a field that it tries is overridden on the command line.
    """
    path = _recipe_path()
    get_search = runpy.run_path(path).get('get_search')
    if get_search is None:
        raise UserError(f'{path} has no get_search() that says what to try; configs/cifake_search.py shows one.')
    stages = [list(stage) for stage in get_search() or []]
    searched = {field for stage in stages for fields in stage if isinstance(fields, dict) for field in fields}
    if overridden := searched & _overrides().keys():
        field = min(overridden)
        raise UserError(f'--config.{field} is what the search tries; leave it out, or change get_search() in {path}.')
    return stages


def recipe_flags(changes: dict[str, Any]) -> str:
    """The recipe and overrides of this command line, with `changes` on top, as a person types them."""
    fields = {**_overrides(), **changes}
    return shlex.join(['--config', _recipe_path(), *(f'--config.{field}={value}' for field, value in fields.items())])


def _recipe_path() -> str:
    return config_flags.get_config_filename(flags.FLAGS['config']).split(':')[0]


def _overrides() -> dict[str, Any]:
    return config_flags.get_override_values(flags.FLAGS['config'])


def refuse_arguments(argv: Sequence[str]) -> None:
    """Raises UserError when something other than flags is left on the command line."""
    if len(argv) > 1:
        raise UserError(f'unexpected argument {argv[1]!r}; every setting is a flag (--name=value).')


def require(ok: bool, flag: str, value: Any, wanted: str) -> None:
    """Raises UserError, naming the flag and what it must be, unless `ok`."""
    if not ok:
        raise UserError(f'--{flag} is {value}; it must be {wanted}.')


def say(text: str) -> None:
    """Prints for the person who ran the verb; only process 0 does."""
    if not _has_other_processes() or sys.modules['fakeimg.parallel'].is_first_process():
        print(text, flush=True)


def _has_other_processes() -> bool:
    # jax takes a second to import, and a verb that did not import it has no other processes.
    parallel = sys.modules.get('fakeimg.parallel')
    return parallel is not None and parallel.has_other_processes()


def _fail(sentence: str, exit_code: int = 2) -> NoReturn:
    sys.stdout.flush()
    print(f'fakeimg: {sentence}', file=sys.stderr, flush=True)
    _exit(exit_code)


def _exit(exit_code: int) -> NoReturn:
    if _has_other_processes():
        # An ordinary exit would wait minutes for the other processes, which wait for this one.
        sys.stderr.flush()
        os._exit(exit_code)
    sys.exit(exit_code)


def _parse_flags(argv: Sequence[str]) -> Any:
    try:
        if any(argument.split('=')[0] in ('-h', '--help', '--helpshort', '--helpfull') for argument in argv[1:]):
            _help()
        return flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:
        _fail(_unknown_field(str(error.args[0]), argv))
    except (OSError, SyntaxError) as error:
        _fail(_unreadable_recipe(error))
    except (flags.Error, TypeError, ValueError) as error:
        text = ' '.join(str(error).split()).rstrip('.')
        _fail(f'{text[:1].lower()}{text[1:]}.')


def _help() -> NoReturn:
    main = sys.modules['__main__']
    print(f'{main.__doc__}\nFlags:')
    if 'config' in flags.FLAGS:
        print('  --config FILE: recipe, such as configs/resnet50.py; --config.FIELD=VALUE overrides one of its fields,')
        print('    all of which stand in fakeimg/config.py with what they mean')
    for flag in flags.FLAGS.get_flags_for_module(main):
        default = '' if flag.default in (None, '') else f' [{flag.default}]'
        print(f'  --{flag.name}: {flag.help}{default}')
    sys.exit(0)


def _unreadable_recipe(error: Exception) -> str:
    reason = str(error).strip().splitlines()[-1].strip()
    return f'the recipe given with --config cannot be read: {reason}; recipes lie in configs/.'


def _unknown_field(message: str, argv: Sequence[str]) -> str:
    words = re.findall(r'\w+', message)
    overrides = [argument[2:].split('=')[0] for argument in argv if argument.startswith('--config.')]
    # The message names the part that is missing; the whole path stands on the command line.
    field = next((path for path in overrides if words and words[0] in path.split('.')), message)
    hint = re.search(r'Did you mean "(\w+)"', message)
    advice = f' Did you mean {hint.group(1)}?' if hint else ' All fields stand in fakeimg/config.py.'
    return f'unknown config field {field}.{advice}'
