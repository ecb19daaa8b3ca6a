"""The scoring stage on small models: what the rows mean, files, bad input."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from kahlervae.config.registry import data_sources
from kahlervae.data import Form, Split, prepare
from kahlervae.errors import InputError
from kahlervae.evaluate import score
from kahlervae.evaluate.oracle import Oracle, save_oracle
from kahlervae.evaluate.outliers import ClassGaussians
from kahlervae.evaluate.reconstruction import reconstruction_scores
from kahlervae.evaluate.reference import Reference
from kahlervae.models import build_model, save_model
from kahlervae.storage import read_tensors, write_tensors
from kahlervae.trained import Trained

IDENTITY = {"dataset": "digits", "representation": "pixels", "variant": "complex", "seed": 3}
FORM = Form((8, 8))
VOLUME = "volume:base=prior,weight=global,metric=fitted,power=-4"
COUNTS = {"validation_count": 30, "count": 70}
FLAGGED = ["prior", "gmm:components=10,temperature=1", "volume"]
SETTINGS = {
    "neighbours": 5,
    "quantile": 0.95,
    "flagged": FLAGGED,
    "sampling": COUNTS,
    "paths": {"count": 7, "steps": 6},
}
SCORES = ["knn_outliers", "entropy_outliers", "mahalanobis_outliers", "energy_outliers"]
SCORES += ["density", "recall", "coverage", "vendi", "mean_distance", "class_entropy", "novelty"]


@pytest.fixture(scope="module")
def data():
    split = {"oracle": 100, "validation": 200, "test": 300, "seed": 0}
    return prepare("digits", data_sources({})["digits"], split)[0]


@pytest.fixture(scope="module")
def splits(data):
    names = ("train", "validation", "test")
    return {name: Split(data[f"{name}_samples"], data[f"{name}_labels"], FORM) for name in names}


@pytest.fixture(scope="module")
def reference(splits):
    torch.manual_seed(0)
    return Reference(Oracle("mlp", (8, 8), 10), splits, SETTINGS)


@pytest.fixture(params=["complex", "real"])
def model(request):
    torch.manual_seed(0)
    model = build_model(IDENTITY, Form((8, 8)), request.param, latent_dim=2, width=8, depth=2)
    return model.eval().requires_grad_(False)


@pytest.fixture
def latents():
    """As in a file: the draws of both splits."""
    random = torch.Generator().manual_seed(0)
    keys = ["prior:default", "truncated:temperature=0.5", VOLUME]
    return {key: torch.randn(100, 2, dtype=torch.complex64, generator=random) for key in keys}


@pytest.fixture
def samples(latents):
    return {
        "validation": {key: z[:30] for key, z in latents.items()},
        "test": {key: z[30:] for key, z in latents.items()},
    }


def scored(reference, images, split="test"):
    return reference.image_scores(reference.see(images), split)


def test_real_images_score_as_real(reference, data):
    scores = scored(reference, data["test_samples"], "validation")
    for name in SCORES[:4]:
        assert scores[name] == pytest.approx(0.05, abs=0.04), name
    assert scores["density"] == pytest.approx(1, abs=0.15)
    assert scores["mean_distance"] == pytest.approx(1, abs=0.05)
    assert scores["novelty"] == pytest.approx(1, abs=0.15)
    assert scores["recall"] > 0.9
    assert scores["coverage"] > 0.9


def test_noise_a_single_image_and_a_replay_do_not(reference, data):
    noise = scored(reference, torch.rand(200, 8, 8))
    assert noise["knn_outliers"] > 0.9
    assert noise["mahalanobis_outliers"] > 0.9
    assert noise["coverage"] < 0.1
    single = scored(reference, data["test_samples"][:1].expand(200, 8, 8))
    assert single["vendi"] == pytest.approx(1, abs=1e-3)
    assert single["recall"] == pytest.approx(0, abs=0.01)
    assert single["class_entropy"] == 0
    replay = scored(reference, data["train_samples"])
    assert replay["novelty"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_images_are_held_against_their_own_split(reference, data, split):
    """Against formulas on the features, with nothing of the class but what they are taken from."""
    images = torch.rand(60, 8, 8, generator=torch.Generator().manual_seed(1))
    images = 0.1 * images + 0.9 * data["oracle_samples"][:60]
    found = scored(reference, images, split)
    x, real, train = (
        reference.oracle.read(part).features.double()
        for part in (images, data[f"{split}_samples"], data["train_samples"])
    )

    def distances(a, b):
        return (a[:, None] - b[None]).norm(dim=2)

    own = distances(real, real).sort(1).values[:, 5]
    inside = distances(real, x) <= own[:, None]
    assert found["density"] == pytest.approx(inside.double().sum(0).mean().item() / 5)
    assert found["coverage"] == pytest.approx(inside.any(1).double().mean().item())
    radii = distances(x, x).sort(1).values[:, 5]
    reached = (distances(real, x) <= radii).any(1)
    assert found["recall"] == pytest.approx(reached.double().mean().item())
    nearest = [distances(part, train).amin(1).median().item() for part in (x, real)]
    assert found["novelty"] == pytest.approx(nearest[0] / nearest[1], rel=1e-5)
    n, m = len(x), len(real)
    spread = distances(x, x).sum() / (n * (n - 1)) / (distances(real, real).sum() / (m * (m - 1)))
    assert found["mean_distance"] == pytest.approx(spread.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["knn", "entropy", "mahalanobis", "energy"])
def test_thresholds_are_those_of_the_validation_images(reference, splits, data, name):
    """Exactly a twentieth of them lies beyond; test images move nothing but what is theirs."""
    held_out = reference.see(splits["validation"].samples)
    assert reference.flags(held_out)[name].double().mean() == pytest.approx(0.05, abs=1e-9)
    other = splits | {"test": Split(data["oracle_samples"], data["oracle_labels"], FORM)}
    assert Reference(reference.oracle, other, SETTINGS).limits == reference.limits


def test_the_gaussians_are_those_of_the_true_classes(reference, splits, data):
    turned = splits["train"]._replace(labels=splits["train"].labels.roll(1))
    shuffled = Reference(reference.oracle, splits | {"train": turned}, SETTINGS)
    images = data["test_samples"]
    own, other = (r.see(images).outlier_scores["mahalanobis"] for r in (reference, shuffled))
    expected = ClassGaussians(reference.features, splits["train"].labels)
    torch.testing.assert_close(own, expected.distance(reference.see(images).features))
    assert not torch.allclose(own, other)


def test_rows_of_samples(model, samples, reference):
    table = score.score_samples(model, samples, [reference, reference], FLAGGED).scores
    assert len(table) == 12
    where = ["dataset", "representation", "variant", "seed", "split", "oracle", "sampler"]
    assert table.columns.tolist() == [*where, "setting", *SCORES]
    assert table["split"].tolist() == ["validation"] * 6 + ["test"] * 6
    settings = ["default", "temperature=0.5", VOLUME.partition(":")[2]]
    assert table["setting"].unique().tolist() == settings
    assert table[SCORES].notna().all(axis=None)
    for row, split in ((0, "validation"), (6, "test")):
        images = model.decode(samples[split]["prior:default"])
        assert table.loc[row, SCORES].to_dict() == scored(reference, images, split)


def test_flagged_samples_and_the_agreement_of_scores(model, samples, reference, splits):
    torch.manual_seed(1)
    references = [reference, Reference(Oracle("cnn", (8, 8), 10), splits, SETTINGS)]
    _, agreement, flagged = score.score_samples(model, samples, references, FLAGGED)
    assert agreement.groupby(["sampler", "setting"]).size().tolist() == [16, 16]  # no gmm drawn
    assert agreement.columns.tolist() == [
        *IDENTITY, "sampler", "setting", "oracle", "score", "other_oracle", "other_score",
        "kappa", "spearman", "both",
    ]  # fmt: skip
    images = model.decode(samples["test"][VOLUME])
    flags = reference.flags(reference.see(images))
    both = flags["knn"] & flags["entropy"]
    of_volume = agreement.query("sampler == 'volume'").set_index(
        ["oracle", "score", "other_oracle", "other_score"]
    )
    assert of_volume["both"]["mlp", "knn", "mlp", "entropy"] == both.double().mean()
    other = references[1].flags(references[1].see(images))["energy"]
    row = of_volume.loc["mlp", "energy", "cnn", "energy"]
    assert row["both"] == (flags["energy"] & other).double().mean()
    assert flagged.keys() == {
        f"{what}/{group}/{key}"
        for what in ("images", "share")
        for group in ("knn", "entropy", "both", "neither")
        for key in ("prior:default", VOLUME)
    }
    shares = [tensor for name, tensor in flagged.items() if name.startswith("share/")]
    assert sum(shares) == pytest.approx(2)
    torch.testing.assert_close(flagged[f"images/both/{VOLUME}"], images[both][:16])


def test_rows_of_paths(model, samples, reference, data):
    images = data["test_samples"]
    samples = samples["test"]
    table = score.score_paths(model, samples, images, [reference], SETTINGS["paths"])
    assert table["endpoints"].tolist() == ["posterior", "prior"]
    roughness = ["acceleration", "speed_variation", "turning"]
    scores = [*roughness, *(f"feature_{name}" for name in roughness)]
    scores += ["path_length", "label_flips", "midpoint_outliers"]
    scores += ["midpoint_entropy_outliers", "midpoint_mahalanobis_outliers", "sharpness"]
    assert table.columns.tolist() == [*IDENTITY, "endpoints", "oracle", *scores]
    assert table[scores].notna().all(axis=None)
    again = score.score_paths(model, samples, images, [reference], SETTINGS["paths"])
    pd.testing.assert_frame_equal(table, again)


def test_a_linear_decoder_has_straight_paths(model, samples, reference, data, monkeypatch):
    ends = data["test_samples"][:2]
    for parameter in model.encoder.parameters():
        parameter.mul_(3)  # far ends: rounding is none of the acceleration

    def decode(z):
        return ends[0] + 0.1 * z.real[:, :1, None] * (ends[1] - ends[0])

    monkeypatch.setattr(model, "decode", decode)
    table = score.score_paths(
        model, samples["test"], data["test_samples"], [reference], SETTINGS["paths"]
    )
    assert table["acceleration"].max() < 1e-2  # float32 images


def test_midpoints_are_judged_like_any_images(reference, data):
    paths = data["test_samples"][:90].unflatten(0, (30, 3))
    scores = reference.path_scores(paths)
    midpoints = scored(reference, paths[:, 1])
    assert scores["midpoint_outliers"] == midpoints["knn_outliers"]
    assert scores["midpoint_entropy_outliers"] == midpoints["entropy_outliers"]
    assert scores["midpoint_mahalanobis_outliers"] == midpoints["mahalanobis_outliers"]


def test_reconstruction(model, data):
    images = data["test_samples"][:50]
    scores = reconstruction_scores(model, images, torch.Generator().manual_seed(0))
    assert scores["elbo"] == pytest.approx(scores["log_likelihood"] - scores["kl"])
    posterior = model.encode(images)
    decoded = model.decode(posterior.mean)
    error = sum(((decoded[i] - images[i]) ** 2).mean().item() for i in range(50)) / 50
    assert scores["mse"] == pytest.approx(error, rel=1e-5)
    assert scores["sigma"] == pytest.approx(math.exp(-1))  # log σ² starts at −2
    random = torch.Generator().manual_seed(1)
    draws = torch.stack([posterior.sample(random) for _ in range(2000)])
    assert scores["latent_norm"] == pytest.approx(draws.abs().square().mean().item(), rel=0.02)
    real = sum(p.numel() for p in model.parameters() if not p.is_complex())
    imaginary = sum(p.numel() for p in model.parameters() if p.is_complex())
    assert scores["parameters"] == real + 2 * imaginary


def test_collapsed_latents_are_not_active(model, data, monkeypatch):
    images = data["test_samples"][:50]
    means = model.encode(images).mean
    spread = torch.tensor([1.0] * (means.shape[1] - 1) + [1e-3])
    phases = torch.exp(2j * math.pi * torch.arange(50) / 50)[:, None]
    told = SimpleNamespace(mean=spread * phases, variance=torch.ones_like(means.real))
    monkeypatch.setattr(model, "encode", lambda samples: told)
    scores = reconstruction_scores(model, images, torch.Generator().manual_seed(0))
    assert scores["active_latents"] == pytest.approx(1 - 1 / len(spread))


def test_stage(tmp_path, data, model, latents):
    write_tensors(tmp_path / "data.safetensors", data)
    save_model(tmp_path / "model.safetensors", model)
    write_tensors(tmp_path / "samples.safetensors", latents, model.identity)
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
    files = [tmp_path / f"{name}.safetensors" for name in ("data", "model", "samples")]
    trained = Trained(files[1], files[0])
    score.score_model(
        files[0],
        trained.vae,
        trained.samples("test"),
        files[2],
        oracles,
        SETTINGS,
        tmp_path / "samples.csv",
        tmp_path / "score_agreement.csv",
        tmp_path / "sheet.safetensors",
        tmp_path / "flagged.safetensors",
        tmp_path / "paths.csv",
        tmp_path / "reconstruction.csv",
        tmp_path / "gallery.safetensors",
    )
    reference = pd.read_csv(tmp_path / "reference.csv").iloc[0]
    assert (reference["dataset"], reference["oracle"]) == ("digits", "mlp")
    assert reference["novelty"] == pytest.approx(1, abs=0.2)
    table = pd.read_csv(tmp_path / "samples.csv")
    assert len(table) == 12
    assert set(table["oracle"]) == {"mlp", "cnn"}
    assert len(pd.read_csv(tmp_path / "score_agreement.csv")) == 2 * 16
    assert len(pd.read_csv(tmp_path / "paths.csv")) == 4
    assert pd.read_csv(tmp_path / "reconstruction.csv")["seed"].tolist() == [3]
    sheet, _ = read_tensors(tmp_path / "sheet.safetensors")
    assert {key: tuple(images.shape) for key, images in sheet.items()} == dict.fromkeys(
        latents, (64, 8, 8)
    )
    first = model.decode(latents["prior:default"][30:94])
    torch.testing.assert_close(sheet["prior:default"], first)
    _, identity = read_tensors(tmp_path / "flagged.safetensors")
    assert identity["variant"] == "complex"
    gallery, _ = read_tensors(tmp_path / "gallery.safetensors")
    assert gallery["reconstructions"].shape == gallery["originals"].shape == (16, 8, 8)
    assert gallery["paths"].shape == (6, 11, 8, 8)
    torch.testing.assert_close(gallery["paths"][:, 0], gallery["reconstructions"][0:12:2])


def test_files_hold_validation_draws_first(tmp_path, model, latents, samples):
    path = tmp_path / "samples.safetensors"
    write_tensors(path, latents, model.identity)
    loaded = score.load_samples(path, model, COUNTS)
    assert loaded.keys() == samples.keys()
    for split, expected in samples.items():
        assert loaded[split].keys() == expected.keys()
        assert all(torch.equal(z, expected[key]) for key, z in loaded[split].items())
    with pytest.raises(InputError, match=r"of \(100, 2\), not as .* of \(101, 2\)"):
        score.load_samples(path, model, COUNTS | {"count": 71})
    write_tensors(path, latents, model.identity | {"seed": 7})
    with pytest.raises(
        InputError, match=r"holds samples of the model digits/pixels/complex/7, not"
    ):
        score.load_samples(path, model, COUNTS)


def test_bad_latents(model, samples, reference, data):
    z = samples["test"]["prior:default"]

    def judge(z):
        score.score_samples(model, {"test": {"prior:default": z}}, [reference], FLAGGED)

    with pytest.raises(InputError, match="70 of 70 images contain NaN"):
        judge(z * torch.nan)
    with pytest.raises(InputError, match="nearest neighbours"):
        judge(z[:5])
    with pytest.raises(InputError, match=r"no samples are named like gmm, riemannian: .*truncated"):
        score.score_samples(model, samples, [reference], ["gmm", "riemannian"])
    with pytest.raises(InputError, match="two endpoints"):
        score.score_paths(
            model, {"prior:default": z[:1]}, data["test_samples"], [reference], SETTINGS["paths"]
        )


def test_bad_real_data(reference, splits):
    def build(**parts):
        changed = {
            name: Split(*(tensor[part] for tensor in splits[name][:2]), FORM)
            for name, part in parts.items()
        }
        return Reference(reference.oracle, splits | changed, SETTINGS)

    with pytest.raises(InputError, match="no images"):
        reference.see(torch.rand(0, 8, 8))
    same = dict.fromkeys(splits, torch.zeros(20, dtype=torch.int64))
    with pytest.raises(InputError, match="the same features"):
        build(**same)
    with pytest.raises(InputError, match="no images"):
        build(validation=slice(0))
    with pytest.raises(InputError, match="4 points cannot give 5 nearest"):
        build(train=slice(4))
    with pytest.raises(InputError, match="4 points cannot give 5 nearest"):
        build(test=slice(4))


def test_a_reference_of_many_images_takes_the_first_of_them(splits, monkeypatch):
    monkeypatch.setattr("kahlervae.evaluate.reference.LARGEST", 60)
    oracle = Oracle("mlp", (8, 8), 10)
    first = {
        name: Split(*(tensor[:60] for tensor in split[:2]), FORM) for name, split in splits.items()
    }
    many, few = (Reference(oracle, held, SETTINGS) for held in (splits, first))
    assert len(many.features) == len(many.held_out["test"].features) == 60
    assert scored(many, splits["test"].samples) == scored(few, splits["test"].samples)
