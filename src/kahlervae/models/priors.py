"""Priors p(z) of the latents: the standard complex Gaussian, and a mixture that is learned."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae.errors import InputError
from kahlervae.models.posteriors import Posterior
from kahlervae.nn import OnePrecision
from kahlervae.options import check_count, check_sizes
from kahlervae.seeding import check_stream, standard_normal

__all__ = ["MixturePrior", "StandardPrior", "build_prior"]


class StandardPrior(nn.Module):
    r""":math:`CN(0, I)`.

    Args:
        latent_dim: d.

    Raises:
        InputError: d is no whole number from 1 on.

    Example:
        >>> StandardPrior(2).log_prob(torch.zeros(1, 2, dtype=torch.complex64))  # −2 log π
        tensor([-2.2895])
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        check_sizes("a standard prior", latent_dim=latent_dim)
        self.latent_dim = latent_dim

    def log_prob(self, z: Complex[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """Log-density, nats.

        Raises:
            InputError: z is no complex tensor (..., d).
        """
        _check_latents(z, self.latent_dim)
        return -(z.real.square() + z.imag.square() + math.log(math.pi)).sum(-1)

    def sample(self, count: int, generator: torch.Generator) -> Complex[Tensor, "count d"]:
        """Independent draws, on the CPU.

        Raises:
            InputError: ``count`` is no whole number from 1 on, or there is no generator.
        """
        check_count("the number of samples of a prior", count)
        check_stream(generator)
        return torch.randn(count, self.latent_dim, generator=generator, dtype=torch.complex64)

    def kl(self, posterior: Posterior, z: Complex[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """KL(q ‖ p) in closed form, nats; the draws z of q are not needed."""
        return posterior.kl()


class MixturePrior(OnePrecision):
    r"""A mixture of complex Gaussians, learned along with the model.

    .. math:: p(z) = \sum_{k=1}^K \pi_k\, CN(z;\, m_k, \mathrm{diag}\,\gamma_k)

    It starts near CN(0, I), with means drawn from CN(0, I/2) and γ = ½. A share of the weights is
    equal for all, :math:`\pi = \tfrac1{10K} + \tfrac9{10}\,\mathrm{softmax}(w)`, so that none ever
    falls so low that its component no longer learns.

    Args:
        latent_dim: d.
        components: K.

    Attributes:
        logits: w.
        mean: m.
        log_var: log γ.

    Raises:
        InputError: d or K is no whole number from 1 on.

    Example:
        >>> prior = MixturePrior(latent_dim=2, components=8)
        >>> prior.log_prob(torch.zeros(5, 2, dtype=torch.complex64)).shape
        torch.Size([5])
        >>> round(prior.log_weights.exp().sum().item(), 4)
        1.0
    """

    def __init__(self, latent_dim: int, components: int) -> None:
        super().__init__()
        check_sizes("a mixture prior", latent_dim=latent_dim, components=components)
        self.latent_dim = latent_dim
        self.logits = nn.Parameter(torch.zeros(components))
        scale = math.sqrt(0.5)
        self.mean = nn.Parameter(
            torch.empty(components, latent_dim, dtype=torch.complex64).normal_().mul_(scale)
        )
        self.log_var = nn.Parameter(torch.full((components, latent_dim), math.log(0.5)))

    @property
    def log_weights(self) -> Float[Tensor, " K"]:
        """log π."""
        equal = torch.full_like(self.logits, math.log(EQUAL / len(self.logits)))
        return torch.logaddexp(self.logits.log_softmax(0) + math.log1p(-EQUAL), equal)

    def log_components(self, z: Complex[Tensor, "*batch d"]) -> Float[Tensor, "*batch K"]:
        """log CN(z; m_k, diag γ_k), nats.

        Raises:
            InputError: z is no complex tensor (..., d).
        """
        _check_latents(z, self.latent_dim)
        step = z.unsqueeze(-2) - self.mean
        squares = (step.real.square() + step.imag.square()) * torch.exp(-self.log_var)
        return -(squares + self.log_var + math.log(math.pi)).sum(-1)

    def log_prob(self, z: Complex[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """Log-density, nats; errors are those of :meth:`log_components`."""
        return torch.logsumexp(self.log_components(z) + self.log_weights, dim=-1)

    def sample(self, count: int, generator: torch.Generator) -> Complex[Tensor, "count d"]:
        """Independent draws: a component by its weight, then one of its points.

        Raises:
            InputError: ``count`` is no whole number from 1 on, or there is no generator.
        """
        check_count("the number of samples of a prior", count)
        check_stream(generator)
        weights = self.log_weights.exp().cpu()
        index = torch.multinomial(weights, count, replacement=True, generator=generator)
        mean, log_var = self.mean[index], self.log_var[index]
        return mean + torch.exp(0.5 * log_var) * standard_normal(mean, generator)

    def kl(self, posterior: Posterior, z: Complex[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        r""":math:`\log q(z) - \log p(z)` at a draw z of q, which is KL(q ‖ p) in the mean, nats."""
        return posterior.log_prob(z) - self.log_prob(z)


def _check_latents(z: Tensor, latent_dim: int) -> None:
    if not isinstance(z, Tensor) or not z.is_complex() or z.shape[-1:] != (latent_dim,):
        given = f"{z.dtype} {(*z.shape,)}" if isinstance(z, Tensor) else type(z).__name__
        raise InputError(
            f"the latents of a prior are {given}: give a complex tensor of shape (..., "
            f"{latent_dim})."
        )


EQUAL = 0.1
"""Share of the weights of a mixture that is equal for all components."""


def build_prior(
    latent_dim: int, settings: Mapping[str, Any] | None
) -> StandardPrior | MixturePrior:
    """The prior that a variant's block names; CN(0, I) if it names none.

    Args:
        latent_dim: d.
        settings: ``kind``, which is ``mixture``, and the number of its ``components``.

    Raises:
        InputError: the kind is unknown.

    Example:
        >>> build_prior(2, None), build_prior(2, {"kind": "mixture", "components": 8})
        (StandardPrior(), MixturePrior())
    """
    if settings is None:
        return StandardPrior(latent_dim)
    if settings["kind"] != "mixture":
        raise InputError(f"the prior {settings['kind']!r} is unknown: choose mixture, or none.")
    return MixturePrior(latent_dim, settings["components"])
