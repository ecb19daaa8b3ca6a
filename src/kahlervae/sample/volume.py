"""Sampling in proportion to a weighted complex volume element."""

import math
from collections.abc import Sequence
from typing import Any, Protocol, Self, runtime_checkable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.geometry import HolomorphicPotential, MixturePotential, hermitian_part, log_det
from kahlervae.geometry.decoder import Decoder
from kahlervae.geometry.fisher import form_anywhere
from kahlervae.geometry.latents import check_gradients
from kahlervae.options import check_choice, check_number
from kahlervae.sample.chains import ChainSampler
from kahlervae.sample.hmc import Densities, Differentiated, Proposal
from kahlervae.sample.mixtures import Mixture
from kahlervae.sample.samplers import Base
from kahlervae.seeding import generator as seeded

__all__ = ["FisherVolume", "Volume", "VolumeElement", "component_log_dets"]

PER_COMPONENT = 512
"""Draws of a component for its mean log det, if there are few."""
AT_LEAST = 32
"""Draws of a component for its mean log det, however many there are."""
RAYS = 64
"""Directions in which the growth of a density is probed."""
POLYNOMIAL = (MixturePotential, HolomorphicPotential)
"""Metrics that are known to grow as a polynomial at most; so far out that growth could be seen,
they need not even be definite in single precision."""
WEIGHTS = ("global", "local")
"""What a determinant is taken relative to."""


@runtime_checkable
class VolumeElement(Protocol):
    """A metric that knows its regularised log volume element."""

    def log_det(self, z: Complex[Tensor, "n d"], epsilon: float) -> Float[Tensor, " n"]:
        """log det(g(z) + εI), differentiable in z."""


class FisherVolume:
    """The volume element of a decoder's exact Fisher metric: the slow reference.

    Args:
        decoder: latents (n, d) to a Gaussian likelihood, row by row.

    Example:
        >>> import torch
        >>> from kahlervae.models import ComplexGaussian
        >>> def decoder(z):  # mean 3z, σ² = 1: the metric is 9 I
        ...     return ComplexGaussian(3 * z, torch.zeros(z.shape))
        >>> element = FisherVolume(decoder)
        >>> element.log_det(torch.zeros(1, 2, dtype=torch.complex64), 0.0)  # 2 log 9
        tensor([4.3944])
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    def log_det(self, z: Complex[Tensor, "n d"], epsilon: float) -> Float[Tensor, " n"]:
        """log det(g(z) + εI), differentiable in z through the decoder's Jacobian."""
        return log_det(hermitian_part(form_anywhere(self.decoder, z)), epsilon)


