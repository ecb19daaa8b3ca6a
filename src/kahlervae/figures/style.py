"""The theme of all figures, and what seaborn lacks: seeds with their interval, legends of pages.

Sizes are in inches at the printed size, so that the text of every figure has the same height on
paper.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy import special

from kahlervae.evaluate import UNJUDGED
from kahlervae.figures.looks import LEFT_OUT, VARIANTS, Look, ordered

__all__ = [
    "PAGE",
    "WIDTH",
    "blank",
    "canvas",
    "counted",
    "drawn",
    "from_zero",
    "half_weight",
    "handle",
    "interval",
    "judged_by",
    "legend",
    "quartiles",
    "seeds",
    "style",
    "summary",
]

WIDTH = 7.0
"""Inches: both columns of a page."""
PAGE = 1.4 * WIDTH
"""The height that no figure exceeds."""

_RC: Any = {
    "figure.dpi": 200,
    "savefig.dpi": 200,
    "savefig.bbox": None,
    "pdf.fonttype": 42,
    "pdf.compression": 6,
    "mathtext.fontset": "dejavusans",
    "figure.titlesize": 8.0,
    "figure.labelsize": 6.5,
    "xtick.major.pad": 2.5,
    "ytick.major.pad": 2.5,
    "legend.frameon": False,
    "axes.edgecolor": "#333333",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.0,
    "image.interpolation": "nearest",
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 5),
}


@contextmanager
def style() -> Iterator[None]:
    """The theme under which figures are both drawn and saved."""
    # It tells of every table of every font that it embeds.
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    with mpl.rc_context():
        # The font comes with matplotlib: the same on every machine.
        font = {"font": "DejaVu Sans", "font_scale": 0.73}
        sns.set_theme("paper", "whitegrid", color_codes=False, rc=_RC, **font)
        yield


def blank(height: float) -> Figure:
    """An empty figure of the page's width, and of ``height`` inches but no higher than a page.

    It is not registered with pyplot: nothing to close, no window, no global state.
    """
    engine = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.03, hspace=0.03)
    return Figure(figsize=(WIDTH, min(height, PAGE)), layout=engine)


def canvas(lines: int, columns: int, height: float, **subplots: Any) -> tuple[Figure, np.ndarray]:
    """A figure of ``height`` inches with a (lines, columns) array of axes."""
    figure = blank(height)
    return figure, figure.subplots(lines, columns, squeeze=False, **subplots)


def interval(values: Iterable[float], level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean; NaN below three finite values.

    Two values have an interval 12.7 times as wide as their distance, which says nothing and would
    set the scale of every axis.
    """
    finite = np.asarray(list(values), dtype=float)
    finite = finite[np.isfinite(finite)]
    if finite.size < 3:
        return np.nan, np.nan
    student = special.stdtrit(finite.size - 1, (1 + level) / 2)
    half = student * finite.std(ddof=1) / np.sqrt(finite.size)
    return finite.mean() - half, finite.mean() + half


def quartiles(frame: pd.DataFrame, middle: str, low: str, high: str) -> pd.DataFrame:
    """Three rows of each, with an interval's ends and its middle as ``value``.

    With seaborn's :data:`drawn` of these three, points and bars are those of the table.
    """
    return frame.melt(
        [name for name in frame.columns if name not in (middle, low, high)],
        [low, middle, high],
        "end",
        "value",
    )


drawn: dict[str, Any] = {"estimator": "median", "errorbar": ("pi", 100)}
"""How seaborn draws :func:`quartiles`."""


def seeds(
    ax: Axes,
    frame: pd.DataFrame,
    value: str,
    by: str,
    looks: Mapping[str, Look],
    dashed: float | None = None,
) -> None:
    """Variants down the page: a dot a seed, the mean and its interval as marker and bar.

    The categories of column ``by`` are side by side, each with the colour and marker of its look;
    ``dashed`` is where real data are, or what makes no difference.
    """
    variants, shown = ordered(frame["variant"], VARIANTS), ordered(frame[by], looks)
    several = by != "variant"
    common: dict[str, Any] = {
        **{"data": frame, "x": value, "y": "variant", "hue": by, "ax": ax, "legend": False},
        **{"order": variants, "hue_order": shown},
        "palette": {name: looks[name].color for name in shown},
    }
    sns.stripplot(dodge=several, jitter=False, size=2.4, alpha=0.5, **common)
    sns.pointplot(
        dodge=0.8 * (1 - 1 / len(shown)) if several and len(shown) > 1 else False,
        linestyle="none",
        markers=[looks[name].marker for name in shown],
        markersize=2.8,
        errorbar=interval,
        err_kws={"linewidth": 1.0},
        **common,
    )
    ax.set(xlabel="", ylabel="", ylim=(len(variants) - 0.5, -0.5))
    ax.set_yticks(range(len(variants)), [VARIANTS[name].label for name in variants])
    ax.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
    ax.grid(False, axis="y")
    for place in range(1, len(variants)):
        ax.axhline(place - 0.5, color="#E4E4E4", lw=0.5, zorder=0)
    if not np.isfinite(frame[value]).any():
        middle: dict[str, Any] = {"transform": ax.transAxes, "ha": "center", "va": "center"}
        ax.text(0.5, 0.5, LEFT_OUT, color="#888888", **middle)
        ax.set_xticks([])
    elif dashed is not None:
        ax.axvline(dashed, color="#333333", lw=0.7, ls=(0, (4, 2)), zorder=1)


def from_zero(ax: Axes) -> None:
    """Have the value of zero in sight, as the point of reference of an error."""
    right = ax.get_xlim()[1]
    ax.set_xlim(-0.04 * right, right)


def judged_by(frame: pd.DataFrame) -> str:
    """``mean of 2 oracles``, of those that judged anything; ``no oracle``."""
    count = frame.loc[frame["oracle"] != UNJUDGED, "oracle"].nunique()
    return f"mean of {counted(count, 'oracle')}" if count else "no oracle"


def half_weight(alphas: Iterable[float]) -> float:
    """The volume weight nearest to half of the strongest: the one to show where one is shown."""
    alphas = sorted(alphas)
    return min(alphas, key=lambda alpha: abs(alpha - max(alphas, key=abs) / 2))


def summary(seeds: int) -> str:
    """What is drawn of so many seeds, see :func:`interval`."""
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
        "linestyle": "none" if not line else (0, look.dashes) if look.dashes else "-",
        "label": look.label,
    }
    return Line2D([], [], **{**properties, **changes})
