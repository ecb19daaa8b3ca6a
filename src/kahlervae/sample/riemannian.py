"""Sampling in proportion to the volume element of the metric of encoder covariances."""

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.geometry.latents import check_latents
from kahlervae.models import Posterior, RealPosterior
from kahlervae.options import check_count
from kahlervae.sample.chains import ChainSampler
from kahlervae.sample.hmc import Densities, Proposal
from kahlervae.sample.mixtures import PosteriorMixture, coordinates, finite_moments
from kahlervae.seeding import check_seed

__all__ = ["Riemannian", "choose_anchors"]

INFLATION = 2.0
"""Factor on the variances of the proposal, since kernels that overlap reach farther than one."""
BACKGROUND = 0.05
"""Share of the proposal that covers the background."""


def choose_anchors(posterior: Posterior, count: int, seed: int) -> Posterior:
    """The posteriors whose means are next to the centres of a k-means clustering of all means.

    All of them, where there are no more than ``count``.

    Raises:
        InputError: ``count`` is no whole number from 1 on, the seed is none, or means are not
            finite.

    Example:
        >>> import torch
        >>> from kahlervae.models import ComplexPosterior
        >>> generator = torch.Generator().manual_seed(0)
        >>> means = torch.randn(50, 2, dtype=torch.complex64, generator=generator)
        >>> anchors = choose_anchors(ComplexPosterior(means, torch.zeros(50, 2)), count=5, seed=0)
        >>> tuple(anchors.mean.shape)
        (5, 2)
    """
    from sklearn.cluster import KMeans

    check_count("the number of anchors", count)
    check_seed(seed)
    check_latents(posterior.mean, "means", finite=True)
    means = coordinates(posterior.mean).double().cpu()
    if len(means) <= count:
        return posterior
    clusters = KMeans(count, n_init=1, random_state=seed).fit(means.numpy())
    nearest = torch.cdist(torch.from_numpy(clusters.cluster_centers_), means).argmin(1).unique()
    chosen = nearest.to(posterior[0].device)
    return type(posterior)(*(parameter[chosen] for parameter in posterior))


