"""One look for all figures: sizes, fonts, and the colours of variants, samplers and potentials.

Sizes are in inches at the printed size, so that the text of every figure has the same height on
paper. Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/); every colour has a marker or
a line style that says the same, so that a figure survives a black and white print.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from scipy import special

from kahlervae.errors import InputError
from kahlervae.evaluate import UNJUDGED
from kahlervae.storage import read_arrays, read_table

__all__ = [
    "GROUP",
    "LEFT_OUT",
    "MODEL",
    "ONE_COLUMN",
    "POTENTIALS",
    "SAMPLERS",
    "TWO_COLUMNS",
    "VARIANTS",
    "VERDICTS",
    "Look",
    "along_x",
    "arrays",
    "blank",
    "canvas",
    "counted",
    "dodged",
    "grouped",
    "half_weight",
    "handle",
    "judged_by",
    "legend",
    "mean_interval",
    "ordered",
    "say_left_out",
    "seeds",
    "style",
    "summary",
    "table",
    "titled",
]

ONE_COLUMN = 3.4
TWO_COLUMNS = 7.0

GROUP = ["dataset", "representation"]
"""Columns that tell one experiment from another; figures give each its own row of panels."""
MODEL = [*GROUP, "variant", "seed"]
"""Columns that identify a model, in every table and in the metadata of every array file."""


class Look(NamedTuple):
    """How one category is drawn, everywhere."""

    label: str
    color: str
    marker: str
    line: Any = "-"


VARIANTS = {
    "real": Look("real", "#5F5F5F", "s", (0, (1, 1))),
    "complex": Look("complex", "#0072B2", "o", "-"),
    "beta": Look("β-VAE", "#E69F00", "^", (0, (5, 1.5))),
    "mixture": Look("learned prior", "#56B4E9", "p", (0, (8, 2))),
    "kahler": Look("Kähler", "#D55E00", "D", (0, (6, 1, 1, 1))),
    "fisher": Look("Fisher", "#009E73", "v", (0, (3, 1))),
    "tie": Look("Kähler, tie alone", "#8C564B", ">", (0, (2, 1))),
    "kahler_beta": Look("Kähler, β", "#999933", "<", (0, (1, 2))),
    "volume": Look("Kähler, β, by volume", "#805080", "H", (0, (4, 1, 1, 1))),
    "constant": Look("constant metric", "#101010", "X", (0, (4, 2, 1, 2))),
    "isometric": Look("isometric", "#800000", "d", (0, (2, 1, 1, 1))),
    "holomorphic": Look("holomorphic", "#CC79A7", "P", (0, (3, 1, 1, 1, 1, 1))),
    "pluriharmonic": Look("pluriharmonic", "#400060", "h", (0, (6, 1, 1, 1, 1, 1))),
    "unconstrained": Look("unconstrained", "#6000E0", "*", (0, (1, 1, 3, 1))),
    "unconstrained_beta": Look("unconstrained, β", "#A070F0", "8", (0, (5, 1, 1, 1))),
}
"""Model variants, in the order of the legends."""

SAMPLERS = {
    "prior": Look("prior", "#000000", "o"),
    "truncated": Look("truncated prior", "#000000", "."),
    "posterior_mixture": Look("aggregated posterior", "#000000", "s"),
    "gmm": Look("Gaussian mixture", "#000000", "^"),
    "ratio": Look("classifier", "#000000", "p"),
    "volume": Look("volume-weighted", "#000000", "D"),
    "riemannian": Look("Riemannian", "#000000", "v"),
}
"""Samplers, told apart by marker; colour is left to the variant."""

POTENTIALS = {
    "fitted": Look("fitted potential", "#332288", "o"),
    "posterior": Look("posterior potential", "#AA4499", "s"),
    "constant": Look("best constant metric", "#888888", "x"),
    "anchors": Look("exact metrics of anchors", "#60A8F0", "v"),
    "log_partition": Look("log-partition function", "#DDAA33", "+"),
    "hermitian": Look("any Hermitian metric (control)", "#117733", "^"),
}
"""Metrics that are compared with the Fisher metric."""

VERDICTS = {
    "supported": Look("supported", "#0072B2", "o"),
    "inconclusive": Look("inconclusive", "#999999", "s"),
    "not supported": Look("not supported", "#D55E00", "X"),
    "left out": Look("left out", "#BBBBBB", "x"),
}
"""Verdicts; the last one only where it occurs."""

LEFT_OUT = "left out: no labels"
"""What figures say in place of what only an oracle can tell."""

_RC: Any = {
    "figure.dpi": 200,
    "savefig.dpi": 200,
    "savefig.bbox": None,
    "pdf.fonttype": 42,
    "pdf.compression": 6,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "mathtext.fontset": "dejavusans",
    "font.size": 7.0,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.0,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.title_fontsize": 6.5,
    "legend.frameon": False,
    "figure.titlesize": 8.0,
    "text.color": ".15",
    "axes.labelcolor": ".15",
    "xtick.color": ".15",
    "ytick.color": ".15",
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#333333",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "lines.solid_capstyle": "round",
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
    "image.interpolation": "nearest",
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 5),
}


@contextmanager
def style() -> Iterator[None]:
    """The settings under which figures are both drawn and saved."""
    # It tells of every table of every font that it embeds.
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    with mpl.rc_context(_RC):
        yield


def blank(width: float, height: float) -> Figure:
    """An empty figure of ``width`` × ``height`` inches.

    It is not registered with pyplot: nothing to close, no window, no global state.
    """
    engine = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.03, hspace=0.03)
    return Figure(figsize=(width, height), layout=engine)


def canvas(
    rows: int, columns: int, *, width: float, height: float, **subplots: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of ``width`` × ``height`` inches with a (rows, columns) array of axes."""
    figure = blank(width, height)
    return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


