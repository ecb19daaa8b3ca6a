"""Outliers at equal variation, hypervolumes, and a choice that test rows cannot move."""

import numpy as np
import pandas as pd
import pytest

from kahlervae.errors import InputError
from kahlervae.judge.pareto import (
    choose,
    compare_to_controls,
    curve_outliers,
    envelope_outliers,
    hypervolume,
    hypervolumes,
    make_pareto,
    split_setting,
    with_families,
)

VARIATION = np.array([0.2, 0.4, 0.8])
OUTLIERS = np.array([0.0, 0.1, 0.5])
CHOICE = {"score": "knn_outliers", "variations": ["recall"], "controls": ["gmm", "truncated"]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.2, 0), (0.3, 0.05), (0.4, 0.1), (0.6, 0.3), (0.8, 0.5), (0.19, np.nan), (0.81, np.nan)],
)
def test_reads_a_monotone_curve_and_never_beyond_it(value, expected):
    values = np.array([value])
    assert curve_outliers(values, VARIATION, OUTLIERS) == pytest.approx([expected], nan_ok=True)
    backwards = curve_outliers(values, VARIATION[::-1], OUTLIERS[::-1])
    assert backwards == pytest.approx([expected], nan_ok=True)


def test_takes_the_best_of_a_control_where_its_curve_folds_back():
    # Coverage may rise before it falls: the same value at two temperatures.
    variation, outliers, half = (
        np.array([0.2, 0.6, 0.4]),
        np.array([0.1, 0.3, 0.5]),
        np.array([0.5]),
    )
    assert curve_outliers(half, variation, outliers) == pytest.approx([0.25])
    flat = curve_outliers(half, np.array([0.5, 0.5]), np.array([0.3, 0.1]))
    assert flat == pytest.approx([0.1])


def test_a_curve_with_a_gap_is_not_read_across_it():
    variation, outliers = np.array([0.2, np.nan, 0.8]), np.array([0.0, 0.1, 0.5])
    assert np.isnan(curve_outliers(np.array([0.3, 0.5]), variation, outliers)).all()
    # A point without outliers leaves its two segments empty, and no others.
    broken = curve_outliers(
        np.array([0.3, 0.7]), np.append(VARIATION, 0.6), [np.nan, 0.1, 0.5, 0.5]
    )
    assert broken == pytest.approx([np.nan, 0.4], nan_ok=True)
    assert np.isnan(curve_outliers(np.array([0.2]), VARIATION[:1], OUTLIERS[:1])).all()


def test_the_envelope_is_the_best_of_all_curves_and_defined_where_any_is():
    other = (np.array([0.6, 1.0]), np.array([0.0, 0.4]))
    values = np.array([0.3, 0.7, 0.9, 1.1])
    found = envelope_outliers(values, [(VARIATION, OUTLIERS), other])
    assert found == pytest.approx([0.05, 0.1, 0.3, np.nan], nan_ok=True)
    assert np.isnan(envelope_outliers(values, [])).all()


@pytest.mark.parametrize(
    ("sampler", "setting", "family", "knob"),
    [
        ("prior", "default", "prior", np.nan),
        ("truncated", "temperature=0.7", "truncated", 0.7),
        ("gmm", "components=10,temperature=1", "gmm:components=10", 1),
        (
            "volume",
            "base=gmm,weight=local,metric=fitted,power=-4",
            "volume:base=gmm,weight=local,metric=fitted",
            -4,
        ),
        ("riemannian", "default", "riemannian", np.nan),
        ("posterior_mixture", "default", "posterior_mixture", np.nan),
    ],
)
def test_families_are_settings_without_their_knob(sampler, setting, family, knob):
    assert split_setting(sampler, setting) == (family, pytest.approx(knob, nan_ok=True))


def test_hypervolume_of_known_points():
    assert hypervolume(np.array([[0.5, 0.8]])) == pytest.approx(0.4)
    # 0.2 × 1 on the left, then 0.3 × 0.8, then 0.5 × 0.1; the last point is dominated.
    points = np.array([[0.2, 1.0], [1.0, 0.1], [0.5, 0.8], [0.4, 0.7]])
    assert hypervolume(points) == pytest.approx(0.2 + 0.24 + 0.05)
    assert hypervolume(np.vstack([points, [np.nan, 1.0], points[:1]])) == pytest.approx(0.49)
    assert hypervolume(np.empty((0, 2))) == 0


