"""Volume and curvature of a Hermitian metric."""

from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.geometry.latents import check_latents
from kahlervae.geometry.memory import MEMORY, along_one, check_memory, gathered
from kahlervae.geometry.metric import check_differentiable, is_hermitian
from kahlervae.geometry.wirtinger import mixed_hessian

__all__ = ["log_det", "ricci", "scalar_curvature", "volume_element"]


def log_det(metric: Complex[Tensor, "*batch d d"], epsilon: float = 0.0) -> Float[Tensor, "*batch"]:
    r""":math:`\log\det(G + \epsilon I)` by Cholesky; NaN where that is none.

    That is where G + εI is not positive definite, or G not Hermitian to three digits, as
    :func:`~kahlervae.geometry.metric.check_metric` asks: Cholesky reads one triangle only.

    Example:
        >>> metric = torch.tensor([[2, 1j], [-1j, 2]])
        >>> round(log_det(metric).exp().item(), 4)
        3.0
        >>> log_det(torch.stack([-metric, metric.tril()]))
        tensor([nan, nan])
    """
    identity = torch.eye(metric.shape[-1], dtype=metric.dtype, device=metric.device)
    factor, failed = torch.linalg.cholesky_ex(metric + epsilon * identity)
    log_dets = 2 * factor.diagonal(dim1=-2, dim2=-1).real.log().sum(-1)
    return log_dets.masked_fill((failed > 0) | ~is_hermitian(metric), torch.nan)


def solved(metric: Complex[Tensor, "n d d"], right: Complex[Tensor, "n d k"]) -> Tensor:
    """G⁻¹ times the right side; NaN where G is singular."""
    solution, failed = torch.linalg.solve_ex(metric, right)
    return solution.masked_fill((failed > 0)[:, None, None], torch.nan)


def volume_element(metric: Complex[Tensor, "*batch d d"]) -> Float[Tensor, "*batch"]:
    r"""Density of the Riemannian volume in the real coordinates (a, b): :math:`2^d \det G`.

    It is the square root of the determinant of the real 2d×2d metric, hence no root of det G.

    Example:
        >>> metric = torch.tensor([[2, 1j], [-1j, 2]])  # det G = 3
        >>> round(volume_element(metric).item(), 4)
        12.0
    """
    return torch.exp(log_det(2 * metric))


def ricci(
    metric: Callable[[Tensor], Tensor], z: Complex[Tensor, "n d"], memory: int = MEMORY
) -> Complex[Tensor, "n d d"]:
    r"""Ricci form of a Kähler metric, :math:`R_{i\bar j} = -\partial_i\bar\partial_j \log\det g`.

    Fubini–Study, ``K = log(1 + |z|²)``, has R = (d + 1) g; the ball, ``K = −log(1 − |z|²)``, has
    R = −(d + 1) g. NaN where the metric is not positive definite.

    Args:
        metric: maps (n, d) to Hermitian positive definite matrices (n, d, d), row by row.
        z: where.
        memory: bytes beyond the result that may be taken, by and large.

    Raises:
        InputError: see :func:`~kahlervae.geometry.latents.check_latents`.

    Example:
        >>> def fubini_study(z):  # ∂∂̄ log(1 + |z|²)
        ...     s = 1 + (z * z.conj()).sum(-1)[:, None, None]
        ...     return torch.eye(z.shape[1]) / s - z.conj()[:, :, None] * z[:, None] / s**2
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]], dtype=torch.complex128)
        >>> torch.allclose(ricci(fubini_study, z), 3 * fubini_study(z))
        True
    """
    z = check_latents(z)
    if not len(z):
        return z.new_zeros(0, z.shape[1], z.shape[1])
    check_differentiable(metric, z)
    check_memory(memory)
    # Directions go one by one, each of which keeps about four times what the value alone makes.
    rows = along_one(metric, z, memory // 4)
    return gathered(lambda part: _ricci(metric, part), z.split(rows), len(z))


def _ricci(metric: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    # Of a log det that is no number, derivatives are those of a constant, 0.
    without = ~log_det(metric(z)).isfinite()
    curvature = -mixed_hessian(lambda p: log_det(metric(p)), z)
    return curvature.masked_fill(without[:, None, None], torch.nan)


def scalar_curvature(
    metric: Callable[[Tensor], Tensor], z: Complex[Tensor, "n d"], memory: int = MEMORY
) -> Float[Tensor, " n"]:
    r""":math:`\mathrm{tr}(G^{-1} R)`, the Kähler scalar curvature: half the Riemannian one.

    NaN where the metric is not positive definite.

    Args: see :func:`ricci`.

    Raises:
        InputError: see :func:`~kahlervae.geometry.latents.check_latents`.

    Example:
        The sphere, Fubini–Study at d = 1, has d(d + 1) = 2 everywhere:

        >>> z = torch.tensor([[0j], [1 + 2j]], dtype=torch.complex128)
        >>> curvature = scalar_curvature(lambda z: (1 + z * z.conj()).unsqueeze(-1) ** -2, z)
        >>> [round(value, 6) for value in curvature.tolist()]
        [2.0, 2.0]
    """
    z = check_latents(z)
    curvature = ricci(metric, z, memory)
    ratio = solved(metric(z), curvature)
    return ratio.diagonal(dim1=-2, dim2=-1).sum(-1).real
