"""Figures of what is decoded: reconstructions, samples, latent lines."""

import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kahlervae.errors import InputError
from kahlervae.figures.looks import SAMPLERS, VARIANTS, ordered
from kahlervae.figures.pictures import pictures
from kahlervae.figures.sources import GROUP, MODEL, Run, arrays, given, only, rows, table
from kahlervae.figures.style import (
    PAGE,
    WIDTH,
    blank,
    canvas,
    counted,
    half_weight,
    judged_by,
    seeds,
    summary,
)

__all__ = [
    "flagged",
    "geodesics",
    "key_label",
    "models",
    "paths",
    "reconstructions",
    "sample_sheets",
    "show",
    "tile",
]

INK = mpl.colormaps["gray_r"].with_extremes(bad="white")
"""Dark strokes on white paper; the gaps between tiles are NaN and stay white."""

Held = dict[str, tuple[dict[str, np.ndarray], dict[str, str]]]
"""By variant, arrays and identity of a model."""
Key = TypeVar("Key")

FLAGGED = {
    "knn": "flagged by kNN only",
    "entropy": "by entropy only",
    "both": "by both",
    "neither": "by neither",
}
"""Titles of the groups of samples in the order of the columns."""


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Pictures (n, H, W) or (n, H, W, 3) as one of ``columns`` columns, NaN between neighbours."""
    n, height, width, *colours = images.shape
    gap = max(1, width // 10)
    rows = -(-n // columns)
    size = rows * (height + gap) - gap, columns * (width + gap) - gap
    sheet = np.full((*size, *colours), np.nan)
    for k, image in enumerate(images):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def show(axes: Axes, images: np.ndarray, columns: int, labels: Sequence[str] = ()) -> None:
    """Draw views of any shape, tiled, with a label for each row of tiles."""
    _draw(axes, pictures(images), columns, labels)


def _draw(axes: Axes, drawn: np.ndarray, columns: int, labels: Sequence[str] = ()) -> None:
    """As :func:`show`, of pictures."""
    height, width = drawn.shape[1:3]
    sheet = tile(drawn, columns)
    # Gaps between colours have to be white by themselves.
    axes.imshow(
        np.nan_to_num(sheet, nan=1.0) if sheet.ndim > 2 else sheet, cmap=INK, vmin=0, vmax=1
    )
    pitch = height + max(1, width // 10)
    axes.set_yticks(pitch * np.arange(len(labels)) + (height - 1) / 2, labels)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _alike(views: Mapping[Key, np.ndarray]) -> dict[Key, np.ndarray]:
    """Pictures of several views of one data set, all on one scale."""
    if not views:
        return {}
    drawn = pictures(np.concatenate(list(views.values())))
    ends = np.cumsum([len(part) for part in views.values()])
    return dict(zip(views, np.split(drawn, ends[:-1]), strict=True))


def models(inputs: Sequence[Path], names: Sequence[str], run: Run | None = None) -> Held:
    """Arrays and identity of the lowest seed of every variant of one experiment.

    Raises:
        InputError: there is no model, or without ``run`` those of several experiments.
    """
    groups: dict[Run, Held] = defaultdict(dict)
    for path in inputs:
        content, identity = arrays(path, names)
        held, variant = groups[tuple(identity[key] for key in GROUP)], identity["variant"]
        if variant not in held or int(identity["seed"]) < int(held[variant][1]["seed"]):
            held[variant] = content, identity
    if not groups:
        raise InputError("The figure needs the array file of at least one model.")
    (chosen,) = only(groups, run, inputs[0].parent)
    held = groups[chosen]
    return {variant: held[variant] for variant in ordered(held, VARIANTS)}


def reconstructions(inputs: Sequence[Path], run: Run | None = None) -> Figure:
    """Test images and their reconstructions, one row a variant (lowest seed given).

    ``inputs``: ``gallery.safetensors`` of each model; optionally the gathered
    ``reconstruction.csv``, from which the rows are labelled with the model's test error.
    """
    held = models(
        [path for path in inputs if path.suffix != ".csv"], ["originals", "reconstructions"], run
    )
    errors = {
        tuple(map(str, row[:-1])): row[-1]
        for path in inputs
        if path.suffix == ".csv"
        for row in table(path, [*MODEL, "mse"])[[*MODEL, "mse"]].itertuples(index=False)
    }
    originals = next(iter(held.values()))[0]["originals"]
    labels, tiles = ["test data"], [originals]
    for variant, (content, identity) in held.items():
        if not np.array_equal(content["originals"], originals):
            raise InputError(
                f"The galleries hold different test images (see {variant}): make them again from "
                "one data file."
            )
        labels.append(VARIANTS[variant].label)
        if (error := errors.get(tuple(identity[key] for key in MODEL))) is not None:
            labels[-1] += f"\nMSE {error:.4f}"
        tiles.append(content["reconstructions"])
    figure, ((ax,),) = canvas(1, 1, len(labels) * (WIDTH - 0.9) / len(originals) + 0.3)
    figure.set_layout_engine("compressed")
    show(ax, np.concatenate(tiles), len(originals), labels)
    return figure


def _setting(key: str) -> dict[str, str]:
    """``gmm:components=10,temperature=0.7`` → components and temperature; nothing for defaults."""
    pairs = key.partition(":")[2].split(",")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def _shown(keys: Sequence[str]) -> list[str]:
    """The columns of the sample sheets, out of all ``sampler:setting`` keys.

    One of each sampler, and of the volume samplers one of each base: at the temperature nearest to
    0.7 or the power nearest to half of the strongest, with the fewest components, the local weight
    and the fitted metric where there are several.
    """
    settings = {key: _setting(key) for key in keys}
    columns = defaultdict(list)
    for key, setting in settings.items():
        columns[key.partition(":")[0], setting.get("base", "")].append(key)

    def representative(held: list[str]) -> str:
        half = half_weight(float(settings[key].get("power", 0)) for key in held)

        def rank(key: str) -> tuple[float, ...]:
            setting = settings[key]
            return (
                setting.get("metric") != "fitted",
                setting.get("weight") != "local",
                int(setting.get("components", 0)),
                abs(float(setting.get("temperature", 0.7)) - 0.7),
                abs(float(setting.get("power", half)) - half),
            )

        return min(sorted(held), key=rank)

    samplers = ordered((sampler for sampler, _ in columns), SAMPLERS)
    ordered(({sampler for sampler, _ in columns}), SAMPLERS)  # refuses unknown ones
    order = sorted(columns, key=lambda column: (samplers.index(column[0]), column[1]))
    return [representative(columns[column]) for column in order]


def key_label(key: str) -> str:
    """``volume:base=gmm,weight=local,metric=fitted,power=-4`` as a column title."""
    setting = _setting(key)
    base = [setting["base"].replace("_", " ")] if "base" in setting else []
    weight = [setting["weight"]] if "weight" in setting else []
    metric = [setting["metric"]] if setting.get("metric", "fitted") != "fitted" else []
    knobs = {"components": "K = ", "temperature": "T = ", "power": "power "}
    values = [
        symbol + setting[name].replace("-", "−")
        for name, symbol in knobs.items()
        if name in setting
    ]
    label = SAMPLERS[ordered([key.partition(":")[0]], SAMPLERS)[0]].label
    lines = [[label], base + weight + metric, values]
    return "\n".join(", ".join(line) for line in lines if line)


def sample_sheets(inputs: Sequence[Path], run: Run | None = None) -> Figure:
    """Decoded samples, variants × samplers (lowest seed given).

    ``inputs``: ``sheet.safetensors`` of each model. One column a sampler, at a middling setting.
    Models with a single sampler are left out where others have more; if none has more, they stand
    side by side.
    """
    sheets = {variant: content for variant, (content, _) in models(inputs, [], run).items()}
    keys = _shown(sorted({key for content in sheets.values() for key in content}))
    if not keys:
        raise InputError(f"{inputs[0]} holds no samples of a known sampler: make it again.")
    several = {name: held for name, held in sheets.items() if len({*keys} & {*held}) > 1}
    sheets = several or sheets
    if len(keys) == 1:
        return _sheets_of_one_sampler(sheets, keys[0])
    across, side = 6, (WIDTH - 0.3) / max(len(keys), 4)
    # Of many variants fewer rows of samples, so that a page holds them.
    down = min(across, max(1, int(across * (PAGE - 0.9) / (len(sheets) * side))))
    figure, axes = canvas(len(sheets), len(keys), len(sheets) * side * down / across + 0.7)
    figure.set_layout_engine("compressed", wspace=0.08, hspace=0.08)
    drawn = _alike(
        {
            (variant, key): content[key][: across * down]
            for variant, content in sheets.items()
            for key in keys
            if key in content
        }
    )
    for variant, line in zip(sheets, axes, strict=True):
        for key, ax in zip(keys, line, strict=True):
            if (variant, key) in drawn:
                _draw(ax, drawn[variant, key], across)
            else:
                ax.text(0.5, 0.5, "not sampled", ha="center", va="center", color="#666666")
                ax.set(xticks=[], yticks=[], box_aspect=1)
                ax.spines[:].set_visible(False)
        label = VARIANTS[variant].label.replace(", ", ",\n")
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=6)
    for key, ax in zip(keys, axes[0], strict=True):
        narrow = len(keys) > 5
        lines = key_label(key).replace(" = ", "\u00a0=\u00a0").split("\n")
        title = "\n".join(textwrap.fill(line, 14) for line in lines) if narrow else key_label(key)
        ax.set_title(title, fontsize=6 if narrow else None)
    return figure


def _sheets_of_one_sampler(sheets: Mapping[str, Mapping[str, np.ndarray]], key: str) -> Figure:
    held = {variant: content[key] for variant, content in sheets.items() if key in content}
    columns = min(len(held), 4)
    lines = -(-len(held) // columns)
    across, side = 6, WIDTH / max(columns, 3)
    # Of many variants fewer rows of samples, so that a page holds them.
    down = min(across, max(1, int(across * ((PAGE - 0.5) / lines - 0.35) / side)))
    figure, axes = canvas(lines, columns, lines * (side * down / across + 0.35) + 0.3)
    figure.set_layout_engine("compressed", wspace=0.08, hspace=0.08)
    drawn = _alike({variant: content[: across * down] for variant, content in held.items()})
    for ax in axes.flat[len(held) :]:
        ax.set_axis_off()
    for (variant, images), ax in zip(drawn.items(), axes.flat, strict=False):
        _draw(ax, images, across)
        ax.set_title(f"{VARIANTS[variant].label}\n{key_label(key)}", fontsize=6)
    return figure


def flagged(inputs: Sequence[Path], run: Run | None = None) -> Figure:
    """Samples by who flags them, variants and samplers × groups, with the share of each group.

    ``inputs``: ``flagged.safetensors`` of each model (lowest seed given). Groups: flagged by kNN
    distance only, by predictive entropy only, by both, by neither. Models with fewer samplers than
    others are left out.
    """
    held = {variant: content for variant, (content, _) in models(inputs, [], run).items()}
    keys = {variant: _flagged_keys(content) for variant, content in held.items()}
    most = max(map(len, keys.values()))
    if not most:
        raise InputError(f"{inputs[0]} holds no flagged samples: make it again.")
    lines = [
        (variant, key) for variant in held if len(keys[variant]) == most for key in keys[variant]
    ]
    across, side = 8, (WIDTH - 1.2) / (8 * len(FLAGGED) + 2)
    down = 2 if len(lines) * (2 * side + 0.2) < PAGE - 0.5 else 1
    figure, axes = canvas(len(lines), len(FLAGGED), len(lines) * (down * side + 0.2) + 0.4)
    figure.set_layout_engine("compressed", wspace=0.04, hspace=0.04)
    drawn = _alike(
        {
            (variant, name, key): held[variant][f"images/{name}/{key}"]
            for variant, key in lines
            for name in FLAGGED
        }
    )
    for i, (line, (variant, key)) in enumerate(zip(axes, lines, strict=True)):
        for ax, (name, title) in zip(line, FLAGGED.items(), strict=True):
            images, share = drawn[variant, name, key], held[variant][f"share/{name}/{key}"]
            blanks = np.full((down * across, *images.shape[1:]), np.nan)
            _draw(ax, np.concatenate([images, blanks])[: down * across], across)
            ax.set_title(f"{title}\n{share:.1%}" if i == 0 else f"{share:.1%}", pad=2)
        names = VARIANTS[variant].label, key_label(key)
        line[0].set_ylabel("\n".join(names), rotation=0, ha="right", va="center", fontsize=6)
    return figure


def _flagged_keys(content: Mapping[str, np.ndarray]) -> list[str]:
    """The samplers in a file of flagged samples, in the order of the legends."""
    keys = [name.split("/", 2)[2] for name in content if name.startswith("share/neither/")]
    known = ordered((key.partition(":")[0] for key in keys), SAMPLERS)
    return sorted(keys, key=lambda key: known.index(key.partition(":")[0]))


def _lines(held: Held, names: Sequence[str], margin: float, room: float) -> tuple[int, int, float]:
    """How many rows and columns of latent lines there are, and the height of a row in inches.

    There is a row of images for each of the arrays ``names`` of every variant. Lines that would not
    fit into ``room`` are left out; ``margin`` is what the labels of a line take.
    """
    count = min(len(content[names[0]]) for content, _ in held.values())
    across = min(2, count)
    steps = max(content[names[0]].shape[1] for content, _ in held.values())
    height = len(names) * len(held) * (WIDTH / across - margin) / steps + 0.25
    return min(-(-count // across), max(1, int(room / height))), across, height


def paths(inputs: Sequence[Path], run: Run | None = None) -> Figure:
    """Decoded straight latent lines between the posteriors of the same test images.

    ``inputs``: ``gallery.safetensors`` of each model. One block a line, one row a variant; as many
    lines as a page holds.
    """
    held = models(inputs, ["paths"], run)
    lines, across, height = _lines(held, ["paths"], margin=0.9, room=PAGE)
    figure, axes = canvas(lines, across, lines * height)
    figure.set_layout_engine("compressed")
    _show_lines(axes, held, ["paths"], "line")
    return figure


def _show_lines(axes: np.ndarray, held: Held, names: Sequence[str], title: str) -> None:
    """One latent line in each of the axes, a row of images for every variant and name."""
    labels = [
        ", ".join([VARIANTS[variant].label, *(names[1:] and [name])])
        for variant in held
        for name in names
    ]
    for k, ax in enumerate(axes.flat):
        if any(k >= len(content[names[0]]) for content, _ in held.values()):
            ax.set_axis_off()
            continue
        images = [content[name][k] for content, _ in held.values() for name in names]
        show(ax, np.concatenate(images), len(images[0]), labels)
        ax.set_title(f"{title} {k + 1}")
        ax.set_anchor("W")  # beside its labels, for which the layout leaves room


DIFFERENCES = {
    "fisher_length": "length in the Fisher metric,\ngeodesic / straight",
    "acceleration": "Δ relative acceleration",
    "midpoint_outliers": "Δ outliers among midpoints",
}


def geodesics(inputs: Sequence[Path], run: Run | None = None) -> Figure:
    """Decoded geodesics and straight lines between the same test images, and what they differ in.

    ``inputs``: ``geodesics.safetensors`` of each model, of which the lowest seed is shown, and
    the gathered ``geodesics.csv``, averaged over oracles. Dots are seeds; markers and bars their
    mean and its 95 % interval. Dashed: no difference.
    """
    names = ["straight", "geodesic"]
    held = models([path for path in inputs if path.suffix != ".csv"], names, run)
    (path,) = given([path for path in inputs if path.suffix == ".csv"], "geodesics.csv")
    frame = rows(path, [*MODEL, "curve", "oracle", *DIFFERENCES], run)
    means = frame.groupby([*MODEL, "curve"], sort=False)[list(DIFFERENCES)].mean()
    differences = _differences(means)

    lower = 0.15 * differences["variant"].nunique() + 0.7
    lines, across, height = _lines(held, names, margin=1.15, room=PAGE - lower - 0.3)
    figure = blank(lines * height + lower + 0.3)
    halves = figure.add_gridspec(2, 1, height_ratios=[lines * height, lower])
    pairs = halves[0].subgridspec(lines, across).subplots(squeeze=False)
    _show_lines(pairs, held, names, "pair")
    panels = halves[1].subgridspec(1, len(DIFFERENCES)).subplots(sharey=True, squeeze=False)
    for (column, label), ax in zip(DIFFERENCES.items(), panels.flat, strict=True):
        same = float(column == "fisher_length")
        seeds(ax, differences, column, "variant", VARIANTS, dashed=same)
        ax.set_title(label)
    count = frame["seed"].nunique()
    figure.supxlabel(
        f"dots: {counted(count, 'seed')}, {judged_by(frame)};"
        f" markers: {summary(count)}; Δ: geodesic minus straight; dashed: no difference",
        fontsize=6.5,
    )
    return figure


def _differences(means: pd.DataFrame) -> pd.DataFrame:
    """Geodesic minus straight for every model; of the length the quotient."""
    curves = {name: means.xs(name, level="curve") for name in ("straight", "geodesic")}
    difference = curves["geodesic"] - curves["straight"]
    difference["fisher_length"] = (
        curves["geodesic"]["fisher_length"] / curves["straight"]["fisher_length"]
    )
    return difference.reset_index()
