"""Seeing every operation of torch, without its compiler."""

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Interception"]


class Interception(TorchDispatchMode):
    """A mode that sees every operation, under all transformations, in ``__torch_dispatch__``.

    torch wraps that method so that ``torch.compile`` leaves it alone, and the wrapper loads the
    compiler whether or not anything is compiled: as long as torch itself takes to be loaded.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
