"""Log-sum-exp potentials: plurisubharmonic by construction, with their metric in closed form."""

import copy
import math
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.func import debug_unwrap

from kahlervae.errors import InputError
from kahlervae.geometry.curvature import log_det
from kahlervae.geometry.metric import is_hermitian
from kahlervae.geometry.potential import (
    FEW,
    Certificate,
    Potential,
    TotalCovariance,
    inverse_and_log_det,
    sizes,
    square_modulus,
)
from kahlervae.options import check_count, check_number, check_sizes
from kahlervae.seeding import check_stream

__all__ = ["MixturePotential"]


class MixturePotential(Potential):
    r"""Sum of log-sum-exps of complex quadratic components.

    .. math::
        K(z) &= z^\dagger A_0 z + \sum_m s_m \log \sum_k \exp \varphi_{mk}(z) \\
        \varphi_{mk}(z) &= c_{mk} + 2\,\mathrm{Re}(b_{mk}^\dagger z)
            + 2\,\mathrm{Re}(z^T C_{mk} z) + z^\dagger A_{mk} z

    with s > 0 and A = LL† ⪰ 0, hence plurisubharmonic; without the relation matrices C = RRᵀ,
    convex as well. With w = softmax φ over the components and
    :math:`u_k = b_k + A_k z + 2 \overline{C_k z}` the metric is, by the law of total covariance,

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
        factor: L with A_mk = L_mk L_mk†, (groups, components, d, rank); its diagonal, (groups,
            components, d), where all L are diagonal; None where A_mk = 0.
        relation: R with C_mk = R_mk R_mkᵀ, (groups, components, d, rank); None where C_mk = 0.

    Example:
        >>> from kahlervae.geometry import mixed_hessian
        >>> stream = torch.Generator().manual_seed(0)
        >>> potential = MixturePotential.random(2, 3, 4, scale=1.0, generator=stream)
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
        >>> torch.allclose(potential.metric(z), mixed_hessian(potential.potential, z), atol=1e-5)
        True
        >>> potential.certificate().valid
        True
    """

    real_parameters: ClassVar[frozenset[str]] = frozenset({"log_strength", "offset"})

    def __init__(
        self,
        background: Complex[Tensor, "d d"],
        log_strength: Float[Tensor, " groups"],
        offset: Float[Tensor, "groups components"],
        slope: Complex[Tensor, "groups components d"],
        factor: Complex[Tensor, "groups components d *rank"] | None = None,
        relation: Complex[Tensor, "groups components d rank"] | None = None,
    ) -> None:
        super().__init__()
        self.background = nn.Parameter(background)
        self.log_strength = nn.Parameter(log_strength)
        self.offset = nn.Parameter(offset)
        self.slope = nn.Parameter(slope)
        self.factor = None if factor is None else nn.Parameter(factor)
        self.relation = None if relation is None else nn.Parameter(relation)

    @classmethod
    def random(
        cls,
        latent_dim: int,
        groups: int,
        components: int,
        scale: float,
        generator: torch.Generator,
        dtype: torch.dtype = torch.complex64,
        rank: int = 0,
    ) -> Self:
        """Random components with a metric of the order of ``scale``: the start of a fit.

        Unscaled starts fail badly: s carries the scale, all else is of order 1. In either precision
        they are the same, for the same generator. Components are affine but for relation matrices
        of rank ``rank``, which start small.

        Raises:
            InputError: a size is no whole number from 1 on, or the rank none from 0 on, the scale
                is not positive and finite, or there is no generator.
        """
        check_sizes(
            "a mixture potential", latent_dim=latent_dim, groups=groups, components=components
        )
        check_count("rank of a mixture potential", rank, least=0)
        check_number("the scale of a mixture potential", scale, positive=True)
        check_stream(generator)
        shape, single = (groups, components, latent_dim), torch.float32
        real = dtype.to_real()
        with generator.device:
            return cls(
                background=(0.25 * scale) ** 0.5 * torch.eye(latent_dim, dtype=dtype),
                log_strength=torch.full((groups,), scale / groups, dtype=real).log(),
                offset=0.1 * torch.randn(shape[:2], generator=generator, dtype=single).to(real),
                slope=0.7
                * torch.randn(shape, generator=generator, dtype=torch.complex64).to(dtype),
                relation=0.1
                * torch.randn((*shape, rank), generator=generator, dtype=torch.complex64).to(dtype)
                if rank
                else None,
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

        Raises:
            InputError: a mean is not finite, or a variance or the strength not positive and finite.

        Example:
            Of a single Gaussian no metric is left; of two, at the mean of the wider one, the
            difference of their precisions:

            >>> mean, variance = torch.tensor([[9 + 0j], [-9 + 0j]]), torch.tensor([[0.5], [1.0]])
            >>> one = MixturePotential.from_posterior(mean[:1], variance[:1])
            >>> two = MixturePotential.from_posterior(mean, variance)
            >>> [p.metric(mean).real.flatten().tolist() for p in (one, two)]
            [[0.0, 0.0], [0.0, 1.0]]
        """
        check_number("the strength of a posterior potential", strength, positive=True)
        if not (mean.isfinite().all() and variance.isfinite().all() and (variance > 0).all()):
            raise InputError(
                "the anchors of a posterior potential have to be finite and their variances "
                "positive, which some of these are not: leave such anchors out."
            )
        precision = 1 / variance
        squares = mean.real.square() + mean.imag.square()
        excess = (precision.amax(dim=0) - precision).sqrt()
        with mean.device:
            return cls(
                background=torch.zeros(mean.shape[1], mean.shape[1], dtype=mean.dtype),
                log_strength=torch.tensor([strength], dtype=variance.dtype).log(),
                offset=(precision.log() - squares * precision).sum(-1).unsqueeze(0),
                slope=(precision * mean).unsqueeze(0),
                factor=excess.to(mean.dtype).unsqueeze(0),
            )

    @classmethod
    def from_metrics(
        cls,
        anchors: Complex[Tensor, "components d"],
        metrics: Complex[Tensor, "components d d"],
        rate: float,
    ) -> Self:
        r"""A potential whose curvature near every anchor is the metric there; nothing is fitted.

        .. math:: K(z) = s \log \sum_k \exp\bigl[\lambda |z|^2
                  - (z - a_k)^\dagger (\lambda - G_k^T / s) (z - a_k)\bigr], \qquad
                  s = \max_k \lambda_{\max}(G_k) / \lambda

        The part within is the mean of the anchors' metrics by weights that fall with the distance
        at the rate λ. The part between adds to it, so that the whole needs a factor below 1.

        Args:
            anchors: a_k.
            metrics: G_k, Hermitian and positive definite.
            rate: λ.

        Raises:
            InputError: a metric is not Hermitian, or the rate not positive.
            torch.linalg.LinAlgError: one is not positive definite.

        Example:
            Of one anchor, the constant metric of it:

            >>> metric = torch.tensor([[[2, 1j], [-1j, 2]]])
            >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
            >>> potential = MixturePotential.from_metrics(0 * z, metric, rate=0.5)
            >>> torch.allclose(potential.metric(z), metric, atol=1e-5)
            True
        """
        check_number("the rate of a potential of metrics", rate, positive=True)
        if wrong := int((~is_hermitian(metrics)).sum()):
            raise InputError(
                f"{wrong} of {len(metrics)} metrics of anchors are not Hermitian: give matrices "
                "with g = g.mH."
            )
        strength = torch.linalg.eigvalsh(metrics)[:, -1].max() / rate
        excess = rate * torch.eye(anchors.shape[1], dtype=anchors.dtype, device=anchors.device)
        slope = ((excess - metrics.mT / strength) @ anchors.unsqueeze(-1)).squeeze(-1)
        return cls(
            background=torch.zeros_like(excess),
            log_strength=strength.log().unsqueeze(0),
            offset=-(anchors.conj() * slope).real.sum(-1).unsqueeze(0),
            slope=slope.unsqueeze(0),
            factor=(torch.linalg.cholesky(metrics.mT) / strength.sqrt()).unsqueeze(0),
        )

    @classmethod
    def constant(cls, metric: Complex[Tensor, "d d"]) -> Self:
        r"""The potential :math:`z^\dagger G^T z` of a constant positive definite metric G.

        Raises:
            InputError: the metric is not Hermitian and positive definite.

        Example:
            >>> metric = torch.tensor([[2, 1j], [-1j, 2]])
            >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
            >>> torch.allclose(MixturePotential.constant(metric).metric(z)[0], metric)
            True
        """
        root, failed = torch.linalg.cholesky_ex(metric.mT)
        if failed or not root.isfinite().all():
            raise InputError(
                "the constant metric is not positive definite: add ε times the identity."
            )
        if not is_hermitian(metric):
            raise InputError("the constant metric is not Hermitian: give a matrix with g = g.mH.")
        with metric.device:
            return cls(
                background=root,
                log_strength=torch.zeros(1, dtype=metric.real.dtype),
                offset=torch.zeros(1, 1, dtype=metric.real.dtype),
                slope=torch.zeros(1, 1, metric.shape[0], dtype=metric.dtype),
            ).requires_grad_(False)

    @torch.no_grad()
    def about(self, point: Complex[Tensor, " d"]) -> Self:
        r"""The same geometry in coordinates from a point, without steep terms that cancel there.

        .. math:: w \mapsto K(p + w) - \sum_m s_m\, [c_m + 2\,\mathrm{Re}(\bar u_m^\dagger w)]

        up to what is pluriharmonic, with the mean :math:`\bar u_m` of every group's slopes at p.
        The metric at w is that of K at p + w. Derivatives of K itself lose as many digits as
        :math:`|\bar u|^2` is larger than the metric; those of this one, at 0, lose none.

        Example:
            >>> stream = torch.Generator().manual_seed(0)
            >>> potential = MixturePotential.random(2, 3, 4, scale=1.0, generator=stream)
            >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
            >>> torch.allclose(potential.about(z[0]).metric(0 * z), potential.metric(z), atol=1e-6)
            True
        """
        components, slopes = self._components(point.unsqueeze(0))
        moved = copy.deepcopy(self)
        moved.offset.copy_((components - components.amax(-1, keepdim=True))[0])
        moved.slope.copy_(_deviations(components.softmax(-1), slopes)[0])
        return moved

    @classmethod
    def _shapes(cls, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        groups, components, d = sizes(tensors, "slope", 3)
        shapes: dict[str, tuple[int, ...]] = {
            "background": (d, d),
            "log_strength": (groups,),
            "offset": (groups, components),
            "slope": (groups, components, d),
        }
        for name in ("factor", "relation"):
            if (tensor := tensors.get(name)) is not None:  # of any rank, or a diagonal
                rank = tensor.shape[3:4] if name == "factor" else sizes(tensors, name, 4)[3:]
                shapes[name] = (groups, components, d, *rank)
        return shapes

    def _scale(self, factor: float) -> None:
        self.background.mul_(factor**0.5)
        self.log_strength.add_(math.log(factor))

    def _certificate(self) -> Certificate:
        r"""Plurisubharmonicity from the parameters.

        .. math:: g \succeq \lambda_{\min}(A_0) I + \sum_m s_m \min_k \lambda_{\min}(A_{mk}) I

        at every z, since covariances are positive semidefinite. Both terms are squared singular
        values of the factors, so they cannot come out negative by rounding.
        """
        strength = self.log_strength.exp()
        bound = torch.linalg.svdvals(self.background)[-1] ** 2
        if self.factor is not None:
            bound = bound + (strength * _smallest_curvature(self.factor).amin(-1)).sum()
        return Certificate(float(bound), float(strength.min()))

    @property
    def _is_affine(self) -> bool:
        return self.factor is None and self.relation is None

    @property
    def _has_few_components(self) -> bool:
        """Whether there are fewer affine components than dimensions."""
        return self._is_affine and self.offset.numel() < self.latent_dim

    @property
    def _size(self) -> int:
        return self.offset.numel() if self._is_affine else 2 * self.slope.numel()

    def _potential(self, z: Tensor) -> Tensor:
        components, _ = self._components(z)
        quadratic = square_modulus(z @ self.background.conj()).sum(-1)
        return quadratic + components.logsumexp(-1) @ self.log_strength.exp()

    def _parts(self, z: Tensor) -> TotalCovariance:
        """The parts by deviations from the mean: N vectors at every point."""
        components, slopes = self._components(z)
        log_weights = components.log_softmax(-1)
        # The root in logarithms: that of a weight which underflows has no finite derivative.
        root = torch.exp(0.5 * (log_weights + self.log_strength[:, None])).unsqueeze(-1)
        deviations = (root * _deviations(log_weights.exp(), slopes)).flatten(1, 2)
        return TotalCovariance(self._within(log_weights.exp()), deviations.mH @ deviations)

    def _within(self, weights: Tensor) -> Tensor:
        within = self._background().expand(len(weights), -1, -1)
        if self.factor is not None:
            share = (weights * self.log_strength.exp()[:, None]).flatten(1)
            within = within + _mean_curvature(share, self.factor)
        return within

    def _metric(self, z: Tensor) -> Tensor:
        if not self._is_affine or len(z) < FEW:
            return self._dense(z)
        weights = self._components(z)[0].softmax(-1)
        metric, lost = self._affine_metric(weights, *self._affine_table())
        if _is_wrapped(lost):
            return torch.where(lost[:, None, None], self._dense(z), metric)
        rows = lost.nonzero().flatten()
        return metric.index_copy(0, rows, self._dense(z[rows])) if len(rows) else metric

    def _dense(self, z: Tensor) -> Tensor:
        within, between = self._parts(z)
        return within + between

    def _log_det(self, z: Tensor, epsilon: float) -> Tensor:
        if self._has_few_components:
            return self._low_rank_log_det(z, epsilon)
        return log_det(self._metric(z), epsilon)

    def _centred_slopes(self) -> Tensor:
        """√s times the slopes less the mean of their group, (groups, components, d).

        That leaves the covariance of a group and spares the difference its digits.
        """
        slopes = self.slope - self.slope.mean(dim=1, keepdim=True)
        return torch.exp(0.5 * self.log_strength)[:, None, None] * slopes

    def _affine_table(self) -> tuple[Tensor, Tensor]:
        """The centred slopes, and their packed outer products."""
        slopes = self._centred_slopes()
        # conj(u) u^T packed is [Re u, Im u] times [Re (1 − i)u, Im (1 − i)u].
        outer = torch.view_as_real(slopes) @ torch.view_as_real((1 - 1j) * slopes).mT
        return slopes, outer.flatten(2).flatten(0, 1)

    def _affine_metric(
        self, weights: Tensor, slopes: Tensor, outer: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Background and Σ_m s_m Cov_w[b_m] as second moment less mean: three products.

        And whether the difference has lost half of its digits, in rows where one component
        outweighs the others.
        """
        d = slopes.shape[-1]
        background = _pack(self._background()).flatten()
        second = torch.addmm(background, weights.flatten(1), outer).unflatten(1, (d, d))
        mean = _group_means(weights, slopes)
        metric = torch.baddbmm(_unpack(second), mean.mH, mean, alpha=-1)
        left, all_of_it = (
            x.detach().diagonal(dim1=-2, dim2=-1).real.sum(-1) for x in (metric, second)
        )
        lost = left < torch.finfo(left.dtype).eps ** 0.5 * all_of_it
        return metric, lost

    def _low_rank_log_det(self, z: Tensor, epsilon: float) -> Tensor:
        r"""Fewer components N than dimensions: by N×N instead of d×d determinants.

        .. math:: \det(B + \Delta^\dagger \Delta)
                  = \det B\, \det(I + \Delta B^{-1} \Delta^\dagger), \qquad
                  \Delta = \sqrt{W} (I - 1 w^T) b, \quad B = A_0^T + \epsilon I

        The products of all b, in the inverse of B, are the same at every point.
        """
        eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        root, failed = torch.linalg.cholesky_ex(self._background() + epsilon * eye)
        slopes = self._centred_slopes()
        white = torch.linalg.solve_triangular(root, slopes.flatten(0, 1).mH, upper=False)
        log_weights = self._components(z)[0].log_softmax(-1)
        # √W (I − 1wᵀ) = (I − √w √wᵀ) √W, one projection for every group.
        direction = torch.exp(0.5 * log_weights)
        groups = torch.eye(len(slopes), dtype=direction.dtype, device=z.device)
        block = (direction.unsqueeze(-1) * groups[:, None]).flatten(1, 2)  # (n, N, groups)
        outer = block @ block.mT
        projection = torch.eye(outer.shape[-1], dtype=outer.dtype, device=z.device) - outer
        half = (projection * direction.flatten(1).unsqueeze(1)).to(z.dtype)
        gram = half @ (white.mH @ white) @ half.mH
        constant = 2 * root.diagonal().real.log().sum()
        return (constant + log_det(gram, 1.0)).masked_fill(failed > 0, torch.nan)

    def _log_det_and_gradient(self, z: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        r"""The gradient in closed form.

        The change of a covariance along z is a third central moment, hence for affine components

        .. math:: \nabla \log\det(g + \epsilon I)
                  = 2 \sum_m s_m \sum_k w_{mk} (q_{mk} - E_w q_m)\, b_{mk}, \qquad
                  q_{mk} = \delta_{mk}^T (g + \epsilon I)^{-1} \bar\delta_{mk}

        with :math:`\delta = b - E_w b` (docs/theory.md, section 12, with the further terms of A and
        C). Fewer affine components than dimensions are differentiated automatically.
        """
        if self._has_few_components:
            return self._differentiated_log_det(z, epsilon)
        with torch.no_grad():
            return (self._affine_gradient if self._is_affine else self._gradient)(z, epsilon)

    def _affine_gradient(self, z: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        weights = self._components(z)[0].softmax(-1)
        slopes, outer = self._affine_table()
        metric, lost = self._affine_metric(weights, slopes, outer)
        inverse, values = inverse_and_log_det(metric, epsilon)
        # q but for what is the same in a group: b†-terms from the table, less twice the mean's.
        squares = (_pack(inverse).flatten(1) @ outer.mT).unflatten(1, weights.shape[1:])
        mean = _group_means(weights, slopes) @ inverse
        cross = torch.bmm(_reals(mean).transpose(0, 1), _reals(slopes).mT).transpose(0, 1)
        q = squares - 2 * cross
        change = weights * (q - (weights * q).sum(-1, keepdim=True))
        reals = 2 * change.flatten(1) @ _reals(self.slope).flatten(0, 1)
        gradient = torch.view_as_complex(reals.unflatten(1, (-1, 2)))
        if _is_wrapped(lost):
            dense, slope = self._gradient(z, epsilon)
            return torch.where(lost, dense, values), torch.where(lost[:, None], slope, gradient)
        if lost.any():
            values[lost], gradient[lost] = self._gradient(z[lost], epsilon)
        return values, gradient

    def _gradient(self, z: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        components, slopes = self._components(z)
        weights = components.softmax(-1)
        delta = _deviations(weights, slopes)
        share = weights * self.log_strength.exp()[:, None]
        weighted = (share.sqrt().unsqueeze(-1) * delta).flatten(1, 2)
        metric = self._within(weights) + weighted.mH @ weighted
        inverse, values = inverse_and_log_det(metric, epsilon)
        raised = (delta.flatten(1, 2) @ inverse).unflatten(1, weights.shape[1:])  # δᵀg⁻¹
        change = (raised * delta.conj()).sum(-1).real
        moved = torch.zeros_like(delta)
        if self.factor is not None:
            change = change + _traces(inverse, self.factor)
            moved = moved + _curved(self.factor, raised)
        if self.relation is not None:
            inner = torch.einsum("mkdr,nmkd->nmkr", self.relation, raised)
            moved = moved + 2 * torch.einsum("mkdr,nmkr->nmkd", self.relation, inner).conj()
        total = change.unsqueeze(-1) * delta + moved
        return values, 2 * torch.einsum("nmk,nmkd->nd", share.to(z.dtype), total)

    def _differentiated_log_det(self, z: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            values = self._log_det(z, epsilon)
            (gradient,) = torch.autograd.grad(values.sum(), z)
        return values.detach(), gradient

    def _components(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """φ of shape (n, groups, components) and u of shape (n, groups, components, d)."""
        linear = torch.addmm(
            self.offset.flatten(), _reals(z), _reals(self.slope).flatten(0, 1).mT, alpha=2
        )
        components = linear.unflatten(1, self.offset.shape)
        slopes = self.slope.expand(len(z), -1, -1, -1)
        if self.relation is not None:
            projected = torch.einsum("mkdr,nd->nmkr", self.relation, z)  # Rᵀz
            squares = projected.real.square() - projected.imag.square()
            components = components + 2 * squares.sum(-1)
            change = torch.einsum("mkdr,nmkr->nmkd", self.relation, projected)
            slopes = slopes + 2 * change.conj()
        if self.factor is None:
            return components, slopes
        if self.factor.ndim == 3:
            curvatures = square_modulus(self.factor)
            squares = square_modulus(z) @ curvatures.flatten(0, 1).mT
            slopes = slopes + curvatures * z[:, None, None]
            return components + squares.unflatten(1, self.offset.shape), slopes
        projected = torch.einsum("mkdr,nd->nmkr", self.factor.conj(), z)  # L†z
        slopes = slopes + torch.einsum("mkdr,nmkr->nmkd", self.factor, projected)
        return components + square_modulus(projected).sum(-1), slopes


def _deviations(weights: Tensor, slopes: Tensor) -> Tensor:
    """Slopes less their mean in every group, (n, groups, components, d)."""
    mean = torch.einsum("nmk,nmkd->nmd", weights.to(slopes.dtype), slopes)
    return slopes - mean.unsqueeze(2)


def _mean_curvature(share: Tensor, factor: Tensor) -> Tensor:
    """Σ_mk share_mk A_mkᵀ with A = LL†, from dense or diagonal L: real weights, real products."""
    if factor.ndim == 3:
        diagonal = share @ square_modulus(factor).flatten(0, 1)
        return torch.diag_embed(diagonal).to(factor.dtype)
    curvatures = (factor @ factor.mH).mT.flatten(0, 1)
    mean = share @ torch.view_as_real(curvatures).flatten(1)
    return torch.view_as_complex(mean.unflatten(1, (*curvatures.shape[1:], 2)))


def _traces(inverse: Tensor, factor: Tensor) -> Tensor:
    """tr(g⁻¹ A_mkᵀ), (n, groups, components), from dense or diagonal L."""
    if factor.ndim == 3:
        return torch.einsum("ndd,mkd->nmk", inverse.real, square_modulus(factor))
    curvatures = factor @ factor.mH
    # Of two Hermitian matrices P and Aᵀ: Σ P_ij A_ij.
    return torch.einsum("nij,mkij->nmk", inverse, curvatures).real


def _curved(factor: Tensor, vectors: Tensor) -> Tensor:
    """A_mk v_mk, (n, groups, components, d), from dense or diagonal L."""
    if factor.ndim == 3:
        return square_modulus(factor) * vectors
    inner = torch.einsum("mkdr,nmkd->nmkr", factor.conj(), vectors)
    return torch.einsum("mkdr,nmkr->nmkd", factor, inner)


def _smallest_curvature(factor: Tensor) -> Tensor:
    """Smallest eigenvalue of every LL†, (groups, components), from dense or diagonal L."""
    if factor.ndim == 3:
        return square_modulus(factor).amin(-1)
    values = torch.linalg.svdvals(factor)
    d, rank = factor.shape[-2:]
    return values[..., -1] ** 2 if rank >= d else torch.zeros_like(values[..., 0])


def _reals(z: Tensor) -> Tensor:
    """Real and imaginary parts in turn along the last axis: real products of complex vectors."""
    return torch.view_as_real(z.resolve_conj()).flatten(-2)


def _is_wrapped(tensor: Tensor) -> bool:
    """Whether a transformation of functions looks on: vmap wants shapes that no number decides."""
    return debug_unwrap(tensor) is not tensor


def _pack(hermitian: Tensor) -> Tensor:
    """A Hermitian matrix as one real matrix, Re + Im: half the numbers, and the inner product."""
    return hermitian.real + hermitian.imag


def _unpack(packed: Tensor) -> Tensor:
    """The Hermitian matrix that :func:`_pack` packed."""
    return 0.5 * torch.complex(packed + packed.mT, packed - packed.mT)


def _group_means(weights: Tensor, slopes: Tensor) -> Tensor:
    """E_w of the vectors of every group, (n, groups, d), by real products."""
    mean = torch.bmm(weights.transpose(0, 1), _reals(slopes)).transpose(0, 1)
    return torch.view_as_complex(mean.unflatten(-1, (-1, 2)))
