"""Potentials through a holomorphic network: plurisubharmonic, and not convex."""

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Self

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae.geometry.potential import (
    Certificate,
    Potential,
    TotalCovariance,
    inverse_and_log_det,
    sizes,
    square_modulus,
)
from kahlervae.options import check_number, check_sizes
from kahlervae.seeding import check_stream

__all__ = ["HolomorphicPotential"]


class HolomorphicPotential(Potential):
    r"""Squared norms and Fubini–Study potentials of a holomorphic network.

    .. math::
        K(z) &= z^\dagger A_0 z + \|l f(z)\|^2
              + \sum_m s_m \log\bigl(1 + \|h_m f(z) + e_m\|^2\bigr) \\
        f &= a \circ W_L \circ \cdots \circ a \circ W_1, \qquad a(w) = w + \tfrac14 w^2

    with complex affine W, complex matrices l and h, and s > 0. Every term is plurisubharmonic,
    since log(1 + ‖·‖²) and ‖·‖² are and f is holomorphic; K need not be convex. With J = ∂f,
    V = lJ, :math:`u_m = h_m f + e_m`, :math:`U_m = h_m J`, :math:`\rho_m = 1 / (1 + \|u_m\|^2)`

    .. math:: g = A_0^T + V^T \bar V + \sum_m s_m \rho_m
              \bigl[ U_m^T \bar U_m - \rho_m (U_m^T \bar u_m)(U_m^T \bar u_m)^\dagger \bigr]

    by d holomorphic tangents and no automatic differentiation. The last term is the covariance of
    slopes among the components :math:`|u_{m1}|^2, |u_{m2}|^2, \ldots, 1`, whose logarithms have no
    curvature of their own; in K they are a log-sum-exp (docs/theory.md, section 5).

    Args:
        background: L₀ with A₀ = L₀L₀†, (d, d).
        log_strength: log s, (groups,).
        first: W₁, (width, d).
        hidden: the other W, (layers − 1, width, width).
        bias: of all layers, (layers, width).
        square: l, (rank, width).
        head: h, (groups, rank, width).
        shift: e, (groups, rank).

    Example:
        >>> from kahlervae.geometry import mixed_hessian
        >>> stream = torch.Generator().manual_seed(0)
        >>> potential = HolomorphicPotential.random(2, 8, 2, scale=1.0, generator=stream)
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
        >>> torch.allclose(potential.metric(z), mixed_hessian(potential.potential, z), atol=1e-5)
        True
        >>> potential.certificate().valid
        True
    """

    real_parameters: ClassVar[frozenset[str]] = frozenset({"log_strength"})

    def __init__(
        self,
        background: Complex[Tensor, "d d"],
        log_strength: Float[Tensor, " groups"],
        first: Complex[Tensor, "width d"],
        hidden: Complex[Tensor, "further width width"],
        bias: Complex[Tensor, "layers width"],
        square: Complex[Tensor, "rank width"],
        head: Complex[Tensor, "groups heads width"],
        shift: Complex[Tensor, "groups heads"],
    ) -> None:
        super().__init__()
        self.background = nn.Parameter(background)
        self.log_strength = nn.Parameter(log_strength)
        self.first = nn.Parameter(first)
        self.hidden = nn.Parameter(hidden)
        self.bias = nn.Parameter(bias)
        self.square = nn.Parameter(square)
        self.head = nn.Parameter(head)
        self.shift = nn.Parameter(shift)

    @classmethod
    def random(
        cls,
        latent_dim: int,
        width: int,
        layers: int,
        scale: float,
        generator: torch.Generator,
        dtype: torch.dtype = torch.complex64,
        groups: int = 8,
        rank: int = 16,
    ) -> Self:
        """Random layers with a metric of the order of ``scale``: the start of a fit.

        In either precision the same, for the same generator.

        Raises:
            InputError: a size is no whole number from 1 on, the scale is not positive and finite,
                or there is no generator.
        """
        counts = {"latent_dim": latent_dim, "width": width, "layers": layers}
        check_sizes("a holomorphic potential", **counts, groups=groups, rank=rank)
        check_number("the scale of a holomorphic potential", scale, positive=True)
        check_stream(generator)

        def normal(*shape: int, size: float) -> Tensor:
            return (size * torch.randn(shape, generator=generator, dtype=torch.complex64)).to(dtype)

        half = (0.25 * scale / rank) ** 0.5
        with generator.device:
            return cls(
                background=(0.25 * scale) ** 0.5 * torch.eye(latent_dim, dtype=dtype),
                log_strength=torch.full((groups,), scale / groups, dtype=dtype.to_real()).log(),
                first=normal(width, latent_dim, size=latent_dim**-0.5),
                hidden=normal(layers - 1, width, width, size=width**-0.5),
                bias=normal(layers, width, size=0.1),
                square=normal(rank, width, size=half * (latent_dim / width) ** 0.5),
                head=normal(groups, rank, width, size=(latent_dim / (rank * width)) ** 0.5),
                shift=normal(groups, rank, size=rank**-0.5),
            )

    @classmethod
    def _shapes(cls, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        width, d = sizes(tensors, "first", 2)
        layers, _ = sizes(tensors, "bias", 2)
        groups, rank = sizes(tensors, "shift", 2)
        return {
            "background": (d, d),
            "log_strength": (groups,),
            "first": (width, d),
            "hidden": (max(layers - 1, 0), width, width),
            "bias": (layers, width),
            "square": (sizes(tensors, "square", 2)[0], width),
            "head": (groups, rank, width),
            "shift": (groups, rank),
        }

    @property
    def _size(self) -> int:
        return 2 * (self.latent_dim + 1) * self.first.shape[0]

    def _scale(self, factor: float) -> None:
        self.background.mul_(factor**0.5)
        self.square.mul_(factor**0.5)
        self.log_strength.add_(math.log(factor))

    def _certificate(self) -> Certificate:
        r"""Plurisubharmonicity from the parameters: :math:`g \succeq \lambda_{\min}(A_0) I`.

        All else is a Gram matrix or a covariance.
        """
        bound = torch.linalg.svdvals(self.background)[-1] ** 2
        return Certificate(float(bound), float(self.log_strength.exp().min()))

    def _potential(self, z: Tensor) -> Tensor:
        x = z
        for weight, bias in self._layers():
            x = _activated(torch.addmm(bias, x, weight.mT))
        u = (x @ self.head.flatten(0, 1).mT).unflatten(1, self.shift.shape) + self.shift
        quadratic = square_modulus(z @ self.background.conj()).sum(-1)
        squares = square_modulus(x @ self.square.mT).sum(-1)
        return quadratic + squares + square_modulus(u).sum(-1).log1p() @ self.log_strength.exp()

    def _metric(self, z: Tensor) -> Tensor:
        within, between = self._parts(z)
        return within + between

    def _squared_norm(self, z: Tensor, v: Tensor) -> Tensor:
        r"""By one tangent instead of d,

        .. math:: g(v, v) = \|L_0^\dagger v\|^2 + \|Vv\|^2 + \sum_m s_m \rho_m
                  \bigl[ \|U_m v\|^2 - \rho_m |u_m^\dagger U_m v|^2 \bigr].
        """
        x, change = z, v
        for weight, bias in self._layers():
            y = torch.addmm(bias, x, weight.mT)
            x, change = _activated(y), (1 + 0.5 * y) * (change @ weight.mT)
        heads = self.head.flatten(0, 1).mT
        u = (x @ heads).unflatten(1, self.shift.shape) + self.shift
        head = (change @ heads).unflatten(1, self.shift.shape)
        rho = 1 / (1 + square_modulus(u).sum(-1))
        along = square_modulus((u.conj() * head).sum(-1))
        logs = rho * (square_modulus(head).sum(-1) - rho * along) @ self.log_strength.exp()
        flat = square_modulus(v @ self.background.conj()).sum(-1)
        return flat + square_modulus(change @ self.square.mT).sum(-1) + logs

    def _parts(self, z: Tensor) -> TotalCovariance:
        tangents = self._tangents(z)
        return self._parts_of(tangents, self._outer(tangents))

    def _parts_of(self, tangents: "_Tangents", outer: "_Outer") -> TotalCovariance:
        within = self._background() + tangents.square @ tangents.square.mH
        # The Gram matrix of the √(sρ) U, all groups at once, less one vector for every group.
        root = outer.weight.sqrt().unsqueeze(-1)
        rows = (root.unsqueeze(1) * tangents.head).flatten(2)
        along = root * outer.rho.sqrt().unsqueeze(-1) * outer.along
        return TotalCovariance(within, rows @ rows.mH - along.mT @ along.conj())

    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip([self.first, *self.hidden], self.bias, strict=True))

    def _tangents(self, z: Tensor) -> "_Tangents":
        """The network and all its holomorphic derivatives, direction by direction."""
        (weight, bias), *others = self._layers()
        y, changes = torch.addmm(bias, z, weight.mT), weight.mT.expand(len(z), -1, -1)
        trace = []
        for following in [*others, None]:
            slope = 1 + 0.5 * y
            trace.append((slope, changes))
            x, change = _activated(y), slope.unsqueeze(1) * changes
            if following is not None:
                weight, bias = following
                y, changes = torch.addmm(bias, x, weight.mT), change @ weight.mT
        heads = self.head.flatten(0, 1).mT
        return _Tangents(
            value=(x @ heads).unflatten(1, self.shift.shape) + self.shift,
            head=(change @ heads).unflatten(2, self.shift.shape),
            square=change @ self.square.mT,
            trace=trace,
        )

    def _outer(self, tangents: "_Tangents") -> "_Outer":
        rho = 1 / (1 + square_modulus(tangents.value).sum(-1))
        along = torch.einsum("ndmr,nmr->nmd", tangents.head, tangents.value.conj())
        return _Outer(rho, self.log_strength.exp() * rho, along)

    @torch.no_grad()
    def _log_det_and_gradient(self, z: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        r"""The gradient by one pass back through the tangents.

        In ∂ log det g = tr(g⁻¹ ∂g) only f and J move, being holomorphic, and not their conjugates.
        What multiplies dV, dU and du (docs/theory.md, section 12) goes back through the layers,

        .. math:: \bar y = a'(y)\, \bar x + \tfrac12 \sum_i \dot y_i \bar{\dot x}_i, \qquad
                  \bar{\dot y}_i = a'(y)\, \bar{\dot x}_i

        with cotangents (bars) and tangents (dots), to ∂_k, and the gradient is twice the conjugate.
        """
        tangents = self._tangents(z)
        outer = self._outer(tangents)
        within, between = self._parts_of(tangents, outer)
        inverse, values = inverse_and_log_det(within + between, epsilon)
        raised = inverse.mT
        # What multiplies dV and dU, direction by direction, (n, d, …): g⁻¹ on the conjugates.
        square = raised @ tangents.square.conj()
        weight, rho = outer.weight.unsqueeze(-1), outer.rho.unsqueeze(-1)
        head = (raised @ tangents.head.conj().flatten(2)).unflatten(2, self.shift.shape)
        dual = outer.along.conj() @ inverse  # v^T g⁻¹, (n, groups, d)
        conjugate = tangents.value.conj()
        # What multiplies du.
        trace = torch.einsum("ndmr,ndmr->nm", head, tangents.head).real
        norm = (dual * outer.along).sum(-1).real
        moved = (2 * outer.rho.square() * norm - outer.rho * trace).unsqueeze(-1)
        turned = torch.einsum("nmd,ndmr->nmr", dual.conj(), tangents.head.conj())
        value = weight * (moved * conjugate - rho * turned)
        head = weight.unsqueeze(1) * (
            head - rho.unsqueeze(1) * torch.einsum("nmd,nmr->ndmr", dual, conjugate)
        )
        heads = self.head.flatten(0, 1)
        x = value.flatten(1) @ heads
        change = head.flatten(2) @ heads + square @ self.square
        for (slope, changes), (linear, _) in zip(
            reversed(tangents.trace), reversed(self._layers()), strict=True
        ):
            y = slope * x + 0.5 * (changes * change).sum(1)
            change = (slope.unsqueeze(1) * change) @ linear
            x = y @ linear
        return values, 2 * x.conj()


class _Tangents(NamedTuple):
    """At every point: u, U and V, and of every layer a'(y) and the derivatives of y."""

    value: Tensor
    head: Tensor
    square: Tensor
    trace: list[tuple[Tensor, Tensor]]


class _Outer(NamedTuple):
    """Of every log: ρ, sρ, and Uᵀū."""

    rho: Tensor
    weight: Tensor
    along: Tensor


def _activated(y: Tensor) -> Tensor:
    return y + 0.25 * y.square()
