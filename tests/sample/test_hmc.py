import math

import pytest
import torch

from kahlervae.errors import InputError
from kahlervae.sample import DualAveraging, Prior, Volume, diagnose, run_chains
from kahlervae.sample.hmc import Differentiated
from kahlervae.seeding import generator

ALPHAS = [-2.0, -1.0, -0.5, 0.5, 1.0, 2.0]


def volume(metric, alpha, latent_dim=1):
    return Volume(Prior(latent_dim, torch.complex128), metric, latent_dim * alpha, 1e-3)


def run(log_density, chains=1024, warmup=200, draws=120, leapfrog=3, latent_dim=1, target=0.8):
    stream = generator(0, "test")
    start = Prior(latent_dim, torch.complex128).sample(chains, stream).latents
    return run_chains(
        log_density,
        start,
        warmup=warmup,
        draws=draws,
        leapfrog=leapfrog,
        generator=stream,
        target_acceptance=target,
    )


@pytest.mark.parametrize("alpha", [-0.5, 1.5])
def test_gradient_is_that_of_finite_differences(mixture, growing, alpha):
    for metric, latent_dim in ((mixture, 1), (growing, 3)):
        target = volume(metric, alpha, latent_dim).log_density
        z = Prior(latent_dim, torch.complex128).sample(5, generator(1)).latents
        _, gradient = Differentiated(target).log_density_and_gradient(z, None)
        for direction in (1.0, 1j):
            for axis in range(latent_dim):
                step = torch.zeros(latent_dim, dtype=z.dtype)
                step[axis] = 1e-5 * direction
                slope = (target(z + step) - target(z - step)) / 2e-5
                part = gradient.real if direction == 1.0 else gradient.imag
                torch.testing.assert_close(part[:, axis], slope, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("leapfrog", [1, 3])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_draws_follow_the_density_on_a_grid(mixture, total_variation, alpha, leapfrog):
    target = volume(mixture, alpha)
    chains = run(target.log_density, leapfrog=leapfrog)
    assert total_variation(chains.latents, target.log_density) <= 0.03


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_grid_tells_a_tempered_sampler(mixture, total_variation, alpha):
    target = volume(mixture, alpha)
    chains = run(lambda z: 0.7 * target.log_density(z))
    assert total_variation(chains.latents, target.log_density) > 0.03


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_grid_tells_a_sampler_that_leaves_out_the_weight(mixture, total_variation, alpha):
    target = volume(mixture, alpha)
    assert total_variation(run(target.base.log_density).latents, target.log_density) > 0.03


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_grid_tells_a_wrong_gradient_without_acceptance(mixture, total_variation, alpha):
    """Langevin steps with ∂/∂z̄ in place of twice that, and no correction."""
    target = volume(mixture, alpha).log_density
    stream = generator(0, "test")
    z = Prior(1, torch.complex128).sample(1024, stream).latents
    kept = []
    for iteration in range(220):
        _, gradient = Differentiated(target).log_density_and_gradient(z, None)
        noise = math.sqrt(2) * torch.randn(z.shape, generator=stream, dtype=z.dtype)
        z = z + 0.5 * 0.4**2 * (0.5 * gradient) + 0.4 * noise
        if iteration >= 100:
            kept.append(z)
    assert total_variation(torch.stack(kept), target) > 0.03


def test_acceptance_corrects_a_wrong_gradient(mixture, total_variation):
    """Any force gives a reversible, volume-preserving map; only the density decides."""
    target = volume(mixture, -1.0).log_density

    def half_force(z):
        value = target(z)
        return 0.5 * value + 0.5 * value.detach()

    assert total_variation(run(half_force).latents, target) <= 0.03


@pytest.mark.parametrize("target", [0.6, 0.8, 0.9])
def test_dual_averaging_reaches_its_target(growing, target):
    chains = run(
        volume(growing, -0.5, 4).log_density, chains=16, warmup=300, latent_dim=4, target=target
    )
    assert float(chains.acceptance.mean()) == pytest.approx(target, abs=0.05)


def test_dual_averaging_follows_the_recursion_of_the_paper():
    """Hoffman & Gelman (2014), algorithm 5, written out."""
    accepted = [0.1, 0.9, 0.5, 0.99]
    averaging = DualAveraging(0.5, 0.8)
    mean_error, log_average = 0.0, 0.0
    for m, acceptance in enumerate(accepted, start=1):
        averaging.update(acceptance)
        mean_error = (1 - 1 / (m + 10)) * mean_error + (0.8 - acceptance) / (m + 10)
        log_step = math.log(10 * 0.5) - math.sqrt(m) / 0.05 * mean_error
        log_average = m**-0.75 * log_step + (1 - m**-0.75) * log_average
    assert averaging.step_size == pytest.approx(math.exp(log_step))
    assert averaging.average == pytest.approx(math.exp(log_average))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_rejected_and_reported(bad):
    def walled(z):
        inside = z.real[:, 0] < 2.5
        return torch.where(inside, -(z.real.square() + z.imag.square()).sum(-1) / 4, bad)

    chains = run(walled, chains=8, draws=200)
    assert float(chains.latents.real.max()) < 2.5
    assert torch.isfinite(chains.log_density).all()
    assert chains.divergent.any()
    assert not (chains.divergent & chains.moved).any()
    assert "divergent trajectories" in diagnose(chains).reason


def test_a_start_without_a_finite_density_is_refused():
    with pytest.raises(InputError, match="not finite at 8 of 8 starts"):
        run(lambda z: z.real[:, 0] * math.nan, chains=8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"leapfrog": 0},
        {"leapfrog": 1.5},
        {"draws": 0},
        {"warmup": -1},
        {"candidates": -1},
        {"target_acceptance": 1.0},
        {"target_acceptance": math.nan},
        {"scale": torch.tensor([0.0])},
        {"scale": torch.tensor([math.nan])},
    ],
)
def test_numbers_of_a_run_are_looked_at(wrong):
    options = {"warmup": 5, "draws": 5, "leapfrog": 2, "generator": generator(0)}
    start = torch.zeros(4, 1, dtype=torch.complex64)
    with pytest.raises(InputError, match=": give a"):
        run_chains(lambda z: -z.abs().square().sum(-1), start, **options | wrong)


