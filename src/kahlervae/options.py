"""Options at the door: a text that is no choice, and a number out of range, end in one sentence."""

import math
import operator
from collections.abc import Iterable
from typing import Any

from kahlervae.errors import InputError

__all__ = ["check_choice", "check_count", "check_number", "check_sizes"]


def check_choice(what: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse what is none of the choices, by letter and case.

    Example:
        >>> check_choice("the weight", "Local", ["global", "local"])
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: the weight 'Local' is unknown: choose one of global, local.
    """
    names = list(choices)
    if value not in names:
        raise InputError(f"{what} {value!r} is unknown: choose one of {', '.join(names)}.")


def check_count(what: str, value: Any, least: int = 1, most: int | None = None) -> None:
    """Refuse what is no whole number, as 8.0 is none, or too small or too large a one.

    Example:
        >>> check_count("the number of steps", 2.5)
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: the number of steps is 2.5: give a whole number of at least 1.
    """
    try:
        number = operator.index(value)
        fits = number >= least and (most is None or number <= most)
    except TypeError:
        fits = False
    if not fits:
        bound = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{what} is {value!r}: give a whole number {bound}.")


def check_sizes(whose: str, **sizes: Any) -> None:
    """Refuse sizes of a network, a prior or the like that are no whole numbers of at least 1.

    Example:
        >>> check_sizes("a decoder", width=8, depth=0)
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: depth of a decoder is 0: give a whole number of at least 1.
    """
    for name, size in sizes.items():
        check_count(f"{name} of {whose}", size)


def check_number(
    what: str,
    value: Any,
    positive: bool = False,
    least: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Refuse what is no finite number, not positive where it has to be, or out of the bounds.

    Example:
        >>> check_number("ε", 0.0, positive=True)
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: ε is 0.0: give a finite number above 0.
    """
    try:
        fits = math.isfinite(value) and least <= value < below and not (positive and value <= 0)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        fits = False
    if not fits:
        bound = " above 0" if positive else f" of at least {least:g}" if least > -math.inf else ""
        bound += f" and below {below:g}" if below < math.inf else ""
        raise InputError(f"{what} is {value!r}: give a finite number{bound}.")
