"""The claims of a file, each with an estimate, an interval, a rule and a verdict.

Claims over rows, as of identities, hold or fail by a tolerance at every row. Claims over seeds are
values or comparisons paired by seed, averaged over the oracles before pairing, and judged by where
their interval lies. They speak of test rows; the settings of samplers were chosen on validation
rows. A claim whose tables, variants or samplers a run does not have gets no row. Where samples have
no labels there are no oracles, and claims that need one are left out, in words.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kahlervae.errors import InputError
from kahlervae.evaluate import UNJUDGED
from kahlervae.judge.entries import OPTIONAL, RUN, Claim, Read, needed, read_claims
from kahlervae.judge.statistics import bootstrap_interval, holm, student_p, verdict
from kahlervae.options import check_count, check_number
from kahlervae.storage import read_table, write_table

__all__ = ["COLUMNS", "LEFT_OUT", "judge", "make_claims"]

COLUMNS = [
    *("claim", "dataset", "part", "role", "paper", "statement", "metric"),
    *("estimate", "ci_low", "ci_high", "rule", "verdict", "p_value", "adjusted"),
    *("bound", "control", "beside"),
]
"""Columns of the claims; ``control`` is the mean of what a difference is taken from."""

LEFT_OUT = "left out"
"""The verdict on a claim that needs an oracle where there is none."""

IMAGES = ("pixels", "kspace")
"""Representations of images; claims about others speak of data."""


def make_claims(
    tables: Iterable[Path | str],
    claims: Path | str,
    settings: Mapping[str, Any],
    out: Path | str,
) -> None:
    """Judge the claims of a file by the tables of a run and write ``claims.csv``.

    Args:
        tables: Files named after the tables that they hold; others than the claims need are not
            read, and claims that need others get no row.
        claims: See :func:`~kahlervae.judge.entries.read_claims`.
        settings: See :func:`judge`.
        out: Where to write.

    Raises:
        InputError: a file is missing or damaged, two hold the same table, or a setting is out of
            its range.
    """
    _check_settings(settings)
    entries = read_claims(claims)
    columns = needed(entries)
    files: dict[str, Path | str] = {}
    for file in tables:
        name = Path(file).stem
        if name in files:
            raise InputError(f"{files[name]} and {file} are both called {name}: name one of them.")
        files[name] = file
    if "reconstruction" not in files:
        raise InputError("there is no reconstruction.csv, which says what was trained: name it.")
    frames = {
        name: _read(files[name], texts, numbers)
        for name, (texts, numbers) in columns.items()
        if name in files
    }
    _warn_of_absent_settings(frames.get("samples"), entries)
    write_table(out, judge(frames, entries, settings))


def _read(file: Path | str, texts: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    """A table that has every row once: two of one model would count as two oracles."""
    table = read_table(file, texts, [name for name in numbers if not OPTIONAL.match(name)])
    key = [*texts, "seed"] if "seed" in numbers else [*texts]
    if (again := table.duplicated(key)).any():
        row = ", ".join(map(str, table.loc[again, key].iloc[0]))
        raise InputError(f"{file} holds the row {row} twice: delete it and run again.")
    return table


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings of :func:`judge` that give no interval."""
    check_number("the confidence of claims", settings["confidence"], positive=True, below=1)
    for name, least in {"resamples": 1, "minimum_seeds": 1, "seed": 0}.items():
        check_count(f"{name} of claims", settings[name], least)


def _warn_of_absent_settings(samples: pd.DataFrame | None, claims: Sequence[Claim]) -> None:
    """Tell of settings that no row has although their sampler was run: they may be misspelt.

    All else that claims select by is either checked or, as variants are, up to the configuration.
    """
    if samples is None:
        return
    there = set(samples[["sampler", "setting"]].itertuples(index=False, name=None))
    run = {sampler for sampler, _ in there}
    for claim in claims:
        for side in (claim.what, claim.against or {}):
            pair = side.get("sampler"), side.get("setting")
            if None not in pair and pair[0] in run and pair not in there:
                logging.warning("%s is left out: no samples are of %s:%s.", claim.id, *pair)


