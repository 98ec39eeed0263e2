"""A console that remembers what it said."""

import io
import signal

from fakeimg.console import Console


class Recorder(Console):
    """Keeps all that is said, without a terminal.

    Args:
        interrupt_at: where a line begins with this, a signal comes, once.
        sent: the signal.
    """

    def __init__(self, interrupt_at: str | None = None, sent: signal.Signals = signal.SIGINT):
        self._buffer = io.StringIO()
        self._interrupt_at, self._sent = interrupt_at, sent
        super().__init__(self._buffer)

    def say(self, text: str) -> None:
        super().say(text)
        if self._interrupt_at is not None and text.startswith(self._interrupt_at):
            self._interrupt_at = None
            signal.raise_signal(self._sent)

    @property
    def text(self) -> str:
        return self._buffer.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def clear(self) -> None:
        self._buffer.seek(0)
        self._buffer.truncate()
