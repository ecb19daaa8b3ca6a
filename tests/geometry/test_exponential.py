"""The theorem on pluriharmonic natural parameters, and the registry it is told by."""

import pytest
import torch
from geometry.decoders import points
from geometry.test_information import FAMILIES, decoder_of
from torch import distributions as dist

from kahlervae.errors import InputError
from kahlervae.geometry import (
    closedness_defect,
    fisher_form,
    fisher_metric,
    kahler_residual,
    log_partition,
    mean_statistics,
    mixed_hessian,
    natural_parameters,
    relative_entropy,
    relative_error,
)
from kahlervae.geometry.exponential import _REGISTRY
from kahlervae.geometry.information import unwrapped
from kahlervae.geometry.wirtinger import basis
from kahlervae.models.decoders import BornDecoder, ComplexDecoder, PluriharmonicDecoder
from kahlervae.nn import to_double

LIKELIHOODS = [
    "gaussian",
    "complex_gaussian",
    "bernoulli",
    "continuous_bernoulli",
    "categorical",
    "poisson",
    "born",
]


def pluriharmonic(likelihood, latent_dim=3, seed=0):
    """A decoder of random weights, in float64."""
    torch.manual_seed(seed)
    if likelihood == "born":
        return to_double(BornDecoder(3, latent_dim, 9, 2, categories=4))
    categories = 4 if likelihood == "categorical" else None
    return to_double(PluriharmonicDecoder(6, latent_dim, 9, 2, likelihood, categories))


def opaque(decoder):
    """The decoder as a function of which nothing is known."""
    return lambda z: decoder(z)


def unconstrained(seed=0):
    torch.manual_seed(seed)
    return to_double(ComplexDecoder(6, 3, 9, 2, likelihood="bernoulli"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_fisher_metric_is_the_mixed_hessian_of_the_log_partition_function(likelihood, d, seed):
    decoder, z = pluriharmonic(likelihood, d, seed), points(4, d, seed)
    metric = fisher_metric(opaque(decoder), z)

    def potential(z):
        return log_partition(decoder(z)).flatten(1).sum(1)

    assert relative_error(mixed_hessian(potential, z), metric).max() < 1e-10
    assert relative_error(mixed_hessian(decoder.log_partition, z), metric).max() < 1e-10
    assert kahler_residual(opaque(decoder), z).max() < 1e-10


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_fisher_metric_of_a_pluriharmonic_decoder_is_closed(likelihood):
    decoder = pluriharmonic(likelihood)
    defect = closedness_defect(lambda z: fisher_metric(opaque(decoder), z), points(3, 3))
    assert defect.max() < 1e-8
    # What the test would see of a decoder that is none:
    other = unconstrained()
    assert closedness_defect(lambda z: fisher_metric(other, z), points(3, 3)).min() > 1e-2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["Bernoulli", "RealGaussian", "Categorical", "Gamma", "Beta"])
def test_residual_is_what_the_log_partition_function_misses(name, seed):
    decoder, z = decoder_of(name, 2), points(4, 2, seed)
    metric = fisher_metric(decoder, z)
    own = mixed_hessian(lambda z: _total(natural_log_partition(decoder, z)), z)
    torch.testing.assert_close(kahler_residual(decoder, z), relative_error(own, metric))
    assert kahler_residual(decoder, z).min() > 1e-3


def natural_log_partition(decoder, z):
    return log_partition(decoder(z))


def _total(values):
    return values.flatten(1).sum(1) if values.dim() > 1 else values


EXPONENTIAL = [
    name
    for name in FAMILIES
    if any(isinstance(unwrapped(decoder_of(name, 2)(points(1, 2))), kind) for kind in _REGISTRY)
]


def test_every_registered_family_is_tested():
    z = points(1, 2)
    tested = {type(unwrapped(decoder_of(name, 2)(z))) for name in EXPONENTIAL}
    assert set(_REGISTRY) - tested == set()


@pytest.mark.parametrize("name", EXPONENTIAL)
def test_curvature_of_the_log_partition_function_is_the_fisher_information(name):
    r"""Cov T = A'': the total-covariance form of the metric, with ∂η by differentiation."""
    decoder, z = decoder_of(name, 2), points(3, 2)
    for point in z.split(1):
        natural = natural_parameters(decoder(point))
        shape = natural.shape
        directions = basis(point)
        change = torch.stack(
            [
                torch.func.jvp(lambda x: natural_parameters(decoder(x)), (point,), (v,))[1]
                for v in directions
            ]
        ).flatten(1)
        family = next(
            _REGISTRY[kind] for kind in type(unwrapped(decoder(point))).__mro__ if kind in _REGISTRY
        )

        def partition(flat, family=family, shape=shape):
            return family.log_partition(flat.view(shape)).sum()

        curvature = torch.func.hessian(partition)(natural.flatten())
        expected = fisher_form(decoder, point)[0]
        torch.testing.assert_close(change @ curvature @ change.mT, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", EXPONENTIAL)
def test_mean_statistics_and_natural_parameters_give_the_relative_entropy(name):
    r"""KL(p‖q) = A(η_q) − A(η_p) − E_p[T]·(η_q − η_p) against the known closed form."""
    decoder, z, w = decoder_of(name, 2), points(4, 2), points(4, 2, seed=1)
    p, q = decoder(z), decoder(w)
    step = mean_statistics(p) * (natural_parameters(q) - natural_parameters(p))
    bregman = log_partition(q) - log_partition(p) - step.sum(-1)
    torch.testing.assert_close(_total(bregman), relative_entropy(decoder, z, w))


def test_statistics_are_the_data_themselves():
    logits = torch.linspace(-3, 3, 7, dtype=torch.float64).unsqueeze(0)
    for p in (
        dist.Bernoulli(logits=logits),
        dist.ContinuousBernoulli(logits=logits),
        dist.Poisson(logits.exp()),
        dist.Exponential(logits.exp()),
    ):
        torch.testing.assert_close(mean_statistics(p).squeeze(-1), p.mean)


def test_what_is_no_exponential_family_is_refused():
    with pytest.raises(InputError, match="Laplace is not known as an exponential family"):
        kahler_residual(lambda z: dist.Laplace(z.real, 1.0), points(2, 2))


def test_residual_of_no_points_is_empty_and_memory_changes_no_number():
    decoder, z = unconstrained(), points(9, 3)
    assert kahler_residual(decoder, z[:0]).shape == (0,)
    torch.testing.assert_close(kahler_residual(decoder, z, memory=1), kahler_residual(decoder, z))


def test_a_class_with_a_density_of_its_own_is_not_the_family_above_it():
    class ZeroInflated(dist.Poisson):
        def log_prob(self, x):
            return torch.where(x == 0, torch.log(0.5 + 0.5 * torch.exp(-self.rate)), 0.0)

    for function in (mean_statistics, log_partition, natural_parameters):
        with pytest.raises(InputError, match="ZeroInflated is not known"):
            function(ZeroInflated(torch.tensor([3.0])))


@pytest.mark.parametrize(
    ("decoder", "told"),
    [
        (lambda z: dist.Normal(z.real + torch.randn_like(z.real), 1.0), "random numbers"),
        (lambda z: dist.Normal(z.real - z.real.mean(0), 1.0), "depend"),
    ],
)
def test_relative_entropy_is_of_a_decoder(decoder, told):
    z = points(4, 2, seed=0)
    with pytest.raises(InputError, match=told):
        relative_entropy(decoder, z, z)