@pytest.mark.parametrize("seed", range(3))
def test_hypervolume_is_that_of_monte_carlo(seed):
    random = np.random.default_rng(seed)
    points = random.uniform(size=(12, 2))
    drawn = random.uniform(size=(200_000, 2))
    dominated = np.any(np.all(drawn[:, None] <= points, axis=2), axis=1)
    error = dominated.std() / np.sqrt(len(drawn))
    assert abs(hypervolume(points) - dominated.mean()) < 4 * error


def scores(sampler, setting, outliers, variation, oracle="cnn", seed=0, split="test"):
    return {
        "dataset": "digits",
        "representation": "pixels",
        "variant": "complex",
        "seed": seed,
        "split": split,
        "sampler": sampler,
        "setting": setting,
        "oracle": oracle,
        "knn_outliers": outliers,
        "entropy_outliers": 2 * outliers,
        "mahalanobis_outliers": 3 * outliers,
        "energy_outliers": 4 * outliers,
        "recall": variation,
        "coverage": variation,
        "vendi": 10 * variation,
        "novelty": variation,
    }


PLAIN = "base=prior,weight=global,metric=fitted,power={}"
LOCAL = "base=gmm,weight=local,metric=fitted,power={}"


@pytest.fixture
def samples():
    return pd.DataFrame(
        [
            scores("volume", PLAIN.format(-2), 0.05, 0.6),
            scores("prior", "default", 0.5, 0.8),
            scores("truncated", "temperature=0.7", 0.1, 0.4),
            scores("truncated", "temperature=0.3", 0.0, 0.2),
            scores("posterior_mixture", "default", 0.01, 0.95),
            scores("gmm", "components=10,temperature=1", 0.2, 0.9),
            scores("gmm", "components=10,temperature=0.5", 0.0, 0.5),
            scores("gmm", "components=50,temperature=1", 0.1, 0.7),
            scores("gmm", "components=50,temperature=0.5", 0.0, 0.55),
            scores("volume", PLAIN.format(-2), 0.05, 0.6, oracle="mlp"),
            scores("prior", "default", 0.2, 0.6, oracle="mlp"),
        ]
    )


def test_difference_to_the_curves_of_the_same_model_and_oracle(samples):
    table = compare_to_controls(samples)
    # Two settings and both controls for cnn, one of each for mlp; 4 scores, 4 variations.
    assert len(table) == (2 * 2 + 1) * 4 * 4
    table = table.set_index(["oracle", "family", "score", "variation", "control"]).sort_index()
    plain = "volume:base=prior,weight=global,metric=fitted"
    row = table.loc[("cnn", plain, "knn_outliers", "recall", "truncated")]
    assert row["control_outliers"] == pytest.approx(0.3)  # between 0.7 and the prior
    assert row["difference"] == pytest.approx(-0.25)
    row = table.loc[("cnn", plain, "energy_outliers", "vendi", "truncated")]
    assert (row["outliers"], row["variation_value"]) == (0.2, 6)
    assert row["difference"] == pytest.approx(-1.0)
    row = table.loc[("cnn", plain, "knn_outliers", "novelty", "gmm")]
    assert row["control_outliers"] == pytest.approx(0.1 / 3)  # 50 components, not 10
    outside = table.loc[("cnn", "posterior_mixture", "knn_outliers", "recall")]
    assert outside[["control_outliers", "difference"]].isna().all(axis=None)
    without_curve = table.loc[("mlp", plain, "knn_outliers", "recall")]
    assert without_curve[["control_outliers", "difference"]].isna().all(axis=None)


def test_hypervolumes_are_of_families_and_the_prior_is_of_truncation(samples):
    table = hypervolumes(samples).set_index(["oracle", "family", "score", "variation"])
    assert not table.index.duplicated().any()
    truncation = table.loc[("cnn", "truncated", "knn_outliers", "recall"), "hypervolume"]
    expected = hypervolume(np.array([[0.5, 0.8], [0.9, 0.4], [1.0, 0.2]]))
    assert truncation == pytest.approx(expected)
    assert ("cnn", "prior", "knn_outliers", "recall") not in table.index
    assert table.loc[("mlp", "truncated", "knn_outliers", "coverage"), "hypervolume"] == (
        pytest.approx(0.8 * 0.6)
    )


