"""Figures of the scores: training, smoothness, outliers against variation, claims."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kahlervae.figures.looks import VARIANTS, Look, ordered
from kahlervae.figures.sources import GROUP, MODEL, Run, given, rows, table
from kahlervae.figures.style import (
    canvas,
    counted,
    handle,
    interval,
    judged_by,
    legend,
    seeds,
    summary,
)
from kahlervae.judge.pareto import with_families
from kahlervae.storage import read_table

__all__ = ["pareto", "smoothness", "strengths", "training"]


def training(inputs: Sequence[Path], run: Run | None = None) -> Figure:
    """Terms of the objective and the validation ELBO, epoch by epoch.

    ``inputs``: the gathered ``history.csv``. Lines are means over seeds, bands their range.
    """
    panels = {
        "validation_elbo": "validation ELBO (nats per sample)",
        "log_likelihood": "log likelihood (nats per sample)",
        "kl": "KL (nats per sample)",
        "regulariser": "regulariser R",
        "tie": "tie M of the potential",
        "gradient_norm": "gradient norm",
    }
    (path,) = given(inputs, "history.csv")
    frame = rows(path, [*MODEL, "epoch", *panels], run)
    variants = ordered(frame["variant"], VARIANTS)
    figure, axes = canvas(2, 3, height=3.9)
    for (column, label), ax in zip(panels.items(), axes.flat, strict=True):
        # A term that a variant lacks is not drawn.
        terms = frame[frame.groupby("variant")[column].transform(lambda x: x.fillna(0).any())]
        shown = ordered(terms["variant"], VARIANTS)
        if shown:
            sns.lineplot(
                terms,
                x="epoch",
                y=column,
                hue="variant",
                style="variant",
                hue_order=shown,
                style_order=shown,
                palette={name: VARIANTS[name].color for name in shown},
                dashes={name: VARIANTS[name].dashes for name in shown},
                errorbar=("pi", 100),
                err_kws={"linewidth": 0},
                legend=False,
                ax=ax,
            )
        ax.set(title=label, xlabel="epoch" if ax in axes[-1] else "", ylabel="")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if column == "gradient_norm":
            ax.set_yscale("log")
        else:
            _settle(ax, terms, column)
    legend(
        figure,
        [handle(VARIANTS[name], line=True, marker="") for name in variants],
        title=f"mean and range over {counted(frame['seed'].nunique(), 'seed')}",
    )
    return figure


def _settle(ax: Axes, frame: pd.DataFrame, column: str) -> None:
    """Limits without the first epochs, which fall from far away and would flatten the others."""
    later = frame.loc[frame["epoch"] > frame["epoch"].max() / 20, column]
    low, high = later.min(), later.max()
    if np.isfinite([low, high]).all():
        margin = 0.06 * (high - low) or 1.0
        ax.set_ylim(low - margin, high + margin)


ENDPOINTS = {
    "posterior": Look("between test posteriors", "#000000", "o"),
    "prior": Look("between prior samples", "#8C8C8C", "s"),
}


def smoothness(inputs: Sequence[Path], run: Run | None = None) -> Figure:
    """Smoothness of decoded latent lines, and the sharpness it may have cost.

    ``inputs``: the gathered ``paths.csv``, averaged over oracles; lines run between test posteriors
    and between prior samples. Acceleration is due to changes of speed and to turning. Dots are
    seeds; markers and bars their mean and its 95 % interval. Dashed: real data.
    """
    panels = {
        "acceleration": "relative acceleration",
        "speed_variation": "variation of the speed",
        "turning": "turning (rad)",
        "sharpness": "sharpness relative to real data",
        "midpoint_outliers": "outliers among midpoints",
        "label_flips": "label flips per line",
    }
    real = {"sharpness": 1.0, "midpoint_outliers": 0.05}
    (path,) = given(inputs, "paths.csv")
    frame = rows(path, [*MODEL, "endpoints", "oracle", *panels], run)
    means = frame.groupby([*MODEL, "endpoints"], sort=False)[list(panels)].mean().reset_index()
    count = means["seed"].nunique()
    kinds = ordered(means["endpoints"], ENDPOINTS)
    height = 0.2 * means["variant"].nunique() + 0.35
    figure, axes = canvas(2, 3, height=2 * height + 0.5, sharey=True)
    for (column, label), ax in zip(panels.items(), axes.flat, strict=True):
        seeds(ax, means, column, "endpoints", ENDPOINTS, dashed=real.get(column))
        ax.set_title(label)
    legend(
        figure,
        [handle(ENDPOINTS[name]) for name in kinds],
        title=(
            f"dots: {counted(count, 'seed')}, {judged_by(frame)}; "
            f"markers: {summary(count)}; dashed: real data"
        ),
    )
    return figure


def strengths(inputs: Sequence[Path], run: Run | None = None) -> Figure:
    """The sweep from which strengths were chosen: what smoothness and fewer outliers cost.

    ``inputs``: the gathered ``sweep.csv`` (scores on validation data, averaged over oracles); then
    ``strengths.csv``, if a choice is to be marked. One point is one trained setting.
    """
    panels = {
        "speed_variation": "variation of the speed",
        "acceleration": "relative acceleration",
        "knn_outliers": "outliers among prior samples",
        "midpoint_outliers": "outliers among midpoints",
    }
    (path,), choices = given(inputs[:1], "sweep.csv"), inputs[1:]
    keys = [*MODEL, "setting"]
    frame = rows(path, [*keys, "oracle", "elbo", *panels], run)
    means = frame.groupby(keys, sort=False)[["elbo", *panels]].mean().reset_index()
    best = [
        means.merge(table(choice, [*keys, "chosen"]).query("chosen")[keys]) for choice in choices
    ]
    variants = ordered(means["variant"], VARIANTS)
    common = {
        "hue": "variant",
        "palette": {name: VARIANTS[name].color for name in variants},
        "legend": False,
    }
    figure, axes = canvas(2, 2, height=4.4, sharex=True)
    for (column, label), ax in zip(panels.items(), axes.flat, strict=True):
        swept = means[means["variant"].str.endswith("beta")]
        sns.lineplot(swept, x="elbo", y=column, ax=ax, **common)
        sns.scatterplot(
            means,
            x="elbo",
            y=column,
            style="variant",
            markers={name: VARIANTS[name].marker for name in variants},
            s=18,
            ax=ax,
            **common,
        )
        for choice in best:
            ax.plot(choice["elbo"], choice[column], "o", ms=10, mfc="none", mec="#222222", mew=1.0)
        ax.set(ylabel=label, xlabel="ELBO of validation data (nats)")
    for ax in axes[0]:
        ax.set_xlabel("")
    legend(
        figure,
        [
            *(handle(VARIANTS[name]) for name in variants),
            handle(Look("chosen", "#222222", "o"), fillstyle="none", markersize=9),
        ],
        title=f"one model a point; scores: {judged_by(frame)}",
    )
    return figure


REAL = Look("real test data", "#000000", "*")
SCORES = {"knn_outliers": "kNN outliers", "entropy_outliers": "entropy outliers"}
FITTED = "volume:base={},weight={},metric=fitted"
FAMILIES = {
    "truncated": Look("truncated prior", "#000000", "o"),
    "gmm": Look("Gaussian mixtures", "#777777", "s"),
    "ratio": Look("classifier", "#332288", "p"),
    "posterior_mixture": Look("aggregated posterior", "#CC79A7", "P"),
    "riemannian": Look("Riemannian", "#56B4E9", "X"),
    FITTED.format("prior", "global"): Look("volume, prior", "#E69F00", "^"),
    FITTED.format("gmm", "global"): Look("volume, mixture", "#009E73", "v"),
    FITTED.format("gmm", "local"): Look("volume, mixture, local", "#D55E00", "D"),
    FITTED.format("posterior_mixture", "local"): Look("volume, posterior, local", "#0072B2", "h"),
}
"""Families of samplers; mixtures of all numbers of components are one here."""
SHOWN = ("complex", "mixture", "kahler")
"""The variants whose samplers are compared."""


def pareto(inputs: Sequence[Path], run: Run | None = None) -> Figure:
    """Outliers against recall: the curve of every family of samplers; lower right is better.

    ``inputs``: the gathered ``samples.csv``, of which test rows are shown, averaged over oracles;
    ``chosen.csv``; then any number of ``reference.csv`` (scores of real test data). Curves follow
    the temperature, or the power of the volume element, through means over seeds with their 95 %
    intervals; mixtures have a curve for every number of components. Ringed: the settings that were
    chosen on validation rows. The vertical scale is that of the square root. Variants of which only
    the prior was sampled are left out; if there are no others, all are compared in one panel.
    """
    path, chosen_path = given(inputs[:2], "samples.csv", "chosen.csv")
    scores = [*SCORES, "recall"]
    frame = rows(path, [*MODEL, "split", "sampler", "setting", "oracle", *scores], run)
    columns = [*GROUP, "variant", "family", "setting"]
    chosen = read_table(chosen_path, columns)[columns]
    means = with_families(frame[frame["split"] == "test"])
    means["curve"] = means["family"]
    means["family"] = means["family"].replace("(gmm|ratio):.*", r"\1", regex=True)
    means = means[means["family"].isin(FAMILIES)]
    several = means.groupby("variant")["family"].transform("nunique") > 1
    if several.any():
        present = ordered(means.loc[several, "variant"], VARIANTS)
        panels = [name for name in SHOWN if name in present] or present[:3]
        means = means[means["variant"].isin(panels)]
        means["panel"], means["look"], looks = means["variant"], means["family"], FAMILIES
        titles = [VARIANTS[name].label for name in panels]
    else:
        panels, titles = ["prior"], ["samples of each variant's own prior"]
        means["panel"], means["look"], looks = "prior", means["variant"], VARIANTS
    keys = [*MODEL, "panel", "look", "family", "curve", "knob", "setting"]
    means = means.groupby(keys, sort=False, dropna=False)[scores].mean().reset_index()
    real = pd.concat([table(each, ["dataset", *scores]) for each in inputs[2:]] or [means[:0]])
    real = real[real["dataset"].isin(means["dataset"])]
    count = frame["seed"].nunique()
    shown = {name: looks[name] for name in ordered(means["look"], looks)}
    ringed = means.merge(chosen)
    figure, axes = canvas(2, len(panels), height=4.6, sharex=True, sharey="row")
    for (score, label), line in zip(SCORES.items(), axes, strict=True):
        for panel, ax in zip(panels, line, strict=True):
            _curves(ax, means[means["panel"] == panel], score, shown)
            held = ringed[ringed["panel"] == panel].groupby(["look", "setting"])
            points = held[["recall", score]].mean().reset_index()
            for look, x, y in points[["look", "recall", score]].itertuples(index=False):
                ax.plot(x, y, "o", ms=7, mfc="none", mec=looks[look].color, mew=0.9, zorder=4)
            if len(real):
                where = real[["recall", score]].mean()
                ax.plot(*where, "*", ms=8, color="black", mec="white", mew=0.5, zorder=5)
        line[0].set_ylabel(f"{label} (share)")
        line[0].set_yscale("function", functions=(_root, np.square))
        line[0].set_ylim(bottom=0)
        line[0].set_yticks(_ticks(line[0].get_ylim()[1]))
    for title, ax in zip(titles, axes[0], strict=True):
        ax.set_title(title)
    for ax in axes[-1]:
        ax.set_xlabel("recall")
        ax.xaxis.set_major_locator(MaxNLocator(5))
    ring = handle(Look("chosen on validation", "#000000", "o"), mfc="none", ms=7, mew=0.9)
    entries = [
        *(handle(look, line=looks is FAMILIES) for look in shown.values()),
        *([ring] if len(ringed) else []),
        *([handle(REAL, ms=7)] if len(real) else []),
    ]
    half = (len(entries) + 1) // 2
    legend(
        figure,
        entries[:half],
        entries[half:],
        title=(
            f"{summary(count)} over {counted(count, 'seed')}, "
            f"{judged_by(frame)}; lower right is better"
        ),
    )
    return figure


def _root(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(values, 0))


def _ticks(top: float) -> list[float]:
    """Few round shares up to the top, for the scale of the square root."""
    ticks = [0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0]
    return [tick for tick in ticks if tick <= top and (tick != 0.01 or top < 0.4)]


def _curves(ax: Axes, part: pd.DataFrame, score: str, looks: Mapping[str, Look]) -> None:
    """Means over seeds of every look in the order of its knob, with intervals of both scores."""
    points = part.groupby(["look", "curve", "knob"], dropna=False)
    means = points[["recall", score]].mean().reset_index()
    common = {
        "data": means,
        "x": "recall",
        "y": score,
        "hue": "look",
        "hue_order": list(looks),
        "palette": {name: look.color for name, look in looks.items()},
        "legend": False,
        "ax": ax,
    }
    sns.lineplot(units="curve", estimator=None, sort=False, lw=1.0, **common)
    sns.scatterplot(
        style="look",
        markers={name: look.marker for name, look in looks.items()},
        s=9,
        linewidth=0.3,
        zorder=3,
        **common,
    )
    for _, held in points:
        color = looks[held["look"].iloc[0]].color
        ax.hlines(held[score].mean(), *interval(held["recall"]), color=color, lw=0.5)
        ax.vlines(held["recall"].mean(), *interval(held[score]), color=color, lw=0.5)
