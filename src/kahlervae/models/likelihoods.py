"""Likelihoods p(x | z) that a decoder returns.

They are named tuples of tensors, hence pytrees: ``torch.func`` differentiates straight through a
decoder that returns one.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.seeding import standard_normal

__all__ = ["ComplexGaussian", "DenseComplexGaussian", "RealGaussian"]


class RealGaussian(NamedTuple):
    r"""Real Gaussian with diagonal covariance, :math:`N(\mu, \mathrm{diag}\,\sigma^2)`.

    Attributes:
        mean: μ.
        log_var: log σ², of the same shape as the mean.

    Example:
        >>> p = RealGaussian(torch.zeros(2), torch.zeros(2))
        >>> q = RealGaussian(torch.tensor([1.0, 3.0]), torch.zeros(2))
        >>> p.kl(q)  # ½ (1² + 3²)
        tensor(5.)
        >>> round(p.log_prob(torch.zeros(2)).item(), 4)  # −log 2π
        -1.8379
    """

    mean: Float[Tensor, "*batch D"]
    log_var: Float[Tensor, "*batch D"]

    def log_prob(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        r""":math:`-\tfrac12 \sum_a [\log 2\pi\sigma_a^2 + (x_a - \mu_a)^2 / \sigma_a^2]`, nats."""
        squares = (x - self.mean).square() * torch.exp(-self.log_var)
        return -0.5 * (squares + self.log_var + math.log(2 * math.pi)).sum(-1)

    def kl(self, other: "RealGaussian") -> Float[Tensor, "*batch"]:
        r"""Relative entropy :math:`KL(p \| q)` of ``self`` from ``other``, nats."""
        log_ratio = self.log_var - other.log_var
        squares = (self.mean - other.mean).square() * torch.exp(-other.log_var)
        return 0.5 * (torch.exp(log_ratio) + squares - 1 - log_ratio).sum(-1)

    def sample(self, generator: torch.Generator) -> Float[Tensor, "*batch D"]:
        """One draw for every entry of the batch."""
        noise = standard_normal(self.mean, generator)
        return self.mean + torch.exp(0.5 * self.log_var) * noise


class ComplexGaussian(NamedTuple):
    r"""Complex Gaussian with trivial relation matrix, :math:`CN(\mu, \mathrm{diag}\,\sigma^2)`.

    Attributes:
        mean: μ.
        log_var: log σ² with σ² = E|x − μ|², of the same shape as the mean.

    Example:
        >>> p = ComplexGaussian(torch.zeros(1) + 0j, torch.zeros(1))
        >>> q = ComplexGaussian(torch.tensor([1 + 3j]), torch.zeros(1))
        >>> p.kl(q)  # 1² + 3²
        tensor(10.)
        >>> round(p.log_prob(torch.zeros(1) + 0j).item(), 4)  # −log π
        -1.1447
    """

    mean: Complex[Tensor, "*batch D"]
    log_var: Float[Tensor, "*batch D"]

    def log_prob(self, x: Complex[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        r""":math:`-\sum_a [\log \pi\sigma_a^2 + |x_a - \mu_a|^2 / \sigma_a^2]`, nats."""
        squares = _square_modulus(x - self.mean) * torch.exp(-self.log_var)
        return -(squares + self.log_var + math.log(math.pi)).sum(-1)

    def kl(self, other: "ComplexGaussian") -> Float[Tensor, "*batch"]:
        r"""Relative entropy :math:`KL(p \| q)` of ``self`` from ``other``, nats (no ½)."""
        log_ratio = self.log_var - other.log_var
        squares = _square_modulus(self.mean - other.mean) * torch.exp(-other.log_var)
        return (torch.exp(log_ratio) + squares - 1 - log_ratio).sum(-1)

    def sample(self, generator: torch.Generator) -> Complex[Tensor, "*batch D"]:
        r"""One draw :math:`\mu + \sigma (\epsilon_1 + i\epsilon_2)/\sqrt 2` for every entry."""
        noise = standard_normal(self.mean, generator)
        return self.mean + torch.exp(0.5 * self.log_var) * noise


class DenseComplexGaussian(NamedTuple):
    r"""Complex Gaussian with trivial relation matrix and full covariance, :math:`CN(\mu, \Sigma)`.

    Attributes:
        mean: μ.
        covariance: Σ = E (x − μ)(x − μ)†, Hermitian positive definite.
    """

    mean: Complex[Tensor, "*batch D"]
    covariance: Complex[Tensor, "*batch D D"]

    def kl(self, other: "DenseComplexGaussian") -> Float[Tensor, "*batch"]:
        r"""Relative entropy :math:`KL(p \| q)` of ``self`` from ``other``, nats.

        .. math:: \mathrm{tr}(\Sigma_q^{-1}\Sigma_p) - D - \log\det(\Sigma_q^{-1}\Sigma_p)
                  + (\mu_q - \mu_p)^\dagger \Sigma_q^{-1} (\mu_q - \mu_p)

        Raises:
            torch.linalg.LinAlgError: the covariance of ``other`` is singular.

        Example:
            >>> flat, mean = torch.eye(2, dtype=torch.complex64), torch.tensor([1 + 3j, 0])
            >>> p = DenseComplexGaussian(torch.zeros_like(mean), flat)
            >>> p.kl(DenseComplexGaussian(mean, 2 * flat))  # 2 (½ − 1 + log 2) + ½ |1 + 3i|²
            tensor(5.3863)
        """
        # By the inverse: solve() loses its values under vmap of forward over reverse (torch 2.13).
        precision = torch.linalg.inv(other.covariance)
        step = (other.mean - self.mean).unsqueeze(-1)
        squares = (step.mH @ precision @ step).squeeze((-2, -1)).real
        trace = (precision.mT * self.covariance).sum((-2, -1)).real
        log_ratio = torch.linalg.slogdet(self.covariance).logabsdet
        log_ratio = log_ratio - torch.linalg.slogdet(other.covariance).logabsdet
        return trace + squares - self.mean.shape[-1] - log_ratio


def _square_modulus(z: Tensor) -> Tensor:
    """|z|² with a second derivative at 0, which ``abs()**2`` lacks."""
    return z.real.square() + z.imag.square()
