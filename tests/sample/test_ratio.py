"""A classifier has the ratio of two densities, and resampling by it gives the other one."""

import math

import pytest
import torch

from kahlervae.errors import InputError
from kahlervae.models import ComplexPosterior
from kahlervae.sample import PosteriorMixture, Prior, Ratio


@pytest.fixture(scope="module")
def target():
    """Two narrow posteriors, both within the reach of the prior."""
    means = torch.tensor([[0.8 + 0.2j, 0.1j], [-0.5j, 0.6 + 0j]])
    return PosteriorMixture(ComplexPosterior(means, torch.full((2, 2), -1.5)))


@pytest.fixture(scope="module")
def ratio(target):
    return Ratio(Prior(2), target, draws=20_000, pool=30)


def test_the_odds_are_the_ratio_of_the_densities(ratio, target, random):
    z = target.sample(2000, random).latents
    exact = target.log_density(z) - ratio.base.log_density(z)
    error = ratio.log_ratio(z) - exact
    assert torch.corrcoef(torch.stack([ratio.log_ratio(z), exact]))[0, 1] > 0.9
    assert error.mean().abs() < 0.1
    assert error.std() < 0.4


def test_a_ratio_is_that_of_latents(ratio):
    z = torch.zeros(3, 2) + 0j
    with pytest.raises(InputError, match="z is not finite in 3 of 3 rows"):
        ratio.log_ratio(torch.nan * z)
    with pytest.raises(InputError, match="these latents have 2 dimensions"):
        ratio.log_ratio(z[:, :1])


def test_what_is_resampled_has_the_moments_of_the_target(ratio, target, random):
    drawn, diagnostics = ratio.sample(3000, random)
    other = target.sample(20_000, random).latents
    prior = ratio.base.sample(20_000, random).latents
    for moment in (lambda z: z.real.mean(0), lambda z: z.abs().square().mean(0)):
        found, wanted, before = map(moment, (drawn, other, prior))
        assert (found - wanted).abs().max() < 0.25 * (before - wanted).abs().max()
    assert not diagnostics.flagged
    assert diagnostics.normaliser_draws == 90_000
    # E r = 1 under the base.
    assert diagnostics.log_normaliser == pytest.approx(0, abs=0.1)


def test_draws_follow_from_the_seeds(target, random):
    options = {"draws": 500, "pool": 3}
    first, again = (Ratio(Prior(2), target, **options) for _ in range(2))
    stream = [torch.Generator().manual_seed(3) for _ in range(2)]
    latents = [r.sample(50, s).latents for r, s in zip((first, again), stream, strict=True)]
    assert torch.equal(*latents)
    other = Ratio(Prior(2), target, seed=1, **options)
    z = target.sample(50, random).latents
    assert not torch.equal(first.log_ratio(z), other.log_ratio(z))


def test_log_det_is_an_input_where_there_is_a_metric(target, growing, random):
    sampler = Ratio(Prior(2), target, growing, 1e-3, draws=500, pool=3)
    assert sampler.key == "ratio:base=prior,inputs=latent+log_det"
    assert sampler.classifier.n_features_in_ == 5
    assert sampler.sample(20, random).latents.shape == (20, 2)


def test_a_target_out_of_reach_is_flagged(random):
    far = ComplexPosterior(torch.tensor([[2.5 + 0j]]), torch.full((1, 1), -6.0))
    *_, diagnostics = Ratio(Prior(1), PosteriorMixture(far), draws=2000, pool=2).sample(500, random)
    assert diagnostics.flagged
    assert "effective draws for 500" in diagnostics.reason


def test_a_volume_that_is_none_is_named(target):
    class Broken:
        def log_det(self, z, epsilon):
            return torch.full(z.shape[:1], torch.nan)

    with pytest.raises(
        InputError, match=r"ratio:base=prior,inputs=latent\+log_det: log det is not"
    ):
        Ratio(Prior(2), target, Broken(), 1e-3, draws=100, pool=2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"draws": 0},
        {"draws": 2.5},
        {"pool": 0},
        {"epsilon": -1.0},
        {"epsilon": math.nan},
        {"seed": -1},
        {"seed": 2**32},
        {"seed": 0.5},
    ],
)
def test_numbers_are_looked_at(target, growing, wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=f"{name}.* is .*: give a"):
        Ratio(Prior(2), target, growing, **{"epsilon": 1e-3} | wrong)
