"""Exponential families against torch's distributions of the same name."""

import math

import pytest
import torch
from scipy import stats
from torch import distributions as dist

from kahlervae.errors import InputError
from kahlervae.models.families import (
    MANY,
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    LogPoisson,
    check_support,
    continuous_bernoulli_log_partition,
    continuous_bernoulli_mean,
    continuous_bernoulli_variance,
)

ETA = torch.linspace(-4, 4, 18, dtype=torch.float64).view(3, 6)
OTHER = ETA.flip(1).roll(1, 0).contiguous()

PAIRS = {
    "Bernoulli": (Bernoulli, lambda eta: dist.Bernoulli(logits=eta)),
    "ContinuousBernoulli": (
        ContinuousBernoulli,
        lambda eta: dist.ContinuousBernoulli(logits=eta, lims=(0.5, 0.5)),
    ),
    "LogPoisson": (LogPoisson, lambda eta: dist.Poisson(eta.exp())),
    "Categorical": (
        lambda eta: Categorical(eta.unflatten(-1, (2, 3))),
        lambda eta: dist.Categorical(logits=eta.unflatten(-1, (2, 3))),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_log_prob_and_relative_entropy_are_those_of_torch(name):
    ours, theirs = PAIRS[name]
    torch.manual_seed(0)
    x = theirs(ETA).sample()
    torch.testing.assert_close(ours(ETA).log_prob(x), theirs(ETA).log_prob(x).sum(-1))
    expected = dist.kl_divergence(theirs(ETA), theirs(OTHER)).sum(-1)
    torch.testing.assert_close(ours(ETA).kl(ours(OTHER)), expected)


@pytest.mark.parametrize("name", PAIRS)
def test_draws_have_the_means_and_lie_in_the_support(name):
    make, _ = PAIRS[name]
    draws = 20_000
    p = make(ETA.unsqueeze(0).expand(draws, -1, -1))
    x = p.sample(torch.Generator().manual_seed(0))
    assert not p.outside(x).any()
    if name == "Categorical":
        x = torch.nn.functional.one_hot(x, 3).double()
    error = x.std(0) / draws**0.5
    assert ((x.mean(0) - p.mean[0]).abs() / error.clamp_min(1e-3)).max() < 4.5


@pytest.mark.parametrize("name", ["Bernoulli", "ContinuousBernoulli", "LogPoisson"])
def test_mean_and_variance_are_derivatives_of_the_log_partition_function(name):
    make, _ = PAIRS[name]
    eta = ETA.flatten().requires_grad_()
    p = make(eta)
    (mean,) = torch.autograd.grad(p.log_partition(), eta, create_graph=True)
    (variance,) = torch.autograd.grad(mean.sum(), eta)
    torch.testing.assert_close(p.mean, mean)
    torch.testing.assert_close(p.log_var.exp(), variance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_continuous_bernoulli_is_stable_everywhere(dtype):
    eta = torch.tensor([0, 1e-8, 1e-4, 0.5, 1.999, 2.001, 30, 500, 1e4], dtype=dtype)
    eta = torch.cat([-eta.flip(0), eta]).requires_grad_()
    values = continuous_bernoulli_log_partition(eta)
    (mean,) = torch.autograd.grad(values.sum(), eta, create_graph=True)
    (variance,) = torch.autograd.grad(mean.sum(), eta)
    tolerance = {"rtol": 1e-4, "atol": 1e-6} if dtype == torch.float32 else {}
    torch.testing.assert_close(continuous_bernoulli_mean(eta), mean, **tolerance)
    # Differences of numbers near 1 leave fewer digits to what is differentiated than to the series.
    inside = eta.abs() < 100
    expected = continuous_bernoulli_variance(eta)
    torch.testing.assert_close(variance[inside], expected[inside], rtol=1e-2, atol=1e-7)
    assert values.isfinite().all()
    assert expected.min() > 0
    # e^{A(η)} = (e^η − 1)/η, and A(−η) = A(η) − η.
    torch.testing.assert_close(values.flip(0) + eta.clamp_min(0), values - eta.clamp_max(0))
    density = ContinuousBernoulli(eta[:, None]).log_prob(torch.zeros(1, dtype=dtype)).exp()
    some = (eta.abs() > 0.1) & (eta.abs() < 40)
    torch.testing.assert_close(density[some], (eta / torch.expm1(eta))[some])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_means_next_to_zero_keep_their_digits(dtype):
    """1/s − 1/(eˢ − 1) at η = −s, with its derivative, by numbers of Python."""
    sizes = torch.tensor([2.001, 5, 12, 30, 80, 200, 1e4, 1e8], dtype=dtype)
    eta = (-sizes).requires_grad_()
    mean = continuous_bernoulli_mean(eta)
    (slope,) = torch.autograd.grad(mean.sum(), eta)
    decays = [1 / math.expm1(s) if s < 700 else 0.0 for s in sizes.tolist()]
    pairs = list(zip(sizes.tolist(), decays, strict=True))
    expected = torch.tensor([1 / s - decay for s, decay in pairs], dtype=dtype)
    tolerance = {"rtol": 20 * torch.finfo(dtype).eps, "atol": 0}
    torch.testing.assert_close(mean.detach(), expected, **tolerance)
    slopes = torch.tensor([s**-2 - decay * (1 + decay) for s, decay in pairs], dtype=dtype)
    torch.testing.assert_close(slope, slopes, **tolerance)
    torch.testing.assert_close(continuous_bernoulli_variance(-sizes), slopes, **tolerance)


@pytest.mark.parametrize("eta", [-1e4, -30.0, 0.0, 30.0, 1e4])
def test_draws_of_a_continuous_bernoulli_stay_in_range(eta):
    p = ContinuousBernoulli(torch.full((1000,), eta))
    x = p.sample(torch.Generator().manual_seed(0))
    assert not p.outside(x).any()
    assert abs(x.mean().item() - p.mean[0].item()) < 0.05


def test_log_prob_of_grey_values_is_the_mean_over_binary_ones():
    grey = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    p = Bernoulli(torch.tensor([[0.3, -1.2]], dtype=torch.float64))
    total = 0.0
    for bits in torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 2):
        chance = (grey[0] * bits + (1 - grey[0]) * (1 - bits)).prod()
        total = total + chance * p.log_prob(bits)
    torch.testing.assert_close(p.log_prob(grey)[0], total[0])


@pytest.mark.parametrize(
    ("kind", "data", "sentence"),
    [
        (Bernoulli, [0.0, 0.5, 1.0, 0.2], "2 of 4 values of the data are not 0 or 1"),
        (ContinuousBernoulli, [0.0, 1.5, -0.1], r"2 of 3 values .* not within \[0, 1\]"),
        (LogPoisson, [0.0, -1.0, 2.5], "2 of 3 values .* not whole numbers from 0 on"),
        (LogPoisson, [torch.nan, torch.inf], "2 of 2 values"),
    ],
)
def test_data_outside_the_support_are_counted(kind, data, sentence):
    with pytest.raises(InputError, match=sentence):
        check_support(kind, torch.tensor(data))


@pytest.mark.parametrize("rate", [30.0, 0.99 * MANY, 1.01 * MANY, 1e13, 5e21])
def test_counts_have_their_distribution_however_many(rate):
    p = LogPoisson(torch.full((4000,), math.log(rate), dtype=torch.float64))
    x = p.sample(torch.Generator().manual_seed(0))
    assert not p.outside(x).any()
    rate = p.mean[0].item()  # the logarithm has lost digits
    far = rate > 1e12  # where scipy has none
    deviation, mean = math.sqrt(rate), rate
    expected = stats.norm(mean, deviation) if far else stats.poisson(rate)
    found = stats.ecdf(x.numpy()).cdf
    at = mean + deviation * torch.linspace(-3, 3, 61, dtype=torch.float64).numpy()
    assert abs(found.evaluate(at) - expected.cdf(at)).max() < 1.63 / math.sqrt(len(x))


def test_large_rates_leave_the_draws_of_others_as_they_are():
    eta = torch.linspace(-3, 20, 50)
    alone = LogPoisson(eta).sample(torch.Generator().manual_seed(0))
    assert torch.equal(alone, torch.poisson(eta.exp(), torch.Generator().manual_seed(0)))
    both = LogPoisson(torch.cat([eta, torch.full((3,), 50.0)]))
    assert torch.equal(both.sample(torch.Generator().manual_seed(0))[:50], alone)


@pytest.mark.parametrize("eta", [100.0, math.nan])
def test_rates_that_are_not_finite_are_refused(eta):
    with pytest.raises(InputError, match="1 of 2 rates are not finite"):
        LogPoisson(torch.tensor([0.0, eta])).sample(torch.Generator())
