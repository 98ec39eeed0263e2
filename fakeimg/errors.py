"""The one kind of error that a person is meant to read; everything else is a bug and keeps its traceback."""


class UserError(Exception):
    """One sentence: what is wrong, where, and what to do. Verbs print it and exit with 2."""

    exit_code = 2


class TrainingDiverged(UserError):
    """The loss or the gradients are no longer finite. Verbs print it and exit with 1."""

    exit_code = 1
