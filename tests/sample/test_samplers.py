import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from arviz_stats.base.array import array_stats
from scipy.integrate import quad

from kahlervae.errors import InputError
from kahlervae.geometry.mixture import MixturePotential
from kahlervae.models import ComplexPosterior, RealPosterior
from kahlervae.nn import to_double
from kahlervae.sample import (
    Base,
    ChainSampler,
    GaussianMixture,
    Mixture,
    PosteriorMixture,
    Prior,
    Riemannian,
    Truncated,
    Volume,
    run_chains,
)
from kahlervae.sample.hmc import run_together
from kahlervae.seeding import generator

FAST = {"chains": 8, "warmup": 50, "draws": 100}


def posterior():
    stream = generator(3)
    mean = torch.randn(50, 2, generator=stream, dtype=torch.complex64)
    return ComplexPosterior(mean, torch.rand(50, 2, generator=stream) - 2)


def samplers(metric):
    return [
        Prior(2),
        Truncated(2, 0.7),
        PosteriorMixture(posterior()),
        Volume(Prior(2), metric, -1.0, 1e-3, **FAST),
        GaussianMixture.fit(posterior().mean, 3, 0).at_temperature(0.85),
        Riemannian(posterior(), 1e-3, **FAST),
    ]


def test_all_samplers_share_one_interface(growing):
    for sampler in samplers(growing):
        draws = sampler.sample(100, generator(0))
        assert draws.latents.shape == (100, 2)
        assert draws.latents.dtype == torch.complex64
        assert (draws.diagnostics is None) == (not isinstance(sampler, ChainSampler))
        again = sampler.sample(100, generator(0)).latents
        assert torch.equal(draws.latents, again)
        assert not torch.equal(draws.latents, sampler.sample(100, generator(1)).latents)


def test_keys(growing):
    keys = [sampler.key for sampler in samplers(growing)]
    assert keys == [
        "prior:default",
        "truncated:temperature=0.7",
        "posterior_mixture:default",
        "volume:base=prior,weight=global,metric=fitted,power=-1",
        "gmm:components=3,temperature=0.85",
        "riemannian:default",
    ]


@pytest.mark.parametrize("index", range(6))
def test_no_samples_are_refused(growing, index):
    with pytest.raises(InputError, match="whole number of at least 1"):
        samplers(growing)[index].sample(0, generator(0))
    with pytest.raises(InputError, match=r"is 2\.5: give a whole number of at least 1"):
        samplers(growing)[index].sample(2.5, generator(0))


@pytest.mark.parametrize("index", range(6))
def test_samples_come_of_a_stream_and_densities_are_of_latents(growing, index):
    sampler = samplers(growing)[index]
    with pytest.raises(InputError, match="the generator is a NoneType: give one"):
        sampler.sample(3, None)
    for z, fault in (
        (torch.zeros(2, 3) + 0j, r"\(2, 3\), but these latents have 2 dimensions"),
        (torch.zeros(2, 1) + 0j, r"\(2, 1\), but these latents have 2 dimensions"),
        (torch.zeros(2, 2), "z is real"),
    ):
        with pytest.raises(InputError, match=fault):
            sampler.log_density(z)


@pytest.mark.parametrize("base", [Prior(1), Truncated(1, 0.4)])
def test_density_is_normalised(base: Base):
    axis = torch.linspace(-5, 5, 401, dtype=torch.float64)
    grid = torch.complex(*torch.meshgrid(axis, axis, indexing="ij")).reshape(-1, 1)
    mass = base.log_density(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    assert float(mass) == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.5])
def test_temperature_scales_the_standard_deviation(temperature):
    z = Truncated(3, temperature).sample(20000, generator(0)).latents
    real = torch.view_as_real(z).reshape(-1, 6)
    expected = temperature / math.sqrt(2)
    torch.testing.assert_close(real.std(0), torch.full((6,), expected), rtol=0.03, atol=0)
    # Circular: the relation E z² vanishes.
    assert float(z.square().mean(0).abs().max()) < 4 * temperature**2 / math.sqrt(10000)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf, "1"])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(InputError, match=r"the temperature .* give a finite number above 0"):
        Truncated(2, temperature)


