import json

import pytest
import torch

from kahlervae.data import Form
from kahlervae.data.representations import represent
from kahlervae.errors import InputError
from kahlervae.geometry import fisher_metric, wirtinger
from kahlervae.models import ComplexGaussian, RealGaussian, build_model, load_model, save_model
from kahlervae.models.decoders import LOG_FLOOR
from kahlervae.models.vae import VAE, count_parameters
from kahlervae.nn import to_double
from kahlervae.storage import write_tensors

IDENTITY = {"dataset": "digits", "representation": "pixels", "variant": "complex", "seed": 0}


ARCHITECTURES = [
    (networks, representation, variance)
    for networks in ("complex", "real")
    for representation in ("pixels", "kspace")
    for variance in ("constant", "diagonal")
] + [("holomorphic", "kspace", "constant"), ("pluriharmonic", "pixels", "constant")]


def model(networks="complex", representation="pixels", likelihood_variance="constant", **sizes):
    torch.manual_seed(0)
    sizes = {"latent_dim": 2, "width": 12, "depth": 2} | sizes
    identity = IDENTITY | {"representation": representation, "variant": networks}
    return build_model(
        identity, Form((4, 5)), networks, **sizes, likelihood_variance=likelihood_variance
    )


@pytest.mark.parametrize("likelihood_variance", ["constant", "diagonal"])
@pytest.mark.parametrize("representation", ["pixels", "kspace"])
@pytest.mark.parametrize("width", [8, 64, 128])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_real_variant_has_as_many_parameters_as_the_complex_one(
    width, depth, representation, likelihood_variance
):
    sizes = {"latent_dim": 4, "width": width, "depth": depth}
    sizes |= {"representation": representation, "likelihood_variance": likelihood_variance}
    target = count_parameters(model("complex", **sizes))
    # One unit more or less changes the count by this share.
    step = (count_parameters(model("complex", **sizes | {"width": width + 1})) - target) / target
    assert count_parameters(model("real", **sizes)) == pytest.approx(target, rel=step)


@pytest.mark.parametrize("networks", ["complex", "real", "pluriharmonic"])
@pytest.mark.parametrize(("depth", "own_depth"), [(1, 4), (3, 1), (2, 3)])
def test_networks_of_another_depth_have_as_many_parameters(networks, depth, own_depth):
    sizes = {"latent_dim": 4, "width": 64}
    target = count_parameters(model("complex", **sizes, depth=depth))
    vae = model(networks, **sizes, depth=depth, own_depth=own_depth)
    assert vae.architecture["depth"] == own_depth
    wider = vae.architecture | {"width": vae.architecture["width"] + 1}
    step = (count_parameters(VAE(vae.identity, wider)) - count_parameters(vae)) / target
    assert count_parameters(vae) == pytest.approx(target, rel=step)


def test_so_deep_that_no_width_is_left_is_refused():
    with pytest.raises(InputError, match=r"depth 60 .* have a width of \d, less than the 8"):
        model(latent_dim=8, width=12, depth=1, own_depth=60)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=" ".join)
def test_shapes_and_elbo_terms(architecture):
    vae, images = model(*architecture), torch.rand(6, 4, 5)
    stream = torch.Generator().manual_seed(0)
    posterior = vae.encode(images)
    assert posterior.mean.shape == posterior.variance.shape == (6, 2)
    decoded = vae.decode(posterior.mean)
    assert decoded.shape == images.shape
    assert decoded.min() >= 0
    assert decoded.max() <= 1
    log_likelihood, kl = vae.elbo_terms(images, stream)
    x = vae.representation.encode(images)
    again = vae.encode(images).sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_likelihood, vae.decoder(again).log_prob(x))
    torch.testing.assert_close(kl, posterior.kl())


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=" ".join)
def test_a_saved_model_comes_back_the_same(tmp_path, architecture):
    vae, z = model(*architecture), torch.randn(3, 2, dtype=torch.complex64)
    save_model(tmp_path / "model.safetensors", vae)
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.identity == vae.identity
    assert loaded.architecture == vae.architecture
    assert torch.equal(loaded.decoder(z).mean, vae.decoder(z).mean)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_files_that_are_no_models_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match="does not exist"):
        load_model(path)
    save_model(path, model())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a readable safetensors"):
        load_model(path)
    write_tensors(path, {"a": torch.zeros(1)})
    with pytest.raises(InputError, match="does not hold a model"):
        load_model(path)
    architecture = {"identity": json.dumps(IDENTITY), "architecture": json.dumps({})}
    write_tensors(path, {"a": torch.zeros(1)}, architecture)
    with pytest.raises(InputError, match="does not hold a model"):
        load_model(path)


