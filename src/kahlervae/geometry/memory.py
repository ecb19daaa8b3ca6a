"""How much at once: chunks of points and directions that follow from a number of bytes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import debug_unwrap, jvp
from torch.utils._pytree import tree_leaves

from kahlervae.geometry.interception import Interception
from kahlervae.options import check_number

__all__ = [
    "MEMORY",
    "allocated",
    "along_one",
    "check_memory",
    "chunks",
    "fitting",
    "followed",
    "gathered",
]

MEMORY = 1 << 30
"""Bytes beyond inputs and results that a function may take, unless its caller says otherwise."""


class _Meter(Interception):
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


def fitting(memory: float, each: int) -> int:
    """How many things of so many bytes each are taken at once; one is the least.

    Raises:
        InputError: see :func:`check_memory`.

    Example:
        >>> fitting(1e3, 300), fitting(1, 300)
        (3, 1)
    """
    check_memory(memory)
    return max(1, int(memory) // each)


def check_memory(memory: float) -> None:
    """Refuse a memory that is no number, as 1GB is none.

    Raises:
        InputError: it is none, or not finite.

    Example:
        >>> check_memory("1GB")
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: memory, a number of bytes, is '1GB': give a finite number.
    """
    check_number("memory, a number of bytes,", memory)


def along_one(f: Callable[[Tensor], Any], z: Tensor, memory: int) -> int:
    """Points at which f is differentiated forwards at once, along one direction each.

    Args: see :func:`chunks`.

    Example:
        >>> along_one(torch.exp, torch.zeros(100, 2) + 0j, 1)
        1
    """
    row = z[:1]
    return fitting(memory, allocated(lambda: jvp(f, (row,), (torch.ones_like(row),))))


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
    pairs, directions = along_one(f, z, memory), 2 * z.shape[1]
    return max(1, pairs // directions), min(pairs, directions)


def gathered(f: Callable[..., Tensor], parts: Sequence[Any], rows: int) -> Tensor:
    """f of all parts in one tensor, as ``torch.cat([f(part) for part in parts])``.

    Into a result that is made beforehand, where nothing is differentiated: results of parts, kept
    while the next ones are computed, lie between the blocks that their large intermediates leave,
    and an allocator that cannot join these takes new memory for every part.

    Args:
        f: of one part; of a tuple with its entries as arguments.
        parts: at least one.
        rows: of all results.

    Example:
        >>> gathered(torch.neg, torch.arange(5).split(2), 5)
        tensor([ 0, -1, -2, -3, -4])
    """
    results = (f(*part) if isinstance(part, tuple) else f(part) for part in parts)
    first = next(results)
    if len(parts) == 1 or followed(first):
        return torch.cat([first, *results])
    out = first.new_empty(rows, *first.shape[1:])
    out[: len(first)] = first
    start = len(first)
    del first
    for result in results:
        out[start : start + len(result)] = result
        start += len(result)
    return out


def followed(tensor: Tensor) -> bool:
    """Whether autograd or a transformation of functions looks at what is done with it.

    Example:
        >>> followed(torch.zeros(1)), followed(torch.zeros(1, requires_grad=True))
        (False, True)
    """
    differentiated = forward_ad.unpack_dual(debug_unwrap(tensor)).tangent is not None
    return differentiated or tensor.requires_grad or debug_unwrap(tensor) is not tensor
