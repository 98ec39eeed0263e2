"""A console that remembers what it was told."""

import io

from fakeimg.console import Console


class Recorder(Console):
    """Keeps all that is said, without a terminal."""

    def __init__(self):
        self._buffer = io.StringIO()
        super().__init__(self._buffer)

    @property
    def text(self) -> str:
        return self._buffer.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def clear(self) -> None:
        self._buffer.seek(0)
        self._buffer.truncate()
