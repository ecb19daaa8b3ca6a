"""The primary claims: effect, interval and verdict on every data set, in the paper's words."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kahlervae.figures.looks import VERDICTS, Look, ordered
from kahlervae.figures.sources import EFFECT, given, primary
from kahlervae.figures.style import canvas, drawn, handle, legend, quartiles
from kahlervae.judge.claims import LEFT_OUT

__all__ = ["claims"]

WIDEST = 150.0
"""Effects beyond ± this many percent are drawn as arrows at the border."""


def claims(inputs: Sequence[Path]) -> Figure:
    """Effect, interval and verdict of the primary claims: a row a claim, a panel a data set.

    ``inputs``: ``claims.csv``. Effects are differences relative to the control's mean, or to the
    bound for claims that have one; identities have neither, and show their value. Hollow: a verdict
    that does not stand after Holm's correction.
    """
    (path,) = given(inputs, "claims.csv")
    frame = primary(path)
    # The paper's words, and below them the claims that ask for them: a row each.
    labels = {
        name: label
        for paper, held in frame.groupby("paper", sort=False)
        for name, label in [(paper, paper), *zip(held["claim"], held["statement"], strict=True)]
    }
    datasets = list(frame["dataset"].unique())
    wrapped = [textwrap.fill(label, 62) for label in labels.values()]
    row = 0.09 * max(label.count("\n") + 1 for label in wrapped) + 0.03
    figure, (axes,) = canvas(1, len(datasets), row * len(labels) + 0.9, sharey=True)
    ends = frame[EFFECT].to_numpy()
    limit = 1.08 * min(np.abs(ends[np.isfinite(ends)]).max(initial=1), WIDEST)
    for dataset, ax in zip(datasets, axes, strict=True):
        _forest(ax, frame[frame["dataset"] == dataset], list(labels), limit)
        ax.set(title=dataset, xlabel="relative effect (%)", ylabel="")
    axes[0].set_yticks(range(len(labels)), wrapped, fontsize=5.5)
    for name, text in zip(labels, axes[0].get_yticklabels(), strict=True):
        if name in set(frame["paper"]):
            text.set(fontweight="bold", fontsize=6)
    axes[0].set_ylim(len(labels) - 0.5, -0.5)
    verdicts = [name for name in ordered(frame["verdict"], VERDICTS) if name != LEFT_OUT]
    handles = [handle(VERDICTS[name]) for name in verdicts]
    if (frame["adjusted"] != frame["verdict"]).any():
        lost = Look("not after Holm's correction", "#333333", "o")
        handles.append(handle(lost, mfc="white"))
    legend(figure, handles, title="effect relative to the control or the bound, and interval")
    return figure


def _forest(ax: Axes, part: pd.DataFrame, order: Sequence[str], limit: float) -> None:
    """The claims of one data set."""
    verdicts = ordered(part["verdict"], VERDICTS)
    ax.axvline(0, color="#333333", lw=0.7)
    inside = part.assign(**{end: part[end].clip(-limit, limit) for end in EFFECT})
    sns.pointplot(
        quartiles(inside[["claim", "verdict", *EFFECT]], *EFFECT),
        x="value",
        y="claim",
        hue="verdict",
        order=order,
        hue_order=verdicts,
        palette={name: VERDICTS[name].color for name in verdicts},
        markers=[VERDICTS[name].marker for name in verdicts],
        markersize=3.6,
        linestyle="none",
        err_kws={"linewidth": 1.1},
        legend=False,
        ax=ax,
        **drawn,
    )
    for row in part.to_dict("records"):
        y, color = order.index(row["claim"]), VERDICTS[row["verdict"]].color
        if abs(row["effect"]) > limit:
            marker = "<" if row["effect"] < 0 else ">"
            ax.plot(np.sign(row["effect"]) * 0.97 * limit, y, marker, color=color)
        if np.isfinite(row["effect"]):
            if row["adjusted"] != row["verdict"]:
                ax.plot(np.clip(row["effect"], -limit, limit), y, "o", color="white", ms=1.8)
            continue
        value = f"{row['estimate']:.1g}" if np.isfinite(row["estimate"]) else "no estimate"
        text = f"{row['verdict']}: {value}" if row["verdict"] != LEFT_OUT else LEFT_OUT
        beside: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center"}
        beside["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        ax.text(0.04, y, text.replace("-", "−"), color=color, fontsize=6, **beside)
    ax.set_xlim(-limit, limit)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}".replace("-", "−"))
    ax.grid(False, axis="y")
