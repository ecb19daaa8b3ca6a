"""Figures of the scores: training, smoothness, outliers against variation, claims."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kahlervae.figures.style import (
    MODEL,
    SAMPLERS,
    TWO_COLUMNS,
    VARIANTS,
    VERDICTS,
    Look,
    blank,
    canvas,
    counted,
    dodged,
    grouped,
    half_weight,
    handle,
    legend,
    mean_interval,
    ordered,
    summary,
    table,
)

__all__ = ["claims", "pareto", "smoothness", "strengths", "training"]


def training(inputs: Sequence[Path]) -> Figure:
    """Terms of the objective and the validation ELBO, epoch by epoch.

    ``inputs``: the gathered ``history.csv``. Lines are means over seeds, bands their range.
    """
    panels = {
        "validation_elbo": "validation ELBO (nats per image)",
        "log_likelihood": "log likelihood (nats per image)",
        "kl": "KL (nats per image)",
        "regulariser": "regulariser R",
        "tie": "tie M of the potential",
        "gradient_norm": "gradient norm",
    }
    (path,) = inputs
    frame = table(path, [*MODEL, "epoch", *panels])
    groups = grouped(frame)
    figure, axes = canvas(
        2 * len(groups), 3, width=TWO_COLUMNS, height=3.4 * len(groups) + 0.3, sharex=True
    )
    for i, (group, held) in enumerate(groups):
        block = axes[2 * i : 2 * i + 2]
        for (column, label), ax in zip(panels.items(), block.flat, strict=True):
            _curves(ax, held, column)
            ax.set_title(label)
        block[0, 0].set_ylabel(group)
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    variants = ordered(frame["variant"], VARIANTS)
    legend(
        figure,
        [handle(VARIANTS[name], line=True, marker="") for name in variants],
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
    "volume": Look("between volume samples, α = {alpha}", "#AA4499", "D"),
}


def smoothness(inputs: Sequence[Path]) -> Figure:
    """Smoothness of decoded latent lines, and the sharpness it may have cost.

    ``inputs``: the gathered ``paths.csv``, averaged over oracles. Points are seeds; bars their
    mean and its 95 % interval. Dashed: real images.
    """
    panels = {
        "acceleration": ("relative acceleration", None),
        "midpoint_outliers": ("outliers among midpoints", 0.05),
        "label_flips": ("label flips per line", None),
        "sharpness": ("sharpness relative to real", 1.0),
    }
    (path,) = inputs
    frame = table(path, [*MODEL, "endpoints", "oracle", *panels])
    weights = frame["endpoints"].str.extract(r"^volume:alpha=(.*)")[0].astype(float)
    alpha = half_weight(weights.dropna().unique()) if weights.notna().any() else np.nan
    frame = frame[weights.isna() | (weights == alpha)]
    frame = frame.assign(endpoints=frame["endpoints"].str.partition(":")[0])
    means = frame.groupby([*MODEL, "endpoints"], sort=False)[list(panels)].mean().reset_index()
    seeds = means["seed"].nunique()
    groups = grouped(means)
    kinds = ordered(means["endpoints"], ENDPOINTS)
    figure, axes = canvas(
        2 * len(groups), 2, width=TWO_COLUMNS, height=3.8 * len(groups) + 0.4, sharex="col"
    )
    for i, (group, held) in enumerate(groups):
        block = axes[2 * i : 2 * i + 2]
        variants = ordered(held["variant"], VARIANTS)
        for (column, (label, real)), ax in zip(panels.items(), block.flat, strict=True):
            dodged(ax, held, variants, "endpoints", kinds, ENDPOINTS, column)
            if real is not None:
                ax.axhline(real, color="#333333", lw=0.7, ls=(0, (4, 2)), zorder=1)
            ax.set_ylabel(label)
        block[0, 0].set_title(group, loc="left")
    legend(
        figure,
        [
            handle(kind, label=kind.label.format(alpha=f"{alpha:g}".replace("-", "−")))
            for kind in (ENDPOINTS[name] for name in kinds)
        ],
        title=(
            f"points: {counted(seeds, 'seed')}, "
            f"mean of {counted(frame['oracle'].nunique(), 'oracle')}; "
            f"bars: {summary(seeds)}; dashed: real images"
        ),
    )
    return figure


def strengths(inputs: Sequence[Path]) -> Figure:
    """The sweep from which strengths were chosen: what smoothness and fewer outliers cost.

    ``inputs``: the gathered ``sweep.csv`` (scores on validation data, averaged over oracles); then
    ``strengths.csv``, if a choice is to be marked. One point is one trained setting.
    """
    panels = {
        "acceleration": "relative acceleration",
        "knn_outliers": "outliers among prior samples",
        "midpoint_outliers": "outliers among midpoints",
        "recall": "recall of prior samples",
    }
    path, *choices = inputs
    keys = ["beta", "form", "strength", "tie"]
    frame = table(path, [*MODEL, *keys, "oracle", "mse", *panels])
    chosen = [
        table(choice, [*MODEL, *keys, "chosen"]).query("variant == 'kahler' and chosen")
        for choice in choices
    ]
    means = (
        frame.groupby([*MODEL, *keys], sort=False, dropna=False)[["mse", *panels]]
        .mean()
        .reset_index()
    )
    groups = grouped(means)
    figure, axes = canvas(
        2 * len(groups), 2, width=TWO_COLUMNS, height=4.2 * len(groups) + 0.3, sharex=True
    )
    for i, (group, held) in enumerate(groups):
        best = pd.concat([held.merge(choice[[*MODEL, *keys]]) for choice in chosen] or [held[:0]])
        for (column, label), ax in zip(panels.items(), axes[2 * i : 2 * i + 2].flat, strict=True):
            for variant in ordered(held["variant"], VARIANTS):
                part, kind = held[held["variant"] == variant].sort_values("mse"), VARIANTS[variant]
                line = kind.line if variant == "beta" else "none"
                ax.plot(part["mse"], part[column], kind.marker, ls=line, color=kind.color)
            ax.plot(best["mse"], best[column], "o", ms=10, mfc="none", mec="#222222", mew=1.0)
            ax.set_ylabel(label)
        axes[2 * i, 0].set_title(group, loc="left")
        for ax in axes[2 * i + 1]:
            ax.set_xlabel("MSE of validation images (per pixel)")
    variants = ordered(means["variant"], VARIANTS)
    legend(
        figure,
        [
            *(handle(VARIANTS[name]) for name in variants),
            handle(Look("chosen", "#222222", "o"), fillstyle="none", markersize=9),
        ],
        title=f"one model a point; scores: mean of {counted(frame['oracle'].nunique(), 'oracle')}",
    )
    return figure


REAL = Look("real test images", "#000000", "*")
SCORES = {"knn_outliers": "kNN outliers (share)", "entropy_outliers": "entropy outliers (share)"}
VARIATION = {"recall": "recall", "vendi": "Vendi score"}


def pareto(inputs: Sequence[Path]) -> Figure:
    """Outliers against variation for every variant and sampler; lower right is better.

    ``inputs``: the gathered ``samples.csv``; then any number of ``reference.csv`` (scores of real
    test images). Scores are averaged over oracles. The line through the dots is the truncation
    sweep and ends in the prior (T = 1); the line through the diamonds follows the volume weight α
    and passes through the prior (α = 0). Crosses: 95 % interval of the mean over seeds.
    """
    path, *references = inputs
    scores = [*SCORES, *VARIATION]
    frame = table(path, [*MODEL, "sampler", "setting", "oracle", *scores])
    ordered(frame["sampler"], SAMPLERS)
    ordered(frame["variant"], VARIANTS)
    means = frame.groupby([*MODEL, "sampler", "setting"], sort=False)[scores].mean().reset_index()
    real = [table(reference, ["dataset", *scores]) for reference in references]
    seeds = means["seed"].nunique()
    groups = grouped(means)
    figure, axes = canvas(
        2 * len(groups),
        2,
        width=TWO_COLUMNS,
        height=5.6 * len(groups) + 0.5,
        sharex="row",
        sharey="col",
    )
    for i, (group, held) in enumerate(groups):
        for (variation, x_label), line in zip(
            VARIATION.items(), axes[2 * i : 2 * i + 2], strict=True
        ):
            for (score, y_label), ax in zip(SCORES.items(), line, strict=True):
                for variant in ordered(held["variant"], VARIANTS):
                    part = held[held["variant"] == variant]
                    _trade(ax, part, VARIANTS[variant], variation, score)
                for reference in real:
                    images = reference[reference["dataset"].isin(held["dataset"])]
                    ax.plot(
                        images[variation].mean(),
                        images[score].mean(),
                        "*",
                        ms=9,
                        color="black",
                        mec="white",
                        mew=0.5,
                        zorder=5,
                    )
                ax.set(xlabel=x_label, ylabel=y_label)
                ax.tick_params(labelbottom=True, labelleft=True)
        axes[2 * i, 0].set_title(group, loc="left")
    variants = ordered(means["variant"], VARIANTS)
    samplers = ordered(means["sampler"], SAMPLERS)
    legend(
        figure,
        [handle(VARIANTS[name], line=True, marker="") for name in variants],
        [
            *(handle(SAMPLERS[name]) for name in samplers if name != "volume"),
            *([handle(SAMPLERS["volume"], label="volume, α < 0")] if "volume" in samplers else []),
            *(
                [handle(SAMPLERS["volume"], label="α > 0", mfc="white")]
                if "volume" in samplers
                else []
            ),
            *([handle(REAL, ms=8)] if real else []),
        ],
        title=(
            f"{summary(seeds)} over {counted(seeds, 'seed')}, "
            f"mean of {counted(frame['oracle'].nunique(), 'oracle')}; lower right is better"
        ),
    )
    return figure


def _trade(ax: Axes, frame: pd.DataFrame, kind: Look, variation: str, score: str) -> None:
    """All samplers of one variant: truncation and volume as curves, the others as points."""
    points = {
        (str(sampler), float(str(setting).partition("=")[2] or 0)): (
            mean_interval(part[variation]),
            mean_interval(part[score]),
        )
        for (sampler, setting), part in frame.groupby(["sampler", "setting"])
    }
    # The prior is the end of the truncation sweep (T = 1) and the zero of the volume weight.
    for sampler, at_prior in (("truncated", 1.0), ("volume", 0.0)):
        curve = {value: point for (name, value), point in points.items() if name == sampler}
        if curve and ("prior", 0.0) in points:
            curve[at_prior] = points["prior", 0.0]
        ax.plot(
            [curve[value][0][0] for value in sorted(curve)],
            [curve[value][1][0] for value in sorted(curve)],
            color=kind.color,
            linestyle=kind.line,
            lw=1.3 if sampler == "truncated" else 0.7,
            alpha=0.9,
        )
    for (sampler, weight), (x, y) in points.items():
        filled = sampler != "volume" or weight < 0
        ax.errorbar(
            x[0],
            y[0],
            xerr=_arms(x),
            yerr=_arms(y),
            color=kind.color,
            marker=SAMPLERS[sampler].marker,
            ms=5,
            mec="white" if filled and sampler != "truncated" else kind.color,
            mew=0.5,
            mfc=kind.color if filled else "white",
            elinewidth=0.5,
            alpha=0.9,
        )


def _arms(interval: tuple[float, float, float]) -> list[list[float]] | None:
    """Lengths of the error bar below and above the mean; none for a single seed."""
    mean, low, high = interval
    return [[mean - low], [high - mean]] if np.isfinite(low) else None


METRICS = {
    "acceleration": "Δ relative acceleration",
    "knn_outliers": "Δ kNN outliers (share)",
    "entropy_outliers": "Δ entropy outliers (share)",
    "recall": "Δ recall",
    "vendi": "Δ Vendi score",
    "logdet_spearman": r"Spearman of $\log\,\det\,g$",
    "relative_error_median, fitted / constant": "relative error, fitted / constant",
}
"""Axis labels of the metrics of claims; Δ: strategy minus control."""


def claims(inputs: Sequence[Path]) -> Figure:
    """Estimate, interval and verdict of every claim; one panel a metric, since units differ.

    ``inputs``: ``claims.csv``. A dashed line marks the bound of the claim's rule.
    """
    (path,) = inputs
    numbers = ["estimate", "ci_low", "ci_high"]
    frame = table(path, ["claim", "dataset", "metric", *numbers, "rule", "verdict"])
    verdicts = ordered(frame["verdict"], VERDICTS)
    frame["bound"] = frame["rule"].str.extract(BOUND)[0].astype(float)
    several = frame["dataset"].nunique() > 1
    frame["label"] = [
        fill(claim.replace(f"_{metric}", "").replace("_", " "), 42)
        + (f"\n({dataset})" if several else "")
        for claim, metric, dataset in frame[["claim", "metric", "dataset"]].astype(str).to_numpy()
    ]
    frame["height"] = frame["label"].str.count("\n") + 1.4
    blocks = [(str(metric), part) for metric, part in frame.groupby("metric", sort=False)]
    # In units of text lines: what lies below an axis takes as much room as four of them.
    heights = np.array([4 + part["height"].sum() for _, part in blocks])
    # Two columns of panels, broken where the taller one is shortest.
    tops = [max(heights[:k].sum(), heights[k:].sum()) for k in range(1, len(blocks) + 1)]
    first, height = int(np.argmin(tops)) + 1, min(tops)
    figure = blank(TWO_COLUMNS, 0.115 * height + 0.35)
    columns = figure.add_gridspec(1, 2)
    for column, start, stop in ((0, 0, first), (1, first, len(blocks))):
        # The last, empty row keeps the scale of both columns the same.
        ratios = [*heights[start:stop] - 4, height - heights[start:stop].sum() + 1e-3]
        grid = columns[column].subgridspec(len(ratios), 1, height_ratios=ratios)
        for row, (metric, part) in enumerate(blocks[start:stop]):
            ax = figure.add_subplot(grid[row])
            _forest(ax, part)
            ax.set_xlabel(METRICS.get(metric, metric), labelpad=1)
    legend(
        figure,
        [handle(VERDICTS[name]) for name in verdicts],
        title="estimate and interval; dashed: bound of the rule",
    )
    return figure


BOUND = r"(?:below|above|at most|at least) (-?[\d.]+(?:e-?\d+)?)"
"""The number in the rule of a claim."""


def _forest(ax: Axes, part: pd.DataFrame) -> None:
    """Rows of one metric, from the top down, each as high as its label."""
    bottom = part["height"].cumsum().to_numpy()
    centre = bottom - part["height"].to_numpy() / 2
    values = part[["estimate", "ci_low", "ci_high", "bound"]].to_numpy(dtype=float)
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() > 0 and np.ptp(np.log(finite)) > 5:
        ax.set_xscale("log")
    else:
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}".replace("-", "−"))
    for y, half, row, verdict in zip(
        centre, part["height"] / 2, values, part["verdict"], strict=True
    ):
        (estimate, low, high, bound), kind = row, VERDICTS[verdict]
        ax.vlines(bound, y - half, y + half, color="#333333", lw=0.7, ls=(0, (3, 2)))
        ax.hlines(y, low, high, color=kind.color, lw=1.4)
        ax.plot([estimate], [y], kind.marker, color=kind.color, ms=4.5, mew=0)
        if not np.isfinite(estimate):
            ax.text(
                0.03,
                y,
                "no estimate",
                transform=ax.get_yaxis_transform(),
                va="center",
                color="#666666",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )
    ax.set_yticks(centre, part["label"])
    ax.set_ylim(bottom[-1], 0)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
