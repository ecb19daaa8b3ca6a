"""What each class of potentials can and cannot be: Fubini–Study on a disc of radius 2."""

import math

import pytest
import torch
from geometry.decoders import points

from kahlervae.errors import InputError
from kahlervae.geometry import (
    MixturePotential,
    best_constant_metric,
    calibrate_posterior_potential,
    continue_fit,
    fit_potential,
    polish_potential,
    potential_error,
    relative_error,
)
from kahlervae.geometry.fit import KINDS, _Target

FLOOR = 1 / 9
"""The least largest relative error of any convex potential (docs/theory.md, section 5)."""


def fubini_study(z):
    return (1 + z.abs().square()).unsqueeze(-1).pow(-2).to(z)


def disc(count, seed=0):
    stream = torch.Generator().manual_seed(seed)
    radius, angle = torch.rand(2, count, 1, generator=stream, dtype=torch.float64)
    return torch.polar(2 * radius.sqrt(), 2 * torch.pi * angle)


def fitted(kind, size, steps, learning_rate, polish):
    z = disc(1000)
    stream = torch.Generator().manual_seed(0)
    potential = fit_potential(z, fubini_study(z), kind, size, steps, learning_rate, stream)
    return polish_potential(potential, z, fubini_study(z), polish)


def largest_error(potential):
    z = torch.cat(
        [disc(2000, seed=1), torch.polar(*torch.tensor([[2.0], [0.3]]).double()[:, None])]
    )
    return relative_error(potential.metric(z), fubini_study(z)).max().item()


@pytest.mark.parametrize("components", [8, 64, 128])
def test_a_convex_potential_is_no_better_than_its_floor_whatever_its_size(components):
    size = {"groups": 2, "components": components}
    assert largest_error(fitted("mixture", size, 200, 0.05, 30)) > FLOOR


def test_a_holomorphic_potential_is_as_good_as_exact():
    size = {"width": 4, "layers": 1, "groups": 1, "rank": 2}
    potential = fitted("holomorphic", size, 300, 0.02, 400)
    assert largest_error(potential) < 1e-4
    assert potential.certificate().valid


def circle_and_disc_means(potential, radius):
    """Means of the metric on a circle and on its disc, by the trapezoidal rule."""
    steps = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    angles = torch.polar(torch.ones(256).double(), 2 * torch.pi * torch.arange(256).double() / 256)
    means = [
        potential.metric((r * angles).unsqueeze(-1)).real.mean() for r in (radius, *radius * steps)
    ]
    return means[0].item(), (2 * steps @ torch.stack(means[1:]) / 400).item()


@pytest.mark.parametrize("seed", range(5))
def test_of_a_convex_potential_a_circle_has_half_the_mean_of_its_disc(seed):
    stream = torch.Generator().manual_seed(seed)
    potential = MixturePotential.random(1, 2, 4, 9.0, stream, torch.complex128)
    for radius in (0.5, 2.0, 5.0):
        circle, disc = circle_and_disc_means(potential.requires_grad_(False), radius)
        assert circle > 0.5 * disc


def test_relation_matrices_are_not_convex():
    """Second Taylor polynomials of 20 Re log z at 32 points of the unit circle."""
    points = torch.polar(torch.ones(32).double(), 2 * torch.pi * torch.arange(32).double() / 32)
    potential = MixturePotential(
        background=torch.zeros(1, 1, dtype=torch.complex128),
        log_strength=torch.zeros(1, dtype=torch.float64),
        offset=torch.zeros(1, 32, dtype=torch.float64),
        slope=20 * points.reshape(1, 32, 1),
        relation=(-5 / points.square()).sqrt().reshape(1, 32, 1, 1),
    ).requires_grad_(False)
    circle, disc = circle_and_disc_means(potential, 0.9)
    assert circle < 0.48 * disc
    assert potential.certificate().valid


def test_the_floor_of_convex_potentials_by_their_slopes():
    """The slope u' = (4/r) ∫ g s ds of a radial potential must not fall: at ε it may, below 1/9."""
    radius = torch.linspace(0, 2, 20001, dtype=torch.float64)
    density = (1 + radius.square()) ** -2 * radius
    slope = 4 * torch.cumulative_trapezoid(density, radius) / radius[1:]
    largest, last = slope.max(), slope[-1]
    torch.testing.assert_close(
        slope, 2 * radius[1:] / (1 + radius[1:].square()), rtol=1e-6, atol=1e-6
    )
    assert ((largest - last) / (largest + last)).item() == pytest.approx(FLOOR, rel=1e-6)


def test_bfgs_leaves_its_start_and_lowers_the_objective():
    z = disc(200)
    stream = torch.Generator().manual_seed(0)
    size = {"groups": 1, "components": 4}
    start = fit_potential(z, fubini_study(z), "mixture", size, 20, 0.05, stream)
    before = potential_error(start, z, fubini_study(z))
    polished = polish_potential(start, z, fubini_study(z), 30)
    assert potential_error(polished, z, fubini_study(z)) < 0.9 * before
    assert potential_error(start, z, fubini_study(z)) == before
    scaled = polish_potential(start.scaled(1e6), z, 1e6 * fubini_study(z), 30)
    error = relative_error(scaled.metric(z), 1e6 * polished.metric(z))
    assert error.max() < 1e-3


