"""Figure of the run itself: where its time went."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from kahlervae.figures.looks import Look
from kahlervae.figures.sources import given, table
from kahlervae.figures.style import canvas, counted, handle, legend

__all__ = ["runtime"]

CPU = ["cpu_seconds", "start_up_share"]

SHARES = {
    "occupancy": "occupied {:.0%}",
    "efficiency": "computing {:.0%}",
    "start_up_share": "{:.0%} of the CPU time went into starting",
}

PARTS = {
    "wait": Look("waiting", "#C8C8C8", "s"),
    "work": Look("working (CPU)", "#0072B2", "s"),
    "start": Look("starting (CPU)", "#D55E00", "s"),
}


def runtime(inputs: Sequence[Path]) -> Figure:
    """Seconds of all jobs of a rule, in parts, and those of one job.

    ``inputs``: ``runtime.csv`` and ``efficiency.csv``.
    """
    rules, whole = given(inputs, "runtime.csv", "efficiency.csv")
    frame = table(
        rules,
        ["rule", "jobs", *(f"wall_seconds_{x}" for x in ("total", "median", "max")), *CPU],
    )
    run = table(whole, ["cores", "jobs", "busy_seconds", *SHARES]).iloc[0]
    frame["rule"] = [f"{row.rule} ({row.jobs:,})" for row in frame.itertuples()]
    frame["start"] = (frame["start_up_share"] * frame["cpu_seconds"]).fillna(0)
    # More than one thread, or a coarse clock, may give more CPU than wall seconds.
    frame["work"] = frame["cpu_seconds"].fillna(0) - frame["start"]
    spent = frame["start"] + frame["work"]
    frame["wait"] = (frame["wall_seconds_total"] - spent).clip(lower=0).fillna(0)

    figure, ((total, single),) = canvas(1, 2, 1.0 + 0.17 * len(frame), sharey=True)
    sns.histplot(
        frame.melt("rule", list(PARTS), "part", "seconds"),
        y="rule",
        weights="seconds",
        hue="part",
        multiple="stack",
        palette={name: look.color for name, look in PARTS.items()},
        shrink=0.8,
        alpha=1,
        linewidth=0,
        legend=False,
        ax=total,
    )
    total.set(xlabel="all jobs of a rule (s)", ylabel="", title=counted(int(run["jobs"]), "job"))
    sns.pointplot(
        frame.melt("rule", ["wall_seconds_median", "wall_seconds_max"], "job", "seconds"),
        x="seconds",
        y="rule",
        estimator="min",
        errorbar=("pi", 100),
        color=PARTS["work"].color,
        linestyle="none",
        markersize=3,
        err_kws={"linewidth": 1.0},
        ax=single,
    )
    single.set(xlabel="one job (s)", ylabel="", title="median and longest job", xscale="log")
    for ax in (total, single):
        ax.grid(False, axis="y")
    told = [words.format(run[share]) for share, words in SHARES.items() if pd.notna(run[share])]
    legend(
        figure,
        [handle(PARTS[name]) for name in ("start", "work", "wait")],
        title=f"{counted(int(run['cores']), 'core')}, {run['busy_seconds']:,.0f} s: "
        + ", ".join(told),
    )
    return figure