def sweep(outliers, seeds=3):
    """A sweep of the local weight over a mixture with a straight curve, on both splits."""
    rows = []
    for seed in range(seeds):
        for split in ("validation", "test"):
            where = {"seed": seed, "split": split}
            for temperature, value in ((0.5, 0.2), (1, 1.0)):
                setting = f"components=10,temperature={temperature}"
                rows.append(scores("gmm", setting, value / 2, value, **where))
                rows.append(
                    scores("truncated", f"temperature={temperature}", value, value, **where)
                )
            for power, share in outliers.items():
                rows.append(scores("volume", LOCAL.format(power), share, 0.6, **where))
    return pd.DataFrame(rows)


def chains(flagged=()):
    """Diagnostics, with the settings and seeds that were flagged."""
    return pd.DataFrame(
        [
            {
                "dataset": "digits",
                "representation": "pixels",
                "variant": "complex",
                "seed": seed,
                "sampler": "volume",
                "setting": LOCAL.format(power),
                "flagged": (power, seed) in flagged,
            }
            for power in (-4, -2, 2)
            for seed in range(3)
        ]
    )


def choice(samples, diagnostics=None, **settings):
    diagnostics = chains() if diagnostics is None else diagnostics
    return choose(compare_to_controls(samples), diagnostics, CHOICE | settings)


def test_the_setting_furthest_below_the_mixture_is_chosen():
    table = choice(sweep({-4: 0.2, -2: 0.1, 2: 0.4}))
    (row,) = table.to_dict("records")
    assert row["family"] == "volume:base=gmm,weight=local,metric=fitted"
    assert row["setting"].endswith("power=-2")
    assert row["control"] == "gmm"
    assert row["difference"] == pytest.approx(0.1 - 0.3)
    assert row["best"]


def test_test_rows_never_move_the_choice():
    frame = sweep({-4: 0.2, -2: 0.1, 2: 0.4})
    expected = choice(frame)
    moved = frame.copy()
    test = moved["split"] == "test"
    random = np.random.default_rng(0)
    moved.loc[test, ["knn_outliers", "recall"]] = random.uniform(size=(test.sum(), 2))
    pd.testing.assert_frame_equal(choice(moved), expected)
    pd.testing.assert_frame_equal(choice(frame[~test]), expected)
    # Validation rows do.
    other = frame.copy()
    other.loc[~test & other["setting"].str.endswith("power=-4"), "knn_outliers"] = 0.0
    assert choice(other)["setting"].item().endswith("power=-4")


def test_flagged_chains_are_not_chosen():
    frame = sweep({-4: 0.2, -2: 0.1, 2: 0.4})
    once = choice(frame, chains(flagged=[(-2, 0)]))
    assert once["setting"].item().endswith("power=-2")
    twice = choice(frame, chains(flagged=[(-2, 0), (-2, 2)]))
    assert twice["setting"].item().endswith("power=-4")
    every = choice(frame, chains(flagged=[(p, s) for p in (-4, -2, 2) for s in (0, 1)]))
    assert every.empty


def test_a_setting_has_to_be_comparable_for_every_seed():
    frame = sweep({-4: 0.2, -2: 0.1, 2: 0.4})
    beyond = (frame["seed"] == 1) & frame["setting"].str.endswith("power=-2")
    frame.loc[beyond & (frame["split"] == "validation"), "recall"] = 1.1
    assert choice(frame)["setting"].item().endswith("power=-4")


