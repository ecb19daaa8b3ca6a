"""Fisher informations of all registered distributions, and of those that fall back on KL."""

from typing import ClassVar

import mpmath
import pytest
import torch
from geometry.decoders import points
from torch import distributions as dist
from torch import nn

from kahlervae.errors import InputError
from kahlervae.geometry import (
    fisher_form,
    fisher_metric,
    fisher_norm,
    kahler_residual,
    register_fisher,
    relative_entropy_metric,
    relative_error,
)
from kahlervae.geometry.information import (
    _REGISTRY,
    information,
    kl,
    registered,
    unwrapped,
)
from kahlervae.models.families import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    LogPoisson,
    continuous_bernoulli_variance,
)
from kahlervae.models.likelihoods import ComplexGaussian, DenseComplexGaussian, RealGaussian

D = 4


def network(latent_dim: int, outputs: int):
    """Smooth real features of complex latents, of order 1."""
    torch.manual_seed(latent_dim)
    layers = nn.Sequential(nn.Linear(2 * latent_dim, 9), nn.Tanh(), nn.Linear(9, outputs))
    layers = layers.double().requires_grad_(False)
    return lambda z: layers(torch.cat([z.real, z.imag], dim=-1))


def lower(x):
    return torch.tril(x.unflatten(-1, (D, D)), -1) + torch.diag_embed(x[..., :D].exp())


def complex_mean(x):
    return torch.complex(x[..., :D], x[..., D : 2 * D])


def dense(x):
    factor = lower(x[..., : D * D]) + 0j
    return factor @ factor.mH


# Distributions of D real numbers or events, of as many features as they need.
FAMILIES = {
    "Normal": (2 * D, lambda x: dist.Normal(x[..., :D], x[..., D:].exp())),
    "LogNormal": (2 * D, lambda x: dist.LogNormal(x[..., :D], x[..., D:].exp())),
    "Laplace": (2 * D, lambda x: dist.Laplace(x[..., :D], x[..., D:].exp())),
    "MultivariateNormal": (
        D + D * D,
        lambda x: dist.MultivariateNormal(x[..., :D], scale_tril=lower(x[..., D:])),
    ),
    "MultivariateNormal by covariance": (
        D + D * D,
        lambda x: dist.MultivariateNormal(x[..., :D], dense(x[..., D:]).real),
    ),
    "LowRankMultivariateNormal": (
        4 * D,
        lambda x: dist.LowRankMultivariateNormal(
            x[..., :D], x[..., D : 3 * D].unflatten(-1, (D, 2)), x[..., 3 * D :].exp()
        ),
    ),
    "Bernoulli": (D, lambda x: dist.Bernoulli(logits=3 * x)),
    "Bernoulli by probabilities": (D, lambda x: dist.Bernoulli(probs=x.sigmoid())),
    "ContinuousBernoulli": (D, lambda x: dist.ContinuousBernoulli(logits=3 * x)),
    "Categorical": (3 * D, lambda x: dist.Categorical(logits=2 * x.unflatten(-1, (D, 3)))),
    "Categorical by probabilities": (
        3 * D,
        lambda x: dist.Categorical(probs=x.unflatten(-1, (D, 3)).softmax(-1)),
    ),
    "OneHotCategorical": (3 * D, lambda x: dist.OneHotCategorical(logits=x.unflatten(-1, (D, 3)))),
    "Poisson": (D, lambda x: dist.Poisson(x.exp())),
    "Exponential": (D, lambda x: dist.Exponential(x.exp())),
    "Gamma": (2 * D, lambda x: dist.Gamma(x[..., :D].exp(), x[..., D:].exp())),
    "Beta": (2 * D, lambda x: dist.Beta(x[..., :D].exp(), x[..., D:].exp())),
    "Dirichlet": (D, lambda x: dist.Dirichlet(x.exp())),
    "Independent": (
        2 * D,
        lambda x: dist.Independent(dist.Normal(x[..., :D], x[..., D:].exp()), 1),
    ),
    "tanh of a normal": (
        2 * D,
        lambda x: dist.TransformedDistribution(
            dist.Normal(x[..., :D], x[..., D:].exp()), [dist.TanhTransform()]
        ),
    ),
    "one scale for all": (D + 1, lambda x: dist.Normal(x[..., :D], x[..., D:].exp())),
    "images": (
        4 * D,
        lambda x: dist.Independent(dist.Normal(x.unflatten(-1, (2, 2, D)), 0.5), 3),
    ),
    "RealGaussian": (2 * D, lambda x: RealGaussian(x[..., :D], x[..., D:])),
    "RealGaussian, one variance": (D + 1, lambda x: RealGaussian(x[..., :D], x[..., D:])),
    "RealGaussian, images": (
        4 * D,
        lambda x: RealGaussian(x.unflatten(-1, (2, 2, D)), x[:, :2, None, None]),
    ),
    "ComplexGaussian": (3 * D, lambda x: ComplexGaussian(complex_mean(x), x[..., 2 * D :])),
    "DenseComplexGaussian": (
        2 * D + D * D,
        lambda x: DenseComplexGaussian(complex_mean(x), dense(x[..., 2 * D :])),
    ),
    "Bernoulli by logits": (D, lambda x: Bernoulli(3 * x)),
    "ContinuousBernoulli by logits": (D, lambda x: ContinuousBernoulli(3 * x)),
    "Categorical by logits": (3 * D, lambda x: Categorical(2 * x.unflatten(-1, (D, 3)))),
    "LogPoisson": (D, lambda x: LogPoisson(x)),
    # Not registered: by the Hessian of the relative entropy.
    "Gumbel": (2 * D, lambda x: dist.Gumbel(x[..., :D], x[..., D:].exp())),
    "Cauchy": (2 * D, lambda x: dist.Cauchy(x[..., :D], x[..., D:].exp())),
    "HalfNormal": (D, lambda x: dist.HalfNormal(x.exp())),
    "Geometric": (D, lambda x: dist.Geometric(logits=x)),
    "Binomial": (D, lambda x: dist.Binomial(7, logits=x)),
}


