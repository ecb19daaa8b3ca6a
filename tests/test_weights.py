"""The exploration of weights: its formulas, its draws and, on a tiny model, all of it."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from kahlervae.data import Form, prepare
from kahlervae.data.datasets import Split
from kahlervae.evaluate.oracle import save_oracle, train_oracle
from kahlervae.geometry import log_det, mixed_hessian
from kahlervae.models import build_model, save_model
from kahlervae.sample import Pool
from kahlervae.sample.mixtures import coordinates
from kahlervae.storage import write_tensors
from kahlervae.train.potentials import fit_potentials, save_potentials

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def weights(comparison):
    return comparison("weights")


def fubini_study(random, components, d):
    """Weights, centres and Hermitian positive definite precisions, and points."""
    weights = torch.rand(components, generator=random, dtype=torch.float64).softmax(0)
    centres, z = torch.randn(2, components, d, generator=random, dtype=torch.complex128)
    factor = torch.randn(components, d, d, generator=random, dtype=torch.complex128)
    return weights, centres, factor @ factor.mH + 0.1 * torch.eye(d), z


@pytest.mark.parametrize(("components", "d"), [(1, 1), (1, 3), (4, 2), (5, 4)])
def test_fubini_study_metric_is_the_hessian_of_its_potential(weights, random, components, d):
    shares, centres, precisions, z = fubini_study(random, components, d)

    def potential(z):
        u = z[:, None] - centres
        # Re² + Im² of a factor of P, which has a second derivative everywhere.
        white = torch.einsum("kij,nki->nkj", torch.linalg.cholesky(precisions).conj(), u)
        q = white.real.square() + white.imag.square()
        return (1 + q.sum(-1)).log() @ shares

    metric = weights.fubini_study_metric(z, shares, centres, precisions)
    torch.testing.assert_close(metric, mixed_hessian(potential, z), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(metric, metric.mH)
    assert (torch.linalg.eigvalsh(metric) > 0).all()


def test_determinant_of_one_fubini_study_component(weights, random):
    """det g = det P / (1 + q)^(d + 1): the tails are those of a polynomial."""
    d = 3
    _, centres, precisions, _ = fubini_study(random, 1, d)
    z = centres + 3 * torch.randn(20, d, generator=random, dtype=torch.complex128)
    u = z - centres
    q = torch.einsum("ni,ij,nj->n", u.conj(), precisions[0], u).real
    found = log_det(weights.fubini_study_metric(z, torch.ones(1).double(), centres, precisions))
    torch.testing.assert_close(found, log_det(precisions[0]) - (d + 1) * torch.log1p(q))


def test_complex_covariance_is_that_of_complex_vectors(weights, random):
    z = torch.randn(3, 50, 4, generator=random, dtype=torch.complex128)
    z = z @ torch.randn(4, 4, generator=random, dtype=torch.complex128)
    x = coordinates(z)
    found = weights.complex_covariance(x.mT @ x / 50)
    torch.testing.assert_close(found, z.mT @ z.conj() / 50)


def pool(weights, random, x, responsibilities):
    """A pool whose features are all zero, but for sharpness."""
    features = torch.zeros(len(x), len(weights.SIGNS), dtype=torch.float64)
    features[:, list(weights.SIGNS).index("sharpness")] = x
    latents = x.to(torch.complex64)[:, None]
    noise = Pool.draw(len(x), random)
    return weights.Candidates(latents, features, responsibilities, noise)


def test_no_weight_takes_its_share_from_a_component(weights, random):
    """Components at ±1 keep their shares."""
    n = 20_000
    centre = torch.where(torch.rand(n, generator=random) < 0.2, 1.0, -1.0).double()
    x = centre + 0.2 * torch.randn(n, generator=random, dtype=torch.float64)
    one = torch.stack([centre > 0, centre < 0], dim=1).double()
    w = pool(weights, random, x, one).log_weight({"sharpness": 2.0}).softmax(0)
    torch.testing.assert_close(w @ one, one.mean(0))


def test_a_forecast_knows_what_will_be_flagged_and_what_is_near(weights, random):
    values = torch.randn(4000, len(weights.SIGNS), generator=random, dtype=torch.float64)
    names = list(weights.SIGNS)
    density, ambiguity = (values[:, names.index(name)] for name in ("density", "ambiguity"))
    shares, distances = torch.sigmoid(2 * ambiguity - 1), -density
    forecast = weights.Forecast(("density", "ambiguity"), values, shares, distances)
    outliers, novelty = forecast(values).unbind(1)
    assert torch.corrcoef(torch.stack([outliers, -shares]))[0, 1] > 0.98
    near = novelty < 0
    assert torch.corrcoef(torch.stack([novelty, distances])[:, near])[0, 1] > 0.95
    assert novelty.max() == 0
    assert distances[~near].mean() > 0.5
    blind = weights.Forecast(("sharpness",), values, shares, distances)(values)
    assert torch.corrcoef(torch.stack([blind[:, 0], -shares]))[0, 1].abs() < 0.4


def test_settings_survive_their_names(weights):
    for coefficients in ({}, {"log_det": -0.5}, {"density": 0.25, "sharpness": -1e-5}):
        assert weights.parse_setting(weights.format_setting(coefficients)) == coefficients


def scores(weights, held):
    """A table with the control at three temperatures, in equal steps, and a weight."""
    rows = []
    for seed in (0, 1):
        for base, weight, setting, x in [
            *(("gmm", "temperature", f"components=10,temperature={t:g}", t) for t in (0.5, 1, 1.5)),
            held,
        ]:
            row = dict.fromkeys(weights.SCORES, x / 10) | dict.fromkeys(weights.VARIATIONS, x / 2)
            row |= {"seed": seed, "oracle": "cnn", "base": base, "weight": weight}
            rows.append(row | {"setting": setting, "ess": 100.0})
    return pd.DataFrame(rows)


def test_differences_to_the_control(weights):
    table = scores(weights, ("gmm", "density", "density=1", 0.75))
    held = table["weight"] == "density"
    table.loc[held, "recall"], table.loc[held, "knn_outliers"] = 0.6, 0.05
    raw = weights.differences(table)
    assert len(raw) == 2
    assert raw["recall"].tolist() == pytest.approx([0.1, 0.1])
    assert raw["knn_outliers"].tolist() == pytest.approx([-0.05, -0.05])
    # The control has a recall of 0.6 at temperature 1.2, hence 0.12 outliers there.
    equal = weights.differences(table, "recall")
    assert equal["knn_outliers"].tolist() == pytest.approx([-0.07, -0.07])
    assert equal["novelty"].tolist() == pytest.approx([0.375 - 0.6] * 2)
    table.loc[held, "recall"] = 0.9
    assert weights.differences(table, "recall")["knn_outliers"].isna().all()


def test_a_win_is_fewer_outliers_and_no_less_variation(weights):
    claims = {"confidence": 0.95, "resamples": 99, "seed": 0}
    table = scores(weights, ("gmm", "density", "density=1", 0.75))
    held = table["weight"] == "density"
    table.loc[held, weights.VARIATIONS] = 0.5

    def wins():
        compared = weights.compare(table, claims)
        plain = compared[compared["control"] == "temperature=1"]
        assert len(plain) == len(weights.MEASURES)
        return plain["wins"].all(), plain["wins_but_novelty"].all()

    assert wins() == (True, True)
    table.loc[held, "novelty"] = 0.4
    assert wins() == (False, True)
    table.loc[held, "energy_outliers"] = 0.1
    assert wins() == (False, False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What a workflow leaves of two untrained models, in a folder, and its configuration."""
    folder = tmp_path_factory.mktemp("run")
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    tensors, *_ = prepare(
        "digits",
        {"kind": "bundled", "classes": 10, "citation": "", "licence": ""},
        config["datasets"]["digits"]["split"],
    )
    write_tensors(folder / "digits/data.safetensors", tensors)
    splits = {
        name: Split(tensors[f"{name}_samples"], tensors[f"{name}_labels"], Form((8, 8)))
        for name in ("oracle", "train", "test")
    }
    for architecture in ("cnn", "mlp"):
        oracle = train_oracle(
            architecture,
            splits["oracle"].views,
            splits["oracle"].labels,
            splits["test"].views,
            splits["test"].labels,
            {"epochs": 1, "noise": 0.1, "minimum_accuracy": 0.0, "seed": 0},
        )
        save_oracle(folder / f"digits/oracles/{architecture}.safetensors", oracle)
    fit = {"kind": "mixture", "size": {"groups": 2, "components": 4}, "steps": 5}
    fit |= {"learning_rate": 0.1, "batch": 16}
    potential = {"probes": 64, "anchors": 8, "candidates": {"one": fit}, "trial": 1.0, "polish": 0}
    for seed in (0, 1):
        identity = {"dataset": "digits", "representation": "pixels", "variant": "complex"}
        torch.manual_seed(seed)
        vae = build_model(identity | {"seed": seed}, Form((8, 8)), "complex", 2, 8, 1)
        at = folder / f"digits/pixels/complex/seed={seed}"
        save_model(at / "model.safetensors", vae)
        potentials = fit_potentials(vae.requires_grad_(False), splits["train"].samples, potential)
        save_potentials(at / "potential.safetensors", potentials.potentials, vae.identity)
    config["seeds"] = [0, 1]
    config["sampling"] |= {"validation_count": 30, "count": 60}
    config["claims"]["resamples"] = 99
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "overlay.yaml").write_text("{}")
    return folder


