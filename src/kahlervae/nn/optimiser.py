"""Adam in one pass over every parameter, real or complex, and without the compiler."""

from collections.abc import Iterable
from inspect import unwrap
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Adam"]


class Adam(torch.optim.Adam):
    """torch's fused Adam, bit for bit, for complex parameters too and for code not compiled.

    The fused step reads every parameter once, where the plain one makes a dozen passes (on the CPU
    a quarter of the time); it is for real numbers, and gets views of complex parameters as such.

    torch wraps the methods of its optimisers so that ``torch.compile`` leaves them alone. The
    wrappers load the compiler (``torch._dynamo``, sympy) whether or not anything is compiled: 1.5
    seconds of every process that makes an optimiser. Here the wrapped functions are called.

    Args:
        parameters: what is optimised.
        options: those of :class:`torch.optim.Adam`.

    Example:
        >>> weight = nn.Parameter(torch.tensor([3 + 4j]))
        >>> optimiser = Adam([weight], lr=0.1)
        >>> weight.abs().square().sum().backward()
        >>> optimiser.step()
        >>> weight.detach()  # every real coordinate by the rate
        tensor([2.9000+3.9000j])
    """

    def __init__(self, parameters: Iterable[nn.Parameter], **options: Any) -> None:
        self._parameters = list(parameters)
        super().__init__([_real(p.detach()) for p in self._parameters], fused=True, **options)

    add_param_group = unwrap(torch.optim.Adam.add_param_group)
    load_state_dict = unwrap(torch.optim.Adam.load_state_dict)
    state_dict = unwrap(torch.optim.Adam.state_dict)
    _step = torch.no_grad()(unwrap(torch.optim.Adam.step))

    def step(self) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for view, parameter in zip(self.param_groups[0]["params"], self._parameters, strict=True):
            view.grad = None if parameter.grad is None else _real(parameter.grad)
        self._step()

    def clip(self, largest: float) -> Float[Tensor, " models"]:
        """Scale the gradients of every model down to that norm, if theirs is larger; norms before.

        The models lie along the first axis of all parameters, and none changes another one's.
        """
        gradients = [_real(p.grad) for p in self._parameters if p.grad is not None]
        rows = [gradient.reshape(len(gradient), -1) for gradient in gradients]
        norms = torch.stack([torch.linalg.vector_norm(row, dim=1) for row in rows])
        norm = torch.linalg.vector_norm(norms, dim=0)
        if (norm > largest).any():
            factors = (largest / norm).clamp(max=1)
            for gradient in gradients:
                gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))
        return norm

    def zero_grad(self) -> None:  # type: ignore[override]
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
