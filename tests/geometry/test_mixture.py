import copy
import subprocess
import sys

import pytest
import torch
from geometry.decoders import complex_gaussian, points
from hypothesis import given, settings
from hypothesis import strategies as st

from kahlervae.errors import InputError
from kahlervae.geometry import (
    MixturePotential,
    best_constant_metric,
    closedness_defect,
    fisher_metric,
    log_det,
    mixed_hessian,
    relative_error,
    ricci,
    smallest_eigenvalue,
)
from kahlervae.geometry import potential as potential_module
from kahlervae.geometry.fit import (
    calibrate_anchor_potential,
    calibrate_posterior_potential,
    fit_potential,
)
from kahlervae.models import ComplexGaussian
from kahlervae.nn import to_double


def random_potential(d, groups=3, components=5, quadratic=True, seed=0, rank=None, relation=0):
    stream = torch.Generator().manual_seed(seed)

    def normal(*shape, dtype=torch.complex128):
        return torch.randn(shape, generator=stream, dtype=dtype)

    potential = MixturePotential(
        background=normal(d, d),
        log_strength=normal(groups, dtype=torch.float64),
        offset=normal(groups, components, dtype=torch.float64),
        slope=normal(groups, components, d),
        factor=0.7 * normal(groups, components, d, rank or d) if quadratic else None,
        relation=0.5 * normal(groups, components, d, relation) if relation else None,
    )
    return potential.requires_grad_(False)


def posterior_potential(d, seed=0):
    stream = torch.Generator().manual_seed(seed)
    variance = 0.1 + torch.rand(7, d, generator=stream, dtype=torch.float64)
    potential = MixturePotential.from_posterior(points(7, d, seed), variance, strength=1.7)
    return potential.requires_grad_(False)


def posterior_with_relation(d):
    potential = posterior_potential(d)
    relation = 0.3 * points(7 * d, 2, seed=5).reshape(1, 7, d, 2)
    return MixturePotential(**potential.state_dict(), relation=relation).requires_grad_(False)


POTENTIALS = {
    "affine": lambda d: random_potential(d, quadratic=False),
    "quadratic": lambda d: random_potential(d, quadratic=True),
    "low rank": lambda d: random_potential(d, quadratic=True, rank=1),
    "few components": lambda d: random_potential(d, 2, d // 3 + 1, quadratic=False),
    "posterior": posterior_potential,
    "relation": lambda d: random_potential(d, quadratic=False, relation=2),
    "quadratic with relation": lambda d: random_potential(d, rank=2, relation=1),
    "posterior with relation": posterior_with_relation,
}


def test_a_component_that_outweighs_the_others_leaves_the_digits_of_the_metric():
    """Second moment less mean would leave rounding alone where the background is small."""
    potential = MixturePotential.random(2, 8, 16, 1.0, torch.Generator().manual_seed(0))
    potential.background.data *= 0.01
    z = 30 * points(64, 2, seed=0)
    double = to_double(copy.deepcopy(potential)).requires_grad_(False)
    expected, (_, slope) = double.metric(z), double.log_det_and_gradient(z)
    z = z.to(torch.complex64)
    assert relative_error(potential.metric(z).to(expected.dtype), expected).max() < 4e-4
    _, found = potential.log_det_and_gradient(z)
    assert (found - slope).abs().max() < 1e-3 * slope.abs().max()


def test_stacked_potentials_have_the_metrics_of_each():
    """Under vmap, as they are trained; also where one component outweighs the others."""
    stream = torch.Generator().manual_seed(0)
    alone = [MixturePotential.random(2, 8, 16, 1.0, stream).requires_grad_(False) for _ in range(3)]
    for potential in alone:
        potential.background.data *= 0.1
    z = torch.cat([points(8, 2, seed=0), 30 * points(8, 2, seed=1)]).to(torch.complex64)
    parameters, buffers = torch.func.stack_module_state(alone)

    def stacked(name):
        def one(parameters, buffers):
            bound = MixturePotential(**parameters)
            return getattr(bound, name)(z, *([0.1] if "det" in name else []))

        return torch.func.vmap(one)(parameters, buffers)

    for k, potential in enumerate(alone):
        torch.testing.assert_close(stacked("metric")[k], potential.metric(z))
        for found, expected in zip(
            stacked("log_det_and_gradient"), potential.log_det_and_gradient(z, 0.1), strict=True
        ):
            torch.testing.assert_close(found[k], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"variance": -torch.ones(2, 1)}, "variances positive"),
        ({"variance": torch.zeros(2, 1)}, "variances positive"),
        ({"mean": torch.tensor([[torch.nan + 0j], [0j]])}, "have to be finite"),
        ({"strength": -1.0}, "strength of a posterior potential is -1.0"),
    ],
)
def test_anchors_that_are_none_are_refused(changes, said):
    given = {"mean": torch.tensor([[1 + 0j], [-1 + 0j]]), "variance": torch.ones(2, 1)}
    with pytest.raises(InputError, match=said):
        MixturePotential.from_posterior(**(given | changes))


