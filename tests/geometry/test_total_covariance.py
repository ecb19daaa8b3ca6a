import numpy as np
import pytest
import torch
from geometry.decoders import points

from kahlervae.geometry import (
    MixtureDecoder,
    MixturePotential,
    smallest_eigenvalue,
    total_covariance,
)
from kahlervae.models import RealGaussian


def mixture(separation, d=2, components=4, output_dim=3):
    stream = torch.Generator().manual_seed(0)
    means = separation * torch.randn(components, output_dim, generator=stream, dtype=torch.float64)
    offset = torch.randn(components, generator=stream, dtype=torch.float64)
    likelihoods = RealGaussian(means, torch.zeros_like(means))
    return MixtureDecoder(offset, points(components, d), likelihoods)


def test_complete_information_is_the_metric_of_the_affine_potential():
    decoder, z = mixture(1.0), points(5, 2, seed=1)
    potential = MixturePotential(
        background=torch.zeros(2, 2, dtype=torch.complex128),
        log_strength=torch.zeros(1, dtype=torch.float64),
        offset=decoder.offset.unsqueeze(0),
        slope=decoder.slope.unsqueeze(0),
    )
    torch.testing.assert_close(decoder.complete_information(z), potential.metric(z))


@pytest.mark.parametrize(("separation", "chunk"), [(0.5, 1 << 21), (2.0, 1 << 21), (10.0, 4000)])
def test_complete_is_observed_plus_missing_within_four_standard_errors(
    separation, chunk, monkeypatch
):
    monkeypatch.setattr(total_covariance, "CHUNK", chunk)
    decoder, z, draws = mixture(separation), points(3, 2, seed=1), 20_000
    observed, missing = decoder.information_draws(z, draws, torch.Generator().manual_seed(2))
    total = observed + missing
    error = (total.mean(1) - decoder.complete_information(z)).abs()
    assert (error / (total.std(1) / draws**0.5 + 1e-12)).max() < 4
    assert smallest_eigenvalue(missing).min() > -1e-12


def test_identity_by_quadrature_in_one_dimension():
    """x in R: both parts by Gauss–Hermite quadrature around every component."""
    decoder, z = mixture(1.5, output_dim=1), points(3, 2, seed=1)
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(120))
    weights = weights / weights.sum()
    x = decoder.components.mean + nodes  # (K, nodes)
    mass = decoder.log_weights(z).exp().unsqueeze(-1) * weights  # (n, K, nodes)
    log_components = RealGaussian(decoder.components.mean, decoder.components.log_var).log_prob(
        x.reshape(-1, 1, 1)
    )
    joint = decoder.log_weights(z).unsqueeze(1) + log_components
    responsibilities = joint.softmax(-1)
    deviation = responsibilities - decoder.log_weights(z).exp().unsqueeze(1)
    score = deviation.to(z.dtype) @ decoder.slope.conj()
    flat = mass.flatten(1).to(z.dtype)
    observed = torch.einsum("nq,nqi,nqj->nij", flat, score, score.conj())
    missing = torch.einsum("nq,nqij->nij", flat, decoder._covariance(responsibilities))
    torch.testing.assert_close(observed + missing, decoder.complete_information(z))


def test_score_is_the_gradient_of_the_mixture_log_likelihood():
    """Observed draws equal ∂ℓ ∂̄ℓ with ∂ℓ from reverse differentiation of log_prob."""
    decoder, z = mixture(1.0), points(3, 2, seed=1)
    observed, _ = decoder.information_draws(z, 10, torch.Generator().manual_seed(5))
    stream = torch.Generator().manual_seed(5)
    chosen = torch.multinomial(decoder.log_weights(z).exp(), 10, True, generator=stream)
    x = RealGaussian(*(part[chosen] for part in decoder.components)).sample(stream)
    repeated = z.unsqueeze(1).repeat(1, 10, 1).flatten(0, 1).requires_grad_()
    log_prob = decoder.log_prob(x.flatten(0, 1).unsqueeze(1), repeated).sum()
    (gradient,) = torch.autograd.grad(log_prob, repeated)
    score = (gradient.conj() / 2).unflatten(0, (3, 10))
    torch.testing.assert_close(observed, score.unsqueeze(-1) * score.conj().unsqueeze(-2))


def test_missing_share_vanishes_as_components_separate():
    z, shares = points(4, 2, seed=1), []
    for separation in (0.3, 3.0, 30.0):
        decoder = mixture(separation)
        _, missing = decoder.information_draws(z, 2_000, torch.Generator().manual_seed(0))
        complete = decoder.complete_information(z)
        trace = missing.mean(1).diagonal(dim1=-2, dim2=-1).sum(-1).real
        shares.append((trace / complete.diagonal(dim1=-2, dim2=-1).sum(-1).real).mean().item())
    assert shares[0] > 0.5 > shares[1] > shares[2]
    assert shares[2] < 1e-6
