"""How Kähler a decoder's metric is, by random directions: for latent spaces of many dimensions."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from kahlervae.geometry.decoder import Decoder, check_overflow
from kahlervae.geometry.derivatives import derivative_memory
from kahlervae.geometry.fisher import restricted_form
from kahlervae.geometry.kahler import scaled
from kahlervae.geometry.latents import check_latents, latent_unit
from kahlervae.geometry.memory import MEMORY, fitting
from kahlervae.geometry.wirtinger import hermitian_part, holomorphic_part, pushforward
from kahlervae.options import check_count
from kahlervae.seeding import check_stream

__all__ = ["DefectEstimate", "estimate_closedness_defect", "estimate_hermitian_defect"]


class DefectEstimate(NamedTuple):
    """A defect at every point, estimated.

    Attributes:
        value: the estimate.
        error: its standard error.
    """

    value: Float[Tensor, " n"]
    error: Float[Tensor, " n"]


def estimate_hermitian_defect(
    decoder: Decoder,
    z: Complex[Tensor, "n d"],
    directions: int = 16,
    generator: torch.Generator | None = None,
    memory: int = MEMORY,
) -> DefectEstimate:
    r"""The Hermitian defect of the Fisher information from k random directions.

    For independent vectors :math:`u, v \sim CN(0, I)`

    .. math:: E\,|g(u, \bar v)|^2 = \|g_{i\bar j}\|_F^2, \qquad
              E\,|g(u, v)|^2 = \|g_{ij}\|_F^2

    All pairs of different ones among k directions give unbiased estimates of both squares
    (U-statistics) for k derivatives of the decoder instead of d. The defect is the root of their
    ratio, with the bias of order 1/k taken out by the jackknife over directions, which gives the
    standard error, too (docs/theory.md, section 14).

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
        A decoder that sees the real part only is as far from Hermitian as can be:

        >>> from torch.distributions import Normal
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]], dtype=torch.complex128)
        >>> value, error = estimate_hermitian_defect(lambda z: Normal(z.real, 1.0), z)
        >>> bool((value - 1).abs() < 4 * error)
        True
    """
    return _estimated(_hermitian, decoder, z, directions, 1, generator, memory)


def estimate_closedness_defect(
    decoder: Decoder,
    z: Complex[Tensor, "n d"],
    directions: int = 8,
    generator: torch.Generator | None = None,
    memory: int = MEMORY,
) -> DefectEstimate:
    r"""The closedness defect of the Fisher metric from k random directions.

    As :func:`estimate_hermitian_defect`, by all triples of different directions,

    .. math:: E\,|\partial_u g(v, \bar w)|^2 = \|\partial_k g_{i\bar j}\|_F^2

    and alike for what is not symmetric in k and i: k² second derivatives of the decoder, not d².

    Args and errors: see :func:`estimate_hermitian_defect`.

    Example:
        A holomorphic mean is Kähler:

        >>> from kahlervae.models import ComplexGaussian
        >>> def decoder(z):
        ...     return ComplexGaussian(z**2, torch.zeros(z.shape))
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
        >>> bool(estimate_closedness_defect(decoder, z).value < 1e-5)
        True
    """
    return _estimated(_closedness, decoder, z, directions, 2, generator, memory)


Part = Callable[[Decoder, Tensor, Tensor, int], DefectEstimate]


def _estimated(
    part: Part,
    decoder: Decoder,
    z: Tensor,
    directions: int,
    order: int,
    generator: torch.Generator | None,
    memory: int,
) -> DefectEstimate:
    """Point by point, as many of them as there is memory for by derivatives of this order."""
    check_count("directions, which a standard error needs several of,", directions, least=4)
    z = check_latents(z)
    if not len(z):
        return DefectEstimate(z.real.new_zeros(0), z.real.new_zeros(0))
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    check_stream(generator)
    u = torch.randn(
        (directions, *z.shape), generator=generator, device=generator.device, dtype=torch.complex128
    ).to(z)
    pairs = fitting(memory, derivative_memory(decoder, z))
    cost = order * directions**order
    rows, at_once = max(1, pairs // (2 * cost)), max(1, pairs // (2 * directions))
    parts = [
        part(decoder, points, vectors, at_once)
        for points, vectors in zip(z.split(rows), u.split(rows, dim=1), strict=True)
    ]
    estimate = DefectEstimate(*(torch.cat(column) for column in zip(*parts, strict=True)))
    check_overflow(estimate.value, z)
    return estimate


def _hermitian(decoder: Decoder, z: Tensor, u: Tensor, at_once: int) -> DefectEstimate:
    form = restricted_form(decoder, z, torch.cat([u, 1j * u]))
    return _root_of_ratio(*scaled(holomorphic_part(form), hermitian_part(form)))


def _closedness(decoder: Decoder, z: Tensor, u: Tensor, at_once: int) -> DefectEstimate:
    tangents = torch.cat([u, 1j * u])

    def metric(point: Tensor) -> Tensor:
        return hermitian_part(restricted_form(decoder, point, tangents))

    # [n, b, c] along every tangent; [n, a, b, c] = ∂_a g_bc̄.
    value, change = pushforward(metric, z, tangents, at_once)
    along, turned = change.chunk(2)
    value, derivative = scaled(value, 0.5 * (along - 1j * turned).movedim(0, 1))
    estimate = _root_of_ratio(derivative - derivative.transpose(1, 2), derivative)
    # A metric that is constant to working precision is closed, as in closedness_defect.
    rounding = torch.finfo(z.real.dtype).eps ** (1 / 3) * _norm(value)
    constant = latent_unit(z) * _norm(derivative) <= rounding
    return DefectEstimate(*(part.masked_fill(constant, 0.0) for part in estimate))


def _norm(tensor: Tensor) -> Tensor:
    return tensor.flatten(1).norm(dim=1)


def _root_of_ratio(numerator: Tensor, denominator: Tensor) -> DefectEstimate:
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
    # A constant decoder has a metric of 0, and no defect.
    totals[1] = totals[1].masked_fill(totals[1] <= 0, 1)
    without[1] = without[1].masked_fill(without[1] <= 0, 1)
    whole = (totals[0] / totals[1]).clamp_min(0).sqrt()
    parts = (without[0] / without[1]).clamp_min(0).sqrt()
    mean = parts.mean(1)
    estimate = k * whole.squeeze(1) - (k - 1) * mean
    error = ((k - 1) / k * (parts - mean.unsqueeze(1)).square().sum(1)).sqrt()
    return DefectEstimate(estimate, error)


def _all_different(indices: list[Tensor]) -> Bool[Tensor, "*k"]:
    different = torch.ones((), dtype=torch.bool, device=indices[0].device)
    for a, one in enumerate(indices):
        for other in indices[:a]:
            different = different & (one != other)
    return different
