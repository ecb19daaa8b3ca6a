"""Smoothness of representations along decoded latent lines, and sharpness beside it.

A path is a decoded line x(t) = decode((1 − t) z₀ + t z₁), t = 0, 1/T, ..., 1. Blur is smooth too:
no number of smoothness is read without sharpness.
"""

import math

import torch
from jaxtyping import Complex, Float, Int, Num
from torch import Tensor

__all__ = [
    "label_flips",
    "latent_lines",
    "pairs",
    "path_length",
    "relative_acceleration",
    "roughness",
    "speed_variation",
    "total_variation",
    "turning",
]


def pairs(available: int, count: int, generator: torch.Generator) -> Int[Tensor, "2 count"]:
    """Indices of ``count`` random pairs of two different out of ``available`` points.

    Drawn at random rather than in order, since consecutive draws of a Markov chain are alike.
    """
    first = torch.randint(available, (count,), generator=generator)
    offset = torch.randint(1, available, (count,), generator=generator)
    return torch.stack([first, (first + offset) % available])


def latent_lines(
    start: Complex[Tensor, "n d"], end: Complex[Tensor, "n d"], steps: int
) -> Complex[Tensor, "n points d"]:
    """Straight lines of T = ``steps`` equal steps, hence T + 1 points, both ends included."""
    t = torch.linspace(0, 1, steps + 1, dtype=start.real.dtype, device=start.device)[:, None]
    return (1 - t) * start[:, None] + t * end[:, None]


def relative_acceleration(
    paths: Num[Tensor, "n points *view"],
) -> Float[Tensor, " n"]:
    r"""Root mean square acceleration of a path of images over its length.

    .. math::
        \frac{\sqrt{\int |\ddot x|^2 dt}}{\int |\dot x| dt} \approx
        \frac{T^2\,[\,\frac{1}{T-1}\sum_t |x_{t+1} - 2x_t + x_{t-1}|^2\,]^{1/2}}
        {\sum_t |x_{t+1} - x_t|}

    in the Euclidean norm of views. It has no unit: neither the contrast of the images nor
    the number of steps nor the scale of the latent space moves it. For a path of constant speed it
    is the angle by which it turns, in radians (θ for an arc of θ of a circle); changes of speed
    add to it; a straight line at constant speed has 0. A path that does not move has 0. Its two
    parts by themselves are :func:`speed_variation` and :func:`turning`.
    """
    velocity = _velocity(paths)
    steps = velocity.shape[1]
    length = velocity.norm(dim=2).sum(1)
    acceleration = steps**2 * velocity.diff(dim=1).square().sum(2).mean(1).sqrt()
    return torch.where(length == 0, 0, acceleration / length)


def speed_variation(paths: Num[Tensor, "n points *view"]) -> Float[Tensor, " n"]:
    r"""Coefficient of variation of the speed :math:`s_t = |x_{t+1} - x_t|` along a path.

    .. math:: \sqrt{\tfrac1T \textstyle\sum_t (s_t - \bar s)^2}\, / \,\bar s

    It has no unit and is what a metric of the latent space can govern: 0 where equal steps of z
    are equal steps of x. A path that does not move has 0.

    Example:
        >>> t = torch.linspace(0, 1, 101, dtype=torch.float64)
        >>> round(speed_variation((t**2)[None, :, None]).item(), 3)  # speed 2t: sd 1/√3 to mean 1
        0.577
    """
    speed = _velocity(paths).norm(dim=2)
    mean = speed.mean(1)
    return torch.where(mean == 0, 0, speed.std(1, correction=0) / mean)


def turning(paths: Num[Tensor, "n points *view"]) -> Float[Tensor, " n"]:
    r"""Sum of the angles between successive steps of a path, in radians.

    .. math:: \sum_t \angle(x_{t+1} - x_t,\ x_t - x_{t-1})

    The other part of roughness. It belongs to the image of the decoder and not to its
    parametrisation: no metric of the latent space sees it along a given curve, and it falls with
    blur. A step of length 0 has no direction and adds nothing.

    Example:
        >>> turning(torch.tensor([[[0.0, 0], [1, 0], [1, 2], [1, 3]]]))
        tensor([1.5708], dtype=torch.float64)
    """
    velocity = _velocity(paths)
    speed = velocity.norm(dim=2, keepdim=True)
    direction = velocity / speed.where(speed > 0, 1)
    before, after = direction[:, :-1], direction[:, 1:]
    # Of unit vectors; the arc cosine of their product would be inexact for small angles.
    angles = 2 * torch.atan2((after - before).norm(dim=2), (after + before).norm(dim=2))
    moving = (speed > 0).squeeze(2)
    return (angles * (moving[:, :-1] & moving[:, 1:])).sum(1)


def roughness(paths: Num[Tensor, "n points *view"]) -> dict[str, float]:
    """Relative acceleration and its two parts, means over the paths."""
    return {
        "acceleration": relative_acceleration(paths).mean().item(),
        "speed_variation": speed_variation(paths).mean().item(),
        "turning": turning(paths).mean().item(),
    }


def _velocity(paths: Num[Tensor, "n points *view"]) -> Float[Tensor, "n steps entries"]:
    parts = torch.view_as_real(paths) if paths.is_complex() else paths
    return parts.double().flatten(2).diff(dim=1)


def path_length(features: Float[Tensor, "n points features"]) -> Float[Tensor, " n"]:
    r"""Length :math:`\sum_t |f_{t+1} - f_t|` of paths in oracle features."""
    return features.double().diff(dim=1).norm(dim=2).sum(1)


def label_flips(labels: Int[Tensor, "n points"]) -> Float[Tensor, " n"]:
    """How often the predicted class changes along each path; 1 is needed between two classes."""
    return (labels.diff(dim=1) != 0).sum(1).double()


def total_variation(views: Num[Tensor, "n *view"]) -> float:
    r"""Mean total variation :math:`\sum_k \sum |\partial_k x|` along the axes k, anisotropic.

    Of three or more axes the last one holds channels, which have no order. The ratio to that of
    real data is the sharpness: below 1 blurred, above 1 sharper than real. NaN where no axis has
    neighbours, as of single numbers.
    """
    x = views.to(torch.complex128) if views.is_complex() else views.double()
    axes = tuple(range(1, x.dim()))
    along = axes if len(axes) < 3 else axes[:-1]
    if all(x.shape[k] == 1 for k in along):
        return math.nan
    return torch.stack([x.diff(dim=k).abs().sum(axes) for k in along]).sum(0).mean().item()
