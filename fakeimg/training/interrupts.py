"""SIGTERM and Ctrl-C as a flag that the loop reads between steps, so that it can save before it leaves."""

import contextlib
import os
import signal
from typing import Any


class Interrupts:
    """Context manager; `received` is the first signal that came, or None. A second one stops at once."""

    def __init__(self):
        self.received: signal.Signals | None = None

    def __enter__(self) -> 'Interrupts':
        self._previous = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _receive(self, number: int, _frame: Any) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        # Not print: the signal may have come in the middle of one. A terminal that is gone is no reason to fail.
        with contextlib.suppress(OSError):
            os.write(
                2,
                f'{self.received.name}: stopping after the steps under way to save; again to leave at once\n'.encode(),
            )

    def __exit__(self, *_exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
