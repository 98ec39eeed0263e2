"""The one kind of error that a person is meant to read; everything else is a bug and keeps its traceback."""

import os
import re
from collections.abc import Sequence


class UserError(Exception):
    """One sentence: what is wrong, where, and what to do. Verbs print it and exit with 2.

    Attributes:
        add: settings, each a name and a value (empty where the name says it all), with which the same command may
            work; a verb prints it with them.
        instead: another way, likewise.
    """

    exit_code = 2

    def __init__(
        self, sentence: str = '', *, add: Sequence[tuple[str, str]] = (), instead: Sequence[tuple[str, str]] = ()
    ):
        super().__init__(sentence)
        self.add, self.instead = tuple(add), tuple(instead)


class TrainingDiverged(UserError):
    """The loss or the gradients are no longer finite. Verbs print it and exit with 1."""

    exit_code = 1


def system_error(error: BaseException | None) -> str | None:
    """The words of the operating system for what is behind an exception: `No space left on device`; None if nothing."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return os.strerror(error.errno)
        if match := re.search(r"\[os_error_code='(\d+)'\]", str(error)):  # tensorstore's, in a ValueError
            return os.strerror(int(match[1]))
        error = error.__cause__ or error.__context__
    return None
