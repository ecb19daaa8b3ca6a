import math

import pytest
import torch
from geometry.decoders import complex_gaussian, holomorphic, points, real_gaussian

from kahlervae.errors import InputError
from kahlervae.geometry import (
    MixturePotential,
    affine_invariant_distance,
    closedness_defect,
    fisher_metric,
    hermitian_defect,
    mixed_hessian,
    relative_error,
    smallest_eigenvalue,
)
from kahlervae.geometry.kahler import relative_size
from kahlervae.models import RealGaussian


@pytest.mark.parametrize("d", [1, 2, 4])
def test_holomorphic_decoder_is_kahler_with_the_squared_norm_as_potential(d):
    decoder, z = holomorphic(d), points(6, d)
    assert hermitian_defect(decoder, z).max() < 1e-12
    assert closedness_defect(lambda z: fisher_metric(decoder, z), z).max() < 1e-12

    def potential(z):
        mean, log_var = decoder(z)
        return ((mean.real**2 + mean.imag**2) * torch.exp(-log_var)).sum(-1)

    assert relative_error(mixed_hessian(potential, z), fisher_metric(decoder, z)).max() < 1e-12


@pytest.mark.parametrize("make", [real_gaussian, complex_gaussian])
def test_ordinary_decoder_is_not_kahler(make):
    decoder, z = make(3), points(6, 3)
    assert hermitian_defect(decoder, z).min() > 1e-3
    assert hermitian_defect(decoder, z).max() <= 1
    assert closedness_defect(lambda z: fisher_metric(decoder, z), z).min() > 1e-3


def test_every_metric_is_closed_in_one_dimension():
    decoder = complex_gaussian(1)
    assert closedness_defect(lambda z: fisher_metric(decoder, z), points(6, 1)).max() == 0


def test_closedness_defect_of_a_known_metric_against_finite_differences():
    decoder, z, h = complex_gaussian(2), points(3, 2), 1e-6
    derivative = torch.zeros(3, 2, 2, 2, dtype=torch.complex128)
    for k in range(2):
        for unit, weight in ((1, 0.5), (1j, -0.5j)):
            step = torch.zeros_like(z)
            step[:, k] = h * unit
            change = fisher_metric(decoder, z + step) - fisher_metric(decoder, z - step)
            derivative[..., k] += weight * change / (2 * h)
    defect = (derivative - derivative.transpose(1, 3)).flatten(1).norm(dim=1)
    torch.testing.assert_close(
        closedness_defect(lambda z: fisher_metric(decoder, z), z),
        defect / derivative.flatten(1).norm(dim=1),
        rtol=1e-5,
        atol=1e-7,
    )


def test_constant_metric_has_no_closedness_defect():
    metric = torch.eye(2, dtype=torch.complex128)
    assert closedness_defect(lambda z: metric + 0 * z.unsqueeze(-1), points(3, 2)).max() == 0


@pytest.mark.parametrize("log_var", [-80, -50, 0, 50, 80])
def test_defects_of_metrics_of_any_size(log_var):
    """In single precision, where squares of these overflow, or vanish."""

    def decoder(z):
        return RealGaussian(z.real, torch.full((), float(log_var)))

    z = points(3, 2).to(torch.complex64)
    torch.testing.assert_close(hermitian_defect(decoder, z), torch.ones(3))

    def metric(z):  # ∂₂ g₁₁ is all of its derivative, and antisymmetrised twice
        diagonal = torch.stack([1 + z[:, 1].abs().square(), torch.ones(len(z))], dim=1)
        return math.exp(-log_var) * torch.diag_embed(diagonal) + 0j

    torch.testing.assert_close(closedness_defect(metric, z), torch.full((3,), 2**0.5))


def test_defects_are_none_where_the_metric_is_no_number():
    def metric(z):  # of the unit disc, twice
        return torch.diag_embed((1 - z.abs().square()).sqrt()) + 0j

    z = torch.tensor([[0.1 + 0.2j, 0.3j], [0.5 + 0j, 0.1j], [2 + 0j, 0.1j]])  # one is beyond
    assert closedness_defect(metric, z).isnan().tolist() == [False, False, True]
    assert relative_size(0 * metric(z), metric(z)).isnan().tolist() == [False, False, True]


def test_smallest_eigenvalue():
    metric = torch.diag_embed(torch.tensor([[3.0, -2.0, 1.0]])).to(torch.complex128)
    assert smallest_eigenvalue(metric).item() == pytest.approx(-2)


def test_half_a_matrix_is_no_metric():
    """Cholesky and eigenvalues read one triangle, and would answer for another matrix."""
    half = torch.tensor([[2, 1j], [0, 2]])
    whole = torch.tensor([[2, 1j], [-1j, 2]])
    z = torch.zeros(1, 2, dtype=half.dtype)
    assert smallest_eigenvalue(torch.stack([whole, half, half.mH])).isnan().tolist() == [0, 1, 1]
    for pair in ((half[None], whole[None]), (whole[None], half[None])):
        assert affine_invariant_distance(*pair).isnan().all()
    with pytest.raises(InputError, match="not Hermitian"):
        MixturePotential.constant(half)
    with pytest.raises(InputError, match="1 of 1 metrics of anchors are not Hermitian"):
        MixturePotential.from_metrics(z, half[None], 0.5)
