"""Decoders whose natural parameters are pluriharmonic."""

import pytest
import torch
from geometry.decoders import points
from geometry.test_exponential import LIKELIHOODS, pluriharmonic
from torch.utils._pytree import tree_leaves

from kahlervae.errors import InputError
from kahlervae.geometry.wirtinger import mixed_hessian
from kahlervae.models.decoders import (
    HALF_LINES,
    BornDecoder,
    ComplexDecoder,
    HolomorphicDecoder,
    PluriharmonicDecoder,
    RealDecoder,
    choose_likelihood,
    refuse_half_line,
)
from kahlervae.models.encoders import ComplexEncoder, RealEncoder
from kahlervae.nn import to_double


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_pushforward_is_forward_differentiation(likelihood):
    decoder, z = pluriharmonic(likelihood), points(4, 3)
    tangents = torch.stack([points(4, 3, seed=k) for k in (1, 2)])
    value, change = decoder.pushforward(z, tangents)
    assert type(value) is type(decoder(z))
    torch.testing.assert_close(tree_leaves(value), tree_leaves(decoder(z)))
    expected = [torch.func.jvp(decoder, (z,), (v,))[1] for v in tangents]
    found = tree_leaves(change)
    for k, derivative in enumerate(expected):
        torch.testing.assert_close([leaf[k] for leaf in found], tree_leaves(derivative))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_natural_parameters_are_pluriharmonic(likelihood):
    decoder, z = pluriharmonic(likelihood), points(4, 3)
    for a in range(6):
        term = mixed_hessian(lambda z, a=a: decoder(z)[0][:, a], z)
        assert term.abs().max() < 1e-12


@pytest.mark.parametrize("likelihood", HALF_LINES)
def test_natural_parameters_that_are_bounded_on_one_side_are_refused(likelihood):
    with pytest.raises(InputError, match=r"Liouville\): use"):
        refuse_half_line(likelihood)
    with pytest.raises(InputError, match="no pluriharmonic decoder exists"):
        PluriharmonicDecoder(6, 3, 9, 2, likelihood)


def test_unknown_likelihoods_are_refused():
    with pytest.raises(InputError, match="'cauchy' is unknown: choose one of gaussian"):
        PluriharmonicDecoder(6, 3, 9, 2, "cauchy")
    with pytest.raises(InputError, match="needs categories"):
        PluriharmonicDecoder(6, 3, 9, 2, "categorical")
    with pytest.raises(InputError, match="'cauchy' is unknown"):
        choose_likelihood("cauchy", complex_data=False)
    with pytest.raises(InputError, match="bernoulli is not for data that are complex"):
        choose_likelihood("bernoulli", complex_data=True)
    with pytest.raises(InputError, match="complex_gaussian is not for data that are real"):
        choose_likelihood("complex_gaussian", complex_data=False)


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli"])
def test_pushforward_of_a_complex_decoder_with_natural_parameters(likelihood):
    torch.manual_seed(0)
    decoder, z = to_double(ComplexDecoder(6, 3, 9, 2, likelihood=likelihood)), points(4, 3)
    v = points(4, 3, seed=1)
    _, change = decoder.pushforward(z, v.unsqueeze(0))
    (expected,) = torch.func.jvp(decoder, (z,), (v,))[1]
    torch.testing.assert_close(change.logits[0], expected)


NETWORKS = {
    ComplexDecoder: {},
    RealDecoder: {},
    HolomorphicDecoder: {},
    PluriharmonicDecoder: {},
    BornDecoder: {"categories": 3},
    ComplexEncoder: {},
    RealEncoder: {},
}


@pytest.mark.parametrize("size", [0, -1, 2.0, None])
@pytest.mark.parametrize("network", NETWORKS)
def test_sizes_of_a_network_are_whole_numbers(network, size):
    first = "input_dim" if network in (ComplexEncoder, RealEncoder) else "output_dim"
    sizes = {first: 6, "latent_dim": 2, "width": 4, "depth": 1} | NETWORKS[network]
    network(**sizes)
    for name in sizes:
        with pytest.raises(InputError, match=f"{name} of a.* is {size}: give a whole number of at"):
            network(**sizes | {name: size})


@pytest.mark.parametrize("categories", [1, 2.5])
def test_categories_are_whole_numbers(categories):
    with pytest.raises(InputError, match=f"categories, .* is {categories}: .* at least 2"):
        PluriharmonicDecoder(6, 3, 9, 2, "categorical", categories)


@pytest.mark.parametrize("decoder", [ComplexDecoder, RealDecoder])
def test_an_unknown_variance_is_refused(decoder):
    with pytest.raises(InputError, match="'Constant' is unknown: choose one of constant, diagonal"):
        decoder(6, 2, 4, 1, likelihood_variance="Constant")
