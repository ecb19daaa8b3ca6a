r"""Exponential families: how far a decoder is from being Kähler by construction.

.. math:: p(x \mid \eta) = h(x)\, \exp(\eta \cdot T(x) - A(\eta))

A registry beside that of :mod:`kahlervae.geometry.information`: for every class of distributions
its natural parameters η and its log-partition function A, from which E[T] = ∇A follows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch import distributions as dist

from kahlervae.errors import InputError
from kahlervae.geometry.decoder import Decoder, ask, explained
from kahlervae.geometry.exact import exact
from kahlervae.geometry.examination import examine
from kahlervae.geometry.fisher import fisher_metric
from kahlervae.geometry.information import nearest, unwrapped
from kahlervae.geometry.kahler import relative_size
from kahlervae.geometry.latents import check_latents
from kahlervae.geometry.memory import MEMORY, allocated, fitting, gathered
from kahlervae.geometry.wirtinger import has_pushforward, mixed_hessian
from kahlervae.models.families import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    LogPoisson,
    continuous_bernoulli_log_partition,
)
from kahlervae.models.likelihoods import ComplexGaussian, DenseComplexGaussian, RealGaussian

__all__ = [
    "ExponentialFamily",
    "exponential_family",
    "kahler_residual",
    "log_partition",
    "mean_statistics",
    "natural_parameters",
    "register_family",
]


class ExponentialFamily(NamedTuple):
    """A class of distributions as an exponential family.

    Attributes:
        natural: maps a distribution to its η, real, (n, ..., m): m numbers for every event.
        log_partition: maps η to A, (n, ...).
    """

    natural: Callable[[Any], Tensor]
    log_partition: Callable[[Tensor], Tensor]


_REGISTRY: dict[type, ExponentialFamily] = {}


def register_family(
    distribution: type,
    natural: Callable[[Any], Tensor],
    log_partition: Callable[[Tensor], Tensor],
) -> None:
    r"""Register a class of distributions, and what inherits from it, as an exponential family.

    Args:
        distribution: the class.
        natural: maps one to its natural parameters, (n, ..., m), m for every event; torch
            differentiates it twice.
        log_partition: maps these to A, (n, ...).

    Example:
        The Rayleigh distribution has T = x² and η = −1/(2σ²):

        >>> class Rayleigh(dist.Distribution):
        ...     arg_constraints = {"scale": dist.constraints.positive}
        ...     def __init__(self, scale):
        ...         self.scale = scale
        ...         super().__init__(scale.shape)
        >>> register_family(
        ...     Rayleigh,
        ...     lambda p: -0.5 * p.scale.unsqueeze(-1) ** -2,
        ...     lambda eta: -(-2 * eta).log().squeeze(-1),
        ... )
        >>> mean_statistics(Rayleigh(torch.tensor([3.0])))  # E x² = 2σ²
        tensor([[18.]])
        >>> del _REGISTRY[Rayleigh]  # only for the sake of other examples
    """
    _REGISTRY[distribution] = ExponentialFamily(natural, log_partition)


def exponential_family(likelihood: Any) -> ExponentialFamily:
    """That of the nearest class which is registered and has the same density.

    Raises:
        InputError: there is none.

    Example:
        >>> exponential_family(dist.StudentT(3.0))
        Traceback (most recent call last):
            ...
        kahlervae.errors.InputError: StudentT is not known as an exponential family: ...
    """
    if (known := nearest(type(likelihood), _REGISTRY)) is not None:
        return _REGISTRY[known]
    raise InputError(
        f"{type(likelihood).__name__} is not known as an exponential family: register it with "
        "kahlervae.geometry.register_family, if it is one."
    )


def natural_parameters(likelihood: Any) -> Float[Tensor, "n *events m"]:
    """η, m real numbers for every event; Independent and fixed bijections are looked through.

    Raises:
        InputError: it is not known as an exponential family.

    Example:
        >>> natural_parameters(dist.Normal(torch.tensor([1.0]), 2.0))  # μ/σ², −1/(2σ²)
        tensor([[ 0.2500, -0.1250]])
    """
    likelihood = unwrapped(likelihood)
    return exponential_family(likelihood).natural(likelihood)


def log_partition(likelihood: Any) -> Float[Tensor, "n *events"]:
    """A(η).

    Raises:
        InputError: it is not known as an exponential family.

    Example:
        >>> log_partition(dist.Poisson(torch.tensor([3.0])))
        tensor([3.])
    """
    family = exponential_family(unwrapped(likelihood))
    return family.log_partition(natural_parameters(likelihood))


def mean_statistics(likelihood: Any) -> Float[Tensor, "n *events m"]:
    """E[T] = ∇A(η).

    Raises:
        InputError: it is not known as an exponential family.

    Example:
        >>> mean_statistics(dist.Normal(torch.tensor([1.0]), 2.0))  # E x, E x²
        tensor([[1., 5.]])
    """
    family = exponential_family(unwrapped(likelihood))
    natural = natural_parameters(likelihood)
    return torch.func.grad(lambda eta: family.log_partition(eta).sum())(natural)


def kahler_residual(
    decoder: Decoder, z: Complex[Tensor, "n d"], memory: int = MEMORY
) -> Float[Tensor, " n"]:
    r"""How far a decoder is from being Kähler by construction, without fitting anything.

    .. math:: \frac{\| E[T] \cdot \partial\bar\partial\eta \|_F}{\| g \|_F}, \qquad
              g_{i\bar j} = \partial_i\bar\partial_j (A \circ \eta)
              - E[T] \cdot \partial_i\bar\partial_j \eta

    0 where η is pluriharmonic: there the Fisher metric g is Kähler, with the potential A∘η.
    Elsewhere it is the error of A∘η as a potential, relative to g. It refers to the statistics T of
    the registry (the data themselves, where the family has these; a constant added to T would move
    a linear function of η from one term to the other) and is 0 for one choice if it is for all with
    pluriharmonic η (docs/theory.md, section 15).

    Args:
        decoder: latents (n, d) to an exponential family, row by row.
        z: where.
        memory: bytes beyond the result that may be taken, by and large.

    Raises:
        InputError: the distribution is not known as an exponential family, or see
            :func:`~kahlervae.geometry.fisher.fisher_metric`.

    Example:
        The logits 2 Re z² are pluriharmonic, 2|z|² are not:

        >>> from kahlervae.models.families import Bernoulli
        >>> z = torch.tensor([[1 + 0j]], dtype=torch.complex128)
        >>> kahler_residual(lambda z: Bernoulli((2 * z**2).real), z).round(decimals=4)
        tensor([0.], dtype=torch.float64)
        >>> kahler_residual(lambda z: Bernoulli(2 * (z * z.conj()).real), z).round(decimals=4)
        tensor([4.1945], dtype=torch.float64)
    """
    z = check_latents(z)
    if not len(z):
        return z.real.new_zeros(0)
    if not has_pushforward(decoder):
        examine(decoder, z, twice=True)
    # Forward over reverse along one direction holds a few times what a call makes.
    rows = fitting(memory, 4 * allocated(lambda: _natural(decoder, z[:1])))
    return gathered(lambda part: _residual(decoder, part, memory), z.split(rows), len(z))


def _residual(decoder: Decoder, z: Tensor, memory: int) -> Tensor:
    statistics = mean_statistics(ask(decoder, z))

    def contracted(point: Tensor) -> Tensor:
        natural = _natural(decoder, point).masked_fill(statistics == 0, 0)  # −∞ of what never is
        return (statistics * natural).reshape(len(point), -1).sum(1)

    with explained(decoder, z):
        term = mixed_hessian(contracted, z)
    metric = fisher_metric(decoder, z, memory)
    return relative_size(term, metric)


def _natural(decoder: Decoder, z: Tensor) -> Tensor:
    with exact():
        return natural_parameters(ask(decoder, z))


def _alone(natural: Tensor) -> Tensor:
    """One natural parameter for every event."""
    return natural.unsqueeze(-1)


def _gaussian(mean: Tensor, log_var: Tensor) -> Tensor:
    precision = torch.exp(-log_var).expand(mean.shape)
    return torch.stack([mean * precision, -0.5 * precision], dim=-1)


def _gaussian_log_partition(natural: Tensor) -> Tensor:
    slope, curvature = natural.unbind(-1)
    return -0.25 * slope.square() / curvature + 0.5 * torch.log(-torch.pi / curvature)


def _complex_gaussian(p: ComplexGaussian) -> Tensor:
    precision = torch.exp(-p.log_var).expand(p.mean.shape)
    slope = 2 * p.mean * precision
    return torch.stack([slope.real, slope.imag, -precision], dim=-1)


def _complex_gaussian_log_partition(natural: Tensor) -> Tensor:
    real, imaginary, curvature = natural.unbind(-1)
    squares = real.square() + imaginary.square()
    return -0.25 * squares / curvature + torch.log(-torch.pi / curvature)


def _dense_complex_gaussian(p: DenseComplexGaussian) -> Tensor:
    """2Σ⁻¹μ and −Σ⁻¹, with real and imaginary parts of the data and of their products."""
    precision = torch.linalg.inv(p.covariance)
    slope = 2 * (precision @ p.mean.unsqueeze(-1)).squeeze(-1)
    parts = [slope.real, slope.imag, -precision.real.flatten(-2), -precision.imag.flatten(-2)]
    return torch.cat(parts, dim=-1)


def _dense_complex_gaussian_log_partition(natural: Tensor) -> Tensor:
    d = round((1 + 2 * natural.shape[-1]) ** 0.5 - 1) // 2  # m = 2D + 2D²
    real, imaginary, *blocks = natural.split([d, d, d * d, d * d], dim=-1)
    slope = torch.complex(real, imaginary).unsqueeze(-1)
    precision = -torch.complex(*(block.unflatten(-1, (d, d)) for block in blocks))
    squares = (slope.mH @ torch.linalg.inv(precision) @ slope).squeeze((-2, -1)).real
    log_det = torch.linalg.slogdet(precision).logabsdet
    return 0.25 * squares - log_det + d * torch.log(squares.new_tensor(torch.pi))


def _multivariate_normal(p: Any) -> Tensor:
    precision = torch.linalg.inv(p.covariance_matrix)
    slope = (precision @ p.loc.unsqueeze(-1)).squeeze(-1)
    return torch.cat([slope, -0.5 * precision.flatten(-2)], dim=-1)


def _multivariate_normal_log_partition(natural: Tensor) -> Tensor:
    d = round(((1 + 4 * natural.shape[-1]) ** 0.5 - 1) / 2)  # m = D + D²
    slope, flat = natural.split([d, d * d], dim=-1)
    precision = -2 * flat.unflatten(-1, (d, d))
    slope = slope.unsqueeze(-1)
    squares = (slope.mT @ torch.linalg.inv(precision) @ slope).squeeze((-2, -1))
    log_det = torch.linalg.slogdet(precision).logabsdet
    return 0.5 * squares - 0.5 * log_det + 0.5 * d * torch.log(squares.new_tensor(2 * torch.pi))


def _centred(p: Any) -> Tensor:
    """Logits are known up to a number for all categories: those of sum 0, T = [x = k] − 1/K.

    Of −∞, which are those of what never is, no sum is taken.
    """
    never = p.logits == -torch.inf
    total = p.logits.masked_fill(never, 0).sum(-1, keepdim=True)
    return p.logits - total / (~never).sum(-1, keepdim=True)


def _gamma_log_partition(natural: Tensor) -> Tensor:
    shape, rate = natural.unbind(-1)
    return torch.lgamma(shape + 1) - (shape + 1) * torch.log(-rate)


def _dirichlet_log_partition(natural: Tensor) -> Tensor:
    concentration = natural + 1
    return torch.lgamma(concentration).sum(-1) - torch.lgamma(concentration.sum(-1))


def _softplus(natural: Tensor) -> Tensor:
    return torch.nn.functional.softplus(natural).squeeze(-1)


_kind: type
register_family(RealGaussian, lambda p: _gaussian(p.mean, p.log_var), _gaussian_log_partition)
register_family(dist.Normal, lambda p: _gaussian(p.loc, 2 * p.scale.log()), _gaussian_log_partition)
register_family(ComplexGaussian, _complex_gaussian, _complex_gaussian_log_partition)
register_family(
    DenseComplexGaussian, _dense_complex_gaussian, _dense_complex_gaussian_log_partition
)
for _kind in (dist.MultivariateNormal, dist.LowRankMultivariateNormal):
    register_family(_kind, _multivariate_normal, _multivariate_normal_log_partition)
for _kind in (Bernoulli, dist.Bernoulli):
    register_family(_kind, lambda p: _alone(p.logits), _softplus)
for _kind in (ContinuousBernoulli, dist.ContinuousBernoulli):
    register_family(
        _kind,
        lambda p: _alone(p.logits),
        lambda eta: continuous_bernoulli_log_partition(eta).squeeze(-1),
    )
for _kind in (Categorical, dist.Categorical, dist.OneHotCategorical):
    register_family(_kind, _centred, lambda eta: eta.logsumexp(-1))
register_family(LogPoisson, lambda p: _alone(p.log_rate), lambda eta: eta.exp().squeeze(-1))
register_family(dist.Poisson, lambda p: _alone(p.rate.log()), lambda eta: eta.exp().squeeze(-1))
register_family(
    dist.Exponential, lambda p: _alone(-p.rate), lambda eta: -torch.log(-eta).squeeze(-1)
)
register_family(
    dist.Gamma,
    lambda p: torch.stack([p.concentration - 1, -p.rate], dim=-1),
    _gamma_log_partition,
)
register_family(
    dist.Beta,
    lambda p: torch.stack([p.concentration1 - 1, p.concentration0 - 1], dim=-1),
    _dirichlet_log_partition,
)
register_family(dist.Dirichlet, lambda p: p.concentration - 1, _dirichlet_log_partition)