def table(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """A table that has at least the named columns and one row.

    Raises:
        InputError: a column is missing, or the table is empty.
    """
    frame = read_table(path)
    for column in columns:
        if column not in frame.columns:
            raise InputError(
                f"{path} has no column {column!r}, which the figure needs: make the table again."
            )
    if frame.empty:
        raise InputError(f"{path} has no rows: make the table again.")
    return frame


def arrays(path: Path, names: Iterable[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and the model's identity from an array file.

    Raises:
        InputError: an array or a key of the identity is missing.
    """
    content, metadata = read_arrays(path)
    for name in names:
        if name not in content:
            raise InputError(
                f"{path} has no array {name!r}, which the figure needs: make it again."
            )
    for key in MODEL:
        if key not in metadata:
            raise InputError(f"{path} does not say the {key} of its model: make it again.")
    return content, metadata


def ordered(names: Iterable[str], looks: dict[str, Look]) -> list[str]:
    """The distinct names, in the order of ``looks``.

    Raises:
        InputError: a name has no look.
    """
    names = set(names)
    if unknown := sorted(names - looks.keys()):
        raise InputError(f"No figure knows {unknown[0]!r}: known are {', '.join(looks)}.")
    return [name for name in looks if name in names]


def grouped(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The experiments of a table, each with its name; an only one goes without."""
    groups = list(frame.groupby(GROUP, sort=False))
    return [(", ".join(map(str, key)) if len(groups) > 1 else "", part) for key, part in groups]


def titled(group: str, label: str) -> str:
    """An axis label, below the name of the experiment if it has one."""
    return f"{group}\n{label}" if group else label


def mean_interval(values: Iterable[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student t interval of the mean; NaN limits below three finite values.

    Two values have an interval 12.7 times as wide as their distance, which says nothing and would
    set the scale of every axis.
    """
    finite = np.asarray(list(values), dtype=float)
    finite = finite[np.isfinite(finite)]
    mean = finite.mean() if finite.size else np.nan
    if finite.size < 3:
        return mean, np.nan, np.nan
    # The quantile by scipy.special: scipy.stats would take half of the time of a figure to load.
    student = special.stdtrit(finite.size - 1, (1 + level) / 2)
    half = student * finite.std(ddof=1) / np.sqrt(finite.size)
    return mean, mean - half, mean + half


def seeds(ax: Axes, x: float, values: Iterable[float], kind: Look, **points: Any) -> None:
    """One point a seed at ``x``, with their mean and its 95 % interval beside them."""
    values = np.asarray(list(values), dtype=float)
    ax.plot(
        np.full(values.size, x - 0.05),
        values,
        linestyle="none",
        marker=kind.marker,
        **{"color": kind.color, "ms": 3, "mew": 0.6, "alpha": 0.6, **points},
    )
    mean, low, high = mean_interval(values)
    ax.plot([x + 0.06], [mean], "_", color=kind.color, ms=6, mew=1.6)
    ax.vlines(x + 0.06, low, high, color=kind.color, lw=1.0)


def dodged(
    ax: Axes,
    frame: pd.DataFrame,
    variants: Sequence[str],
    by: str,
    names: Sequence[str],
    looks: dict[str, Look],
    value: str,
) -> None:
    """Variants along x, the categories ``names`` of column ``by`` side by side, seeds as points."""
    step = 0.8 / max(len(names), 1)
    for i, variant in enumerate(variants):
        for j, name in enumerate(names):
            part = frame[(frame["variant"] == variant) & (frame[by] == name)]
            seeds(ax, i + (j - (len(names) - 1) / 2) * step, part[value], looks[name])
    along_x(ax, variants)


def along_x(ax: Axes, variants: Sequence[str]) -> None:
    """An x axis of variants, one a unit; labels that do not fit side by side are turned."""
    ax.set_xticks(range(len(variants)), [VARIANTS[variant].label for variant in variants])
    if len(variants) > 4:
        for text in ax.get_xticklabels():
            text.set(rotation=30, ha="right", rotation_mode="anchor")
    ax.set_xlim(-0.6, len(variants) - 0.4)
    ax.grid(False, axis="x")


def say_left_out(ax: Axes, values: "pd.Series[float]") -> None:
    """Say in a panel without a value that there is no oracle, hence none."""
    if not np.isfinite(values).any():
        for line in ax.lines:
            line.set_visible(False)
        middle: dict[str, Any] = {"transform": ax.transAxes, "ha": "center", "va": "center"}
        ax.text(0.5, 0.5, LEFT_OUT, color="#888888", **middle)
        ax.set_yticks([])


def judged_by(frame: pd.DataFrame) -> str:
    """``mean of 2 oracles``, of those that judged anything; ``no oracle``."""
    count = frame.loc[frame["oracle"] != UNJUDGED, "oracle"].nunique()
    return f"mean of {counted(count, 'oracle')}" if count else "no oracle"


def half_weight(alphas: Iterable[float]) -> float:
    """The volume weight nearest to half of the strongest: the one to show where one is shown."""
    alphas = sorted(alphas)
    return min(alphas, key=lambda alpha: abs(alpha - max(alphas, key=abs) / 2))


def summary(seeds: int) -> str:
    """What is drawn of so many seeds, see :func:`mean_interval`."""
    return "mean and 95 % interval" if seeds > 2 else "mean"


def counted(count: int, noun: str) -> str:
    """``1 seed``, ``5 seeds``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def legend(figure: Figure, *rows: Sequence[Line2D], title: str = "") -> None:
    """A legend below the panels, within the figure; every sequence of handles begins a row."""
    for columns in range(max(map(len, rows)), 0, -1):
        lines = [row[k : k + columns] for row in rows for k in range(0, len(row), columns)]
        filler = Line2D([], [], linestyle="none", label=" ")
        padded = [[*line, *[filler] * (columns - len(line))] for line in lines]
        box = figure.legend(
            handles=[line[column] for column in range(columns) for line in padded],
            loc="outside lower center",
            ncols=columns,
            title=title,
        )
        if columns == 1 or box.get_window_extent().width <= figure.bbox.width:
            return
        box.remove()


def handle(look: Look, *, line: bool = False, **changes: Any) -> Line2D:
    """A legend entry for a look."""
    properties = {
        "color": look.color,
        "marker": look.marker,
        "linestyle": look.line if line else "none",
        "label": look.label,
    }
    return Line2D([], [], **{**properties, **changes})
