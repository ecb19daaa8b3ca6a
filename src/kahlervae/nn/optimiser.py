"""Adam without the compiler."""

from inspect import unwrap

import torch

__all__ = ["Adam"]


class Adam(torch.optim.Adam):
    """torch's Adam, bit for bit, for code that is not compiled.

    torch wraps the methods of its optimisers so that ``torch.compile`` leaves them alone. The
    wrappers load the compiler (``torch._dynamo``, sympy) whether or not anything is compiled: 1.5
    seconds of every process that makes an optimiser. Here the wrapped functions are called.
    """

    add_param_group = unwrap(torch.optim.Adam.add_param_group)
    load_state_dict = unwrap(torch.optim.Adam.load_state_dict)
    state_dict = unwrap(torch.optim.Adam.state_dict)
    step = torch.no_grad()(unwrap(torch.optim.Adam.step))
    zero_grad = unwrap(torch.optim.Adam.zero_grad)