def judge(
    tables: Mapping[str, pd.DataFrame], claims: Sequence[Claim], settings: Mapping[str, Any]
) -> pd.DataFrame:
    """The claims table: for every data set the claims about it, then those about all together.

    ``p_value`` is that of Student's t test, two-sided, for the claims that can have a verdict over
    seeds. ``adjusted`` is the verdict after Holm's correction over the primary ones among them on
    the same data: it stands if the adjusted p-value is at most 1 − ``confidence``, and is
    ``inconclusive`` otherwise. Secondary claims are not corrected, and no finding by themselves.

    Args:
        tables: Data frames by the names of tables.
        claims: What is claimed.
        settings: ``confidence``, ``resamples`` and ``seed`` of the intervals; ``minimum_seeds``
            below which no verdict is given.
    """
    models = tables["reconstruction"][RUN].drop_duplicates()
    runs = {}
    for dataset, representation in models.itertuples(index=False):
        several = (models["dataset"] == dataset).sum() > 1
        label = f"{dataset}/{representation}" if several else dataset
        runs[label] = _Run(tables, dataset, representation)
    parts = [
        pd.DataFrame([row for claim in claims for row in _rows(run, claim, settings)]).assign(
            dataset=label
        )
        for label, run in runs.items()
    ]
    if len(runs) > 1:
        parts.append(pd.DataFrame(_pooled(runs, claims, settings)))
    if not any(map(len, parts)):
        return pd.DataFrame(columns=COLUMNS)
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    table = table.reindex(columns=COLUMNS)
    corrected = table[table["role"] == "primary"].groupby("dataset")["p_value"].transform(holm)
    falls = corrected.reindex(table.index) > 1 - settings["confidence"]
    return table.assign(adjusted=table["verdict"].mask(falls, "inconclusive"))


class Measured(NamedTuple):
    """What a claim over seeds is judged by.

    Attributes:
        values: by seed; NaN where a seed has none.
        control: the mean of what a difference is taken from.
        remarks: what is said of it.
        matched: whether the control is as good as it has to be.
        beside: what else differs, in words.
    """

    values: "pd.Series[float]"
    control: float = np.nan
    remarks: tuple[str, ...] = ()
    matched: bool = True
    beside: str = ""


