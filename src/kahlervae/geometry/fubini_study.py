"""The geometry of pure states, in closed form: what a decoder of them is held against.

Pure states of n levels are unit vectors ψ of C^n up to phase, the points of the complex projective
space of dimension d = n − 1. Its metric is Kähler: the truth that a chart of it is compared with.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.geometry.latents import check_latents

__all__ = [
    "fubini_study_distance",
    "fubini_study_geodesic",
    "fubini_study_metric",
    "fubini_study_potential",
    "states_around",
]


def fubini_study_potential(z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
    r""":math:`K(z) = \log(1 + |z|^2)` in the affine chart, where z is the state (1, z)/‖(1, z)‖.

    Example:
        >>> fubini_study_potential(torch.zeros(1, 2, dtype=torch.complex64))
        tensor([0.])
    """
    return torch.log1p(_square(check_latents(z)))


def fubini_study_metric(z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
    r"""Fubini–Study metric in the affine chart, :math:`\partial_i \bar\partial_j \log(1 + |z|^2)`.

    .. math:: g_{i\bar j} = \frac{\delta_{ij}}{1 + |z|^2}
              - \frac{\bar z_i z_j}{(1 + |z|^2)^2}, \qquad \det g = (1 + |z|^2)^{-(d + 1)}

    Its Ricci form is (d + 1) g, its holomorphic sectional curvature constant, its volume
    :math:`\pi^d / d!` (of det g), and curves have the lengths of
    :func:`~kahlervae.geometry.geodesic.curve_length` of which
    :func:`fubini_study_distance` is the least.

    Raises:
        InputError: see :func:`~kahlervae.geometry.latents.check_latents`.

    Example:
        >>> from kahlervae.geometry import mixed_hessian
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
        >>> hessian = mixed_hessian(fubini_study_potential, z)
        >>> torch.allclose(fubini_study_metric(z), hessian, atol=1e-6)
        True
    """
    z = check_latents(z)
    scale = (1 + _square(z))[:, None, None]
    identity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return identity / scale - z.conj()[:, :, None] * z[:, None] / scale.square()


def fubini_study_distance(
    states: Complex[Tensor, "*batch levels"], others: Complex[Tensor, "*batch levels"]
) -> Float[Tensor, "*batch"]:
    r"""Geodesic distance :math:`\arccos |\langle\psi, \varphi\rangle|`, from 0 to π/2.

    By the arctangent of both parts of φ, along ψ and across it, which keeps the digits of small
    distances.

    Args:
        states: unit vectors ψ of any phase.
        others: φ.

    Example:
        >>> states = torch.tensor([[1 + 0j, 0], [1, 0], [1, 0]])
        >>> others = torch.tensor([[1j, 0], [0, 1], [0.6, 0.8j]])
        >>> fubini_study_distance(states, others)
        tensor([0.0000, 1.5708, 0.9273])
    """
    along = (states.conj() * others).sum(-1, keepdim=True)
    across = torch.linalg.vector_norm(others - along * states, dim=-1)
    return torch.atan2(across, along.squeeze(-1).abs())


def fubini_study_geodesic(
    start: Complex[Tensor, "n levels"], end: Complex[Tensor, "n levels"], steps: int
) -> Complex[Tensor, "n steps+1 levels"]:
    r"""Shortest curves between states, at equal times.

    .. math:: \psi(t) = \cos(t\theta)\, \psi_0 + \sin(t\theta)\, u, \qquad
              u \propto e^{-i\alpha} \psi_1 - \cos\theta\, \psi_0

    with θ the distance and α the phase of :math:`\langle\psi_0, \psi_1\rangle`. There are several
    between orthogonal states, of which this is one.

    Example:
        >>> start, end = torch.tensor([[1 + 0j, 0]]), torch.tensor([[0, 1j]])
        >>> curve = fubini_study_geodesic(start, end, 2)
        >>> curve[0, 1].abs()
        tensor([0.7071, 0.7071])
    """
    along = (start.conj() * end).sum(-1, keepdim=True)
    # A phase of 1 where the states are orthogonal and there is none.
    phase = torch.where(along.abs() > 0, along / along.abs(), 1)
    across = phase.conj() * end - along.abs() * start
    size = torch.linalg.vector_norm(across, dim=-1, keepdim=True)
    direction = torch.where(size > 0, across / size, 0)
    t = torch.linspace(0, 1, steps + 1, dtype=size.dtype, device=size.device)
    angle = (fubini_study_distance(start, end)[:, None] * t).unsqueeze(-1)
    return torch.cos(angle) * start[:, None] + torch.sin(angle) * direction[:, None]


def states_around(
    states: Complex[Tensor, "n levels"], w: Complex[Tensor, "n d"]
) -> Complex[Tensor, "n levels"]:
    r"""The affine chart around each state, :math:`(\psi + U w) / \sqrt{1 + |w|^2}`.

    The columns of U are an orthonormal basis of what is orthogonal to ψ, so that every chart has
    the metric of :func:`fubini_study_metric`, the identity at w = 0.

    Example:
        >>> states = torch.tensor([[0.6, 0.8j, 0]])
        >>> w = torch.tensor([[0.3, 0.4j]])
        >>> round(fubini_study_distance(states, states_around(states, w)).tan().item(), 4)
        0.5
    """
    *_, rows = torch.linalg.svd(states.conj().unsqueeze(1))
    across = rows[:, 1:].mH @ w.unsqueeze(-1)
    scale = torch.sqrt(1 + _square(w)).unsqueeze(-1)
    return (states + across.squeeze(-1)) / scale


def _square(z: Tensor) -> Tensor:
    """|z|² with a second derivative at 0, which ``abs()**2`` lacks."""
    return (z.real.square() + z.imag.square()).sum(-1)
