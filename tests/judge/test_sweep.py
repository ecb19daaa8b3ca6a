"""Strengths are chosen by the rule, and by validation data alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kahlervae.data import Form
from kahlervae.errors import InputError
from kahlervae.evaluate.oracle import Oracle, save_oracle
from kahlervae.judge.sweep import GOALS, choose, match_beta, score_setting
from kahlervae.models import build_model, save_model
from kahlervae.storage import write_tensors

IDENTITY = {"dataset": "d", "representation": "pixels", "variant": "kahler", "seed": 9}


def row(variant: str, mse: float, goals: tuple[float, ...] = (1, 1, 1, 1), **strengths):
    blank = dict.fromkeys(("beta", "form", "strength", "tie"))
    scores = dict(zip(GOALS, goals, strict=True))
    # Two oracles that disagree by a constant: means decide.
    return [
        IDENTITY | {"variant": variant} | blank | strengths
        | {"oracle": oracle, "mse": mse} | {key: value + shift for key, value in scores.items()}
        for oracle, shift in (("a", -0.1), ("b", 0.1))
    ]  # fmt: skip


def sweep(*rows):
    return pd.DataFrame([part for point in rows for part in point])


SETTINGS = (
    row("complex", 0.010, beta=1.0),
    row("beta", 0.011, beta=2.0),
    row("beta", 0.020, beta=8.0),
    row("kahler", 0.012, (3.0, 0.2, 0.4, 0.3), beta=2.0, form="volume", strength=1.0, tie=1.0),
    row("kahler", 0.0125, (2.0, 0.1, 0.4, 0.2), beta=2.0, form="volume", strength=2.0, tie=1.0),
    row("kahler", 0.030, (1.0, 0.0, 0.3, 0.0), beta=2.0, form="volume", strength=9.0, tie=1.0),
)


def test_the_best_setting_within_the_limit_is_chosen():
    table = choose(sweep(*SETTINGS), 1.3)
    kahler = table[table["variant"] == "kahler"]
    assert kahler.loc[kahler["chosen"], "strength"].tolist() == [2.0]
    # Without the limit the strongest wins on every goal.
    table = choose(sweep(*SETTINGS), 10.0)
    kahler = table[table["variant"] == "kahler"]
    assert kahler.loc[kahler["chosen"], "strength"].tolist() == [9.0]


def test_beta_is_read_off_at_the_error_of_the_choice():
    table = choose(sweep(*SETTINGS), 1.3)
    (beta,) = table.loc[table["variant"] == "beta", "beta"]
    share = np.log(0.0125 / 0.011) / np.log(0.020 / 0.011)
    assert beta == pytest.approx(2.0 * 4.0**share, rel=0.02)


def test_the_control_of_a_decoder_by_construction_is_matched_to_it():
    rows = (
        row("pluriharmonic", 0.008, beta=1.0),
        row("unconstrained_beta", 0.004, beta=0.5),
        row("unconstrained_beta", 0.016, beta=2.0),
    )
    table = choose(sweep(*SETTINGS, *rows), 1.3)
    (control,) = table[table["variant"] == "unconstrained_beta"].to_dict("records")
    assert control["beta"] == 1.0
    assert control["chosen"]
    assert control["mse_ratio"] == pytest.approx(0.8)
    assert "pluriharmonic" not in set(table["variant"])
    pd.testing.assert_frame_equal(table.iloc[:4], choose(sweep(*SETTINGS), 1.3))


@pytest.mark.parametrize(("error", "beta"), [(0.010, 2.0), (0.02, 4.0), (0.08, 8.0), (1.0, 8.0)])
def test_matching_beta_is_log_linear_and_never_extrapolates(error, beta):
    # Between (2, 0.01) and (8, 0.04) β is proportional to the error.
    assert match_beta(np.array([2.0, 8.0]), np.array([0.01, 0.04]), error) == beta


def test_what_cannot_be_chosen_is_said():
    with pytest.raises(InputError, match=r"at most 1.01 times the MSE of complex; the least has"):
        choose(sweep(*SETTINGS), 1.01)
    with pytest.raises(InputError, match="lacks `complex`"):
        choose(sweep(*SETTINGS[1:]), 1.3)


def test_test_images_are_never_read(tmp_path: Path):
    """Scores do not change when the test images do."""
    stream = torch.Generator().manual_seed(0)
    splits = ("oracle", "train", "validation", "test")
    tensors = {}
    for split in splits:
        tensors[f"{split}_samples"] = torch.rand(40, 8, 8, generator=stream)
        tensors[f"{split}_labels"] = torch.arange(40) % 10
    save_oracle(tmp_path / "mlp.safetensors", Oracle("mlp", (8, 8), 10, 1.0))
    sizes = {"latent_dim": 2, "width": 8, "depth": 1}
    model = build_model(IDENTITY | {"variant": "beta"}, Form((8, 8)), "complex", **sizes)
    save_model(tmp_path / "model.safetensors", model)
    settings = {
        "variant": {"beta": 3.0},
        "count": 30,
        "neighbours": 3,
        "quantile": 0.9,
        "paths": {"count": 4, "steps": 4},
    }
    tables = []
    for _ in range(2):
        write_tensors(tmp_path / "data.safetensors", tensors)
        where = (tmp_path / "data.safetensors", [tmp_path / "mlp.safetensors"])
        tables.append(score_setting(*where, tmp_path / "model.safetensors", settings))
        tensors["test_samples"] = torch.rand(40, 8, 8, generator=stream)
    assert tables[0]["beta"].tolist() == [3.0]
    assert set(GOALS) < set(tables[0].columns)
    pd.testing.assert_frame_equal(*tables)
