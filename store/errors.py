"""The errors that Mixed Signals raises on purpose, each with the exit code a command ends with."""


class MixedSignalsError(Exception):
    """The work failed for a reason that the message names; commands end with exit code 1."""

    exit_code = 1


class UsageError(MixedSignalsError):
    """The call was wrong (no such store, unknown name, missing column); commands end with exit code 2."""

    exit_code = 2