def decoder_of(name: str, latent_dim: int):
    features, make = FAMILIES[name]
    body = network(latent_dim, features)
    return lambda z: make(body(z))


def test_every_registered_class_is_tested():
    z = points(1, 2)
    tested = {type(unwrapped(decoder_of(name, 2)(z))) for name in FAMILIES}
    ours = {kind for kind in registered() if kind.__module__.startswith(("torch", "kahlervae"))}
    assert ours - tested == set()


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("name", FAMILIES)
def test_closed_form_is_the_hessian_of_the_relative_entropy(name, d):
    decoder, z = decoder_of(name, d), points(4, d)
    metric = fisher_metric(decoder, z)
    assert metric.shape == (4, d, d)
    assert relative_error(metric, relative_entropy_metric(decoder, z)).max() < 1e-8


@pytest.mark.parametrize("name", FAMILIES)
def test_within_four_standard_errors_of_monte_carlo_scores(name):
    """E[D_u ℓ D_v ℓ] over x ~ p(x|z), scores by reverse differentiation of log_prob."""
    decoder, z, draws = decoder_of(name, 2), points(1, 2, seed=5), 20_000
    likelihood = decoder(z)
    torch.manual_seed(1)
    if isinstance(likelihood, dist.Distribution):
        x = likelihood.sample((draws,)).squeeze(1)
    elif isinstance(likelihood, DenseComplexGaussian):
        factor = torch.linalg.cholesky(likelihood.covariance[0])
        x = likelihood.mean + torch.randn(draws, D, dtype=z.dtype) @ factor.mT
    else:
        repeated = type(likelihood)(*(part.expand(draws, *part.shape[1:]) for part in likelihood))
        x = repeated.sample(torch.Generator().manual_seed(2))
    real = torch.cat([z.real, z.imag], dim=-1).expand(draws, -1).clone().requires_grad_()
    at = decoder(torch.complex(*real.chunk(2, dim=-1)))
    if isinstance(at, DenseComplexGaussian):
        residual = (x - at.mean).unsqueeze(-1)
        squares = (residual.mH @ torch.linalg.solve(at.covariance, residual)).real.sum((1, 2))
        log_prob = -squares - torch.linalg.slogdet(at.covariance).logabsdet
    else:
        log_prob = at.log_prob(x).reshape(draws, -1).sum(1)
    (score,) = torch.autograd.grad(log_prob.sum(), real)
    products = score.unsqueeze(-1) * score.unsqueeze(-2)
    error = products.std(0) / draws**0.5
    assert ((products.mean(0) - fisher_form(decoder, z)[0]).abs() / error).max() < 4


