"""How Kähler a metric is."""

from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.geometry.fisher import Decoder, fisher_form
from kahlervae.geometry.wirtinger import hermitian_part, holomorphic_part, wirtinger

__all__ = ["closedness_defect", "hermitian_defect", "smallest_eigenvalue"]


def hermitian_defect(decoder: Decoder, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
    r""":math:`\|g_{ij}\|_F / \|g_{i\bar j}\|_F` of the Fisher information.

    Zero where the real Fisher metric is Hermitian (invariant under multiplication by i), at most 1.
    """
    form = fisher_form(decoder, z)
    relation, metric = holomorphic_part(form), hermitian_part(form)
    return torch.linalg.matrix_norm(relation) / torch.linalg.matrix_norm(metric)


def closedness_defect(
    metric: Callable[[Tensor], Tensor], z: Complex[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    r""":math:`\|\partial_k g_{i\bar j} - \partial_i g_{k\bar j}\| / \|\partial_k g_{i\bar j}\|`.

    Zero where the Kähler form is closed. Every metric is closed at d = 1. Where the metric is
    constant to working precision, :math:`\|\partial g\| \le \epsilon^{1/3} \|g\|` with the rounding
    unit ε, the quotient is noise over noise and the defect is 0 by definition.

    Args:
        metric: maps (n, d) to Hermitian matrices (n, d, d), row by row.
        z: where.
    """
    value, derivative, _ = wirtinger(metric, z)  # [n, i, j, k] = ∂_k g_ij̄
    defect = (derivative - derivative.transpose(1, 3)).flatten(1).norm(dim=1)
    size = derivative.flatten(1).norm(dim=1)
    rounding = torch.finfo(z.real.dtype).eps ** (1 / 3) * torch.linalg.matrix_norm(value)
    return torch.where(size > rounding, defect / size, 0.0)


def smallest_eigenvalue(metric: Complex[Tensor, "n d d"]) -> Float[Tensor, " n"]:
    """Smallest eigenvalue at every point: non-negative where the metric is a metric."""
    return torch.linalg.eigvalsh(metric)[..., 0]
