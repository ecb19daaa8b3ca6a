"""Settings are chosen by the rules, and by validation data alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kahlervae.data import Form
from kahlervae.errors import InputError
from kahlervae.evaluate.oracle import Oracle, save_oracle
from kahlervae.judge.sweep import SCORES, choose, make_choice, match_beta, score_setting
from kahlervae.models import build_model, save_model
from kahlervae.storage import write_table, write_tensors

IDENTITY = {"dataset": "d", "representation": "pixels", "variant": "kahler", "seed": 9}
RULES = {
    "mixture": {"most": "elbo"},
    "kahler": {"least": "speed_variation", "against": "mixture", "margin": 1.0},
    "constant": {"least": "speed_variation", "against": "mixture", "margin": 1.0},
    "beta": {"match": "kahler"},
    "unconstrained_beta": {"match": "pluriharmonic"},
}


def row(variant: str, setting: str, **scores):
    # Two oracles that disagree by a constant: means decide.
    return [
        IDENTITY | {"variant": variant, "setting": setting, "oracle": oracle}
        | {key: scores.get(key, 0.0) + shift for key in SCORES}
        for oracle, shift in (("a", -0.001), ("b", 0.001))
    ]  # fmt: skip


def sweep(*rows):
    return pd.DataFrame([part for point in rows for part in point])


SETTINGS = (
    row("mixture", "default", elbo=100, mse=0.010, speed_variation=0.2),
    row("kahler", "strength=1", elbo=100.5, mse=0.012, speed_variation=0.15),
    row("kahler", "strength=3", elbo=99.2, mse=0.0125, speed_variation=0.1),
    row("kahler", "strength=9", elbo=98.8, mse=0.030, speed_variation=0.05),
    row("beta", "beta=8.0", mse=0.020),
    row("beta", "beta=2.0", mse=0.011),
)


def chosen(table):
    return table[table["chosen"]].set_index("variant")["setting"].to_dict()


def test_the_best_setting_within_the_margin_is_chosen():
    table = choose(sweep(*SETTINGS), RULES)
    assert list(table["variant"]) == ["mixture", "kahler", "kahler", "kahler", "beta"]
    assert chosen(table)["kahler"] == "strength=3"
    # With a wider one the strongest wins.
    wider = RULES | {"kahler": RULES["kahler"] | {"margin": 2.0}}
    assert chosen(choose(sweep(*SETTINGS), wider))["kahler"] == "strength=9"


def test_the_latent_dimension_is_that_of_the_largest_bound():
    wide = row("mixture", "latent_dim=8", elbo=103)
    table = choose(sweep(*SETTINGS, wide), RULES)
    assert chosen(table)["mixture"] == "latent_dim=8"
    # Others are held against the variant as it is.
    assert chosen(table)["kahler"] == "strength=3"


def test_beta_is_read_off_at_the_error_of_the_choice():
    table = choose(sweep(*SETTINGS), RULES)
    (control,) = table[table["variant"] == "beta"].to_dict("records")
    share = np.log(0.0125 / 0.011) / np.log(0.020 / 0.011)
    assert control["setting"] == f"beta={2.0 * 4.0**share:.2g}"
    assert control["mse"] == pytest.approx(0.0125)
    assert np.isnan(control["elbo"])


def test_the_control_of_what_is_not_swept_is_matched_to_it_as_it_is():
    rows = (
        row("pluriharmonic", "default", mse=0.008),
        row("unconstrained_beta", "beta=0.5", mse=0.004),
        row("unconstrained_beta", "beta=2", mse=0.016),
    )
    table = choose(sweep(*SETTINGS, *rows), RULES)
    assert chosen(table)["unconstrained_beta"] == "beta=1"
    assert "pluriharmonic" not in set(table["variant"])


@pytest.mark.parametrize(("error", "beta"), [(0.010, 2.0), (0.02, 4.0), (0.08, 8.0), (1.0, 8.0)])
def test_matching_beta_is_log_linear_and_never_extrapolates(error, beta):
    # Between (2, 0.01) and (8, 0.04) β is proportional to the error.
    assert match_beta(np.array([2.0, 8.0]), np.array([0.01, 0.04]), error) == beta


@pytest.mark.parametrize(
    ("errors", "error"),
    [((0.02, 0.01), 0.015), ((0.01, 0.01), 0.01), ((0.01, np.nan), 0.01), ((0.01, 0.02), np.nan)],
)
def test_beta_is_read_off_rising_errors_alone(errors, error):
    with pytest.raises(InputError, match=r"MSEs must rise with β for .* and are 0\.0"):
        match_beta(np.array([2.0, 8.0]), np.array(errors), error)
    rows = (row("beta", "beta=2.0", mse=0.02), row("beta", "beta=8.0", mse=0.01))
    with pytest.raises(InputError, match="the sweep of beta on d: MSEs must rise with β"):
        choose(sweep(*SETTINGS[:4], *rows), RULES)


@pytest.mark.parametrize(
    ("failed", "rule", "setting"),
    [
        ({"elbo": np.nan, "speed_variation": 0.0}, {"least": "speed_variation"}, "strength=9"),
        ({"elbo": 200, "speed_variation": np.nan}, RULES["kahler"], "strength=3"),
        ({"elbo": np.inf}, {"most": "elbo"}, "strength=1"),
    ],
)
def test_settings_whose_training_failed_do_not_count(failed, rule, setting):
    table = choose(
        sweep(*SETTINGS, row("kahler", "strength=99", **failed)), RULES | {"kahler": rule}
    )
    assert chosen(table)["kahler"] == setting
    assert len(table[table["variant"] == "kahler"]) == 4


@pytest.mark.parametrize("lost", ["value", "row"])
def test_settings_that_an_oracle_did_not_score_do_not_count(lost):
    """Least by the oracle that is left, they would win."""
    table = sweep(*SETTINGS, row("kahler", "strength=99", elbo=100, speed_variation=0.01))
    one = (table["setting"] == "strength=99") & (table["oracle"] == "b")
    if lost == "row":
        table = table[~one]
    else:
        table.loc[one, "speed_variation"] = np.nan
    assert chosen(choose(table, RULES))["kahler"] == "strength=3"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"kahler": {"elbo": np.nan}}, "no setting of kahler with elbo and speed_variation"),
        ({"mixture": {"elbo": np.nan}}, "no setting of mixture with elbo: change its settings"),
        ({"beta": {"mse": np.nan}}, "no setting of beta with mse"),
    ],
)
def test_variants_of_which_every_training_failed_are_named(rows, said):
    table = sweep(*SETTINGS)
    for variant, scores in rows.items():
        table.loc[table["variant"] == variant, list(scores)] = np.nan
    with pytest.raises(InputError, match=f"the sweep on d has {said}"):
        choose(table, RULES)


def test_the_least_price_is_paid_where_all_is_dearer_than_the_margin():
    poor = (row("constant", "tie=300", elbo=90.0), row("constant", "tie=30", elbo=94.0))
    assert chosen(choose(sweep(*SETTINGS, *poor), RULES))["constant"] == "tie=30"


def test_what_cannot_be_chosen_is_said(tmp_path):
    write_table(tmp_path / "sweep.csv", sweep(*SETTINGS[1:]))
    with pytest.raises(InputError, match="lacks mixture, which others are held to"):
        make_choice(tmp_path / "sweep.csv", RULES, tmp_path / "out.csv")
    assert choose(sweep(*SETTINGS), {}).empty


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
        "setting": "beta=3.0",
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
    assert tables[0]["setting"].tolist() == ["beta=3.0"]
    assert set(SCORES) < set(tables[0].columns)
    pd.testing.assert_frame_equal(*tables)
