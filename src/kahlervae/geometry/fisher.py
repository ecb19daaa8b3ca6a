"""Fisher information metric of a decoder, pulled back to the latent space."""

from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.geometry.wirtinger import pushforward, wirtinger
from kahlervae.models.likelihoods import ComplexGaussian, DenseComplexGaussian, RealGaussian

__all__ = ["fisher_metric", "fisher_norm", "fisher_relation"]

Likelihood = RealGaussian | ComplexGaussian | DenseComplexGaussian
Decoder = Callable[[Tensor], Likelihood]
DiagonalDecoder = Callable[[Tensor], RealGaussian | ComplexGaussian]


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
    likelihood, d, d_bar = wirtinger(decoder, z)
    match likelihood:
        case RealGaussian():
            weight = torch.exp(-likelihood.log_var)
            return _gram(d.mean, d.mean, weight) + 0.5 * _gram(d.log_var, d.log_var)
        case ComplexGaussian():
            weight = torch.exp(-likelihood.log_var)
            means = _gram(d.mean, d.mean, weight) + _gram(d_bar.mean, d_bar.mean, weight).mT
            return means + _gram(d.log_var, d.log_var)
        case DenseComplexGaussian():
            return _dense(likelihood.covariance, d, d_bar, conjugate=True)
    raise TypeError(f"no Fisher metric for {type(likelihood).__name__}")


def fisher_relation(decoder: Decoder, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
    r"""(2,0) part of the Fisher information, :math:`E[\partial_i \ell\; \partial_j \ell]`.

    What :func:`fisher_metric` drops; it vanishes where the Fisher information is Hermitian, as for
    a holomorphic decoder of a complex Gaussian with constant variance.
    """
    likelihood, d, d_bar = wirtinger(decoder, z)
    match likelihood:
        case RealGaussian():
            weight = torch.exp(-likelihood.log_var)
            log_vars = _gram(d.log_var, d.log_var.conj())
            return _gram(d.mean, d.mean.conj(), weight) + 0.5 * log_vars
        case ComplexGaussian():
            weight = torch.exp(-likelihood.log_var)
            cross = _gram(d.mean, d_bar.mean, weight)
            return cross + cross.mT + _gram(d.log_var, d.log_var.conj())
        case DenseComplexGaussian():
            return _dense(likelihood.covariance, d, d_bar, conjugate=False)
    raise TypeError(f"no Fisher metric for {type(likelihood).__name__}")


def fisher_norm(
    decoder: DiagonalDecoder,
    z: Complex[Tensor, "n d"],
    v: Complex[Tensor, "n d"],
) -> Float[Tensor, " n"]:
    r"""Squared length of one vector per point, :math:`g(v, v) = v^T G \bar v`.

    Two Jacobian-vector products, along v and iv, whatever the dimensions: with the real Fisher
    form F,

    .. math:: g(v, v) = \tfrac14 [F(v, v) + F(iv, iv)].

    For diagonal Gaussians.
    """
    likelihood, tangents = pushforward(decoder, z, torch.stack([v, 1j * v]))
    precision = torch.exp(-likelihood.log_var)
    squares = (tangents.mean * tangents.mean.conj()).real * precision
    # A complex Gaussian has twice the information of a real one.
    multiple = 1 if isinstance(likelihood, RealGaussian) else 2
    form = multiple * (squares + 0.5 * tangents.log_var.square()).sum(-1)
    return form.sum(0) / 4


def _gram(left: Tensor, right: Tensor, weight: Tensor | None = None) -> Tensor:
    """Σ_a weight_a left_ai conj(right_aj) for left, right of shape (n, D, d)."""
    if weight is not None:
        left = left * weight.unsqueeze(-1)
    return left.mT @ right.conj()


def _dense(
    covariance: Tensor,
    d: DenseComplexGaussian,
    d_bar: DenseComplexGaussian,
    conjugate: bool,
) -> Tensor:
    """The form (∂_i, ∂̄_j) for ``conjugate``, else (∂_i, ∂_j), extended complex bilinearly."""
    right, right_bar = (d_bar, d) if conjugate else (d, d_bar)
    # The complex conjugate of a mean has ∂_i conj(μ) = conj(∂̄_i μ).
    means = d_bar.mean.mH @ torch.linalg.solve(covariance, right.mean)
    means = means + (right_bar.mean.mH @ torch.linalg.solve(covariance, d.mean)).mT
    scaled = torch.linalg.solve(covariance.unsqueeze(1), d.covariance.movedim(-1, 1))
    scaled_right = torch.linalg.solve(covariance.unsqueeze(1), right.covariance.movedim(-1, 1))
    return means + torch.einsum("niab,njba->nij", scaled, scaled_right)
