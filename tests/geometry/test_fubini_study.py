"""Fubini–Study in closed form, against derivatives, the package's geometry, and each other."""

import math

import pytest
import torch
from scipy.integrate import quad

from kahlervae.data.states import density_coordinates, make_states
from kahlervae.geometry import (
    closedness_defect,
    fisher_metric,
    fisher_relation,
    log_det,
    mixed_hessian,
    ricci,
    scalar_curvature,
)
from kahlervae.geometry.fubini_study import (
    fubini_study_distance,
    fubini_study_geodesic,
    fubini_study_metric,
    fubini_study_potential,
    states_around,
)
from kahlervae.geometry.geodesic import curve_length, geodesics
from kahlervae.models import RealGaussian


def latents(d, count=20):
    stream = torch.Generator().manual_seed(d)
    return torch.randn(count, d, dtype=torch.complex128, generator=stream)


def state(z):
    """The state (1, z)/‖(1, z)‖ of an affine coordinate."""
    psi = torch.cat([torch.ones_like(z[..., :1]), z], dim=-1)
    return psi / (psi.real.square() + psi.imag.square()).sum(-1, keepdim=True).sqrt()


def haar(levels, count, seed):
    states = make_states(levels, count, 0.0, seed)[1].to(torch.complex128)
    return states / torch.linalg.vector_norm(states, dim=1, keepdim=True)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_metric_is_the_hessian_of_the_potential_and_kahler_of_constant_curvature(d):
    z = latents(d)
    metric = fubini_study_metric(z)
    torch.testing.assert_close(metric, mixed_hessian(fubini_study_potential, z))
    assert closedness_defect(fubini_study_metric, z).max() < 1e-9
    torch.testing.assert_close(ricci(fubini_study_metric, z), (d + 1) * metric)
    curvature = scalar_curvature(fubini_study_metric, z)
    torch.testing.assert_close(curvature, torch.full_like(curvature, d * (d + 1)))
    square = z.abs().square().sum(1)
    torch.testing.assert_close(log_det(metric), -(d + 1) * torch.log1p(square))


@pytest.mark.parametrize("d", [1, 2, 3])
def test_volume_is_that_of_the_projective_space(d):
    """∫ det g over C^d in polar coordinates: π^d / d!."""
    sphere = 2 * math.pi**d / math.factorial(d - 1)

    def shell(r):
        z = torch.zeros(1, d, dtype=torch.complex128)
        z[0, 0] = r
        return sphere * r ** (2 * d - 1) * log_det(fubini_study_metric(z)).exp().item()

    volume, _ = quad(shell, 0, math.inf)
    assert abs(volume - math.pi**d / math.factorial(d)) < 1e-7


def test_it_is_the_fisher_metric_of_density_matrices_in_noise():
    z, noise = latents(2), 0.03

    def decoder(z):
        mean = density_coordinates(state(z))
        return RealGaussian(mean, torch.full_like(mean, 2 * math.log(noise)))

    torch.testing.assert_close(noise**2 * fisher_metric(decoder, z), fubini_study_metric(z))
    assert (noise**2 * fisher_relation(decoder, z)).abs().max() < 1e-12


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_distance_is_the_length_of_the_shortest_curve(levels):
    first, second = haar(levels, 20, 0), haar(levels, 20, 1)
    distance = fubini_study_distance(first, second)
    overlap = (first.conj() * second).sum(1).abs()
    torch.testing.assert_close(distance, torch.arccos(overlap))
    curve = fubini_study_geodesic(first, second, 8)
    torch.testing.assert_close(
        torch.linalg.vector_norm(curve, dim=2), torch.ones(20, 9, dtype=torch.float64)
    )
    assert fubini_study_distance(curve[:, -1], second).max() < 1e-7
    steps = fubini_study_distance(curve[:, :-1], curve[:, 1:])
    torch.testing.assert_close(steps, distance[:, None].expand(-1, 8) / 8)


def test_distance_is_that_of_numerical_geodesics():
    """The minimiser of the energy in the affine chart, of states that lie well within it."""
    ends = 0.5 * latents(2, 12)
    start, end = ends.chunk(2)
    curves = geodesics(fubini_study_metric, start, end, steps=64, points=12)
    lengths = curve_length(fubini_study_metric, curves)
    distance = fubini_study_distance(state(start), state(end))
    torch.testing.assert_close(lengths, distance, rtol=1e-4, atol=0)


def test_small_distances_keep_their_digits():
    psi = haar(3, 5, 0)
    w = 1e-9 * latents(2, 5)
    expected = torch.linalg.vector_norm(w, dim=1)
    torch.testing.assert_close(
        fubini_study_distance(psi, states_around(psi, w)), expected, rtol=1e-5, atol=0
    )


def test_geodesics_of_special_pairs_are_finite():
    psi = haar(3, 4, 0)
    assert fubini_study_geodesic(psi, 1j * psi, 4).isfinite().all()
    start, end = torch.eye(3, dtype=torch.complex128)[:2].split(1)
    curve = fubini_study_geodesic(start, end, 4)
    steps = fubini_study_distance(curve[:, :-1], curve[:, 1:])
    torch.testing.assert_close(steps, torch.full_like(steps, math.pi / 8))


def test_charts_around_states_have_the_metric():
    psi, w = haar(3, 10, 0), latents(2, 10)
    tangent = latents(2, 20)[10:]
    step = 1e-6
    moved = states_around(psi, w + step * tangent), states_around(psi, w - step * tangent)
    speed = fubini_study_distance(*moved) / (2 * step)
    square = (tangent.unsqueeze(1) @ fubini_study_metric(w) @ tangent.conj().unsqueeze(2)).real
    torch.testing.assert_close(speed, square.flatten().sqrt(), rtol=1e-6, atol=0)
