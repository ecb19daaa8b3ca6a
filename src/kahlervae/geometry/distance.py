"""Distances of latents in a Hermitian metric: of pairs, of all pairs, and to the nearest."""

from typing import Literal

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.geometry.geodesic import check_ends, check_points, curve_length, geodesics
from kahlervae.geometry.latents import check_latents
from kahlervae.geometry.memory import MEMORY, allocated, check_memory, fitting, gathered
from kahlervae.geometry.metric import Metric, check_metric
from kahlervae.options import check_count

__all__ = ["Along", "distance", "distances", "nearest"]

Along = Literal["line", "geodesic"]
"""What joins two points: the straight line, or the geodesic next to it."""


def distance(
    metric: Metric,
    a: Complex[Tensor, "n d"],
    b: Complex[Tensor, "n d"],
    along: Along = "line",
    steps: int = 16,
    points: int = 7,
    memory: int = MEMORY,
) -> Float[Tensor, " n"]:
    r"""Length of the straight line, or of the geodesic, from every a to its b.

    .. math:: d(a, b) = \int_0^1 \sqrt{g(\dot z, \dot z)}\, dt, \qquad g(v, v) = v^T G(z) \bar v

    by :func:`~kahlervae.geometry.geodesic.curve_length` of a polygon. Lines cost ``steps`` metrics
    a pair and bound the distance from above; geodesics cost some ten to twenty times as much, and
    lines are never shorter but for the discretisation.

    Args:
        metric: maps (n, d) to Hermitian matrices (n, d, d), row by row: ``potential.metric`` of a
            potential, ``partial(fisher_metric, decoder)`` for the exact one.
        a: where curves start.
        b: where they end.
        along: ``line`` or ``geodesic``; the metric of a geodesic is differentiable in z by reverse
            differentiation.
        steps: T of the polygon.
        points: of a geodesic that are free, less than T.
        memory: bytes beyond the result that may be taken, by and large.

    Raises:
        InputError: ends are not finite or differ in shape or precision, ``along`` is neither, a
            geodesic has not fewer points than steps, or a length is not finite.

    Example:
        >>> disc = lambda z: ((1 - z.abs() ** 2) ** -2).to(z.dtype)[..., None]  # (n, 1, 1)
        >>> origin, z = torch.zeros(1, 1) + 0j, torch.tensor([[0.5j]])
        >>> round(distance(disc, origin, z, steps=64).item(), 3)  # artanh ½
        0.549
    """
    _check_curve(along, steps, points)
    a, b = check_ends(a, b, ("a", "b"))
    if not len(a):
        return a.real.new_zeros(0)
    check_metric(metric, a)
    return _lengths(metric, a, b, along, steps, points, memory)


def distances(
    metric: Metric,
    a: Complex[Tensor, "n d"],
    b: Complex[Tensor, "m d"] | None = None,
    along: Along = "line",
    steps: int = 16,
    points: int = 7,
    memory: int = MEMORY,
) -> Float[Tensor, "n m"]:
    r"""The :func:`distance` of every a and every b; without b of all pairs of a.

    Without b every pair is joined once: the matrix is symmetric with zeros on its diagonal.

    Args:
        metric: see :func:`distance`, which takes the other arguments, too.
        a: rows of the result.
        b: columns of the result.

    Raises:
        InputError: see :func:`distance`; a and b are not of one dimension and precision.

    Example:
        >>> flat = lambda z: 4 * torch.eye(1, dtype=z.dtype).expand(len(z), 1, 1)
        >>> distances(flat, torch.tensor([[0j], [1j], [3j]]))
        tensor([[0., 2., 6.],
                [2., 0., 4.],
                [6., 4., 0.]])
    """
    _check_curve(along, steps, points)
    symmetric = b is None
    a = check_latents(a, "a", finite=True)
    b = a if b is None else check_latents(b, "b", finite=True)
    if a.shape[1] != b.shape[1] or a.dtype != b.dtype:
        raise InputError(
            f"a has {a.shape[1]} dimensions of {a.dtype} and b has {b.shape[1]} of {b.dtype}: give "
            "equal ones."
        )
    found = a.real.new_zeros(len(a), len(b))
    if not found.numel():
        return found
    check_metric(metric, a)
    # Pairs are numbered row by row, so that no more than a block of them is ever held.
    pairs = _rows(metric, a, steps, memory)
    for start in range(0, found.numel(), pairs):
        index = torch.arange(start, min(start + pairs, found.numel()), device=a.device)
        first, second = index // len(b), index % len(b)
        if symmetric:
            above = first < second
            first, second = first[above], second[above]
            if not len(first):
                continue
        between = _lengths(metric, a[first], b[second], along, steps, points, memory)
        found[first, second] = between
        if symmetric:
            found[second, first] = between
    return found