@pytest.mark.parametrize("latent_dim", [0, -1, 2.0])
def test_dimensions_are_whole_numbers(latent_dim):
    for sampler in (Prior, partial(Truncated, temperature=0.5)):
        with pytest.raises(InputError, match=r"latent_dim of the sampler .* whole number"):
            sampler(latent_dim)


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "chains": (0, -1, 2.0),
        "warmup": (-1, 2.5),
        "draws": (0, 2.0),
        "leapfrog": (0, -1, 1.5),
        "candidates": (-1, 2.0),
        "rhat": (0.0, math.nan, math.inf),
    }.items(),
)
def test_options_of_chains_are_looked_at(growing, name, values):
    for value in values:
        for build in (
            lambda **options: Volume(Prior(1), growing, -1.0, 1e-3, **options),
            lambda **options: Riemannian(posterior(), 1e-3, **options),
        ):
            with pytest.raises(InputError, match=f"{name}, .* is {value!r}: give a"):
                build(**{name: value})


def test_chains_by_automatic_differentiation_need_gradients(growing):
    volume = Volume(Prior(2), growing, -1.0, 1e-3, **FAST)
    with (
        torch.inference_mode(),
        pytest.raises(InputError, match=r"volume:.*: a trajectory is found by gradients, which"),
    ):
        volume.sample(10, generator(0))
    riemannian = Riemannian(posterior(), 1e-3, **FAST)
    expected = riemannian.sample(10, generator(0)).latents
    with torch.inference_mode():  # its gradient is known in closed form
        assert torch.equal(riemannian.sample(10, generator(0)).latents, expected)


@pytest.mark.parametrize("q", [posterior(), RealPosterior(torch.randn(9, 4), torch.rand(9, 4) - 2)])
def test_posterior_mixture_has_the_moments_of_its_total_covariance(q):
    count = 40000
    z = PosteriorMixture(q).sample(count, generator(0)).latents
    mean = q.mean.mean(0)
    variance = q.variance.mean(0) + (q.mean - mean).abs().square().mean(0)
    assert ((z.mean(0) - mean).abs() < 4 * (variance / count).sqrt()).all()
    torch.testing.assert_close((z - mean).abs().square().mean(0), variance, rtol=0.04, atol=0)


def mean_and_error(quantity):
    """Mean of draws (chains, draws) and its standard error by effective sample size."""
    effective = array_stats.ess(quantity.numpy(), chain_axis=0, draw_axis=1, method="mean")
    return float(quantity.mean()), float(quantity.std() / math.sqrt(effective))


@pytest.mark.parametrize("latent_dim", [1, 4])
@pytest.mark.parametrize("alpha", [-2.0, -0.5, 0.0, 1.0])
def test_volume_has_the_moments_of_its_density(growing, alpha, latent_dim):
    """r = |z|² has density ∝ r^{d−1} e^{−r} (1 + ε + r)^{dα}; α = 0 gives back the prior."""
    volume = Volume(Prior(latent_dim, torch.complex128), growing, latent_dim * alpha, 1e-3)
    stream = generator(2)
    start = volume.base.sample(16, stream).latents
    chains = run_chains(
        volume.log_density, start, warmup=200, draws=400, leapfrog=6, generator=stream
    )

    def moment(power):
        exponent = latent_dim * alpha
        return quad(
            lambda r: r ** (latent_dim - 1 + power) * math.exp(-r) * (1.001 + r) ** exponent,
            0,
            np.inf,
        )[0]

    squares = chains.latents.abs().square().sum(-1)
    for power in (1, 2):
        mean, error = mean_and_error(squares**power)
        assert abs(mean - moment(power) / moment(0)) < 4 * error
    for coordinate in torch.view_as_real(chains.latents).flatten(2).unbind(-1):
        mean, error = mean_and_error(coordinate)
        assert abs(mean) < 4 * error


def test_draws_are_thinned_evenly_over_all_chains(growing, monkeypatch):
    """With the chains replaced by a run whose states carry their address."""

    def addresses(densities, start, *, draws, **_):
        chains = start.shape[1]
        chain, draw = torch.meshgrid(torch.arange(chains), torch.arange(draws), indexing="ij")
        z = torch.complex(chain.float(), draw.float())[..., None]
        return [result._replace(latents=z)]

    volume = Volume(Prior(1), growing, 0.5, 1e-3, **FAST)
    stream = generator(0)
    result = run_chains(
        volume.log_density,
        volume.base.sample(8, stream).latents,
        warmup=10,
        draws=100,
        leapfrog=1,
        generator=stream,
    )
    monkeypatch.setattr("kahlervae.sample.chains.run_together", addresses)
    z = volume.sample(200, generator(0)).latents[:, 0]
    for chain in range(8):
        draws = z.imag[z.real == chain].sort().values
        assert torch.equal(draws, torch.arange(0, 100, 4).float())
    assert len(z[:64].real.unique()) == 8


