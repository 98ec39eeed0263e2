"""Files on disk: written whole or not at all, folders locked by one process, the cache folder."""

import contextlib
import fcntl
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from fakeimg.errors import UserError

# For files that hold names of files, which may be any bytes; csv writes its own line ends.
TEXT: dict[str, Any] = {'encoding': 'utf-8', 'errors': 'surrogateescape', 'newline': ''}


@contextlib.contextmanager
def replacing(path: pathlib.Path, mode: str = 'w', **options: Any) -> Iterator[IO[Any]]:
    """Opens a file that takes the place of `path` when the block ends: a reader finds the old file or the new one.

    Nothing is replaced when the block raises.

    Args:
        path: the file; several processes may replace it at once.
        mode, options: those of `open`.
    """
    partial = path.with_name(f'{path.name}.{os.getpid()}.partial')
    try:
        with open(partial, mode, **options) as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes JSON with `replacing`."""
    with replacing(path) as file:
        file.write(json.dumps(value, indent=2) + '\n')


@contextlib.contextmanager
def hold(path: pathlib.Path, refusal: str) -> Iterator[None]:
    """Makes the file `path` and locks it; the lock dies with this process, however it ends.

    Raises:
        OSError: the file cannot be made.
        UserError: with the sentence `refusal`, when another process holds it.
    """
    with open(path, 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(refusal) from None
        except OSError:
            pass  # a file system without locks
        yield


@contextlib.contextmanager
def hold_folder(folder: pathlib.Path, what: str, index: int = 0, refusal: str = '') -> Iterator[None]:
    """Makes a folder and keeps other processes that would write the same thing out of it.

    Where nothing was written to a folder that it made, an error takes the folder away again.

    Args:
        folder: to be made and locked.
        what: is written there, for the message: `training`.
        index: of this process among those that share the folder.
        refusal: another sentence than the usual one, where another process holds it.

    Raises:
        UserError: the folder cannot be made or written to, or another process holds it.
    """
    refusal = refusal or f'another {what} is using {folder}; wait for it, or choose another folder.'
    lock, made = folder / ('.lock' if index == 0 else f'.lock.{index}'), []
    with contextlib.ExitStack() as stack:
        try:
            made = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold(lock, refusal))
        except OSError as error:
            raise UserError(f'{folder} cannot be written to ({error.strerror}); choose another folder.') from error
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):  # it may have been moved or removed already
                if made and os.listdir(folder) == [lock.name]:
                    lock.unlink()
                    for path in made:
                        path.rmdir()
            raise


def shown(path: str | os.PathLike[str]) -> str:
    """A path as a person would type it: relative if it is below the working directory."""
    absolute = os.path.abspath(path)
    relative = os.path.relpath(absolute)
    return absolute if relative.startswith('..') else relative


def require_writable(folder: pathlib.Path) -> None:
    """Makes a folder and writes to it, before the work whose results will go there.

    Raises:
        UserError: it cannot be made, or not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise UserError(
            f'{folder} cannot be written to ({error.strerror}); name another folder for the results.'
        ) from error


def cache_folder() -> pathlib.Path:
    """$XDG_CACHE_HOME/fakeimg, or ~/.cache/fakeimg: converted weights and compiled programs, all of it replaceable.

    A user without a home, as containers have, gets a folder in that of temporary files.
    """
    try:
        return pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'fakeimg'
    except RuntimeError:
        return pathlib.Path(tempfile.gettempdir()) / f'fakeimg-{os.getuid()}'


def ensure_home() -> None:
    """Lets libraries find a home where the user has none, in the folder of temporary files."""
    try:
        pathlib.Path.home()
    except RuntimeError:
        os.environ['HOME'] = str(pathlib.Path(tempfile.gettempdir()) / f'fakeimg-{os.getuid()}')