def nearest(
    metric: Metric,
    a: Complex[Tensor, "n d"],
    b: Complex[Tensor, "m d"],
    k: int,
    along: Along = "line",
    steps: int = 16,
    points: int = 7,
    memory: int = MEMORY,
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Distances to the k nearest b of every a, ascending, and which they are.

    Of equally near ones the first come first. Rows are taken by as many as the memory admits, so
    that the full matrix is never held.

    Args:
        metric: see :func:`distance`, which takes the other arguments, too.
        a: whose neighbours are sought.
        b: the neighbours.
        k: how many.

    Raises:
        InputError: see :func:`distances`; k is not between 1 and m.

    Example:
        >>> flat = lambda z: torch.eye(1, dtype=z.dtype).expand(len(z), 1, 1)
        >>> nearest(flat, torch.tensor([[0j]]), torch.tensor([[3j], [1 + 0j], [2 + 0j]]), k=2)
        (tensor([[1., 2.]]), tensor([[1, 2]]))
    """
    a, b = check_latents(a, "a", finite=True), check_latents(b, "b", finite=True)
    check_count("k, the number of neighbours,", k)
    check_memory(memory)
    if k > len(b):
        raise InputError(f"there are no {k} nearest of {len(b)} points: take 1 or more of them.")
    # A row of distances, the same sorted, and their order; distances have the other half.
    rows = fitting(memory // 2, len(b) * (2 * a.real.element_size() + 8))
    values, indices = [a.real.new_zeros(0, k)], [torch.zeros(0, k, dtype=torch.long).to(a.device)]
    for part in a.split(rows):
        matrix = distances(metric, part, b, along, steps, points, memory // 2)
        ascending, order = matrix.sort(dim=1, stable=True)
        # Copies: views would keep the whole rows.
        values.append(ascending[:, :k].clone())
        indices.append(order[:, :k].clone())
    return torch.cat(values), torch.cat(indices)


def _check_curve(along: str, steps: int, points: int) -> None:
    if along not in ("line", "geodesic"):
        raise InputError(f"along is {along!r}: take 'line' or 'geodesic'.")
    if along == "geodesic":
        check_points(steps, points)
    else:
        check_count("the number of steps of a curve", steps)


def _rows(metric: Metric, a: Tensor, steps: int, memory: int) -> int:
    return fitting(memory, 4 * steps * allocated(metric, a[:1]))


@torch.no_grad()
def _lengths(
    metric: Metric, a: Tensor, b: Tensor, along: Along, steps: int, points: int, memory: int
) -> Float[Tensor, " n"]:
    """The distances, of ends and a metric that have been looked at."""
    rows = _rows(metric, a, steps, memory)
    parts = list(zip(a.split(rows), b.split(rows), strict=True))
    found = gathered(
        lambda a, b: _length(metric, a, b, along, steps, points, memory), parts, len(a)
    )
    if wrong := int((~found.isfinite()).sum()):
        raise InputError(
            f"the length of {wrong} of {len(found)} curves is not finite: the metric is not finite "
            "along them, or not positive semidefinite."
        )
    return found


def _length(
    metric: Metric, a: Tensor, b: Tensor, along: Along, steps: int, points: int, memory: int
) -> Tensor:
    if along == "geodesic":
        return curve_length(metric, geodesics(metric, a, b, steps, points, memory))
    t = torch.linspace(0, 1, steps + 1, dtype=a.real.dtype, device=a.device)[:, None]
    return curve_length(metric, (1 - t) * a[:, None] + t * b[:, None])