def test_step_sizes_are_positive():
    with pytest.raises(InputError, match="the step size is 0: give a finite number above 0"):
        DualAveraging(0, 0.8)


@pytest.mark.parametrize(
    "scale", [torch.tensor([1]), torch.tensor(1.0), torch.ones(2), torch.ones(1, 1), 1.0]
)
def test_a_scale_is_a_number_of_every_coordinate(scale):
    """An integer one would make steps of 0, which are all accepted."""
    options = {"warmup": 5, "draws": 5, "leapfrog": 2, "generator": generator(0)}
    start = torch.zeros(4, 1, dtype=torch.complex64)
    with pytest.raises(InputError, match="the scale of a chain is no tensor of 1 floating numbers"):
        run_chains(lambda z: -z.abs().square().sum(-1), start, **options, scale=scale)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"start": torch.zeros(4, 1)}, "start is real"),
        ({"start": torch.zeros(4, dtype=torch.complex64)}, "start has the shape"),
        ({"start": torch.full((4, 1), math.nan + 0j)}, "start is not finite in 4 of 4 rows"),
        ({"start": torch.zeros(0, 1, dtype=torch.complex64)}, "there are no starts"),
        ({"generator": None}, "the generator is a NoneType"),
        ({"log_density": None}, "the log density is a NoneType"),
        ({"log_density": lambda z: -(z * z.conj()).sum(1)}, "does not return real numbers"),
        ({"log_density": lambda z: 0.0}, "does not return real numbers"),
        ({"log_density": lambda z: -z.abs().square().sum()}, r"has the shape \(\): give one value"),
        ({"log_density": lambda z: -z.abs().square()}, r"4 latents has the shape \(4, 1\)"),
    ],
)
def test_what_chains_start_from_is_looked_at(change, fault):
    given = {
        "log_density": lambda z: -z.abs().square().sum(-1),
        "start": torch.zeros(4, 1, dtype=torch.complex64),
        "generator": generator(0),
    }
    with pytest.raises(InputError, match=fault):
        run_chains(**given | change, warmup=5, draws=5, leapfrog=2)


def test_candidates_are_weighed_one_by_one():
    with pytest.raises(InputError, match=r"the log density of 3 latents has the shape \(3, 1\)"):
        Differentiated(lambda z: -z.abs().square()).log_densities(torch.zeros(3, 1) + 0j)
