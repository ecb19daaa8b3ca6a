"""Fisher information metric of a decoder, pulled back to the latent space."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.geometry.wirtinger import basis, hermitian_part, holomorphic_part, pushforward
from kahlervae.models.likelihoods import ComplexGaussian, DenseComplexGaussian, RealGaussian

__all__ = ["Decoder", "fisher_form", "fisher_metric", "fisher_norm", "fisher_relation"]

Likelihood = RealGaussian | ComplexGaussian | DenseComplexGaussian
Decoder = Callable[[Tensor], Likelihood]


def fisher_metric(decoder: Decoder, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
    r"""Hermitian part of the Fisher information, :math:`E[\partial_i \ell\; \bar\partial_j \ell]`.

    With :math:`\ell = \log p(x \mid z)` and :math:`\lambda = \log \sigma^2`,

    .. math::
        \text{real:}\quad g_{i\bar j} &= \sum_a \sigma_a^{-2} \partial_i\mu_a
            \overline{\partial_j\mu_a}
            + \tfrac12 \sum_a \partial_i\lambda_a \overline{\partial_j\lambda_a} \\
        \text{complex:}\quad g_{i\bar j} &= \sum_a \sigma_a^{-2} [\partial_i\mu_a
            \overline{\partial_j\mu_a} + \overline{\bar\partial_i\mu_a}\, \bar\partial_j\mu_a]
            + \sum_a \partial_i\lambda_a \overline{\partial_j\lambda_a} \\
        \text{dense complex:}\quad g_{i\bar j} &= \ldots
            + \mathrm{tr}(\Sigma^{-1} \partial_i\Sigma\, \Sigma^{-1} \bar\partial_j\Sigma)

    (docs/theory.md, section 3). Costs 2d Jacobian-vector products of the decoder.

    Args:
        decoder: latents (n, d) to a Gaussian likelihood, row by row.
        z: where.
    """
    return hermitian_part(fisher_form(decoder, z))


def fisher_relation(decoder: Decoder, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
    r"""(2,0) part of the Fisher information, :math:`E[\partial_i \ell\; \partial_j \ell]`.

    What :func:`fisher_metric` drops; it vanishes where the Fisher information is Hermitian, as for
    a holomorphic decoder of a complex Gaussian with constant variance.
    """
    return holomorphic_part(fisher_form(decoder, z))


def fisher_norm(
    decoder: Decoder, z: Complex[Tensor, "n d"], v: Complex[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    r"""Squared length of one vector per point, :math:`g(v, v) = v^T G \bar v`.

    Two Jacobian-vector products, along v and iv, whatever the dimensions: with the real Fisher
    form F,

    .. math:: g(v, v) = \tfrac14 [F(v, v) + F(iv, iv)].
    """
    return _standardised(decoder, z, torch.stack([v, 1j * v])).square().sum((0, -1)) / 4


def fisher_form(decoder: Decoder, z: Complex[Tensor, "n d"]) -> Float[Tensor, "n 2*d 2*d"]:
    r"""Real Fisher information matrix in the coordinates (a, b), z = a + ib.

    .. math:: F_{uv} = E[D_u \ell\, D_v \ell]

    Args:
        decoder: latents (n, d) to a Gaussian likelihood, row by row.
        z: where.
    """
    features = _standardised(decoder, z, basis(z)).movedim(0, 1)
    return features @ features.mT


def _standardised(decoder: Decoder, z: Tensor, tangents: Tensor) -> Tensor:
    """Derivatives of the likelihood's parameters along tangents (k, n, d), as real vectors
    (k, n, features) whose inner products are the Fisher information."""
    likelihood, change = pushforward(decoder, z, tangents)
    if isinstance(likelihood, DenseComplexGaussian):
        factor = torch.linalg.cholesky(likelihood.covariance)
        mean = torch.linalg.solve_triangular(factor, change.mean.unsqueeze(-1), upper=False)
        half = torch.linalg.solve_triangular(factor, change.covariance, upper=False)
        covariance = torch.linalg.solve_triangular(factor, half.mH, upper=False)
        parts = [_real(math.sqrt(2) * mean.squeeze(-1)), _real(covariance.flatten(-2))]
    else:
        mean = change.mean * torch.exp(-0.5 * likelihood.log_var)
        if isinstance(likelihood, RealGaussian):
            parts = [mean, math.sqrt(0.5) * change.log_var]
        else:
            parts = [_real(math.sqrt(2) * mean), change.log_var]
    return torch.cat(parts, dim=-1)


def _real(z: Tensor) -> Tensor:
    return torch.view_as_real(z).flatten(-2)
