import copy

import pytest
import torch

from kahlervae.data import Form
from kahlervae.errors import InputError
from kahlervae.models import ComplexPosterior, build_model
from kahlervae.sample import Diagnostics, Sources, sample_model

CHAINS = {"chains": 4, "warmup": 20, "draws": 20, "leapfrog": 2, "candidates": 4, "rhat": 1.01}
TARGETS = [
    {"base": "prior", "weight": "global", "metric": "fitted", "powers": [-2.0, 0.5]},
    {"base": "gmm", "weight": "local", "metric": "posterior", "powers": [-2.0]},
    {"base": "posterior_mixture", "weight": "local", "metric": "fisher", "powers": [-2.0]},
]
SETTINGS = {
    "count": 50,
    "validation_count": 20,
    "epsilon": 1e-3,
    "samplers": ["prior", "truncated", "posterior_mixture", "gmm", "ratio", "volume", "riemannian"],
    "truncated": {"temperatures": [0.5, 1]},
    "gmm": {"components": [2, 3, 6], "samples_per_component": 5, "temperatures": [0.4, 1.0]},
    "ratio": {"bases": ["prior", "gmm"], "log_det": [False, True], "draws": 200, "pool": 3},
    "volume": {"targets": TARGETS, **CHAINS},
    "riemannian": {"anchors": 8, "regularisation": 1e-3, **CHAINS},
}
KEYS = [
    "prior:default",
    "truncated:temperature=0.5",
    "truncated:temperature=1",
    "posterior_mixture:default",
    "gmm:components=2,temperature=0.4",
    "gmm:components=2,temperature=1",
    "gmm:components=3,temperature=0.4",
    "gmm:components=3,temperature=1",
    "ratio:base=prior,inputs=latent",
    "ratio:base=prior,inputs=latent+log_det",
    "ratio:base=gmm,inputs=latent",
    "ratio:base=gmm,inputs=latent+log_det",
    "volume:base=prior,weight=global,metric=fitted,power=-2",
    "volume:base=prior,weight=global,metric=fitted,power=0.5",
    "volume:base=gmm,weight=local,metric=posterior,power=-2",
    "volume:base=posterior_mixture,weight=local,metric=fisher,power=-2",
    "riemannian:default",
]
CHAIN_KEYS = KEYS[8:]


@pytest.fixture
def potentials(growing):
    return {"fitted": growing, "posterior": growing}


def model(variant="complex", seed=0, prior=None):
    identity = {"dataset": "digits", "representation": "pixels", "variant": variant, "seed": seed}
    networks = variant if variant in ("real", "pluriharmonic") else "complex"
    sizes = {"latent_dim": 2, "width": 16, "depth": 1}
    return build_model(identity, Form((8, 8)), networks, **sizes, prior=prior)


IMAGES, HELD_OUT = torch.rand(20, 8, 8), torch.rand(10, 8, 8)


def test_every_setting_has_its_samples_and_every_chain_its_row(potentials):
    samples = sample_model(model(), IMAGES, HELD_OUT, potentials, SETTINGS)
    assert list(samples.latents) == KEYS
    assert all(z.shape == (70, 2) and z.dtype == torch.complex64 for z in samples.latents.values())
    names = ["dataset", "representation", "variant", "seed", "sampler", "setting"]
    assert list(samples.diagnostics.columns) == [*names, *Diagnostics._fields]
    assert list(samples.speed.columns) == [*names, "seconds", "ess_bulk", "ess_per_second"]
    for table in samples.diagnostics, samples.speed:
        assert list(table.sampler + ":" + table.setting) == CHAIN_KEYS
    assert (samples.speed.seconds > 0).all()


def test_seeds_decide_and_other_samplers_do_not(potentials):
    vae = model()
    latents, table, *_ = sample_model(vae, IMAGES, HELD_OUT, potentials, SETTINGS)
    again, same_table, *_ = sample_model(vae, IMAGES, HELD_OUT, potentials, SETTINGS)
    assert all(torch.equal(latents[key], again[key]) for key in KEYS)
    assert table.equals(same_table)

    fewer = copy.deepcopy(SETTINGS) | {"samplers": ["volume"]}
    fewer["volume"]["targets"] = fewer["volume"]["targets"][1:2]
    alone, *_ = sample_model(vae, IMAGES, HELD_OUT, potentials, fewer)
    (key,) = alone
    assert key == "volume:base=gmm,weight=local,metric=posterior,power=-2"
    assert torch.equal(alone[key], latents[key])

    vae.identity["seed"] = 1
    other, *_ = sample_model(vae, IMAGES, HELD_OUT, potentials, SETTINGS)
    assert not any(torch.equal(latents[key], other[key]) for key in KEYS)


