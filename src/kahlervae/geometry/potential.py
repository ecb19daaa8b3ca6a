"""Log-sum-exp potentials: plurisubharmonic by construction, with their metric in closed form."""

from typing import NamedTuple, Self

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae.geometry.curvature import log_det

__all__ = ["Certificate", "MixturePotential", "TotalCovariance"]


class TotalCovariance(NamedTuple):
    """The two parts of the metric of a :class:`MixturePotential`; their sum is the metric."""

    within: Complex[Tensor, "n d d"]
    between: Complex[Tensor, "n d d"]


class Certificate(NamedTuple):
    """Why a potential is plurisubharmonic.

    Attributes:
        lower_bound: a bound, valid at every z, of the smallest eigenvalue of the metric, from the
            parameters alone.
        smallest_strength: the smallest s_m, which must be positive.
    """

    lower_bound: float
    smallest_strength: float

    @property
    def valid(self) -> bool:
        """Whether the certificate proves plurisubharmonicity."""
        return self.lower_bound >= 0 and self.smallest_strength > 0


class MixturePotential(nn.Module):
    r"""Sum of log-sum-exps of complex quadratic components.

    .. math::
        K(z) &= z^\dagger A_0 z + \sum_m s_m \log \sum_k \exp \varphi_{mk}(z) \\
        \varphi_{mk}(z) &= c_{mk} + 2\,\mathrm{Re}(b_{mk}^\dagger z) + z^\dagger A_{mk} z

    with s > 0 and A = LL† ⪰ 0, hence plurisubharmonic. With w = softmax φ over the components and
    u_k = b_k + A_k z the metric is, by the law of total covariance,

    .. math::
        g = \partial\bar\partial K = \underbrace{A_0^T + \sum_m s_m E_w[A_{mk}^T]}_{\text{within}}
          + \underbrace{\sum_m s_m \mathrm{Cov}_w[u_{mk}]}_{\text{between}}, \qquad
        \mathrm{Cov}_w[u]_{ij} = \sum_k w_k \overline{(u_k - \bar u)_i} (u_k - \bar u)_j

    and needs no automatic differentiation (docs/theory.md, section 5).

    Args:
        background: L₀ with A₀ = L₀L₀†, (d, d).
        log_strength: log s, (groups,).
        offset: c, (groups, components).
        slope: b, (groups, components, d).
        factor: L with A_mk = L_mk L_mk†, (groups, components, d, d), or None for affine components.
    """

    def __init__(
        self,
        background: Complex[Tensor, "d d"],
        log_strength: Float[Tensor, " groups"],
        offset: Float[Tensor, "groups components"],
        slope: Complex[Tensor, "groups components d"],
        factor: Complex[Tensor, "groups components d d"] | None = None,
    ) -> None:
        super().__init__()
        self.background = nn.Parameter(background)
        self.log_strength = nn.Parameter(log_strength)
        self.offset = nn.Parameter(offset)
        self.slope = nn.Parameter(slope)
        self.factor = None if factor is None else nn.Parameter(factor)

    @classmethod
    def random(
        cls,
        latent_dim: int,
        groups: int,
        components: int,
        scale: float,
        generator: torch.Generator,
    ) -> Self:
        """Random affine components with a metric of the order of ``scale``: the start of a fit.

        Unscaled starts fail badly: s carries the scale, all else is of order 1.
        """
        shape = (groups, components, latent_dim)
        return cls(
            background=(0.25 * scale) ** 0.5 * torch.eye(latent_dim, dtype=torch.complex64),
            log_strength=torch.full((groups,), scale / groups).log(),
            offset=0.1 * torch.randn(shape[:2], generator=generator),
            slope=0.7 * torch.randn(shape, generator=generator, dtype=torch.complex64),
        )

    @classmethod
    def from_posterior(
        cls,
        mean: Complex[Tensor, "components d"],
        variance: Float[Tensor, "components d"],
        strength: float = 1.0,
    ) -> Self:
        r"""The aggregated posterior's log-density, made plurisubharmonic; nothing is fitted.

        .. math:: K(z) = s\,\Bigl[\log \sum_k CN(z; m_k, \mathrm{diag}\,\gamma_k)
                  + z^\dagger \Lambda z\Bigr], \qquad \Lambda = \mathrm{diag} \max_k \gamma_k^{-1}

        The log-density alone has curvature :math:`-\Gamma^{-1}` within a component; Λ, at least
        every precision, restores :math:`A_k = \Lambda - \Gamma_k^{-1} \succeq 0`.
        """
        precision = 1 / variance
        squares = mean.real.square() + mean.imag.square()
        excess = (precision.amax(dim=0) - precision).sqrt()
        return cls(
            background=torch.zeros(mean.shape[1], mean.shape[1], dtype=mean.dtype),
            log_strength=torch.tensor([strength], dtype=variance.dtype).log(),
            offset=(precision.log() - squares * precision).sum(-1).unsqueeze(0),
            slope=(precision * mean).unsqueeze(0),
            factor=torch.diag_embed(excess).to(mean.dtype).unsqueeze(0),
        )

    @classmethod
    def constant(cls, metric: Complex[Tensor, "d d"]) -> Self:
        r"""The potential :math:`z^\dagger G^T z` of a constant positive definite metric G."""
        return cls(
            background=torch.linalg.cholesky(metric.mT),
            log_strength=torch.zeros(1, dtype=metric.real.dtype),
            offset=torch.zeros(1, 1, dtype=metric.real.dtype),
            slope=torch.zeros(1, 1, metric.shape[0], dtype=metric.dtype),
        ).requires_grad_(False)

    def potential(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """K(z)."""
        components, _ = self._components(z)
        quadratic = _squares(z @ self.background.conj())
        return quadratic + components.logsumexp(-1) @ self.log_strength.exp()

    def total_covariance(self, z: Complex[Tensor, "n d"]) -> TotalCovariance:
        """The metric's parts within and between components."""
        components, slopes = self._components(z)
        strength = self.log_strength.exp()
        log_weights = components.log_softmax(-1)
        weights = log_weights.exp()
        within = (self.background @ self.background.mH).mT.expand(z.shape[0], -1, -1)
        if self.factor is None:
            return TotalCovariance(within, self._affine_covariance(weights, strength))
        share = (weights * strength[:, None]).to(z.dtype)
        curvatures = (self.factor @ self.factor.mH).mT
        within = within + torch.einsum("nmk,mkij->nij", share, curvatures)
        mean = torch.einsum("nmk,nmkd->nmd", weights.to(z.dtype), slopes)
        # The root in logarithms: that of a weight which underflows has no finite derivative.
        root = torch.exp(0.5 * (log_weights + self.log_strength[:, None])).unsqueeze(-1)
        deviations = (root * (slopes - mean.unsqueeze(2))).flatten(1, 2)
        return TotalCovariance(within, deviations.mH @ deviations)

    def metric(self, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
        r""":math:`g_{i\bar j} = \partial_i \bar\partial_j K` in closed form."""
        parts = self.total_covariance(z)
        return parts.within + parts.between

    def log_det(self, z: Complex[Tensor, "n d"], epsilon: float = 0.0) -> Float[Tensor, " n"]:
        r""":math:`\log\det(g(z) + \epsilon I)`, differentiable in z."""
        return log_det(self.metric(z), epsilon)

    @torch.no_grad()
    def certificate(self) -> Certificate:
        r"""Plurisubharmonicity from the parameters.

        .. math:: g \succeq \lambda_{\min}(A_0) I + \sum_m s_m \min_k \lambda_{\min}(A_{mk}) I

        at every z, since covariances are positive semidefinite. Both terms are squared singular
        values of the factors, so they cannot come out negative by rounding.
        """
        strength = self.log_strength.exp()
        bound = torch.linalg.svdvals(self.background)[-1] ** 2
        if self.factor is not None:
            smallest = torch.linalg.svdvals(self.factor)[..., -1] ** 2
            bound = bound + (strength * smallest.amin(-1)).sum()
        return Certificate(float(bound), float(strength.min()))

    def _affine_covariance(self, weights: Tensor, strength: Tensor) -> Tensor:
        """Σ_m s_m Cov_w[b_m] as second moment less mean: two products instead of an n·K·d tensor.

        Centring the slopes of a group leaves its covariance and spares the difference its digits.
        """
        slopes = self.slope - self.slope.mean(dim=1, keepdim=True)
        outer = (slopes.conj().unsqueeze(-1) * slopes.unsqueeze(-2)).flatten(2).flatten(0, 1)
        share = (weights * strength[:, None]).flatten(1)
        second = torch.view_as_complex(
            (share @ torch.view_as_real(outer).flatten(1)).unflatten(1, (outer.shape[1], 2))
        )
        mean = torch.einsum("nmk,mkd->nmd", weights.to(slopes.dtype), slopes)
        mean = strength.sqrt()[:, None] * mean
        return second.unflatten(1, (slopes.shape[-1],) * 2) - mean.mH @ mean

    def _components(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """φ of shape (n, groups, components) and u of shape (n, groups, components, d)."""
        linear = 2 * torch.einsum("mkd,nd->nmk", self.slope.conj(), z).real
        components = self.offset + linear
        if self.factor is None:
            return components, self.slope.expand(z.shape[0], -1, -1, -1)
        projected = torch.einsum("mkdr,nd->nmkr", self.factor.conj(), z)  # L†z
        slopes = self.slope + torch.einsum("mkdr,nmkr->nmkd", self.factor, projected)
        return components + _squares(projected), slopes


def _squares(z: Tensor) -> Tensor:
    return (z.real.square() + z.imag.square()).sum(-1)
