"""What holds of every class of potentials."""

import copy

import pytest
import torch
from geometry.decoders import points
from geometry.test_mixture import random_potential

from kahlervae.errors import InputError
from kahlervae.geometry import (
    HolomorphicPotential,
    MixturePotential,
    Potential,
    closedness_defect,
    fit,
    log_det,
    mixed_hessian,
    relative_error,
    ricci,
    smallest_eigenvalue,
)
from kahlervae.geometry import potential as potential_module
from kahlervae.geometry.geodesic import curve_length, geodesics
from kahlervae.storage import write_tensors


def holomorphic(d, layers=2, seed=0):
    stream = torch.Generator().manual_seed(seed)
    potential = HolomorphicPotential.random(
        d, 7, layers, 2.0, stream, torch.complex128, groups=3, rank=4
    )
    return potential.requires_grad_(False)


POTENTIALS = {
    "affine": lambda d: random_potential(d, quadratic=False),
    "quadratic with relation": lambda d: random_potential(d, rank=2, relation=1),
    "one layer": lambda d: holomorphic(d, 1),
    "two layers": lambda d: holomorphic(d, 2),
    "three layers": lambda d: holomorphic(d, 3),
}


@pytest.fixture(params=POTENTIALS)
def potential(request):
    return POTENTIALS[request.param](3)


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("d", [1, 2, 4])
def test_metric_is_the_hessian_of_the_potential(name, d):
    potential, z = POTENTIALS[name](d), points(9, d, seed=1)
    expected = mixed_hessian(potential.potential, z)
    assert relative_error(potential.metric(z), expected).max() < 1e-10
    assert relative_error(sum(potential.total_covariance(z)), expected).max() < 1e-10


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_gradient_of_log_det_is_that_of_automatic_differentiation(name, d):
    potential, z = POTENTIALS[name](d), points(9, d, seed=1).requires_grad_()
    expected = log_det(potential.metric(z), 0.01)
    (slope,) = torch.autograd.grad(expected.sum(), z)
    value, gradient = potential.log_det_and_gradient(z, 0.01)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-10)
    assert not value.requires_grad
    torch.testing.assert_close(potential.log_det(z, 0.01), expected)


def test_gradient_of_log_det_against_finite_differences(potential):
    z, h = points(3, 3), 1e-6
    gradient = potential.log_det_and_gradient(z, 1e-3)[1]
    for i in range(3):
        for unit, part in ((1, gradient.real), (1j, gradient.imag)):
            step = torch.zeros_like(z)
            step[:, i] = h * unit
            change = potential.log_det(z + step, 1e-3) - potential.log_det(z - step, 1e-3)
            torch.testing.assert_close(part[:, i], change / (2 * h), atol=1e-7, rtol=1e-6)


def test_metric_is_closed_and_certified_positive(potential):
    z = 3 * points(100, 3)
    certificate = potential.certificate()
    assert certificate.valid
    metric = potential.metric(z)
    size = torch.linalg.matrix_norm(metric)
    assert (smallest_eigenvalue(metric) - certificate.lower_bound > -1e-13 * size).all()
    assert closedness_defect(potential.metric, z).max() < 1e-9
    for part in potential.total_covariance(z):
        assert (smallest_eigenvalue(part) > -1e-13 * size).all()


def test_second_derivatives_go_through(potential):
    """Ricci curvature by Wirtinger derivatives is the mixed Hessian of −log det."""
    z = points(4, 3)
    expected = -mixed_hessian(potential.log_det, z)
    assert relative_error(ricci(potential.metric, z), expected).max() < 1e-8


def test_geodesics_take_any_potential(potential):
    start, end = points(2, 3), points(2, 3, seed=1)
    curves = geodesics(potential.metric, start, end, steps=8, points=3)
    torch.testing.assert_close(curves[:, -1], end)


def test_chunks_change_nothing(potential, monkeypatch):
    z = points(30, 3)
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


def test_squared_norms_are_those_of_the_metric(potential, monkeypatch):
    z, v = points(9, 3, seed=1), points(9, 3, seed=2)
    expected = torch.einsum("ni,nij,nj->n", v, potential.metric(z), v.conj()).real
    torch.testing.assert_close(potential.squared_norm(z, v), expected, rtol=1e-12, atol=1e-12)
    monkeypatch.setattr(potential_module, "CHUNK", 1)
    torch.testing.assert_close(potential.squared_norm(z, v), expected, rtol=1e-12, atol=1e-12)
    assert potential.squared_norm(z[:0], v[:0]).shape == (0,)
    with pytest.raises(InputError, match="give one vector for every point"):
        potential.squared_norm(z, v[:1])


