"""Approximate posteriors q(z | x) over complex latents.

A real latent u in R^{2d} with prior N(0, I) is identified with z = (u_a + i u_b)/√2 in C^d, which
has prior CN(0, I): every variant speaks of latents in C^d.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.seeding import standard_normal

__all__ = ["ComplexPosterior", "Posterior", "RealPosterior"]


class ComplexPosterior(NamedTuple):
    r"""Complex Gaussian posterior with trivial relation matrix, :math:`CN(m, \mathrm{diag}\,γ)`.

    Attributes:
        mean: m.
        log_var: log γ.

    Example:
        >>> posterior = ComplexPosterior(torch.tensor([1 + 2j, 0]), torch.zeros(2))
        >>> posterior.kl()  # |m|²
        tensor(5.)
    """

    mean: Complex[Tensor, "*batch d"]
    log_var: Float[Tensor, "*batch d"]

    @property
    def variance(self) -> Float[Tensor, "*batch d"]:
        """γ = E|z − m|²."""
        return torch.exp(self.log_var)

    def sample(self, generator: torch.Generator) -> Complex[Tensor, "*batch d"]:
        r"""One draw :math:`m + \sqrt{γ}\,(ε_1 + iε_2)/\sqrt 2`, reparameterised."""
        return self.at(standard_normal(self.mean, generator))

    def at(self, noise: Complex[Tensor, "*batch d"]) -> Complex[Tensor, "*batch d"]:
        """The draw that a draw of CN(0, I) becomes."""
        return self.mean + torch.exp(0.5 * self.log_var) * noise

    def log_prob(self, z: Complex[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """Log-density at z, with respect to the volume of C^d, nats."""
        step = z - self.mean
        squares = (step.real.square() + step.imag.square()) * torch.exp(-self.log_var)
        return -(squares + self.log_var + math.log(math.pi)).sum(-1)

    def kl(self) -> Float[Tensor, "*batch"]:
        r""":math:`KL(q \| CN(0, I)) = \sum_i (γ_i + |m_i|^2 - 1 - \log γ_i)`, nats."""
        squares = self.mean.real.square() + self.mean.imag.square()
        return (torch.exp(self.log_var) + squares - 1 - self.log_var).sum(-1)


class RealPosterior(NamedTuple):
    r"""Real Gaussian posterior :math:`N(m, \mathrm{diag}\,s^2)` of u in R^{2d}.

    Attributes:
        real_mean: m, the first d coordinates for the real parts.
        real_log_var: log s².

    Example:
        >>> posterior = RealPosterior(torch.tensor([1.0, 3.0]), torch.zeros(2))
        >>> posterior.kl()  # |m|²/2, which is that of the mean (1 + 3i)/√2 in C
        tensor(5.)
        >>> round(posterior.mean.abs().square().item(), 4)
        5.0
    """

    real_mean: Float[Tensor, "*batch n"]
    real_log_var: Float[Tensor, "*batch n"]

    @property
    def mean(self) -> Complex[Tensor, "*batch d"]:
        """The mean in C^d."""
        return _identify(self.real_mean)

    @property
    def variance(self) -> Float[Tensor, "*batch d"]:
        """E|z − E z|² of every complex coordinate."""
        real, imaginary = torch.exp(self.real_log_var).chunk(2, dim=-1)
        return 0.5 * (real + imaginary)

    def sample(self, generator: torch.Generator) -> Complex[Tensor, "*batch d"]:
        """One draw in C^d, reparameterised."""
        return self.at(standard_normal(self.real_mean, generator))

    def at(self, noise: Float[Tensor, "*batch n"]) -> Complex[Tensor, "*batch d"]:
        """The draw that a draw of N(0, I) becomes."""
        return _identify(self.real_mean + torch.exp(0.5 * self.real_log_var) * noise)

    def log_prob(self, z: Complex[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """Log-density at z, with respect to the volume of C^d (2^d times that of u), nats."""
        step = math.sqrt(2) * torch.cat([z.real, z.imag], dim=-1) - self.real_mean
        squares = step.square() * torch.exp(-self.real_log_var)
        # u = √2 (Re z, Im z), so that the density of z is that of u times 2^d.
        return -0.5 * (squares + self.real_log_var + math.log(math.pi)).sum(-1)

    def kl(self) -> Float[Tensor, "*batch"]:
        r""":math:`KL(q \| N(0, I)) = \tfrac12 \sum_i (s_i^2 + m_i^2 - 1 - \log s_i^2)`, nats."""
        variance = torch.exp(self.real_log_var)
        return 0.5 * (variance + self.real_mean.square() - 1 - self.real_log_var).sum(-1)


Posterior = ComplexPosterior | RealPosterior


def _identify(u: Tensor) -> Tensor:
    return torch.complex(*u.chunk(2, dim=-1)) / math.sqrt(2)
