import math

import pytest
import torch
from scipy.stats import multivariate_normal

from kahlervae.errors import InputError
from kahlervae.models import ComplexPosterior, RealPosterior
from kahlervae.sample import GaussianMixture, PosteriorMixture, Prior
from kahlervae.sample.mixtures import coordinates
from kahlervae.seeding import generator


def gmm(temperature=1.0, components=3, latent_dim=2):
    stream = generator(5)
    size = 2 * latent_dim
    root = torch.randn(components, size, size, generator=stream, dtype=torch.float64) / 2
    covariances = root @ root.mT + 0.05 * torch.eye(size, dtype=torch.float64)
    means = torch.randn(components, size, generator=stream, dtype=torch.float64)
    weights = torch.rand(components, generator=stream, dtype=torch.float64) + 0.2
    parameters = (weights / weights.sum(), means, covariances)
    return GaussianMixture(*parameters, temperature, torch.complex128)


def posterior(kind, count=6, latent_dim=2):
    stream = generator(3)
    if kind is RealPosterior:
        shape = (count, 2 * latent_dim)
        mean = torch.randn(shape, generator=stream, dtype=torch.float64)
    else:
        shape = (count, latent_dim)
        mean = torch.randn(shape, generator=stream, dtype=torch.complex128)
    return kind(mean, torch.rand(shape, generator=stream, dtype=torch.float64) - 2)


def mixtures():
    return [
        gmm(),
        gmm(0.6),
        *(
            PosteriorMixture(posterior(kind), torch.complex128)
            for kind in (ComplexPosterior, RealPosterior)
        ),
    ]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.5])
def test_density_of_a_gaussian_mixture_is_that_of_scipy(temperature):
    mixture = gmm(temperature)
    z = Prior(2, torch.complex128).sample(20, generator(0)).latents
    expected = sum(
        float(weight)
        * multivariate_normal(mean.numpy(), temperature**2 * covariance.numpy()).pdf(
            coordinates(z).numpy()
        )
        for weight, mean, covariance in zip(
            mixture.weights, mixture.means, mixture.covariances, strict=True
        )
    )
    torch.testing.assert_close(mixture.log_density(z).exp(), torch.from_numpy(expected))


def test_density_of_the_aggregated_posterior_is_the_sum_over_images():
    q = posterior(ComplexPosterior)
    z = Prior(2, torch.complex128).sample(20, generator(0)).latents
    expected = 0
    for mean, variance in zip(q.mean, q.variance, strict=True):
        squares = (z - mean).abs().square() / variance
        expected = expected + torch.exp(-squares).prod(1) / (math.pi * variance).prod() / 6
    torch.testing.assert_close(PosteriorMixture(q).log_density(z).exp(), expected)


@pytest.mark.parametrize("index", range(4))
def test_density_is_the_one_of_the_draws(index):
    """E_q[p/q] = 1 and E_q[x p/q] = E_p[x] for draws of a wider q and the mixture p."""
    mixture = mixtures()[index]
    count = 40_000
    wide = mixture.draw(torch.arange(len(mixture.log_weights)), generator(8)).abs().max()
    scale = float(wide.clamp(min=1.5))
    z = scale * Prior(2, torch.complex128).sample(count, generator(1)).latents
    log_q = Prior(2, torch.complex128).log_density(z / scale) - 4 * math.log(scale)
    weights = (mixture.log_density(z) - log_q).exp()
    drawn = coordinates(mixture.sample(count, generator(2)).latents)
    for moment in (lambda x: torch.ones_like(x[:, 0]), *(lambda x, j=j: x[:, j] for j in range(4))):
        weighted, plain = weights * moment(coordinates(z)), moment(drawn)
        error = math.sqrt(float(weighted.var() + plain.var()) / count)
        assert abs(float(weighted.mean() - plain.mean())) < 4 * error


@pytest.mark.parametrize("index", range(4))
def test_scale_is_the_deviation_within_components(index):
    mixture = mixtures()[index]
    components = len(mixture.log_weights)
    index = torch.arange(components).repeat_interleave(20_000)
    z = mixture.draw(index, generator(0)).reshape(components, 20_000, 2)
    variance = (z - z.mean(1, keepdim=True)).abs().square().mean(1)
    expected = (mixture.log_weights.exp() @ variance).sqrt()
    torch.testing.assert_close(mixture.scale, expected, rtol=0.02, atol=0)


def test_temperature_changes_covariances_alone():
    cold, fitted = gmm(0.5), gmm()
    assert torch.equal(cold.log_weights, fitted.log_weights)
    index = torch.zeros(40_000, dtype=torch.long)
    x = coordinates(cold.draw(index, generator(0)))
    torch.testing.assert_close(x.mean(0), fitted.means[0], rtol=0, atol=0.02)
    torch.testing.assert_close(x.T.cov(), 0.25 * fitted.covariances[0], rtol=0.05, atol=0.01)


