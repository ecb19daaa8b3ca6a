import functools

import pytest
import torch
from geometry.decoders import holomorphic, points, real_gaussian
from geometry.test_information import decoder_of

from kahlervae.errors import InputError
from kahlervae.geometry import (
    closedness_defect,
    estimate_closedness_defect,
    estimate_hermitian_defect,
    fisher_metric,
    hermitian_defect,
)
from kahlervae.models import RealGaussian
from kahlervae.models.decoders import ComplexDecoder
from kahlervae.nn import to_double

MANY = 300
ESTIMATES = estimate_hermitian_defect, estimate_closedness_defect


def complex_decoder(d):
    torch.manual_seed(0)
    return to_double(ComplexDecoder(20, d, 8, 2))


@pytest.mark.parametrize(
    "make",
    [
        real_gaussian,
        complex_decoder,
        lambda d: decoder_of("Bernoulli", d),
        lambda d: decoder_of("Gumbel", d),
    ],
    ids=["automatic", "own pushforward", "Bernoulli", "relative entropy"],
)
def test_mean_and_error_of_many_estimates(make):
    """Unbiased within four standard errors, which are those that the jackknife says."""
    decoder, z = make(5), points(1, 5)
    exact = (
        hermitian_defect(decoder, z).item(),
        closedness_defect(lambda z: fisher_metric(decoder, z), z).item(),
    )
    for estimate, truth in zip(ESTIMATES, exact, strict=True):
        many = z.expand(MANY, -1)
        value, error = estimate(decoder, many, 12, torch.Generator().manual_seed(1))
        # A twentieth of the spread is what the jackknife leaves of the bias.
        assert abs(value.mean() - truth) < 4 * value.std() / MANY**0.5 + value.std() / 20
        assert 0.7 < error.square().mean().sqrt() / value.std() < 1.6


def test_kahler_metrics_have_no_defects():
    for estimate in ESTIMATES:
        assert estimate(holomorphic(5), points(3, 5)).value.abs().max() < 1e-12


def test_chunks_and_rows_change_no_number():
    decoder, z = complex_decoder(4), points(5, 4)
    for estimate in ESTIMATES:
        whole, pieces = estimate(decoder, z, 6), estimate(decoder, z, 6, memory=1)
        torch.testing.assert_close(whole, pieces, rtol=1e-9, atol=1e-12)


def test_more_directions_have_a_smaller_error():
    decoder, z = real_gaussian(6), points(20, 6)
    for estimate in ESTIMATES:
        few, many = (estimate(decoder, z, k) for k in (6, 24))
        assert many.error.mean() < 0.7 * few.error.mean()


@pytest.mark.parametrize("estimate", ESTIMATES)
@pytest.mark.parametrize("log_var", [-60, 60])
def test_size_of_the_metric_changes_no_estimate(estimate, log_var):
    def decoder(z, log_var):
        return RealGaussian((z**2).real, torch.full((), float(log_var)))

    z = points(3, 3).to(torch.complex64)
    here, there = (estimate(functools.partial(decoder, log_var=size), z) for size in (0, log_var))
    torch.testing.assert_close(here, there)


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_bad_input(estimate):
    for directions in (3, 4.0, "a"):
        with pytest.raises(InputError, match=f"is {directions!r}: give a whole number of at least"):
            estimate(real_gaussian(2), points(3, 2), directions)
    with pytest.raises(InputError, match="z is real"):
        estimate(real_gaussian(2), points(3, 2).real)
    assert estimate(real_gaussian(2), points(3, 2)[:0]).value.shape == (0,)
