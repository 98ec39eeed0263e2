"""Standard streams that never stop the work: what writes to them need not know whether anybody still reads."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, Any


def guard_standard_streams() -> None:
    """Makes sys.stdout and sys.stderr streams to which anybody can write, libraries too, when their reader is gone."""
    for name in ('stdout', 'stderr'):
        stream = getattr(sys, name)
        if not isinstance(stream, Stream):
            # None: closed before the start.
            setattr(sys, name, Stream(open(os.devnull, 'w') if stream is None else stream))


class Stream:
    """A stream that stays quiet once a write to it has failed."""

    def __init__(self, stream: IO[str]):
        self._stream: IO[str] | None = stream
        self._original = stream
        self.encoding = getattr(stream, 'encoding', None) or 'utf-8'

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def write(self, text: str) -> int:
        with self._given_up_on_failure():
            if self._stream:
                try:
                    self._stream.write(text)
                except UnicodeEncodeError:  # the name of a file, on a terminal of another encoding
                    self._stream.write(text.encode(self.encoding, 'backslashreplace').decode(self.encoding))
        return len(text)

    def flush(self) -> None:
        with self._given_up_on_failure():
            if self._stream:
                self._stream.flush()

    def isatty(self) -> bool:
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:  # closed
            return False

    def fileno(self) -> int:
        if self._stream is None:
            raise OSError('the stream was given up')
        return self._stream.fileno()

    @contextlib.contextmanager
    def _given_up_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:  # a pipe that does not block and is full; its reader is slow, not gone
            pass
        except (OSError, ValueError):
            stream, self._stream = self._stream, None
            # What its buffer still holds would fail again, with a message, when Python flushes it at the end.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                number = stream.fileno()  # pyright: ignore[reportOptionalMemberAccess]
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, number)
                os.close(null)
