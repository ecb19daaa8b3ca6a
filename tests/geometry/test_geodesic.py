"""Geodesics against closed forms, against their differential equation, and as minimisers."""

import math

import pytest
import torch
from geometry.decoders import points
from geometry.test_curvature import ball, fubini_study

from kahlervae.errors import InputError
from kahlervae.geometry import MixturePotential, closedness_defect
from kahlervae.geometry.geodesic import christoffel, curve_energy, curve_length, geodesics
from kahlervae.nn import to_double


def product(z, w):
    """Σ z_i w̄_i of every row."""
    return (z * w.conj()).sum(-1)


def fubini_study_distance(z, w):
    norm = torch.sqrt((1 + product(z, z).real) * (1 + product(w, w).real))
    return torch.arccos((1 + product(z, w)).abs() / norm)


def ball_distance(z, w):
    norm = torch.sqrt((1 - product(z, z).real) * (1 - product(w, w).real))
    return torch.arccosh((1 - product(z, w)).abs() / norm)


def mixture(d, seed=0):
    stream = torch.Generator().manual_seed(seed)
    potential = MixturePotential.random(d, 3, 5, 4.0, stream)
    return to_double(potential).requires_grad_(False)


def quadratic_map(d):
    """f(z) = z + a small quadratic form of z, and the flat metric that f pulls back."""
    form = 0.2 / math.sqrt(d) * points(d * d, d, seed=7).unflatten(0, (d, d))
    form = form + form.transpose(1, 2)  # [a, i, j], f_a = z_a + ½ form_aij z_i z_j

    def f(z):
        return z + 0.5 * torch.einsum("aij,...i,...j->...a", form, z, z)

    def metric(z):
        eye = torch.eye(d, dtype=z.dtype)
        change = eye + torch.einsum("aij,nj->nia", form, z)  # [n, i, a] = ∂_i f_a
        return change @ change.mH

    return f, metric


MODEL_SPACES = [(fubini_study, fubini_study_distance), (ball, ball_distance)]


@pytest.mark.parametrize("d", [1, 2, 4])
@pytest.mark.parametrize(("metric", "distance"), MODEL_SPACES)
def test_distances_of_the_two_model_spaces(metric, distance, d):
    start, end = (0.35 * points(6, d, seed) / math.sqrt(d) for seed in (0, 1))
    exact = distance(start, end)
    errors = []
    for steps in (16, 32):
        curves = geodesics(metric, start, end, steps, steps - 1)
        torch.testing.assert_close(curves[:, 0], start)
        torch.testing.assert_close(curves[:, -1], end)
        errors.append((curve_length(metric, curves) / exact - 1).abs().max().item())
    assert errors[1] < 1e-3
    assert errors[1] < 0.3 * errors[0]  # of second order in 1/T
    lines = start[:, None] + torch.linspace(0, 1, 33)[:, None] * (end - start)[:, None]
    assert (curve_length(metric, lines) > (1 + 3 * errors[1]) * exact).any()


def test_distances_of_one_dimension_are_arctan_and_artanh():
    z, w = 0.3 * points(5, 1), 0.3 * points(5, 1, seed=1)
    chordal = ((z - w) / (1 + w.conj() * z)).abs()[:, 0]
    pseudohyperbolic = ((z - w) / (1 - w.conj() * z)).abs()[:, 0]
    curves = [geodesics(metric, z, w, 64, 63) for metric in (fubini_study, ball)]
    for metric, found, exact in zip(
        (fubini_study, ball), curves, (chordal.arctan(), pseudohyperbolic.arctanh()), strict=True
    ):
        torch.testing.assert_close(curve_length(metric, found), exact, rtol=5e-4, atol=0)


@pytest.mark.parametrize("d", [1, 3])
def test_preimages_of_straight_lines_under_a_holomorphic_map(d):
    f, metric = quadratic_map(d)
    start, end = points(6, d), points(6, d, seed=1)
    curves = geodesics(metric, start, end, 64, 63)
    t = torch.linspace(0, 1, 65, dtype=torch.float64)[:, None]
    straight = (1 - t) * f(start)[:, None] + t * f(end)[:, None]
    size = (f(end) - f(start)).norm(dim=1)
    assert ((f(curves) - straight).norm(dim=2).amax(1) / size).max() < 2e-3
    torch.testing.assert_close(curve_length(metric, curves), size, rtol=5e-4, atol=0)
    lines = (1 - t) * start[:, None] + t * end[:, None]
    assert ((f(lines) - straight).norm(dim=2).amax(1) / size).max() > 0.02


