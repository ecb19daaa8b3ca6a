"""Figure of the run itself: where its time went."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from kahlervae.figures.style import TWO_COLUMNS, Look, canvas, counted, handle, legend, table

__all__ = ["runtime"]

CPU = ["cpu_seconds", "start_up_share"]

PARTS = {
    "start": Look("starting (CPU)", "#D55E00", "s"),
    "work": Look("working (CPU)", "#0072B2", "s"),
    "wait": Look("waiting", "#C8C8C8", "s"),
}


def runtime(inputs: Sequence[Path]) -> Figure:
    """Seconds of all jobs of a rule, in parts, and those of one job.

    ``inputs``: ``runtime.csv`` and ``efficiency.csv``.
    """
    frame = table(
        inputs[0],
        ["rule", "jobs", *(f"wall_seconds_{x}" for x in ("total", "median", "max")), *CPU],
    ).iloc[::-1]
    run = table(
        inputs[1], ["cores", "jobs", "busy_seconds", "occupancy", "efficiency", "start_up_share"]
    ).iloc[0]
    figure, axes = canvas(1, 2, width=TWO_COLUMNS, height=1.0 + 0.17 * len(frame), sharey=True)
    total, single = axes[0]
    labels = [f"{row.rule} ({row.jobs:,})" for row in frame.itertuples()]
    start = (frame["start_up_share"] * frame["cpu_seconds"]).fillna(0)
    # More than one thread, or a coarse clock, may give more CPU than wall seconds.
    work = frame["cpu_seconds"].fillna(0) - start
    wait = (frame["wall_seconds_total"] - start - work).clip(lower=0)
    left = 0 * start
    for look, width in zip(PARTS.values(), (start, work, wait), strict=True):
        total.barh(labels, width, left=left, color=look.color, linewidth=0)
        left = left + width
    total.set(xlabel="all jobs of a rule (s)", title=counted(int(run["jobs"]), "job"))
    single.hlines(
        labels, frame["wall_seconds_median"], frame["wall_seconds_max"], color="#0072B2", lw=1.0
    )
    single.plot(frame["wall_seconds_median"], labels, "o", color="#0072B2", ms=3)
    single.set(xlabel="one job (s)", title="median and longest job", xscale="log")
    for ax in (total, single):
        ax.grid(False, axis="y")
    legend(
        figure,
        [handle(look) for look in PARTS.values()],
        title=f"{counted(int(run['cores']), 'core')}, {run['busy_seconds']:,.0f} s: "
        f"occupied {run['occupancy']:.0%}, computing {run['efficiency']:.0%}; "
        f"{run['start_up_share']:.0%} of the CPU time went into starting",
    )
    return figure
