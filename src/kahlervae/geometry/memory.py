"""How much at once: chunks of points and directions that follow from a number of bytes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["MEMORY", "allocated", "chunks"]

MEMORY = 1 << 30
"""Bytes beyond inputs and results that a function may take, unless its caller says otherwise."""


class _Meter(TorchDispatchMode):
    """Adds up what every operation makes, under all transformations of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = (leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        self.total += sum(t.numel() * t.element_size() for t in tensors)
        return out


def allocated(f: Callable[..., Any], *arguments: Any) -> int:
    """Bytes of all tensors that a call makes: a bound of what it holds at once.

    Example:
        >>> allocated(lambda x: (2 * x).exp(), torch.zeros(10))  # two tensors of ten floats
        80
    """
    with _Meter() as meter:
        f(*arguments)
    return meter.total


def chunks(f: Callable[[Tensor], Any], z: Tensor, memory: int) -> tuple[int, int]:
    """Points, and directions of each, along which f is to be differentiated forwards at once.

    Args:
        f: maps (n, d) to (n, ...), row by row.
        z: complex latents (n, d), n ≥ 1, which have 2d directions.
        memory: bytes that may be taken; one point and one direction are the least.

    Example:
        >>> z = torch.zeros(100, 2) + 0j
        >>> chunks(torch.exp, z, 1)  # one point and one direction
        (1, 1)
        >>> points, directions = chunks(torch.exp, z, 1 << 20)
        >>> points > 100, directions
        (True, 4)
    """
    row = z[:1]
    pairs = max(1, memory // allocated(lambda: jvp(f, (row,), (torch.ones_like(row),))))
    directions = 2 * z.shape[1]
    return max(1, pairs // directions), min(pairs, directions)
