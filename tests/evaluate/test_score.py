"""The scoring stage on small models: what the rows mean, files, bad input."""

import math

import pandas as pd
import pytest
import torch

from kahlervae.config import data_sources
from kahlervae.data import prepare
from kahlervae.errors import InputError
from kahlervae.evaluate import score
from kahlervae.evaluate.oracle import Oracle, save_oracle
from kahlervae.evaluate.reconstruction import reconstruction_scores
from kahlervae.evaluate.reference import Reference
from kahlervae.models import build_model, save_model
from kahlervae.storage import read_tensors, write_tensors

IDENTITY = {"dataset": "digits", "representation": "pixels", "variant": "complex", "seed": 3}
SETTINGS = {"neighbours": 5, "quantile": 0.95, "paths": {"count": 7, "steps": 6}}


@pytest.fixture(scope="module")
def data():
    split = {"oracle": 100, "validation": 200, "test": 300, "seed": 0}
    return prepare("digits", data_sources({})["digits"], split)[0]


@pytest.fixture(scope="module")
def reference(data):
    torch.manual_seed(0)
    images = [data[f"{split}_images"] for split in ("train", "validation", "test")]
    return Reference(Oracle("mlp", (8, 8), 10), *images, SETTINGS)


@pytest.fixture(params=["complex", "real"])
def model(request):
    torch.manual_seed(0)
    model = build_model(IDENTITY, (8, 8), request.param, latent_dim=2, width=8, depth=2)
    return model.eval().requires_grad_(False)


@pytest.fixture
def samples():
    random = torch.Generator().manual_seed(0)
    keys = ["prior:default", "truncated:temperature=0.5", "volume:alpha=-0.5"]
    return {key: torch.randn(70, 2, dtype=torch.complex64, generator=random) for key in keys}


def test_real_images_score_as_real(reference, data):
    scores = reference.image_scores(data["test_images"])
    assert scores["knn_outliers"] == pytest.approx(0.05, abs=0.04)
    assert scores["entropy_outliers"] == pytest.approx(0.05, abs=0.04)
    assert scores["density"] == pytest.approx(1, abs=0.15)
    assert scores["mean_distance"] == pytest.approx(1, abs=0.05)
    assert scores["novelty"] == pytest.approx(1)
    assert scores["recall"] > 0.9
    assert scores["coverage"] > 0.5  # fewer images than in the reference


def test_noise_a_single_image_and_a_replay_do_not(reference, data):
    noise = reference.image_scores(torch.rand(200, 8, 8))
    assert noise["knn_outliers"] > 0.9
    assert noise["coverage"] < 0.1
    single = reference.image_scores(data["test_images"][:1].expand(200, 8, 8))
    assert single["vendi"] == pytest.approx(1, abs=1e-3)
    assert single["recall"] == pytest.approx(0, abs=0.01)
    assert single["class_entropy"] == 0
    replay = reference.image_scores(data["train_images"])
    assert replay["novelty"] == pytest.approx(0, abs=1e-4)
    assert replay["recall"] == replay["coverage"] == 1


def test_rows_of_samples(model, samples, reference):
    table = score.score_samples(model, samples, [reference, reference])
    assert len(table) == 6
    identity = ["dataset", "representation", "variant", "seed", "sampler", "setting", "oracle"]
    scores = ["knn_outliers", "entropy_outliers", "density", "recall", "coverage", "vendi"]
    scores += ["mean_distance", "class_entropy", "novelty"]
    assert table.columns.tolist() == identity + scores
    assert table["setting"].unique().tolist() == ["default", "temperature=0.5", "alpha=-0.5"]
    assert table[scores].notna().all(axis=None)
    first = reference.image_scores(model.decode_images(samples["prior:default"]))
    assert table.loc[0, scores].to_dict() == first


def test_rows_of_paths(model, samples, reference, data):
    images = data["test_images"]
    table = score.score_paths(model, samples, images, [reference], SETTINGS["paths"])
    assert table["endpoints"].tolist() == ["posterior", "prior", "volume:alpha=-0.5"]
    scores = ["acceleration", "path_length", "label_flips", "midpoint_outliers", "sharpness"]
    assert table.columns.tolist() == [*IDENTITY, "endpoints", "oracle", *scores]
    assert table[scores].notna().all(axis=None)
    again = score.score_paths(model, samples, images, [reference], SETTINGS["paths"])
    pd.testing.assert_frame_equal(table, again)


def test_a_linear_decoder_has_straight_paths(model, samples, reference, data, monkeypatch):
    ends = data["test_images"][:2]

    def decode(z):
        return ends[0] + 0.1 * z.real[:, :1, None] * (ends[1] - ends[0])

    monkeypatch.setattr(model, "decode_images", decode)
    table = score.score_paths(model, samples, data["test_images"], [reference], SETTINGS["paths"])
    assert table["acceleration"].max() < 1e-2  # float32 images


