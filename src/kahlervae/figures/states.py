"""The geometry that models of states have learned, against the known one."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from kahlervae.figures.style import (
    MODEL,
    POTENTIALS,
    TWO_COLUMNS,
    VARIANTS,
    Look,
    canvas,
    counted,
    dodged,
    grouped,
    handle,
    legend,
    ordered,
    summary,
    table,
    titled,
)

__all__ = ["states"]

METRICS = {
    "real": Look("decoder, whole Fisher form", "#000000", "D"),
    "fisher": Look("decoder, Hermitian part", "#009E73", "v"),
    **POTENTIALS,
}
ERRORS = {
    "length_error": "lengths of lines",
    "distance_error": "geodesic distances",
    "metric_error": "metric tensor",
    "volume_error": "log volume (nats)",
}
DEFECTS = {
    "hermitian_defect": Look("defect of the decoder", "#000000", "o"),
    "chart_defect": Look("defect of the chart", "#8C8C8C", "s"),
}


def states(inputs: Sequence[Path]) -> Figure:
    """Errors of lengths, distances, tensor and volume, and the Hermitian defects.

    ``inputs``: the gathered ``states.csv``. Points are seeds; bars their mean and its
    95 % interval.
    """
    (path,) = inputs
    frame = table(path, [*MODEL, "metric", *ERRORS, *DEFECTS])
    metrics = ordered(frame["metric"], METRICS)
    count = frame["seed"].nunique()
    groups = grouped(frame)
    figure, axes = canvas(
        len(groups), len(ERRORS) + 1, width=TWO_COLUMNS, height=1.9 * len(groups) + 0.7
    )
    for (group, held), line in zip(groups, axes, strict=True):
        variants = ordered(held["variant"], VARIANTS)
        for (column, title), ax in zip(ERRORS.items(), line, strict=False):
            dodged(ax, held, variants, "metric", metrics, METRICS, column)
            ax.set_title(title)
        line[0].set_ylabel(titled(group, "error, median"))
        one = held[held["metric"] == metrics[0]]
        defects = one.melt(list(MODEL), list(DEFECTS), "defect", "value")
        dodged(line[-1], defects, variants, "defect", list(DEFECTS), DEFECTS, "value")
        line[-1].set_title("Hermitian defect")
        for ax in line:
            ax.update_datalim([(0, 0)])  # an error of zero is the point of reference
            ax.autoscale_view(scalex=False)
            ax.set_ylim(bottom=0)
    legend(
        figure,
        [handle(METRICS[name]) for name in metrics],
        [handle(look) for look in DEFECTS.values()],
        title=f"points: {counted(count, 'seed')}; bars: {summary(count)}",
    )
    return figure
