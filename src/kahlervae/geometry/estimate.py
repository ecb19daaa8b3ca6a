"""How Kähler a decoder's metric is, by random directions: for latent spaces of many dimensions."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor
from torch.func import jvp, vmap

from kahlervae.errors import InputError
from kahlervae.geometry.decoder import Decoder, derivative_memory
from kahlervae.geometry.fisher import restricted_form
from kahlervae.geometry.latents import check_latents
from kahlervae.geometry.memory import MEMORY
from kahlervae.geometry.wirtinger import hermitian_part, holomorphic_part

__all__ = ["DefectEstimates", "estimate_defects"]


class DefectEstimates(NamedTuple):
    """Estimates of both defects at every point, with their standard errors.

    Attributes:
        hermitian: of :func:`~kahlervae.geometry.kahler.hermitian_defect`.
        hermitian_error: its standard error.
        closedness: of :func:`~kahlervae.geometry.kahler.closedness_defect`.
        closedness_error: its standard error.
    """

    hermitian: Float[Tensor, " n"]
    hermitian_error: Float[Tensor, " n"]
    closedness: Float[Tensor, " n"]
    closedness_error: Float[Tensor, " n"]


def estimate_defects(
    decoder: Decoder,
    z: Complex[Tensor, "n d"],
    directions: int = 16,
    generator: torch.Generator | None = None,
    memory: int = MEMORY,
) -> DefectEstimates:
    r"""Hermitian and closedness defect of the Fisher information from k random directions.

    For independent vectors :math:`u, v, w \sim CN(0, I)`

    .. math:: E\,|g(u, \bar v)|^2 = \|g\|_F^2, \qquad
              E\,|\partial_u g(v, \bar w)|^2 = \|\partial g\|_F^2,

    and alike for what drops out of the metric and for the part of ∂g that is not symmetric. All
    pairs and triples of different ones among k directions give unbiased estimates of these squares
    (U-statistics) for k derivatives of the decoder, and k² second ones, instead of d and d². The
    defects are roots of their ratios, with the bias of order 1/k taken out by the jackknife over
    directions, which gives the standard errors, too.

    Args:
        decoder: see :func:`~kahlervae.geometry.fisher.fisher_metric`.
        z: where.
        directions: k, at least 4; every point has its own.
        generator: for the directions; one of seed 0 if it is not given.
        memory: bytes beyond the result that may be taken, by and large.

    Raises:
        InputError: there are fewer than 4 directions; for others see
            :func:`~kahlervae.geometry.fisher.fisher_metric`.

    Example:
        A holomorphic mean is Kähler:

        >>> from kahlervae.models import ComplexGaussian
        >>> def decoder(z):
        ...     return ComplexGaussian(z**2, torch.zeros(z.shape))
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
        >>> estimates = estimate_defects(decoder, z)
        >>> bool(estimates.hermitian < 1e-5), bool(estimates.closedness < 1e-5)
        (True, True)
    """
    if directions < 4:
        raise InputError(f"{directions} directions are too few for a standard error: take 4.")
    z = check_latents(z)
    if not len(z):
        return DefectEstimates(*4 * [z.real.new_zeros(0)])
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    shape = (directions, *z.shape)
    u = torch.randn(shape, generator=generator, dtype=torch.complex128).to(z)
    each = derivative_memory(decoder, z)
    pairs = max(1, memory // each)
    at_once = max(1, min(2 * directions, pairs // (2 * directions)))
    rows = max(1, pairs // (4 * directions**2))
    parts = [
        _estimate(decoder, point, vectors, at_once)
        for point, vectors in zip(z.split(rows), u.split(rows, dim=1), strict=True)
    ]
    return DefectEstimates(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _estimate(decoder: Decoder, z: Tensor, u: Tensor, at_once: int) -> DefectEstimates:
    tangents = torch.cat([u, 1j * u])

    def form(point: Tensor) -> Tensor:
        return restricted_form(decoder, point, tangents)

    value = form(z)
    change = vmap(lambda v: jvp(form, (z,), (v,))[1], chunk_size=at_once, randomness="same")(
        tangents
    )
    along, turned = hermitian_part(change).chunk(2)
    derivative = 0.5 * (along - 1j * turned).movedim(0, 1)  # [n, a, b, c] = ∂_a g_bc̄
    skew = derivative - derivative.transpose(1, 2)
    # A metric that is constant to working precision is closed, as in closedness_defect.
    rounding = torch.finfo(z.real.dtype).eps ** (1 / 3) * _norm(hermitian_part(value))
    constant = _norm(derivative) <= rounding
    hermitian, hermitian_error = _root_of_ratio(holomorphic_part(value), hermitian_part(value))
    closedness, closedness_error = _root_of_ratio(skew, derivative)
    return DefectEstimates(
        hermitian,
        hermitian_error,
        closedness.masked_fill(constant, 0.0),
        closedness_error.masked_fill(constant, 0.0),
    )


def _norm(tensor: Tensor) -> Tensor:
    return tensor.flatten(1).norm(dim=1)


def _root_of_ratio(numerator: Tensor, denominator: Tensor) -> tuple[Tensor, Tensor]:
    """Jackknife estimate of √(E|numerator|² / E|denominator|²) and its standard error.

    Over entries (n, k, ..., k) whose indices all differ.
    """
    k = numerator.shape[1]
    axes = numerator.dim() - 1
    index = torch.arange(k, device=numerator.device)
    different = _all_different(
        [index.view([-1 if b == a else 1 for b in range(axes)]) for a in range(axes)]
    )
    squares = [torch.where(different, t.abs().square(), 0.0) for t in (numerator, denominator)]
    totals = [s.flatten(1).sum(1, keepdim=True) for s in squares]
    # What is left without each direction: the total less all entries that have it as an index.
    without = [
        total - sum(s.movedim(a, 1).flatten(2).sum(2) for a in range(1, axes + 1))
        for s, total in zip(squares, totals, strict=True)
    ]
    whole = (totals[0] / totals[1]).clamp_min(0).sqrt()
    parts = (without[0] / without[1]).clamp_min(0).sqrt()
    mean = parts.mean(1)
    estimate = k * whole.squeeze(1) - (k - 1) * mean
    error = ((k - 1) / k * (parts - mean.unsqueeze(1)).square().sum(1)).sqrt()
    return estimate, error


def _all_different(indices: list[Tensor]) -> Bool[Tensor, "*k"]:
    different = torch.ones((), dtype=torch.bool, device=indices[0].device)
    for a, one in enumerate(indices):
        for other in indices[:a]:
            different = different & (one != other)
    return different
