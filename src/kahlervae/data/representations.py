"""Maps between samples and the vectors that a model is a likelihood of."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Complex, Float, Int64, Num
from torch import Tensor

from kahlervae.data.form import Form
from kahlervae.data.spectrogram import log_power
from kahlervae.errors import InputError

__all__ = ["REPRESENTATIONS", "Representation", "represent"]


class Likelihood(Protocol):
    """What a decoder returns: a mean and a log-variance, both (n, D)."""

    @property
    def mean(self) -> Tensor: ...

    @property
    def log_var(self) -> Tensor: ...


def _as_it_is(x: Tensor) -> Tensor:
    return x


class Representation(NamedTuple):
    """An isometry between samples and vectors: squared distances are the same in both.

    Attributes:
        encode: samples (n, *shape) to vectors (n, D).
        decode: vectors (n, D) to samples.
        dimension: D.
        is_complex: whether the vectors are complex.
        view: likelihoods over vectors to views, see :class:`~kahlervae.data.form.Form`.
        observe: vectors to what an encoder reads, of D entries as well.
        observes_complex: whether that is complex.
    """

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    dimension: int
    is_complex: bool
    view: Callable[[Likelihood], Tensor]
    observe: Callable[[Tensor], Tensor]
    observes_complex: bool


def represent(name: str, form: Form) -> Representation:
    """The representation of that name of samples of that form.

    Raises:
        InputError: there is none of that name, or it is not for such samples.

    Example:
        >>> represent("kspace", Form((8, 8))).dimension
        32
        >>> represent("native", Form((64,), is_complex=True)).is_complex
        True
    """
    if name not in REPRESENTATIONS:
        raise InputError(
            f"the representation {name!r} is unknown: choose one of {', '.join(REPRESENTATIONS)}."
        )
    return REPRESENTATIONS[name](form)


def _flat(form: Form) -> Representation:
    """The values of a sample, one after the other."""

    def decode(x: Num[Tensor, "n D"]) -> Num[Tensor, "n *shape"]:
        return x.unflatten(1, form.shape)

    return Representation(
        encode=lambda samples: samples.flatten(1),
        decode=decode,
        dimension=math.prod(form.shape),
        is_complex=form.is_complex,
        view=lambda likelihood: _clipped(decode(likelihood.mean), form),
        observe=_as_it_is,
        observes_complex=form.is_complex,
    )


def _clipped(views: Tensor, form: Form) -> Tensor:
    return views.clamp(0, 1) if form.bounded else views


def _pixels(form: Form) -> Representation:
    if form.is_complex:
        raise InputError("pixels are real and these samples are complex: use native.")
    if form.stft is not None:
        raise InputError("recordings with a block `stft` are seen by it: use stft.")
    return _flat(form)


def _native(form: Form) -> Representation:
    if not form.is_complex:
        raise InputError("native is for complex samples and these are real: use pixels.")
    return _flat(form)


def _kspace(form: Form) -> Representation:
    if form.is_complex or len(form.shape) != 2 or form.stft is not None:
        kind = "complex" if form.is_complex else "real"
        raise InputError(
            f"kspace is for real samples of two axes and these are {kind} of shape {form.shape}: "
            f"use {'native' if form.is_complex else 'pixels'}."
        )
    height, width = form.shape
    decode = functools.partial(_from_kspace, shape=(height, width))
    return Representation(
        encode=_to_kspace,
        decode=decode,
        dimension=-(-height * width // 2),
        is_complex=True,
        view=lambda likelihood: _clipped(decode(likelihood.mean), form),
        observe=_as_it_is,
        observes_complex=True,
    )


def _stft(form: Form) -> Representation:
    """The phase of speech is as good as uniform: encoders read, and people see, the log power."""
    if form.stft is None:
        raise InputError("stft is for recordings whose data set has a block `stft`: use pixels.")
    spectrogram = form.spectrogram

    def view(likelihood: Likelihood) -> Float[Tensor, "n bins frames"]:
        """The log of the expected power, |μ|² + σ²."""
        mean = likelihood.mean
        power = mean.real.square() + mean.imag.square() + torch.exp(likelihood.log_var)
        return log_power(power).unflatten(1, spectrogram.shape).flip(1)

    return Representation(
        encode=lambda samples: spectrogram.transform(samples).flatten(1),
        decode=lambda x: spectrogram.invert(x.unflatten(1, spectrogram.shape)),
        dimension=math.prod(spectrogram.shape),
        is_complex=True,
        view=view,
        observe=lambda x: log_power(x.real.square() + x.imag.square()),
        observes_complex=False,
    )


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


REPRESENTATIONS: dict[str, Callable[[Form], Representation]] = {
    "pixels": _pixels,
    "kspace": _kspace,
    "native": _native,
    "stft": _stft,
}
"""Builders by name."""
