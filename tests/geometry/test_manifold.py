"""Verbs of a manifold against closed forms, and against each other where there are none."""

import math
from functools import partial

import pytest
import torch
from geometry.decoders import points
from geometry.test_curvature import ball, fubini_study
from geometry.test_geodesic import MODEL_SPACES, mixture

from kahlervae.errors import InputError
from kahlervae.geometry import Manifold, curve_length, fisher_metric
from kahlervae.geometry.geodesic import christoffel
from kahlervae.models import RealGaussian


def homogeneous(z, v, sign):
    """exp of Fubini–Study space (sign 1) or of the ball (−1), by great circles in C^(d+1)."""
    signs = torch.tensor([1.0] + [sign] * z.shape[1], dtype=torch.float64)
    lift = torch.cat([torch.ones_like(z[:, :1]), z], dim=1)
    size = (signs * lift.abs() ** 2).sum(1, keepdim=True).sqrt()
    change = torch.cat([torch.zeros_like(z[:, :1]), v], dim=1) / size
    point = lift / size
    change = change - (signs * change * point.conj()).sum(1, keepdim=True) * point
    speed = (sign * (signs * change.abs() ** 2).sum(1, keepdim=True)).sqrt()
    cosine, sine = (torch.cos, torch.sin) if sign > 0 else (torch.cosh, torch.sinh)
    end = cosine(speed) * point + sine(speed) * change / speed
    return end[:, 1:] / end[:, :1]


SPACES = [(fubini_study, 1.0), (ball, -1.0)]


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize(("metric", "sign"), SPACES)
def test_exponential_maps_of_the_model_spaces(metric, sign, d):
    z, v = 0.3 * points(6, d) / d, 0.3 * points(6, d, seed=1) / d
    exact = homogeneous(z, v, sign)
    errors = [(Manifold(metric, steps).exp(z, v) - exact).abs().max() for steps in (8, 16)]
    assert errors[1] < 1e-4
    assert errors[1] < errors[0] / 10  # of fourth order


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize(("metric", "sign"), SPACES)
def test_logarithms_of_the_model_spaces(metric, sign, d):
    z, v = 0.3 * points(6, d) / d, 0.3 * points(6, d, seed=1) / d
    found = Manifold(metric, steps=16).log(z, homogeneous(z, v, sign))
    torch.testing.assert_close(found, v, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("metric", "exact"), MODEL_SPACES)
def test_distances_of_the_model_spaces(metric, exact):
    z, w = 0.2 * points(5, 2), 0.2 * points(5, 2, seed=1)
    manifold = Manifold(metric, steps=16)
    torch.testing.assert_close(manifold.distance(z, w), exact(z, w), rtol=1e-3, atol=0)
    speed = manifold.norm(z, manifold.log(z, w))
    torch.testing.assert_close(speed, exact(z, w), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("metric", "sign"), SPACES)
def test_holonomy_of_a_circle_is_its_area_times_the_curvature(metric, sign):
    """Of radius r: π r² / (1 ± r²) times ±4."""
    radius, errors = 0.4, []
    for steps in (50, 100):
        angle = torch.linspace(0, 2 * math.pi, steps + 1, dtype=torch.float64)
        circle = torch.polar(torch.full_like(angle, radius), angle)[None, :, None]
        v = torch.tensor([[0.3 + 0.1j]], dtype=torch.complex128)
        turned = Manifold(metric).transport(circle, v)
        expected = 4 * sign * math.pi * radius**2 / (1 + sign * radius**2)
        errors.append((turned / v - torch.exp(torch.tensor(1j * expected))).abs().item())
    assert errors[1] < 5e-3
    assert errors[1] < 0.3 * errors[0]


def exact_metric():
    """The metric of an ordinary decoder, neither Hermitian nor closed."""
    torch.manual_seed(0)
    weight, other = torch.randn(2, 4, 6, dtype=torch.float64)

    def decoder(z):
        u = torch.cat([z.real, z.imag], dim=1)
        mean = (u @ weight).sin() + 0.3 * u @ other
        return RealGaussian(mean, torch.full_like(mean, 2 * math.log(0.5)))

    return partial(fisher_metric, decoder)


METRICS = {"exact": exact_metric, "potential": lambda: mixture(2).metric}