@pytest.mark.parametrize("name", FAMILIES)
def test_norm_is_the_quadratic_form_of_the_metric(name):
    decoder, z, v = decoder_of(name, 3), points(4, 3), points(4, 3, seed=1)
    expected = torch.einsum("ni,nij,nj->n", v, fisher_metric(decoder, z), v.conj()).real
    torch.testing.assert_close(fisher_norm(decoder, z, v), expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_single_precision_gives_the_same_numbers(name):
    features, make = FAMILIES[name]
    body, z = network(2, features), points(4, 2)
    double = fisher_metric(lambda z: make(body(z)), z)
    single = fisher_metric(
        lambda z: make(body(z.to(torch.complex128)).float()), z.to(torch.complex64)
    )
    assert relative_error(single.to(double), double).max() < 1e-3


@pytest.mark.parametrize("size", [1.0, 5.0, 10.0, 30.0])
def test_bernoulli_is_exact_where_moment_matching_is_not(size):
    decoder, z = lambda z: dist.Bernoulli(logits=size * z.real), points(5, 1)
    p = torch.sigmoid(size * z.real)
    expected = size**2 * p * torch.sigmoid(-size * z.real) / 4
    torch.testing.assert_close(fisher_metric(decoder, z).real.flatten(), expected.flatten())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_variance_of_the_continuous_bernoulli_has_all_its_digits(dtype):
    """Against the second derivative of the log-partition with 60 digits."""
    from mpmath import mp, mpf, sinh

    mp.dps = 60
    logits = torch.tensor([0.0, 1e-8, 1e-3, 0.5, 1.99, 2.01, -2.5, 8.0, -30.0, 80.0], dtype=dtype)
    expected = [
        float(1 / mpf(x) ** 2 - 1 / (4 * sinh(mpf(x) / 2) ** 2)) if x else 1 / 12
        for x in logits.tolist()
    ]
    found = continuous_bernoulli_variance(logits)
    error = (found.double() / torch.tensor(expected, dtype=torch.float64) - 1).abs().max()
    assert error < 40 * torch.finfo(dtype).eps


@pytest.mark.parametrize("difference", [0.0, 1e-3, 9.9e-3, 1.01e-2, 0.5, 4.0])
def test_relative_entropy_of_laplace_is_that_of_torch(difference):
    p = dist.Laplace(torch.tensor([0.3], dtype=torch.float64), 0.7)
    q = dist.Laplace(0.3 + torch.tensor([difference], dtype=torch.float64), 1.1)
    torch.testing.assert_close(kl(p, q), dist.kl_divergence(p, q))


def test_a_user_registers_a_distribution_by_one_function():
    class Logistic(dist.Distribution):
        arg_constraints: ClassVar = {"loc": dist.constraints.real}

        def __init__(self, loc):
            self.loc = loc
            super().__init__(loc.shape)

    def decoder(z):
        return dist.Independent(Logistic(z.real), 1)

    with pytest.raises(InputError, match=r"neither .* of Logistic is known: register"):
        fisher_metric(decoder, points(3, 2))
    try:
        register_fisher(Logistic, "loc")(lambda at, d: d.loc / 3**0.5)
        torch.testing.assert_close(
            fisher_form(lambda z: decoder(z), points(3, 2)),
            torch.diag(torch.tensor([1 / 3, 1 / 3, 0, 0], dtype=torch.float64)).expand(3, 4, 4),
        )
    finally:
        del _REGISTRY[Logistic]


def test_what_inherits_has_the_information_of_what_it_inherits_from():
    class Narrow(dist.Normal):
        pass

    assert information(Narrow(0.0, 1.0)) == information(dist.Normal(0.0, 1.0))


REFUSED = {
    "support that depends on the latent": (
        lambda z: dist.Uniform(z.real, z.real + z.imag.exp()),
        "no minimum at its base point",
    ),
    "lower bound that depends on the latent": (
        lambda z: dist.Pareto(z.real.exp(), 2.0),
        "no minimum at its base point",
    ),
    "transform that depends on the latent": (
        lambda z: dist.TransformedDistribution(
            dist.Normal(z.real, 1.0), [dist.AffineTransform(z.imag, 2.0)]
        ),
        "cannot be told whether the tensors that they hold depend on the latents",
    ),
    "transform with parameters of its own": (
        lambda z: dist.Weibull(z.real.exp(), z.imag.exp()),
        "Weibull is known",
    ),
    "mixture": (
        lambda z: dist.MixtureSameFamily(dist.Categorical(logits=z.real), dist.Normal(z.imag, 1.0)),
        "MixtureSameFamily is known",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_where_it_is_not_known(name):
    decoder, words = REFUSED[name]
    for function in (fisher_metric, relative_entropy_metric):
        with pytest.raises(InputError, match=words):
            function(decoder, points(3, 2))


@pytest.mark.parametrize("size", [1e-200, 1e-3, 0.3, 5.0, 19.9, 20.1, 1e4, 1e8, 1e16])
def test_large_concentrations_keep_all_digits(size):
    """Held against fifty digits: trigammas nearly cancel."""
    mpmath.mp.dps = 50
    a = mpmath.mpf(size)
    z = torch.zeros(1, 1, dtype=torch.complex128)

    def trigamma(x):
        return mpmath.polygamma(1, x)

    def along(decoder):
        return fisher_form(decoder, z)[0, 0, 0].item()

    gamma = along(lambda z: dist.Gamma(size * z.real.exp(), z.real.exp()))
    assert gamma == pytest.approx(float(a * a * trigamma(a) - a), rel=1e-12)
    beta = along(lambda z: dist.Beta(size * z.real.exp(), 2 * size * z.real.exp()))
    expected = a * a * (trigamma(a) + 4 * trigamma(2 * a) - 9 * trigamma(3 * a))
    assert beta == pytest.approx(float(expected), rel=1e-12)
    dirichlet = along(lambda z: dist.Dirichlet(size * (z.real * torch.arange(3.0)).exp()))
    expected = a * a * (5 * trigamma(a) - 9 * trigamma(3 * a))
    assert dirichlet == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("x", [-60.0, -20.0, -3.0, 0.5])
def test_small_probabilities_are_not_taken_for_rounding(x):
    """torch's logits of probabilities end where these are as small as rounding."""
    z = torch.full((1, 1), x) + 0j
    p = torch.sigmoid(torch.tensor(x, dtype=torch.float64)).item()
    expected = pytest.approx(p * (1 - p) / 4, rel=1e-4)

    def pair(z):
        return torch.softmax(torch.cat([z.real, 0 * z.real], dim=1), dim=1)

    for decoder in (
        lambda z: dist.Bernoulli(z.real.sigmoid()),
        lambda z: dist.Categorical(pair(z)),
        lambda z: dist.OneHotCategorical(pair(z)),
        lambda z: dist.OneHotCategoricalStraightThrough(pair(z)),
    ):
        assert fisher_metric(decoder, z).real.item() == expected
        assert relative_entropy_metric(decoder, z).real.item() == expected
        assert kahler_residual(decoder, z).isfinite().all()


def test_a_category_of_probability_zero_says_nothing():
    def decoder(z):
        return dist.Categorical(torch.softmax(torch.cat([z.real, 1e3 + 0 * z.real], 1), 1))

    z = torch.tensor([[0.5 + 1j]])
    assert fisher_metric(decoder, z).abs().item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "kind", [dist.Bernoulli, dist.ContinuousBernoulli, dist.Categorical, dist.OneHotCategorical]
)
def test_relative_entropy_of_sure_logits_is_that_of_more_digits(kind, dtype):
    """At 16 and beyond, single precision rounds a probability to 1, and torch says infinity."""
    logits = torch.tensor([0.0, 0.3, -3, 12, 16, 20, -20, 60, -80], dtype=torch.float64)
    pairs = torch.cartesian_prod(logits, logits)

    def made(x):
        if kind in (dist.Bernoulli, dist.ContinuousBernoulli):
            return kind(logits=x)
        return kind(logits=torch.stack([x, 0 * x], -1))

    mpmath.mp.dps = 60
    expected = logits.new_tensor(
        [float(_entropy(kind, *map(mpmath.mpf, p))) for p in pairs.tolist()]
    )
    found = kl(*(made(x.to(dtype)) for x in pairs.T))
    unit = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, rtol=50 * unit, atol=200 * unit)


def _entropy(kind, a, b):
    """A(b) − A(a) − A'(a)(b − a) of the log partition functions."""
    if kind is dist.ContinuousBernoulli:

        def partition(x):
            return mpmath.log(mpmath.expm1(x) / x) if x else mpmath.mpf(0)

        mean = mpmath.mpf("0.5") if not a else 1 + 1 / mpmath.expm1(a) - 1 / a
    else:

        def partition(x):
            return mpmath.log1p(mpmath.exp(x))

        mean = 1 / (1 + mpmath.exp(-a))
    return partition(b) - partition(a) - mean * (b - a)
