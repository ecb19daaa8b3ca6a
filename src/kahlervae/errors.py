"""The one exception that a user is meant to read, and the one condition outside our hands."""

__all__ = ["Diverged", "InputError", "one_line", "out_of_memory"]

LONGEST = 1000
"""Characters of a sentence that is printed, at most: names may be long."""


class InputError(ValueError):
    """Something outside the program is wrong: a file, a setting, a decoder, a value that diverged.

    The message is one sentence that says what is wrong, where, and what to do about it. The
    command line prints it without a traceback.
    """


class Diverged(InputError):
    """A fit ended far from where it should have; smaller steps may not."""


def one_line(text: str) -> str:
    """A text that stays one line of a terminal, or of a comment, whatever names it holds.

    Example:
        >>> one_line("no file a\\nb: é")
        'no file a\\\\nb: é'
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    half = LONGEST // 2
    return shown if len(shown) <= LONGEST else f"{shown[:half]} … {shown[-half:]}"


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is a failed allocation, of Python, numpy, torch or the loader."""
    phrases = ("allocate memory", "out of memory", "failed to map segment")
    return isinstance(error, MemoryError) or any(phrase in str(error) for phrase in phrases)
