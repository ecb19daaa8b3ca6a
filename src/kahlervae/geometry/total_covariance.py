"""The bridge from a mixture potential to a Fisher metric: complete = observed + missing."""

from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.models.likelihoods import ComplexGaussian, RealGaussian

__all__ = ["InformationDraws", "MixtureDecoder"]


class InformationDraws(NamedTuple):
    """Monte Carlo draws, over x ~ p(x | z), of the two parts of the complete information.

    Attributes:
        observed: score times conjugate score of log p(x | z); its mean is the Fisher metric.
        missing: posterior covariance of ∂φ given x; its mean is what x does not tell.
    """

    observed: Complex[Tensor, "n samples d d"]
    missing: Complex[Tensor, "n samples d d"]


class MixtureDecoder:
    r"""A decoder whose likelihood is a mixture with latent-dependent weights.

    .. math:: p(x \mid z) = \sum_k w_k(z)\, p_k(x), \qquad w = \mathrm{softmax}\,\varphi, \quad
              \varphi_k(z) = c_k + 2\,\mathrm{Re}(b_k^\dagger z)

    If the component k were observed along with x, the information on z would be
    :math:`\mathrm{Cov}_w(\partial\varphi)`: the metric of the potential
    :math:`\log \sum_k \exp \varphi_k`. By the law of total covariance

    .. math::
        \mathrm{Cov}_w(\partial\varphi)
        = \underbrace{\mathrm{Cov}_x E[\partial\varphi \mid x]}_{\text{Fisher metric of } x}
        + \underbrace{E_x \mathrm{Cov}(\partial\varphi \mid x)}_{\text{missing} \succeq 0}

    so the potential bounds the Fisher metric from above, with equality when x determines the
    component (Louis 1982; docs/theory.md, section 6).

    Args:
        offset: c, (K,).
        slope: b, (K, d).
        components: the likelihoods p_k as one batch, (K, D).

    Example:
        Components that x tells apart leave no information missing:

        >>> far = RealGaussian(torch.tensor([[-9.0], [9.0]]), torch.zeros(2, 1))
        >>> decoder = MixtureDecoder(torch.zeros(2), torch.tensor([[1 + 0j], [-1 + 0j]]), far)
        >>> z = torch.tensor([[0j]])  # w = (½, ½), so that b = ±1 has variance 1
        >>> round(decoder.complete_information(z).abs().item(), 4)
        1.0
        >>> draws = decoder.information_draws(z, 100, torch.Generator().manual_seed(0))
        >>> round(draws.observed.real.mean().item(), 4), round(draws.missing.real.mean().item(), 4)
        (1.0, 0.0)
    """

    def __init__(
        self,
        offset: Float[Tensor, " K"],
        slope: Complex[Tensor, "K d"],
        components: RealGaussian | ComplexGaussian,
    ) -> None:
        self.offset = offset
        self.slope = slope
        self.components = components

    def log_weights(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, "n K"]:
        """log w_k(z)."""
        return (self.offset + 2 * (z @ self.slope.mH).real).log_softmax(-1)

    def log_prob(self, x: Tensor, z: Complex[Tensor, "n d"]) -> Float[Tensor, "n samples"]:
        """log p(x | z) of x with shape (n, samples, D), nats."""
        return (self.log_weights(z).unsqueeze(1) + self._log_components(x)).logsumexp(-1)

    def complete_information(self, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
        """Cov_w(∂φ), the metric of the potential log Σ exp φ."""
        return self._covariance(self.log_weights(z).exp())

    def information_draws(
        self, z: Complex[Tensor, "n d"], samples: int, generator: torch.Generator
    ) -> InformationDraws:
        """Draws of observed and missing information at every z, by as many as stay in memory."""
        log_weights = self.log_weights(z)
        chosen = torch.multinomial(log_weights.exp().cpu(), samples, True, generator=generator)
        size = max(1, CHUNK // (len(z) * self.components.mean[0].numel()))
        parts = [self._draws(log_weights, part, generator) for part in chosen.split(size, dim=1)]
        observed, missing = zip(*parts, strict=True)
        return InformationDraws(torch.cat(observed, dim=1), torch.cat(missing, dim=1))

    def _draws(
        self, log_weights: Tensor, chosen: Tensor, generator: torch.Generator
    ) -> InformationDraws:
        component = type(self.components)(*(part[chosen] for part in self.components))
        x = component.sample(generator)
        responsibilities = (log_weights.unsqueeze(1) + self._log_components(x)).softmax(-1)
        deviation = responsibilities - log_weights.exp().unsqueeze(1)
        score = deviation.to(self.slope.dtype) @ self.slope.conj()
        observed = score.unsqueeze(-1) * score.conj().unsqueeze(-2)
        return InformationDraws(observed, self._covariance(responsibilities))

    def _log_components(self, x: Tensor) -> Tensor:
        """log p_k(x) of shape (n, samples, K), one component at a time to spare memory."""
        return torch.stack(
            [
                type(self.components)(*(part[k] for part in self.components)).log_prob(x)
                for k in range(len(self.offset))
            ],
            dim=-1,
        )

    def _covariance(self, weights: Tensor) -> Tensor:
        """Cov of ∂φ_k = conj(b_k) under weights of shape (..., K)."""
        weights = weights.unsqueeze(-1)
        deviation = self.slope - (weights * self.slope).sum(-2, keepdim=True)
        root = weights.sqrt() * deviation
        return root.mH @ root


CHUNK = 1 << 21
"""Numbers of data drawn at once."""
