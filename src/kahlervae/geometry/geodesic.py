"""Geodesics of a Hermitian metric between given ends, and what tells them independently."""

import math

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.geometry.curvature import solved
from kahlervae.geometry.latents import check_gradients, check_latents
from kahlervae.geometry.memory import MEMORY, allocated, chunks, fitting, gathered
from kahlervae.geometry.metric import Metric, check_differentiable
from kahlervae.geometry.potential import Potential, square_modulus
from kahlervae.geometry.wirtinger import wirtinger
from kahlervae.options import check_count

__all__ = [
    "Metric",
    "check_ends",
    "check_points",
    "christoffel",
    "curve_energy",
    "curve_length",
    "geodesics",
    "vector_length",
]


def curve_energy(metric: Metric, curves: Complex[Tensor, "n points d"]) -> Float[Tensor, " n"]:
    r"""Energy :math:`\tfrac12 \int_0^1 g(\dot z, \dot z)\, dt` of polygons, by midpoints.

    .. math:: E = \frac T2 \sum_{t=1}^T g_{m_t}(\Delta_t, \Delta_t), \qquad
              \Delta_t = z_t - z_{t-1}, \quad m_t = \tfrac12 (z_t + z_{t-1}), \quad
              g(v, v) = v^T G \bar v

    At least half of the squared :func:`curve_length`, with equality at constant speed.

    Args:
        metric: maps (n, d) to Hermitian positive semidefinite matrices (n, d, d), row by row.
        curves: T + 1 points at equal times.

    Raises:
        InputError: the curves are none.

    Example:
        >>> flat = lambda z: torch.eye(1, dtype=z.dtype).expand(len(z), 1, 1)
        >>> line = torch.tensor([[[0j], [1j], [2j]]])
        >>> curve_energy(flat, line), curve_length(flat, line)
        (tensor([2.]), tensor([2.]))
    """
    middle, change = _steps(curves)
    squares, _ = _squared_norm(metric, middle.flatten(0, 1), change.flatten(0, 1))
    return 0.5 * change.shape[1] * squares.view(change.shape[:2]).sum(1)


def curve_length(metric: Metric, curves: Complex[Tensor, "n points d"]) -> Float[Tensor, " n"]:
    r"""Length :math:`\sum_t \sqrt{g_{m_t}(\Delta_t, \Delta_t)}` of polygons, see
    :func:`curve_energy`.

    The real metric of G is 2 Re G in the coordinates (a, b): its lengths are √2 times as large.

    Example:
        >>> flat = lambda z: 4 * torch.eye(1, dtype=z.dtype).expand(len(z), 1, 1)
        >>> curve_length(flat, torch.tensor([[[0j], [1j], [3j]]]))
        tensor([6.])
    """
    middle, change = _steps(curves)
    lengths = vector_length(metric, middle.flatten(0, 1), change.flatten(0, 1))
    return lengths.view(change.shape[:2]).sum(1)