def test_curves_are_as_long_and_geodesics_the_same_without_matrices(potential):
    """A metric that is not known to be a potential's own is taken at its matrices."""
    start, end = points(4, 3, seed=1), points(4, 3, seed=2)

    def metric(z):
        return potential.metric(z)

    curves = torch.stack([start, end, 2 * start], dim=1)
    torch.testing.assert_close(
        curve_length(potential.metric, curves), curve_length(metric, curves), rtol=1e-12, atol=0
    )
    joined = [geodesics(g, start, end, steps=6, points=3) for g in (potential.metric, metric)]
    torch.testing.assert_close(*joined, rtol=1e-6, atol=1e-6)


def test_a_factor_is_one_of_the_metric(potential):
    z = points(5, 3)
    torch.testing.assert_close(potential.scaled(7.0).metric(z), 7 * potential.metric(z))
    torch.testing.assert_close(potential.scaled(7.0).potential(z), 7 * potential.potential(z))


def test_a_saved_potential_is_the_one_that_is_loaded(potential, tmp_path):
    path = tmp_path / "potential.safetensors"
    potential.save(path)
    loaded = Potential.load(path)
    assert type(loaded) is type(potential)
    assert type(potential).load(path).certificate() == potential.certificate()
    torch.testing.assert_close(loaded.state_dict(), potential.state_dict(), rtol=0, atol=0)
    other = {MixturePotential: HolomorphicPotential, HolomorphicPotential: MixturePotential}
    with pytest.raises(InputError, match=r"load it with Potential\.load"):
        other[type(potential)].load(path)
    single = copy.deepcopy(potential)._apply(lambda t: t.to(SINGLE[t.dtype]))
    single.save(path)
    state = Potential.load(path).state_dict()
    torch.testing.assert_close(state, single.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("components", range(2, 6))
def test_numbers_of_sixteen_bytes_lie_where_torch_expects_them(components, tmp_path):
    """Wherever the header of the file leaves them: some operations crash at other places."""
    stream = torch.Generator().manual_seed(0)
    potential = MixturePotential.random(2, 2, components, 2.0, stream, torch.complex128)
    potential.save(tmp_path / "p.safetensors")
    loaded = Potential.load(tmp_path / "p.safetensors")
    assert not any(p.data_ptr() % 16 for p in loaded.parameters() if p.is_complex())
    z = points(3, 2)
    torch.testing.assert_close(loaded.metric(z), potential.metric(z).detach(), rtol=0, atol=0)


SINGLE = {torch.complex128: torch.complex64, torch.float64: torch.float32}


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda t: {}, "Wrong", "unknown kind 'Wrong'"),
        (lambda t: {}, "", "unknown kind ''"),
        (lambda t: {"first": torch.ones(2)}, "HolomorphicPotential", "'background' as"),
        (lambda t: {"more": torch.ones(2)}, "HolomorphicPotential", "unknown tensor 'more'"),
        (
            lambda t: {"bias": t["bias"].real.clone()},
            "HolomorphicPotential",
            "'bias' as torch.float32",
        ),
        (lambda t: {"head": t["head"] * torch.nan}, "HolomorphicPotential", "not finite"),
        (lambda t: {}, "MixturePotential", "tensor"),
    ],
)
def test_a_file_of_no_potential_is_refused(change, kind, words, tmp_path):
    tensors = {name: value.clone() for name, value in holomorphic(2).state_dict().items()}
    tensors = {name: value.to(SINGLE[value.dtype]) for name, value in tensors.items()}
    write_tensors(tmp_path / "p.safetensors", tensors | change(tensors), {"kind": kind})
    with pytest.raises(InputError, match=words):
        Potential.load(tmp_path / "p.safetensors")


def test_certificate_of_what_is_not_finite_is_invalid(potential):
    potential.background[0, 0] = torch.nan
    assert not potential.certificate().valid


def test_latents_are_checked_at_the_door(potential):
    for z, words in ((torch.ones(3, 3), "z is real"), (points(3, 2), r"one of \(n, 3\)")):
        for method in (potential.potential, potential.metric, potential.log_det_and_gradient):
            with pytest.raises(InputError, match=words):
                method(z)


