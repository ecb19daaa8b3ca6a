import math

import pytest
import torch
from arviz_stats.base.array import array_stats

from kahlervae.errors import InputError
from kahlervae.geometry import HolomorphicPotential, MixturePotential, log_det
from kahlervae.models import ComplexGaussian, ComplexPosterior
from kahlervae.models.decoders import ComplexDecoder
from kahlervae.nn import to_double
from kahlervae.sample import (
    FisherVolume,
    GaussianMixture,
    PosteriorMixture,
    Prior,
    Volume,
    component_log_dets,
    run_chains,
)
from kahlervae.sample.mixtures import coordinates
from kahlervae.seeding import generator

ALPHAS = [-2.0, -0.5, 0.5, 2.0]
BASES = ["prior", "gmm", "posterior_mixture"]
TARGETS = [("prior", "global"), *((b, w) for b in BASES[1:] for w in ("global", "local"))]


def base(name, latent_dim=1):
    """Bases in double precision, the mixtures with components apart."""
    if name == "prior":
        return Prior(latent_dim, torch.complex128)
    stream = generator(6)
    if name == "gmm":
        size = 2 * latent_dim
        root = 0.3 * torch.randn(3, size, size, generator=stream, dtype=torch.float64)
        covariances = root @ root.mT + 0.1 * torch.eye(size, dtype=torch.float64)
        means = 1.2 * torch.randn(3, size, generator=stream, dtype=torch.float64)
        weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
        return GaussianMixture(weights, means, covariances, dtype=torch.complex128)
    mean = 1.2 * torch.randn(5, latent_dim, generator=stream, dtype=torch.complex128)
    log_var = torch.rand(5, latent_dim, generator=stream, dtype=torch.float64) - 1.5
    return PosteriorMixture(ComplexPosterior(mean, log_var), torch.complex128)


def decoder():
    torch.manual_seed(0)
    return to_double(ComplexDecoder(6, 2, 8, depth=2)).requires_grad_(False)


def elements():
    posterior = base("posterior_mixture", 2).posterior
    return {
        "fitted": to_double(MixturePotential.random(2, 4, 4, 2.0, generator(0))),
        "posterior": MixturePotential.from_posterior(posterior.mean, posterior.variance),
        "fisher": FisherVolume(decoder()),
    }


