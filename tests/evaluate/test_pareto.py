"""Outliers at equal variation: known curves, range, tables."""

import numpy as np
import pandas as pd
import pytest

from kahlervae.evaluate.pareto import compare_to_truncation, make_pareto, truncated_outliers

VARIATION = np.array([0.2, 0.4, 0.8])
OUTLIERS = np.array([0.0, 0.1, 0.5])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.2, 0), (0.3, 0.05), (0.4, 0.1), (0.6, 0.3), (0.8, 0.5), (0.19, np.nan), (0.81, np.nan)],
)
def test_reads_a_monotone_curve_and_never_beyond_it(value, expected):
    assert truncated_outliers(value, VARIATION, OUTLIERS) == pytest.approx(expected, nan_ok=True)
    backwards = truncated_outliers(value, VARIATION[::-1], OUTLIERS[::-1])
    assert backwards == pytest.approx(expected, nan_ok=True)


def test_takes_the_best_of_truncation_where_the_curve_folds_back():
    # Coverage may rise before it falls: the same value at two temperatures.
    variation, outliers = np.array([0.2, 0.6, 0.4]), np.array([0.1, 0.3, 0.5])
    assert truncated_outliers(0.5, variation, outliers) == pytest.approx(0.25)
    flat = truncated_outliers(0.5, np.array([0.5, 0.5]), np.array([0.3, 0.1]))
    assert flat == pytest.approx(0.1)


def scores(sampler, setting, outliers, variation, oracle="cnn", seed=0):
    return {
        "dataset": "digits",
        "representation": "pixels",
        "variant": "complex",
        "seed": seed,
        "sampler": sampler,
        "setting": setting,
        "oracle": oracle,
        "knn_outliers": outliers,
        "entropy_outliers": 2 * outliers,
        "recall": variation,
        "coverage": variation,
        "vendi": 10 * variation,
    }


@pytest.fixture
def samples():
    return pd.DataFrame(
        [
            scores("volume", "alpha=-0.5", 0.05, 0.6),
            scores("prior", "default", 0.5, 0.8),
            scores("truncated", "temperature=0.7", 0.1, 0.4),
            scores("truncated", "temperature=0.3", 0.0, 0.2),
            scores("posterior_mixture", "default", 0.01, 0.95),
            scores("volume", "alpha=-0.5", 0.05, 0.6, oracle="mlp"),
            scores("prior", "default", 0.2, 0.6, oracle="mlp"),
        ]
    )


def test_difference_to_the_curve_of_the_same_model_and_oracle(samples):
    table = compare_to_truncation(samples).set_index(["oracle", "sampler", "score", "variation"])
    assert len(table) == 3 * 2 * 3
    row = table.loc[("cnn", "volume", "knn_outliers", "recall")]
    assert row["truncated_outliers"] == pytest.approx(0.3)  # between 0.7 and the prior
    assert row["difference"] == pytest.approx(-0.25)
    row = table.loc[("cnn", "volume", "entropy_outliers", "vendi")]
    assert (row["outliers"], row["variation_value"]) == (0.1, 6)
    assert row["difference"] == pytest.approx(-0.5)
    outside = table.loc[("cnn", "posterior_mixture", "knn_outliers", "recall")]
    assert outside[["truncated_outliers", "difference"]].isna().all()
    without_curve = table.loc[("mlp", "volume", "knn_outliers", "recall")]
    assert without_curve[["truncated_outliers", "difference"]].isna().all()


def test_files(samples, tmp_path):
    samples.to_csv(tmp_path / "samples.csv", index=False)
    make_pareto(tmp_path / "samples.csv", tmp_path / "pareto.csv")
    written = pd.read_csv(tmp_path / "pareto.csv")
    pd.testing.assert_frame_equal(written, compare_to_truncation(samples), check_dtype=False)
    samples[samples["sampler"] == "prior"].to_csv(tmp_path / "samples.csv", index=False)
    make_pareto(tmp_path / "samples.csv", tmp_path / "pareto.csv")
    assert pd.read_csv(tmp_path / "pareto.csv").empty