def test_fubini_study_and_the_norm_of_a_holomorphic_map_are_in_the_class():
    """(w + w²/4) − (−w + w²/4) = 2w: a layer of both signs is the identity, exactly."""
    eye = torch.eye(2, dtype=torch.complex128)
    potential = HolomorphicPotential(
        background=0 * eye,
        log_strength=torch.zeros(1, dtype=torch.float64),
        first=torch.cat([eye, -eye]),
        hidden=torch.zeros(0, 4, 4, dtype=torch.complex128),
        bias=torch.zeros(1, 4, dtype=torch.complex128),
        square=torch.cat([eye, eye], 1),  # ½ z²
        head=0.5 * torch.cat([eye, -eye], 1).unsqueeze(0),  # z
        shift=torch.zeros(1, 2, dtype=torch.complex128),
    ).requires_grad_(False)
    z = points(20, 2)
    norm = 1 + z.abs().square().sum(-1, keepdim=True).unsqueeze(-1)
    fubini_study = eye / norm - z.conj().unsqueeze(-1) * z.unsqueeze(-2) / norm**2
    flat = torch.diag_embed(z.abs().square()).to(z)
    torch.testing.assert_close(potential.metric(z), fubini_study + flat)


def test_a_metric_that_is_not_definite_has_no_log_det_and_harms_no_other():
    eye = torch.eye(3, dtype=torch.complex128)
    metric = torch.stack([2 * eye, -eye, eye * torch.nan, 0 * eye, eye.roll(1, 0)])
    inverse, values = potential_module.inverse_and_log_det(metric, 0.0)
    assert values.isnan().tolist() == [False, True, True, True, True]
    torch.testing.assert_close(inverse[0], eye / 2)
    # A zero on the diagonal of the factor, which was refused.
    _, values = potential_module.inverse_and_log_det(1e8 * torch.ones(1, 3, 3).to(metric), 0.0)
    assert values.isnan().all()


def test_a_potential_changes_precision_as_a_whole():
    """Real parameters and complex ones, whichever of the two is named."""
    stream = torch.Generator().manual_seed(0)
    z = torch.randn(5, 2, dtype=torch.complex128, generator=stream)
    for changed in (
        lambda p: p.double(),
        lambda p: p.to(torch.float64),
        lambda p: p.to(torch.complex128),
        lambda p: p.to(z),
    ):
        for kind, size in {
            "mixture": {"groups": 2, "components": 3},
            "holomorphic": {"width": 4, "layers": 2},
        }.items():
            single = fit.random_potential(kind, size, 2, 1.0, stream)
            double = changed(copy.deepcopy(single))
            assert double.dtype == torch.complex128
            assert double.certificate().valid
            torch.testing.assert_close(
                double.metric(z).to(torch.complex64), single.metric(z.to(torch.complex64))
            )
            assert torch.equal(
                double.float().metric(z.to(torch.complex64)), single.metric(z.to(torch.complex64))
            )


@pytest.mark.parametrize("factor", [-1.0, 0.0, float("nan"), float("inf")])
def test_only_positive_multiples_are_potentials(factor):
    potential = MixturePotential.constant(torch.eye(2) + 0j)
    with pytest.raises(InputError, match="positive, finite factor"):
        potential.scaled(factor)


def test_a_constant_metric_has_to_be_definite():
    with pytest.raises(InputError, match="not positive definite"):
        MixturePotential.constant(-torch.eye(2) + 0j)


def test_what_overflows_is_not_certified():
    parts = {
        "background": torch.eye(2, dtype=torch.complex64),
        "log_strength": torch.zeros(1),
        "offset": torch.zeros(1, 3),
        "slope": points(3, 2).to(torch.complex64)[None],
    }
    assert MixturePotential(**parts).certificate().valid
    for name, large in {"log_strength": torch.full((1,), 200.0), "background": 1e30}.items():
        changed = parts | {name: large if name == "log_strength" else large * parts[name]}
        assert not MixturePotential(**changed).certificate().valid


def test_a_file_of_no_components_is_refused(tmp_path):
    potential = MixturePotential.random(1, 1, 2, 1.0, torch.Generator())
    tensors = potential.state_dict() | {
        "offset": torch.zeros(1, 0),
        "slope": torch.zeros(1, 0, 1, dtype=torch.complex64),
    }
    path = tmp_path / "potential.safetensors"
    write_tensors(path, tensors, {"kind": "MixturePotential"})
    with pytest.raises(InputError, match="without components"):
        Potential.load(path)