def clustered(clusters, count, stream):
    """Latents around corners of a square, and a model that has them as posterior means."""
    corners = 5 * torch.tensor([1 + 1j, 1 - 1j, -1 + 1j, -1 - 1j])[:clusters]
    noise = torch.randn(count, 1, generator=stream, dtype=torch.complex64)
    return corners[torch.arange(count) % clusters].unsqueeze(1) + noise


class Encoder:
    """A model whose samples are their own posterior means."""

    def __init__(self):
        self.identity = {"seed": 0}

    def encode(self, samples):
        return ComplexPosterior(samples, torch.full(samples.shape, -9.0))


@pytest.mark.parametrize("clusters", [1, 4])
def test_the_base_of_a_volume_is_the_likeliest_mixture(random, clusters):
    training, validation = (clustered(clusters, n, random) for n in (120, 400))
    settings = {"gmm": {"components": [1, 4, 30, 31], "samples_per_component": 4}}
    sources = Sources(Encoder(), training, validation, None, settings)
    table = sources.mixtures
    assert list(table["components"]) == [1, 4, 30]  # 31 would leave less than 4 to each
    assert table["train_log_density"].is_monotonic_increasing
    assert table.loc[table["chosen"], "components"].item() == clusters
    base = sources.base("gmm")
    assert base is sources.mixture(clusters)
    means = base.log_density(validation).mean()
    assert table["validation_log_density"].max() == pytest.approx(means.item())


def test_few_latents_have_the_largest_mixture_that_they_can_have():
    settings = {"gmm": {"components": [40, 30], "samples_per_component": 5}}
    for count, most in ((14, 2), (3, 1)):
        sources = Sources(Encoder(), torch.zeros(count, 1), torch.zeros(2, 1), None, settings)
        assert sources.components == [most]


def test_a_real_latent_space_has_no_volume_samples():
    latents, table, *_ = sample_model(model("real"), IMAGES, HELD_OUT, None, SETTINGS)
    assert list(latents) == [
        key for key in KEYS if not key.startswith("volume") and "log_det" not in key
    ]
    assert list(table.sampler) == ["ratio", "ratio", "riemannian"]


def test_a_learned_prior_is_what_is_sampled(potentials):
    """By itself, truncated, and as the base of a volume."""
    torch.manual_seed(0)
    vae = model(prior={"kind": "mixture", "components": 3})
    with torch.no_grad():
        vae.prior.mean.mul_(10)
        vae.prior.log_var.sub_(5)
    samples = sample_model(vae, IMAGES, HELD_OUT, potentials, SETTINGS)
    assert list(samples.latents) == KEYS
    for key in ("prior:default", *(key for key in KEYS if "volume:base=prior" in key)):
        nearest = (samples.latents[key].unsqueeze(1) - vae.prior.mean).abs().amax(-1).amin(1)
        assert nearest.max() < 0.6
    (cold,) = [key for key in KEYS if key.startswith("truncated")][:1]
    spread = (samples.latents[cold].unsqueeze(1) - vae.prior.mean).abs().amax(-1).amin(1)
    assert spread.mean() < 0.2


def test_independent_draws_alone_have_empty_tables():
    settings = {key: SETTINGS[key] for key in ("count", "validation_count")} | {
        "samplers": ["prior"]
    }
    _, table, speed, mixtures = sample_model(model(), IMAGES, HELD_OUT, None, settings)
    assert table.empty
    assert speed.empty
    assert mixtures.empty
    assert "rhat" in table.columns


def test_a_complex_model_needs_its_potential():
    with pytest.raises(InputError, match="needs a potential"):
        sample_model(model(), IMAGES, HELD_OUT, None, SETTINGS)


def test_an_unknown_sampler_is_named_with_the_allowed_ones(potentials):
    settings = SETTINGS | {"samplers": ["prior", "gibbs"]}
    with pytest.raises(InputError, match=r"'gibbs'.*prior, truncated, .*, volume, riemannian"):
        sample_model(model(), IMAGES, HELD_OUT, potentials, settings)


def test_names_of_bases_and_metrics_are_looked_at(potentials):
    sources = Sources(model(), IMAGES, HELD_OUT, potentials, SETTINGS)
    with pytest.raises(InputError, match="the base 'Prior' is unknown: choose one of prior, gmm"):
        sources.base("Prior")
    with pytest.raises(InputError, match="the metric 'Fisher' is unknown: choose one of fisher, "):
        sources.element("Fisher")
