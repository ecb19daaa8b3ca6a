"""The one exception that a user is meant to read, and the one condition outside our hands."""

__all__ = ["InputError", "out_of_memory"]


class InputError(ValueError):
    """Something outside the program is wrong: a file, a setting, a decoder, a value that diverged.

    The message is one sentence that says what is wrong, where, and what to do about it. The
    command line prints it without a traceback.
    """


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is a failed allocation, of Python, numpy, torch or the loader."""
    phrases = ("allocate memory", "out of memory", "failed to map segment")
    return isinstance(error, MemoryError) or any(phrase in str(error) for phrase in phrases)
