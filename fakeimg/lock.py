"""A lock on a folder that dies with the process that holds it, however that ends."""

import contextlib
import fcntl
import pathlib
from collections.abc import Iterator

from fakeimg.errors import UserError


@contextlib.contextmanager
def hold(path: pathlib.Path, refusal: str) -> Iterator[None]:
    """Makes the file `path` and locks it.

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