def test_constant_metric_has_straight_lines():
    factor = points(3, 3, seed=3)
    constant = factor @ factor.mH

    def metric(z):
        return constant.expand(len(z), 3, 3)

    start, end = points(5, 3), points(5, 3, seed=1)
    curves = geodesics(metric, start, end, 6, 4)
    t = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(curves, (1 - t) * start[:, None] + t * end[:, None])
    v = end - start
    norm = torch.einsum("ni,ij,nj->n", v, constant, v.conj()).real
    torch.testing.assert_close(curve_energy(metric, curves), norm / 2)
    torch.testing.assert_close(curve_length(metric, curves), norm.sqrt())


def shoot(metric, z, v, steps):
    """The geodesic equation z̈ = −Γ(ż, ż) by Runge and Kutta's classical method."""

    def slope(z, v):
        return v, -torch.einsum("nkij,ni,nj->nk", christoffel(metric, z), v, v)

    h, curve = 1 / steps, [z]
    for _ in range(steps):
        a = slope(z, v)
        b = slope(z + h / 2 * a[0], v + h / 2 * a[1])
        c = slope(z + h / 2 * b[0], v + h / 2 * b[1])
        e = slope(z + h * c[0], v + h * c[1])
        z = z + h / 6 * (a[0] + 2 * b[0] + 2 * c[0] + e[0])
        v = v + h / 6 * (a[1] + 2 * b[1] + 2 * c[1] + e[1])
        curve.append(z)
    return torch.stack(curve, dim=1)


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("name", ["mixture", "fubini_study", "ball"])
def test_minimisers_solve_the_geodesic_equation(name, d):
    metric = {"fubini_study": fubini_study, "ball": ball}.get(name) or mixture(d).metric
    scale = 1.0 if name == "mixture" else 0.3 / math.sqrt(d)
    start, velocity = scale * points(5, d), scale * points(5, d, seed=1)
    solved = shoot(metric, start, velocity, 32)
    size = (solved[:, -1] - start).norm(dim=1)
    errors = []
    for steps in (8, 16, 32):
        found = geodesics(metric, start, solved[:, -1], steps, steps - 1)
        error = (found - solved[:, :: 32 // steps]).norm(dim=2).amax(1) / size
        errors.append(error.max().item())
    assert errors[2] < 4e-3
    assert errors[2] < 0.3 * errors[1] < 0.09 * errors[0]  # of second order in 1/T
    t = torch.linspace(0, 1, 33)[:, None]
    bent = solved - (1 - t) * start[:, None] - t * solved[:, -1:]
    assert (bent.norm(dim=2).amax(1) / size).max() > 10 * errors[2]


def test_few_free_points_come_close_to_all_of_them():
    metric, start, end = mixture(2).metric, points(6, 2), points(6, 2, seed=1)
    straight = curve_energy(metric, _line(start, end))
    few, more, all_of_them = (
        curve_energy(metric, geodesics(metric, start, end, 32, count)) for count in (1, 7, 31)
    )
    assert (all_of_them <= more).all()
    assert (more <= few).all()
    assert (few < straight).all()
    assert (more - all_of_them).max() < 0.05 * (straight - all_of_them).max()


def _line(start, end):
    t = torch.linspace(0, 1, 33, dtype=torch.float64)[:, None]
    return (1 - t) * start[:, None] + t * end[:, None]


def test_minimisers_have_constant_speed():
    """Points at equal times are at equal arc length, and E = L²/2; along lines E is larger."""
    metric, start, end = ball, 0.2 * points(6, 3), 0.2 * points(6, 3, seed=1)
    curves = geodesics(metric, start, end, 32, 31)
    steps = torch.stack([curve_length(metric, curves[:, i : i + 2]) for i in range(32)])
    spread = steps.amax(0) / steps.amin(0)
    assert spread.max() < 1.01
    energy, length = curve_energy(metric, curves), curve_length(metric, curves)
    torch.testing.assert_close(energy, length.square() / 2, rtol=1e-4, atol=0)
    line = _line(start, end)
    assert (curve_energy(metric, line) > 1.002 * curve_length(metric, line).square() / 2).any()


@pytest.mark.parametrize(
    ("curves", "said"),
    [
        (torch.zeros(2, 3, 1), r"float32 of shape \(2, 3, 1\)"),
        (torch.zeros(3, 1) + 0j, r"complex64 of shape \(3, 1\)"),
        (torch.zeros(2, 1, 1) + 0j, r"complex64 of shape \(2, 1, 1\)"),
        ((torch.zeros(2, 3, 1) + 0j).numpy(), "the curves are ndarray"),
    ],
)
def test_what_are_no_curves_is_said(curves, said):
    for measure in (curve_energy, curve_length):
        with pytest.raises(InputError, match=said):
            measure(mixture(1).metric, curves)


def test_pairs_do_not_see_each_other():
    metric, start, end = mixture(2).metric, points(4, 2), points(4, 2, seed=1)
    start[3] = end[3]
    together = geodesics(metric, start, end, 8, 5)
    alone = [geodesics(metric, start[i : i + 1], end[i : i + 1], 8, 5) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(together[3], start[3].expand(9, 2))


def test_a_search_that_leaves_the_domain_comes_back_and_spares_the_others():
    """The disc's metric is NaN outside of it; next to its rim the first steps go there."""

    def disc(z):
        return ((1 - z.abs() ** 2).sqrt() ** -4).to(z.dtype)[..., None]

    ends = torch.tensor([[0.5 + 0j], [0.99]]), torch.tensor([[0.5j], [0.99j]])
    curves = geodesics(disc, *ends, steps=128, points=20)
    lengths = curve_length(disc, curves)
    assert torch.allclose(lengths.double(), ball_distance(*ends).double(), rtol=1e-3)
    assert curve_length(disc, curves[:1]) == lengths[0]


@pytest.mark.parametrize(
    ("count", "told"), [(0, "free points of a curve is 0"), (8, "8 free points")]
)
def test_as_many_free_points_as_there_are_between_the_ends(count, told):
    z = points(1, 1)
    with pytest.raises(ValueError, match=told):
        geodesics(fubini_study, z, -z, 8, count)


def test_christoffel_symbols_of_fubini_study_space():
    z = points(4, 3)
    norm = 1 + product(z, z).real
    eye = torch.eye(3, dtype=z.dtype)
    first = torch.einsum("ni,kj->nkij", z.conj(), eye)
    expected = -(first + first.transpose(2, 3)) / norm[:, None, None, None]
    torch.testing.assert_close(christoffel(fubini_study, z), expected)


def not_kahler(z):
    """|z_2|²-dependent first entry: Hermitian and positive definite, not closed."""
    zero, one = torch.zeros_like(z[:, 0]), torch.ones_like(z[:, 0])
    first = (1 + z[:, 1].real ** 2 + z[:, 1].imag ** 2).to(z.dtype)
    entries = torch.stack([first, zero + 0.2j, zero - 0.2j, one], dim=1)
    return entries.unflatten(1, (2, 2))


@pytest.mark.parametrize("name", ["mixture", "not Kähler"])
def test_christoffel_symbols_against_finite_differences(name):
    metric = not_kahler if name == "not Kähler" else mixture(2).metric
    z, h = points(3, 2), 1e-5
    change = torch.zeros(3, 2, 2, 2, dtype=torch.complex128)  # [n, i, j, l] = ∂_i g_jl̄
    for i in range(2):
        for direction, weight in ((1, 1), (1j, -1j)):
            step = torch.zeros_like(z)
            step[:, i] = h * direction
            change[:, i] += weight * (metric(z + step) - metric(z - step)) / (4 * h)
    symbols = torch.einsum("nijl,nlk->nkij", change, torch.linalg.inv(metric(z)))
    found = christoffel(metric, z)
    torch.testing.assert_close(found, symbols, rtol=1e-6, atol=1e-8)
    symmetric = torch.allclose(found, found.transpose(2, 3))
    assert symmetric == bool((closedness_defect(metric, z) < 1e-9).all())
    assert symmetric == (name == "mixture")
