import pytest
import torch
from geometry.decoders import points

from kahlervae.errors import InputError
from kahlervae.evaluate.hermitian import HermitianRegression
from kahlervae.geometry import closedness_defect, log_det, relative_error
from kahlervae.nn import to_double


def not_closed(z):
    """diag(1 + |z₂|², 1): Hermitian and positive definite, and of no potential."""
    size = 1 + z[:, 1].abs().square()
    return torch.diag_embed(torch.stack([size, torch.ones_like(size)], -1)).to(z)


def test_a_metric_without_potential_is_learned():
    z = points(2000, 2).to(torch.complex64)
    stream = torch.Generator().manual_seed(0)
    fit = HermitianRegression.fit(z, not_closed(z), 32, 400, 1e-2, stream)
    fresh = points(200, 2, seed=3).to(torch.complex64)
    assert relative_error(fit.metric(fresh), not_closed(fresh)).median() < 0.05
    assert closedness_defect(fit.metric, fresh).median() > 0.5


def test_the_scale_of_the_metrics_is_that_of_the_fit():
    z = points(50, 2).to(torch.complex64)
    one, other = (
        HermitianRegression.fit(z, c * not_closed(z), 4, 10, 1e-2, torch.Generator().manual_seed(0))
        for c in (1.0, 256.0)
    )
    torch.testing.assert_close(256 * one.metric(z), other.metric(z), rtol=1e-4, atol=1e-3)


def test_metrics_of_all_sizes_at_latents_far_out_do_not_overflow():
    z = points(2000, 2).to(torch.complex64)
    z[::100] *= 1e3
    metrics = not_closed(z) * torch.logspace(-4, 4, len(z))[:, None, None]
    stream = torch.Generator().manual_seed(0)
    fit = HermitianRegression.fit(z, metrics, 64, 300, 1e-2, stream)
    assert fit.metric(z).isfinite().all()
    assert (torch.linalg.eigvalsh(to_double(fit).metric(z.to(torch.complex128))) > 0).all()


def test_a_fit_that_diverges_is_refused():
    z = points(50, 2).to(torch.complex64)
    with pytest.raises(InputError, match=r"on 50 metrics diverged: lower the learning rate"):
        HermitianRegression.fit(z, not_closed(z), 4, 30, 1e30, torch.Generator().manual_seed(0))


def test_metrics_that_single_precision_hardly_inverts_are_regressed_in_it():
    z = points(4000, 4).to(torch.complex64)
    turned = torch.einsum("ijk,nk->nij", points(16, 4).to(z).unflatten(0, (4, 4)), z)
    directions = torch.linalg.qr(turned)[0]
    values = torch.logspace(0, 3, 4) * (1 + z.abs().square())
    metrics = directions @ torch.diag_embed(values).to(z) @ directions.mH
    stream = torch.Generator().manual_seed(0)
    fit = to_double(HermitianRegression.fit(z, metrics, 64, 300, 3e-3, stream))
    exact = metrics.to(torch.complex128)
    found = fit.metric(z.to(exact))
    constant = exact.mean(0).expand_as(exact)
    assert relative_error(found, exact).median() < relative_error(constant, exact).median()
    assert (log_det(found) - log_det(exact)).abs().median() < 1


def test_the_volume_that_is_fitted_is_that_of_the_metric():
    z = points(50, 3).to(torch.complex64)
    metrics = torch.diag_embed(1 + z.abs().square()).to(z)
    stream = torch.Generator().manual_seed(0)
    fit = to_double(HermitianRegression.fit(z, metrics, 8, 20, 1e-2, stream))
    root, volume = fit._root(z.to(torch.complex128))
    torch.testing.assert_close(volume, log_det(root @ root.mH))
