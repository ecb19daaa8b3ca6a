"""Independent random streams from one seed."""

import zlib

import numpy as np
import torch

__all__ = ["generator"]


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