def test_a_holomorphic_decoder_of_pixels_is_refused():
    with pytest.raises(InputError, match="needs complex data, and pixels are real: use kspace"):
        model("holomorphic", "pixels")


def test_densities_of_pixels_and_of_kspace_are_in_the_same_unit():
    """The same errors with the same noise have the same likelihood: σ² of C is twice that of R."""
    images, noise = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(0)).double()
    pixels, kspace = (represent(name, Form((4, 6))) for name in ("pixels", "kspace"))
    variance = torch.tensor(0.3, dtype=torch.float64)
    mean = pixels.encode(images)
    real = RealGaussian(mean, variance.log().expand_as(mean))
    mean = kspace.encode(images)
    likelihood = ComplexGaussian(mean, (2 * variance).log().expand_as(mean.real))
    torch.testing.assert_close(
        likelihood.log_prob(kspace.encode(images + noise)),
        real.log_prob(pixels.encode(images + noise)),
    )


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a[0] != "real"], ids=" ".join)
def test_pushforward_and_fisher_metric_are_those_of_automatic_differentiation(architecture):
    decoder = to_double(model(*architecture, latent_dim=3, depth=3).decoder)
    stream = torch.Generator().manual_seed(0)
    z, *tangents = torch.randn(5, 4, 3, dtype=torch.complex128, generator=stream)
    value, change = decoder.pushforward(z, torch.stack(tangents))
    for k, v in enumerate(tangents):
        expected_value, expected = torch.func.jvp(decoder, (z,), (v,))
        torch.testing.assert_close(value, expected_value)
        torch.testing.assert_close(change.mean[k], expected.mean)
        torch.testing.assert_close(change.log_var[k], expected.log_var)
    plain = fisher_metric(lambda z: decoder(z), z)
    torch.testing.assert_close(fisher_metric(decoder, z), plain)


