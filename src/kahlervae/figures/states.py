"""The geometry that models of states have learned, against the known one."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from kahlervae.figures.looks import POTENTIALS, Look, ordered
from kahlervae.figures.sources import MODEL, Run, given, rows
from kahlervae.figures.style import canvas, counted, from_zero, handle, legend, seeds, summary

__all__ = ["states"]

METRICS = {
    "real": Look("decoder, whole Fisher form", "#000000", "D"),
    "fisher": Look("decoder, Hermitian part", "#009E73", "<"),
    **POTENTIALS,
}
ERRORS = {
    "length_error": "error: lengths",
    "distance_error": "error: distances",
    "metric_error": "error: metric tensor",
    "volume_error": "error: log volume (nats)",
}
DEFECTS = {
    "hermitian_defect": Look("defect of the decoder", "#000000", "o"),
    "chart_defect": Look("defect of the chart", "#8C8C8C", "s"),
}


def states(inputs: Sequence[Path], run: Run | None = None) -> Figure:
    """Errors of lengths, distances, tensor and volume, and the Hermitian defects.

    ``inputs``: the gathered ``states.csv``. Dots are seeds; markers and bars their mean and its
    95 % interval.
    """
    (path,) = given(inputs, "states.csv")
    frame = rows(path, [*MODEL, "metric", *ERRORS, *DEFECTS], run)
    metrics = ordered(frame["metric"], METRICS)
    count = frame["seed"].nunique()
    height = (0.08 * len(metrics) + 0.1) * frame["variant"].nunique() + 1.2
    figure, (axes,) = canvas(1, len(ERRORS) + 1, height, sharey=True)
    for (column, title), ax in zip(ERRORS.items(), axes, strict=False):
        seeds(ax, frame, column, "metric", METRICS)
        ax.set_title(title)
    one = frame[frame["metric"] == metrics[0]]
    defects = one.melt(MODEL, list(DEFECTS), "defect", "value")
    seeds(axes[-1], defects, "value", "defect", DEFECTS)
    axes[-1].set_title("Hermitian defect")
    for ax in axes:
        from_zero(ax)
    legend(
        figure,
        [handle(METRICS[name]) for name in metrics],
        [handle(look) for look in DEFECTS.values()],
        title=f"dots: {counted(count, 'seed')}; markers: {summary(count)}",
    )
    return figure
