import json

import pytest
import torch

from kahlervae.errors import InputError
from kahlervae.models import build_model, load_model, save_model
from kahlervae.models.vae import count_parameters
from kahlervae.storage import write_tensors

IDENTITY = {"dataset": "digits", "representation": "pixels", "variant": "complex", "seed": 0}


def model(latent="complex", **sizes):
    torch.manual_seed(0)
    sizes = {"latent_dim": 2, "width": 12, "depth": 2} | sizes
    return build_model(IDENTITY, (4, 5), latent, **sizes)


@pytest.mark.parametrize("width", [8, 64, 128])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_real_variant_has_as_many_parameters_as_the_complex_one(width, depth):
    sizes = {"latent_dim": 4, "width": width, "depth": depth}
    target = count_parameters(model("complex", **sizes))
    # One unit more or less changes the count by this share.
    step = (count_parameters(model("complex", **sizes | {"width": width + 1})) - target) / target
    assert count_parameters(model("real", **sizes)) == pytest.approx(target, rel=step)


@pytest.mark.parametrize("latent", ["complex", "real"])
def test_shapes_and_elbo_terms(latent):
    vae, images = model(latent), torch.rand(6, 4, 5)
    stream = torch.Generator().manual_seed(0)
    posterior = vae.encode_images(images)
    assert posterior.mean.shape == posterior.variance.shape == (6, 2)
    decoded = vae.decode_images(posterior.mean)
    assert decoded.shape == images.shape
    assert decoded.min() >= 0
    assert decoded.max() <= 1
    log_likelihood, kl = vae.elbo_terms(images, stream)
    again = vae.encode_images(images).sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_likelihood, vae.decoder(again).log_prob(images.flatten(1)))
    torch.testing.assert_close(kl, posterior.kl())


@pytest.mark.parametrize("latent", ["complex", "real"])
def test_a_saved_model_comes_back_the_same(tmp_path, latent):
    vae, z = model(latent), torch.randn(3, 2, dtype=torch.complex64)
    save_model(tmp_path / "model.safetensors", vae)
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.identity == IDENTITY
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
