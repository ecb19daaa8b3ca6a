import pytest
import torch
from geometry.decoders import holomorphic, points, real_gaussian
from geometry.test_information import decoder_of

from kahlervae.errors import InputError
from kahlervae.geometry import closedness_defect, estimate_defects, fisher_metric, hermitian_defect
from kahlervae.models.decoders import ComplexDecoder
from kahlervae.nn import to_double

MANY = 300


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
    many = estimate_defects(decoder, z.expand(MANY, -1), 12, torch.Generator().manual_seed(1))
    pairs = ((many.hermitian, many.hermitian_error), (many.closedness, many.closedness_error))
    for (value, error), truth in zip(pairs, exact, strict=True):
        # A twentieth of the spread is what the jackknife leaves of the bias.
        assert abs(value.mean() - truth) < 4 * value.std() / MANY**0.5 + value.std() / 20
        assert 0.7 < error.square().mean().sqrt() / value.std() < 1.6


def test_kahler_metrics_have_no_defects():
    estimates = estimate_defects(holomorphic(5), points(3, 5))
    assert estimates.hermitian.abs().max() < 1e-12
    assert estimates.closedness.abs().max() < 1e-12


def test_chunks_and_rows_change_no_number():
    decoder, z = complex_decoder(4), points(5, 4)
    whole = estimate_defects(decoder, z, 6)
    pieces = estimate_defects(decoder, z, 6, memory=1)
    for one, other in zip(whole, pieces, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_more_directions_have_a_smaller_error():
    decoder, z = real_gaussian(6), points(20, 6)
    few, many = (estimate_defects(decoder, z, k) for k in (6, 24))
    assert many.hermitian_error.mean() < 0.7 * few.hermitian_error.mean()
    assert many.closedness_error.mean() < 0.7 * few.closedness_error.mean()


def test_bad_input():
    with pytest.raises(InputError, match="3 directions are too few"):
        estimate_defects(real_gaussian(2), points(3, 2), 3)
    with pytest.raises(InputError, match="z is real"):
        estimate_defects(real_gaussian(2), points(3, 2).real)
    assert estimate_defects(real_gaussian(2), points(3, 2)[:0]).hermitian.shape == (0,)
