"""How close two Hermitian metrics are."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.geometry.metric import is_hermitian

__all__ = ["affine_invariant_distance", "best_constant_metric", "relative_error"]


def relative_error(
    metric: Complex[Tensor, "n d d"], reference: Complex[Tensor, "n d d"]
) -> Float[Tensor, " n"]:
    r""":math:`\|G - G_0\|_F / \|G_0\|_F` at every point, in double precision.

    Example:
        >>> flat = torch.eye(2, dtype=torch.complex64).expand(3, 2, 2)
        >>> relative_error(1.5 * flat, flat)
        tensor([0.5000, 0.5000, 0.5000])
    """
    double, exact = metric.to(torch.complex128), reference.to(torch.complex128)
    error = torch.linalg.matrix_norm(double - exact) / torch.linalg.matrix_norm(exact)
    return error.to(torch.promote_types(metric.real.dtype, torch.float32))  # of integers as well


def affine_invariant_distance(
    metric: Complex[Tensor, "n d d"], reference: Complex[Tensor, "n d d"]
) -> Float[Tensor, " n"]:
    r"""Affine-invariant Riemannian distance of positive definite matrices.

    .. math:: \| \log( G_0^{-1/2} G\, G_0^{-1/2} ) \|_F = \sqrt{\textstyle\sum_i \log^2 \lambda_i}

    with the generalised eigenvalues λ of (G, G₀); invariant under changes of coordinates (Pennec,
    Fillard & Ayache 2006). In double precision; infinite where one of the two is singular, NaN
    where one is not Hermitian to three digits.

    Example:
        √d times the logarithm of a common factor, here e, whatever the metric:

        >>> flat = torch.eye(4, dtype=torch.complex128).unsqueeze(0)
        >>> round(affine_invariant_distance(torch.e * flat, flat).item(), 6)
        2.0
    """
    factor, failed = torch.linalg.cholesky_ex(reference.to(torch.complex128))
    half = torch.linalg.solve_triangular(factor, metric.to(torch.complex128), upper=False)
    whitened = torch.linalg.solve_triangular(factor, half.mH, upper=False)
    singular = (failed > 0) | ~whitened.isfinite().all(-1).all(-1)
    whitened = torch.where(singular[..., None, None], 0, whitened)
    logarithms = torch.linalg.eigvalsh(whitened).clamp_min(0).log()
    lost = ~(is_hermitian(metric) & is_hermitian(reference))
    distances = logarithms.square().sum(-1).sqrt().masked_fill(lost, torch.nan)
    return distances.to(metric.real.dtype)


def best_constant_metric(metrics: Complex[Tensor, "n d d"]) -> Complex[Tensor, "d d"]:
    r"""The constant with the least mean squared relative Frobenius error to the given metrics.

    .. math:: \arg\min_C \sum_n \frac{\|C - G_n\|^2}{\|G_n\|^2}
              = \frac{\sum_n G_n / \|G_n\|^2}{\sum_n 1 / \|G_n\|^2}

    The baseline that any potential has to beat.

    Raises:
        InputError: there are no metrics, or one is 0 or not finite, so that no error is relative to
            it.

    Example:
        Nearer to the smaller one, for errors are relative:

        >>> best_constant_metric(torch.tensor([[[1 + 0j]], [[3 + 0j]]])).real
        tensor([[1.2000]])
    """
    if not len(metrics):
        raise InputError("there are no metrics: a constant one is regressed on one at least.")
    norms = torch.linalg.matrix_norm(metrics)
    if wrong := int((~(norms.isfinite() & (norms > 0))).sum()):
        raise InputError(
            f"{wrong} of {len(metrics)} metrics are 0, not finite, or too large for their "
            "precision: leave them out, or take double precision."
        )
    weights = (norms / norms.amin()) ** -2  # at most 1, however small metrics are
    return torch.einsum("n,nij->ij", (weights / weights.sum()).to(metrics.dtype), metrics)
