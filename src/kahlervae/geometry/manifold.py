"""A latent space as a Riemannian manifold: exponential map, logarithm, transport, distance."""

from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.geometry.curvature import solved
from kahlervae.geometry.distance import distance
from kahlervae.geometry.geodesic import check_ends, geodesics, vector_length
from kahlervae.geometry.latents import check_latents
from kahlervae.geometry.memory import MEMORY, chunks, gathered
from kahlervae.geometry.metric import Metric, check_differentiable, check_metric
from kahlervae.geometry.wirtinger import wirtinger
from kahlervae.options import check_count

__all__ = ["Manifold"]

ITERATIONS = 50
"""Of the shooting, at most."""


class Manifold(NamedTuple):
    r"""C^d with the real part of a Hermitian metric, :math:`\langle v, w \rangle = \mathrm{Re}\,
    v^T G \bar w`.

    The connection is that of Levi-Civita, also where the metric is not Kähler, as the exact Fisher
    metric of an ordinary decoder, so that its geodesics are shortest curves:

    .. math::
        g_{i \bar l}\, \Gamma(u, v)^i = \tfrac12\, \partial_k g_{i \bar l}\,
        (u^k v^i + v^k u^i) + \tfrac12\, (\bar\partial_k g_{i \bar l} -
        \bar\partial_l g_{i \bar k})\, (u^i \bar v^k + v^i \bar u^k)

    The second term vanishes for a Kähler metric. It follows from the Euler–Lagrange equation of
    the energy, :math:`\ddot z + \Gamma(\dot z, \dot z) = 0`, by polarisation.

    Attributes:
        metric: maps (n, d) to Hermitian positive definite matrices (n, d, d), row by row:
            ``potential.metric`` of a potential, ``partial(fisher_metric, decoder)`` for the exact
            one.
        steps: T of all curves.
        memory: bytes beyond the result that may be taken, by and large.

    Example:
        >>> sphere = lambda z: ((1 + z.abs() ** 2) ** -2).to(z.dtype)[..., None]  # (n, 1, 1)
        >>> manifold = Manifold(sphere)
        >>> origin, v = torch.zeros(1, 1) + 0j, torch.tensor([[0.5j]])
        >>> round(manifold.exp(origin, v).imag.item(), 4)  # tan ½
        0.5463
        >>> round(manifold.log(origin, manifold.exp(origin, v)).imag.item(), 3)
        0.5
    """

    metric: Metric
    steps: int = 32
    memory: int = MEMORY

    def norm(self, z: Complex[Tensor, "n d"], v: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """:func:`~kahlervae.geometry.geodesic.vector_length` of tangent vectors."""
        z, v = check_ends(z, v, ("z", "v"))
        check_metric(self.metric, z)
        return vector_length(self.metric, z, v)

    def exp(self, z: Complex[Tensor, "n d"], v: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d"]:
        """Where the geodesic from z with velocity v is at time 1.

        By Runge and Kutta's classical method, of fourth order in 1/T.

        Raises:
            InputError: z and v are not finite or differ in shape, or the curve leaves the domain
                of the metric, or meets where it is singular.
        """
        z, v = check_ends(z, v, ("z", "v"))
        check_count("the number of steps of a manifold", self.steps)
        if not len(z):
            return z
        check_differentiable(self.metric, z)
        h, at_once = 1 / self.steps, chunks(self.metric, z, self.memory)

        def force(z: Tensor, v: Tensor) -> Tensor:
            return -self._connection(z, v, v, at_once)

        for _ in range(self.steps):
            a, b = v, force(z, v)
            c, d = v + h / 2 * b, force(z + h / 2 * a, v + h / 2 * b)
            e, f = v + h / 2 * d, force(z + h / 2 * c, v + h / 2 * d)
            k, m = v + h * f, force(z + h * e, v + h * f)
            z, v = z + h / 6 * (a + 2 * c + 2 * e + k), v + h / 6 * (b + 2 * d + 2 * f + m)
        if wrong := int((~z.isfinite()).any(1).sum()):
            raise InputError(
                f"{wrong} of {len(z)} geodesics leave the domain of the metric, or meet where it "
                "is singular: take shorter velocities or more steps."
            )
        return z

    def log(self, z: Complex[Tensor, "n d"], w: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d"]:
        """The velocity with which the geodesic next to the straight line from z is at w at time 1.

        Shooting from the :meth:`geodesic`, corrected by Broyden's method until :meth:`exp` hits w
        to half of the digits of the precision, or to the rounding of the ends where they are close.

        Raises:
            InputError: z and w are not finite or differ in shape, or no shot hits.
        """
        z, w = check_ends(z, w, ("z", "w"))
        if not len(z):
            return z
        curve = self.geodesic(z, w)
        # One-sided difference of second order.
        v = self.steps * (-1.5 * curve[:, 0] + 2 * curve[:, 1] - 0.5 * curve[:, 2])
        eps = torch.finfo(z.real.dtype).eps
        goal = eps**0.5 * (w - z).abs().amax(1) + 8 * eps * w.abs().amax(1)
        size = 2 * z.shape[1]
        inverse = torch.eye(size, dtype=z.real.dtype, device=z.device).repeat(len(z), 1, 1)
        miss = self._miss(z, v, w)
        for _ in range(ITERATIONS):
            if (miss.abs().amax(1) <= goal).all():
                return v
            # Sherman and Morrison: the inverse of the derivative, so that it maps change to step.
            step = -(inverse @ miss.unsqueeze(2)).squeeze(2)
            v = v + torch.complex(*step.chunk(2, dim=1))
            after = self._miss(z, v, w)
            change = (inverse @ (after - miss).unsqueeze(2)).squeeze(2)
            scale = (step * change).sum(1)
            row = (step.unsqueeze(1) @ inverse).squeeze(1)
            update = (step - change).unsqueeze(2) * row.unsqueeze(1) / scale[:, None, None]
            inverse = inverse + torch.where(scale.abs()[:, None, None] > 0, update, 0)
            miss = after
        wrong = int((~(miss.abs().amax(1) <= goal)).sum())
        raise InputError(
            f"{wrong} of {len(z)} ends are hit by no geodesic that was tried: take more steps, or "
            "ends that are closer to each other."
        )

    def geodesic(
        self, z: Complex[Tensor, "n d"], w: Complex[Tensor, "n d"]
    ) -> Complex[Tensor, "n steps+1 d"]:
        """The curve of least energy from z to w, see
        :func:`~kahlervae.geometry.geodesic.geodesics`."""
        return geodesics(self.metric, z, w, self.steps, self._points, self.memory)

    def distance(self, z: Complex[Tensor, "n d"], w: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Length of the :meth:`geodesic` from z to w."""
        return distance(self.metric, z, w, "geodesic", self.steps, self._points, self.memory)

    def transport(
        self, curves: Complex[Tensor, "n points d"], v: Complex[Tensor, "n d"]
    ) -> Complex[Tensor, "n d"]:
        r"""Parallel transport along polygons, :math:`\dot v = -\Gamma(\dot z, v)`.

        By the midpoint rule, of second order in the length of a step.

        Raises:
            InputError: there are not as many curves as vectors, of one dimension and precision,
                they are not finite, or the metric is singular or not finite along them.
        """
        if not isinstance(curves, Tensor) or curves.dim() != 3 or not curves.shape[1]:
            raise InputError("curves have to be a tensor of shape (n, points, d), points ≥ 1.")
        flat = check_latents(curves.flatten(0, 1), "curves", finite=True)
        curves = flat.unflatten(0, curves.shape[:2])
        _, v = check_ends(curves[:, 0], v, ("the starts of curves", "v"))
        check_differentiable(self.metric, curves[:, 0])
        if not len(v):
            return v
        at_once = chunks(self.metric, curves[:, 0], self.memory)
        for before, after in zip(curves.unbind(1)[:-1], curves.unbind(1)[1:], strict=True):
            middle, change = (before + after) / 2, after - before
            half = v - 0.5 * self._connection(middle, change, v, at_once)
            v = v - self._connection(middle, change, half, at_once)
        if wrong := int((~v.isfinite()).any(1).sum()):
            raise InputError(
                f"the metric is singular or not finite along {wrong} of {len(v)} curves: choose "
                "curves along which it is positive definite."
            )
        return v

    @property
    def _points(self) -> int:
        """Those of a geodesic that are free: all but its ends."""
        check_count("the number of steps of a geodesic", self.steps, least=2)
        return self.steps - 1

    def _miss(self, z: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """By how much a shot misses, in real coordinates (n, 2d)."""
        miss = self.exp(z, v) - w
        return torch.cat([miss.real, miss.imag], dim=1)

    def _connection(self, z: Tensor, u: Tensor, v: Tensor, at_once: tuple[int, int]) -> Tensor:
        """Γ(u, v) at z, for as many points and directions at once."""
        rows, directions = at_once
        parts = list(zip(z.split(rows), u.split(rows), v.split(rows), strict=True))
        return gathered(
            lambda z, u, v: _connection(self.metric, z, u, v, directions), parts, len(z)
        )


def _connection(metric: Metric, z: Tensor, u: Tensor, v: Tensor, directions: int) -> Tensor:
    value, holomorphic, other = wirtinger(metric, z, directions)  # [n, i, l, k] = ∂_k g_il̄, ...
    pairs = torch.einsum("ni,nk->nik", u, v)
    lowered = torch.einsum("nilk,nik->nl", holomorphic, pairs + pairs.mT) / 2
    mixed = torch.einsum("ni,nk->nik", u, v.conj()) + torch.einsum("ni,nk->nik", v, u.conj())
    lowered = lowered + torch.einsum("nilk,nik->nl", other, mixed) / 2
    lowered = lowered - torch.einsum("nikl,nik->nl", other, mixed) / 2
    return solved(value.mT, lowered.unsqueeze(2)).squeeze(2)