def test_of_several_variations_the_smallest_gain_counts():
    frame = sweep({-4: 0.2, -2: 0.1, 2: 0.4})
    both = {"variations": ["recall", "vendi"]}
    (row,) = choice(frame, **both).to_dict("records")
    assert row["setting"].endswith("power=-2")
    assert row["difference"] == pytest.approx(0.1 - 0.3)
    # Where the mixture's Vendi score is 2.5 it has 0.125 outliers.
    concentrated = frame["setting"].str.endswith("power=-2")
    frame.loc[concentrated, "vendi"] = 2.5
    (row,) = choice(frame, **both).to_dict("records")
    assert row["setting"].endswith("power=-4")
    assert row["difference"] == pytest.approx(0.2 - 0.3)
    frame.loc[frame["setting"].str.endswith("power=-4"), "knn_outliers"] = 0.29
    (row,) = choice(frame, **both).to_dict("records")
    assert row["setting"].endswith("power=-2")
    assert row["difference"] == pytest.approx(0.1 - 0.125)
    # Recall alone does not see it, and a collapse beyond the mixture's range is never chosen.
    assert choice(frame)["difference"].item() == pytest.approx(0.1 - 0.3)
    frame.loc[concentrated, "vendi"] = 0.0
    assert choice(frame, **both)["setting"].item().endswith("power=-4")


def test_the_strongest_control_that_can_be_compared_counts():
    frame = sweep({-4: 0.2, -2: 0.1, 2: 0.4})
    # The mixture ends below the recall of all settings: truncation is left.
    frame.loc[frame["sampler"] == "gmm", "recall"] /= 2
    (row,) = choice(frame).to_dict("records")
    assert row["control"] == "truncated"
    assert row["difference"] == pytest.approx(0.1 - 0.6)
    assert choice(frame, controls=["gmm"]).empty
    # A setting in the mixture's range comes before those further below truncation.
    frame.loc[frame["setting"].str.endswith("power=2"), "recall"] = 0.4
    (row,) = choice(frame).to_dict("records")
    assert row["control"] == "gmm"
    assert row["setting"].endswith("power=2")


def test_best_is_a_volume_sampler_with_the_strongest_control():
    frame = sweep({-4: 0.2, -2: 0.1})
    extra = frame[frame["sampler"] == "volume"].copy()
    extra["setting"] = PLAIN.format(-2)
    extra["knn_outliers"] = 0.05
    riemannian = extra.assign(sampler="riemannian", setting="default", knn_outliers=0.0)
    table = choice(pd.concat([frame, extra, riemannian])).set_index("family")
    assert table["best"].to_dict() == {
        "volume:base=gmm,weight=local,metric=fitted": False,
        "volume:base=prior,weight=global,metric=fitted": True,
        "riemannian": False,
    }


def test_files(samples, tmp_path):
    samples = samples[samples["oracle"] == "cnn"]
    both = pd.concat([samples, samples.assign(split="validation")])
    both.to_csv(tmp_path / "samples.csv", index=False)
    chains().to_csv(tmp_path / "d.csv", index=False)
    paths = [tmp_path / f"{name}.csv" for name in ("pareto", "hypervolume", "chosen")]
    make_pareto(tmp_path / "samples.csv", tmp_path / "d.csv", CHOICE, *paths)
    pareto = compare_to_controls(both)
    expected = (pareto, hypervolumes(both), choose(pareto, chains(), CHOICE))
    for path, table in zip(paths, expected, strict=True):
        assert len(table)
        pd.testing.assert_frame_equal(pd.read_csv(path), table, check_dtype=False)
    samples.head(0).to_csv(tmp_path / "samples.csv", index=False)
    make_pareto(tmp_path / "samples.csv", tmp_path / "d.csv", CHOICE, *paths)
    assert all(pd.read_csv(path).empty for path in paths)


def test_a_setting_that_is_none_is_refused(samples, tmp_path):
    samples.replace("temperature=0.7", "temperature=warm").to_csv(tmp_path / "s.csv", index=False)
    chains().to_csv(tmp_path / "d.csv", index=False)
    with pytest.raises(InputError, match=r"s\.csv or .*d\.csv holds a setting that is none"):
        make_pareto(tmp_path / "s.csv", tmp_path / "d.csv", CHOICE, *[tmp_path / "out.csv"] * 3)
    assert not (tmp_path / "out.csv").exists()


def test_tables_of_many_models_keep_their_rows(samples):
    assert len(with_families(samples)) == len(samples)
    families = with_families(samples)
    assert families.loc[
        families["sampler"] == "prior", ["family", "knob"]
    ].drop_duplicates().values.tolist() == [["truncated", 1.0]]
