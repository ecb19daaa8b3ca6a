"""Gaussian mixtures of latents with a density: the aggregated posterior, and a fitted mixture."""

import copy
import math
from abc import abstractmethod
from typing import Self

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.geometry.latents import check_latents
from kahlervae.models import MixturePrior, Posterior, RealPosterior
from kahlervae.options import check_count, check_number
from kahlervae.sample.samplers import Base, Draws
from kahlervae.seeding import check_seed

__all__ = [
    "GaussianMixture",
    "LearnedPrior",
    "Mixture",
    "PosteriorMixture",
    "TruncatedMixture",
    "coordinates",
    "finite_moments",
    "real_moments",
]


def coordinates(z: Complex[Tensor, "*batch d"]) -> Float[Tensor, "*batch 2*d"]:
    """(a, b) of z = a + ib: the coordinates of C^d as R^{2d}."""
    return torch.cat([z.real, z.imag], dim=-1)


def real_moments(
    posterior: Posterior,
) -> tuple[Float[Tensor, "*batch 2*d"], Float[Tensor, "*batch 2*d"]]:
    """Means and variances of posteriors in the coordinates (a, b).

    Real and imaginary part of CN(m, γ) have variance γ/2 each; a real latent u is z = u/√2.
    """
    if isinstance(posterior, RealPosterior):
        return posterior.real_mean / math.sqrt(2), posterior.real_log_var.exp() / 2
    return coordinates(posterior.mean), (posterior.variance / 2).repeat(1, 2)


def finite_moments(
    posterior: Posterior,
) -> tuple[Float[Tensor, "*batch 2*d"], Float[Tensor, "*batch 2*d"]]:
    """:func:`real_moments` in double precision, of posteriors that have a density.

    Raises:
        InputError: there are none, or moments are not finite or variances 0.
    """
    mean, variance = (moment.double() for moment in real_moments(posterior))
    if not len(mean):
        raise InputError("there are no posteriors to draw from: give one at least.")
    fine = mean.isfinite() & variance.isfinite() & (variance > 0)
    if wrong := int((~fine).any(-1).sum()):
        raise InputError(
            f"{wrong} of {len(mean)} posteriors have a mean that is not finite, or a variance that "
            "is not or is 0: leave them out, or find what made the encoder diverge."
        )
    return mean, variance


