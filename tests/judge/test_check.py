"""A fresh run is held against a reference: what flips, drifts or is missing fails."""

import io
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from kahlervae.cli import app
from kahlervae.errors import InputError
from kahlervae.judge.check import FAILURES, compare_claims, print_comparison, tolerance
from kahlervae.judge.statistics import bootstrap_interval

ROOT = Path(__file__).parents[2]
CLAIMS = pd.DataFrame(
    [
        ("closedness", "largest closedness defect", 1e-14, np.nan, np.nan, "supported"),
        ("smoother", "acceleration", -0.5, -0.6, -0.4, "supported"),
        ("fewer", "knn_outliers", 0.1, 0.05, 0.15, "not supported"),
        ("recall", "recall", 0.0, -0.1, 0.1, "inconclusive"),
    ],
    columns=["claim", "metric", "estimate", "ci_low", "ci_high", "verdict"],
)
JUDGED = 3


def write_run(folder, claims=CLAIMS, runs=(("digits", "pixels"),), seeds=5):
    """A folder with the claims for every run, data sets labelled as ``judge`` does."""
    names = [dataset for dataset, _ in runs]
    labels = [f"{d}/{r}" if names.count(d) > 1 else d for d, r in runs]
    (folder / "tables").mkdir(parents=True)
    frames = [claims.assign(dataset=label, statement="", rule="") for label in labels]
    pd.concat(frames).to_csv(folder / "claims.csv", index=False)
    models = [(*run, variant, seed) for run in runs for variant in "ab" for seed in range(seeds)]
    columns = ["dataset", "representation", "variant", "seed"]
    pd.DataFrame(models, columns=columns).to_csv(folder / "tables/reconstruction.csv", index=False)
    return folder


def changed(claim, **values):
    claims = CLAIMS.copy()
    for column, value in values.items():
        claims.loc[claims["claim"] == claim, column] = value
    return claims


@pytest.fixture
def reference(tmp_path):
    return write_run(tmp_path / "reference")


def status(reference, results):
    comparison = compare_claims(reference, results)
    return dict(zip(comparison["claim"], comparison["status"], strict=True))


ALL_WELL = dict.fromkeys(CLAIMS["claim"], "ok")
WIDE = tolerance(-0.6, -0.4, 5, 5, JUDGED)
CASES = {
    "the same": (CLAIMS, {}),
    "rounding of an identity": (changed("closedness", estimate=7e-13), {}),
    "identity fails": (changed("closedness", verdict="not supported"), {"closedness": "flipped"}),
    "within tolerance": (changed("smoother", estimate=-0.5 + 0.99 * WIDE), {}),
    "above": (changed("smoother", estimate=-0.5 + 1.01 * WIDE), {"smoother": "drifted"}),
    "below": (changed("smoother", estimate=-0.5 - 1.01 * WIDE), {"smoother": "drifted"}),
    "flipped": (changed("fewer", verdict="supported"), {"fewer": "flipped"}),
    "firmer": (changed("recall", verdict="supported"), {"recall": "undecided"}),
    "weaker": (changed("fewer", verdict="inconclusive"), {"fewer": "undecided"}),
    "weaker and far": (
        changed("fewer", verdict="inconclusive", estimate=9.0),
        {"fewer": "drifted"},
    ),
    "a wide interval of its own does not help": (
        changed("smoother", verdict="inconclusive", estimate=9.0, ci_low=-99, ci_high=99),
        {"smoother": "drifted"},
    ),
    "no estimate": (
        changed("fewer", verdict="inconclusive", estimate=np.nan),
        {"fewer": "missing"},
    ),
    "no estimate of what is inconclusive": (
        changed("recall", estimate=np.inf, ci_low=np.nan, ci_high=np.nan),
        {"recall": "missing"},
    ),
    "no oracle": (
        changed("fewer", verdict="left out", estimate=np.nan, ci_low=np.nan, ci_high=np.nan),
        {"fewer": "missing"},
    ),
    "left out": (CLAIMS[1:], {"closedness": "missing"}),
}


@pytest.mark.parametrize("case", CASES)
def test_claims_are_compared_one_by_one(reference, tmp_path, case):
    claims, other = CASES[case]
    fresh = write_run(tmp_path / "fresh", claims)
    assert status(reference, fresh) == ALL_WELL | other
    outcome = CliRunner().invoke(
        app, ["check", "--reference", str(reference), "--results", str(fresh)]
    )
    assert outcome.exit_code == int(bool(set(other.values()) & set(FAILURES))), outcome.output


@pytest.mark.parametrize("verdict", ["inconclusive", "left out"])
def test_what_the_reference_has_no_estimate_for_cannot_be_missing(tmp_path, verdict):
    silent = changed("fewer", verdict=verdict, estimate=np.nan, ci_low=np.nan, ci_high=np.nan)
    reference, fresh = (write_run(tmp_path / name, silent) for name in ("reference", "fresh"))
    assert status(reference, fresh) == ALL_WELL
    decided = write_run(tmp_path / "decided")
    assert status(reference, decided) == ALL_WELL | {"fewer": "undecided"}


def test_further_claims_are_shown_and_do_not_fail(reference, tmp_path):
    fresh = write_run(tmp_path / "fresh", pd.concat([CLAIMS, CLAIMS[3:].assign(claim="vendi")]))
    assert status(reference, fresh) == ALL_WELL | {"vendi": "new"}