class Riemannian(ChainSampler):
    r"""The volume element of a metric that is made of the posteriors' precisions.

    .. math::
        ρ(z) \propto \sqrt{\det G(x)}, \qquad
        G(x) = \sum_i Σ_i^{-1} \exp(-\|x - c_i\|_{Σ_i^{-1}}^2 / ρ^2) + λ e^{-τ \|x\|^2} I

    in the coordinates x = (a, b) of R^{2d}, with means c_i and covariances Σ_i of the posteriors of
    anchors. These are diagonal, and so is G. With complex posteriors G has the same entries for a
    and b, so that √det G is the determinant of the Hermitian metric up to a constant.

    **Parameters.** As in the paper, ρ is the largest distance of an anchor to the one next to it,
    here in the norm in which the kernel measures it, so that no anchor is cut off from all others,
    and λ is small. Kernels are integrable, the background λ^d exp(−dτ‖x‖²) that they leave only for
    τ > 0, hence τ = 0, for which z would have to be kept in a bounded region, is refused. By
    default τ = 1/d, which makes the background λ^d times the shape of the prior.

    Chains start at draws from a mixture of Gaussians at the anchors, with twice the covariance
    ρ²Σ_i/2d that a kernel alone would give, and one like the background; so do their candidates.

    Reference:
        Chadebec & Allassonnière (2022), A geometric perspective on variational autoencoders,
        sections 3 and 4. Their published sampler draws from another density: its gradient leaves
        out factors, its momenta have a standard deviation of ½ but a kinetic energy of unit ones,
        and it clamps the determinant.

    Args:
        anchors: posteriors, two or more.
        regularisation: λ > 0.
        decay: τ > 0; 1/d by default.
        options: those of :class:`~kahlervae.sample.chains.ChainSampler`.

    Raises:
        InputError: fewer than two anchors, or some that are not finite, or λ or τ are not positive
            and finite, or an option is out of range.

    Example:
        >>> import torch
        >>> from kahlervae.models import ComplexPosterior
        >>> means = torch.tensor([[2 + 0j], [0 - 2j], [-2 + 1j]])
        >>> sampler = Riemannian(
        ...     ComplexPosterior(means, torch.full((3, 1), -2.0)), regularisation=1e-3,
        ...     chains=16, warmup=30, draws=60, leapfrog=2,
        ... )
        >>> z = sampler.sample(100, torch.Generator().manual_seed(0)).latents
        >>> tuple(z.shape), bool(torch.isfinite(sampler.log_density(z)).all())
        ((100, 1), True)
    """

    name = "riemannian"

    def __init__(
        self,
        anchors: Posterior,
        regularisation: float,
        decay: float | None = None,
        **options: Any,
    ) -> None:
        if len(anchors[0]) < 2:
            raise InputError("the Riemannian sampler needs two anchors at least.")
        latent_dim = anchors.mean.shape[-1]
        self.regularisation = regularisation
        self.decay = 1 / latent_dim if decay is None else decay
        if not (0 < self.decay < math.inf and 0 < regularisation < math.inf):
            raise InputError(
                f"riemannian: √det G cannot be normalised with regularisation {regularisation:g} "
                f"and decay {self.decay:g}: it falls off far from all anchors only where both are "
                "positive and finite."
            )
        means, variances = finite_moments(anchors)
        self._precision = 1 / variances
        self._slope = means / variances
        self._offset = (means.square() / variances).sum(-1)
        squares = self._squared_distances(means).fill_diagonal_(math.inf)
        self.width = float(squares.amin(1).max().clamp(min=1e-12).sqrt())

        spread = INFLATION * variances * self.width**2 / (2 * latent_dim)
        wide = torch.full_like(spread[:1], 1 / (2 * latent_dim * self.decay))
        centres = torch.cat([means, torch.zeros_like(means[:1])])
        # A real latent u is z = u/√2.
        real = RealPosterior(math.sqrt(2) * centres, (2 * torch.cat([spread, wide])).log())
        mixture = PosteriorMixture(real, anchors.mean.dtype)
        shares = torch.full_like(mixture.log_weights, (1 - BACKGROUND) / len(means))
        shares[-1] = BACKGROUND
        proposal = mixture.reweighted(shares.log())
        super().__init__(proposal, proposal, **options)

    def log_density(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """log √det G, unnormalised log density.

        Raises:
            InputError: z is none of its latents, (n, d).
        """
        z = check_latents(z, latent_dim=self.latent_dim)
        metric, _, _, top = self._metric(coordinates(z).double())
        return (0.5 * metric.log().sum(-1) + self.latent_dim * top).to(z.real.dtype)

    def log_densities(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, "1 n"]:
        """The one of :meth:`log_density`."""
        return self.log_density(z).unsqueeze(0)

    def log_density_and_gradient(
        self, z: Complex[Tensor, "n d"], which: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Complex[Tensor, "n d"]]:
        """:meth:`log_density` and its gradient in closed form."""
        x = coordinates(z).double()
        metric, kernels, background, top = self._metric(x)
        value = 0.5 * metric.log().sum(-1) + self.latent_dim * top
        inverse = metric.reciprocal()
        shares = kernels * (inverse @ self._precision.mT)
        towards = shares @ self._slope - (shares @ self._precision) * x
        outside = (background * inverse.sum(-1)).unsqueeze(-1) * x
        gradient = (towards / self.width**2 - self.decay * outside).to(z.real.dtype)
        return value.to(z.real.dtype), torch.complex(*gradient.chunk(2, dim=-1))

    @classmethod
    def join(cls, family: Sequence[Self]) -> tuple[Densities, Proposal]:
        """The only one of a family: its own densities and proposal."""
        (sampler,) = family
        return sampler, sampler.proposal

    def _metric(
        self, x: Float[Tensor, "n 2*d"]
    ) -> tuple[
        Float[Tensor, "n 2*d"], Float[Tensor, "n anchors"], Float[Tensor, " n"], Float[Tensor, " n"]
    ]:
        """G, its kernels and its background, all by a factor whose logarithm comes last."""
        exponents = -self._squared_distances(x) / self.width**2
        background = math.log(self.regularisation) - self.decay * x.square().sum(-1)
        # The largest exponent is taken out, for far from the anchors all of them underflow.
        top = torch.maximum(exponents.amax(1), background).detach()
        kernels, background = (exponents - top[:, None]).exp(), (background - top).exp()
        return kernels @ self._precision + background[:, None], kernels, background, top

    def _squared_distances(self, x: Float[Tensor, "n 2*d"]) -> Float[Tensor, "n anchors"]:
        """‖x − c_i‖² in the norm of Σ_i⁻¹."""
        return self._offset - 2 * x @ self._slope.mT + x.square() @ self._precision.mT
