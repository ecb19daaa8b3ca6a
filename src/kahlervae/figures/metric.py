"""Figures of the metric: the latent slice, agreement with the Fisher metric, cost."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kahlervae.errors import InputError
from kahlervae.figures.images import models, show
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

__all__ = [
    "agreement",
    "agreement_summary",
    "construction",
    "cost",
    "latent_slice",
    "tradeoff",
]

PROBES = {
    "posterior": Look("at posterior probes", "#000000", "o"),
    "prior": Look("at prior probes", "#8C8C8C", "s"),
}
PLATE = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.2}
FIELD = mpl.colormaps["cividis"].with_extremes(bad="#DDDDDD")


def latent_slice(inputs: Sequence[Path]) -> Figure:
    """Log det of the Fisher metric and of both potentials on one plane of the latent space.

    ``inputs``: ``slice.safetensors`` of each model (lowest seed of each variant). One row a
    variant, one colour scale for all variants of a data set; the decoded images of the plane come
    last. Dots are the posterior means of test images, at most 250, projected onto the plane. ρ is
    Spearman's correlation with the Fisher metric over the grid.
    """
    maps = {
        "log_det_fisher": "Fisher metric",
        "log_det_fitted": "fitted potential",
        "log_det_posterior": "posterior potential",
    }
    slices = models(inputs, ["axis", *maps, "images", "means"])
    rows = [
        (group, variant, content)
        for group, held in slices.items()
        for variant, (content, _) in held.items()
    ]
    limits = {}
    for group, held in slices.items():
        values = np.concatenate(
            [content[name].ravel() for content, _ in held.values() for name in maps]
        )
        finite = np.isfinite(values).any()
        limits[group] = np.nanpercentile(values, [1, 99]) if finite else (0.0, 1.0)
    width = TWO_COLUMNS
    figure, axes = canvas(len(rows), 4, width=width, height=len(rows) * (width - 0.9) / 4 + 0.55)
    figure.set_layout_engine("compressed")
    for (group, variant, content), line in zip(rows, axes, strict=True):
        low, high = limits[group]
        for name, ax in zip(maps, line[:3], strict=True):
            field = content[name]
            _map(ax, content["axis"], field, low, high)
            if name != "log_det_fisher":
                rho = _spearman(content["log_det_fisher"].ravel(), field.ravel())
                ax.text(
                    0.04,
                    0.96,
                    f"ρ = {rho:.2f}".replace("-", "−"),
                    transform=ax.transAxes,
                    va="top",
                    bbox=PLATE,
                )
            ax.set_xlabel("1st principal direction")
        _dots(line[0], content["means"])
        label = VARIANTS[variant].label
        line[0].set_ylabel(
            ", ".join([*group, label] if len(slices) > 1 else [label]) + "\n2nd principal direction"
        )
        tiles = content["images"]
        show(line[3], tiles[::-1].reshape(-1, *tiles.shape[2:]), tiles.shape[1])
    for ax in axes[:-1, :3].flat:
        ax.set_xlabel("")
    for ax in axes[:, 1:3].flat:
        ax.set_yticklabels([])
    for ax, title in zip(axes[0], [*maps.values(), "decoded there"], strict=True):
        ax.set_title(title)
    start = 0
    for held in slices.values():
        block = axes[start : start + len(held)]
        start += len(held)
        image = block[0, 0].images[0]
        bar = figure.colorbar(image, ax=block, extend="both", aspect=15 * len(held), pad=0.01)
        bar.set_label(r"$\log\,\det\,g$")
        bar.outline.set_visible(False)
    return figure


def _map(ax: Axes, grid: np.ndarray, field: np.ndarray, low: float, high: float) -> None:
    """Values on a square of the latent space, with contours."""
    extent = (grid[0], grid[-1], grid[0], grid[-1])
    ax.imshow(
        field,
        origin="lower",
        extent=extent,
        cmap=FIELD,
        vmin=low,
        vmax=high,
        interpolation="bilinear",
    )
    ax.contour(
        grid,
        grid,
        np.ma.masked_invalid(field),
        levels=np.linspace(low, high, 9)[1:-1],
        colors="white",
        linestyles="solid",
        linewidths=0.3,
    )
    ax.set(xlim=extent[:2], ylim=extent[2:])
    ax.grid(False)


def _dots(ax: Axes, means: np.ndarray) -> None:
    """Posterior means, at most 250."""
    ax.plot(*means[:250].T, ".", ms=2.2, mfc="white", mec="black", mew=0.3)


def construction(inputs: Sequence[Path]) -> Figure:
    """Decoders that are Kähler by construction beside their control: log det, and decoded lines.

    ``inputs``: ``slice.safetensors`` and ``gallery.safetensors`` of the models (lowest seed of each
    variant). One row a variant: log det of its metric, that of the exact potential where there is
    one, and straight latent lines between the posteriors of the same test images.
    """
    slices, galleries = (
        models([path for path in inputs if path.stem == stem], names)
        for stem, names in (("slice", ["axis", "log_det_fisher", "means"]), ("gallery", ["paths"]))
    )
    rows = [(group, variant) for group, held in slices.items() for variant in held]
    width, shown = TWO_COLUMNS, 5
    figure, axes = canvas(
        len(rows), 2, width=width, height=1.9 * len(rows) + 0.3, width_ratios=[1, 2.2]
    )
    figure.set_layout_engine("compressed")
    for (group, variant), (left, right) in zip(rows, axes, strict=True):
        content, _ = slices[group][variant]
        exact = "log_det_log_partition" in content
        field = content["log_det_log_partition" if exact else "log_det_fisher"]
        finite = field[np.isfinite(field)]
        low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
        _map(left, content["axis"], field, low, high)
        _dots(left, content["means"])
        bar = figure.colorbar(left.images[0], ax=left, extend="both", pad=0.02)
        bar.outline.set_visible(False)
        left.set_title("log det of the " + ("exact potential" if exact else "Fisher metric"))
        left.set_ylabel(", ".join([*group, VARIANTS[variant].label]))
        lines = galleries[group][variant][0]["paths"][:shown]
        show(right, lines.reshape(-1, *lines.shape[2:]), lines.shape[1])
    axes[0, 1].set_title("decoded straight lines between the same test images")
    return figure


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's correlation of the finite pairs; NaN if either side is constant."""
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    if x.size < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan
    return float(np.corrcoef(pd.Series(x).rank(), pd.Series(y).rank())[0, 1])


