"""Figures of what is decoded: reconstructions, samples, latent lines."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kahlervae.errors import InputError
from kahlervae.figures.pictures import pictures
from kahlervae.figures.style import (
    GROUP,
    MODEL,
    SAMPLERS,
    TWO_COLUMNS,
    VARIANTS,
    along_x,
    arrays,
    blank,
    canvas,
    counted,
    grouped,
    half_weight,
    judged_by,
    ordered,
    say_left_out,
    seeds,
    summary,
    table,
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
Line = tuple[str, int, Held]
"""Title of a latent line, its number within its group, and the models of the group."""

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


def models(inputs: Sequence[Path], names: Sequence[str]) -> dict[tuple[str, ...], Held]:
    """(dataset, representation) → variant → arrays and identity of the lowest seed."""
    groups: dict = defaultdict(dict)
    for path in inputs:
        content, identity = arrays(path, names)
        held, variant = groups[tuple(identity[key] for key in GROUP)], identity["variant"]
        if variant not in held or int(identity["seed"]) < int(held[variant][1]["seed"]):
            held[variant] = content, identity
    if not groups:
        raise InputError("The figure needs the array file of at least one model.")
    return {
        group: {variant: held[variant] for variant in ordered(held, VARIANTS)}
        for group, held in groups.items()
    }


def reconstructions(inputs: Sequence[Path]) -> Figure:
    """Test images and their reconstructions, one row a variant (lowest seed given).

    ``inputs``: ``gallery.safetensors`` of each model; optionally the gathered
    ``reconstruction.csv``, from which the rows are labelled with the model's test error.
    """
    galleries = models(
        [path for path in inputs if path.suffix != ".csv"], ["originals", "reconstructions"]
    )
    errors = {
        tuple(map(str, row[:-1])): row[-1]
        for path in inputs
        if path.suffix == ".csv"
        for row in table(path, [*MODEL, "mse"])[[*MODEL, "mse"]].itertuples(index=False)
    }
    width = TWO_COLUMNS
    blocks = []
    for group, held in galleries.items():
        originals = next(iter(held.values()))[0]["originals"]
        labels, tiles = ["test data"], [originals]
        for variant, (content, identity) in held.items():
            if not np.array_equal(content["originals"], originals):
                raise InputError(
                    f"The galleries of {', '.join(group)} hold different test images "
                    f"(see {variant}): make them again from one data file."
                )
            labels.append(VARIANTS[variant].label)
            if (error := errors.get(tuple(identity[key] for key in MODEL))) is not None:
                labels[-1] += f"\nMSE {error:.4f}"
            tiles.append(content["reconstructions"])
        blocks.append((group, labels, np.concatenate(tiles), len(originals)))

    heights = [len(labels) * (width - 0.9) / count for _, labels, _, count in blocks]
    figure, axes = canvas(
        len(blocks), 1, width=width, height=sum(heights) + 0.3 * len(blocks), height_ratios=heights
    )
    figure.set_layout_engine("compressed")
    for ax, (group, labels, images, count) in zip(axes.flat, blocks, strict=True):
        show(ax, images, count, labels)
        if len(blocks) > 1:
            ax.set_title(", ".join(group))
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


def sample_sheets(inputs: Sequence[Path]) -> Figure:
    """Decoded samples, variants × samplers (lowest seed given).

    ``inputs``: ``sheet.safetensors`` of each model. One column a sampler, at a middling setting.
    Models with a single sampler are left out where others have more.
    """
    sheets = models(inputs, [])
    rows = [
        (group, variant, content)
        for group, held in sheets.items()
        for variant, (content, _) in held.items()
    ]
    keys = _shown(sorted({key for _, _, content in rows for key in content}))
    if not keys:
        raise InputError(f"{inputs[0]} holds no samples of a known sampler: make it again.")
    several = [row for row in rows if len({*keys} & {*row[2]}) > 1]
    rows = several or rows
    across = 6
    width = TWO_COLUMNS
    figure, axes = canvas(
        len(rows),
        len(keys),
        width=width,
        height=len(rows) * (width - 0.3) / max(len(keys), 4) + 0.6,
    )
    figure.set_layout_engine("compressed", wspace=0.08, hspace=0.08)
    drawn: dict[tuple, np.ndarray] = {}
    for group in sheets:
        drawn |= _alike(
            {
                (group, variant, key): content[key][: across**2]
                for own, variant, content in rows
                for key in keys
                if own == group and key in content
            }
        )
    for (group, variant, content), line in zip(rows, axes, strict=True):
        for key, ax in zip(keys, line, strict=True):
            if key in content:
                _draw(ax, drawn[group, variant, key], across)
            else:
                ax.text(0.5, 0.5, "not sampled", ha="center", va="center", color="#666666")
                ax.set(xticks=[], yticks=[], box_aspect=1)
                ax.spines[:].set_visible(False)
        label = VARIANTS[variant].label
        line[0].set_ylabel("\n".join([*group, label]) if len(sheets) > 1 else label)
    for key, ax in zip(keys, axes[0], strict=True):
        # Of many, columns are narrow.
        title = key_label(key).replace(", ", ",\n") if len(keys) > 5 else key_label(key)
        ax.set_title(title, fontsize=6 if len(keys) > 5 else None)
    return figure


def flagged(inputs: Sequence[Path]) -> Figure:
    """Samples by who flags them, variants and samplers × groups, with the share of each group.

    ``inputs``: ``flagged.safetensors`` of each model (lowest seed given). Groups: flagged by kNN
    distance only, by predictive entropy only, by both, by neither. Models with fewer samplers than
    others are left out.
    """
    galleries = models(inputs, [])
    rows = [
        (group, variant, key, content)
        for group, held in galleries.items()
        for variant, (content, _) in held.items()
        for key in _flagged_keys(content)
    ]
    if not rows:
        raise InputError(f"{inputs[0]} holds no flagged samples: make it again.")
    samplers = Counter((group, variant) for group, variant, *_ in rows)
    most = max(samplers.values())
    rows = [row for row in rows if samplers[row[:2]] == most]
    across, width = 8, TWO_COLUMNS
    figure, axes = canvas(
        len(rows), len(FLAGGED), width=width, height=len(rows) * (width - 1.2) / 10.7 + 0.3
    )
    figure.set_layout_engine("compressed", wspace=0.04, hspace=0.04)
    drawn: dict[tuple, np.ndarray] = {}
    for group in galleries:
        drawn |= _alike(
            {
                (group, variant, name, key): content[f"images/{name}/{key}"]
                for own, variant, key, content in rows
                for name in FLAGGED
                if own == group
            }
        )
    for i, (line, (group, variant, key, content)) in enumerate(zip(axes, rows, strict=True)):
        for ax, (name, title) in zip(line, FLAGGED.items(), strict=True):
            images, share = drawn[group, variant, name, key], content[f"share/{name}/{key}"]
            blanks = np.full((2 * across - len(images), *images.shape[1:]), np.nan)
            _draw(ax, np.concatenate([images, blanks]), across)
            ax.set_title(f"{title}\n{share:.1%}" if i == 0 else f"{share:.1%}", pad=2)
        names = [", ".join(group)] * (len(galleries) > 1) + [
            VARIANTS[variant].label,
            key_label(key),
        ]
        line[0].set_ylabel("\n".join(names), rotation=0, ha="right", va="center", fontsize=6)
    return figure


def _flagged_keys(content: Mapping[str, np.ndarray]) -> list[str]:
    """The samplers in a file of flagged samples, in the order of the legends."""
    keys = [name.split("/", 2)[2] for name in content if name.startswith("share/neither/")]
    known = ordered((key.partition(":")[0] for key in keys), SAMPLERS)
    return sorted(keys, key=lambda key: known.index(key.partition(":")[0]))


def _lines(
    galleries: Mapping[tuple[str, ...], Held], name: str, images: int, margin: float
) -> tuple[list[list[Line]], list[float]]:
    """Latent lines, row by row of at most two, and the heights of the rows.

    Of several groups two lines each.

    Args:
        galleries: from :func:`models`.
        name: of the array of lines.
        images: rows of images for each variant.
        margin: inches at the left of a line.
    """
    lines = [
        (f"{k + 1}" + (f" ({', '.join(group)})" if len(galleries) > 1 else ""), k, held)
        for group, held in galleries.items()
        for k in range(min(len(content[name]) for content, _ in held.values()))
        if len(galleries) == 1 or k < 2
    ]
    steps = max(content[name].shape[1] for *_, held in lines for content, _ in held.values())
    across = min(2, len(lines))
    side = (TWO_COLUMNS / across - margin) / steps
    rows = [lines[first : first + across] for first in range(0, len(lines), across)]
    return rows, [images * max(len(held) for *_, held in row) * side + 0.25 for row in rows]


def paths(inputs: Sequence[Path]) -> Figure:
    """Decoded straight latent lines between the posteriors of the same test images.

    ``inputs``: ``gallery.safetensors`` of each model. One block a line, one row a variant; of
    several data sets two lines each.
    """
    galleries = models(inputs, ["paths"])
    rows, heights = _lines(galleries, "paths", images=1, margin=0.9)
    figure, axes = canvas(
        len(rows),
        len(rows[0]),
        width=TWO_COLUMNS,
        height=sum(heights),
        height_ratios=heights,
    )
    figure.set_layout_engine("compressed")
    for ax in axes.flat:
        ax.set_axis_off()
    for line, row in zip(axes, rows, strict=True):
        for ax, (title, k, held) in zip(line, row, strict=False):
            ax.set_axis_on()
            images = [content["paths"][k] for content, _ in held.values()]
            labels = [VARIANTS[variant].label for variant in held]
            show(ax, np.concatenate(images), len(images[0]), labels)
            ax.set_title(f"line {title}")
    return figure


DIFFERENCES = {
    "fisher_length": "length in the Fisher metric,\ngeodesic / straight",
    "acceleration": "Δ relative acceleration",
    "midpoint_outliers": "Δ outliers among midpoints",
}


def geodesics(inputs: Sequence[Path]) -> Figure:
    """Decoded geodesics and straight lines between the same test images, and what they differ in.

    ``inputs``: ``geodesics.safetensors`` of each model, of which the lowest seed is shown, and
    the gathered ``geodesics.csv``, averaged over oracles. Points are seeds; bars their mean and its
    95 % interval. Dashed: no difference.
    """
    names = ["straight", "geodesic"]
    galleries = models([path for path in inputs if path.suffix != ".csv"], names)
    (path,) = (path for path in inputs if path.suffix == ".csv")
    frame = table(path, [*MODEL, "curve", "oracle", *DIFFERENCES])
    means = frame.groupby([*MODEL, "curve"], sort=False)[list(DIFFERENCES)].mean()
    panels = grouped(_differences(means))

    rows, heights = _lines(galleries, "straight", images=len(names), margin=1.15)
    lower = 1.5 * len(panels)
    figure = blank(TWO_COLUMNS, sum(heights) + lower + 0.3)
    parts = figure.add_gridspec(2, 1, height_ratios=[sum(heights), lower])
    grid = parts[0].subgridspec(len(rows), len(rows[0]), height_ratios=heights)
    for i, row in enumerate(rows):
        for j, (title, k, held) in enumerate(row):
            ax = figure.add_subplot(grid[i, j])
            images = [content[name][k] for content, _ in held.values() for name in names]
            labels = [f"{VARIANTS[variant].label}, {name}" for variant in held for name in names]
            show(ax, np.concatenate(images), len(images[0]), labels)
            ax.set_title(f"pair {title}")
            ax.set_anchor("W")  # beside its labels, for which the layout leaves room
    grid = parts[1].subgridspec(len(panels), len(DIFFERENCES))
    for i, (group, differences) in enumerate(panels):
        variants = ordered(differences["variant"], VARIANTS)
        for j, (column, label) in enumerate(DIFFERENCES.items()):
            ax = figure.add_subplot(grid[i, j])
            for x, variant in enumerate(variants):
                part = differences[differences["variant"] == variant]
                seeds(ax, x, part[column], VARIANTS[variant])
            ax.axhline(column == "fisher_length", color="#333333", lw=0.7, ls=(0, (4, 2)), zorder=1)
            along_x(ax, variants)
            ax.set_ylabel(label)
            say_left_out(ax, differences[column])
            if group and j == 0:
                ax.set_title(group, loc="left")
    count = frame["seed"].nunique()
    figure.supxlabel(
        f"points: {counted(count, 'seed')}, {judged_by(frame)};"
        f" bars: {summary(count)}; Δ: geodesic minus straight; dashed: no difference",
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
