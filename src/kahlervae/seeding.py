"""Independent random streams from one seed."""

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.options import check_count

__all__ = ["check_seed", "check_stream", "generator", "standard_normal", "uniform"]


def generator(seed: int, *names: str) -> torch.Generator:
    """A generator whose stream depends on the seed and on the names of its purpose.

    Streams with different names are independent (``numpy.random.SeedSequence``), so that a stage
    that draws more numbers does not shift those of another.

    Example:
        >>> a = torch.rand((), generator=generator(0, "train", "batches"))
        >>> b = torch.rand((), generator=generator(0, "train", "batches"))
        >>> bool(a == b)
        True
    """
    words = [seed, *(zlib.crc32(name.encode()) for name in names)]
    state = np.random.SeedSequence(words).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


def check_seed(seed: Any) -> None:
    """Refuse what scikit-learn takes for no seed, whatever else goes by the same one.

    Example:
        >>> check_seed(-1)
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: the seed is -1: give a whole number from 0 to 4294967295.
    """
    check_count("the seed", seed, least=0, most=2**32 - 1)


def check_stream(generator: torch.Generator) -> None:
    """Refuse what is no generator: without one torch draws from a stream that all share.

    Example:
        >>> check_stream(None)
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: the generator is a NoneType: give one, as \
torch.Generator().manual_seed(0).
    """
    if not isinstance(generator, torch.Generator):
        raise InputError(
            f"the generator is a {type(generator).__name__}: give one, as "
            "torch.Generator().manual_seed(0)."
        )


def standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape, the precision and the device of ``like``.

    They are drawn on the CPU and moved, so that all devices see the same ones. Complex numbers have
    E|z|² = 1.
    """
    return torch.randn(
        like.shape, generator=generator, device=generator.device, dtype=like.dtype
    ).to(like.device)


def uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers between 0 and 1 of the shape, the precision and the device of ``like``.

    They are drawn on the CPU and moved, so that all devices see the same ones.
    """
    return torch.rand(
        like.shape, generator=generator, device=generator.device, dtype=like.dtype
    ).to(like.device)