def agreement(inputs: Sequence[Path]) -> Figure:
    """Potential against Fisher metric, probe by probe: log det and eigenvalues.

    ``inputs``: the gathered ``probes.csv``. Points are those of the lowest seed; ρ is Spearman's
    correlation within a model, median (smallest to largest) over all models.
    """
    (path,) = inputs
    columns = [*MODEL, "probe_set", "potential", "probe", "quantity", "fisher", "value"]
    frame = table(path, columns)
    frame = frame[frame["potential"] != "constant"]
    if frame.empty:
        raise InputError(f"{path} holds no potential to compare with: make the table again.")
    panels = [
        (potential, probes)
        for potential in ordered(frame["potential"], POTENTIALS)
        for probes in PROBES
        if (frame["probe_set"] == probes).any()
    ]
    groups = grouped(frame)
    rows = [
        (group, quantity, held[held["quantity"] == quantity])
        for group, held in groups
        for quantity in ("log_det", "eigenvalue")
    ]
    width = TWO_COLUMNS
    figure, axes = canvas(
        len(rows),
        len(panels),
        width=width,
        height=len(rows) * (width - 0.4) / 4 + 1.0,
        sharex="row",
        sharey="row",
    )
    for (group, quantity, held), line in zip(rows, axes, strict=True):
        for (potential, probes), ax in zip(panels, line, strict=True):
            part = held[(held["potential"] == potential) & (held["probe_set"] == probes)]
            ax.set_title(_scatter(ax, part, quantity))
        name = r"$\log\,\det\,g$" if quantity == "log_det" else "eigenvalues of $g$"
        line[0].set_ylabel(titled(group, f"{name}, potential"))
        for ax in line:
            ax.set_xlabel(f"{name}, Fisher")
    for (potential, probes), ax in zip(panels, axes[0], strict=True):
        ax.set_title(f"{POTENTIALS[potential].label}\n{PROBES[probes].label}\n{ax.get_title()}")
    variants = ordered(frame["variant"], VARIANTS)
    legend(
        figure,
        [handle(VARIANTS[variant]) for variant in variants],
        title=(
            f"{counted(frame.groupby(MODEL).ngroups, 'model')}, "
            f"{counted(frame['probe'].nunique(), 'probe')} each; points: one seed; "
            "ρ: Spearman within a model, median (range) over models"
        ),
    )
    return figure