def _rows(run: "_Run", claim: Claim, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a claim on one data set: none, one, or one for every oracle."""
    if claim.pooled:
        return
    described = _described(claim) | {"statement": run.worded(claim.statement)}
    if run.leaves_out(claim):
        yield described | {
            "rule": "left out: it needs an oracle, and the samples have no labels to train one",
            "verdict": LEFT_OUT,
        }
    elif claim.over == "rows":
        if found := run.each(claim):
            yield described | found
    elif claim.by_oracle:
        for oracle in run.oracles(claim):
            if (measured := run.measure(claim, oracle)) is not None:
                yield described | {
                    "claim": f"{claim.id}_{oracle}",
                    "statement": f"{described['statement'].rstrip('.')}, by the oracle {oracle}.",
                    **_judged(claim, measured, settings),
                }
    elif (measured := run.measure(claim)) is not None:
        yield described | _judged(claim, measured, settings)


def _pooled(
    runs: Mapping[str, "_Run"], claims: Sequence[Claim], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Claims about the mean over data sets, where there are several that have what is compared."""
    rows = []
    for claim in claims:
        found = {label: run.measure(claim) for label, run in runs.items() if claim.pooled}
        held = {label: measured for label, measured in found.items() if measured is not None}
        if len(held) < 2:
            continue
        values = pd.concat([measured.values for measured in held.values()], axis=1)
        pooled = Measured(
            values.mean(axis=1, skipna=False),
            remarks=tuple(remark for measured in held.values() for remark in measured.remarks),
            matched=all(measured.matched for measured in held.values()),
            beside="; ".join(f"{k}: {held[k].beside}" for k in held if held[k].beside),
        )
        rows.append(
            _described(claim) | {"dataset": " + ".join(held)} | _judged(claim, pooled, settings)
        )
    return rows


def _described(claim: Claim) -> dict[str, Any]:
    return {
        "claim": claim.id,
        "part": claim.part,
        "role": claim.role,
        "paper": claim.paper,
        "statement": claim.statement,
        "metric": claim.label,
    }


def _judged(claim: Claim, measured: Measured, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A claim judged by the interval of a mean over seeds; infinity is no value, as NaN is none."""
    seeds = measured.values
    values = seeds[np.isfinite(seeds)]
    interval = bootstrap_interval(
        values, settings["confidence"], settings["resamples"], settings["seed"]
    )
    margin = f" ± {claim.margin:g}" if claim.direction == "within" else ""
    remarks = [
        f"supported if the {settings['confidence']:.0%} bootstrap interval over {len(seeds)} "
        f"paired seeds lies {claim.direction} {claim.bound:g}{margin}",
        *measured.remarks,
    ]
    if len(values) < len(seeds):
        remarks.append(f"defined for {len(values)} of {len(seeds)} seeds only")
    if len(seeds) < settings["minimum_seeds"]:
        remarks.append(f"{settings['minimum_seeds']} seeds are needed for a verdict")
    valid = measured.matched and len(values) == len(seeds) >= settings["minimum_seeds"]
    # The nearer end of the margin decides, inside of it and outside.
    ends = [claim.bound - claim.margin, claim.bound + claim.margin]
    return {
        "estimate": interval.estimate,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "rule": "; ".join(remarks),
        "verdict": verdict(interval, claim.direction, claim.bound, claim.margin)
        if valid
        else "inconclusive",
        "p_value": max(student_p(values, end) for end in ends) if valid else np.nan,
        "bound": claim.bound,
        "control": measured.control,
        "beside": measured.beside,
    }


class _Run:
    """The tables of one data set in one representation."""

    def __init__(
        self, tables: Mapping[str, pd.DataFrame], dataset: str, representation: str
    ) -> None:
        self.tables = {
            name: _where(table, {"dataset": dataset, "representation": representation})
            for name, table in tables.items()
        }
        self.is_of_images = representation in IMAGES
        self.judged = not any(
            (table["oracle"] == UNJUDGED).any()
            for table in self.tables.values()
            if "oracle" in table
        )

    def worded(self, statement: str) -> str:
        """The statement as it is said of these data."""
        return statement if self.is_of_images else statement.replace("images", "data")

    def oracles(self, claim: Claim) -> list[str]:
        """Who judges what a claim is about."""
        table = self.tables.get(claim.read.table)
        return [] if table is None else list(table["oracle"].unique())

    def leaves_out(self, claim: Claim) -> bool:
        """Whether a claim has what it compares, and no oracle that it needs."""
        if self.judged or claim.over == "rows":
            return False
        what = claim.what
        if claim.sampler is not None:  # no setting was chosen, but any of them says the same
            name = str(claim.sampler.get("family", "volume")).partition(":")[0]
            what = {"variant": what["variant"], "sampler": name}
        sides = [what] if claim.against is None else [what, claim.against]
        values = [self._by_seed(claim.read, side) for side in sides]
        return all(len(each) and each.isna().all() for each in values)

    def each(self, claim: Claim) -> dict[str, Any] | None:
        """A claim judged at every row by itself."""
        table = self.tables.get(claim.read.table)
        if table is None or claim.read.metric not in table:
            return None
        if (rows := _where(table, claim.what)).empty:
            return None
        values = rows[claim.read.metric].to_numpy()
        bounds = np.full(len(rows), claim.bound)
        if claim.tolerance:
            bounds = rows[claim.tolerance].to_numpy()
        above = claim.direction == "above"
        holds = bool(np.all(values >= bounds if above else values <= bounds))
        return {
            "estimate": values.min() if above else values.max(),  # NaN if any is, and then fails
            "rule": f"supported if at {'least' if above else 'most'} {bounds[0]:g} for each of "
            f"{len(rows)} models",
            "verdict": "supported" if holds else "not supported",
            "bound": bounds[0],
        }

    def measure(self, claim: Claim, oracle: str | None = None) -> Measured | None:
        """The values of a claim over seeds; None where the run lacks what it compares."""
        chosen = self._chosen(claim)
        if chosen is None:
            return None
        what, remarks = chosen
        only = {} if oracle is None else {"oracle": oracle}
        if claim.at:
            return self._at_equal_variation(claim, what | only, remarks)
        ours = self._by_seed(claim.read, what | only)
        if claim.against is None:
            return Measured(ours, remarks=remarks) if len(ours) else None
        theirs = self._by_seed(claim.read, claim.against | only)
        if ours.empty or theirs.empty:
            return None
        ratio = claim.effect == "ratio"
        values = ours / theirs if ratio else ours - theirs
        matched, told = self._matched(claim, values.index)
        return Measured(
            values,
            np.nan if ratio else theirs.mean(),
            (*remarks, *told),
            matched,
            ", ".join(self._beside(claim)),
        )

    def _chosen(self, claim: Claim) -> tuple[dict[str, Any], tuple[str, ...]] | None:
        """What a claim is about, with the chosen setting of its sampler, if it has one."""
        if claim.sampler is None:
            return claim.what, ()
        variant = {"variant": claim.what["variant"]}
        table = self.tables.get("chosen")
        if table is None or (rows := _where(table, variant | claim.sampler)).empty:
            return None
        family, setting = map(str, rows[["family", "setting"]].iloc[0])
        told = setting if "family" in claim.sampler else f"{family} {setting}"
        place = (
            variant | {"split": "test", "family": family}
            if claim.at
            else claim.what | {"sampler": family.partition(":")[0]}
        )
        return place | {"setting": setting}, (f"setting {told}, chosen on validation draws",)

    def _at_equal_variation(
        self, claim: Claim, what: Mapping[str, Any], remarks: tuple[str, ...]
    ) -> Measured | None:
        """Differences from a control that varies as much; of several, seed by seed the smallest."""
        if (table := self.tables.get("pareto")) is None:
            return None
        table = _where(table, {**what, "score": claim.read.metric, "control": claim.control})
        found = [_where(table, {"variation": variation}) for variation in claim.at]
        if any(rows.empty for rows in found):
            return None
        differences = [_means(rows, "difference") for rows in found]
        controls = [_means(rows, "control_outliers").mean() for rows in found]
        return Measured(
            pd.concat(differences, axis=1).max(axis=1, skipna=False),
            float(np.mean(controls)),
            remarks,
        )

    def _by_seed(self, read: Read, what: Mapping[str, Any]) -> "pd.Series[float]":
        """A metric by seed, the mean over oracles; empty where a run has none of it."""
        table = self.tables.get(read.table)
        if table is None or read.metric not in table:
            return pd.Series(dtype=float)
        return _means(_where(table, what), read.metric)

    def _both(self, read: Read, claim: Claim) -> tuple["pd.Series[float]", "pd.Series[float]"]:
        """Another metric of the variant that a claim is about, and of its control."""
        assert claim.against is not None
        ours, theirs = (
            self._by_seed(read, read.where | {"variant": side["variant"]})
            for side in (claim.what, claim.against)
        )
        return ours, theirs

    def _matched(self, claim: Claim, seeds: "pd.Index[int]") -> tuple[bool, tuple[str, ...]]:
        """Whether a control is as good as it has to be, in the mean over seeds, with a remark."""
        matched, remarks = True, []
        for read, limit in claim.matched:
            ours, theirs = self._both(read, claim)
            relative = (theirs / ours - 1).reindex(seeds)
            variant, control = (side["variant"] for side in (claim.what, claim.against or {}))
            name, known = f"its test {read.metric.upper()}", int(np.isfinite(relative).sum())
            holds = known == len(seeds) and bool(abs(relative.mean()) <= limit)
            matched &= holds
            remarks.append(
                f"{control} {'is' if holds else 'is not'} matched, {name} "
                f"differs from that of {variant} by {relative.mean():+.1%} in the mean over the "
                f"seeds (limit {limit:.0%}), by {relative.min():+.1%} to {relative.max():+.1%} in "
                "each"
                if known == len(seeds)
                else f"{control} is not matched, {name} and that of {variant} are known for "
                f"{known} of {len(seeds)} seeds only"
            )
        return matched, tuple(remarks)

    def _beside(self, claim: Claim) -> Iterator[str]:
        """What else differs from the control, in the mean over the seeds."""
        for read in claim.beside:
            ours, theirs = self._both(read, claim)
            if len(ours) and len(theirs):
                yield f"{read.metric} {(ours / theirs - 1).mean():+.1%}"


def _where(table: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    """The rows with those values."""
    held = np.ones(len(table), dtype=bool)
    for column, value in values.items():
        held &= (table[column] == value).to_numpy(bool)
    return table[held]


def _means(rows: pd.DataFrame, column: str) -> "pd.Series[float]":
    """Means over oracles by seed; NaN where one has no value or no row: seeds stay comparable."""
    by_seed = rows.groupby("seed")[column]
    means = by_seed.agg(lambda values: values.mean(skipna=False)).astype(float)
    return means.where(np.isfinite(means) & (by_seed.size() == by_seed.size().max()))