def test_a_rate_that_is_none_is_refused():
    with pytest.raises(InputError, match="rate of a potential of metrics is 0"):
        MixturePotential.from_metrics(torch.zeros(1, 1) + 0j, torch.ones(1, 1, 1) + 0j, 0.0)


def test_what_all_slopes_share_changes_no_volume():
    for groups, components in ((1, 3), (2, 8)):
        potential = MixturePotential.random(
            6, groups, components, 1.0, torch.Generator().manual_seed(0)
        )
        moved = copy.deepcopy(potential)
        moved.slope.data += 1000
        z = points(20, 6, seed=0).to(torch.complex64)
        torch.testing.assert_close(moved.log_det(z), potential.log_det(z), rtol=0, atol=1e-2)


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("d", [1, 2, 4])
@pytest.mark.parametrize("count", [3, 20])
def test_closed_form_metric_is_the_hessian_of_the_potential(name, d, count):
    """The total-covariance identity: within + between = ∂∂̄K by automatic differentiation."""
    potential, z = POTENTIALS[name](d), points(count, d, seed=1)
    expected = mixed_hessian(potential.potential, z)
    assert relative_error(potential.metric(z), expected).max() < 1e-10
    assert relative_error(sum(potential.total_covariance(z)), expected).max() < 1e-10


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("d", [1, 3])
def test_about_a_point_is_the_same_geometry(name, d):
    """The difference is pluriharmonic, at the point and elsewhere, for any group."""
    potential, z = POTENTIALS[name](d), points(12, d, seed=1)
    for point in points(3, d, seed=2):
        local = potential.about(point)
        torch.testing.assert_close(local.metric(z - point), potential.metric(z))
        expected = mixed_hessian(potential.potential, z)
        torch.testing.assert_close(mixed_hessian(local.potential, z - point), expected)


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("d", [1, 3, 9])
def test_log_det_is_that_of_the_metric(name, d):
    potential, z = POTENTIALS[name](d), points(20, d, seed=1)
    torch.testing.assert_close(potential.log_det(z, 0.01), log_det(potential.metric(z), 0.01))


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("d", [1, 3, 9])
def test_gradient_of_log_det_is_that_of_automatic_differentiation(name, d):
    potential, z = POTENTIALS[name](d), points(20, d, seed=1).requires_grad_()
    expected = potential.log_det(z, 0.01)
    (slope,) = torch.autograd.grad(log_det(potential.metric(z), 0.01).sum(), z)
    value, gradient = potential.log_det_and_gradient(z, 0.01)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, slope)
    assert not value.requires_grad


def test_log_det_is_not_a_number_where_background_and_epsilon_leave_the_metric_singular():
    potential = random_potential(9, 2, 4, quadratic=False)
    potential.background.data.zero_()
    assert potential.log_det(points(10, 9)).isnan().all()
    assert potential.log_det(points(10, 9), 1e-3).isfinite().all()


@pytest.mark.parametrize("name", POTENTIALS)
def test_chunks_change_nothing(name, monkeypatch):
    potential, z = POTENTIALS[name](9), points(30, 9)
    methods = (
        potential.potential,
        potential.metric,
        potential.log_det,
        lambda z: potential.log_det_and_gradient(z)[1],
        lambda z: potential.total_covariance(z).between,
    )
    whole = [method(z) for method in methods]
    monkeypatch.setattr(potential_module, "CHUNK", 1)
    for method, expected in zip(methods, whole, strict=True):
        torch.testing.assert_close(method(z), expected)
        assert len(method(z[:0])) == 0


