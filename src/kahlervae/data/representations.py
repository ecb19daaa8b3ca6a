"""Maps between images and the vectors that a model is a likelihood of."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

__all__ = ["REPRESENTATIONS", "Representation"]


class Representation(NamedTuple):
    """A bijection between images and vectors.

    Attributes:
        encode: images (n, height, width) to vectors (n, D).
        decode: vectors (n, D) and the image shape to images (n, height, width).
    """

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor, tuple[int, int]], Tensor]


REPRESENTATIONS = {
    "pixels": Representation(
        encode=lambda images: images.flatten(1),
        decode=lambda x, shape: x.unflatten(1, shape),
    ),
}
