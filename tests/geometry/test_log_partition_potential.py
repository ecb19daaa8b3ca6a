"""The potential of decoders that are Kähler by construction."""

import pickle

import pytest
import torch
from geometry.decoders import points
from geometry.test_exponential import LIKELIHOODS, opaque, pluriharmonic, unconstrained

from kahlervae import storage
from kahlervae.errors import InputError
from kahlervae.geometry import (
    LogPartitionPotential,
    MixturePotential,
    Potential,
    exact_potential,
    fisher_form,
    fisher_metric,
    fisher_norm,
    log_det,
    mixed_hessian,
    relative_error,
)
from kahlervae.geometry import potential as module
from kahlervae.models.decoders import BornDecoder, HolomorphicDecoder, PluriharmonicDecoder
from kahlervae.nn import HolomorphicNetwork, to_double

ALL = [*LIKELIHOODS, "holomorphic"]


def decoder_of(likelihood, seed=0):
    if likelihood == "holomorphic":
        torch.manual_seed(seed)
        return to_double(HolomorphicDecoder(6, 3, 9, 2))
    return pluriharmonic(likelihood, seed=seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("likelihood", ALL)
def test_metric_is_the_fisher_metric_and_the_mixed_hessian(likelihood, seed):
    decoder, z = decoder_of(likelihood, seed), points(5, 3, seed)
    potential = LogPartitionPotential(decoder)
    metric = potential.metric(z)
    assert relative_error(metric, fisher_metric(opaque(decoder), z)).max() < 1e-10
    assert relative_error(metric, mixed_hessian(potential.potential, z)).max() < 1e-10
    torch.testing.assert_close(potential.log_det(z, 1e-3), log_det(metric, 1e-3))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_real_form_by_holomorphic_tangents_is_that_by_real_ones(likelihood):
    decoder, z = decoder_of(likelihood), points(5, 3)
    plain = opaque(decoder)
    torch.testing.assert_close(fisher_form(decoder, z), fisher_form(plain, z))
    v = points(5, 3, seed=1)
    torch.testing.assert_close(fisher_norm(decoder, z, v), fisher_norm(plain, z, v))


@pytest.mark.parametrize("likelihood", ALL)
def test_gradient_of_log_det_against_finite_differences(likelihood):
    potential = LogPartitionPotential(decoder_of(likelihood))
    z, v, h = points(4, 3), points(4, 3, seed=1), 1e-5
    values, gradient = potential.log_det_and_gradient(z, 1e-2)
    torch.testing.assert_close(values, potential.log_det(z, 1e-2))
    step = potential.log_det(z + h * v, 1e-2) - potential.log_det(z - h * v, 1e-2)
    expected = (gradient.conj() * v).real.sum(-1)
    torch.testing.assert_close(step / (2 * h), expected, rtol=1e-6, atol=1e-6)


def test_gradient_is_taken_where_gradients_are_off():
    potential = LogPartitionPotential(decoder_of("bernoulli"))
    with torch.no_grad():
        values, gradient = potential.log_det_and_gradient(points(4, 3))
    assert not values.requires_grad
    assert gradient.abs().min() > 0


def single(decoder):
    kinds = {torch.float64: torch.float32, torch.complex128: torch.complex64}
    return decoder._apply(lambda t: t.to(kinds[t.dtype]))


@pytest.mark.parametrize("likelihood", ALL)
def test_what_is_saved_is_loaded(tmp_path, likelihood):
    potential = LogPartitionPotential(single(decoder_of(likelihood))).scaled(3.0)
    first, second = (tmp_path / f"{name}.safetensors" for name in ("first", "second"))
    potential.save(first)
    again, z = LogPartitionPotential.load(first), points(5, 3).to(torch.complex64)
    for other in (again, Potential.load(first)):
        assert torch.equal(other.potential(z), potential.potential(z))
        assert torch.equal(other.metric(z), potential.metric(z))
    with pytest.raises(InputError, match="not a MixturePotential"):
        MixturePotential.load(first)
    assert not any(p.requires_grad for p in again.parameters())
    again.save(second)
    assert first.read_bytes() == second.read_bytes()


def test_double_precision_is_not_saved(tmp_path):
    with pytest.raises(InputError, match="single precision"):
        LogPartitionPotential(decoder_of("bernoulli")).save(tmp_path / "k.safetensors")


def test_damaged_files_are_refused(tmp_path):
    potential = LogPartitionPotential(single(decoder_of("bernoulli")))
    path = tmp_path / "k.safetensors"
    potential.save(path)
    tensors, metadata = storage.read_tensors(path)
    sizes = '{"output_dim": 1000000000000, "latent_dim": 3, "width": 9, "depth": 2}'
    for change in ({"kind": "Other"}, {"decoder": "ComplexDecoder"}, {"settings": sizes}):
        storage.write_tensors(path, tensors, metadata | change)
        with pytest.raises(InputError, match="does not hold a LogPartitionPotential"):
            LogPartitionPotential.load(path)
    storage.write_tensors(path, dict(list(tensors.items())[1:]), metadata)
    with pytest.raises(InputError, match="lacks tensor"):
        LogPartitionPotential.load(path)


def test_a_decoder_of_another_kind_brings_no_potential():
    class Changed(PluriharmonicDecoder):
        """Which may do anything."""

    decoder = decoder_of("bernoulli")
    assert isinstance(exact_potential(decoder), LogPartitionPotential)
    assert exact_potential(Changed(6, 3, 9, 2, "bernoulli")) is None
    assert exact_potential(unconstrained()) is None


def test_certificate_and_its_refusals():
    decoder = decoder_of("bernoulli")
    potential = LogPartitionPotential(decoder)
    assert potential.certificate().valid
    assert potential.scaled(2.0).certificate().smallest_strength == 2.0
    with torch.no_grad():
        decoder.natural.linear.weight[0, 0] = torch.nan
    assert not potential.certificate().valid
    with pytest.raises(InputError, match="ComplexDecoder is not known to be Kähler"):
        LogPartitionPotential(unconstrained())
    with pytest.raises(InputError, match=r"of \(n, 3\) and torch.complex128"):
        LogPartitionPotential(decoder_of("poisson")).metric(torch.zeros(2, 2) + 0j)


def test_an_inherited_decoder_may_be_another_map_and_is_refused():
    class Brighter(PluriharmonicDecoder):
        def forward(self, z):
            return super().forward(z + z.conj())

    with pytest.raises(InputError, match="Brighter is not known to be Kähler"):
        LogPartitionPotential(Brighter(6, 3, 9, 2, "bernoulli"))


def test_chunks_change_no_number(monkeypatch):
    potential, z = LogPartitionPotential(decoder_of("bernoulli")), points(9, 3)
    whole = potential.metric(z), potential.log_det_and_gradient(z)[1]
    monkeypatch.setattr(module, "CHUNK", 60)
    torch.testing.assert_close(potential.metric(z), whole[0])
    torch.testing.assert_close(potential.log_det_and_gradient(z)[1], whole[1])


def test_born_rule_has_no_singularity_where_an_amplitude_vanishes():
    """p = (|z|², 1)/(|z|² + 1) is Fubini–Study: (1 + |z|²)⁻², 1 at z = 0."""
    decoder = to_double(BornDecoder(1, 1, 1, 1, categories=2))
    with torch.no_grad():
        decoder.body = torch.nn.Identity()
        decoder.body.pushforward = lambda z, tangent: (z, tangent)
        decoder.amplitudes.weight.copy_(torch.tensor([[1.0], [0.0]]))
        decoder.amplitudes.bias.copy_(torch.tensor([0.0, 1.0]))
    z = torch.tensor([[0.0], [1.0], [2j]], dtype=torch.complex128)
    metric = LogPartitionPotential(decoder).metric(z).real.flatten()
    torch.testing.assert_close(metric, (1 + z.abs().square().flatten()) ** -2)


def test_fubini_study_does_not_depend_on_the_phase_or_the_scale_of_the_amplitudes():
    decoder, z = decoder_of("born"), points(4, 3)
    metric = LogPartitionPotential(decoder).metric(z)
    with torch.no_grad():
        decoder.amplitudes.weight.mul_(3j)
        decoder.amplitudes.bias.mul_(3j)
    torch.testing.assert_close(LogPartitionPotential(decoder).metric(z), metric)


def test_it_moves_and_changes_precision_as_any_module():
    potential = LogPartitionPotential(PluriharmonicDecoder(5, 3, 6, 2, "bernoulli"))
    z = points(5, 3)
    single = potential.metric(z.to(torch.complex64))
    double = to_double(potential).metric(z)
    torch.testing.assert_close(potential.double().to("cpu").metric(z), double)
    torch.testing.assert_close(potential.float().metric(z.to(torch.complex64)), single)


class Tripled(HolomorphicNetwork):
    """With the parameters of a network, and another map."""

    def forward(self, z):
        return 3 * super().forward(z)


def test_a_decoder_with_parts_of_ones_own_is_not_saved_as_another(tmp_path):
    decoder = PluriharmonicDecoder(5, 2, 6, 2, "bernoulli")
    decoder.body.__class__ = Tripled
    with pytest.raises(InputError, match="with parts of your own: save its state_dict"):
        LogPartitionPotential(decoder).save(tmp_path / "potential.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("strength", [0.0, -1.0, float("inf"), float("nan")])
def test_strengths_are_positive_and_finite(strength):
    with pytest.raises(InputError, match="take a positive, finite one"):
        LogPartitionPotential(decoder_of("bernoulli"), strength)


def test_decoders_and_potentials_are_pickled():
    decoder = PluriharmonicDecoder(5, 3, 6, 2, "bernoulli")
    again = pickle.loads(pickle.dumps(decoder))
    z = points(3, 3).to(torch.complex64)
    torch.testing.assert_close(fisher_metric(again, z), fisher_metric(decoder, z))


def test_its_gradient_is_not_asked_for_in_inference_mode():
    potential = LogPartitionPotential(decoder_of("bernoulli"))
    z = points(3, potential.latent_dim)
    with torch.inference_mode(), pytest.raises(InputError, match="outside of it"):
        potential.log_det_and_gradient(z)
