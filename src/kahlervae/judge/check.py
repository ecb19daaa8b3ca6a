r"""A fresh run against a reference, claim by claim.

Same seeds on the same kind of processor give the same numbers. Elsewhere sums round differently,
training amplifies that, and a fresh run is a fresh draw of its models: how far its estimates may
lie from those of the reference follows from the spread over the reference's seeds, see
:func:`tolerance`. Claims without an interval (identities, runs with one seed) are compared by
their verdicts alone: their estimates are rounding errors, which the claims' own rules bound.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pandas as pd
from scipy import special

from kahlervae.errors import InputError
from kahlervae.judge.claims import LEFT_OUT
from kahlervae.judge.statistics import Verdict
from kahlervae.storage import read_table

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["FAILURES", "compare_claims", "label_runs", "print_comparison", "run_of", "tolerance"]

CONFIDENCE = 0.95
"""Of the intervals of ``claims.csv``, and of a tolerance."""

FAILURES = {
    "flipped": "the verdict is the opposite",
    "drifted": "the estimate lies out of tolerance",
    "missing": "the run did the data set but has no estimate for the claim",
}
"""What fails a check, in words."""

REMARKS = {
    "undecided": "one of the two is inconclusive",
    "new": "the reference does not judge the claim",
}
"""What does not fail a check and wants a word."""
OPPOSITE = {"supported", "not supported"}
ROUNDING = 1e-9
"""Relative difference below which two numbers are equal, whatever the tolerance."""


def tolerance(low: float, high: float, seeds: int, fresh_seeds: int, claims: int = 1) -> float:
    r"""How far the estimate of a fresh run may lie from that of the reference.

    The estimate is a mean over n seeds and h half the width of its interval, about
    :math:`t_{n-1,\,1-\alpha/2}` standard errors. The mean over n' seeds drawn anew differs from it
    by the errors of both, so that the prediction interval at the same level has the half width

    .. math:: h \sqrt{1 + n / n'} \cdot
              \frac{t_{n-1,\,1-\alpha/(2m)}}{t_{n-1,\,1-\alpha/2}}.

    With the m of all claims that are compared (Bonferroni), an honest run is within the tolerances
    of all of them with a probability of 1 − α = 0.95 at least; m = 1 is the range of one claim.

    Args:
        low: Lower end of the reference's interval.
        high: Upper end of it.
        seeds: n, over which the reference's interval was taken.
        fresh_seeds: n', those of the fresh run.
        claims: m.

    Returns:
        The tolerance; NaN where the reference has no interval.

    Examples:
        >>> round(tolerance(-0.2, 0.2, seeds=5, fresh_seeds=5), 3)
        0.283
        >>> round(tolerance(-0.2, 0.2, seeds=5, fresh_seeds=5, claims=50), 3)
        0.877
    """
    if not math.isfinite(low + high):
        return math.nan
    alpha = 1 - CONFIDENCE
    one, all_of_them = (special.stdtrit(seeds - 1, 1 - alpha / (2 * m)) for m in (1, claims))
    return float((high - low) / 2 * math.sqrt(1 + seeds / fresh_seeds) * all_of_them / one)


def label_runs(folder: Path | str) -> dict[str, tuple[str, int]]:
    """The data sets of a run as ``claims.csv`` labels them, each in full and with its seeds.

    A data set in a single representation goes by its name alone in ``claims.csv``; in full it is
    dataset/representation, so that runs with one and with several representations compare.

    Raises:
        InputError: ``tables/reconstruction.csv`` in the folder cannot be read.
    """
    path = Path(folder) / "tables/reconstruction.csv"
    models = read_table(path, ["dataset", "representation", "seed"])
    seeds = models.groupby(["dataset", "representation"])["seed"].nunique().reset_index()
    several = seeds["dataset"].duplicated(keep=False)
    seeds["full"] = seeds["dataset"] + "/" + seeds["representation"]
    seeds["label"] = seeds["full"].where(several, seeds["dataset"])
    return {
        label: (full, int(count))
        for label, full, count in seeds[["label", "full", "seed"]].itertuples(index=False)
    }


def run_of(label: str, runs: Mapping[str, tuple[str, int]]) -> tuple[str, int]:
    """A data set of ``claims.csv``, or several that a claim is about together, in full; its seeds.

    Example:
        >>> run_of("a + b", {"a": ("a/pixels", 5), "b": ("b/stft", 3)})
        ('a/pixels + b/stft', 3)

    Args:
        label: as ``claims.csv`` has it.
        runs: what :func:`label_runs` returns.

    Raises:
        KeyError: a data set is not among them.
    """
    names, seeds = zip(*(runs[part] for part in label.split(" + ")), strict=True)
    return " + ".join(names), min(seeds)


def _read_claims(folder: Path) -> tuple[pd.DataFrame, dict[str, int]]:
    """The claims of a run by claim and data set in full, and the number of seeds by the latter."""
    runs = label_runs(folder)
    path = folder / "claims.csv"
    claims = read_table(
        path, ["claim", "dataset", "metric", "verdict"], ["estimate", "ci_low", "ci_high"]
    )
    if claims["claim"].str.match(r"C\d+_").any():
        raise InputError(
            f"{path} has its claims by number, as runs before 0.2 do: hold runs of one version "
            "against each other (docs/claims_index.md has the names of the numbers)."
        )
    try:
        judged = {label: run_of(label, runs) for label in claims["dataset"].unique()}
    except KeyError as error:
        raise InputError(
            f"{path} judges {error.args[0]}, which {folder / 'tables'} lacks: make both by one run."
        ) from error
    claims["dataset"] = claims["dataset"].map({label: full for label, (full, _) in judged.items()})
    key = ["dataset", "claim"]
    if claims.duplicated(key).any():
        raise InputError(f"{path} holds a claim twice: delete it and run again.")
    decided = claims["verdict"].isin(OPPOSITE)
    broken = ~claims["verdict"].isin([*get_args(Verdict), LEFT_OUT])
    broken |= decided & claims["estimate"].isna()
    if broken.any():
        claim = claims.loc[broken, "claim"].iloc[0]
        raise InputError(f"{path} lacks verdict or estimate of {claim}: delete it and run again.")
    return claims.set_index(key), dict(runs.values()) | dict(judged.values())


def compare_claims(reference: Path | str, results: Path | str) -> pd.DataFrame:
    """Every claim of a reference and what became of it in a fresh run.

    Args:
        reference: The folder with ``claims.csv`` and ``tables/reconstruction.csv``.
        results: The same of the fresh run.

    Returns:
        One row a claim: ``dataset`` (with its representation), ``claim``, ``metric``, the
        estimates ``reference`` and ``fresh``, ``tolerance``, the verdicts ``reference_verdict``
        and ``fresh_verdict``, and ``status``: ``ok``, one of :data:`FAILURES`, ``undecided``
        (inconclusive on one side, which is no failure), ``new`` (judged by the fresh run alone)
        or ``not run`` (the fresh run left the data set out). Where the reference has no estimate,
        there is nothing that a run can lack.

    Raises:
        InputError: a table cannot be read, or the runs have no data set in common.
    """
    ours, seeds = _read_claims(Path(reference))
    theirs, fresh_seeds = _read_claims(Path(results))
    if not seeds.keys() & fresh_seeds.keys():
        raise InputError(
            f"{results} holds {', '.join(fresh_seeds)} and {reference} holds {', '.join(seeds)}: "
            "nothing to compare, name another --reference."
        )
    both = ours.index.intersection(theirs.index)
    judged = int(ours.loc[both, "ci_low"].notna().sum())
    rows: list[dict[str, Any]] = []
    for key in [*ours.index, *theirs.index.difference(ours.index, sort=False)]:
        dataset, claim = key
        row: dict[str, Any] = {"dataset": dataset, "claim": claim, "tolerance": math.nan}
        for side, table in (("reference", ours), ("fresh", theirs)):
            found = table.loc[key].to_dict() if key in table.index else {}
            row |= {"metric": found["metric"]} if found else {}
            row[side] = found.get("estimate", math.nan)
            row[f"{side}_verdict"] = found.get("verdict", "")
        if key in both:
            low, high = ours.loc[key, ["ci_low", "ci_high"]]
            row["tolerance"] = tolerance(low, high, seeds[dataset], fresh_seeds[dataset], judged)
            row["status"] = _status(row)
        elif key in ours.index:
            row["status"] = "missing" if dataset in fresh_seeds else "not run"
        else:
            row["status"] = "new"
        rows.append(row)
    return pd.DataFrame(rows)[
        [
            *("dataset", "claim", "metric", "reference", "fresh", "tolerance"),
            *("reference_verdict", "fresh_verdict", "status"),
        ]
    ]


def _status(row: Mapping[str, Any]) -> str:
    verdicts = {row["reference_verdict"], row["fresh_verdict"]}
    if verdicts == OPPOSITE:
        return "flipped"
    # A run that says nothing does not agree with one that does.
    if math.isfinite(row["reference"]) and not math.isfinite(row["fresh"]):
        return "missing"
    # NaN where there is nothing to compare, and then not beyond.
    beyond = abs(row["fresh"] - row["reference"]) - ROUNDING * abs(row["reference"])
    if beyond > row["tolerance"]:
        return "drifted"
    return "ok" if len(verdicts) == 1 else "undecided"


def print_comparison(comparison: pd.DataFrame, console: "Console") -> None:
    """Print what :func:`compare_claims` found: a table a data set, and a line that sums it up."""
    from rich.table import Table
    from rich.text import Text

    for dataset, rows in comparison.groupby("dataset", sort=False):
        if (rows["status"] == "not run").all():
            console.print(f"{dataset}: not run ({len(rows)} claims)", style="dim")
            continue
        table = Table(title=str(dataset), title_justify="left", pad_edge=False, box=None)
        table.add_column("claim", overflow="fold")
        for name in ("reference", "fresh", "tolerance"):
            table.add_column(name, justify="right", no_wrap=True)
        for name in ("verdict", "status"):
            table.add_column(name, overflow="fold")
        for row in rows.to_dict("records"):
            verdicts = dict.fromkeys((row["reference_verdict"], row["fresh_verdict"]))
            numbers = (row[name] for name in ("reference", "fresh", "tolerance"))
            colour = "red" if row["status"] in FAILURES else "green"
            table.add_row(
                row["claim"],
                *("–" if math.isnan(value) else f"{value:.3g}" for value in numbers),
                " → ".join(verdict or "–" for verdict in verdicts),
                Text(row["status"], style="yellow" if row["status"] in REMARKS else colour),
            )
        console.print(table)
        console.print()
    counts = comparison["status"].value_counts()
    console.print(f"{len(comparison)} claims: {', '.join(f'{n} {s}' for s, n in counts.items())}")
    for status, words in (FAILURES | REMARKS).items():
        if status in counts:
            console.print(f"{status}: {words}")
