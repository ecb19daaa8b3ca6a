"""Priors: densities, draws and divergences against independent routes."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from kahlervae.data import Form
from kahlervae.errors import InputError
from kahlervae.models import (
    ComplexPosterior,
    MixturePrior,
    RealPosterior,
    StandardPrior,
    build_model,
    load_model,
    save_model,
)
from kahlervae.models.priors import EQUAL, build_prior
from kahlervae.nn import to_double

IDENTITY = {"dataset": "digits", "representation": "pixels", "variant": "complex", "seed": 0}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def mixture(components=5, latent_dim=3, seed=0):
    """With parameters of all sizes, in double precision."""
    torch.manual_seed(seed)
    prior = to_double(MixturePrior(latent_dim, components))
    with torch.no_grad():
        prior.logits.normal_(0, 2)
        prior.mean.mul_(3)
        prior.log_var.normal_(-1, 1)
    return prior


def as_real(prior):
    """The mixture on R^{2d}, in whose real and imaginary parts a variance falls in halves."""
    mean = torch.cat([prior.mean.real, prior.mean.imag], dim=-1)
    scale = (prior.log_var.exp() / 2).sqrt().repeat(1, 2)
    return MixtureSameFamily(
        Categorical(logits=prior.log_weights), Independent(Normal(mean, scale), 1)
    )


def test_density_is_that_of_the_mixture_on_real_coordinates():
    prior = mixture()
    z = 2 * torch.randn(50, 3, dtype=torch.complex128, generator=stream())
    expected = as_real(prior).log_prob(torch.cat([z.real, z.imag], dim=-1))
    torch.testing.assert_close(prior.log_prob(z), expected)
    assert prior.log_prob(z.reshape(5, 10, 3)).shape == (5, 10)


@pytest.mark.parametrize("prior", [StandardPrior(3), MixturePrior(3, 4)])
def test_densities_are_of_latents_and_draws_of_a_stream(prior):
    for z in (torch.zeros(2, 1) + 0j, torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64), 0j):
        with pytest.raises(InputError, match=r"give a complex tensor of shape \(..., 3\)"):
            prior.log_prob(z)
    for count in (0, 2.5):
        with pytest.raises(InputError, match=f"is {count}: give a whole number of at least 1"):
            prior.sample(count, stream())
    with pytest.raises(InputError, match="the generator is a NoneType"):
        prior.sample(3, None)


def test_the_standard_prior_is_a_mixture_of_one():
    prior = mixture(components=1)
    with torch.no_grad():
        prior.mean.zero_()
        prior.log_var.zero_()
    z = torch.randn(9, 3, dtype=torch.complex128, generator=stream())
    torch.testing.assert_close(prior.log_prob(z), StandardPrior(3).log_prob(z))


@pytest.mark.parametrize("kind", [ComplexPosterior, RealPosterior])
def test_divergence_by_one_draw_is_right_in_the_mean(kind):
    """Of a mixture of one that is CN(0, I), whose divergence has a closed form."""
    prior = mixture(components=1)
    with torch.no_grad():
        prior.mean.zero_()
        prior.log_var.zero_()
    width = 3 if kind is ComplexPosterior else 6
    dtype = torch.complex128 if kind is ComplexPosterior else torch.float64
    posterior = kind(
        torch.randn(width, dtype=dtype, generator=stream()).expand(20_000, width),
        torch.linspace(-2, 0.5, width, dtype=torch.float64).expand(20_000, width),
    )
    draws = prior.kl(posterior, posterior.sample(stream()))
    error = draws.std() / math.sqrt(len(draws))
    assert (draws.mean() - posterior.kl()[0]).abs() < 4 * error
    torch.testing.assert_close(StandardPrior(3).kl(posterior, draws), posterior.kl())


def test_draws_are_exact():
    """Moments, and the shares of components that lie apart."""
    prior = mixture(components=3, latent_dim=1)
    with torch.no_grad():
        prior.mean.copy_(torch.tensor([[0], [20], [20j]]))
    z = prior.sample(40_000, stream())
    weights = prior.log_weights.exp()
    nearest = (z - prior.mean.mT).abs().argmin(1)
    for k in range(3):
        own = z[nearest == k]
        assert len(own) / len(z) == pytest.approx(weights[k].item(), abs=0.01)
        variance = (own - prior.mean[k]).abs().square().mean().item()
        assert variance == pytest.approx(prior.log_var[k].exp().item(), rel=0.05)


def test_it_starts_near_the_standard_prior():
    torch.manual_seed(0)
    prior = MixturePrior(4, 256)
    z = prior.sample(20_000, stream())
    assert z.abs().square().mean().item() == pytest.approx(1, rel=0.1)
    assert z.mean().abs() < 0.1


def test_no_weight_falls_below_its_share():
    prior = mixture(components=8)
    with torch.no_grad():
        prior.logits[0] = -1e4
    weights = prior.log_weights.exp()
    assert weights[0].item() == pytest.approx(EQUAL / 8)
    assert weights.sum().item() == pytest.approx(1)
    gradient = torch.autograd.grad(prior.log_prob(prior.mean[:1].detach()).sum(), prior.mean)[0]
    assert gradient.isfinite().all()


@pytest.mark.parametrize("networks", ["complex", "real", "pluriharmonic"])
def test_a_model_learns_and_keeps_its_prior(networks, tmp_path):
    torch.manual_seed(0)
    sizes = {"latent_dim": 2, "width": 8, "depth": 1}
    prior = {"kind": "mixture", "components": 4}
    model = build_model(IDENTITY, Form((4, 5)), networks, **sizes, prior=prior)
    images = torch.rand(6, 4, 5, generator=stream())
    log_likelihood, kl = model.elbo_terms(images, stream())
    (kl - log_likelihood).mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.prior.parameters())
    assert model.log_evidence(images, 5, stream()).isfinite().all()
    save_model(tmp_path / "model.safetensors", model)
    again = load_model(tmp_path / "model.safetensors")
    z = torch.randn(9, 2, dtype=torch.complex64, generator=stream())
    assert torch.equal(again.prior.log_prob(z), model.prior.log_prob(z))
    assert type(build_model(IDENTITY, Form((4, 5)), networks, **sizes).prior) is StandardPrior


def test_an_unknown_prior_is_refused():
    with pytest.raises(InputError, match="'flow' is unknown: choose mixture"):
        build_prior(2, {"kind": "flow", "components": 3})


@pytest.mark.parametrize("size", [0, -1, 2.0, None])
def test_sizes_of_a_prior_are_whole_numbers(size):
    with pytest.raises(InputError, match=r"components of a mixture prior is .* whole number"):
        MixturePrior(2, size)
    for prior in (StandardPrior, lambda d: MixturePrior(d, 3)):
        with pytest.raises(InputError, match=r"latent_dim of a .* prior is .* whole number"):
            prior(size)