@pytest.mark.parametrize("name", METRICS)
def test_transport_keeps_products_and_tangents(name):
    metric = METRICS[name]()
    z, v = 0.3 * points(4, 2), 0.3 * points(4, 2, seed=1)
    manifold = Manifold(metric, steps=32)
    curve = manifold.geodesic(z, z + v)
    first, second = points(4, 2, seed=2), points(4, 2, seed=3)
    end = curve[:, -1]
    moved = [manifold.transport(curve, vector) for vector in (first, second)]

    def product(where, a, b):
        return torch.einsum("ni,nij,nj->n", a, metric(where), b.conj()).real

    before, after = product(z, first, second), product(end, *moved)
    scale = manifold.norm(z, first) * manifold.norm(z, second)
    assert ((after - before).abs() / scale).max() < 2e-3
    start = 32 * (-1.5 * curve[:, 0] + 2 * curve[:, 1] - 0.5 * curve[:, 2])
    velocity = 32 * (1.5 * curve[:, -1] - 2 * curve[:, -2] + 0.5 * curve[:, -3])
    torch.testing.assert_close(manifold.transport(curve, start), velocity, rtol=2e-2, atol=5e-3)


@pytest.mark.parametrize("name", METRICS)
def test_logarithms_point_along_shortest_curves(name):
    """Shots by the connection end where minimisers of the energy do, at their length."""
    metric = METRICS[name]()
    z, w = 0.2 * points(4, 2), 0.2 * points(4, 2, seed=1)
    manifold = Manifold(metric, steps=8)
    v = manifold.log(z, w)
    torch.testing.assert_close(manifold.exp(z, v), w, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(manifold.norm(z, v), manifold.distance(z, w), rtol=1e-3, atol=0)
    middle = manifold.exp(z, v / 2)
    curve = manifold.geodesic(z, w)
    assert ((middle - curve[:, 4]).norm(dim=1) / (w - z).norm(dim=1)).max() < 1e-3
    torch.testing.assert_close(curve_length(metric, curve), manifold.distance(z, w))


def test_the_connection_is_that_of_chern_for_a_kaehler_metric_alone():
    z, u, v = (0.3 * points(4, 2, seed) for seed in range(3))

    def difference(metric):
        chern = torch.einsum("nkij,ni,nj->nk", christoffel(metric, z), u, v)
        return (Manifold(metric)._connection(z, u, v, (4, 4)) - chern).abs().max()

    assert difference(mixture(2).metric) < 1e-12
    assert difference(exact_metric()) > 1e-3


def test_no_points_and_no_way():
    none, z = points(0, 2), points(3, 2)
    manifold = Manifold(mixture(2).metric, steps=4)
    assert manifold.exp(none, none).shape == manifold.log(none, none).shape == (0, 2)
    torch.testing.assert_close(manifold.log(z, z), torch.zeros_like(z))
    assert torch.equal(manifold.transport(z[:, None], z), z)


def test_bad_input():
    z = 0.2 * points(3, 2)
    manifold = Manifold(ball, steps=8)
    with pytest.raises(InputError, match="z and v differ in shape"):
        manifold.exp(z, z[:1])
    with pytest.raises(InputError, match=r"shape \(n, points, d\)"):
        manifold.transport(z, z)
    with pytest.raises(InputError, match="v is real"):
        manifold.transport(z[:, None], z.real)


@pytest.mark.parametrize(
    ("dtype", "step"),
    [(torch.complex64, 1e-4), (torch.complex128, 1e-10), (torch.complex128, 1e-3)],
)
def test_ends_that_are_close_have_a_logarithm(dtype, step):
    z = points(20, 2).to(dtype)

    def flat(z):
        return torch.eye(2, dtype=z.dtype).expand(len(z), 2, 2)

    found = Manifold(flat, 8).log(z, z + step)
    rounding = 32 * torch.finfo(dtype).eps * z.abs().max()
    assert (found - step).abs().max() <= rounding + 1e-7 * step


def test_vectors_that_a_decoder_does_not_see_have_no_length():
    seen = points(1, 3)
    unseen = torch.linalg.svd(seen)[2][1:].conj()  # v with seen · v = 0

    def metric(z):
        return (seen.mT @ seen.conj()).expand(len(z), 3, 3)

    z, v = points(10, 3), points(10, 2) @ unseen
    assert Manifold(metric).norm(z, v).max() < 1e-7
    assert curve_length(metric, torch.stack([z, z + v], 1)).max() < 1e-7
    assert Manifold(lambda z: -metric(z)).norm(z[:0], v[:0]).shape == (0,)


def test_where_a_metric_is_singular_is_said_in_words():
    z = points(4, 2)

    def singular(z):
        return torch.diag_embed(torch.stack([1 + z[:, 0].abs() ** 2, 0 * z[:, 0].abs()], 1)).to(z)

    with pytest.raises(InputError, match="meet where it is singular"):
        Manifold(singular, 4).exp(z, z)
    with pytest.raises(InputError, match="singular or not finite along 4 of 4 curves"):
        Manifold(singular, 4).transport(torch.stack([z, 2 * z], 1), z)
    assert christoffel(singular, z).isnan().all()
