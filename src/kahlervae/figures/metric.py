"""Figures of the metric: the latent slice, agreement with the Fisher metric, cost."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kahlervae.errors import InputError
from kahlervae.figures.images import models, show
from kahlervae.figures.looks import POTENTIALS, VARIANTS, Look, ordered
from kahlervae.figures.sources import MODEL, Run, given, rows, table
from kahlervae.figures.style import (
    WIDTH,
    canvas,
    counted,
    drawn,
    from_zero,
    handle,
    legend,
    quartiles,
    seeds,
    summary,
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
MANY = 4
"""From more variants than this on, the latent slices stand in two columns."""


def latent_slice(inputs: Sequence[Path], run: Run | None = None) -> Figure:
    """Log det of the Fisher metric and of both potentials on one plane of the latent space.

    ``inputs``: ``slice.safetensors`` of each model (lowest seed of each variant). One row a
    variant, less the median of its Fisher metric, on one colour scale; the decoded images of the
    plane come last. Dots are the posterior means of test images, at most 250, projected onto the
    plane. ρ is Spearman's correlation with the Fisher metric over the grid.
    """
    maps = {
        "log_det_fisher": "Fisher metric",
        "log_det_fitted": "fitted potential",
        "log_det_posterior": "posterior potential",
    }
    held = models(inputs, ["axis", *maps, "images", "means"], run)
    medians = {name: _median(content["log_det_fisher"]) for name, (content, _) in held.items()}
    fields = {
        name: {shown: content[shown] - medians[name] for shown in maps}
        for name, (content, _) in held.items()
    }
    # Those of the posterior potential, the least like the metric, run off the scale.
    limits = _limits(
        field
        for maps_of in fields.values()
        for shown, field in maps_of.items()
        if shown != "log_det_posterior"
    )
    blocks = 1 if len(held) <= MANY else 2
    lines = -(-len(held) // blocks)
    side = (WIDTH - 0.3 * blocks - 0.6) / (4 * blocks)
    figure, axes = canvas(lines, 4 * blocks, height=lines * (side + 0.12) + 0.6)
    figure.set_layout_engine("compressed")
    places = axes.reshape(lines, blocks, 4).swapaxes(0, 1).reshape(-1, 4)
    for (variant, (content, _)), line in zip(held.items(), places, strict=False):
        for (name, field), ax in zip(fields[variant].items(), line[:3], strict=True):
            _map(ax, content["axis"], field, *limits)
            ax.set(xticklabels=[], yticklabels=[])
            text = f"median {medians[variant]:.1f}"
            if name != "log_det_fisher":
                text = f"ρ = {_spearman(content['log_det_fisher'].ravel(), field.ravel()):.2f}"
            place = {"transform": ax.transAxes, "va": "top", "bbox": PLATE, "fontsize": 6}
            ax.text(0.04, 0.96, text.replace("-", "−"), **place)
        _dots(line[0], content["means"], size=2.2 / blocks)
        line[0].set_ylabel(VARIANTS[variant].label.replace(", ", ",\n"), fontsize=6.5)
        tiles = content["images"]
        show(line[3], tiles[::-1].reshape(-1, *tiles.shape[2:]), tiles.shape[1])
    for line in places[len(held) :]:
        for ax in line:
            ax.set_visible(False)
    titles = [*maps.values(), "decoded there"] * blocks
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title if blocks == 1 else title.replace(" ", "\n", 1))
    bar = figure.colorbar(places[0, 0].images[0], ax=axes, extend="both", pad=0.01, aspect=60)
    bar.set_label(r"$\log\,\det\,g$ − median")
    bar.outline.set_visible(False)
    figure.supxlabel(
        "1st and 2nd principal direction of posterior means, as many of their standard deviations "
        "in every row"
    )
    return figure


def _median(field: np.ndarray) -> float:
    """NaN where nothing is finite."""
    finite = field[np.isfinite(field)]
    return float(np.median(finite)) if finite.size else np.nan


def _limits(fields: Iterable[np.ndarray]) -> tuple[float, float]:
    """The range of the colours of several maps: 1st and 99th percentile of all their values."""
    values = np.concatenate([np.ravel(field) for field in fields])
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
    return float(low), float(high)


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


def _dots(ax: Axes, means: np.ndarray, size: float = 2.2) -> None:
    """Posterior means, at most 250."""
    ax.plot(*means[:250].T, ".", ms=size, mfc="white", mec="black", mew=0.3)


def construction(inputs: Sequence[Path], run: Run | None = None) -> Figure:
    """Decoders that are Kähler by construction beside their control: log det, and decoded lines.

    ``inputs``: ``slice.safetensors`` and ``gallery.safetensors`` of the models (lowest seed of each
    variant). One row a variant: log det of its metric, that of the exact potential where there is
    one, and straight latent lines between the posteriors of the same test images. Maps are less
    their median, on one colour scale.
    """
    slices, galleries = (
        models([path for path in inputs if path.stem == stem], names, run)
        for stem, names in (("slice", ["axis", "log_det_fisher", "means"]), ("gallery", ["paths"]))
    )
    if lost := slices.keys() - galleries.keys():
        raise InputError(f"There is no gallery of {min(lost)}: give that of every slice.")
    shown = 5
    figure, axes = canvas(len(slices), 2, height=1.9 * len(slices) + 0.3, width_ratios=[1, 2.2])
    figure.set_layout_engine("compressed")
    exact = {name for name, (content, _) in slices.items() if "log_det_log_partition" in content}
    fields = {
        name: content["log_det_log_partition" if name in exact else "log_det_fisher"]
        for name, (content, _) in slices.items()
    }
    fields = {name: field - _median(field) for name, field in fields.items()}
    limits = _limits(fields.values())
    for (variant, (content, _)), (left, right) in zip(slices.items(), axes, strict=True):
        _map(left, content["axis"], fields[variant], *limits)
        _dots(left, content["means"])
        bar = figure.colorbar(left.images[0], ax=left, extend="both", pad=0.02)
        bar.outline.set_visible(False)
        metric = "exact potential" if variant in exact else "Fisher metric"
        left.set_title(f"log det of the {metric} − median")
        left.set_ylabel(VARIANTS[variant].label)
        lines = galleries[variant][0]["paths"][:shown]
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


def agreement(inputs: Sequence[Path], run: Run | None = None) -> Figure:
    """Potential against Fisher metric, probe by probe: log det and eigenvalues.

    ``inputs``: the gathered ``probes.csv``. Points are those of the lowest seed; ρ is Spearman's
    correlation within a model, median (smallest to largest) over all models.
    """
    (path,) = given(inputs, "probes.csv")
    columns = [*MODEL, "probe_set", "potential", "probe", "quantity", "fisher", "value"]
    frame = rows(path, columns, run)
    frame = frame[frame["potential"] != "constant"]
    if frame.empty:
        raise InputError(f"{path} holds no potential to compare with: make the table again.")
    panels = [
        (potential, probes)
        for potential in ordered(frame["potential"], POTENTIALS)
        for probes in PROBES
        if (frame["probe_set"] == probes).any()
    ]
    quantities = {"log_det": r"$\log\,\det\,g$", "eigenvalue": "eigenvalues of $g$"}
    height = len(quantities) * ((WIDTH - 0.4) / max(len(panels), 4) + 0.35) + 0.9
    figure, axes = canvas(2, len(panels), height, sharex="row", sharey="row")
    for (quantity, name), line in zip(quantities.items(), axes, strict=True):
        held = frame[frame["quantity"] == quantity]
        for (potential, probes), ax in zip(panels, line, strict=True):
            part = held[(held["potential"] == potential) & (held["probe_set"] == probes)]
            ax.set_title(_scatter(ax, part, quantity))
            ax.set(xlabel="Fisher metric", ylabel="")
        line[0].set_ylabel(f"{name}, potential")
    for (potential, probes), ax in zip(panels, axes[0], strict=True):
        ax.set_title(f"{POTENTIALS[potential].label}\n{PROBES[probes].label}\n{ax.get_title()}")
    legend(
        figure,
        [handle(VARIANTS[variant]) for variant in ordered(frame["variant"], VARIANTS)],
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
    if len(shown):
        sns.scatterplot(
            shown,
            x="fisher",
            y="value",
            hue="variant",
            style="variant",
            palette={name: VARIANTS[name].color for name in shown["variant"].unique()},
            markers={name: VARIANTS[name].marker for name in shown["variant"].unique()},
            s=4,
            linewidth=0,
            alpha=0.35,
            legend=False,
            rasterized=True,
            ax=ax,
        )
        middle = shown["fisher"].median()
        ax.axline((middle, middle), (1.01 * middle, 1.01 * middle), color="black", lw=0.7, ls="--")
    rho = [_spearman(m["fisher"].to_numpy(), m["value"].to_numpy()) for _, m in part.groupby(MODEL)]
    rho = [value for value in rho if np.isfinite(value)]
    if not rho:
        return ""
    return f"ρ = {np.median(rho):.2f}\n({min(rho):.2f} to {max(rho):.2f})".replace("-", "−")


DEFECTS = {
    "hermitian_defect": "Hermitian defect",
    "closedness_defect": "closedness defect",
}


def agreement_summary(inputs: Sequence[Path], run: Run | None = None) -> Figure:
    """How far every potential is from the Fisher metric, and how far that is from Kähler.

    ``inputs``: the gathered ``agreement.csv``; its rows with potential ``fisher`` hold the defects
    of the Fisher metric itself. Dots are seeds; markers and bars their mean and its 95 % interval.
    """
    (path,) = given(inputs, "agreement.csv")
    frame = rows(path, [*MODEL, "probe_set", "potential", "relative_error_median", *DEFECTS], run)
    compared, own = (frame[(frame["potential"] == "fisher") == is_own] for is_own in (False, True))
    potentials = ordered(compared["potential"], POTENTIALS)
    count = frame["seed"].nunique()
    height = (0.08 * len(potentials) + 0.1) * frame["variant"].nunique() + 1.3
    figure, (axes,) = canvas(1, 4, height, sharey=True)
    for (probes, look), ax in zip(PROBES.items(), axes[:2], strict=True):
        part = compared[compared["probe_set"] == probes]
        seeds(ax, part, "relative_error_median", "potential", POTENTIALS)
        ax.set_title(f"error of potentials\n{look.label}")
        ax.set_xlabel(r"$\Vert g_K - g\Vert\,/\,\Vert g\Vert$, median")
    for (column, title), ax in zip(DEFECTS.items(), axes[2:], strict=True):
        seeds(ax, own, column, "probe_set", PROBES)
        ax.set_title(f"{title}\nof the Fisher metric")
        ax.set_xlabel("relative norm of the defect")
    for ax in axes:
        from_zero(ax)
    legend(
        figure,
        [handle(POTENTIALS[name]) for name in potentials],
        [handle(look) for look in PROBES.values()],
        title=f"dots: {counted(count, 'seed')}; markers: {summary(count)}",
    )
    return figure


METHODS = {
    "potential": Look("potential", "#D55E00", "D"),
    "fisher": Look("exact, best route", "#009E73", "v"),
    "jacfwd": Look("vmap(jacfwd)", "#0072B2", "o"),
    "jacrev": Look("jacrev", "#CC79A7", "^"),
    "jvp_loop": Look("loop of JVPs", "#E69F00", "s"),
    "decoder": Look("decoder", "#5F5F5F", "X"),
}
QUANTITIES = {
    "metric": Look("metric", "black", ""),
    "log_det": Look("and log det", "black", "", (4, 1)),
    "log_det_gradient": Look("and its gradient in z", "black", "", (1, 1)),
}
WITH_ERRORS = ("classes", "construction")
"""Rows that tell errors beside times, of other methods than those that vary with sizes."""
FACTORS = {
    "output_dim": ("decoder outputs D", "D"),
    "latent_dim": ("latent dimensions d", "d"),
    "components": ("components of the potential", None),
    "batch": ("points at once", None),
}
TIMES = ["microseconds_per_point", "microseconds_q25", "microseconds_q75"]


def cost(inputs: Sequence[Path]) -> Figure:
    """Time of one metric against each factor of its size, by method and quantity.

    ``inputs``: ``cost.csv``. Points are medians over repetitions, bars the quartiles. Exponents
    are slopes of least squares through the logarithms of the medians of the metric, with their
    standard errors where there are more than two points.
    """
    (path,) = given(inputs, "cost.csv")
    columns = ["sweep", *FACTORS, "quantity", "method", *TIMES]
    frame = table(path, columns)[columns]
    frame = frame[~frame["sweep"].isin(WITH_ERRORS)]
    factors = [factor for factor in FACTORS if (frame["sweep"] == factor).any()]
    if not factors:
        raise InputError(f"{path} varies no factor: add values to cost.sweeps.")
    methods, quantities = ordered(frame["method"], METHODS), ordered(frame["quantity"], QUANTITIES)
    lines = -(-len(factors) // 2)
    figure, axes = canvas(lines, min(len(factors), 2), height=2.5 * lines + 0.7, sharey=True)
    for factor, ax in zip(factors, axes.flat, strict=False):
        label, symbol = FACTORS[factor]
        part = frame[frame["sweep"].isin(["base", factor])]
        # Slow methods get fewer points: where that factor is varied, only rows that got them all.
        if factor == "batch":
            part = part[part["batch"].isin(frame.loc[frame["method"] == "potential", "batch"])]
        curve = part.groupby(["method", "quantity"])[factor].transform("size") > 1
        part = part[curve]
        sns.lineplot(
            quartiles(part, *TIMES),
            x=factor,
            y="value",
            hue="method",
            style="quantity",
            hue_order=methods,
            style_order=quantities,
            palette={name: METHODS[name].color for name in methods},
            dashes={name: QUANTITIES[name].dashes for name in quantities},
            err_style="bars",
            legend=False,
            ax=ax,
            **drawn,
        )
        sns.scatterplot(
            part,
            x=factor,
            y=TIMES[0],
            hue="method",
            style="method",
            palette={name: METHODS[name].color for name in methods},
            markers={name: METHODS[name].marker for name in methods},
            s=16,
            linewidth=0.3,
            zorder=3,
            legend=False,
            ax=ax,
        )
        ax.set(xscale="log", yscale="log", xlabel=label, ylabel="time per point (µs)")
        ax.set_xticks(values := sorted(part[factor].unique()), [f"{n:,}" for n in values])
        ax.minorticks_off()
        if symbol:
            powers = [
                handle(
                    METHODS[method], label=f"${symbol}^{{{_slope(held[factor], held[TIMES[0]])}}}$"
                )
                for method in methods
                for held in [part[(part["method"] == method) & (part["quantity"] == "metric")]]
                if len(held)
            ]
            beside = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "columnspacing": 1}
            ax.legend(handles=powers, ncols=3, **beside)
    for ax in axes.flat[len(factors) :]:
        ax.set_visible(False)
    for ax in axes[:, 1:].flat:
        ax.set_ylabel("")
    legend(
        figure,
        [handle(METHODS[name], line=True) for name in methods],
        [handle(QUANTITIES[name], line=True) for name in quantities],
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
    (path,) = given(inputs, "cost.csv")
    columns = ["sweep", "method", "relative_error", *TIMES]
    frame = table(path, columns)[columns]
    own = (frame["sweep"] == "construction") & (frame["method"] == "log_partition")
    frame = frame[(frame["sweep"] == "classes") | own]
    looks = {name: TRADED.get(name, METHODS["potential"]) for name in frame["method"].unique()}
    figure, ((ax,),) = canvas(1, 1, height=3)
    common: dict[str, Any] = {
        "hue": "method",
        "palette": {name: look.color for name, look in looks.items()},
    }
    common |= {"x": "relative_error", "legend": False, "ax": ax}
    bars = {"err_style": "bars", "linestyle": "none", **drawn}
    sns.lineplot(quartiles(frame, *TIMES), y="value", **bars, **common)
    markers = {name: look.marker for name, look in looks.items()}
    # Those without error lie on the border.
    sns.scatterplot(
        frame, y=TIMES[0], style="method", markers=markers, s=24, clip_on=False, zorder=3, **common
    )
    for method, error, time in frame[["method", "relative_error", TIMES[0]]].itertuples(
        index=False
    ):
        name = looks[method].label if method in TRADED else method.replace("_", " ")
        ax.annotate(name, (error, time), (5, 5), textcoords="offset points")
    ax.margins(x=0.25, y=0.2)
    ax.set(
        title="potentials of one random decoder",
        xlabel="relative error of the metric",
        ylabel="time per point (µs)",
        yscale="log",
    )
    ax.set_xlim(left=0)
    return figure


def _slope(x: pd.Series, y: pd.Series) -> str:
    """Exponent of a power law, with its standard error if there is one."""
    x, y = np.log(x), np.log(y)
    if len(x) < 3:
        return f"{round(np.polyfit(x, y, 1)[0], 2) + 0.0:.2f}"
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    return rf"{round(slope, 2) + 0.0:.2f} \pm {covariance[0, 0] ** 0.5:.2f}"
