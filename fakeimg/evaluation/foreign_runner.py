"""Runs a detector's function in a process of its own: a script that `foreign` starts, for any Python from 3.7.

Arguments: the detector's file, its function, the process that starts this one, and the descriptors of two pipes. Each
line from the first pipe is a JSON list of paths; each line to the second is {"scores": [...]} or {"error": "...",
"at": "..."}. What the detector prints goes to stdout and stderr, with the traceback of an error.
"""

import contextlib
import importlib.util
import json
import os
import signal
import sys
import traceback
from typing import Any


def main(file: str, function: str, parent: str, *pipes: str) -> None:
    process = os.getpid()
    die_with(int(parent))
    streams: Any = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.reconfigure(errors='backslashreplace')  # so that a name that is no UTF-8 can be printed
    for pipe in pipes:
        os.set_inheritable(int(pipe), False)
    requests, replies = open(int(pipes[0]), 'rb'), open(int(pipes[1]), 'wb')

    def reply(**message: Any) -> None:
        if os.getpid() != process:
            os._exit(0)  # a fork of the detector that came back from its code
        replies.write(json.dumps(message).encode() + b'\n')
        replies.flush()

    at = 'import'
    try:
        module = load(file)
        at = 'find'
        predict = find(module, function)
        reply(scores=[])
        for line in requests:
            at = 'call'
            scores = predict(json.loads(line))
            at = 'result'
            reply(scores=to_numbers(scores))
    except BaseException as error:
        if os.getpid() == process:
            traceback.print_exc()
            with contextlib.suppress(OSError):  # the parent may be gone
                reply(error=describe(error), at=at, kind=type(error).__name__)
        os._exit(1)


def die_with(parent: int) -> None:
    """On Linux; elsewhere the end of its pipe ends the process after a batch."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it was too late
        os._exit(1)


def load(file: str) -> Any:
    folder, name = os.path.split(file)
    if sys.path[:1] == [os.path.dirname(os.path.abspath(__file__))]:
        del sys.path[0]  # the modules beside this script are not for the detector
    sys.path.insert(0, folder)
    sys.argv = [file]
    stem = os.path.splitext(name)[0]
    spec: Any = importlib.util.spec_from_file_location(stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module
    spec.loader.exec_module(module)
    return module


def find(module: Any, function: str) -> Any:
    found = getattr(module, function, None)
    if callable(found):
        return found
    own = [name for name, value in vars(module).items() if getattr(value, '__module__', None) == module.__name__]
    raise LookupError('it has ' + (', '.join(own[:8]) or 'no function'))


def to_numbers(scores: Any) -> Any:
    """Any list, array or tensor of n numbers, or of n rows of one, as a list; None stays."""
    if scores is None:
        raise TypeError('None')
    if hasattr(scores, 'detach'):
        scores = scores.detach().cpu()
    elif hasattr(scores, 'numpy') and not hasattr(scores, 'tolist'):
        scores = scores.numpy()
    shape = getattr(scores, 'shape', None)
    if shape is not None and len(shape) != 1 and tuple(shape[1:]) != (1,):
        raise TypeError(f'an array of shape {list(shape)}')
    return list(map(to_number, scores.tolist() if hasattr(scores, 'tolist') else scores))


def to_number(value: Any) -> Any:
    is_row = isinstance(value, (list, tuple)) and len(value) == 1
    number: Any = value[0] if is_row else value
    try:
        return None if number is None else float(number)
    except (TypeError, ValueError):
        raise TypeError(f'{value!r:.60} among the scores') from None


def describe(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f'sys.exit({"" if error.code is None else repr(error.code)})'
    if isinstance(error, SyntaxError):
        return f'{type(error).__name__}: {error}'
    line = ' '.join(traceback.format_exception_only(type(error), error)[-1].split())
    return line if len(line) <= 300 else line[:300] + '...'


if __name__ == '__main__':
    main(*sys.argv[1:])
