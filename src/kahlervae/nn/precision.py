"""Double precision for modules with complex parameters."""

import copy
from typing import TypeVar

import torch
from torch import nn

__all__ = ["to_double"]

Module = TypeVar("Module", bound=nn.Module)


def to_double(module: Module) -> Module:
    """A copy with float64 and complex128 parameters; ``module.double()`` skips complex ones.

    Example:
        >>> to_double(nn.Linear(3, 2, dtype=torch.complex64)).weight.dtype
        torch.complex128
    """
    double = {torch.float32: torch.float64, torch.complex64: torch.complex128}
    return copy.deepcopy(module)._apply(lambda t: t.to(double.get(t.dtype, t.dtype)))