def test_reconstruction(model, data):
    images = data["test_images"][:50]
    scores = reconstruction_scores(model, images, torch.Generator().manual_seed(0))
    assert scores["elbo"] == pytest.approx(scores["log_likelihood"] - scores["kl"])
    posterior = model.encode_images(images)
    decoded = model.decode_images(posterior.mean)
    error = sum(((decoded[i] - images[i]) ** 2).mean().item() for i in range(50)) / 50
    assert scores["mse"] == pytest.approx(error, rel=1e-5)
    assert scores["sigma"] == pytest.approx(math.exp(-1))  # log σ² starts at −2
    random = torch.Generator().manual_seed(1)
    draws = torch.stack([posterior.sample(random) for _ in range(2000)])
    assert scores["latent_norm"] == pytest.approx(draws.abs().square().mean().item(), rel=0.02)
    real = sum(p.numel() for p in model.parameters() if not p.is_complex())
    imaginary = sum(p.numel() for p in model.parameters() if p.is_complex())
    assert scores["parameters"] == real + 2 * imaginary


def test_stage(tmp_path, data, model, samples):
    write_tensors(tmp_path / "data.safetensors", data)
    save_model(tmp_path / "model.safetensors", model)
    write_tensors(tmp_path / "samples.safetensors", samples)
    oracles = [tmp_path / "mlp.safetensors", tmp_path / "cnn.safetensors"]
    oracle_settings = {"epochs": 2, "noise": 0.1, "minimum_accuracy": 0.0, "seed": 0}
    score.make_oracle(
        "digits",
        "mlp",
        tmp_path / "data.safetensors",
        oracle_settings,
        SETTINGS,
        oracles[0],
        tmp_path / "reference.csv",
    )
    save_oracle(oracles[1], Oracle("cnn", (8, 8), 10))
    inputs = [tmp_path / f"{name}.safetensors" for name in ("data", "model", "samples")]
    score.score_model(
        *inputs,
        oracles,
        SETTINGS,
        tmp_path / "samples.csv",
        tmp_path / "sheet.safetensors",
        tmp_path / "paths.csv",
        tmp_path / "reconstruction.csv",
        tmp_path / "gallery.safetensors",
    )
    reference = pd.read_csv(tmp_path / "reference.csv").iloc[0]
    assert (reference["dataset"], reference["oracle"]) == ("digits", "mlp")
    assert reference["novelty"] == pytest.approx(1)
    table = pd.read_csv(tmp_path / "samples.csv")
    assert len(table) == 6
    assert set(table["oracle"]) == {"mlp", "cnn"}
    assert len(pd.read_csv(tmp_path / "paths.csv")) == 6
    assert pd.read_csv(tmp_path / "reconstruction.csv")["seed"].tolist() == [3]
    sheet, _ = read_tensors(tmp_path / "sheet.safetensors")
    assert {key: tuple(images.shape) for key, images in sheet.items()} == dict.fromkeys(
        samples, (64, 8, 8)
    )
    gallery, _ = read_tensors(tmp_path / "gallery.safetensors")
    assert gallery["reconstructions"].shape == gallery["originals"].shape == (16, 8, 8)
    assert gallery["paths"].shape == (6, 11, 8, 8)
    torch.testing.assert_close(gallery["paths"][:, 0], gallery["reconstructions"][0:12:2])


def test_bad_latents(model, samples, reference, data):
    z = samples["prior:default"]
    with pytest.raises(InputError, match="70 of 70 images contain NaN"):
        score.score_samples(model, {"prior:default": z * torch.nan}, [reference])
    with pytest.raises(InputError, match="nearest neighbours"):
        score.score_samples(model, {"prior:default": z[:5]}, [reference])
    with pytest.raises(InputError, match="two endpoints"):
        score.score_paths(
            model, {"prior:default": z[:1]}, data["test_images"], [reference], SETTINGS["paths"]
        )


def test_bad_real_data(reference, data):
    with pytest.raises(InputError, match="no images"):
        reference.image_scores(torch.rand(0, 8, 8))
    same = data["train_images"][:1].expand(20, 8, 8)
    with pytest.raises(InputError, match="the same features"):
        Reference(reference.oracle, same, same, same, SETTINGS)
    images = data["train_images"]
    with pytest.raises(InputError, match="no images"):
        Reference(reference.oracle, images, images[:0], images, SETTINGS)
    with pytest.raises(InputError, match="4 points cannot give 6 nearest"):
        Reference(reference.oracle, images[:4], images, images, SETTINGS)


def test_a_reference_of_many_images_takes_the_first_of_them(data, monkeypatch):
    monkeypatch.setattr("kahlervae.evaluate.reference.LARGEST", 60)
    oracle, (train, validation, test) = (
        Oracle("mlp", (8, 8), 10),
        (data[f"{split}_images"] for split in ("train", "validation", "test")),
    )
    many = Reference(oracle, train, validation, test, SETTINGS)
    few = Reference(oracle, train[:60], validation, test, SETTINGS)
    assert len(many.features) == 60 < len(train)
    assert many.image_scores(test) == few.image_scores(test)
