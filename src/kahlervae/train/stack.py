"""Modules of one structure as one: their parameters stacked, every operation done once for all."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._pytree import tree_map

__all__ = ["Stack"]


class Stack:
    """Modules of one structure, called and optimised together.

    Small networks spend most of their time on starting operations; a stack starts each of them once
    (``torch.func.vmap``) where its modules would do so one after another. Their parameters become
    slices of common tensors, so that every module stays what it is and sees each step.

    Args:
        modules: of the same class, with parameters of the same names and shapes.

    Attributes:
        parameters: by name, with the modules along the first axis.

    Example:
        >>> import torch
        >>> modules = [nn.Linear(3, 2), nn.Linear(3, 2)]
        >>> stack, x = Stack(modules), torch.randn(2, 5, 3)
        >>> torch.allclose(stack(x)[1], modules[1](x[1]), atol=1e-6)
        True
        >>> with torch.no_grad():
        ...     _ = stack.parameters["weight"][1].zero_()
        >>> modules[1].weight.abs().max().item()
        0.0
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = modules
        parameters, self.buffers = stack_module_state(list(modules))
        self.parameters: dict[str, nn.Parameter] = {}
        for name, stacked in parameters.items():
            self.parameters[name] = nn.Parameter(stacked.detach())
            for module, own in zip(modules, stacked.detach(), strict=True):
                module.get_parameter(name).data = own

    def __call__(self, *arguments: Any, **common: Any) -> Any:
        """What the modules return, stacked as well.

        Args:
            arguments: tensors, or tuples of them, with the modules along the first axis.
            common: what all modules get alike.
        """

        def one(parameters: Any, buffers: Any, *arguments: Any) -> Any:
            return functional_call(self.modules[0], (parameters, buffers), arguments, common)

        if len(self.modules) == 1:  # of which vmap would take a third longer
            first = tree_map(lambda t: t.squeeze(0), (self.parameters, self.buffers, *arguments))
            return tree_map(lambda t: t.unsqueeze(0), one(*first))
        return vmap(one)(self.parameters, self.buffers, *arguments)