def test_fit_finds_the_clusters():
    stream = generator(0)
    centres = torch.tensor([[3.0 + 0j, 0], [0, 3j], [-3, -3]])
    index = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), 3000, True, generator=stream)
    means = centres[index] + 0.3 * Prior(2).sample(3000, stream).latents
    mixture = GaussianMixture.fit(means, 3, 0)
    order = mixture.weights.argsort(descending=True)
    torch.testing.assert_close(
        mixture.weights[order].float(), torch.tensor([0.5, 0.3, 0.2]), rtol=0, atol=0.03
    )
    torch.testing.assert_close(
        mixture.means[order].float(), coordinates(centres), rtol=0, atol=0.05
    )
    again = GaussianMixture.fit(means, 3, 0)
    assert torch.equal(again.covariances, mixture.covariances)
    assert mixture.sample(5, stream).latents.dtype == means.dtype


def test_reweighting():
    mixture = gmm()
    other = mixture.reweighted(torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64).log())
    z = Prior(2, torch.complex128).sample(5, generator(0)).latents
    expected = mixture.log_components(z).exp() @ torch.tensor([0.25, 0.5, 0.25]).double()
    torch.testing.assert_close(other.log_density(z).exp(), expected)
    assert torch.equal(mixture.log_weights, gmm().log_weights)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(InputError, match=r"the temperature .* give a finite number above 0"):
        gmm(temperature)


BAD = {
    "weights that are no shares": ({"weights": torch.tensor([30.0, 70.0])}, "sum to 100"),
    "a negative weight": ({"weights": torch.tensor([1.5, -0.5])}, "some are negative"),
    "a weight that is not a number": ({"weights": torch.tensor([1.0, math.nan])}, "sum to nan"),
    "another number of weights": ({"weights": torch.ones(1)}, r"have the shapes \(1,\)"),
    "an odd dimension": ({"means": torch.zeros(2, 3)}, "have the shapes"),
    "a mean that is not finite": ({"means": torch.tensor([[0, math.inf], [0, 0]])}, "1 of 2 means"),
    "a negative covariance": ({"covariances": -torch.eye(2).expand(2, 2, 2)}, "2 of 2 covariances"),
    "one that is singular": ({"covariances": torch.ones(2, 2, 2)}, "2 of 2 covariances"),
    "one that is not symmetric": (
        {"covariances": torch.tensor([[[1, 0.9], [0, 1]], [[1, 0], [0, 1]]])},
        "1 of 2 covariances",
    ),
    "one that is not a number": (
        {"covariances": torch.full((2, 2, 2), math.nan)},
        "2 of 2 covariances",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_mixture_is_refused(name):
    wrong, sentence = BAD[name]
    good = {
        "weights": torch.tensor([0.3, 0.7]),
        "means": torch.zeros(2, 2),
        "covariances": torch.eye(2).expand(2, 2, 2),
    }
    GaussianMixture(**good)
    with pytest.raises(InputError, match=sentence):
        GaussianMixture(**good | wrong)


def test_weights_in_single_precision_sum_to_one():
    """Those of a learned prior of many components do so but for rounding."""
    weights = torch.randn(5000, generator=generator(0)).softmax(0)
    means = torch.randn(5000, 2, generator=generator(1))
    mixture = GaussianMixture(weights, means, 0.1 * torch.eye(2).expand(5000, 2, 2))
    assert mixture.log_weights.logsumexp(0).abs().item() < 1e-6


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_posteriors_that_are_not_finite_are_refused(bad):
    log_var = torch.zeros(3, 2)
    log_var[1, 0] = bad
    mean = torch.zeros(3, 2, dtype=torch.complex64)
    for posterior in (ComplexPosterior(mean, log_var), ComplexPosterior(mean + log_var, log_var)):
        with pytest.raises(InputError, match="1 of 3 posteriors have a mean that is not finite"):
            PosteriorMixture(posterior)
    with pytest.raises(InputError, match="there are no posteriors"):
        PosteriorMixture(ComplexPosterior(mean[:0], log_var[:0]))


def test_latents_that_are_not_finite_are_not_fitted():
    means = torch.randn(30, 2, dtype=torch.complex64)
    means[3] = math.nan
    with pytest.raises(InputError, match="means is not finite in 1 of 30 rows"):
        GaussianMixture.fit(means, 2, 0)
    with pytest.raises(InputError, match=r"components, .* whole number"):
        GaussianMixture.fit(means, 2.0, 0)
    with pytest.raises(InputError, match="the seed is -1: give a whole number from 0"):
        GaussianMixture.fit(means, 2, -1)


def test_more_components_than_latents_are_refused():
    with pytest.raises(InputError, match=r"lower sampling\.gmm\.components"):
        GaussianMixture.fit(torch.randn(3, 2, dtype=torch.complex64), 4, 0)
