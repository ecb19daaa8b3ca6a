"""Decoders: from latents to the likelihood.

Those with complex layers carry a ``pushforward``, the likelihood's derivative in closed form.
"""

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae.models.likelihoods import ComplexGaussian, RealGaussian
from kahlervae.nn import (
    ComplexLinear,
    HolomorphicQuadratic,
    RealInput,
    RealOutput,
    SmoothCardioid,
    hidden,
)

__all__ = ["ComplexDecoder", "HolomorphicDecoder", "RealDecoder"]

Gaussian = RealGaussian | ComplexGaussian

INITIAL_LOG_VAR = -2.0
LOG_FLOOR = math.log(1e-4)
"""Least log-variance of a likelihood whose variance depends on z: 0.01² in units of the data.

A pixel that is the same in all images would have the variance 0 and an infinite likelihood.
"""


class ConstantVariance(nn.Module):
    """One learned log σ² for all latents and all D entries of the data."""

    def __init__(self, output_dim: int) -> None:
        super().__init__()
        self.output_dim = output_dim
        self.value = nn.Parameter(torch.tensor(INITIAL_LOG_VAR))

    def forward(self, features: Tensor) -> Float[Tensor, "*batch D"]:
        return self.value.expand(*features.shape[:-1], self.output_dim)

    def pushforward(self, features: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """log σ² and its derivatives along the tangents, which are zero."""
        value = self(features)
        return value, value.new_zeros(*tangent.shape[:-1], self.output_dim)


class DiagonalVariance(nn.Module):
    r"""A log-variance for every latent and every entry of the data, bounded from below.

    .. math:: \log\sigma^2 = \log(e^{a(f)} + \sigma_{\min}^2)

    Args:
        head: the affine map a, from features to D real numbers.
    """

    def __init__(self, head: RealOutput | nn.Linear) -> None:
        super().__init__()
        self.head = head
        linear = head.linear if isinstance(head, RealOutput) else head
        nn.init.constant_(linear.bias, INITIAL_LOG_VAR)

    def forward(self, features: Tensor) -> Float[Tensor, "*batch D"]:
        free = self.head(features)
        return torch.logaddexp(free, torch.full_like(free, LOG_FLOOR))

    def pushforward(self, features: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """log σ² and its derivatives along the tangents."""
        assert isinstance(self.head, RealOutput)  # real layers are differentiated automatically
        free, change = self.head.pushforward(features, tangent)
        value = torch.logaddexp(free, torch.full_like(free, LOG_FLOOR))
        return value, torch.sigmoid(free - LOG_FLOOR) * change


def _log_variance(
    kind: str, head: type[RealOutput | nn.Linear], width: int, output_dim: int
) -> ConstantVariance | DiagonalVariance:
    if kind == "constant":
        return ConstantVariance(output_dim)
    return DiagonalVariance(head(width, output_dim))


class ComplexDecoder(nn.Module):
    """z in C^d to N(μ(z), diag σ²(z)) in R^D, or to CN(μ(z), diag σ²(z)) in C^D, by complex layers.

    Args:
        output_dim: D.
        latent_dim: d.
        width: of the hidden layers.
        depth: number of hidden layers.
        complex_data: whether the data are complex.
        likelihood_variance: ``constant``, one learned σ² for all, or ``diagonal``, σ_a²(z).

    Example:
        >>> decoder = ComplexDecoder(output_dim=64, latent_dim=2, width=8, depth=1)
        >>> likelihood = decoder(torch.zeros(5, 2, dtype=torch.complex64))
        >>> type(likelihood).__name__, likelihood.mean.shape
        ('RealGaussian', torch.Size([5, 64]))
    """

    holomorphic: ClassVar[bool] = False
    activation: ClassVar[type[nn.Module]] = SmoothCardioid

    def __init__(
        self,
        output_dim: int,
        latent_dim: int,
        width: int,
        depth: int,
        complex_data: bool = False,
        likelihood_variance: str = "constant",
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ComplexLinear(latent_dim, width),
            self.activation(),
            *hidden(ComplexLinear, self.activation, width, depth - 1),
        )
        self.mean: ComplexLinear | RealOutput
        self.mean = (ComplexLinear if complex_data else RealOutput)(width, output_dim)
        self.log_var = _log_variance(likelihood_variance, RealOutput, width, output_dim)
        self.likelihood = ComplexGaussian if complex_data else RealGaussian

    def forward(self, z: Complex[Tensor, "*batch d"]) -> Gaussian:
        features = self.body(z)
        return self.likelihood(self.mean(features), self.log_var(features))

    def pushforward(
        self, z: Complex[Tensor, "n d"], tangent: Complex[Tensor, "*k n d"]
    ) -> tuple[Gaussian, Gaussian]:
        """The likelihood at z and its derivatives along the tangents."""
        layers: list[Any] = list(self.body)
        for layer in layers:
            z, tangent = layer.pushforward(z, tangent)
        mean, mean_change = self.mean.pushforward(z, tangent)
        log_var, log_var_change = self.log_var.pushforward(z, tangent)
        return self.likelihood(mean, log_var), self.likelihood(mean_change, log_var_change)


class HolomorphicDecoder(ComplexDecoder):
    r"""z in C^d to CN(μ(z), σ²I) in C^D with holomorphic μ and constant σ²: the positive control.

    Its Fisher metric is Kähler, with the global potential :math:`\|\mu(z)\|^2/\sigma^2`
    (docs/theory.md, section 7). The layers are complex affine maps and quadratic polynomials, so
    that μ is a polynomial of degree 2^depth.

    Args: see :class:`ComplexDecoder`.

    Example:
        >>> from kahlervae.geometry import hermitian_defect
        >>> decoder = HolomorphicDecoder(output_dim=64, latent_dim=2, width=8, depth=1)
        >>> bool(hermitian_defect(decoder, torch.tensor([[1 + 2j, 0.5 - 1j]])) < 1e-5)
        True
    """

    holomorphic: ClassVar[bool] = True
    activation: ClassVar[type[nn.Module]] = HolomorphicQuadratic

    def __init__(self, output_dim: int, latent_dim: int, width: int, depth: int) -> None:
        super().__init__(output_dim, latent_dim, width, depth, complex_data=True)


class RealDecoder(nn.Module):
    """u = √2 (Re z, Im z) in R^{2d} to the likelihood, by real layers.

    Args: see :class:`ComplexDecoder`.

    Example:
        >>> decoder = RealDecoder(output_dim=64, latent_dim=2, width=8, depth=1)
        >>> decoder(torch.zeros(5, 2, dtype=torch.complex64)).mean.shape
        torch.Size([5, 64])
    """

    def __init__(
        self,
        output_dim: int,
        latent_dim: int,
        width: int,
        depth: int,
        complex_data: bool = False,
        likelihood_variance: str = "constant",
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(2 * latent_dim, width),
            nn.SiLU(),
            *hidden(nn.Linear, nn.SiLU, width, depth - 1),
        )
        self.mean: nn.Module = (RealInput if complex_data else nn.Linear)(width, output_dim)
        self.log_var = _log_variance(likelihood_variance, nn.Linear, width, output_dim)
        self.likelihood = ComplexGaussian if complex_data else RealGaussian

    def forward(self, z: Complex[Tensor, "*batch d"]) -> Gaussian:
        features = self.body(math.sqrt(2) * torch.cat([z.real, z.imag], dim=-1))
        return self.likelihood(self.mean(features), self.log_var(features))
