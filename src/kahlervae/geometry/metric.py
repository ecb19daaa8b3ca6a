"""Metrics at the door: any function of latents that returns Hermitian matrices."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Complex, Num
from torch import Tensor

from kahlervae.errors import InputError, out_of_memory
from kahlervae.geometry.latents import latent_unit

__all__ = ["Metric", "check_differentiable", "check_metric", "is_hermitian"]

Metric = Callable[[Tensor], Tensor]
"""Points (n, d) to Hermitian matrices (n, d, d), row by row."""


def check_metric(metric: Metric, z: Complex[Tensor, "n d"]) -> None:
    """Look at the matrices of a metric at the first two latents, or say what is wrong.

    Every public function that takes a metric calls this once, on latents that are checked.

    Raises:
        InputError: it fails, returns something else than Hermitian matrices of the latents'
            precision for every row, or some that are not finite or not positive semidefinite.

    Example:
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
        >>> check_metric(lambda z: -torch.eye(2, dtype=z.dtype).expand(len(z), 2, 2), z)
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: the metric has the eigenvalue -1 at [1+2j, 0.5-1j]: it is none.
    """
    rows = z[:2].detach()
    if not len(rows):
        return
    if callable(getattr(metric, "metric", None)):
        raise InputError(
            f"a {type(metric).__name__} is given where its metric is asked for: give its method "
            "metric."
        )
    with torch.no_grad():
        value = _value(metric, rows)
    if not isinstance(value, Tensor):
        raise InputError(
            f"the metric returns a {type(value).__name__} in the place of matrices: of a decoder "
            "give functools.partial(fisher_metric, decoder)."
        )
    expected = (*rows.shape, rows.shape[1])
    if value.shape != expected:
        raise InputError(
            f"the metric returns the shape {tuple(value.shape)} for latents {tuple(rows.shape)}, "
            f"not {expected}: let it have a matrix for every row."
        )
    if value.dtype != rows.dtype:
        raise InputError(
            f"the metric is {_name(value)} where the latents are {_name(rows)}: give it their type."
        )
    _check_matrices(value, rows)


def check_differentiable(metric: Metric, z: Complex[Tensor, "n d"]) -> None:
    """:func:`check_metric`, and that derivatives of the metric are not those of a constant.

    Raises:
        InputError: as there, or torch does not follow how the matrices come from the latents.

    Example:
        >>> disc = lambda z: ((1 - z.abs() ** 2) ** -2).to(z.dtype)[..., None]  # (n, 1, 1)
        >>> check_differentiable(lambda z: disc(z.detach()), torch.tensor([[0.5j]]))
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: the metric changes with the latents, and torch does not \
follow how: compute it from them by operations of torch, neither detached nor under torch.no_grad.
    """
    check_metric(metric, z)
    if not len(z) or torch.is_inference_mode_enabled():  # which has no graph to look at
        return
    row = z[:1].detach()
    with torch.enable_grad():
        value = _value(metric, row.clone().requires_grad_())
    if value.requires_grad:
        return
    step = 0.1 * latent_unit(row)
    with torch.no_grad():
        changes = [_value(metric, row + sign * step) - value for sign in (1, -1)]
    rounding = torch.finfo(value.dtype).eps ** 0.5 * value.abs().max()
    if any((change.abs() > rounding).any() for change in changes):
        raise InputError(
            "the metric changes with the latents, and torch does not follow how: compute it from "
            "them by operations of torch, neither detached nor under torch.no_grad."
        )


def _value(metric: Metric, rows: Tensor) -> Tensor:
    try:
        return metric(rows)
    except InputError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"the metric fails at latents of shape {tuple(rows.shape)} ({reason})."
        ) from error


def _check_matrices(value: Tensor, rows: Tensor) -> None:
    double = value.to(torch.complex128)
    if not value.isfinite().all():
        bad = int((~double.isfinite()).flatten(1).any(1).nonzero()[0])
        raise InputError(f"the metric is not finite at {_point(rows[bad])}.")
    skew = ~is_hermitian(value)
    if skew.any():
        raise InputError(
            f"the metric is not Hermitian at {_point(rows[int(skew.nonzero()[0])])}: "
            "return matrices with g = g.mH."
        )
    rounding = torch.finfo(value.dtype).eps ** 0.5 * double.flatten(1).norm(dim=1)
    least = torch.linalg.eigvalsh(double)[:, 0]
    if (least < -rounding).any():
        bad = int((least + rounding).argmin())
        raise InputError(
            f"the metric has the eigenvalue {least[bad]:.3g} at {_point(rows[bad])}: it is none."
        )


def is_hermitian(matrices: Num[Tensor, "*batch d d"]) -> Bool[Tensor, "*batch"]:
    r"""Whether :math:`|G - G^*| \le \sqrt{\varepsilon}\,|G|` in the largest entry, at any scale.

    With the rounding unit ε of single precision, in which matrices of double may have been made.
    """
    skew, size = (_largest(x.detach()) for x in (matrices - matrices.mH, matrices))
    return skew <= torch.finfo(torch.float32).eps ** 0.5 * size


def _largest(matrices: Num[Tensor, "*batch d d"]) -> Num[Tensor, "*batch"]:
    """Moduli of the largest entries, without ``abs``: where that is differentiated, 0 has one."""
    parts = (matrices.real, matrices.imag) if matrices.is_complex() else (matrices, -matrices)
    sizes = torch.hypot(*parts) if matrices.is_complex() else torch.maximum(*parts)
    return sizes.amax((-2, -1))


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _point(z: Tensor) -> str:
    numbers = [f"{x.real:.3g}{x.imag:+.3g}j" for x in z.tolist()[:4]]
    return f"[{', '.join([*numbers, '...'] if len(z) > 4 else numbers)}]"
