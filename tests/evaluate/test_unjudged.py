"""Without labels there is no oracle: what needs one is empty and said so, the rest is there."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kahlervae.data import Form
from kahlervae.evaluate import UNJUDGED, score
from kahlervae.evaluate.reference import IMAGE_SCORES, PATH_SCORES, Unjudged
from kahlervae.evaluate.smoothness import relative_acceleration, total_variation
from kahlervae.judge.claims import LEFT_OUT, judge
from kahlervae.judge.entries import read_claims
from kahlervae.judge.pareto import make_pareto
from kahlervae.models import build_model
from kahlervae.storage import read_table, write_table

CLAIMS = Path(__file__).parents[2] / "workflow/claims.yaml"
SEEDS = range(5)
PATHS = {"count": 6, "steps": 4}
FORM = Form((9,), is_complex=True, bounded=False)
WAVES = torch.randn(24, 9, generator=torch.Generator().manual_seed(0), dtype=torch.complex64)


@pytest.fixture(scope="module")
def tables():
    """What scoring gives of complex waves without labels, for two variants and five seeds."""
    parts = {name: [] for name in ("samples", "paths", "reconstruction")}
    for variant in ("complex", "kahler"):
        for seed in SEEDS:
            torch.manual_seed(seed)
            identity = {"dataset": "waves", "representation": "native"}
            identity |= {"variant": variant, "seed": seed}
            model = build_model(identity, FORM, "complex", 2, 8, 1).eval().requires_grad_(False)
            keys = ("prior:default", "volume:base=prior,weight=global,metric=fitted,power=-2")
            z = torch.randn(2, 20, 2, dtype=torch.complex64)
            samples = {name: dict(zip(keys, z, strict=True)) for name in ("validation", "test")}
            scored = score.score_samples(model, samples, [Unjudged()], ["prior"])
            assert scored.flagged == {}
            assert list(scored.agreement.columns) == [*identity, *score.AGREEMENT]
            parts["samples"].append(scored.scores)
            paths = score.score_paths(model, samples["test"], WAVES, [Unjudged()], PATHS)
            parts["paths"].append(paths)
            scores = score.reconstruction_scores(model, WAVES, torch.Generator())
            parts["reconstruction"].append(pd.DataFrame([identity | scores]))
    return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}


def test_what_is_known_without_an_oracle_is_there(tables):
    assert (tables["samples"]["oracle"] == UNJUDGED).all()
    assert tables["samples"][IMAGE_SCORES].isna().all(axis=None)
    assert tables["paths"][PATH_SCORES].isna().all(axis=None)
    assert (tables["paths"][["acceleration", "sharpness"]] > 0).all(axis=None)
    assert np.isfinite(tables["reconstruction"][["elbo", "mse", "latent_norm"]]).all(axis=None)


def test_the_error_of_complex_values_is_that_of_both_parts(tables):
    torch.manual_seed(0)
    identity = {"dataset": "waves", "representation": "native", "variant": "complex", "seed": 0}
    model = build_model(identity, FORM, "complex", 2, 8, 1)
    found = score.reconstruction_scores(model, WAVES, torch.Generator())["mse"]
    with torch.no_grad():
        error = model.decode(model.encode(WAVES).mean) - WAVES
    assert found == pytest.approx(error.abs().square().mean().item(), rel=1e-5)


def test_claims_that_need_an_oracle_are_left_out_in_words(tables, tmp_path):
    write_table(tmp_path / "samples.csv", tables["samples"])
    chains = ["dataset", "representation", "variant", "seed", "sampler", "setting", "flagged"]
    write_table(tmp_path / "chains.csv", pd.DataFrame(columns=chains))
    out = [tmp_path / f"{name}.csv" for name in ("pareto", "hypervolume", "chosen")]
    choice = {"score": "knn_outliers", "variations": ["recall"], "controls": ["gmm", "truncated"]}
    make_pareto(tmp_path / "samples.csv", tmp_path / "chains.csv", choice, *out)
    frames = tables | {path.stem: read_table(path) for path in out if path.stem != "hypervolume"}
    run = ["dataset", "representation", "variant"]
    frames["agreement"] = pd.DataFrame(
        columns=[*run, "probe_set", "potential", "seed", "relative_error_median", "logdet_spearman"]
    )
    frames["identities"] = pd.DataFrame(columns=[*run, "identity_name", "value", "tolerance"])
    settings = {"confidence": 0.95, "resamples": 99, "seed": 0, "minimum_seeds": 5}
    claims = judge(frames, read_claims(CLAIMS), settings)
    left = claims["verdict"] == LEFT_OUT
    assert claims.loc[left, "rule"].str.contains("the samples have no labels").all()
    assert claims.loc[left, "estimate"].isna().all()
    assert (claims.loc[left, "adjusted"] == LEFT_OUT).all()
    about = set(claims.loc[left, "metric"])
    assert {"knn_outliers", "entropy_outliers", "recall", "vendi", "midpoint_outliers"} <= about
    judged = claims[~left]
    assert set(judged["metric"]) == {
        *("acceleration", "speed_variation", "turning", "sharpness", "elbo", "nll", "mse"),
        *("active_latents", "smallest share of active latents"),
    }
    assert judged["estimate"].notna().all()
    assert not claims["statement"].str.contains("images").any()


def test_smoothness_is_that_of_real_and_imaginary_parts():
    paths = torch.randn(3, 5, 4, dtype=torch.complex64)
    apart = torch.view_as_real(paths)
    torch.testing.assert_close(relative_acceleration(paths), relative_acceleration(apart))
    turned = relative_acceleration(paths * torch.exp(torch.tensor(0.7j)))
    torch.testing.assert_close(turned, relative_acceleration(paths))


def test_variation_runs_along_all_axes_but_channels():
    steps = torch.zeros(1, 4, 5, 3)
    steps[:, 2:] = 1.0
    assert total_variation(steps) == 5 * 3
    assert total_variation(steps[..., 0]) == 5
    assert total_variation(steps[:, :, 0, 0]) == 1
    assert total_variation(3j * steps[:, :, 0, 0]) == 3
