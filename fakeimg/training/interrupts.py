"""Signals that ask to stop, as a flag that the loop reads between steps, so that it can save before it leaves."""

import contextlib
import os
import signal
import time
from typing import Any

# From a person, a closed terminal, batch systems (before a time limit), and a limit of processor time.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
# Those of which a second one means "at once". The others repeat by themselves: the kernel sends SIGXCPU every second,
# and SIGHUP comes from the shell as well as from its terminal.
_URGENT = (signal.SIGTERM, signal.SIGINT)
_SAME = 0.5  # seconds in which a second one is an echo: timeout, for one, signals its child and then the whole group


class Interrupts:
    """Context manager; `received` is the first signal that came, or None. A second SIGTERM or Ctrl-C stops at once.

    SIGHUP stays ignored where it was, for example under nohup.
    """

    def __init__(self):
        self.received: signal.Signals | None = None
        self._urged: float | None = None  # when the first of _URGENT came

    def __enter__(self) -> 'Interrupts':
        self._previous = {}
        for number in SIGNALS:
            if number in _URGENT or signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, _frame: Any) -> None:
        now = time.monotonic()
        if number in _URGENT:
            if self._urged is not None and now - self._urged >= _SAME:
                raise KeyboardInterrupt
            self._urged = self._urged or now
        if self.received is not None:
            return
        self.received = signal.Signals(number)
        # Not print: the signal may have come in the middle of one. A terminal that is gone is no reason to fail.
        with contextlib.suppress(OSError):
            os.write(
                2,
                f'{self.received.name}: stopping after the steps under way to save; '
                'Ctrl-C or SIGTERM leaves at once\n'.encode(),
            )

    def __exit__(self, *_exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
