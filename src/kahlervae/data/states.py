"""Pure quantum states as noisy density matrices: data whose geometry is known in closed form."""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.seeding import generator

__all__ = ["density_coordinates", "make_states", "nearest_states"]


def make_states(
    levels: int, count: int, noise: float, seed: int
) -> tuple[Float[Tensor, "count levels²"], Complex[Tensor, "count levels"]]:
    r"""Haar-random pure states, and their density matrices as they are measured.

    .. math:: x = \mathrm{vec}(\psi\psi^\dagger) + \sigma \epsilon, \qquad
              \psi \sim \text{uniform on the sphere of } C^n, \quad \epsilon \sim N(0, I)

    with vec the isometry of :func:`density_coordinates`. The Fisher information of ψ ↦ x is
    Fubini–Study over σ²: with d = n − 1 affine coordinates z its Hermitian metric is
    :math:`\partial\bar\partial \log(1 + |z|^2) / \sigma^2`, and no (2,0) part is left
    (docs/theory.md, section 16).

    Args:
        levels: n.
        count: of the states.
        noise: σ.
        seed: of states and noise.

    Returns:
        The samples x, and the states without their phase: the largest entry is real and positive.

    Example:
        >>> samples, states = make_states(levels=3, count=5, noise=0.0, seed=0)
        >>> samples.shape, states.shape
        (torch.Size([5, 9]), torch.Size([5, 3]))
        >>> torch.allclose(samples, density_coordinates(states), atol=1e-6)
        True
    """
    draws = torch.randn(count, levels, dtype=torch.complex128, generator=generator(seed, "states"))
    states = draws / torch.linalg.vector_norm(draws, dim=1, keepdim=True)
    largest = states.gather(1, states.abs().argmax(1, keepdim=True))
    states = states * largest.conj() / largest.abs()
    clean = density_coordinates(states)
    error = torch.randn(clean.shape, dtype=clean.dtype, generator=generator(seed, "noise"))
    return (clean + noise * error).float(), states.to(torch.complex64)


def density_coordinates(
    states: Complex[Tensor, "*batch levels"],
) -> Float[Tensor, "*batch levels²"]:
    r"""The density matrix :math:`\rho = \psi\psi^\dagger` in n² real coordinates.

    The diagonal, then √2 times the real and √2 times the imaginary parts above it: Euclidean
    distances are those of matrices, :math:`\|\rho - \rho'\|_F`.

    Example:
        >>> density_coordinates(torch.tensor([0.6, 0.8j]))
        tensor([ 0.3600,  0.6400,  0.0000, -0.6788])
    """
    row, column = torch.triu_indices(states.shape[-1], states.shape[-1], 1)
    above = math.sqrt(2) * states[..., row] * states[..., column].conj()
    diagonal = states.real.square() + states.imag.square()
    return torch.cat([diagonal, above.real, above.imag], dim=-1)


def nearest_states(x: Float[Tensor, "*batch levels²"]) -> Complex[Tensor, "*batch levels"]:
    """The pure state next to each matrix with those coordinates: its leading eigenvector.

    Example:
        >>> states = torch.tensor([[0.6, 0.8j, 0]])
        >>> nearest = nearest_states(density_coordinates(states))
        >>> round((nearest.conj() * states).sum().abs().item(), 4)
        1.0
    """
    levels = math.isqrt(x.shape[-1])
    row, column = torch.triu_indices(levels, levels, 1)
    diagonal, real, imaginary = x.split([levels, len(row), len(row)], dim=-1)
    above = torch.complex(real, imaginary) / math.sqrt(2)
    matrix = torch.diag_embed(diagonal.to(above.dtype))
    matrix[..., row, column] = above
    matrix[..., column, row] = above.conj()
    return torch.linalg.eigh(matrix).eigenvectors[..., -1]