@pytest.mark.parametrize(("name", "weight"), TARGETS)
@pytest.mark.parametrize("metric", ["fitted", "posterior", "fisher"])
def test_gradient_is_that_of_finite_differences(name, weight, metric):
    element = elements()[metric]
    if isinstance(element, torch.nn.Module):
        element.requires_grad_(False)
    volume = Volume(base(name, 2), element, -3.0, 1e-3, weight=weight)
    target, (densities, _) = volume.log_density, Volume.join([volume])
    z = base(name, 2).propose(4, generator(1))
    _, gradient = densities.log_density_and_gradient(z, torch.zeros(4, dtype=torch.int64))
    for direction in (1.0, 1j):
        for axis in range(2):
            step = torch.zeros(2, dtype=z.dtype)
            step[axis] = 1e-5 * direction
            slope = (target(z + step) - target(z - step)) / 2e-5
            part = gradient.real if direction == 1.0 else gradient.imag
            torch.testing.assert_close(part[:, axis], slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(("name", "weight"), TARGETS)
def test_draws_follow_the_density_on_a_grid(mixture, total_variation, name, weight, alpha):
    options = {"chains": 1024, "warmup": 40, "draws": 80, "candidates": 6}
    volume = Volume(base(name), mixture, alpha, 1e-3, weight=weight, **options)
    draws = volume.sample(1024 * 80, generator(0))
    assert total_variation(draws.latents, volume.log_density) <= 0.03


def test_the_grid_tells_candidates_of_another_density(mixture, total_variation):
    """A choice by ρ alone, as if the proposal were flat."""
    volume = Volume(base("gmm"), mixture, -1.0, 1e-3)

    class Flat:
        propose = volume.base.propose

        def log_density(self, z):
            return torch.zeros(len(z), dtype=torch.float64)

    chains = run_chains(
        volume.log_density,
        volume.base.propose(1024, generator(0)),
        warmup=40,
        draws=100,
        leapfrog=2,
        generator=generator(1),
        proposal=Flat(),
        candidates=4,
    )
    assert total_variation(chains.latents, volume.log_density) > 0.03


def mean_and_error(quantity):
    effective = array_stats.ess(quantity.numpy(), chain_axis=0, draw_axis=1, method="mean")
    return float(quantity.mean()), float(quantity.std() / math.sqrt(effective))


@pytest.mark.parametrize("candidates", [0, 6])
@pytest.mark.parametrize("weight", ["global", "local"])
@pytest.mark.parametrize("alpha", [-1.5, 0.8])
def test_a_tilted_mixture_has_the_moments_of_a_mixture(tilt, alpha, weight, candidates):
    """exp(αc·x) moves a Gaussian N(m, S) to m + αSc and gives it the mass exp(αc·m + α²c·Sc/2)."""
    gmm, c = base("gmm", 2), torch.tensor([0.5, -0.3, 0.4, 0.6], dtype=torch.float64)
    volume = Volume(gmm, tilt(c), 2 * alpha, 1e-3, weight=weight)
    means = gmm.means + alpha * (gmm.covariances @ c)
    spread = torch.einsum("i,kij,j->k", c, gmm.covariances, c)
    log_masses = gmm.weights.log() + alpha * gmm.means @ c + 0.5 * alpha**2 * spread
    if weight == "local":
        log_masses = log_masses - alpha * component_log_dets(gmm, tilt(c), 1e-3).mean(1)
    shares = log_masses.softmax(0)
    # Starts that are draws of the target: whatever the chains do, it must remain.
    target = GaussianMixture(shares, means, gmm.covariances, dtype=torch.complex128)
    chains = run_chains(
        volume.log_density,
        target.propose(256, generator(3)),
        warmup=40,
        draws=200,
        leapfrog=3,
        generator=generator(2),
        scale=volume.base.scale,
        proposal=volume.proposal,
        candidates=candidates,
    )
    x = coordinates(chains.latents)
    mean = shares @ means
    second = torch.einsum("k,kij->ij", shares, gmm.covariances) + torch.einsum(
        "k,ki,kj->ij", shares, means, means
    )
    for i in range(4):
        estimate, error = mean_and_error(x[..., i])
        assert abs(estimate - float(mean[i])) < 4.5 * error
        estimate, error = mean_and_error(x[..., i] ** 2)
        assert abs(estimate - float(second[i, i])) < 4.5 * error


def test_normaliser_of_a_tilted_mixture(tilt):
    gmm, c = base("gmm", 2), torch.tensor([0.5, -0.3, 0.4, 0.6], dtype=torch.float64)
    diagnostics = Volume(gmm, tilt(c), 1.0, 1e-3).sample(100, generator(0)).diagnostics
    spread = torch.einsum("i,kij,j->k", c, gmm.covariances, c)
    terms = gmm.weights.log() + 0.5 * gmm.means @ c + 0.125 * spread
    assert diagnostics.log_normaliser == pytest.approx(float(terms.logsumexp(0)), abs=0.03)


def test_a_local_weight_keeps_the_shares_and_a_global_one_does_not(tilt):
    """Components of equal covariance, apart along the direction in which log det grows."""
    means = torch.tensor([[3.0, 0.0], [0.0, 3.0], [-3.0, -3.0]], dtype=torch.float64)
    covariances = 0.2 * torch.eye(2, dtype=torch.float64).repeat(3, 1, 1)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    gmm = GaussianMixture(weights, means, covariances, dtype=torch.complex128)
    c = torch.tensor([0.5, 0.1], dtype=torch.float64)
    shares = {}
    for weight in ("local", "global"):
        draws = Volume(gmm, tilt(c), -2.0, 1e-3, weight=weight, chains=128, draws=100)
        x = coordinates(draws.sample(12_800, generator(0)).latents)
        nearest = torch.cdist(x, means - 2 * 0.2 * c).argmin(1)
        shares[weight] = torch.bincount(nearest, minlength=3).double() / len(x)
    torch.testing.assert_close(shares["local"], weights, rtol=0, atol=0.03)
    expected = (weights.log() - 2 * means @ c).softmax(0)
    torch.testing.assert_close(shares["global"], expected, rtol=0, atol=0.03)
    assert float((expected - weights).abs().max()) > 0.3


def test_candidates_cross_between_modes(growing):
    means = torch.tensor([[8.0, 0.0], [-8.0, 0.0]], dtype=torch.float64)
    covariances = 0.3 * torch.eye(2, dtype=torch.float64).repeat(2, 1, 1)
    gmm = GaussianMixture(torch.tensor([0.7, 0.3]), means, covariances)
    reports = [
        Volume(gmm, growing, -1.0, 1e-3, candidates=candidates, chains=32, draws=200)
        .sample(1000, generator(0))
        .diagnostics
        for candidates in (0, 16)
    ]
    assert reports[0].rhat > 1.1
    assert reports[0].flagged
    assert reports[1].reason == ""
    assert reports[1].ess_bulk > 1000


def test_names(growing):
    gmm = GaussianMixture.fit(torch.randn(40, 2, dtype=torch.complex64), 2, 0)
    volume = Volume(gmm, growing, -8.0, 1e-3, weight="local", metric="posterior")
    assert volume.key == "volume:base=gmm,weight=local,metric=posterior,power=-8"
    assert volume.alpha == -4.0


def test_a_local_weight_needs_a_mixture(growing):
    with pytest.raises(InputError, match="compares the components of a mixture"):
        Volume(Prior(1), growing, -1.0, 1e-3, weight="local")


@pytest.mark.parametrize("name", BASES)
def test_a_metric_that_grows_too_fast_is_refused_for_positive_powers(name):
    class Exploding:
        """det g = exp(|z|⁴)."""

        def log_det(self, z, epsilon):
            return (z.real.square() + z.imag.square()).sum(-1).square()

    with pytest.raises(InputError, match=r"power=1: .* cannot be normalised|power=1 cannot"):
        Volume(base(name), Exploding(), 1.0, 1e-3)
    Volume(base(name), Exploding(), -1.0, 1e-3)


def test_a_metric_known_to_be_polynomial_is_not_probed():
    """Far outside the base it is not definite in float32; draws never get there."""
    potential = HolomorphicPotential.random(16, 4, 3, 1.0, generator(3)).requires_grad_(False)
    far = 32 * Prior(16).propose(64, generator(0))
    assert potential.log_det(far, 1e-3).isnan().any()
    volume = Volume(Prior(16), potential, 2.0, 1e-3)
    assert volume.log_density(far / 32).isfinite().all()


def test_a_metric_that_overflows_is_refused_for_positive_powers():
    """g = exp(2|z|²) A: det(g)^{1/d} p grows, and far out the entries of g are not even numbers."""
    matrix = torch.tensor([[2, 1], [1, 2]], dtype=torch.complex64)

    class Overflowing:
        def log_det(self, z, epsilon):
            growth = torch.exp(2 * (z.real.square() + z.imag.square()).sum(-1))
            return log_det(growth[:, None, None] * matrix, epsilon)

    assert Overflowing().log_det(torch.full((1, 2), 30 + 0j), 1e-3).isnan().all()
    with pytest.raises(InputError, match="is not finite far from the base"):
        Volume(Prior(2), Overflowing(), 2.0, 1e-3)


@pytest.mark.parametrize("weight", ["Local", "GLOBAL", "", None])
@pytest.mark.parametrize("name", BASES)
def test_an_unknown_weight_is_refused(growing, name, weight):
    with pytest.raises(InputError, match="is unknown: choose one of global, local"):
        Volume(base(name), growing, -1.0, 1e-3, weight=weight)


@pytest.mark.parametrize("epsilon", [0.0, -0.5, math.nan, math.inf, "1e-3"])
def test_epsilon_must_be_positive(growing, epsilon):
    with pytest.raises(InputError, match=r"epsilon of a volume sampler is .* number above 0"):
        Volume(Prior(1), growing, -1.0, epsilon)


@pytest.mark.parametrize("power", [math.nan, math.inf, -math.inf, None])
def test_powers_are_finite(growing, power):
    with pytest.raises(InputError, match=r"the power of a volume sampler is .* finite number"):
        Volume(Prior(1), growing, power, 1e-3)


def test_fisher_volume_is_that_of_the_metric():
    from kahlervae.geometry import fisher_metric

    z = Prior(2, torch.complex128).propose(5, generator(0))
    metric = fisher_metric(decoder(), z) + 1e-3 * torch.eye(2)
    torch.testing.assert_close(FisherVolume(decoder()).log_det(z, 1e-3), torch.logdet(metric).real)


@pytest.mark.parametrize("learned", [False, True])
def test_a_constant_volume_leaves_the_base(learned):
    """Its log det does not follow z; that of a decoder in training follows what is learned."""
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=learned)
    element = FisherVolume(lambda z: ComplexGaussian(scale * z, torch.zeros(z.shape).to(scale)))
    prior = Prior(2, torch.complex128)
    volume = Volume(prior, element, -2.0, 1e-3, chains=32, warmup=50, draws=100)
    z = volume.sample(2000, generator(0)).latents
    assert z.abs().square().mean().item() == pytest.approx(1, abs=0.1)
    densities, _ = Volume.join([volume])
    found = densities.log_density_and_gradient(z, torch.zeros(len(z), dtype=torch.int64))
    expected = prior.log_density(z) - 2 * math.log(4 + 1e-3), -2 * z
    torch.testing.assert_close(found, expected)


