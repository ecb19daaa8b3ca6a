import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from kahlervae.models.likelihoods import ComplexGaussian, DenseComplexGaussian, RealGaussian
from kahlervae.models.posteriors import ComplexPosterior, RealPosterior


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def real(seed=0, shape=(4, 3)):
    parts = torch.randn(2, *shape, generator=stream(seed), dtype=torch.float64)
    return RealGaussian(*parts)


def complex_(seed=0, shape=(4, 3)):
    mean = torch.randn(shape, generator=stream(seed), dtype=torch.complex128)
    return ComplexGaussian(mean, torch.randn(shape, generator=stream(seed + 1)).double())


def as_real(p: ComplexGaussian) -> MultivariateNormal:
    """CN(μ, diag σ²) is N((Re μ, Im μ), ½ diag(σ², σ²)) in the real coordinates."""
    variance = torch.exp(p.log_var).repeat(1, 2) / 2
    mean = torch.cat([p.mean.real, p.mean.imag], dim=-1)
    return MultivariateNormal(mean, torch.diag_embed(variance))


def test_real_gaussian_against_torch_distributions():
    p, q = real(0), real(1)
    reference = [Independent(Normal(r.mean, torch.exp(0.5 * r.log_var)), 1) for r in (p, q)]
    x = real(2).mean
    torch.testing.assert_close(p.log_prob(x), reference[0].log_prob(x))
    torch.testing.assert_close(p.kl(q), kl_divergence(*reference))


def test_complex_gaussian_against_its_real_form():
    p, q, x = complex_(0), complex_(2), complex_(4).mean
    flat = torch.cat([x.real, x.imag], dim=-1)
    torch.testing.assert_close(p.log_prob(x), as_real(p).log_prob(flat))
    torch.testing.assert_close(p.kl(q), kl_divergence(as_real(p), as_real(q)))


def test_dense_complex_gaussian_against_its_real_form():
    def random(seed):
        factor = torch.randn(4, 3, 3, generator=stream(seed), dtype=torch.complex128)
        covariance = factor @ factor.mH + torch.eye(3)
        mean = torch.randn(4, 3, generator=stream(seed + 1), dtype=torch.complex128)
        upper = torch.cat([covariance.real, -covariance.imag], dim=-1)
        lower = torch.cat([covariance.imag, covariance.real], dim=-1)
        normal = MultivariateNormal(
            torch.cat([mean.real, mean.imag], dim=-1), torch.cat([upper, lower], dim=-2) / 2
        )
        return DenseComplexGaussian(mean, covariance), normal

    (p, p_real), (q, q_real) = random(0), random(5)
    torch.testing.assert_close(p.kl(q), kl_divergence(p_real, q_real))


@pytest.mark.parametrize("likelihood", [real(0, (2,)), complex_(0, (2,))])
def test_moments_of_draws_within_four_standard_errors(likelihood):
    draws = 50_000
    batch = type(likelihood)(*(part.expand(draws, 2) for part in likelihood))
    deviation = batch.sample(stream(7)) - likelihood.mean
    variance = torch.exp(likelihood.log_var)
    standard_error = (variance / draws).sqrt()
    assert (deviation.mean(0).abs() / standard_error).max() < 4 * 2**0.5
    squares = (deviation * deviation.conj()).real / variance
    assert ((squares.mean(0) - 1).abs() / (squares.std(0) / draws**0.5)).max() < 4
    if deviation.is_complex():  # the relation matrix E(x − μ)(x − μ)ᵀ vanishes
        assert ((deviation**2).mean(0).abs() / (variance / draws**0.5)).max() < 4


def test_complex_posterior_kl_against_the_real_form():
    p = complex_()
    prior = ComplexGaussian(torch.zeros_like(p.mean), torch.zeros_like(p.log_var))
    torch.testing.assert_close(ComplexPosterior(*p).kl(), p.kl(prior))


def test_real_posterior_kl_against_torch_distributions():
    p = real(0, (4, 6))
    reference = Independent(Normal(p.mean, torch.exp(0.5 * p.log_var)), 1)
    prior = Independent(Normal(torch.zeros(4, 6).double(), torch.ones(4, 6).double()), 1)
    torch.testing.assert_close(RealPosterior(*p).kl(), kl_divergence(reference, prior))


def test_real_posterior_at_the_prior_is_standard_complex():
    """N(0, I) in R^{2d} is CN(0, I) in C^d: E|z|² = 1 and E z² = 0."""
    zeros = torch.zeros(50_000, 4, dtype=torch.float64)
    posterior = RealPosterior(zeros, zeros)
    z = posterior.sample(stream())
    assert z.shape == posterior.mean.shape == (50_000, 2)
    torch.testing.assert_close(posterior.variance, torch.ones(50_000, 2).double())
    assert z.abs().square().mean().item() == pytest.approx(1, abs=0.02)
    assert (z**2).mean().abs().item() < 0.02
