"""How Kähler a metric is."""

from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.geometry.decoder import Decoder
from kahlervae.geometry.fisher import fisher_form
from kahlervae.geometry.latents import check_latents, latent_unit
from kahlervae.geometry.memory import MEMORY, chunks, gathered
from kahlervae.geometry.metric import check_differentiable, is_hermitian
from kahlervae.geometry.wirtinger import hermitian_part, holomorphic_part, wirtinger

__all__ = [
    "closedness_defect",
    "hermitian_defect",
    "relative_size",
    "scaled",
    "smallest_eigenvalue",
]


def hermitian_defect(
    decoder: Decoder, z: Complex[Tensor, "n d"], memory: int = MEMORY
) -> Float[Tensor, " n"]:
    r""":math:`\|g_{ij}\|_F / \|g_{i\bar j}\|_F` of the Fisher information.

    Zero where the real Fisher metric is Hermitian (invariant under multiplication by i), at most 1.

    For large d :func:`~kahlervae.geometry.estimate.estimate_hermitian_defect` is cheaper.

    Args and errors: see :func:`~kahlervae.geometry.fisher.fisher_metric`.

    Example:
        A decoder that sees the real part only is as far from Hermitian as can be:

        >>> from kahlervae.models import RealGaussian
        >>> def decoder(z):
        ...     return RealGaussian(z.real, torch.zeros(z.shape))
        >>> hermitian_defect(decoder, torch.tensor([[1 + 2j]]))
        tensor([1.])
    """
    form = fisher_form(decoder, z, memory)
    relation, metric = holomorphic_part(form), hermitian_part(form)
    return relative_size(relation, metric)


def closedness_defect(
    metric: Callable[[Tensor], Tensor], z: Complex[Tensor, "n d"], memory: int = MEMORY
) -> Float[Tensor, " n"]:
    r""":math:`\|\partial_k g_{i\bar j} - \partial_i g_{k\bar j}\| / \|\partial_k g_{i\bar j}\|`.

    Zero where the Kähler form is closed. Every metric is closed at d = 1. Where the metric is
    constant to working precision, :math:`\ell\,\|\partial g\| \le \epsilon^{1/3} \|g\|` with the
    rounding unit ε and the :func:`~kahlervae.geometry.latents.latent_unit` ℓ, the quotient is noise
    over noise and the defect is 0 by definition.

    Args:
        metric: maps (n, d) to Hermitian matrices (n, d, d), row by row.
        z: where.
        memory: bytes beyond the result that may be taken, by and large.

    Raises:
        InputError: see :func:`~kahlervae.geometry.latents.check_latents`.

    Example:
        ``diag(1 + |z₁|², 1)`` is closed, ``diag(1 + |z₂|², 1)`` is not:

        >>> def metric(z, k):
        ...     square = (z[:, k] * z[:, k].conj()).real
        ...     return torch.diag_embed(torch.stack([1 + square, torch.ones(len(z))], dim=-1)) + 0j
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
        >>> [round(closedness_defect(lambda z: metric(z, k), z).item(), 4) for k in (0, 1)]
        [0.0, 1.4142]
    """
    z = check_latents(z)
    if not len(z):
        return z.real.new_zeros(0)
    check_differentiable(metric, z)
    rows, directions = chunks(metric, z, memory)
    parts = z.split(rows)
    unit = latent_unit(z)
    return gathered(lambda part: _closedness_defect(metric, part, directions, unit), parts, len(z))


def _closedness_defect(
    metric: Callable[[Tensor], Tensor], z: Tensor, directions: int, unit: float
) -> Tensor:
    value, derivative, _ = wirtinger(metric, z, directions)  # [n, i, j, k] = ∂_k g_ij̄
    value, derivative = scaled(value, derivative)
    defect = (derivative - derivative.transpose(1, 3)).flatten(1).norm(dim=1)
    size = derivative.flatten(1).norm(dim=1)
    rounding = torch.finfo(z.real.dtype).eps ** (1 / 3) * torch.linalg.matrix_norm(value)
    return torch.where(unit * size <= rounding, 0.0, defect / size)


def relative_size(
    part: Complex[Tensor, "n d d"], metric: Complex[Tensor, "n d d"]
) -> Float[Tensor, " n"]:
    """Norm of a part of a metric over that of the metric; 0 where there is nothing of either.

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> relative_size(one, 4 * one), relative_size(0 * one, 0 * one)
        (tensor([0.2500]), tensor([0.]))
    """
    sizes = [torch.linalg.matrix_norm(matrices) for matrices in scaled(part, metric)]
    return torch.where((sizes[0] == 0) & (sizes[1] == 0), 0.0, sizes[0] / sizes[1])


def scaled(*tensors: Tensor) -> list[Tensor]:
    """Tensors (n, ...) over the power of two next to the largest entry of all, at every point.

    No square of theirs overflows then, and no digit is lost.

    Example:
        >>> scaled(torch.tensor([[6.0, -4.0], [0.0, 0.0]]), torch.tensor([[2j], [0j]]))[0]
        tensor([[ 1.5000, -1.0000],
                [ 0.0000,  0.0000]])
    """
    largest = torch.stack([tensor.flatten(1).abs().amax(1) for tensor in tensors]).amax(0)
    largest = largest.clamp_min(torch.finfo(largest.dtype).tiny)  # none is 0
    mantissa, _ = torch.frexp(largest)  # from a half to 1
    unit = largest / (2 * mantissa)
    return [tensor / unit.view(-1, *[1] * (tensor.dim() - 1)) for tensor in tensors]


def smallest_eigenvalue(metric: Complex[Tensor, "n d d"]) -> Float[Tensor, " n"]:
    """Smallest eigenvalue at every point: non-negative where the metric is a metric.

    NaN where the matrix is not Hermitian to three digits.

    Example:
        >>> metric = torch.tensor([[[2, 1j], [-1j, 2]]])  # its eigenvalues are 1 and 3
        >>> round(smallest_eigenvalue(metric).item(), 4)
        1.0
    """
    return torch.linalg.eigvalsh(metric)[..., 0].masked_fill(~is_hermitian(metric), torch.nan)