def _scatter(ax: Axes, part: pd.DataFrame, quantity: str) -> str:
    """Draw the probes of one panel; the rank correlation in words."""
    shown = part[part["seed"] == part["seed"].min()].dropna(subset=["fisher", "value"])
    if quantity == "eigenvalue":
        ax.set(xscale="log", yscale="log")
        shown = shown[(shown["fisher"] > 0) & (shown["value"] > 0)]
    # One fixed shuffle, so that no variant hides another only because it is drawn later.
    shown = shown.sample(frac=1, random_state=0)
    for variant, points in shown.groupby("variant"):
        kind = VARIANTS[variant]
        ax.plot(
            points["fisher"],
            points["value"],
            kind.marker,
            color=kind.color,
            ms=2,
            mew=0,
            alpha=0.35,
            rasterized=True,
        )
    if len(shown):
        middle = shown["fisher"].median()
        ax.axline((middle, middle), (1.01 * middle, 1.01 * middle), color="black", lw=0.7, ls="--")
    rho = [_spearman(m["fisher"].to_numpy(), m["value"].to_numpy()) for _, m in part.groupby(MODEL)]
    rho = [value for value in rho if np.isfinite(value)]
    if not rho:
        return ""
    return f"ρ = {np.median(rho):.2f} ({min(rho):.2f} to {max(rho):.2f})".replace("-", "−")


DEFECTS = {
    "hermitian_defect": "Hermitian defect of the Fisher metric",
    "closedness_defect": "closedness defect of the Fisher metric",
}


def agreement_summary(inputs: Sequence[Path]) -> Figure:
    """How far every potential is from the Fisher metric, and how far that is from Kähler.

    ``inputs``: the gathered ``agreement.csv``; its rows with potential ``fisher`` hold the defects
    of the Fisher metric itself. Points are seeds; bars their mean and its 95 % interval.
    """
    (path,) = inputs
    frame = table(path, [*MODEL, "probe_set", "potential", "relative_error_median", *DEFECTS])
    potentials = ordered(set(frame["potential"]) - {"fisher"}, POTENTIALS)
    seeds = frame["seed"].nunique()
    groups = grouped(frame)
    figure, axes = canvas(
        2 * len(groups), 2, width=TWO_COLUMNS, height=3.6 * len(groups) + 0.5, sharey="row"
    )
    for i, (group, held) in enumerate(groups):
        errors, defects = axes[2 * i : 2 * i + 2]
        variants = ordered(held["variant"], VARIANTS)
        for probes, ax in zip(PROBES, errors, strict=True):
            part = held[held["probe_set"] == probes]
            dodged(ax, part, variants, "potential", potentials, POTENTIALS, "relative_error_median")
            ax.set_title(f"relative error, median {PROBES[probes].label}")
        for (column, title), ax in zip(DEFECTS.items(), defects, strict=True):
            own = held[held["potential"] == "fisher"]
            dodged(ax, own, variants, "probe_set", list(PROBES), PROBES, column)
            ax.set_title(title)
        for line, label in (
            (errors, r"$\Vert g_K - g\Vert\,/\,\Vert g\Vert$"),
            (defects, "relative norm of the defect"),
        ):
            line[0].set_ylabel(titled(group, label))
            for ax in line:
                ax.update_datalim([(0, 0)])  # an error of zero is the point of reference
                ax.autoscale_view(scalex=False)
                ax.tick_params(labelleft=True)
            line[0].set_ylim(bottom=0)
    legend(
        figure,
        [handle(POTENTIALS[name]) for name in potentials],
        [handle(look) for look in PROBES.values()],
        title=f"points: {counted(seeds, 'seed')}; bars: {summary(seeds)}",
    )
    return figure


METHODS = {
    "potential": Look("potential", "#D55E00", "D", "-"),
    "fisher": Look("exact, best route", "#009E73", "v", "-"),
    "jacfwd": Look("vmap(jacfwd)", "#0072B2", "o", "-"),
    "jacrev": Look("jacrev", "#CC79A7", "^", "-"),
    "jvp_loop": Look("loop of JVPs", "#E69F00", "s", "-"),
    "decoder": Look("decoder", "#5F5F5F", "X", (0, (1, 1))),
}
QUANTITIES = {
    "metric": Look("metric", "black", "", "-"),
    "log_det": Look("and log det", "black", "", (0, (4, 1))),
    "log_det_gradient": Look("and its gradient in z", "black", "", (0, (1, 1))),
}
WITH_ERRORS = ("classes", "construction")
"""Rows that tell errors beside times, of other methods than those that vary with sizes."""
FACTORS = {
    "output_dim": ("decoder outputs D", "D"),
    "latent_dim": ("latent dimensions d", "d"),
    "components": ("components of the potential", None),
    "batch": ("points at once", None),
}


