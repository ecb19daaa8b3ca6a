import math

import pytest
import torch

from kahlervae.sample import Chains, Prior, diagnose, estimate_normaliser, run_chains
from kahlervae.seeding import generator


def independent(chains=8, draws=400):
    z = Prior(2).sample(chains * draws, generator(0)).latents.reshape(chains, draws, 2)
    yes = torch.ones(chains, draws, dtype=torch.bool)
    return Chains(z, -z.abs().square().sum(-1), 0.9 * yes, yes, ~yes, ~yes, 0.5, 10_000, 0)


def test_independent_draws_pass():
    diagnostics = diagnose(independent())
    assert not diagnostics.flagged
    assert diagnostics.reason == ""
    assert diagnostics.rhat < 1.01
    assert 0.8 * 3200 < min(diagnostics.ess_bulk, diagnostics.ess_tail) < 1.2 * 3200
    assert (diagnostics.chains, diagnostics.draws, diagnostics.step_size) == (8, 400, 0.5)
    assert (diagnostics.gradients, diagnostics.values, diagnostics.jumps) == (10_000, 0, 0.0)
    assert math.isclose(diagnostics.ess_per_1000_gradients, diagnostics.ess_bulk / 10)
    assert math.isnan(diagnostics.log_normaliser)
    assert math.isclose(diagnostics.acceptance, 0.9, rel_tol=1e-6)


def test_one_wrong_coordinate_is_enough():
    chains = independent()
    chains.latents[3, :, 1] += 1j
    assert diagnose(chains).rhat > 1.05
    assert "R-hat" in diagnose(chains).reason


def test_a_stuck_chain_is_named():
    chains = independent()
    chains.latents[5] = chains.latents[5, :1]
    chains.moved[5] = False
    diagnostics = diagnose(chains)
    assert diagnostics.flagged
    assert "stuck chains: 5" in diagnostics.reason


def test_chains_that_never_move_are_flagged():
    chains = independent()
    still = chains._replace(
        latents=torch.zeros_like(chains.latents), log_density=torch.zeros_like(chains.log_density)
    )
    assert math.isnan(diagnose(still).rhat)
    assert diagnose(still).flagged


def test_few_effective_draws_are_flagged():
    assert "effective draws" in diagnose(independent(chains=4, draws=20)).reason


def test_modes_that_chains_do_not_leave_are_flagged():
    def two_modes(z):
        modes = torch.tensor([-4.0, 4.0])
        squares = (z.real - modes).square() + z.imag.square()
        return torch.logsumexp(-4 * squares, dim=-1)

    stream = generator(0)
    start = 4 * Prior(1).sample(16, stream).latents
    chains = run_chains(two_modes, start, warmup=200, draws=400, leapfrog=6, generator=stream)
    diagnostics = diagnose(chains)
    assert diagnostics.flagged
    assert diagnostics.rhat > 1.5


def test_normaliser_of_a_gaussian_weight():
    """E exp(sx) = exp(s²/2) for normal x; the effective number is n exp(−s²)."""
    x, s = torch.randn(100_000, generator=generator(0), dtype=torch.float64), 0.5
    normaliser = estimate_normaliser(s * x)
    assert math.isclose(normaliser.log_normaliser, s**2 / 2, abs_tol=0.01)
    assert math.isclose(normaliser.normaliser_ess, 100_000 * math.exp(-(s**2)), rel_tol=0.03)
    assert normaliser.normaliser_draws == 100_000
    assert normaliser.pareto_k < 0.5


def test_a_normaliser_that_diverges_is_seen():
    """E exp(1.5 x) is infinite for exponential x: the weights' Pareto shape is 1.5."""
    x = -torch.rand(100_000, generator=generator(0), dtype=torch.float64).log()
    assert math.isclose(estimate_normaliser(1.5 * x).pareto_k, 1.5, abs_tol=0.15)


def test_a_normaliser_of_a_weight_that_is_constant_is_exact():
    normaliser = estimate_normaliser(torch.full((500,), -2.0))
    assert normaliser.log_normaliser == pytest.approx(-2)
    assert normaliser.normaliser_ess == pytest.approx(500)
    assert math.isnan(normaliser.pareto_k)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_normaliser_of_few_draws_has_no_shape(count):
    normaliser = estimate_normaliser(torch.arange(float(count)))
    weights = torch.arange(float(count)).exp()
    assert normaliser.log_normaliser == pytest.approx(weights.mean().log().item())
    assert normaliser.normaliser_draws == count
    assert math.isnan(normaliser.pareto_k)
