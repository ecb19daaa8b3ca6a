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
    ComplexDecoder,
    PluriharmonicDecoder,
    choose_likelihood,
    refuse_half_line,
)
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