@pytest.mark.parametrize("networks", ["complex", "real"])
def test_a_variance_that_depends_on_the_latent_stays_above_its_floor(networks):
    decoder = model(networks, "pixels", "diagonal").decoder
    z = torch.randn(50, 2, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    log_var = decoder(z).log_var
    assert (log_var.std(0) > 0.01).all()
    assert log_var.mean().item() == pytest.approx(-2, abs=0.5)
    assert decoder(1000 * z).log_var.min().item() == pytest.approx(LOG_FLOOR)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_holomorphic_decoder_is_a_polynomial_with_constant_variance(depth):
    decoder = to_double(model("holomorphic", "kspace", depth=depth).decoder)
    z = torch.randn(2, 2, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    _, _, conjugate = wirtinger(lambda z: decoder(z).mean, z)
    assert conjugate.abs().max() < 1e-12
    assert decoder.holomorphic
    assert not model("complex").decoder.holomorphic
    assert decoder(z).log_var.unique().numel() == 1
    # The differences of order 2^depth + 1 along a line vanish.
    order = 2**depth + 1
    line = z[:1] + torch.arange(order + 1).double().unsqueeze(1) / order * z[1:]
    differences = decoder(line).mean
    for _ in range(order):
        differences = differences.diff(dim=0)
    assert differences.abs().max() < 1e-12 * 2**order


NATURAL = [
    (networks, likelihood)
    for networks in ("complex", "real", "pluriharmonic")
    for likelihood in ("gaussian", "bernoulli", "continuous_bernoulli")
]


@pytest.mark.parametrize(("networks", "likelihood"), NATURAL)
def test_every_likelihood_trains_in_all_networks_and_is_read_again(tmp_path, networks, likelihood):
    vae = model(networks, likelihood=likelihood)
    images, stream = torch.rand(6, 4, 5), torch.Generator().manual_seed(0)
    terms = vae.elbo_terms(images, stream)
    assert all(term.shape == (6,) and term.isfinite().all() for term in terms)
    (terms[1] - terms[0]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vae.parameters())
    assert vae.decode(torch.zeros(2, 2) + 0j).shape == (2, 4, 5)
    save_model(tmp_path / "model.safetensors", vae)
    again = load_model(tmp_path / "model.safetensors")
    z = torch.randn(3, 2, dtype=torch.complex64)
    assert torch.equal(again.decode(z), vae.decode(z))


@pytest.mark.parametrize("width", [8, 64])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_the_control_of_pluriharmonic_networks_has_as_many_parameters(likelihood, width, depth):
    sizes = {"latent_dim": 4, "width": width, "depth": depth, "likelihood": likelihood}
    target = count_parameters(model("complex", **sizes))
    # One unit more or less changes the count by this share.
    step = (count_parameters(model("complex", **sizes | {"width": width + 1})) - target) / target
    assert count_parameters(model("pluriharmonic", **sizes)) == pytest.approx(target, rel=step)


def test_binary_draws_have_the_grey_values_as_means_and_are_new_every_time():
    vae, images = model(likelihood="bernoulli"), torch.rand(1, 4, 5)
    stream = torch.Generator().manual_seed(0)
    draws = vae.observed(images.expand(4000, -1, -1), stream)
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert (draws.mean(0) - images.flatten()).abs().max() < 0.04
    other = model(likelihood="continuous_bernoulli").observed(images, stream)
    assert torch.equal(other, images.flatten(1))


def test_data_without_density_are_refused_with_their_count():
    images = torch.rand(2, 4, 5)
    images[0, 0, :3] = 1.5
    for likelihood in ("bernoulli", "continuous_bernoulli"):
        with pytest.raises(InputError, match=rf"3 of 40 values .* as a {likelihood} likelihood"):
            model(likelihood=likelihood).check_data(images)
    model(likelihood="gaussian").check_data(images)
    model().check_data(images)


def test_likelihoods_that_are_not_for_the_data_or_the_networks_are_refused():
    with pytest.raises(InputError, match="bernoulli is not for data that are complex"):
        model(representation="kspace", likelihood="bernoulli")
    with pytest.raises(InputError, match=r"no pluriharmonic decoder .*Liouville"):
        model("pluriharmonic", likelihood_variance="diagonal")
    # A variance that does not depend on z is no natural parameter of a Bernoulli.
    model("pluriharmonic", likelihood_variance="diagonal", likelihood="bernoulli")


@pytest.mark.parametrize("networks", ["complex", "real"])
def test_importance_sampling_finds_the_evidence_of_a_model_that_is_known(networks):
    """x = z₁ + noise with z₁ ~ the prior's real part: N(0, ½ + σ²), whatever the encoder says."""
    vae, images = model(networks).double(), torch.rand(5, 4, 5, dtype=torch.float64)
    vae = to_double(vae)

    class Known(torch.nn.Module):
        def forward(self, z):
            mean = z.real[:, :1].expand(-1, 20)
            return RealGaussian(mean, torch.zeros_like(mean))

    vae.decoder = Known()
    with torch.no_grad():
        for p in vae.encoder.log_var.parameters():
            p.zero_()  # as wide as the prior
    found = vae.log_evidence(images, 4000, torch.Generator().manual_seed(0))
    x = images.flatten(1)
    covariance = torch.eye(20, dtype=x.dtype) + 0.5
    exact = torch.distributions.MultivariateNormal(torch.zeros(20, dtype=x.dtype), covariance)
    assert (found - exact.log_prob(x)).abs().max() < 0.2


def test_densities_of_posteriors_are_those_of_their_draws():
    """E_q[log q − log p] is the relative entropy."""
    for networks in ("complex", "real"):
        vae = model(networks)
        posterior = vae.encode(torch.rand(1, 4, 5).expand(20_000, -1, -1))
        z = posterior.sample(torch.Generator().manual_seed(0))
        log_prior = -(z.abs().square() + torch.log(torch.tensor(torch.pi))).sum(-1)
        excess = (posterior.log_prob(z) - log_prior).detach()
        error = excess.std() / len(z) ** 0.5
        assert (excess.mean() - posterior.kl()[0]).abs() < 4 * error


def test_options_of_a_model_are_looked_at():
    with pytest.raises(InputError, match="the kind of networks 'Real' is unknown: choose one of"):
        model("Real")
    for networks in ("complex", "real", "pluriharmonic"):
        with pytest.raises(InputError, match="'Diagonal' is unknown: choose one of constant, diag"):
            model(networks, likelihood_variance="Diagonal")
        for name in ("latent_dim", "width", "depth"):
            with pytest.raises(InputError, match=f"{name} of an encoder is 0: give a whole number"):
                model(networks, **{name: 0})