def test_the_volume_of_a_decoder_that_overflows_is_rejected_and_not_refused():
    element = FisherVolume(lambda z: ComplexGaussian(z, -200 * z.real.square()))
    log_det = element.log_det(torch.tensor([[0.1 + 0j], [3 + 0j]]), 1e-3)
    assert log_det.isfinite().tolist() == [True, False]


class Holed:
    """A metric that is none where a coordinate is large."""

    def __init__(self, element, edge):
        self.element, self.edge = element, edge

    def log_det(self, z, epsilon):
        values = self.element.log_det(z, epsilon)
        return values.masked_fill(z.real[:, 0] > self.edge, math.nan)


@pytest.mark.parametrize("weight", ["global", "local"])
def test_a_volume_is_weighed_where_it_is_finite(growing, weight):
    """In the right half of the rightmost component there is no metric: it is not visited."""
    mixture = base("gmm", 2)
    edge = mixture.means[:, 0].max().item()
    options = {"chains": 64, "warmup": 20, "draws": 40, "weight": weight}
    volume = Volume(mixture, Holed(growing, edge), -1.0, 1e-3, **options)
    draws = volume.sample(500, generator(0)).latents
    assert draws.real[:, 0].max() <= edge
    assert (draws.real[:, 0] > edge - 0.2).any()
    log_dets = component_log_dets(mixture, growing, 1e-3)
    log_dets[0, 0] = math.nan
    shares = Volume(mixture, growing, -1.0, 1e-3, weight="local", log_dets=log_dets).weighted
    whole = mixture.log_weights + 0.5 * torch.tensor(
        [log_dets[0, 1:].mean(), *log_dets[1:].mean(1)]
    )
    torch.testing.assert_close(shares.log_weights, whole.log_softmax(-1))


def test_a_component_without_a_volume_is_refused(growing):
    with pytest.raises(InputError, match=r"volume:.*: log det is not finite at any draw from 3 of"):
        Volume(base("gmm"), Holed(growing, -math.inf), -1.0, 1e-3)
