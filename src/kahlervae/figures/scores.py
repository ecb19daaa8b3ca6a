"""Figures of the scores: training, smoothness, outliers against variation, claims."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kahlervae.figures.style import (
    GROUP,
    MODEL,
    TWO_COLUMNS,
    VARIANTS,
    VERDICTS,
    Look,
    canvas,
    counted,
    dodged,
    grouped,
    handle,
    judged_by,
    legend,
    mean_interval,
    ordered,
    say_left_out,
    summary,
    table,
    titled,
)
from kahlervae.figures.style import LEFT_OUT as WITHOUT
from kahlervae.judge.claims import LEFT_OUT
from kahlervae.judge.pareto import with_families
from kahlervae.storage import read_table

__all__ = ["claims", "pareto", "smoothness", "strengths", "training"]


def training(inputs: Sequence[Path]) -> Figure:
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
    (path,) = inputs
    frame = table(path, [*MODEL, "epoch", *panels])
    groups = grouped(frame)
    figure, axes = canvas(2 * len(groups), 3, width=TWO_COLUMNS, height=3.4 * len(groups) + 0.3)
    for i, (group, held) in enumerate(groups):
        block = axes[2 * i : 2 * i + 2]
        for (column, label), ax in zip(panels.items(), block.flat, strict=True):
            _curves(ax, held, column)
            ax.set_title(label)
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        block[0, 0].set_ylabel(group)
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    variants = ordered(frame["variant"], VARIANTS)
    entries = [handle(VARIANTS[name], line=True, marker="") for name in variants]
    legend(
        figure,
        entries[:5],
        entries[5:],
        title=f"mean and range over {counted(frame['seed'].nunique(), 'seed')}",
    )
    return figure


def _curves(ax: Axes, frame: pd.DataFrame, column: str) -> None:
    """Mean and range over seeds against the epoch; a term that a variant lacks is not drawn."""
    settled = []
    for variant in ordered(frame["variant"], VARIANTS):
        part = frame[frame["variant"] == variant].dropna(subset=[column])
        if not part[column].any():
            continue
        kind = VARIANTS[variant]
        curve = part.groupby("epoch")[column].agg(["mean", "min", "max"])
        ax.plot(curve.index, curve["mean"], color=kind.color, linestyle=kind.line, lw=1.0)
        ax.fill_between(curve.index, curve["min"], curve["max"], color=kind.color, alpha=0.2, lw=0)
        settled.append(curve.to_numpy()[len(curve) // 20 :])
    if column == "gradient_norm":
        ax.set_yscale("log")
    elif settled:
        # The first epochs fall from far away and would flatten everything that follows.
        low, high = np.concatenate(settled).min(), np.concatenate(settled).max()
        margin = 0.06 * (high - low) or 1.0
        ax.set_ylim(low - margin, high + margin)


ENDPOINTS = {
    "posterior": Look("between test posteriors", "#000000", "o"),
    "prior": Look("between prior samples", "#8C8C8C", "s"),
}


def smoothness(inputs: Sequence[Path]) -> Figure:
    """Smoothness of decoded latent lines, and the sharpness it may have cost.

    ``inputs``: the gathered ``paths.csv``, averaged over oracles; lines run between test posteriors
    and between prior samples. Points are seeds; bars their mean and its 95 % interval. Dashed: real
    data.
    """
    panels = {
        "acceleration": ("relative acceleration", None),
        "midpoint_outliers": ("outliers among midpoints", 0.05),
        "label_flips": ("label flips per line", None),
        "sharpness": ("sharpness relative to real", 1.0),
    }
    (path,) = inputs
    frame = table(path, [*MODEL, "endpoints", "oracle", *panels])
    means = frame.groupby([*MODEL, "endpoints"], sort=False)[list(panels)].mean().reset_index()
    seeds = means["seed"].nunique()
    groups = grouped(means)
    kinds = ordered(means["endpoints"], ENDPOINTS)
    figure, axes = canvas(2 * len(groups), 2, width=TWO_COLUMNS, height=3.8 * len(groups) + 0.4)
    for i, (group, held) in enumerate(groups):
        block = axes[2 * i : 2 * i + 2]
        # Data sets may have different variants, so that every block has labels of its own.
        variants = ordered(held["variant"], VARIANTS)
        for (column, (label, real)), ax in zip(panels.items(), block.flat, strict=True):
            dodged(ax, held, variants, "endpoints", kinds, ENDPOINTS, column)
            if real is not None:
                ax.axhline(real, color="#333333", lw=0.7, ls=(0, (4, 2)), zorder=1)
            ax.set_ylabel(label)
            say_left_out(ax, held[column])
        for ax in block[0]:
            ax.tick_params(labelbottom=False)
        block[0, 0].set_title(group, loc="left")
    legend(
        figure,
        [handle(ENDPOINTS[name]) for name in kinds],
        title=(
            f"points: {counted(seeds, 'seed')}, "
            f"{judged_by(frame)}; "
            f"bars: {summary(seeds)}; dashed: real data"
        ),
    )
    return figure


def strengths(inputs: Sequence[Path]) -> Figure:
    """The sweep from which strengths were chosen: what smoothness and fewer outliers cost.

    ``inputs``: the gathered ``sweep.csv`` (scores on validation data, averaged over oracles); then
    ``strengths.csv``, if a choice is to be marked. One point is one trained setting.
    """
    panels = {
        "speed_variation": "variation of speed",
        "acceleration": "relative acceleration",
        "knn_outliers": "outliers among prior samples",
        "midpoint_outliers": "outliers among midpoints",
    }
    path, *choices = inputs
    keys = [*MODEL, "setting"]
    frame = table(path, [*keys, "oracle", "elbo", *panels])
    chosen = [table(choice, [*keys, "chosen"]).query("chosen")[keys] for choice in choices]
    means = frame.groupby(keys, sort=False)[["elbo", *panels]].mean().reset_index()
    groups = grouped(means)
    figure, axes = canvas(
        2 * len(groups), 2, width=TWO_COLUMNS, height=4.2 * len(groups) + 0.3, sharex=True
    )
    for i, (group, held) in enumerate(groups):
        best = pd.concat([held.merge(choice) for choice in chosen] or [held[:0]])
        for (column, label), ax in zip(panels.items(), axes[2 * i : 2 * i + 2].flat, strict=True):
            for variant in ordered(held["variant"], VARIANTS):
                part, kind = held[held["variant"] == variant].sort_values("elbo"), VARIANTS[variant]
                line = kind.line if variant.endswith("beta") else "none"
                ax.plot(part["elbo"], part[column], kind.marker, ls=line, color=kind.color)
            ax.plot(best["elbo"], best[column], "o", ms=10, mfc="none", mec="#222222", mew=1.0)
            ax.set_ylabel(label)
        axes[2 * i, 0].set_title(group, loc="left")
        for ax in axes[2 * i + 1]:
            ax.set_xlabel("ELBO of validation data (nats)")
    variants = ordered(means["variant"], VARIANTS)
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
    "posterior_mixture": Look("aggregated posterior", "#CC79A7", "P"),
    "ratio": Look("classifier", "#332288", "p"),
    "riemannian": Look("Riemannian", "#56B4E9", "X"),
    FITTED.format("prior", "global"): Look("volume, prior", "#E69F00", "^"),
    FITTED.format("gmm", "global"): Look("volume, mixture", "#009E73", "v"),
    FITTED.format("gmm", "local"): Look("volume, mixture, local", "#D55E00", "D"),
    FITTED.format("posterior_mixture", "local"): Look("volume, posterior, local", "#0072B2", "h"),
}
"""Families of samplers; mixtures of all numbers of components are one here."""
SHOWN = ("complex", "mixture", "kahler")
"""The variants whose samplers are compared."""


def pareto(inputs: Sequence[Path]) -> Figure:
    """Outliers against recall: the curve of every family of samplers; lower right is better.

    ``inputs``: the gathered ``samples.csv``, of which test rows are shown, averaged over oracles;
    ``chosen.csv``; then any number of ``reference.csv`` (scores of real test data). Curves follow
    the temperature, or the power of the volume element, through means over seeds with their 95 %
    intervals; mixtures have a curve for every number of components. Ringed: the settings that were
    chosen on validation rows. The vertical scale is that of the square root. Data sets where only
    the prior was sampled are left out, unless there are no others.
    """
    path, *others = inputs
    scores = [*SCORES, "recall"]
    frame = table(path, [*MODEL, "split", "sampler", "setting", "oracle", *scores])
    chosen_path, *references = others
    columns = [*GROUP, "variant", "family", "setting"]
    chosen = read_table(chosen_path, columns)[columns]
    frame = frame[frame["split"] == "test"]
    present = frame["variant"].unique()
    variants = [name for name in SHOWN if name in present] or ordered(present, VARIANTS)[:3]
    means = with_families(frame[frame["variant"].isin(variants)])
    means["curve"] = means["family"]
    means["family"] = means["family"].replace("(gmm|ratio):.*", r"\1", regex=True)
    means = means[means["family"].isin(FAMILIES)]
    compared = means.groupby(GROUP)["family"].transform("nunique") > 1
    means = means[compared] if compared.any() else means
    keys = [*MODEL, "family", "curve", "knob", "setting"]
    means = means.groupby(keys, sort=False, dropna=False)[scores].mean().reset_index()
    where = pd.MultiIndex.from_frame(means[[*GROUP, "variant", "curve", "setting"]])
    means["ringed"] = where.isin(pd.MultiIndex.from_frame(chosen))
    real = [table(reference, ["dataset", *scores]) for reference in references]
    seeds = frame["seed"].nunique()
    groups = grouped(means)
    figure, axes = canvas(
        2 * len(groups),
        len(variants),
        width=TWO_COLUMNS,
        height=3.1 * len(groups) + 0.7,
        sharex=True,
        sharey="row",
    )
    for i, (group, held) in enumerate(groups):
        for (score, label), line in zip(SCORES.items(), axes[2 * i : 2 * i + 2], strict=True):
            for variant, ax in zip(variants, line, strict=True):
                part = held[held["variant"] == variant]
                for name in ordered(part["family"], FAMILIES):
                    for _, curve in part[part["family"] == name].groupby("curve"):
                        _curve(ax, curve, FAMILIES[name], score)
                for reference in real:
                    images = reference[reference["dataset"].isin(held["dataset"])]
                    x, y = images["recall"].mean(), images[score].mean()
                    ax.plot(x, y, "*", ms=8, color="black", mec="white", mew=0.5, zorder=5)
            line[0].set_ylabel(titled(group, f"{label} (share)"))
            line[0].set_yscale("function", functions=(_root, np.square))
            line[0].set_ylim(bottom=0)
            line[0].set_yticks(_ticks(line[0].get_ylim()[1]))
    for variant, ax in zip(variants, axes[0], strict=True):
        ax.set_title(VARIANTS[variant].label)
    for ax in axes[-1]:
        ax.set_xlabel("recall")
        ax.xaxis.set_major_locator(MaxNLocator(5))
    families = [handle(FAMILIES[n], line=True) for n in ordered(means["family"], FAMILIES)]
    ring = handle(Look("chosen on validation", "#000000", "o"), mfc="none", ms=7, mew=0.9)
    marks = [ring, *([handle(REAL, ms=7)] if real else [])]
    entries = [*families, *marks]
    half = (len(entries) + 1) // 2
    legend(
        figure,
        entries[:half],
        entries[half:],
        title=(
            f"{summary(seeds)} over {counted(seeds, 'seed')}, "
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


def _curve(ax: Axes, curve: pd.DataFrame, kind: Look, score: str) -> None:
    """Means over seeds of one family, in the order of its knob, and rings at what was chosen."""
    points = [
        (mean_interval(part["recall"]), mean_interval(part[score]))
        for _, part in curve.groupby("knob", dropna=False)
    ]
    ax.plot([x[0] for x, _ in points], [y[0] for _, y in points], color=kind.color, lw=1.0)
    for x, y in points:
        ax.errorbar(
            x[0],
            y[0],
            xerr=_arms(x),
            yerr=_arms(y),
            color=kind.color,
            marker=kind.marker,
            ms=3,
            mec="white",
            mew=0.3,
            elinewidth=0.5,
            zorder=3,
        )
    for _, part in curve[curve["ringed"]].groupby("knob", dropna=False):
        where = part[["recall", score]].mean()
        ax.plot(*where, "o", ms=7, mfc="none", mec=kind.color, mew=0.9, zorder=4)


def _arms(interval: tuple[float, float, float]) -> list[list[float]] | None:
    """Lengths of the error bar below and above the mean; none for a single seed."""
    mean, low, high = interval
    return [[mean - low], [high - mean]] if np.isfinite(low) else None


WIDEST = 150.0
"""Effects beyond ± this many percent are drawn as arrows at the border."""


def claims(inputs: Sequence[Path]) -> Figure:
    """Effect, interval and verdict of the primary claims: a row a claim, a panel a data set.

    Of all claims where none is primary.

    ``inputs``: ``claims.csv``. Effects are differences relative to the control's mean, or to the
    bound for claims that have one; identities have neither, and show their value. Hollow: a verdict
    that does not stand after Holm's correction.
    """
    (path,) = inputs
    numbers = ["estimate", "ci_low", "ci_high", "bound", "control"]
    frame = table(path, ["claim", "dataset", "part", "role", *numbers, "verdict", "adjusted"])
    primary = frame["role"] == "primary"
    frame = frame[primary if primary.any() else ~primary].reset_index(drop=True)
    verdicts = ordered(frame["verdict"], VERDICTS)
    scale = frame["control"].fillna(frame["bound"]).abs().replace(0, np.nan)
    scale = scale.mask(frame["part"] == "identities")
    for column in numbers[:3]:
        frame[f"{column}_relative"] = 100 * (frame[column] - frame["bound"]) / scale
    rows = frame.drop_duplicates("claim")
    heights, labels, y = {}, {}, 0.0
    for name, part in rows.groupby("part", sort=False):
        labels[y] = str(name)
        for claim in part["claim"]:
            y += 1
            heights[claim] = y
            labels[y] = _label(claim)
        y += 1.3
    datasets = list(frame["dataset"].unique())
    figure, (axes,) = canvas(
        1, len(datasets), width=TWO_COLUMNS, height=0.118 * y + 0.9, sharey=True
    )
    ends = frame[[f"{column}_relative" for column in numbers[:3]]].to_numpy()
    reach = np.abs(ends[np.isfinite(ends)]).max(initial=1)
    limit = 1.08 * min(reach, WIDEST)
    for dataset, ax in zip(datasets, axes, strict=True):
        _forest(ax, frame[frame["dataset"] == dataset], heights, limit)
        ax.set_title(dataset)
        ax.set_xlabel("relative effect (%)")
    axes[0].set_yticks(list(labels), list(labels.values()))
    for label in axes[0].get_yticklabels():
        label.set_fontsize(5.5)
        if label.get_text() in set(rows["part"]):
            label.set_fontweight("bold")
    axes[0].set_ylim(y - 0.5, -0.7)
    handles = [handle(VERDICTS[name]) for name in verdicts if name != LEFT_OUT]
    if (frame["adjusted"] != frame["verdict"]).any():
        lost = Look("not after Holm's correction", "#333333", "o")
        handles.append(handle(lost, mfc="white"))
    legend(figure, handles, title="effect relative to the control or the bound, and interval")
    return figure


def _label(claim: str) -> str:
    """``kahler turning vs mixture``: the name of a claim, shortened."""
    words = claim.replace("_sampler", "").replace("_outliers", "").replace("potential_", "")
    return words.replace("_", " ")


def _forest(ax: Axes, part: pd.DataFrame, heights: dict[str, float], limit: float) -> None:
    """The claims of one data set at their heights."""
    ax.axvline(0, color="#333333", lw=0.7)
    ax.set_xlim(-limit, limit)
    for row in part.to_dict("records"):
        kind, y, x = VERDICTS[row["verdict"]], heights[row["claim"]], row["estimate_relative"]
        stands = row["adjusted"] == row["verdict"]
        style: dict[str, Any] = {"color": kind.color, "marker": kind.marker, "ms": 3.6, "mew": 0.8}
        style["mfc"] = kind.color if stands else "white"
        if np.isfinite(x):
            ends = row["ci_low_relative"], row["ci_high_relative"]
            ax.hlines(y, *ends, color=kind.color, lw=1.1)
            if abs(x) > limit:
                style["marker"] = "<" if x < 0 else ">"
            ax.plot([np.clip(x, -0.97 * limit, 0.97 * limit)], [y], **style)
            continue
        beside = ax.get_yaxis_transform()
        if row["verdict"] == LEFT_OUT:
            look: dict[str, Any] = {"va": "center", "fontsize": 5, "color": "#AAAAAA"}
            ax.text(0.05, y, WITHOUT, transform=beside, **look)
            continue
        ax.plot([0.05], [y], transform=beside, **style)
        text = f"{row['estimate']:.1g}" if np.isfinite(row["estimate"]) else "no estimate"
        text = text.replace("-", "−")
        ax.text(0.1, y, text, transform=beside, va="center", fontsize=5.5, color="#555555")
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}".replace("-", "−"))
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