def test_more_samples_than_draws_are_refused(growing):
    with pytest.raises(InputError, match=r"raise sampling.volume.draws"):
        Volume(Prior(1), growing, 0.5, 1e-3, **FAST).sample(801, generator(0))


def test_a_broken_potential_is_refused_by_name():
    class Broken:
        def log_det(self, z, epsilon):
            return z.real[:, 0] * math.nan

    with pytest.raises(InputError, match=r"power=0.5: the log density is not finite"):
        Volume(Prior(1), Broken(), 0.5, 1e-3, **FAST).sample(10, generator(0))


def test_the_mixture_of_the_grid_tests_is_a_mixture_potential(mixture):
    potential = MixturePotential(
        background=torch.zeros(1, 1, dtype=torch.complex128),
        log_strength=torch.zeros(1, dtype=torch.float64),
        offset=mixture.c[None],
        slope=mixture.b[None, :, None],
        factor=mixture.a.sqrt().to(torch.complex128)[None, :, None, None],
    )
    z = Prior(1, torch.complex128).sample(100, generator(0)).latents
    torch.testing.assert_close(potential.log_det(z, 1e-3), mixture.log_det(z, 1e-3))


def bases(latent_dim):
    """A base of every class, in double precision."""
    stream = generator(3)
    means = torch.randn(40, latent_dim, dtype=torch.complex128, generator=stream)
    log_vars = torch.randn(40, latent_dim, dtype=torch.float64, generator=stream) - 1
    return [
        Prior(latent_dim, torch.complex128),
        Truncated(latent_dim, 0.7, torch.complex128),
        GaussianMixture.fit(means, 3, 0),
        PosteriorMixture(ComplexPosterior(means, log_vars), torch.complex128),
    ]


@pytest.mark.parametrize("closed", [True, False])
def test_gradients_of_a_family_are_those_of_automatic_differentiation(closed):
    """Of every power at its own rows, by the metric's closed form and without one."""
    potential = to_double(MixturePotential.random(3, 4, 4, 2.0, generator(0)))
    element = potential.requires_grad_(False)
    if not closed:
        element = SimpleNamespace(log_det=potential.log_det)
    z = Prior(3, torch.complex128).sample(12, generator(1)).latents
    which = torch.arange(12) % 3
    for base in bases(3):
        weight = "local" if isinstance(base, Mixture) else "global"
        family = [Volume(base, element, p, 1e-3, weight=weight) for p in (-4.0, -1.5, 0.5)]
        densities, proposal = Volume.join(family)
        values, gradients = densities.log_density_and_gradient(z, which)
        every = densities.log_densities(z)
        for i, volume in enumerate(family):
            at = z[which == i].requires_grad_()
            value = volume.log_density(at)
            torch.testing.assert_close(values[which == i], value.detach())
            torch.testing.assert_close(every[i, which == i], value.detach())
            (gradient,) = torch.autograd.grad(value.sum(), at)
            torch.testing.assert_close(gradients[which == i], gradient)
        assert proposal.log_density(z).isfinite().all()


def test_powers_that_run_together_have_the_moments_of_their_densities(growing):
    """r = |z|² has density ∝ e^{−r} (1 + ε + r)^α, whatever runs beside it."""
    family = [Volume(Prior(1, torch.complex128), growing, p, 1e-3) for p in (-2.0, 0.0, 1.0)]
    densities, proposal = Volume.join(family)
    stream = generator(4)
    start = proposal.propose(3 * 16, stream).unflatten(0, (3, 16))
    every = run_together(
        densities, start, warmup=100, draws=400, leapfrog=3, generator=stream,
        proposal=proposal, candidates=4,
    )  # fmt: skip
    for volume, chains in zip(family, every, strict=True):
        weight = [
            quad(lambda r: r**k * math.exp(-r) * (1.001 + r) ** volume.alpha, 0, np.inf)[0]  # noqa: B023
            for k in (0, 1)
        ]
        mean, error = mean_and_error(chains.latents.abs().square().sum(-1))
        assert abs(mean - weight[1] / weight[0]) < 4 * error
        assert float(chains.acceptance.mean()) == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("power", [-4.0, 1.0])
def test_default_chains_converge_on_a_mixture_potential(power):
    potential = MixturePotential.random(4, 16, 16, 40.0, generator(0)).requires_grad_(False)
    draws = Volume(Prior(4), potential, power, 1e-3).sample(2000, generator(0))
    assert draws.diagnostics.rhat <= 1.01
    assert draws.diagnostics.reason == ""