class Mixture(Base):
    r"""A mixture of Gaussians on C^d ≅ R^{2d}.

    .. math:: ρ(z) = \sum_k π_k N_k(z)

    Densities are computed in double precision, since narrow components have large terms that
    cancel, and returned in that of the latents.

    Attributes:
        log_weights: log π_k, (K,).
        dtype: precision of the latents.
    """

    log_weights: Float[Tensor, " K"]
    dtype: torch.dtype = torch.complex64

    @abstractmethod
    def log_components(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, "n K"]:
        """log N_k(z) in double precision."""

    @abstractmethod
    def draw(
        self, index: Int[Tensor, " count"], generator: torch.Generator
    ) -> Complex[Tensor, "count d"]:
        """A draw from each of the named components."""

    def log_density(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Normalised log density, nats.

        Raises:
            InputError: z is none of its latents, (n, d).
        """
        z = check_latents(z, latent_dim=self.latent_dim)
        terms = self.log_components(z) + self.log_weights
        return torch.logsumexp(terms, dim=-1).to(z.real.dtype)

    def log_density_and_gradient(
        self, z: Complex[Tensor, "n d"], log_weights: Float[Tensor, "n K"] | None = None
    ) -> tuple[Float[Tensor, " n"], Complex[Tensor, "n d"]]:
        """Log density and its gradient, the components' weighted by their responsibilities."""
        terms = self.log_components(z) + (self.log_weights if log_weights is None else log_weights)
        value = torch.logsumexp(terms, dim=-1, keepdim=True)
        gradient = self._gradient(coordinates(z).double(), (terms - value).exp())
        real, imaginary = gradient.to(z.real.dtype).chunk(2, dim=-1)
        return value.squeeze(-1).to(z.real.dtype), torch.complex(real, imaginary)

    @abstractmethod
    def _gradient(
        self, x: Float[Tensor, "n 2*d"], shares: Float[Tensor, "n K"]
    ) -> Float[Tensor, "n 2*d"]:
        """The components' gradients, weighted by the shares."""

    def reweighted(self, log_weights: Float[Tensor, " K"]) -> Self:
        """The mixture of the same components with other weights, of any common factor."""
        other = copy.copy(self)
        other.log_weights = log_weights.log_softmax(-1)
        return other

    def _sample(self, count: int, generator: torch.Generator) -> Draws:
        weights = self.log_weights.exp().cpu()
        index = torch.multinomial(weights, count, replacement=True, generator=generator)
        return Draws(self.draw(index.to(self.log_weights.device), generator))


class PosteriorMixture(Mixture):
    r"""The aggregated posterior over N images: an image uniformly, then a draw from its posterior.

    .. math:: ρ(z) = \frac1N \sum_n q(z \mid x_n)

    A posterior is diagonal, so that all N log densities are two matrix products in z and its
    squares.

    Args:
        posterior: the posteriors of all N images.
        dtype: precision of the latents.

    Raises:
        InputError: there are no posteriors, or some are not finite.

    Example:
        >>> import torch
        >>> from kahlervae.models import ComplexPosterior
        >>> means = torch.tensor([[2 + 0j], [0 - 2j]])
        >>> mixture = PosteriorMixture(ComplexPosterior(means, torch.full((2, 1), -4.0)))
        >>> z = mixture.sample(500, torch.Generator().manual_seed(0)).latents
        >>> bool((z - means.T).abs().amin(1).max() < 0.5)  # near one of the two means
        True
    """

    name = "posterior_mixture"

    def __init__(self, posterior: Posterior, dtype: torch.dtype = torch.complex64) -> None:
        self.posterior = posterior
        mean, variance = finite_moments(posterior)
        self.dtype = dtype
        self.latent_dim = posterior.mean.shape[-1]
        self.log_weights = mean.new_full((len(mean),), -math.log(len(mean)))
        self._precision = 1 / variance
        self._slope = mean / variance
        self._offset = -0.5 * (mean.square() / variance + (2 * math.pi * variance).log()).sum(-1)

    def log_components(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, "n K"]:
        """log q(z | x_n)."""
        x = coordinates(z).double()
        return self._offset + x @ self._slope.mT - 0.5 * (x.square() @ self._precision.mT)

    def _gradient(
        self, x: Float[Tensor, "n 2*d"], shares: Float[Tensor, "n K"]
    ) -> Float[Tensor, "n 2*d"]:
        return shares @ self._slope - (shares @ self._precision) * x

    @property
    def scale(self) -> Float[Tensor, " d"]:
        """Root of the mean variance of the posteriors."""
        return self.posterior.variance.mean(0).sqrt().to(self.dtype.to_real())

    def draw(
        self, index: Int[Tensor, " count"], generator: torch.Generator
    ) -> Complex[Tensor, "count d"]:
        """A draw from the posterior of each of the named images."""
        chosen = type(self.posterior)(*(parameter[index] for parameter in self.posterior))
        return chosen.sample(generator).to(self.dtype)


class GaussianMixture(Mixture):
    r"""A mixture of Gaussians with full covariances in R^{2d}, at temperature T.

    .. math:: ρ(z) = \sum_k π_k N(x;\, m_k, T^2 S_k), \qquad x = (a, b),\ z = a + ib

    Weights and means do not change with the temperature.

    Args:
        weights: π_k ≥ 0, which sum to 1.
        means: m_k.
        covariances: S_k, symmetric and positive definite.
        temperature: T > 0, the factor on the standard deviations.
        dtype: precision of the latents.

    Raises:
        InputError: the parameters are none of a mixture, or the temperature is not positive and
            finite.

    Example:
        >>> import torch
        >>> mixture = GaussianMixture(
        ...     torch.tensor([0.5, 0.5]),
        ...     torch.tensor([[2.0, 0.0], [-2.0, 0.0]]),
        ...     0.1 * torch.eye(2).expand(2, 2, 2),
        ...     temperature=0.5,
        ... )
        >>> z = mixture.sample(500, torch.Generator().manual_seed(0)).latents
        >>> tuple(z.shape), round(z.real.abs().mean().item(), 1)
        ((500, 1), 2.0)
    """

    name = "gmm"

    def __init__(
        self,
        weights: Float[Tensor, " K"],
        means: Float[Tensor, "K 2*d"],
        covariances: Float[Tensor, "K 2*d 2*d"],
        temperature: float = 1.0,
        dtype: torch.dtype = torch.complex64,
    ) -> None:
        check_number("the temperature of a Gaussian mixture", temperature, positive=True)
        _check_mixture(weights, means, covariances)
        self.weights, self.means, self.covariances = weights, means, covariances
        self.dtype = dtype
        self.latent_dim = means.shape[1] // 2
        self.log_weights = weights.double().log()
        self.setting = f"components={len(weights)},temperature={temperature:g}"
        self._means = means.double()
        self._factor = temperature * _cholesky(covariances.double())
        eye = torch.eye(means.shape[1], dtype=torch.float64, device=means.device)
        # L⁻¹ of all components side by side: whitening is one product.
        inverse = torch.linalg.solve_triangular(self._factor, eye, upper=False)
        self._whitener = inverse.flatten(0, 1).mT
        self._white_means = (inverse @ self._means.unsqueeze(-1)).squeeze(-1)
        log_det = self._factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        self._offset = -log_det - self.latent_dim * math.log(2 * math.pi)

    @classmethod
    def fit(cls, means: Complex[Tensor, "n d"], components: int, seed: int) -> Self:
        """Maximum likelihood on latents, by scikit-learn's expectation maximisation.

        Raises:
            InputError: there are fewer latents than components, or these collapse, or latents are
                not finite, or the seed is none.
        """
        from sklearn.mixture import GaussianMixture as Estimator

        check_count("components, the number of Gaussians,", components)
        check_seed(seed)
        means = check_latents(means, "means", finite=True)
        if len(means) < components:
            raise InputError(
                f"{components} Gaussians cannot be fitted to {len(means)} latents: "
                "lower sampling.gmm.components."
            )
        # Starts by k-means do well; the likelihood's last digits do not matter.
        estimator = Estimator(components, random_state=seed, max_iter=200)
        try:
            estimator.fit(coordinates(means).double().cpu().numpy())
        except ValueError as error:
            raise InputError(
                f"the fit of {components} Gaussians to {len(means)} latents collapsed: "
                "lower sampling.gmm.components."
            ) from error
        weights, centres, covariances = (
            torch.from_numpy(parameter).to(means.device)
            for parameter in (estimator.weights_, estimator.means_, estimator.covariances_)
        )
        return cls(weights, centres, covariances, dtype=means.dtype)

    def at_temperature(self, temperature: float) -> "GaussianMixture":
        """The same mixture at another temperature."""
        parameters = (self.weights, self.means, self.covariances)
        return GaussianMixture(*parameters, temperature, self.dtype)

    def log_components(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, "n K"]:
        """log N(x; m_k, T² S_k)."""
        return self._offset - 0.5 * self._whiten(coordinates(z).double()).square().sum(-1)

    def _whiten(self, x: Float[Tensor, "n 2*d"]) -> Float[Tensor, "n K 2*d"]:
        return (x @ self._whitener).unflatten(1, self._white_means.shape) - self._white_means

    def _gradient(
        self, x: Float[Tensor, "n 2*d"], shares: Float[Tensor, "n K"]
    ) -> Float[Tensor, "n 2*d"]:
        return -(shares.unsqueeze(-1) * self._whiten(x)).flatten(1) @ self._whitener.mT

    @property
    def scale(self) -> Float[Tensor, " d"]:
        """Root of the mean variance of the components."""
        variances = self._factor.square().sum(-1).unflatten(1, (2, -1)).sum(1)
        return (self.log_weights.exp() @ variances).sqrt().to(self.dtype.to_real())

    def draw(
        self, index: Int[Tensor, " count"], generator: torch.Generator
    ) -> Complex[Tensor, "count d"]:
        """A draw from each of the named components."""
        shape = (len(index), 2 * self.latent_dim, 1)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        x = self._means[index] + (self._factor[index] @ noise.to(self._factor.device)).squeeze(-1)
        return torch.complex(*x.chunk(2, dim=-1)).to(self.dtype)


SUM = 1e-4
"""By how much the sum of weights may miss 1 in rounding."""


def _check_mixture(weights: Tensor, means: Tensor, covariances: Tensor) -> None:
    count, size = (*means.shape, 0, 0)[:2]
    if (
        weights.shape != (count,)
        or size % 2
        or covariances.shape != (count, size, size)
        or not size
    ):
        raise InputError(
            f"weights, means and covariances have the shapes {tuple(weights.shape)}, "
            f"{tuple(means.shape)} and {tuple(covariances.shape)}: give (K,), (K, 2d) and "
            "(K, 2d, 2d)."
        )
    total = float(weights.double().sum())
    if not ((weights >= 0).all() and abs(total - 1) < SUM):
        raise InputError(
            f"the weights of a Gaussian mixture sum to {total:g}, or some are negative: divide "
            "them by their sum, and give shares from 0 on."
        )
    if not means.isfinite().all():
        raise InputError(
            f"{int((~means.isfinite()).any(1).sum())} of {count} means of a Gaussian mixture are "
            "not finite: leave these components out."
        )


def _cholesky(covariances: Float[Tensor, "K n n"]) -> Float[Tensor, "K n n"]:
    """Lower triangular roots."""
    roots, failed = torch.linalg.cholesky_ex(covariances)
    # A factorisation reads one triangle alone, and no NaN stops it.
    size = covariances.abs().amax((1, 2))
    skew = (covariances - covariances.mT).abs().amax((1, 2))
    if wrong := int(((failed > 0) | ~(skew <= SKEW * size) | ~size.isfinite()).sum()):
        raise InputError(
            f"{wrong} of {len(covariances)} covariances of a Gaussian mixture are not symmetric "
            "and positive definite: add a small multiple of the identity, or fit fewer components."
        )
    return roots


SKEW = 1e-4
"""By how much a covariance may miss its transpose in rounding, relative to its largest entry."""


class TruncatedMixture(GaussianMixture):
    r"""A learned prior at temperature T.

    .. math:: ρ(z) = \sum_k π_k\, CN(z;\, m_k, T^2\, \mathrm{diag}\, γ_k)

    Args:
        prior: that of a model.
        temperature: T > 0, the factor on the standard deviations.

    Raises:
        InputError: the temperature is not positive and finite, or the prior's parameters are not
            finite.

    Example:
        >>> import torch
        >>> cold = TruncatedMixture(MixturePrior(latent_dim=2, components=8), temperature=0.5)
        >>> cold.key
        'truncated:temperature=0.5'
    """

    name = "truncated"

    def __init__(self, prior: MixturePrior, temperature: float) -> None:
        weights, mean, log_var = (
            parameter.detach() for parameter in (prior.log_weights.exp(), prior.mean, prior.log_var)
        )
        # Real and imaginary part have half of the variance each.
        covariances = torch.diag_embed((log_var.exp() / 2).repeat(1, 2))
        super().__init__(weights, coordinates(mean), covariances, temperature, mean.dtype)
        self.setting = f"temperature={temperature:g}"


class LearnedPrior(TruncatedMixture):
    """A learned prior itself.

    Example:
        >>> import torch
        >>> prior = MixturePrior(latent_dim=2, components=8)
        >>> sampler, z = LearnedPrior(prior), torch.zeros(3, 2, dtype=torch.complex64)
        >>> torch.allclose(sampler.log_density(z), prior.log_prob(z))
        True
    """

    name = "prior"

    def __init__(self, prior: MixturePrior) -> None:
        super().__init__(prior, 1.0)
        self.setting = "default"