def test_the_exploration_of_a_run(weights, run, tmp_path):
    config = (run / "config.yaml", run / "overlay.yaml")
    before = sorted(run.rglob("*"))
    for name in ("first", "again"):
        weights.main(run, config, ["digits"], ["complex"], tmp_path / name)
    assert sorted(run.rglob("*")) == before
    for file in ("search.csv", "weights.csv"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()

    search = pd.read_csv(tmp_path / "first/search.csv")
    grid = 1 + (len(weights.WEIGHTS) - 1) * len(weights.STRENGTHS)
    both = len(weights.OUTLIERS) * len(weights.NOVELTY)
    assert len(search) == 3 * (grid + len(weights.LEARNED) * both)
    assert search["smallest_ess"].between(1, 30 * weights.POOL + 1e-6).all()
    chosen = search[search["chosen"]]
    assert chosen["weight"].is_unique
    assert chosen["eligible"].all()

    table = pd.read_csv(tmp_path / "first/weights.csv")
    reported = search[search["chosen"] | search["safest"] | (search["weight"] == "none")]
    settings = table[["base", "weight", "setting"]].drop_duplicates()
    assert len(settings) == len(reported)
    assert set(table["control"]) == {"temperature=1", "equal recall", "equal novelty"}
    finite = table.dropna(subset="difference")
    assert len(finite)
    assert (finite["ci_low"] <= finite["difference"] + 1e-12).all()
    assert (finite["difference"] <= finite["ci_high"] + 1e-12).all()
    assert np.isfinite(table["value"]).all()


def test_a_run_without_potentials_is_refused_in_a_sentence(weights, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/digits/pixels/complex/seed=1/potential.safetensors").unlink()
    config = (run / "config.yaml", run / "overlay.yaml")
    with pytest.raises(weights.InputError, match=r"seed=1/potential.safetensors does not exist"):
        weights.main(tmp_path / "run", config, ["digits"], ["complex"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_weight_is_not_judged_by_the_oracle_that_it_was_learned_from(weights, run, tmp_path):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["evaluation"]["oracles"] = ["mlp"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    files = (tmp_path / "config.yaml", run / "overlay.yaml")
    with pytest.raises(weights.InputError, match="names one only: name two"):
        weights.main(run, files, ["digits"], ["complex"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
