"""Volume elements in closed form, and the density on a grid that samplers are held against."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor


class Growing:
    """g = (1 + |z|²) I."""

    def log_det(self, z: Tensor, epsilon: float) -> Tensor:
        squares = (z.real.square() + z.imag.square()).sum(-1)
        return z.shape[-1] * torch.log(1 + squares + epsilon)


class Mixture:
    """g of K = log Σ_k exp(c_k + 2 Re(conj(b_k) z) + a_k |z|²) on C: within plus between."""

    a = torch.tensor([0.1, 0.6, 1.2, 0.3], dtype=torch.float64)
    b = torch.tensor([1.5 - 0.7j, -1.4 + 0.4j, 0.4 + 1.5j, -0.3 - 1.2j], dtype=torch.complex128)
    c = torch.tensor([0.0, 0.5, -0.5, 0.2], dtype=torch.float64)

    def log_det(self, z: Tensor, epsilon: float) -> Tensor:
        squares = z.real.square() + z.imag.square()
        w = torch.softmax(self.c + 2 * (self.b.conj() * z).real + self.a * squares, dim=-1)
        u = self.b + self.a * z
        centred = u - (w * u).sum(-1, keepdim=True)
        variance = (w * (centred.real.square() + centred.imag.square())).sum(-1)
        return torch.log((w * self.a).sum(-1) + variance + epsilon)


class Tilt:
    """log det = c·x in the coordinates x = (a, b): it turns Gaussians into Gaussians."""

    def __init__(self, slope: Tensor) -> None:
        self.slope = slope

    def log_det(self, z: Tensor, epsilon: float) -> Tensor:
        return torch.cat([z.real, z.imag], dim=-1).to(self.slope) @ self.slope


@pytest.fixture
def tilt() -> type[Tilt]:
    return Tilt


@pytest.fixture
def growing() -> Growing:
    return Growing()


@pytest.fixture
def mixture() -> Mixture:
    return Mixture()


@pytest.fixture
def total_variation() -> Callable[[Tensor, Callable[[Tensor], Tensor]], float]:
    """Total variation distance on C, over squares of width ½, of draws from a density."""

    def distance(latents: Tensor, log_density: Callable[[Tensor], Tensor]) -> float:
        extent, squares, fine = 5.0, 20, 20
        step = 2 * extent / (squares * fine)
        axis = (torch.arange(squares * fine, dtype=torch.float64) + 0.5) * step - extent
        grid = torch.complex(*torch.meshgrid(axis, axis, indexing="ij"))
        density = torch.softmax(log_density(grid.reshape(-1, 1)), dim=0)
        expected = density.reshape(squares, fine, squares, fine).sum((1, 3)).numpy()
        z = latents.reshape(-1).numpy()
        limits = [[-extent, extent]] * 2
        counts, *_ = np.histogram2d(z.real, z.imag, bins=squares, range=limits)
        outside = len(z) - counts.sum()
        return 0.5 * float(np.abs(counts / len(z) - expected).sum() + outside / len(z))

    return distance