def cost(inputs: Sequence[Path]) -> Figure:
    """Time of one metric against each factor of its size, by method and quantity.

    ``inputs``: ``cost.csv``. Points are medians over repetitions, bars the quartiles. Exponents
    are slopes of least squares through the logarithms of the medians of the metric, with their
    standard errors where there are more than two points.
    """
    (path,) = inputs
    columns = ["sweep", *FACTORS, "quantity", "method", "microseconds_per_point"]
    frame = table(path, [*columns, "microseconds_q25", "microseconds_q75"])
    frame = frame[~frame["sweep"].isin(WITH_ERRORS)]
    factors = [factor for factor in FACTORS if (frame["sweep"] == factor).any()]
    if not factors:
        raise InputError(f"{path} varies no factor: add values to cost.sweeps.")
    lines = -(-len(factors) // 2)
    figure, axes = canvas(
        lines, min(len(factors), 2), width=TWO_COLUMNS, height=2.5 * lines + 0.7, sharey=True
    )
    for factor, ax in zip(factors, axes.flat, strict=False):
        label, symbol = FACTORS[factor]
        part = frame[frame["sweep"].isin(["base", factor])]
        # Slow methods get fewer points: where that factor is varied, only rows that got them all.
        asked = frame.loc[frame["method"] == "potential", "batch"]
        if factor == "batch":
            part = part[part["batch"].isin(asked)]
        for (method, quantity), points in part.groupby(["method", "quantity"], sort=False):
            if len(points) < 2:
                continue
            points = points.sort_values(factor)
            kind, line = METHODS[str(method)], QUANTITIES[str(quantity)].line
            middle = points["microseconds_per_point"]
            label_text = None
            if symbol and quantity == "metric":
                label_text = f"${symbol}^{{{_slope(points[factor], middle)}}}$"
            ax.errorbar(
                points[factor],
                middle,
                yerr=[middle - points["microseconds_q25"], points["microseconds_q75"] - middle],
                color=kind.color,
                marker=kind.marker,
                linestyle=kind.line if method == "decoder" else line,
                label=label_text,
            )
        ax.set(xscale="log", yscale="log", xlabel=label)
        ax.set_xticks(values := sorted(part[factor].unique()), [f"{n:,}" for n in values])
        ax.minorticks_off()
        if symbol:
            ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=1)
    for ax in axes.flat[len(factors) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("time per point (µs)")
    legend(
        figure,
        [handle(METHODS[name], line=True) for name in ordered(frame["method"], METHODS)],
        [handle(QUANTITIES[name], line=True) for name in ordered(frame["quantity"], QUANTITIES)],
        title="points: medians of repetitions; bars: quartiles",
    )
    return figure


TRADED = {
    "fisher": METHODS["fisher"]._replace(label="exact metric"),
    "log_partition": POTENTIALS["log_partition"],
}
"""What has no error; the others are classes of fitted potentials."""


def tradeoff(inputs: Sequence[Path]) -> Figure:
    """What every class of potentials gives for its time: error against time of one metric.

    ``inputs``: ``cost.csv``. Classes are fitted to one random decoder; the log-partition function
    is that of a decoder of the same size that is Kähler by construction. Points are medians, of the
    error over fresh points and of the time over repetitions, bars the quartiles of the time.
    """
    (path,) = inputs
    columns = ["sweep", "method", "relative_error", "microseconds_per_point"]
    frame = table(path, [*columns, "microseconds_q25", "microseconds_q75"])
    own = (frame["sweep"] == "construction") & (frame["method"] == "log_partition")
    frame = frame[(frame["sweep"] == "classes") | own]
    figure, axes = canvas(1, 1, width=TWO_COLUMNS, height=3)
    ax = axes.flat[0]
    for row in frame.to_dict("records"):
        error, middle = row["relative_error"], row["microseconds_per_point"]
        spread = [[middle - row["microseconds_q25"]], [row["microseconds_q75"] - middle]]
        method = str(row["method"])
        look = TRADED.get(method, METHODS["potential"])
        ax.errorbar(error, middle, yerr=spread, color=look.color, marker=look.marker)
        name = look.label if method in TRADED else method.replace("_", " ")
        ax.annotate(name, (error, middle), (5, 5), textcoords="offset points")
    ax.margins(x=0.25, y=0.2)
    ax.set(yscale="log", xlabel="relative error of the metric", ylabel="time per point (µs)")
    return figure


def _slope(x: pd.Series, y: pd.Series) -> str:
    """Exponent of a power law, with its standard error if there is one."""
    x, y = np.log(x), np.log(y)
    if len(x) < 3:
        return f"{round(np.polyfit(x, y, 1)[0], 2) + 0.0:.2f}"
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    return rf"{round(slope, 2) + 0.0:.2f} \pm {covariance[0, 0] ** 0.5:.2f}"