def test_a_million_points_pass_in_less_than_two_gibibytes():
    """Growth of the largest resident set of a process of its own; the result alone is 0.5 GiB."""
    script = """
import resource, sys, torch
from kahlervae.geometry import MixturePotential
torch.set_num_threads(1)
stream = torch.Generator().manual_seed(0)
potential = MixturePotential.random(8, 16, 16, 1.0, stream).requires_grad_(False)
z = torch.randn(1_000_000, 8, generator=stream, dtype=torch.complex64)
potential.log_det_and_gradient(z[:16], 1e-3)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
assert potential.metric(z).shape == (1_000_000, 8, 8)
assert potential.log_det_and_gradient(z[::5], 1e-3)[1].isfinite().all()
print((peak() - before) * (1 if sys.platform == "darwin" else 1024))
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 2 * 2**30


def test_curvature_by_the_table_is_that_by_deviations():
    """Second derivatives go through both routes: many points, and few of the same."""
    potential, z = POTENTIALS["affine"](2), points(12, 2)
    few = torch.cat([ricci(potential.metric, part) for part in z.split(3)])
    torch.testing.assert_close(ricci(potential.metric, z), few)


@pytest.mark.parametrize("name", POTENTIALS)
def test_metric_is_closed_and_certified_positive(name):
    potential, z = POTENTIALS[name](3), 3 * points(200, 3)
    certificate = potential.certificate()
    assert certificate.valid
    assert smallest_eigenvalue(potential.metric(z)).min() >= certificate.lower_bound - 1e-12
    assert closedness_defect(potential.metric, z).max() < 1e-9
    for part in potential.total_covariance(z):
        assert smallest_eigenvalue(part).min() > -1e-12


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.booleans(), st.integers(1, 5))
def test_any_parameters_give_a_plurisubharmonic_potential(seed, d, quadratic, rank):
    potential = random_potential(d, 2, 4, quadratic, seed, rank)
    metric = potential.metric(points(20, d, seed))
    assert smallest_eigenvalue(metric).min() >= potential.certificate().lower_bound - 1e-10


def test_between_part_is_the_covariance_by_a_naive_loop():
    potential, z = random_potential(2), points(1, 2)
    expected = torch.zeros(2, 2, dtype=torch.complex128)
    for m in range(3):
        factor = potential.factor[m]
        curvature = factor @ factor.mH
        slopes = torch.stack([potential.slope[m, k] + curvature[k] @ z[0] for k in range(5)])
        phi = torch.stack(
            [
                potential.offset[m, k]
                + 2 * (potential.slope[m, k].conj() @ z[0]).real
                + (z[0].conj() @ curvature[k] @ z[0]).real
                for k in range(5)
            ]
        )
        w = torch.softmax(phi, 0)
        mean = (w[:, None] * slopes).sum(0)
        for k in range(5):
            deviation = slopes[k] - mean
            outer = deviation.conj()[:, None] * deviation[None, :]
            expected += potential.log_strength[m].exp() * w[k] * outer
    torch.testing.assert_close(potential.total_covariance(z).between[0], expected)


def test_log_density_of_a_mixture_is_not_plurisubharmonic_but_the_potential_is():
    mean, variance = points(6, 2), torch.full((6, 2), 0.3, dtype=torch.float64)
    potential = MixturePotential.from_posterior(mean, variance).requires_grad_(False)

    def log_density(z):
        components = ComplexGaussian(mean, variance.log().expand(6, 2))
        return components.log_prob(z.unsqueeze(1)).logsumexp(-1)

    z = points(10, 2, seed=4)
    assert smallest_eigenvalue(mixed_hessian(log_density, z)).min() < -0.1
    shift = torch.eye(2, dtype=torch.float64) / 0.3
    expected = mixed_hessian(log_density, z) + shift
    assert relative_error(potential.metric(z), expected).max() < 1e-10


@pytest.mark.parametrize("quadratic", [True, False])
def test_log_det_gradient_against_finite_differences(quadratic):
    potential, z, h = random_potential(2, quadratic=quadratic), points(3, 2), 1e-6
    gradient = potential.log_det_and_gradient(z, 1e-3)[1]
    for i in range(2):
        for unit, part in ((1, gradient.real), (1j, gradient.imag)):
            step = torch.zeros_like(z)
            step[:, i] = h * unit
            slope = (potential.log_det(z + step, 1e-3) - potential.log_det(z - step, 1e-3)) / (
                2 * h
            )
            torch.testing.assert_close(part[:, i], slope.detach(), atol=1e-7, rtol=1e-6)


def test_gradient_is_finite_where_weights_underflow():
    mean, variance = 5 * points(8, 2), torch.full((8, 2), 0.01, dtype=torch.float64)
    variance[0] /= 2
    potential = MixturePotential.from_posterior(mean, variance).requires_grad_(False)
    z = points(16, 2, seed=1).to(torch.complex64).to(torch.complex128).requires_grad_()
    (gradient,) = torch.autograd.grad(potential.log_det(z, 1e-3).sum(), z)
    assert torch.isfinite(gradient).all()


def test_fit_recovers_a_metric_of_its_own_family():
    truth = random_potential(2, groups=2, components=3, quadratic=False)
    z = points(1024, 2)
    z32, metrics = z.to(torch.complex64), truth.metric(z).to(torch.complex64)
    fit = fit_potential(
        z32,
        metrics,
        "mixture",
        {"groups": 4, "components": 8},
        steps=400,
        learning_rate=0.05,
        generator=torch.Generator().manual_seed(0),
    )
    held_out = points(256, 2, seed=9)
    error = relative_error(to_double(fit).metric(held_out), truth.metric(held_out)).median()
    assert error < 0.05


def probes_of_a_decoder(dtype=torch.complex128):
    decoder, z = complex_gaussian(2), points(300, 2)
    return z.to(dtype), fisher_metric(decoder, z).to(dtype)


QUICK = {"groups": 2, "components": 8}


def quick_fit(z, metrics, steps=60):
    return fit_potential(
        z, metrics, "mixture", QUICK, steps, 0.05, torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_fit_has_the_precision_of_its_probes(dtype, default):
    z, metrics = probes_of_a_decoder(dtype)
    torch.set_default_dtype(default)
    try:
        potential = quick_fit(z, metrics)
    finally:
        torch.set_default_dtype(torch.float32)
    assert potential.metric(z).dtype == dtype
    single = quick_fit(*probes_of_a_decoder(torch.complex64)).metric(z.to(torch.complex64))
    assert relative_error(potential.metric(z).to(torch.complex64), single).max() < 0.01


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("factor", [1e-8, 1e-3, 7.0, 1e8])
def test_fit_does_not_depend_on_the_scale_of_the_metrics(factor, dtype):
    z, metrics = probes_of_a_decoder(dtype)
    potential, scaled = quick_fit(z, metrics), quick_fit(z, factor * metrics)
    assert relative_error(potential.metric(z), metrics).median() < 0.3
    assert relative_error(scaled.metric(z), factor * potential.metric(z)).max() < 1e-2
    assert scaled.certificate().valid


def spoil(metrics, rows, value):
    metrics = metrics.clone()
    metrics[rows] = value
    return metrics


NO_PROBES = {
    "none": (lambda z, g: (z[:0], g[:0]), "there are no probes"),
    "one singular": (
        lambda z, g: (z, spoil(g, [7], 0)),
        r"1 of 300 metrics are not positive.*rows 7\)",
    ),
    "seven infinite": (
        lambda z, g: (z, spoil(g, list(range(3, 10)), torch.inf)),
        r"7 of 300 metrics are not finite \(rows 3, 4, 5, 6, 7, …\)",
    ),
    "one NaN": (lambda z, g: (z, spoil(g, [0], torch.nan)), "1 of 300 metrics are not finite"),
    "negative": (lambda z, g: (z, -g), "300 of 300 metrics are not positive definite"),
    "not Hermitian": (lambda z, g: (z, g + torch.ones(2, 2).triu(1)), "are not Hermitian"),
    "NaN latents": (lambda z, g: (z * torch.nan, g), "z is not finite in 300 of 300 rows"),
    "real latents": (lambda z, g: (z.real, g), "z is real"),
    "fewer": (lambda z, g: (z, g[1:]), r"shape \(300, 2, 2\)"),
    "real metrics": (lambda z, g: (z, g.real), "complex matrix"),
    "array": (lambda z, g: (z, g.detach().numpy()), "ndarray"),
}


@pytest.mark.parametrize("name", NO_PROBES)
def test_what_cannot_be_fitted_is_said(name):
    change, words = NO_PROBES[name]
    mean, variance = points(3, 2), torch.ones(3, 2, dtype=torch.float64)
    for function in (
        lambda z, g: quick_fit(z, g),
        lambda z, g: calibrate_posterior_potential(mean, variance, z, g),
        lambda z, g: calibrate_anchor_potential(z, g, *probes_of_a_decoder()),
        lambda z, g: calibrate_anchor_potential(*probes_of_a_decoder(), z, g),
    ):
        with pytest.raises(InputError, match=words):
            function(*change(*probes_of_a_decoder()))


def test_fit_that_diverges_is_refused():
    z, metrics = probes_of_a_decoder()
    with pytest.raises(InputError, match=r"diverged, from an error of .* lower the learning rate"):
        fit_potential(z, metrics, "mixture", QUICK, 60, 1e30, torch.Generator().manual_seed(0))


def test_metrics_of_unfrozen_parameters_can_be_fitted():
    layers = torch.nn.Linear(4, 6).double()
    z = points(64, 2)
    metrics = fisher_metric(
        lambda z: torch.distributions.Normal(layers(torch.cat([z.real, z.imag], -1)).sin(), 1.0), z
    )
    assert metrics.requires_grad
    assert quick_fit(z, metrics).certificate().valid
    assert all(parameter.grad is None for parameter in layers.parameters())


def test_certificate_of_what_is_not_finite_is_invalid():
    potential = random_potential(2, groups=2, components=3, quadratic=False).requires_grad_(False)
    potential.slope[0, 0, 0] = torch.nan
    assert not potential.certificate().valid


@pytest.mark.parametrize(
    ("z", "words"),
    [
        (torch.ones(3, 2), "z is real"),
        (points(3, 3), r"one of \(n, 2\)"),
        (points(3, 2).to(torch.complex64), "complex128"),
        (points(3, 2)[0], r"z\[None\]"),
    ],
)
def test_latents_are_checked_at_the_door_of_a_potential(z, words):
    potential = random_potential(2, groups=2, components=3, quadratic=False)
    for method in (
        potential.potential,
        potential.metric,
        potential.log_det,
        potential.log_det_and_gradient,
        potential.total_covariance,
    ):
        with pytest.raises(InputError, match=words):
            method(z)
    assert potential.metric(points(3, 2)[:0]).shape == (0, 2, 2)


def test_lazily_conjugated_latents_have_their_value():
    potential, z = random_potential(2, groups=2, components=3, quadratic=True), points(3, 2)
    torch.testing.assert_close(potential.metric(z.conj()), potential.metric(z.conj_physical()))


def test_calibration_minimises_the_relative_error():
    z, mean = points(64, 2), points(7, 2, seed=3)
    variance = torch.full((7, 2), 0.5, dtype=torch.float64)
    metrics = 3 * MixturePotential.from_posterior(mean, 2 * variance).metric(z).detach()
    potential = calibrate_posterior_potential(mean, variance, z, metrics)
    assert relative_error(potential.metric(z), metrics).max() < 1e-10


def test_anchors_that_lie_apart_have_their_metrics():
    """Near an anchor its component alone counts, and the curvature is the metric there."""
    anchors, z = 30 * points(4, 2), points(4, 2, seed=1)
    root = points(8, 2, seed=2).reshape(4, 2, 2)
    metrics = root @ root.mH + torch.eye(2)
    potential = MixturePotential.from_metrics(anchors, metrics, rate=2.0).requires_grad_(False)
    assert relative_error(potential.metric(anchors), metrics).max() < 1e-10
    expected = mixed_hessian(potential.potential, z)
    assert relative_error(potential.metric(z), expected).max() < 1e-10
    assert potential.certificate().valid


def test_metrics_at_anchors_tell_those_between_them_better_than_a_constant():
    """Of a slowly varying metric, at probes that neither made nor calibrated the potential."""

    def metric(z):
        return torch.diag_embed(1 + z.real.square() + z.imag.square()).to(z.dtype)

    anchors, z, probes = points(200, 1), points(80, 1, seed=1), points(300, 1, seed=2)
    potential = calibrate_anchor_potential(anchors, metric(anchors), z, metric(z))
    constant = best_constant_metric(metric(z)).expand(300, 1, 1)
    errors = [relative_error(g, metric(probes)) for g in (potential.metric(probes), constant)]
    assert errors[0].square().mean() < 0.9 * errors[1].square().mean()
    assert potential.certificate().valid
