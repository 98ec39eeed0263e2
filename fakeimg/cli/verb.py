"""How every verb starts: flags in, errors out as one sentence and an exit code."""

import errno
import gc
import itertools
import logging as py_logging
import os
import re
import shlex
import sys
import traceback
import types
from collections.abc import Sequence
from typing import Any, NoReturn, TextIO

from absl import app, flags, logging

from fakeimg import files
from fakeimg.cli import hints, recipe
from fakeimg.console import SILENT, Console
from fakeimg.errors import UserError

_SHARED = ('fakeimg.cli.models', 'fakeimg.cli.data_names')  # whose flags several verbs have
# What no code can help, and what to do then.
_OF_THE_MACHINE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), 'make space there or name another folder'),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), 'make it writable or name another folder'),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EREMOTEIO), 'see to the disk or the network'),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), 'allow more open files (ulimit -n)'),
}


def run(module: types.ModuleType, arguments: Sequence[str]) -> NoReturn:
    """Parses the flags of a verb, runs its `main(argv)`, and exits with what that returns.

    A UserError ends in its sentence on stderr and its exit code, without a traceback.

    Args:
        module: the verb, a module of this package with flags and `main`.
        arguments: what the user typed after the verb.
    """
    gc.freeze()  # imported modules stay until the end; the garbage collector need not visit them
    # Orbax and grain narrate every save, and log every error that they raise as well.
    logging.set_verbosity(logging.FATAL)
    files.ensure_home()
    py_logging.getLogger('asyncio').setLevel(py_logging.CRITICAL)
    for library in ('jax', 'matplotlib'):  # of a home that cannot be written to, for example
        py_logging.getLogger(library).setLevel(py_logging.ERROR)

    def guarded(argv: Sequence[str]) -> int | None:
        try:
            return module.main(argv)
        except UserError as error:
            _fail(_with_command(module, arguments, error), error.exit_code)
        except KeyboardInterrupt:
            _fail('interrupted.', 130)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
                _fail(_machine_sentence(error))
            if not _has_other_processes():
                raise
            traceback.print_exc()
            _exit(1)

    try:
        sys.argv = [
            sys.argv[0],
            *recipe.resolve_names(hints.with_data_path(module, arguments)),
        ]  # where ml_collections looks for overrides
    except UserError as error:
        _fail(str(error))
    raise SystemExit(app.run(guarded, argv=sys.argv, flags_parser=lambda argv: _parse_flags(module, argv)))


def console(notes: Sequence[str] = (), stream: TextIO | None = None) -> Console:
    """The console of this process, once it has said `notes`: of several of one run, only the first says anything.

    `stream` is where it writes, stdout if None.
    """
    if _has_other_processes() and not _parallel().is_first_process():
        return SILENT
    told = Console(stream or sys.stdout)
    told.say_when_quiet()
    for note in notes:
        told.warn(note)
    return told


def refuse_arguments(argv: Sequence[str]) -> None:
    """Raises UserError when something other than flags is left on the command line."""
    if len(argv) > 1:
        raise UserError(f'unexpected argument {argv[1]!r}; every setting is a flag (--name=value).')


def require(ok: bool, flag: str, value: Any, wanted: str) -> None:
    """Raises UserError, naming the flag and what it must be, unless `ok`."""
    if not ok:
        raise UserError(f'--{flag} is {value}; it must be {wanted}.')


def _parallel() -> Any:
    # jax takes a second to import, and a verb that did not import it has no other processes.
    return sys.modules.get('fakeimg.runtime.parallel')


def _has_other_processes() -> bool:
    return _parallel() is not None and _parallel().has_other_processes()


def _machine_sentence(error: OSError) -> str:
    what = f'{error.filename}: {error.strerror}' if error.filename else f'{error.strerror}'
    return f'{what}; {_OF_THE_MACHINE[error.errno or 0]}, and run the same command again.'


def _with_command(module: types.ModuleType, arguments: Sequence[str], error: UserError) -> str:
    """The sentence of an error, with the commands that may work where it knows some."""
    start = ['fakeimg', module.__name__.rpartition('.')[2]]
    ways = [hints.with_settings(arguments, settings) for settings in (error.add, error.instead) if settings]
    if not ways:
        return str(error)
    return f'{str(error).rstrip(".")} (for example: {" or: ".join(shlex.join([*start, *way]) for way in ways)} ).'


def _fail(sentence: str, exit_code: int = 2) -> NoReturn:
    Console(sys.stderr).say(f'fakeimg: {sentence}')
    _exit(exit_code)


def _exit(exit_code: int) -> NoReturn:
    if _has_other_processes():
        # An ordinary exit would wait minutes for the other processes, which wait for this one.
        os._exit(exit_code)
    sys.exit(exit_code)


def _parse_flags(module: types.ModuleType, argv: Sequence[str]) -> Any:
    try:
        if any(argument.split('=')[0] in ('-h', '--help', '--helpshort', '--helpfull') for argument in argv[1:]):
            Console(sys.stdout).say(_help(module))
            sys.exit(0)
        return flags.FLAGS(argv)
    except UserError as error:
        _fail(str(error))
    except (OSError, SyntaxError) as error:
        _fail(recipe.unreadable(error))
    except flags.UnrecognizedFlagError as error:
        meant = hints.meant(error.flagname)
        advice = f'did you mean --{meant}?' if meant else 'the verb lists its flags with --help.'
        _fail(f'unknown command line flag --{error.flagname}; {advice}')
    except (flags.Error, TypeError, ValueError) as error:
        text = ' '.join(str(error).split()).rstrip('.')
        _fail(f'{text[:1].lower()}{text[1:]}.')


def _help(module: types.ModuleType) -> str:
    lines = [module.__doc__ or '', 'Flags:']
    own = [flags.FLAGS.get_flags_for_module(name) for name in (module.__name__, *_SHARED)]
    for flag in itertools.chain(*own):
        default = '' if flag.default in (None, '', []) else f' (default: {flag.default})'
        text = re.sub(r';\s+repeat this option to specify a list of values', '', flag.help)  # after a full stop
        lines.append(f'  --{flag.name}: {re.sub(" +", " ", text)}{default}')
    if 'config' in flags.FLAGS:
        lines += ['', recipe.help_text()]
    return '\n'.join(lines)
