"""Double precision for modules with complex parameters."""

import copy
from collections.abc import Callable
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["OnePrecision", "to_double"]

Module = TypeVar("Module", bound=nn.Module)


class OnePrecision(nn.Module):
    """A module of one precision: double(), float() and to(dtype) are for all its numbers.

    Real ones stay real and complex ones, which torch leaves as they are, complex.

    Example:
        >>> from kahlervae.nn import ComplexLinear
        >>> ComplexLinear(3, 2).double().weight.dtype
        torch.complex128
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        tensors = [*self.parameters(), *self.buffers()]
        numbers = [t for t in tensors if t.is_floating_point() or t.is_complex()]
        if not numbers:
            return super()._apply(fn, recurse)
        present = numbers[0].dtype.to_real()
        asked = fn(numbers[0].new_zeros((), dtype=present)).dtype.to_real()

        def moved(t: Tensor) -> Tensor:
            if asked == present or not (t.is_floating_point() or t.is_complex()):
                return fn(t)
            return t.to(fn(t).device, asked.to_complex() if t.is_complex() else asked)

        return super()._apply(moved, recurse)


def to_double(module: Module) -> Module:
    """A copy with float64 and complex128 parameters; ``module.double()`` skips complex ones.

    Example:
        >>> to_double(nn.Linear(3, 2, dtype=torch.complex64)).weight.dtype
        torch.complex128
    """
    double = {torch.float32: torch.float64, torch.complex64: torch.complex128}
    return copy.deepcopy(module)._apply(lambda t: t.to(double.get(t.dtype, t.dtype)))
