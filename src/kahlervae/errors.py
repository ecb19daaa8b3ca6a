"""The one exception that a user is meant to read."""

__all__ = ["InputError"]


class InputError(Exception):
    """Something outside the program is wrong: a file, a setting, a value that diverged.

    The message is one sentence that says what is wrong, where, and what to do about it. The
    command line prints it without a traceback.
    """
