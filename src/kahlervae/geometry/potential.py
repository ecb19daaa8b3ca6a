"""Log-sum-exp potentials: plurisubharmonic by construction, with their metric in closed form."""

import copy
import math
from typing import NamedTuple, Self

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae.errors import InputError
from kahlervae.geometry.curvature import log_det
from kahlervae.geometry.latents import check_latents

__all__ = ["Certificate", "MixturePotential", "TotalCovariance"]


class TotalCovariance(NamedTuple):
    """The two parts of the metric of a :class:`MixturePotential`; their sum is the metric.

    Attributes:
        within: the mean of the components' curvatures, and the background.
        between: the covariance of their slopes.
    """

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

    and needs no automatic differentiation (docs/theory.md, section 5). Points are taken in chunks,
    so that memory beyond the result stays bounded however many there are.

    Args:
        background: L₀ with A₀ = L₀L₀†, (d, d).
        log_strength: log s, (groups,).
        offset: c, (groups, components).
        slope: b, (groups, components, d).
        factor: L with A_mk = L_mk L_mk†, (groups, components, d, rank); its diagonal, (groups,
            components, d), where all L are diagonal; None for affine components (A_mk = 0).

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

    def __init__(
        self,
        background: Complex[Tensor, "d d"],
        log_strength: Float[Tensor, " groups"],
        offset: Float[Tensor, "groups components"],
        slope: Complex[Tensor, "groups components d"],
        factor: Complex[Tensor, "groups components d *rank"] | None = None,
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
        dtype: torch.dtype = torch.complex64,
    ) -> Self:
        """Random affine components with a metric of the order of ``scale``: the start of a fit.

        Unscaled starts fail badly: s carries the scale, all else is of order 1. In either precision
        they are the same, for the same generator.
        """
        shape, single = (groups, components, latent_dim), torch.float32
        real = dtype.to_real()
        return cls(
            background=(0.25 * scale) ** 0.5 * torch.eye(latent_dim, dtype=dtype),
            log_strength=torch.full((groups,), scale / groups, dtype=real).log(),
            offset=0.1 * torch.randn(shape[:2], generator=generator, dtype=single).to(real),
            slope=0.7 * torch.randn(shape, generator=generator, dtype=torch.complex64).to(dtype),
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

        Example:
            Of a single Gaussian no metric is left; of two, at the mean of the wider one, the
            difference of their precisions:

            >>> mean, variance = torch.tensor([[9 + 0j], [-9 + 0j]]), torch.tensor([[0.5], [1.0]])
            >>> one = MixturePotential.from_posterior(mean[:1], variance[:1])
            >>> two = MixturePotential.from_posterior(mean, variance)
            >>> [p.metric(mean).real.flatten().tolist() for p in (one, two)]
            [[0.0, 0.0], [0.0, 1.0]]
        """
        precision = 1 / variance
        squares = mean.real.square() + mean.imag.square()
        excess = (precision.amax(dim=0) - precision).sqrt()
        return cls(
            background=torch.zeros(mean.shape[1], mean.shape[1], dtype=mean.dtype),
            log_strength=torch.tensor([strength], dtype=variance.dtype).log(),
            offset=(precision.log() - squares * precision).sum(-1).unsqueeze(0),
            slope=(precision * mean).unsqueeze(0),
            factor=excess.to(mean.dtype).unsqueeze(0),
        )

    @classmethod
    def constant(cls, metric: Complex[Tensor, "d d"]) -> Self:
        r"""The potential :math:`z^\dagger G^T z` of a constant positive definite metric G.

        Raises:
            torch.linalg.LinAlgError: the metric is not positive definite.

        Example:
            >>> metric = torch.tensor([[2, 1j], [-1j, 2]])
            >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
            >>> torch.allclose(MixturePotential.constant(metric).metric(z)[0], metric)
            True
        """
        return cls(
            background=torch.linalg.cholesky(metric.mT),
            log_strength=torch.zeros(1, dtype=metric.real.dtype),
            offset=torch.zeros(1, 1, dtype=metric.real.dtype),
            slope=torch.zeros(1, 1, metric.shape[0], dtype=metric.dtype),
        ).requires_grad_(False)

    def potential(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """K(z)."""
        return torch.cat([self._potential(part) for part in self._chunks(z)])

    def total_covariance(self, z: Complex[Tensor, "n d"]) -> TotalCovariance:
        """The metric's parts within and between components.

        Example:
            Two affine components have no curvature of their own; b = ±1 has variance 1:

            >>> one = torch.ones(1, 1, dtype=torch.complex64)
            >>> slope = torch.tensor([[[1 + 0j], [-1 + 0j]]])
            >>> potential = MixturePotential(0 * one, torch.zeros(1), torch.zeros(1, 2), slope)
            >>> within, between = potential.total_covariance(0 * one)
            >>> round(within.abs().item(), 4), round(between.abs().item(), 4)
            (0.0, 1.0)
        """
        parts = [self._parts(part) for part in self._chunks(z)]
        within, between = zip(*parts, strict=True)
        return TotalCovariance(torch.cat(within), torch.cat(between))

    def metric(self, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
        r""":math:`g_{i\bar j} = \partial_i \bar\partial_j K` in closed form."""
        return torch.cat([self._metric(part) for part in self._chunks(z)])

    def log_det(self, z: Complex[Tensor, "n d"], epsilon: float = 0.0) -> Float[Tensor, " n"]:
        r""":math:`\log\det(g(z) + \epsilon I)`, differentiable in z; NaN where not definite.

        Example:
            >>> potential = MixturePotential.constant(torch.tensor([[2, 1j], [-1j, 2]]))
            >>> round(potential.log_det(torch.tensor([[1 + 2j, 0.5 - 1j]])).exp().item(), 4)
            3.0
        """
        return torch.cat([self._log_det(part, epsilon) for part in self._chunks(z)])

    def log_det_and_gradient(
        self, z: Complex[Tensor, "n d"], epsilon: float = 0.0
    ) -> tuple[Float[Tensor, " n"], Complex[Tensor, "n d"]]:
        r""":meth:`log_det` and its gradient :math:`\nabla_a + i \nabla_b`, the one of autograd.

        The change of a covariance along z is a third central moment, hence for affine components

        .. math:: \nabla \log\det(g + \epsilon I)
                  = 2 \sum_m s_m \sum_k w_{mk} (q_{mk} - E_w q_m)\, b_{mk}, \qquad
                  q_{mk} = \delta_{mk}^T (g + \epsilon I)^{-1} \bar\delta_{mk}

        with :math:`\delta = b - E_w b` (docs/theory.md, section 12). Quadratic components, and
        fewer of them than dimensions, are differentiated automatically. Nothing flows back through
        the result.
        """
        closed = self.factor is None and not self._has_few_components
        gradient = self._log_det_gradient if closed else self._differentiated_log_det
        parts = [gradient(part, epsilon) for part in self._chunks(z)]
        values, gradients = zip(*parts, strict=True)
        return torch.cat(values), torch.cat(gradients)

    @torch.no_grad()
    def scaled(self, factor: float) -> Self:
        """The potential times a positive factor, and so its metric.

        Example:
            >>> potential = MixturePotential.constant(torch.tensor([[2, 1j], [-1j, 2]])).scaled(3)
            >>> round(potential.certificate().lower_bound, 4)
            3.0
        """
        scaled = copy.deepcopy(self)
        scaled.background.mul_(factor**0.5)
        scaled.log_strength.add_(math.log(factor))
        return scaled

    @torch.no_grad()
    def certificate(self) -> Certificate:
        r"""Plurisubharmonicity from the parameters.

        .. math:: g \succeq \lambda_{\min}(A_0) I + \sum_m s_m \min_k \lambda_{\min}(A_{mk}) I

        at every z, since covariances are positive semidefinite. Both terms are squared singular
        values of the factors, so they cannot come out negative by rounding.

        Example:
            >>> potential = MixturePotential.constant(torch.tensor([[2, 1j], [-1j, 2]]))
            >>> certificate = potential.certificate()
            >>> round(certificate.lower_bound, 4), certificate.valid  # the eigenvalues are 1 and 3
            (1.0, True)
        """
        if not all(parameter.isfinite().all() for parameter in self.parameters()):
            return Certificate(torch.nan, torch.nan)
        strength = self.log_strength.exp()
        bound = torch.linalg.svdvals(self.background)[-1] ** 2
        if self.factor is not None:
            bound = bound + (strength * _smallest_curvature(self.factor).amin(-1)).sum()
        return Certificate(float(bound), float(strength.min()))

    @property
    def _has_few_components(self) -> bool:
        """Whether there are fewer affine components than dimensions."""
        return self.factor is None and self.offset.numel() < self.slope.shape[-1]

    def _chunks(self, z: Tensor) -> tuple[Tensor, ...]:
        """Points, checked, by as many as keep the largest intermediate near the caches."""
        z = check_latents(z)
        if z.shape[1] != self.slope.shape[-1] or z.dtype != self.slope.dtype:
            raise InputError(
                f"z has the shape {tuple(z.shape)} and type {z.dtype}, but the potential is one of "
                f"(n, {self.slope.shape[-1]}) and {self.slope.dtype}: convert z or fit anew."
            )
        size = self.offset.numel() if self.factor is None else 2 * self.slope.numel()
        return z.split(max(FEW, CHUNK // size))

    def _potential(self, z: Tensor) -> Tensor:
        components, _ = self._components(z)
        quadratic = _square_modulus(z @ self.background.conj()).sum(-1)
        return quadratic + components.logsumexp(-1) @ self.log_strength.exp()

    def _parts(self, z: Tensor) -> TotalCovariance:
        """The parts by deviations from the mean: N vectors at every point."""
        components, slopes = self._components(z)
        log_weights = components.log_softmax(-1)
        weights = log_weights.exp()
        within = self._background().expand(len(z), -1, -1)
        if self.factor is not None:
            share = (weights * self.log_strength.exp()[:, None]).flatten(1)
            within = within + _mean_curvature(share, self.factor)
        mean = torch.einsum("nmk,nmkd->nmd", weights.to(z.dtype), slopes)
        # The root in logarithms: that of a weight which underflows has no finite derivative.
        root = torch.exp(0.5 * (log_weights + self.log_strength[:, None])).unsqueeze(-1)
        deviations = (root * (slopes - mean.unsqueeze(2))).flatten(1, 2)
        return TotalCovariance(within, deviations.mH @ deviations)

    def _metric(self, z: Tensor) -> Tensor:
        if self.factor is None and len(z) >= FEW:
            return self._affine_metric(self._components(z)[0].softmax(-1), *self._affine_table())
        within, between = self._parts(z)
        return within + between

    def _log_det(self, z: Tensor, epsilon: float) -> Tensor:
        if self._has_few_components:
            return self._low_rank_log_det(z, epsilon)
        return log_det(self._metric(z), epsilon)

    def _affine_table(self) -> tuple[Tensor, Tensor]:
        """√s times the centred slopes, (groups, components, d), and their packed outer products.

        Centring the slopes of a group leaves its covariance and spares the difference its digits.
        """
        slopes = self.slope - self.slope.mean(dim=1, keepdim=True)
        slopes = torch.exp(0.5 * self.log_strength)[:, None, None] * slopes
        # conj(u) u^T packed is [Re u, Im u] times [Re (1 − i)u, Im (1 − i)u].
        outer = torch.view_as_real(slopes) @ torch.view_as_real((1 - 1j) * slopes).mT
        return slopes, outer.flatten(2).flatten(0, 1)

    def _affine_metric(self, weights: Tensor, slopes: Tensor, outer: Tensor) -> Tensor:
        """Background and Σ_m s_m Cov_w[b_m] as second moment less mean: three products."""
        d = slopes.shape[-1]
        background = _pack(self._background()).flatten()
        second = torch.addmm(background, weights.flatten(1), outer).unflatten(1, (d, d))
        mean = _group_means(weights, slopes)
        return torch.baddbmm(_unpack(second), mean.mH, mean, alpha=-1)

    def _low_rank_log_det(self, z: Tensor, epsilon: float) -> Tensor:
        r"""Fewer components N than dimensions: by N×N instead of d×d determinants.

        .. math:: \det(B + \Delta^\dagger \Delta)
                  = \det B\, \det(I + \Delta B^{-1} \Delta^\dagger), \qquad
                  \Delta = \sqrt{W} (I - 1 w^T) b, \quad B = A_0^T + \epsilon I

        The products of all b, in the inverse of B, are the same at every point.
        """
        eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        root, failed = torch.linalg.cholesky_ex(self._background() + epsilon * eye)
        slopes = torch.exp(0.5 * self.log_strength)[:, None, None] * self.slope
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

    @torch.no_grad()
    def _log_det_gradient(self, z: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        weights = self._components(z)[0].softmax(-1)
        slopes, outer = self._affine_table()
        metric = self._affine_metric(weights, slopes, outer)
        eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        root, failed = torch.linalg.cholesky_ex(metric + epsilon * eye)
        inverse = torch.cholesky_inverse(root)
        # q but for what is the same in a group: b†-terms from the table, less twice the mean's.
        squares = (_pack(inverse).flatten(1) @ outer.mT).unflatten(1, weights.shape[1:])
        mean = _group_means(weights, slopes) @ inverse
        cross = torch.bmm(_reals(mean).transpose(0, 1), _reals(slopes).mT).transpose(0, 1)
        q = squares - 2 * cross
        change = weights * (q - (weights * q).sum(-1, keepdim=True))
        gradient = 2 * change.flatten(1) @ _reals(self.slope).flatten(0, 1)
        values = 2 * root.diagonal(dim1=-2, dim2=-1).real.log().sum(-1)
        return (
            values.masked_fill(failed > 0, torch.nan),
            torch.view_as_complex(gradient.unflatten(1, (-1, 2))),
        )

    def _differentiated_log_det(self, z: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            values = self._log_det(z, epsilon)
            (gradient,) = torch.autograd.grad(values.sum(), z)
        return values.detach(), gradient

    def _background(self) -> Tensor:
        return (self.background @ self.background.mH).mT

    def _components(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """φ of shape (n, groups, components) and u of shape (n, groups, components, d)."""
        linear = torch.addmm(
            self.offset.flatten(), _reals(z), _reals(self.slope).flatten(0, 1).mT, alpha=2
        )
        components = linear.unflatten(1, self.offset.shape)
        if self.factor is None:
            return components, self.slope.expand(len(z), -1, -1, -1)
        if self.factor.ndim == 3:
            curvatures = _square_modulus(self.factor)
            squares = _square_modulus(z) @ curvatures.flatten(0, 1).mT
            slopes = self.slope + curvatures * z[:, None, None]
            return components + squares.unflatten(1, self.offset.shape), slopes
        projected = torch.einsum("mkdr,nd->nmkr", self.factor.conj(), z)  # L†z
        slopes = self.slope + torch.einsum("mkdr,nmkr->nmkd", self.factor, projected)
        return components + _square_modulus(projected).sum(-1), slopes


CHUNK = 1 << 20
"""Numbers in the largest intermediate of a chunk of points."""

FEW = 8
"""Fewer points than this are cheaper by deviations than by a table of outer products, which costs
as much as one point does (measured for d from 2 to 64)."""


def _square_modulus(z: Tensor) -> Tensor:
    """|z|² with a second derivative at 0, which ``abs()**2`` lacks."""
    return z.real.square() + z.imag.square()


def _mean_curvature(share: Tensor, factor: Tensor) -> Tensor:
    """Σ_mk share_mk A_mkᵀ with A = LL†, from dense or diagonal L: real weights, real products."""
    if factor.ndim == 3:
        diagonal = share @ _square_modulus(factor).flatten(0, 1)
        return torch.diag_embed(diagonal).to(factor.dtype)
    curvatures = (factor @ factor.mH).mT.flatten(0, 1)
    mean = share @ torch.view_as_real(curvatures).flatten(1)
    return torch.view_as_complex(mean.unflatten(1, (*curvatures.shape[1:], 2)))


def _smallest_curvature(factor: Tensor) -> Tensor:
    """Smallest eigenvalue of every LL†, (groups, components), from dense or diagonal L."""
    if factor.ndim == 3:
        return _square_modulus(factor).amin(-1)
    values = torch.linalg.svdvals(factor)
    d, rank = factor.shape[-2:]
    return values[..., -1] ** 2 if rank >= d else torch.zeros_like(values[..., 0])


def _reals(z: Tensor) -> Tensor:
    """Real and imaginary parts in turn along the last axis: real products of complex vectors."""
    return torch.view_as_real(z.resolve_conj()).flatten(-2)


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