def vector_length(
    metric: Metric, z: Complex[Tensor, "n d"], v: Complex[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    r"""Length :math:`\sqrt{v^T G(z) \bar v}` of tangent vectors; NaN where that is no length.

    Less than 0 by no more than rounding, in units of the metric and the vector, is 0.

    Example:
        >>> flat = lambda z: 4 * torch.eye(1, dtype=z.dtype).expand(len(z), 1, 1)
        >>> z, v = torch.tensor([[0j], [1j]]), torch.tensor([[3j], [1 + 0j]])
        >>> vector_length(flat, z, v), vector_length(lambda z: -flat(z), z, v)
        (tensor([6., 2.]), tensor([nan, nan]))
    """
    squares, sizes = _squared_norm(metric, z, v)
    rounding = torch.finfo(squares.dtype).eps ** 0.5 * sizes
    return squares.clamp(min=0).sqrt().masked_fill(squares < -rounding, torch.nan)


def check_ends(
    start: Tensor, end: Tensor, names: tuple[str, str]
) -> tuple[Complex[Tensor, "n d"], Complex[Tensor, "n d"]]:
    """Finite latents of one shape and precision, detached, or one sentence.

    Raises:
        InputError: they are none.

    Example:
        >>> check_ends(torch.zeros(2, 1) + 0j, torch.zeros(1, 1) + 0j, ("start", "end"))
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: start and end differ in shape or precision ((2, 1), \
torch.complex64; (1, 1), torch.complex64): give one end for every start.
    """
    start = check_latents(start, names[0], finite=True).detach()
    end = check_latents(end, names[1], finite=True).detach()
    if start.shape != end.shape or start.dtype != end.dtype:
        raise InputError(
            f"{names[0]} and {names[1]} differ in shape or precision ({tuple(start.shape)}, "
            f"{start.dtype}; {tuple(end.shape)}, {end.dtype}): give one {names[1]} for every "
            f"{names[0].removeprefix('the ')}."
        )
    return start, end


def check_points(steps: int, points: int) -> None:
    """Refuse free points of a curve that do not fit between its ends.

    Example:
        >>> check_points(8, 8)
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: 8 free points do not fit between the ends of 8 steps: take \
more steps than points.
    """
    check_count("the number of steps of a curve", steps)
    check_count("the number of free points of a curve", points)
    if points >= steps:
        raise InputError(
            f"{points} free points do not fit between the ends of {steps} steps: take more steps "
            "than points."
        )


def geodesics(
    metric: Metric,
    start: Complex[Tensor, "n d"],
    end: Complex[Tensor, "n d"],
    steps: int,
    points: int,
    memory: int = MEMORY,
) -> Complex[Tensor, "n steps+1 d"]:
    r"""Curves of least :func:`curve_energy` between fixed ends, from the straight lines on.

    .. math:: z(t) = (1 - t)\, z_0 + t\, z_1 + \sum_{k=1}^K c_k \sin(k \pi t), \qquad
              t = 0, \tfrac1T, \ldots, 1

    The c of all pairs are found at once by L-BFGS on the sum of their energies over those of the
    straight lines, in units in which that sum has the identity as its second derivative for a
    constant metric. K = T − 1 is any polygon; fewer are smoother than the midpoint rule needs.

    A minimiser has constant speed: its points are at equal times and, up to the discretisation, at
    equal arc length. It is a local one, next to the straight line, and stays where the metric is
    finite.

    Args:
        metric: see :func:`curve_energy`; differentiable in z by reverse differentiation.
        start: z₀.
        end: z₁.
        steps: T.
        points: K, the free points of a curve.
        memory: bytes beyond the result that may be taken, by and large.

    Raises:
        InputError: K is not between 1 and T − 1, or the ends are not finite or of different shapes.

    Example:
        >>> disc = lambda z: ((1 - z.abs() ** 2) ** -2).to(z.dtype)[..., None]  # (n, 1, 1)
        >>> start, end = torch.tensor([[0.5 + 0j]]), torch.tensor([[0.5j]])
        >>> curve = geodesics(disc, start, end, steps=8, points=7)
        >>> bool(curve[0, 4].abs() < 0.35)  # bent to the centre; the line's middle is at 0.354
        True
    """
    from scipy.optimize import minimize  # takes a while to load

    check_points(steps, points)
    check_gradients("a geodesic")
    start, end = check_ends(start, end, ("start", "end"))
    if not len(start):
        return start.new_zeros(0, steps + 1, start.shape[1])
    check_differentiable(metric, start)
    t = torch.linspace(0, 1, steps + 1, dtype=start.real.dtype, device=start.device)[:, None]
    lines = (1 - t) * start[:, None] + t * end[:, None]
    k = torch.arange(1, points + 1, dtype=t.dtype, device=t.device)
    # Polygons through sines are orthogonal, too, in the energy of a constant metric.
    basis = torch.sin(math.pi * k * t) / (2 * steps * torch.sin(math.pi * k / (2 * steps)))
    size = torch.linalg.vector_norm(end - start, dim=1)
    basis = (size[:, None, None] * basis).to(start.dtype)
    rows = fitting(memory, 4 * steps * allocated(metric, start[:1]))
    parts = [slice(k, k + rows) for k in range(0, len(start), rows)]
    with torch.no_grad():
        straight = gathered(lambda part: curve_energy(metric, lines[part]), parts, len(start))
    if wrong := int((~straight.isfinite()).sum()):
        raise InputError(
            f"the metric is not finite along {wrong} of {len(straight)} straight lines: choose "
            "ends between which it is defined."
        )
    weight = torch.where(straight > 0, 1 / straight, 0)

    def curves(free: Tensor, part: slice = slice(None)) -> Tensor:
        return lines[part] + basis[part] @ torch.view_as_complex(free)

    # Where every curve was last of a finite energy: the straight line, of relative energy 1.
    inside = torch.zeros(len(start), points, start.shape[1], 2, dtype=t.dtype, device=t.device)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        every = torch.from_numpy(flat).to(t).reshape(inside.shape)
        energies, gradients = [], []
        for part in parts:
            free = every[part].requires_grad_()
            with torch.enable_grad():
                each = curve_energy(metric, curves(free, part))
                finite = each.isfinite()
                energy = weight[part] @ each.where(finite, 0)
                (gradient,) = torch.autograd.grad(energy, free)
            finite = (finite & gradient.flatten(1).isfinite().all(1))[:, None, None, None]
            step = free.detach() - inside[part]
            # A search that leaves where the metric is finite is sent back, the other curves' not.
            wall = 4 * step / step.square().sum((1, 2, 3), keepdim=True)
            gradients.append(torch.where(finite, gradient, wall))
            energies.append(energy.item() + 2 * int((~finite).sum()))
            inside[part] = torch.where(finite, free.detach(), inside[part])
        return sum(energies), torch.cat(gradients).flatten().double().cpu().numpy()

    # As far as the precision goes: the energy to its last digits, the curves to half of them.
    eps = torch.finfo(t.dtype).eps
    found = minimize(
        objective,
        np.zeros(2 * start.numel() * points),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": ITERATIONS, "ftol": 10 * eps, "gtol": eps**0.5},
    )
    return curves(torch.from_numpy(found.x).to(t).reshape(len(start), points, -1, 2))


ITERATIONS = 200
"""Of L-BFGS, at most; ten to twenty are enough for the potentials of trained models."""


def christoffel(
    metric: Metric, z: Complex[Tensor, "n d"], memory: int = MEMORY
) -> Complex[Tensor, "n d d d"]:
    r"""Christoffel symbols :math:`\Gamma^k_{ij} = g^{k \bar l}\, \partial_i g_{j \bar l}`.

    Those of the Chern connection; for a Kähler metric, where they are symmetric in i and j, those
    of Levi-Civita, and geodesics solve
    :math:`\ddot z^k + \Gamma^k_{ij} \dot z^i \dot z^j = 0`.

    Args:
        metric: maps (n, d) to Hermitian positive definite matrices (n, d, d), row by row.
        z: where.
        memory: bytes beyond the result that may be taken, by and large.

    Returns:
        [n, k, i, j]; NaN where the metric is singular.
    """
    z = check_latents(z)
    if not len(z):
        return z.new_zeros(0, *3 * [z.shape[1]])
    check_differentiable(metric, z)
    rows, directions = chunks(metric, z, memory)
    return gathered(lambda part: _christoffel(metric, part, directions), z.split(rows), len(z))


def _christoffel(metric: Metric, z: Tensor, directions: int) -> Tensor:
    value, derivative, _ = wirtinger(metric, z, directions)  # [n, j, l, i] = ∂_i g_jl̄
    # Σ_l g^{kl̄} g_jl̄ = δ: the inverse is that of the transpose.
    right = derivative.movedim(2, 1)
    return solved(value.mT, right.flatten(2)).unflatten(2, right.shape[2:]).mT


def _steps(curves: Tensor) -> tuple[Tensor, Tensor]:
    """The middle of every step and the step, (n, T, d) each."""
    whole = isinstance(curves, Tensor) and curves.is_complex() and curves.dim() == 3
    if not whole or curves.shape[1] < 2:
        form = type(curves).__name__
        if isinstance(curves, Tensor):
            form = f"{str(curves.dtype).removeprefix('torch.')} of shape {tuple(curves.shape)}"
        raise InputError(
            f"the curves are {form}: give a complex tensor (n, points, d) with two points or more."
        )
    return (curves[:, 1:] + curves[:, :-1]) / 2, curves.diff(dim=1)


def _squared_norm(metric: Metric, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor | float]:
    """g(v, v), (n,), and ‖G‖ |v|², in whose units its rounding is.

    By the potential itself where the metric is one's own, which is never less than 0 but by
    rounding.
    """
    owner = getattr(metric, "__self__", None)
    if isinstance(owner, Potential) and metric == owner.metric:
        return owner.squared_norm(z, v), math.inf
    value = metric(z)
    sizes = torch.linalg.matrix_norm(value.detach()) * square_modulus(v.detach()).sum(-1)
    # A row times a matrix times a column: einsum would spend more time than the products.
    return (v.unsqueeze(1) @ value @ v.conj().unsqueeze(2)).real.flatten(), sizes
