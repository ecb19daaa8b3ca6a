"""Maps between images and the vectors that a model is a likelihood of."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor

__all__ = ["REPRESENTATIONS", "Representation"]


class Representation(NamedTuple):
    """An isometry between images and vectors: squared distances are the same in both.

    Attributes:
        encode: images (n, height, width) to vectors (n, D).
        decode: vectors (n, D) and the image shape to images (n, height, width).
        dimension: image shape to D.
        is_complex: whether the vectors are complex.
    """

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor, tuple[int, int]], Tensor]
    dimension: Callable[[tuple[int, int]], int]
    is_complex: bool


def _to_kspace(images: Float[Tensor, "n height width"]) -> Complex[Tensor, "n D"]:
    r"""The orthonormal 2-D Fourier transform, without the half that is known from the other.

    The transform X of a real image has :math:`X_{-k} = \overline{X_k}`. Of every such pair one is
    kept, times √2; the coefficients with k = -k (modulo the shape; up to four) are real, and two
    of them make one complex number. So HW real pixels are HW/2 complex numbers (one real number
    stays alone where HW is odd) and the map is an isometry (Parseval): a density in k-space is a
    density of images, in the same units.
    """
    kept, _, own = _pairs(images.shape[1], images.shape[2])
    spectrum = torch.fft.fft2(images, norm="ortho").flatten(1)
    real = torch.nn.functional.pad(spectrum[:, own].real, (0, len(own) % 2))
    return torch.cat([math.sqrt(2) * spectrum[:, kept], torch.complex(*real.chunk(2, 1))], dim=1)


def _from_kspace(
    x: Complex[Tensor, "n D"], shape: tuple[int, int]
) -> Float[Tensor, "n height width"]:
    """The image that :func:`_to_kspace` maps to x."""
    kept, mirrored, own = _pairs(*shape)
    half, rest = x[:, : len(kept)] / math.sqrt(2), x[:, len(kept) :]
    spectrum = x.new_zeros(len(x), math.prod(shape))
    spectrum[:, kept] = half
    spectrum[:, mirrored] = half.conj()
    spectrum[:, own] = torch.cat([rest.real, rest.imag], dim=1)[:, : len(own)].to(x.dtype)
    return torch.fft.ifft2(spectrum.unflatten(1, shape), norm="ortho").real


@functools.cache
def _pairs(
    height: int, width: int
) -> tuple[Int64[Tensor, " k"], Int64[Tensor, " k"], Int64[Tensor, " s"]]:
    """Flat indices of one frequency of each pair ±k, of the other, and of those with k = -k."""
    index = torch.arange(height * width).unflatten(0, (height, width))
    negative = index.flip(0, 1).roll((1, 1), (0, 1))
    kept = index < negative
    return index[kept], negative[kept], index[index == negative]


REPRESENTATIONS = {
    "pixels": Representation(
        encode=lambda images: images.flatten(1),
        decode=lambda x, shape: x.unflatten(1, shape),
        dimension=math.prod,
        is_complex=False,
    ),
    "kspace": Representation(
        encode=_to_kspace,
        decode=_from_kspace,
        dimension=lambda shape: -(-math.prod(shape) // 2),
        is_complex=True,
    ),
}