@torch.no_grad()
def component_log_dets(
    base: Mixture, element: VolumeElement, epsilon: float
) -> Float[Tensor, "K draws"]:
    """log det(g + εI) at draws from every component, of a seed of its own.

    512 draws a component, fewer where there are more than 64 components, but at least 32.

    Example:
        >>> import torch
        >>> from kahlervae.geometry import MixturePotential
        >>> from kahlervae.sample import GaussianMixture
        >>> base = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None] / 2)
        >>> potential = MixturePotential.random(1, 2, 4, 1.0, torch.Generator().manual_seed(0))
        >>> tuple(component_log_dets(base, potential, 1e-3).shape)
        (1, 512)
    """
    count = len(base.log_weights)
    draws = max(AT_LEAST, min(PER_COMPONENT, PER_COMPONENT * 64 // count))
    index = torch.arange(count, device=base.log_weights.device).repeat_interleave(draws)
    z = base.draw(index, seeded(0, "component_log_dets"))
    return element.log_det(z, epsilon).reshape(count, draws)


class Volume(ChainSampler):
    r"""A base density p, weighted by a power of the complex volume element of a metric g.

    .. math:: ρ(z) \propto p(z) \, \det(g(z) + εI)^α, \qquad α = \text{power} / d

    The volume element of a Hermitian metric is its determinant, not the root of it: √det of the
    real 2d × 2d metric is 2^d det g. The exponent is a power of the geometric mean eigenvalue
    det^{1/d}, so that equal powers mean the same in every dimension.

    **Local weight.** With a mixture Σ_k π_k N_k as base the determinant may be taken relative to
    its mean in every component,

    .. math:: ρ(z) \propto \sum_k π_k N_k(z)
              \exp\bigl(α (\log\det(g(z) + εI) - \langle\log\det\rangle_k)\bigr)

    which leaves every component about the share that it has in the base – exactly that, where
    log det is distributed alike in all of them but for its mean – while a global weight shifts
    them to where volume is small (or large). It is the global weight of the mixture with weights
    π_k exp(−α⟨log det⟩_k). What is not finite is not visited, and not in a mean either.

    **Integrability.** Bases have Gaussian tails, ``p(z) ≤ exp(C − c|z|²)``: so do the prior and
    finite mixtures of Gaussians, c being half the smallest precision. Hence every real α is
    allowed when g is positive semidefinite, continuous and grows slower than that: for α ≤ 0 the
    weight is bounded, det(g + εI)^α ≤ ε^{dα}; for α > 0, ``‖g(z)‖ ≤ C(1 + |z|²)^m`` gives a
    polynomial bound of the weight, which ``exp(−c|z|²)`` integrates. A mixture potential has m = 1,
    m = 0 if its components are affine: its metric is a weighted covariance of the vectors
    b_k + A_k z plus bounded terms. A holomorphic potential has some m, for its network is a
    polynomial. The Fisher metric of a decoder of constant variance has m = 0 if its activations
    have bounded derivatives and some m if they are polynomials; a variance that depends on z adds a
    factor ``exp(c'|z|)`` at most. For metrics other than these potentials growth is probed along
    random rays, and a density that does not fall there is refused.

    Candidates are draws from the base, its components weighed by their estimated shares in ρ, or by
    the mean of these where a family runs together; for the rest see
    :class:`~kahlervae.sample.chains.ChainSampler`.

    Args:
        base: p, which also gives the starts.
        element: g, by its ``log_det``, or by ``log_det_and_gradient`` where it has that as well.
        power: dα.
        epsilon: ε > 0.
        weight: ``global`` or ``local``.
        metric: the name of g in keys.
        log_dets: what :func:`component_log_dets` gives for base and element; None to have it
            computed. Of a base that is no mixture, nothing.
        options: ``chains``, ``warmup``, ``draws``, ``leapfrog``, ``candidates`` and ``rhat``.

    Raises:
        InputError: an option is out of range, the weight is local and the base no mixture, log det
            is not finite at any draw from a component, or the density cannot be normalised.

    Example:
        >>> import torch
        >>> from kahlervae.geometry import MixturePotential
        >>> from kahlervae.sample import Prior
        >>> potential = MixturePotential.random(2, 2, 8, 5.0, torch.Generator().manual_seed(0))
        >>> potential = potential.requires_grad_(False)
        >>> sampler = Volume(
        ...     Prior(2), potential, power=-4.0, epsilon=1e-3,
        ...     chains=16, warmup=30, draws=60, leapfrog=2,
        ... )
        >>> drawn = sampler.sample(200, torch.Generator().manual_seed(0))
        >>> prior = Prior(2).sample(200, torch.Generator().manual_seed(0))
        >>> volumes = [potential.log_det(z, 1e-3).mean() for z in (drawn.latents, prior.latents)]
        >>> bool(volumes[0] < volumes[1])  # a negative power prefers small volumes
        True
    """

    name = "volume"

    def __init__(
        self,
        base: Base,
        element: VolumeElement,
        power: float,
        epsilon: float,
        *,
        weight: str = "global",
        metric: str = "fitted",
        log_dets: Float[Tensor, "K draws"] | None = None,
        **options: Any,
    ) -> None:
        check_choice("the weight of a volume sampler", weight, WEIGHTS)
        check_number("the power of a volume sampler", power)
        check_number("epsilon of a volume sampler", epsilon, positive=True)
        super().__init__(base, base, **options)
        self.weighted = base
        self.element = element
        self.metric = metric
        self.alpha = power / base.latent_dim
        self.epsilon = epsilon
        self.setting = f"base={base.name},weight={weight},metric={metric},power={power:g}"
        if isinstance(base, Mixture):
            if log_dets is None:
                log_dets = component_log_dets(base, element, epsilon)
            self._weigh_components(base, self.alpha * log_dets.double(), weight)
        elif weight == "local":
            raise InputError(
                f"{self.key}: a local weight compares the components of a mixture, and "
                f"{base.name} has a single one: use weight global, or base gmm."
            )
        if self.alpha > 0 and type(element) not in POLYNOMIAL:
            self._refuse_heavy_tails()

    def log_density(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Unnormalised log density, nats."""
        return self.weighted.log_density(z) + self.alpha * self.element.log_det(z, self.epsilon)

    @property
    def family(self) -> str:
        """Base and metric: samplers of other weights and powers take the same log det."""
        return f"{self.name}:base={self.base.name},metric={self.metric}"

    @classmethod
    def join(cls, family: Sequence[Self]) -> tuple[Densities, Proposal]:
        """The densities of a family; components are proposed with their mean shares."""
        proposals = [v.proposal for v in family if isinstance(v.proposal, Mixture)]
        if not proposals:
            return _Weighted(family), family[0].proposal
        shares = torch.stack([proposal.log_weights for proposal in proposals]).logsumexp(0)
        return _Weighted(family), proposals[0].reweighted(shares)

    def _weigh_components(self, base: Mixture, log_weights: Tensor, weight: str) -> None:
        """Sets the weights of the components in the density and in the proposal."""
        shares = base.log_weights
        finite = log_weights.isfinite()
        if lost := int((~finite.any(1)).sum()):
            raise InputError(
                f"{self.key}: log det is not finite at any draw from {lost} of {len(finite)} "
                "components of the base: check the potential (its metric must be finite and "
                "positive) and epsilon."
            )
        if weight == "local":
            # Of all, where all are finite: a mean of some differs from it in its last digit.
            means = log_weights.masked_fill(~finite, math.nan).nanmean(1)
            shares = shares - torch.where(finite.all(1), log_weights.mean(1), means)
            self.weighted = base.reweighted(shares)
        # Estimated shares in ρ; a component is proposed with a tenth of its share in the base at
        # least, should the estimate be wrong.
        visited = log_weights.masked_fill(~finite, -math.inf)
        estimated = (shares + visited.logsumexp(1)).log_softmax(-1)
        self.proposal = base.reweighted((estimated.exp() + 0.1 * base.log_weights.exp()).log())

    def _refuse_heavy_tails(self) -> None:
        """Probes the density along random rays far outside the base."""
        ray = self.base.propose(RAYS, seeded(0, "rays"))
        reach = ray.abs().square().sum(-1).mean().sqrt()
        ray = reach * ray / ray.abs().square().sum(-1, keepdim=True).sqrt()
        with torch.no_grad():
            near, far = (self.log_density(factor * ray) for factor in (16, 32))
        if near.isnan().any() or far.isnan().any():
            raise InputError(
                f"{self.key}: the log density is not finite far from the base, so that nothing "
                "tells whether it can be normalised: use a negative power, or a metric that is "
                "finite and positive there."
            )
        # A shell at twice the radius has 2^2d of the volume.
        if not (far + 2 * self.latent_dim * math.log(2) < near).all():
            raise InputError(
                f"{self.key} cannot be normalised: far from the base, det(g + εI)^{self.alpha:g} "
                "grows faster than the base falls: use a negative power, or a metric that grows "
                "more slowly."
            )


class _Weighted:
    """The densities of volume samplers with the same base and the same metric."""

    def __init__(self, family: Sequence[Volume]) -> None:
        first = family[0]
        self.base, self.element, self.epsilon = first.base, first.element, first.epsilon
        self.alpha = first.base.scale.new_tensor([volume.alpha for volume in family])
        mixtures = [volume.weighted for volume in family if isinstance(volume.weighted, Mixture)]
        self.log_weights = torch.stack([m.log_weights for m in mixtures]) if mixtures else None

    def log_density_and_gradient(self, z: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        log_weights = None if self.log_weights is None else self.log_weights[which]
        value, gradient = self.base.log_density_and_gradient(z, log_weights)
        log_det, change = self._log_det_and_gradient(z, which)
        alpha = self.alpha[which]
        return value + alpha * log_det, gradient + alpha.unsqueeze(-1) * change

    def _log_det_and_gradient(self, z: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        # Some metrics have theirs in closed form, but not for every number of components.
        check_gradients("a trajectory")
        if hasattr(self.element, "log_det_and_gradient"):
            return self.element.log_det_and_gradient(z, self.epsilon)
        differentiated = Differentiated(lambda z: self.element.log_det(z, self.epsilon))
        return differentiated.log_density_and_gradient(z, which)

    def log_densities(self, z: Tensor) -> Tensor:
        if self.log_weights is None:
            value = self.base.log_density(z)
        else:
            assert isinstance(self.base, Mixture)
            terms = self.base.log_components(z) + self.log_weights.unsqueeze(1)
            value = terms.logsumexp(-1).to(z.real.dtype)
        return value + self.alpha.unsqueeze(1) * self.element.log_det(z, self.epsilon)
