import copy

import pytest
import torch

from kahlervae.errors import InputError
from kahlervae.models import build_model
from kahlervae.sample import Diagnostics, sample_model

SETTINGS = {
    "count": 50,
    "epsilon": 1e-3,
    "samplers": ["prior", "truncated", "posterior_mixture", "volume"],
    "truncated": {"temperatures": [0.5, 1]},
    "volume": {
        "alphas": [-1.0, 0.25],
        "chains": 4,
        "warmup": 30,
        "draws": 40,
        "leapfrog": 3,
        "rhat": 1.01,
    },
}
KEYS = [
    "prior:default",
    "truncated:temperature=0.5",
    "truncated:temperature=1",
    "posterior_mixture:default",
    "volume:alpha=-1",
    "volume:alpha=0.25",
]


def model(variant="complex", seed=0):
    identity = {"dataset": "digits", "representation": "pixels", "variant": variant, "seed": seed}
    latent = "real" if variant == "real" else "complex"
    return build_model(identity, (8, 8), latent, latent_dim=2, width=16, depth=1)


IMAGES = torch.rand(20, 8, 8)


def test_every_setting_has_its_samples_and_every_chain_its_row(growing):
    latents, table = sample_model(model(), IMAGES, growing, SETTINGS)
    assert list(latents) == KEYS
    assert all(z.shape == (50, 2) and z.dtype == torch.complex64 for z in latents.values())
    assert list(table.columns) == [
        *("dataset", "representation", "variant", "seed", "sampler", "setting"),
        *Diagnostics._fields,
    ]
    assert list(table.setting) == ["alpha=-1", "alpha=0.25"]


def test_seeds_decide_and_other_samplers_do_not(growing):
    vae = model()
    latents, table = sample_model(vae, IMAGES, growing, SETTINGS)
    again, same_table = sample_model(vae, IMAGES, growing, SETTINGS)
    assert all(torch.equal(latents[key], again[key]) for key in KEYS)
    assert table.equals(same_table)

    fewer = copy.deepcopy(SETTINGS) | {"samplers": ["volume"]}
    fewer["volume"]["alphas"] = [0.25]
    alone, _ = sample_model(vae, IMAGES, growing, fewer)
    assert torch.equal(alone["volume:alpha=0.25"], latents["volume:alpha=0.25"])

    vae.identity["seed"] = 1
    other, _ = sample_model(vae, IMAGES, growing, SETTINGS)
    assert not any(torch.equal(latents[key], other[key]) for key in KEYS)


def test_a_real_latent_space_has_no_volume_samples():
    latents, table = sample_model(model("real"), IMAGES, None, SETTINGS)
    assert list(latents) == KEYS[:4]
    assert table.empty
    assert "rhat" in table.columns


def test_a_complex_model_needs_its_potential():
    with pytest.raises(InputError, match="needs a potential"):
        sample_model(model(), IMAGES, None, SETTINGS)


def test_an_unknown_sampler_is_named_with_the_allowed_ones(growing):
    with pytest.raises(InputError, match=r"'gibbs'.*prior, truncated, posterior_mixture, volume"):
        sample_model(model(), IMAGES, growing, SETTINGS | {"samplers": ["prior", "gibbs"]})
