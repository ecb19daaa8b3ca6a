"""Modules of the right shapes without values, to be filled from a file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["skeleton"]

DRAWS = {Tensor.normal_, Tensor.uniform_}


class _Undrawn(TorchFunctionMode):
    """Leave out what initialisation draws.

    On the device ``meta`` a draw draws nothing either, but torch loads its compiler for it (for
    products out of place as well): that takes as long as all else that starts a command.
    """

    def __torch_function__(
        self,
        func: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return args[0] if func in DRAWS else func(*args, **(kwargs or {}))


@contextmanager
def skeleton() -> Iterator[None]:
    """Modules that are made here have shapes and no values: nothing is allocated or drawn.

    What a file claims about its sizes costs nothing then, until its tensors have them.

    Example:
        >>> with skeleton():
        ...     layer = torch.nn.Linear(10**6, 10**6)
        >>> layer.weight.device
        device(type='meta')
    """
    with torch.device("meta"), _Undrawn():
        yield
