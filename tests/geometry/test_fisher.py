import functools
import subprocess
import sys

import pytest
import torch
from geometry.decoders import DECODERS, complex_gaussian, points, real_gaussian
from torch.distributions import Independent, Normal

from kahlervae.errors import InputError
from kahlervae.geometry import (
    estimate_closedness_defect,
    estimate_hermitian_defect,
    fisher,
    fisher_form,
    fisher_metric,
    fisher_norm,
    fisher_relation,
    hermitian_defect,
    hermitian_part,
    holomorphic_part,
    pushforward,
    real_hessian,
    relative_entropy,
    relative_entropy_metric,
    relative_error,
)
from kahlervae.models.decoders import ComplexDecoder, HolomorphicDecoder, RealDecoder
from kahlervae.models.likelihoods import ComplexGaussian, RealGaussian
from kahlervae.nn import SmoothCardioid, to_double


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("d", [1, 2, 4])
def test_metric_is_the_hessian_of_the_relative_entropy(name, d):
    decoder, z = DECODERS[name](d, seed=d), points(5, d, seed=d)
    metric = fisher_metric(decoder, z)
    assert relative_error(relative_entropy_metric(decoder, z), metric).max() < 1e-12
    assert (metric - metric.mH).abs().max() < 1e-12


@pytest.mark.parametrize("name", DECODERS)
def test_relation_is_the_holomorphic_part_of_the_same_hessian(name):
    decoder, z = DECODERS[name](3), points(5, 3)
    hessian = real_hessian(lambda point: relative_entropy(decoder, z, point), z)
    torch.testing.assert_close(fisher_relation(decoder, z), holomorphic_part(hessian))
    torch.testing.assert_close(fisher_metric(decoder, z), hermitian_part(hessian))


@pytest.mark.parametrize("make", [real_gaussian, complex_gaussian])
def test_metric_within_four_standard_errors_of_monte_carlo_scores(make):
    """E[∂ℓ ∂̄ℓ] over x ~ p(x|z), scores by reverse differentiation of log_prob."""
    decoder, z, draws = make(2), points(3, 2), 40_000
    stream = torch.Generator().manual_seed(3)
    repeated = z.repeat_interleave(draws, 0).requires_grad_()
    likelihood = decoder(repeated)
    x = type(likelihood)(*(part.detach() for part in likelihood)).sample(stream)
    (gradient,) = torch.autograd.grad(likelihood.log_prob(x).sum(), repeated)
    score = (gradient.conj() / 2).unflatten(0, (3, draws))  # torch's gradient is 2∂̄
    products = score.unsqueeze(-1) * score.conj().unsqueeze(-2)
    standard_error = products.std(1) / draws**0.5
    z_scores = (products.mean(1) - fisher_metric(decoder, z)).abs() / standard_error
    assert z_scores.max() < 4


@pytest.mark.parametrize("depth", [1, 3])
def test_closed_form_pushforward_is_that_of_forward_differentiation(depth):
    torch.manual_seed(0)
    decoder, z = to_double(ComplexDecoder(6, 3, 8, depth)), points(5, 3)
    tangents = points(4 * 5, 3, seed=1).unflatten(0, (4, 5))
    value, derivatives = pushforward(decoder, z, tangents)
    expected_value, expected = pushforward(lambda z: decoder(z), z, tangents)
    torch.testing.assert_close(value, expected_value)
    torch.testing.assert_close(derivatives, expected)


@pytest.mark.parametrize("make", [real_gaussian, complex_gaussian])
def test_norm_is_the_quadratic_form_of_the_metric(make):
    decoder, z, v = make(3), points(6, 3), points(6, 3, seed=1)
    expected = torch.einsum("ni,nij,nj->n", v, fisher_metric(decoder, z), v.conj()).real
    torch.testing.assert_close(fisher_norm(decoder, z, v), expected)
    u = torch.cat([v.real, v.imag], dim=1)
    real = torch.einsum("ni,nij,nj->n", u, fisher_form(decoder, z), u)
    torch.testing.assert_close(fisher_norm(decoder, z, v, full=True), real / 2)