def test_the_objective_and_its_gradient_against_automatic_differentiation():
    root, other = (points(30, 9, seed).reshape(30, 3, 3) for seed in range(2))
    metrics, metric = root @ root.mH + torch.eye(3), (other @ other.mH).requires_grad_()
    errors = torch.linalg.matrix_norm(metric - metrics) / torch.linalg.matrix_norm(metrics)
    volumes = torch.linalg.slogdet(metric)[1] - torch.linalg.slogdet(metrics)[1]
    values = errors.square() + 0.05 * volumes.square()
    (gradient,) = torch.autograd.grad(values.sum(), metric)
    found = _Target.of(metrics).objective(metric.detach())
    torch.testing.assert_close(found.values, values.detach())
    torch.testing.assert_close(found.gradient, gradient)
    some = _Target.of(metrics).objective(metric.detach()[::2], slice(None, None, 2))
    torch.testing.assert_close(some.gradient, gradient[::2])
    singular = _Target.of(metrics).objective(-metrics)
    assert singular.values.isnan().all()
    assert singular.gradient.isnan().all()


def test_an_unknown_kind_is_refused():
    z = disc(10)
    with pytest.raises(InputError, match="take one of mixture, holomorphic"):
        fit_potential(z, fubini_study(z), "neural", {}, 2, 0.1, torch.Generator())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "the number of steps is 0"),
        ({"batch": 0}, "probes in a batch is 0"),
        ({"learning_rate": -1.0}, "the learning rate is -1.0: give a finite number above 0"),
        ({"steps": 2.5}, "the number of steps is 2.5: give a whole number"),
        (
            {"size": {"groups": 2.0, "components": 2}},
            "groups of a mixture potential is 2.0",
        ),
        ({"size": {"groups": 0, "components": 2}}, "groups of a mixture potential is 0"),
    ],
)
def test_what_fits_nothing_is_refused(changes, words):
    z = points(8, 1)
    metrics = torch.ones(8, 1, 1, dtype=z.dtype)
    given = {"size": {"groups": 1, "components": 2}, "steps": 5, "learning_rate": 0.1, "batch": 16}
    with pytest.raises(InputError, match=words):
        fit_potential(
            z, metrics, "mixture", generator=torch.Generator().manual_seed(0), **given | changes
        )


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("mixture", {"groups": 0}, "groups of a mixture potential is 0"),
        ("mixture", {"components": 2.5}, "components of a mixture potential is 2.5"),
        ("mixture", {"rank": -1}, "rank of a mixture potential is -1"),
        ("mixture", {"latent_dim": 0}, "latent_dim of a mixture potential is 0"),
        *(("mixture", {"scale": bad}, "the scale of a mixture") for bad in (-1.0, 0.0, math.nan)),
        ("mixture", {"generator": None}, "the generator is a NoneType"),
        ("holomorphic", {"rank": 0}, "rank of a holomorphic potential is 0"),
        ("holomorphic", {"groups": 0}, "groups of a holomorphic potential is 0"),
        ("holomorphic", {"width": 2.0}, "width of a holomorphic potential is 2.0"),
        ("holomorphic", {"latent_dim": 0}, "latent_dim of a holomorphic potential is 0"),
        *(("holomorphic", {"scale": bad}, "the scale of a holo") for bad in (-1.0, 0.0, math.inf)),
        ("holomorphic", {"generator": None}, "the generator is a NoneType"),
    ],
)
def test_a_start_that_is_none_is_refused(kind, changes, words):
    sizes = {
        "mixture": {"groups": 1, "components": 2, "rank": 0},
        "holomorphic": {"width": 2, "layers": 1, "groups": 1, "rank": 1},
    }
    given = {"latent_dim": 2, "scale": 1.0, "generator": torch.Generator(), **sizes[kind]}
    make = KINDS[kind].random
    assert make(**given).certificate().valid
    with pytest.raises(InputError, match=words):
        make(**given | changes)


@pytest.mark.parametrize("iterations", [0, -1, 2.5, "a"])
def test_a_polish_has_iterations(iterations):
    z = points(4, 1)
    start = MixturePotential.random(1, 1, 2, 1.0, torch.Generator())
    with pytest.raises(InputError, match=f"iterations is {iterations!r}: give a whole number"):
        polish_potential(start, z, torch.ones(4, 1, 1) + 0j, iterations)


def test_a_fit_goes_on_by_a_stream():
    z = points(4, 1)
    start = MixturePotential.random(1, 1, 2, 1.0, torch.Generator())
    with pytest.raises(InputError, match="the generator is a NoneType"):
        continue_fit(start, z, torch.ones(4, 1, 1) + 0j, 5, 0.1, None)


def test_one_anchor_has_no_curvature():
    z = points(4, 1)
    with pytest.raises(InputError, match="take two anchors"):
        calibrate_posterior_potential(
            z[:1], torch.ones(1, 1), z, torch.ones(4, 1, 1, dtype=z.dtype)
        )


@pytest.mark.parametrize("size", [1e10, 1e20])
def test_one_huge_metric_does_not_hide_the_others(size):
    stream = torch.Generator().manual_seed(0)
    z = torch.randn(256, 1, dtype=torch.complex64, generator=stream)
    metrics = 1 + (1 + z * z.conj()).unsqueeze(-1) ** -2

    def error(given):
        start = torch.Generator().manual_seed(1)
        size = {"groups": 2, "components": 8}
        fitted = fit_potential(z, given, "mixture", size, 200, 0.1, start)
        return relative_error(fitted.metric(z), metrics).median().item()

    one = metrics.clone()
    one[7] *= size
    constant = best_constant_metric(metrics).expand_as(metrics)
    assert error(one) < 0.6 * relative_error(constant, metrics).median()
