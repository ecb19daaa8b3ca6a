import math

import pytest
import torch

from kahlervae.geometry import MixturePotential, fisher_metric
from kahlervae.models.decoders import ComplexDecoder
from kahlervae.nn import to_double
from kahlervae.train.regulariser import (
    FisherRegulariser,
    PotentialRegulariser,
    build_regulariser,
)

EPSILON = 1e-2


def setting():
    torch.manual_seed(0)
    decoder = to_double(ComplexDecoder(9, 3, 8, 2))
    stream = torch.Generator().manual_seed(0)
    potential = to_double(MixturePotential.random(3, 2, 4, 5.0, stream))
    z = torch.randn(7, 3, generator=stream, dtype=torch.complex128)
    return decoder, potential, z


@pytest.mark.parametrize("form", ["volume", "flatness"])
@pytest.mark.parametrize("exact", [True, False])
def test_regulariser_is_a_moment_of_the_log_determinant(form, exact):
    decoder, potential, z = setting()
    metric = fisher_metric(decoder, z) if exact else potential.metric(z)
    log_dets = torch.linalg.eigvalsh(metric + EPSILON * torch.eye(3)).log().sum(-1)
    expected = log_dets.mean() if form == "volume" else log_dets.var()
    regulariser = (
        FisherRegulariser(form, EPSILON)
        if exact
        else PotentialRegulariser(potential, form, EPSILON)
    )
    value, tie = regulariser(decoder, z, torch.Generator().manual_seed(1))
    torch.testing.assert_close(value, expected)
    assert (tie == 0) == exact


def test_flatness_does_not_change_with_the_scale_of_the_latents():
    """The same decoder in latents that are three times larger; volume changes by −2d log 3."""
    decoder, _, z = setting()
    values = {}
    for form in ("volume", "flatness"):
        regulariser = FisherRegulariser(form, 0.0)
        here = regulariser(decoder, z, torch.Generator()).regulariser
        there = regulariser(lambda w: decoder(w / 3), 3 * z, torch.Generator()).regulariser
        values[form] = (there - here).item()
    assert values["flatness"] == pytest.approx(0, abs=1e-9)
    assert values["volume"] == pytest.approx(-6 * math.log(3))


def test_tie_compares_squared_lengths_of_one_random_vector():
    decoder, potential, z = setting()
    _, tie = PotentialRegulariser(potential, "volume", EPSILON)(
        decoder, z, torch.Generator().manual_seed(1)
    )
    v = torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=z.dtype)
    lengths = [
        torch.einsum("ni,nij,nj->n", v, metric, v.conj()).real
        for metric in (potential.metric(z), fisher_metric(decoder, z))
    ]
    torch.testing.assert_close(tie, (lengths[0].log() - lengths[1].log()).square().mean())


def test_gradient_of_the_tie_reaches_decoder_potential_and_latents():
    decoder, potential, z = setting()
    z.requires_grad_()
    regulariser = PotentialRegulariser(potential, "volume", EPSILON)

    def tie():
        return regulariser(decoder, z, torch.Generator().manual_seed(1)).tie

    tie().backward()
    for parameter in (decoder.body[0].weight, potential.slope, z):
        assert parameter.grad.abs().max() > 0
    # One entry of the decoder against a finite difference: a second derivative of the network.
    weight, h = decoder.body[0].weight, 1e-6
    with torch.no_grad():
        weight[0, 0] += h
        above = tie()
        weight[0, 0] -= 2 * h
        below = tie()
    slope = ((above - below) / (2 * h)).item()
    assert weight.grad[0, 0].real.item() == pytest.approx(slope, rel=1e-5)


def test_a_tie_chooses_the_metric_of_a_potential():
    settings = {"form": "volume", "epsilon": EPSILON}
    stream = torch.Generator().manual_seed(0)
    assert isinstance(build_regulariser(settings, 3, stream), FisherRegulariser)
    settings |= {"tie": 0.0, "groups": 2, "components": 4, "scale": 10.0}
    learned = build_regulariser(settings, 3, stream)
    assert isinstance(learned, PotentialRegulariser)
    assert learned.potential.certificate().valid
