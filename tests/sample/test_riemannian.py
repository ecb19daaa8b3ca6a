import math

import pytest
import torch

from kahlervae.errors import InputError
from kahlervae.models import ComplexPosterior, RealPosterior
from kahlervae.sample import Prior, Riemannian, choose_anchors
from kahlervae.sample.mixtures import coordinates, real_moments
from kahlervae.seeding import generator


def anchors(kind=ComplexPosterior, count=5, latent_dim=2):
    stream = generator(4)
    if kind is RealPosterior:
        shape = (count, 2 * latent_dim)
        mean = torch.randn(shape, generator=stream, dtype=torch.float64)
    else:
        shape = (count, latent_dim)
        mean = torch.randn(shape, generator=stream, dtype=torch.complex128)
    return kind(mean, torch.rand(shape, generator=stream, dtype=torch.float64) - 1.5)


@pytest.mark.parametrize("kind", [ComplexPosterior, RealPosterior])
def test_density_is_the_root_of_the_determinant_of_the_formula(kind):
    posterior = anchors(kind)
    sampler = Riemannian(posterior, 1e-2, 0.3)
    means, variances = real_moments(posterior)
    # Each anchor measures by its own covariance.
    between = [
        [float(((m - n).square() / v).sum()) for n, v in zip(means, variances, strict=True)]
        for m in means
    ]
    next_to = [min(row[:i] + row[i + 1 :]) for i, row in enumerate(between)]
    width = math.sqrt(max(next_to))
    assert sampler.width == pytest.approx(width, rel=1e-10)

    z = 2 * Prior(2, torch.complex128).sample(8, generator(0)).latents
    for point, value in zip(z, sampler.log_density(z), strict=True):
        x = coordinates(point)
        metric = 1e-2 * torch.exp(-0.3 * x @ x) * torch.eye(4, dtype=torch.float64)
        for mean, variance in zip(means, variances, strict=True):
            precision = torch.diag(1 / variance)
            squared = (x - mean) @ precision @ (x - mean)
            metric = metric + precision * torch.exp(-squared / width**2)
        assert float(value) == pytest.approx(0.5 * float(torch.logdet(metric)), rel=1e-10)


def test_gradient_is_that_of_finite_differences():
    sampler = Riemannian(anchors(), 1e-2)
    target = sampler.log_density
    z = Prior(2, torch.complex128).sample(5, generator(1)).latents.requires_grad_()
    (gradient,) = torch.autograd.grad(target(z).sum(), z)
    z = z.detach()
    value, closed = sampler.log_density_and_gradient(z, torch.zeros(5, dtype=torch.int64))
    torch.testing.assert_close(value, target(z))
    torch.testing.assert_close(closed, gradient)
    for direction in (1.0, 1j):
        for axis in range(2):
            step = torch.zeros(2, dtype=z.dtype)
            step[axis] = 1e-5 * direction
            slope = (target(z + step) - target(z - step)) / 2e-5
            part = gradient.real if direction == 1.0 else gradient.imag
            torch.testing.assert_close(part[:, axis], slope, rtol=1e-7, atol=1e-8)


def test_far_from_all_anchors_the_background_is_left():
    """Where the kernels fall faster than it does."""
    sampler = Riemannian(anchors(), 1e-2, 0.01)
    z = torch.full((1, 2), 60.0 + 0j, dtype=torch.complex128)
    expected = 2 * math.log(1e-2) - 2 * 0.01 * 7200
    assert float(sampler.log_density(z)) == pytest.approx(expected)


def test_draws_follow_the_density_on_a_grid(total_variation):
    posterior = ComplexPosterior(
        torch.tensor([[0.7 + 0.2j], [-0.6 + 0.4j], [0.1 - 0.6j]], dtype=torch.complex128),
        torch.tensor([[-3.0], [-2.0], [-2.5]], dtype=torch.float64),
    )
    sampler = Riemannian(posterior, 1e-3, chains=1024, warmup=40, draws=80, candidates=6)
    draws = sampler.sample(1024 * 80, generator(0))
    assert total_variation(draws.latents, sampler.log_density) <= 0.03


def test_chains_converge_and_are_the_same_again():
    sampler = Riemannian(anchors(count=40), 1e-3)
    draws = sampler.sample(1000, generator(0))
    assert draws.diagnostics.reason == ""
    assert torch.equal(draws.latents, sampler.sample(1000, generator(0)).latents)


def test_anchors_are_next_to_the_centres_of_clusters():
    stream = generator(0)
    centres = torch.tensor([[4.0 + 0j], [-4.0], [4j]])
    mean = centres.repeat(30, 1) + 0.1 * torch.randn(90, 1, generator=stream, dtype=centres.dtype)
    posterior = ComplexPosterior(mean, torch.arange(90.0)[:, None])
    chosen = choose_anchors(posterior, 3, 0)
    assert len(chosen.mean) == 3
    assert all(((chosen.mean - centre).abs() < 0.1).any() for centre in centres)
    rows = chosen.log_var[:, 0].long()
    assert torch.equal(chosen.mean, mean[rows])
    assert choose_anchors(posterior, 90, 0) is posterior


@pytest.mark.parametrize(
    ("regularisation", "decay"),
    [(0.0, 1.0), (1e-3, 0.0), (1e-3, -1.0), (math.inf, 1.0), (1e-3, math.inf), (math.nan, 1.0)],
)
def test_a_density_that_cannot_be_normalised_is_refused(regularisation, decay):
    with pytest.raises(InputError, match="cannot be normalised"):
        Riemannian(anchors(), regularisation, decay)


def test_one_anchor_is_refused():
    with pytest.raises(InputError, match="two anchors"):
        Riemannian(anchors(count=1), 1e-3)


@pytest.mark.parametrize("count", [0, 2.0])
def test_anchors_are_counted_in_whole_numbers(count):
    with pytest.raises(InputError, match=r"the number of anchors is .* whole number"):
        choose_anchors(anchors(count=9), count, 0)


def test_anchors_have_a_seed_and_finite_means():
    with pytest.raises(InputError, match="the seed is -1"):
        choose_anchors(anchors(count=9), 3, -1)
    posterior = anchors(count=9)
    posterior.mean[4] = math.nan
    with pytest.raises(InputError, match="means is not finite in 1 of 9 rows"):
        choose_anchors(posterior, 3, 0)