def test_data_sets_that_were_not_run_are_listed(tmp_path):
    both = [("digits", "pixels"), ("mnist", "pixels"), ("mnist", "kspace")]
    reference = write_run(tmp_path / "reference", runs=both)
    # By one representation alone the data set has another label in claims.csv, and is the same.
    fresh = write_run(tmp_path / "fresh", runs=[("mnist", "pixels")])
    comparison = compare_claims(reference, fresh)
    found = comparison.set_index("dataset")["status"]
    assert (found["mnist/pixels"] == "ok").all()
    assert (found["mnist/kspace"] == "not run").all()
    assert (found["digits/pixels"] == "not run").all()
    console = Console(width=100, file=io.StringIO())
    print_comparison(comparison, console)
    text = console.file.getvalue()
    assert "mnist/kspace: not run (4 claims)" in text
    assert "12 claims: 8 not run, 4 ok" in text


def test_fewer_fresh_seeds_have_a_wider_tolerance(reference, tmp_path):
    fresh = write_run(tmp_path / "fresh", seeds=3)
    widths = compare_claims(reference, fresh).set_index("claim")["tolerance"]
    assert math.isnan(widths["closedness"])
    assert widths["smoother"] == pytest.approx(tolerance(-0.6, -0.4, 5, 3, JUDGED))
    assert tolerance(-0.6, -0.4, 5, 3) == pytest.approx(0.1 * (1 + 5 / 3) ** 0.5)


def test_refusals_are_sentences(reference, tmp_path):
    other = write_run(tmp_path / "other", runs=[("mnist", "pixels")])
    with pytest.raises(InputError, match=r"holds mnist/pixels and .* holds digits/pixels: nothing"):
        compare_claims(reference, other)
    with pytest.raises(InputError, match="does not exist"):
        compare_claims(reference, tmp_path)
    mixed = write_run(tmp_path / "mixed")
    shutil.copy(other / "claims.csv", mixed)
    with pytest.raises(InputError, match=r"judges mnist, which .* lacks"):
        compare_claims(mixed, other)
    twice = write_run(tmp_path / "twice", pd.concat([CLAIMS, CLAIMS]))
    with pytest.raises(InputError, match="holds a claim twice"):
        compare_claims(twice, twice)
    for k, change in enumerate(({"verdict": "maybe"}, {"estimate": np.nan})):
        broken = write_run(tmp_path / f"broken{k}", changed("fewer", **change))
        with pytest.raises(InputError, match="lacks verdict or estimate of fewer"):
            compare_claims(reference, broken)


@pytest.mark.parametrize(
    ("file", "column"),
    [
        *(("claims.csv", column) for column in ("claim", "dataset", "verdict")),
        *(("tables/reconstruction.csv", column) for column in ("dataset", "seed")),
    ],
)
def test_blanks_are_refused(reference, tmp_path, file, column):
    broken = write_run(tmp_path / "broken")
    table = pd.read_csv(broken / file)
    table[column] = None
    table.to_csv(broken / file, index=False)
    for runs in ((reference, broken), (broken, reference)):
        with pytest.raises(InputError, match=f"{file} has blanks in '{column}'"):
            compare_claims(*runs)


def test_honest_runs_are_within_tolerance():
    """Of one claim in 95 % of the runs, for the interval of the claims; of ten at once in more."""
    random = np.random.default_rng(0)
    draws, claims = 1000, 10
    first, second = random.normal(size=(2, draws, claims, 5))
    beyond_one, beyond_all = 0, 0
    for mine, fresh in zip(first, second[..., :4], strict=True):
        intervals = [bootstrap_interval(values, 0.95, 999, 0) for values in mine]
        distance = np.abs(fresh.mean(axis=1) - [interval.estimate for interval in intervals])
        one, all_of_them = (
            np.array([tolerance(i.low, i.high, 5, 4, m) for i in intervals]) for m in (1, claims)
        )
        beyond_one += (distance > one).sum()
        beyond_all += (distance > all_of_them).any()
    # Intervals over five seeds cover 93 % where they should cover 95 %, see bootstrap_interval.
    assert 0.03 < beyond_one / (draws * claims) < 0.09
    assert beyond_all / draws < 0.09


def test_the_reference_agrees_with_itself():
    comparison = compare_claims(ROOT / "reference", ROOT / "reference")
    assert len(comparison) == len(pd.read_csv(ROOT / "reference/claims.csv"))
    assert set(comparison["status"]) == {"ok"}


def test_claims_about_several_data_sets_together_are_compared(tmp_path):
    runs = (("digits", "pixels"), ("mnist", "kspace"))
    folders = [write_run(tmp_path / name, runs=runs) for name in ("reference", "results")]
    for folder in folders:
        table = pd.read_csv(folder / "claims.csv")
        pooled = table[1:2].assign(claim="consistent", dataset="digits + mnist")
        pd.concat([table, pooled]).to_csv(folder / "claims.csv", index=False)
    comparison = compare_claims(*folders).set_index("claim")
    assert comparison.loc["consistent", "dataset"] == "digits/pixels + mnist/kspace"
    assert comparison.loc["consistent", "status"] == "ok"


def test_claims_by_number_are_of_another_version(reference, tmp_path):
    old = CLAIMS.assign(claim=[f"C{i}_{name}" for i, name in enumerate(CLAIMS["claim"], 1)])
    results = write_run(tmp_path / "results", old)
    with pytest.raises(InputError, match=r"has its claims by number, as runs before 0\.2 do"):
        compare_claims(reference, results)