def test_memory_does_not_grow_with_the_points():
    """Of 400 points, whose Jacobians are 600 MB; the result is 0.4 MB."""
    script = """
import resource, sys, torch
from kahlervae.geometry import fisher_metric
torch.set_num_threads(1)
net = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.Tanh(), torch.nn.Linear(32, 12288))
net.requires_grad_(False)
decoder = lambda z: torch.distributions.Normal(net(torch.cat([z.real, z.imag], -1)), 1.0)
z = torch.randn(400, 8, dtype=torch.complex64)
fisher_metric(decoder, z[:1])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
assert fisher_metric(decoder, z, memory=32 * 2**20).isfinite().all()
print((peak() - before) * (1 if sys.platform == "darwin" else 1024))
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 200 * 2**20


def test_metric_transforms_as_a_tensor_under_a_linear_change_of_coordinates():
    decoder, w = real_gaussian(3), points(4, 3)
    change = points(3, 3, seed=5)
    pulled_back = fisher_metric(lambda w: decoder(w @ change.mT), w)
    expected = change.mT @ fisher_metric(decoder, w @ change.mT) @ change.conj()
    torch.testing.assert_close(pulled_back, expected)


def jacobian_form(decoder, z):
    """The Fisher information by plain reverse differentiation in real coordinates."""

    def parameters(x):
        likelihood = decoder(torch.complex(*x.chunk(2)).unsqueeze(0))
        real = isinstance(likelihood, RealGaussian)
        mean = likelihood.mean if real else torch.view_as_real(likelihood.mean)
        return mean.flatten(), likelihood.log_var.flatten()

    forms = []
    for x in torch.cat([z.real, z.imag], dim=-1):
        mean, log_var = torch.autograd.functional.jacobian(parameters, x)
        values = parameters(x)[1]
        share = len(mean) // len(values)  # 2 real numbers for every complex one
        precision = torch.exp(-values).repeat_interleave(share)
        forms.append(share * (mean.mT * precision) @ mean + share / 2 * log_var.mT @ log_var)
    return torch.stack(forms).detach()


def vae_decoder(outputs, width, depth=2, **settings):
    torch.manual_seed(0)
    return to_double(ComplexDecoder(outputs, 3, width, depth, **settings))


VAE_DECODERS = {
    "few outputs": lambda: vae_decoder(6, 8),
    "many outputs": lambda: vae_decoder(60, 4),
    "one layer": lambda: vae_decoder(60, 4, depth=1),
    "diagonal variance": lambda: vae_decoder(60, 4, likelihood_variance="diagonal"),
    "complex data": lambda: vae_decoder(6, 8, complex_data=True),
    "many complex outputs": lambda: vae_decoder(30, 4, complex_data=True),
    "complex data, diagonal variance": lambda: vae_decoder(
        6, 8, complex_data=True, likelihood_variance="diagonal"
    ),
    "holomorphic": lambda: to_double(HolomorphicDecoder(6, 3, 8, 2)),
    "holomorphic, many outputs": lambda: to_double(HolomorphicDecoder(30, 3, 4, 2)),
    "real": lambda: to_double(RealDecoder(6, 3, 8, 2)),
}


@pytest.mark.parametrize(
    "make", [*(DECODERS[n] for n in DECODERS if n != "dense complex"), *VAE_DECODERS.values()]
)
@pytest.mark.parametrize(("chunk", "wide"), [(1, 1 << 21), (4096, 1 << 21), (4096, 200)])
def test_form_is_that_of_plain_reverse_differentiation(make, chunk, wide, monkeypatch):
    monkeypatch.setattr(fisher, "CHUNK", chunk)
    monkeypatch.setattr(fisher, "WIDE", wide)
    decoder, z = make(3) if make in DECODERS.values() else make(), points(12, 3)
    torch.testing.assert_close(fisher_form(decoder, z).detach(), jacobian_form(decoder, z))


def steep(z):
    """Of variance exp(−100) where Re z₁ > 0, so that σ⁻² overflows in single precision."""
    return RealGaussian((z**2).real, torch.where(z.real[:, :1] > 0, -100.0, 0.0))


def sharp(z):
    scale = torch.where(z.real[:, :1] > 0, 0.0, 1.0).expand(z.shape)
    return Independent(Normal((z**2).real, scale, validate_args=False), 1)


@pytest.mark.parametrize("decoder", [steep, sharp])
@pytest.mark.parametrize(
    "function",
    [
        fisher_form,
        fisher_metric,
        fisher_relation,
        hermitian_defect,
        estimate_hermitian_defect,
        estimate_closedness_defect,
        relative_entropy_metric,
        lambda decoder, z: fisher_norm(decoder, z, 1j * z),
        lambda decoder, z: fisher_norm(decoder, z, 1j * z, full=True),
    ],
)
def test_an_information_that_overflows_is_refused(decoder, function):
    z = torch.tensor([[-1 + 1j, 2j], [1 + 1j, 1j], [-2 + 1j, 1j]])
    for fine in (z[::2], z[:0]):
        function(decoder, fine)
    with pytest.raises(InputError, match="Fisher information is not finite at 1 of 3 latents"):
        function(decoder, z)


def test_an_information_that_is_differentiated_is_not_looked_at():
    """A training and a trajectory look at what they get, without a device to wait for."""
    z = torch.tensor([[-1 + 1j, 2j], [1 + 1j, 1j]])
    followed = z.clone().requires_grad_()
    assert not fisher_metric(steep, followed).isfinite().all()
    assert not fisher_norm(steep, followed, z).isfinite().all()
    metric = functools.partial(fisher_metric, steep)
    assert not torch.func.jvp(metric, (z,), (z,))[1].isfinite().all()
    assert fisher_norm(steep, z[:1], torch.nan * z[:1]).isnan().all()  # not the decoder's fault


def test_products_are_taken_of_the_features_where_outputs_are_many(monkeypatch):
    """Else the test above would compare one route with itself."""
    z, taken = points(12, 3), []
    route = fisher._form_of_features
    monkeypatch.setattr(
        fisher, "_form_of_features", lambda *args: taken.append(args[0]) or route(*args)
    )
    decoders = {name: make() for name, make in VAE_DECODERS.items()}
    for decoder in decoders.values():
        fisher_form(decoder, z)
    names = ["many outputs", "one layer", "many complex outputs", "holomorphic, many outputs"]
    assert taken == [decoders[name] for name in names]


def test_a_holomorphic_decoder_needs_half_of_the_directions():
    decoder, z, v = VAE_DECODERS["holomorphic"](), points(5, 3), points(5, 3, seed=1)

    def plain(z):
        return decoder(z)

    torch.testing.assert_close(fisher_form(decoder, z), fisher_form(plain, z))
    torch.testing.assert_close(fisher_norm(decoder, z, v), fisher_norm(plain, z, v))
    assert len(fisher._directions(decoder, z)) == 3
    assert fisher_relation(decoder, z).abs().max() < 1e-12


class Skip(HolomorphicDecoder):
    def forward(self, z):
        p = super().forward(z)
        return p._replace(mean=p.mean + 2 * z.conj() @ torch.ones(3, 12, dtype=z.dtype))


class Bent(HolomorphicDecoder):
    activation = SmoothCardioid


class Twice(ComplexDecoder):
    """Of another forward and its pushforward, the features of the body are no part."""

    def forward(self, z):
        return super().forward(2 * z)

    def pushforward(self, z, tangent):
        return super().pushforward(2 * z, 2 * tangent)


class Named(torch.nn.Module):
    holomorphic = True

    def forward(self, z):
        mean = torch.cat([z, z * z.conj()], dim=-1)
        return ComplexGaussian(mean, (z * z.conj()).real.mean(-1, keepdim=True))


def hooked():
    decoder = HolomorphicDecoder(12, 3, 4, 1)
    decoder.body[0].register_forward_hook(lambda module, given, out: out + out.conj())
    return decoder


def patched():
    decoder = to_double(HolomorphicDecoder(12, 3, 4, 1))
    decoder.forward = lambda z: HolomorphicDecoder.forward(decoder, z.conj() + z)
    return decoder


CHANGED = {
    "inherited": lambda: Skip(12, 3, 4, 1),
    "activation": lambda: Bent(12, 3, 4, 1),
    "both ways": lambda: Twice(200, 3, 4, 1),
    "named": Named,
    "hook": hooked,
    "patch": patched,
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_a_class_knows_of_its_map_is_not_believed_of_another(name):
    decoder, z, v = to_double(CHANGED[name]()), points(5, 3), points(5, 3, seed=1)

    def plain(z):
        return decoder(z)

    torch.testing.assert_close(fisher_form(decoder, z), fisher_form(plain, z))
    torch.testing.assert_close(fisher_norm(decoder, z, v), fisher_norm(plain, z, v))


def test_gradient_reaches_the_decoder_by_the_features_too():
    decoder, z = VAE_DECODERS["many outputs"](), points(12, 3)
    parameters = [decoder.mean.linear.weight, decoder.body[0].weight]
    ours = torch.autograd.grad(fisher_form(decoder, z).square().sum(), parameters)
    plain = fisher_form(lambda z: decoder(z), z)
    expected = torch.autograd.grad(plain.square().sum(), parameters)
    torch.testing.assert_close(ours, expected)
