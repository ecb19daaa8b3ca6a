"""Where the time of a run goes: the benchmark files and logs of its jobs, gathered by rule."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from kahlervae.errors import InputError
from kahlervae.startup import read_startup
from kahlervae.storage import read_table

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "busy_seconds",
    "compare_rules",
    "measure_efficiency",
    "read_jobs",
    "rule_table",
    "summarise_rules",
]


def read_jobs(benchmarks: Iterable[Path], root: Path, logs: Path) -> pd.DataFrame:
    """One row a job: ``rule``, ``end``, ``wall``, ``cpu``, ``start_up`` (seconds), ``memory`` (MB).

    A job ended when its benchmark file was written. CPU seconds are those that the command notes
    at the end of its log, since Snakemake samples them twice a second at best; where the log is
    gone, those of Snakemake.

    Args:
        benchmarks: ``root``/<rule>/….tsv; files that do not exist are passed over, for not every
            combination of wildcards is a job.
        root: the folder of the benchmark files.
        logs: the folder of the logs, whose names are those of the benchmark files.

    Raises:
        InputError: there is no benchmark file, or one cannot be read or lies elsewhere.
    """
    rows = []
    for path in filter(Path.exists, benchmarks):
        if not path.is_relative_to(root):
            raise InputError(f"{path} does not lie in {root}: name the folder of all of them.")
        name = path.relative_to(root).with_suffix("")
        log = logs / f"{name}.log"
        cpu, start_up = read_startup(log.read_text(errors="replace") if log.is_file() else "")
        try:
            measured = pd.read_csv(path, sep="\t", na_values=["-", "NA"]).iloc[0]
            wall, memory = float(measured["s"]), float(measured["max_rss"])
            cpu = float(measured["cpu_time"]) if np.isnan(cpu) else cpu
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise InputError(f"{path} is not a benchmark file: delete it and run again.") from error
        rows.append((name.parts[0], path.stat().st_mtime, wall, cpu, start_up, memory))
    if not rows:
        raise InputError(f"there are no benchmark files in {root}: run the workflow first.")
    return pd.DataFrame(rows, columns=["rule", "end", "wall", "cpu", "start_up", "memory"])


def summarise_rules(jobs: pd.DataFrame) -> pd.DataFrame:
    """One row a rule, the longest first: jobs, wall and CPU seconds, share of the start-up, memory.

    The share is that of the CPU seconds which went into the interpreter and its imports. CPU
    seconds are NaN for a rule with a job that does not tell; the share is that of those which do.
    """
    rules = jobs.groupby("rule")
    table = pd.DataFrame(
        {
            "jobs": rules.size(),
            "wall_seconds_total": rules["wall"].sum(),
            "wall_seconds_median": rules["wall"].median(),
            "wall_seconds_max": rules["wall"].max(),
            "cpu_seconds": rules["cpu"].sum(skipna=False),
            "start_up_share": rules[["start_up", "cpu"]].apply(_start_up_share),
            "peak_memory_mb": rules["memory"].max(),
        }
    )
    return table.sort_values("wall_seconds_total", ascending=False).reset_index()


def measure_efficiency(jobs: pd.DataFrame, cores: int, calibration: float) -> pd.DataFrame:
    r"""How far the cores were used, in one row, and how fast they are.

    .. math:: \text{occupancy} = \frac{\sum \text{wall}}{\text{cores} \cdot T}, \qquad
              \text{efficiency} = \frac{\sum \text{CPU}}{\text{cores} \cdot T}

    T is the time during which a job ran, see :func:`busy_seconds`; no less than what the jobs need
    on all cores, for a file that was touched since does not tell when its job ended. Occupancy
    tells whether there were jobs to run, efficiency whether these jobs computed. ``calibration`` is
    what :func:`~kahlervae.measure.forecast.calibrate` took on the same machine.
    """
    wall, cpu = jobs["wall"].sum(), jobs["cpu"].sum(skipna=False)
    busy = max(busy_seconds(jobs["end"] - jobs["wall"], jobs["end"]), wall / cores)
    row = {
        "cores": cores,
        "jobs": len(jobs),
        "busy_seconds": busy,
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "start_up_share": _start_up_share(jobs),
        "occupancy": wall / (cores * busy),
        "efficiency": cpu / (cores * busy),
        "calibration_seconds": calibration,
    }
    return pd.DataFrame([row])


def _start_up_share(jobs: pd.DataFrame) -> float:
    """Of the jobs whose logs tell, or NaN if none does."""
    told = jobs.dropna(subset="start_up")
    return told["start_up"].sum() / told["cpu"].sum()


def busy_seconds(starts: ArrayLike, ends: ArrayLike) -> float:
    """Length of the union of intervals: time with no job, as between two runs, is left out."""
    order = np.argsort(starts)
    begin = np.asarray(starts)[order]
    end = np.maximum.accumulate(np.asarray(ends)[order])
    gaps = np.maximum(begin[1:] - end[:-1], 0).sum()
    return float(end[-1] - begin[0] - gaps)


def compare_rules(reference: Path | str, results: Path | str) -> pd.DataFrame:
    """CPU seconds of a run and of the one that is kept, by rule and in all, the longest first.

    Rules that one of the two lacks are left out, and of no rule is there a row if one of them was
    not measured.

    Args:
        reference: the folder of the kept run, with ``tables/runtime.csv``.
        results: that of the other.

    Returns:
        ``rule``, the last of them ``all``; ``reference``, ``fresh``, and their ``ratio``.

    Raises:
        InputError: a table is damaged.
    """
    paths = [Path(folder) / "tables/runtime.csv" for folder in (reference, results)]
    if not all(path.exists() for path in paths):
        return pd.DataFrame(columns=["rule", "reference", "fresh", "ratio"])
    kept, fresh = map(_read_seconds, paths)
    both = pd.DataFrame({"reference": kept, "fresh": fresh}).dropna().sort_values("fresh")
    both = both[::-1]
    if len(both):
        both.loc["all"] = both.sum()
    return both.assign(ratio=both["fresh"] / both["reference"]).rename_axis("rule").reset_index()


def _read_seconds(path: Path) -> "pd.Series[float]":
    """CPU seconds by rule."""
    rules = read_table(path, ["rule"], ["cpu_seconds"])
    if rules["rule"].duplicated().any():
        raise InputError(f"{path} holds a rule twice: delete it and run again.")
    return rules.set_index("rule")["cpu_seconds"].astype(float)


def rule_table(rules: pd.DataFrame) -> "Table":
    """What :func:`compare_rules` found, of rules with a hundredth of the time or more."""
    from rich.table import Table

    table = Table(title="CPU seconds", title_justify="left", pad_edge=False, box=None)
    for name in rules.columns:
        table.add_column(name, justify="left" if name == "rule" else "right")
    for row in rules[rules["fresh"] >= 0.01 * rules["fresh"].max()].itertuples():
        table.add_row(row.rule, f"{row.reference:.0f}", f"{row.fresh:.0f}", f"{row.ratio:.2f}")
    return table
