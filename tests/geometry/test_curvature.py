import math
from functools import partial

import pytest
import torch
from geometry.decoders import points

from kahlervae.errors import InputError
from kahlervae.geometry import (
    Manifold,
    MixturePotential,
    closedness_defect,
    fisher_metric,
    log_det,
    mixed_hessian,
    relative_error,
    ricci,
    scalar_curvature,
    volume_element,
)
from kahlervae.geometry.geodesic import christoffel, geodesics


def fubini_study(z):
    """Metric of K = log(1 + |z|²), in closed form."""
    norm = 1 + (z.real**2 + z.imag**2).sum(-1)[:, None, None]
    eye = torch.eye(z.shape[1], dtype=z.dtype)
    return eye / norm - z.conj().unsqueeze(-1) * z.unsqueeze(-2) / norm**2


def ball(z):
    """Metric of K = −log(1 − |z|²), in closed form."""
    norm = 1 - (z.real**2 + z.imag**2).sum(-1)[:, None, None]
    eye = torch.eye(z.shape[1], dtype=z.dtype)
    return eye / norm + z.conj().unsqueeze(-1) * z.unsqueeze(-2) / norm**2


def squares(z):
    return (z.real**2 + z.imag**2).sum(-1)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("metric", "potential", "sign"),
    [
        (fubini_study, lambda z: torch.log1p(squares(z)), 1),
        (ball, lambda z: -torch.log1p(-squares(z)), -1),
    ],
)
def test_ricci_of_the_two_model_spaces(d, metric, potential, sign):
    z = points(6, d) / (4 * math.sqrt(d))
    g = metric(z)
    assert relative_error(mixed_hessian(potential, z), g).max() < 1e-10
    assert relative_error(ricci(metric, z), sign * (d + 1) * g).max() < 1e-8
    expected = torch.full((6,), float(sign * d * (d + 1)), dtype=torch.float64)
    torch.testing.assert_close(scalar_curvature(metric, z), expected, rtol=1e-8, atol=1e-8)


def test_ricci_of_a_mixture_potential_against_finite_differences():
    stream = torch.Generator().manual_seed(0)
    potential = MixturePotential.random(2, 2, 3, 1.0, stream)
    from kahlervae.nn import to_double

    potential = to_double(potential).requires_grad_(False)
    z, h = points(3, 2), 1e-3
    expected = torch.zeros(3, 2, 2, dtype=torch.complex128)
    for i in range(2):
        for j in range(2):
            for u, weight_u in ((1, 1), (1j, -1j)):
                for v, weight_v in ((1, 1), (1j, 1j)):
                    p, q = torch.zeros_like(z), torch.zeros_like(z)
                    p[:, i], q[:, j] = h * u, h * v
                    second = (
                        potential.log_det(z + p + q)
                        - potential.log_det(z + p - q)
                        - potential.log_det(z - p + q)
                        + potential.log_det(z - p - q)
                    )
                    expected[:, i, j] -= weight_u * weight_v * second / (16 * h * h)
    torch.testing.assert_close(ricci(potential.metric, z), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("sigma", [1e-2, 1.0, 1e2, 1e4])
def test_ricci_does_not_change_with_the_scale_of_the_metric(sigma, dtype):
    """Of the paraboloid (a, b, a² + b²), whose metric is small where the noise is large."""

    def decoder(z):
        loc = torch.cat([z.real, z.imag, z.real**2 + z.imag**2], dim=1)
        return torch.distributions.Normal(loc, sigma)

    z = torch.tensor([[0.3 + 0.2j]], dtype=dtype)
    found = ricci(partial(fisher_metric, decoder), z).item()
    square = abs(z.item()) ** 2
    # g = (1 + 2r²)/2σ², log det g = log(1 + 2r²) + const: ∂∂̄ of it is 2/(1 + 2r²)².
    assert found.real == pytest.approx(-2 / (1 + 2 * square) ** 2, rel=1e-4)


def test_volume_element_is_the_root_of_the_real_determinant():
    """The real metric of g = ¼[(A + C) + i(B − Bᵀ)] with A = C = 2 Re g, B = 2 Im g."""
    factor = points(3, 3, seed=1)
    g = factor @ factor.mH + torch.eye(3)
    real = 2 * torch.cat([torch.cat([g.real, g.imag], 1), torch.cat([-g.imag, g.real], 1)], 0)
    torch.testing.assert_close(volume_element(g), torch.linalg.det(real).sqrt())


def test_log_det_of_an_indefinite_matrix_is_not_a_number_and_spares_its_neighbours():
    metrics = torch.diag_embed(torch.tensor([[1.0, -2.0], [1.0, 2.0]])).to(torch.complex128)
    indefinite, definite = log_det(metrics)
    assert torch.isnan(indefinite)
    assert definite.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.float64])
def test_log_det_of_one_triangle_is_not_a_number(dtype):
    x = torch.randn(5, 4, 4, dtype=dtype)
    g = x @ x.mH + torch.eye(4, dtype=dtype)
    rounded = g * (1 + torch.finfo(dtype).eps * torch.randn(4, 4))
    assert torch.allclose(log_det(rounded), torch.linalg.slogdet(g)[1], rtol=1e-4)
    assert log_det(g.to(torch.complex64).to(torch.complex128)).isfinite().all()
    for scale in (1e-30, 1, 1e30):
        assert log_det(scale * g).isfinite().all()
        assert log_det(scale * g.tril()).isnan().all()
        assert log_det(scale * g.triu()).isnan().all()


def test_log_det_adds_epsilon():
    g = torch.diag(torch.tensor([1.0, 2.0])).to(torch.complex128)
    assert log_det(g, 0.5).item() == pytest.approx(math.log(1.5 * 2.5))


def test_where_there_is_no_metric_there_is_no_curvature():
    z = points(3, 2)

    def elsewhere(z):  # at the last row minus a metric, which the first two do not tell
        return torch.where((z == points(3, 2)[2]).all(-1)[:, None, None], -1, 1) * fubini_study(z)

    assert ricci(elsewhere, z).isnan().all(-1).all(-1).tolist() == [False, False, True]
    assert scalar_curvature(elsewhere, z).isnan().tolist() == [False, False, True]

    def zero(z):
        return 0 * fubini_study(z).detach()

    assert ricci(zero, z).isnan().all()
    assert scalar_curvature(zero, z).isnan().all()


def sphere(z):
    return ((1 + z.abs() ** 2) ** -2).to(z.dtype)[..., None]


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        (lambda z: sphere(z.detach()), "torch does not follow how"),
        (torch.no_grad()(sphere), "torch does not follow how"),
        (lambda z: torch.from_numpy(sphere(z).numpy()), "fails at latents"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        scalar_curvature,
        ricci,
        closedness_defect,
        christoffel,
        lambda metric, z: Manifold(metric).exp(z, 0.1 * z),
        lambda metric, z: geodesics(metric, z, -z, 4, 2),
    ],
)
@pytest.mark.parametrize("at", [0j, 0.5 + 0.2j])
def test_a_metric_that_torch_cannot_follow_is_not_flat(metric, told, use, at):
    with pytest.raises(InputError, match=told):
        use(metric, torch.full((3, 1), at))


def test_a_constant_metric_is_flat():
    z = points(3, 2, seed=0)
    assert not ricci(lambda z: torch.eye(2, dtype=z.dtype).expand(len(z), 2, 2), z).any()
