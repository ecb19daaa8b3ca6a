"""The page of the latent atlas: one HTML file that shows, offline, what the arrays hold."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.events import MouseMove
from bokeh.layouts import column, row
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    CustomJS,
    Div,
    LayoutDOM,
    LinearColorMapper,
    Select,
)
from bokeh.plotting import figure
from bokeh.resources import INLINE
from PIL import Image

from kahlervae.errors import InputError
from kahlervae.figures.images import key_label
from kahlervae.figures.looks import VARIANTS, ordered
from kahlervae.figures.pictures import pictures
from kahlervae.figures.single_file import data_uri, webp, write_page
from kahlervae.figures.sources import arrays

__all__ = ["write_atlas"]

PREVIEW = 140
"""Side of the shown images in CSS pixels."""
SHEET = 300_000
"""Bytes of a sheet of images, at most."""
PIXELS = 1 << 21
"""Pixels of a sheet, at most."""
SIDE = 300
"""Width of the column beside the map."""
INK, OUTLIER = "#000000", "#D55E00"


class Field(NamedTuple):
    """A quantity that colours the map; a diverging one is centred at 0."""

    title: str
    short: str
    diverging: bool = False


FIELDS = {
    "log_det_fisher": Field("log det of the Fisher metric", "log det, Fisher"),
    "log_det_fitted": Field("log det of the fitted potential", "log det, potential"),
    "difference": Field("Difference: potential − Fisher", "difference", True),
    "ricci_scalar": Field("Ricci scalar of the potential", "Ricci scalar", True),
}

INTRODUCTION = f"""
<p style="margin: 0; max-width: 78em; line-height: 1.45">
<b>Colour</b>: the chosen quantity on the plane of the two leading principal directions of the
posterior means of test data, real directions in C<sup>d</sup> = R<sup>2d</sup> through their mean.
The square reaches as many of their standard deviations in every model.
<b>Points</b>: latents of the chosen set, projected orthogonally into the plane; in the other
directions they lie off it, so that what is decoded at a point may differ from what is decoded below
it.
<b style="color: {OUTLIER}">Crosses</b>: decoded samples beyond the kNN threshold of at least one
oracle; of real ones 5 % lie beyond that of each. Without labels there are no oracles,
and no crosses.
Move the pointer over the map.</p>
"""

HOVER = """
const n = Math.round(2 * extent / step) + 1;
const cell = value => Math.min(n - 1, Math.max(0, Math.round((value + extent) / step)));
const column = cell(cb_obj.x), row = cell(cb_obj.y);
const show = (view, place, across) => {
  const corner = `${-(place % across) * side}px ${-Math.floor(place / across) * side}px`;
  view.styles = {...view.styles, 'background-position': corner};
};
const number = value => Number.isFinite(value) ? value.toFixed(2) : 'not defined';
const place = (x, y) => `(${x.toFixed(2)}, ${y.toFixed(2)})`;
show(decoded, row * n + column, n);
values.text = `<b>decoded at ${place(cb_obj.x, cb_obj.y)}</b><br>` + titles.map(
  ([name, title]) => `${title}: ${number(fields.data[name][row * n + column])}`).join('<br>');

const {x, y, position, distance, outliers} = shown.data;
let nearest = -1, least = (extent / 8) ** 2;
for (let i = 0; i < x.length; i++) {
  const square = (x[i] - cb_obj.x) ** 2 + (y[i] - cb_obj.y) ** 2;
  if (square < least) { nearest = i; least = square; }
}
sample.visible = nearest >= 0;
if (nearest >= 0) {
  show(sample, position[nearest], across);
  about.text = `<b>nearest point at ${place(x[nearest], y[nearest])}</b><br>`
    + `${distance[nearest].toFixed(2)} off the plane<br>`
    + (oracles === 0 ? 'not judged: no labels'
      : outliers[nearest] ? `outlier by ${outliers[nearest]} of ${oracles} oracles` : 'no outlier');
} else {
  about.text = 'no point near the pointer';
}
"""

CHOOSE_FIELD = """
const [palette, low, high] = scales[cb_obj.value];
image.data = {value: [fields.data[cb_obj.value]]};
mapper.setv({palette, low, high});
"""

CHOOSE_SET = """
const chosen = Array.from(points.data.set, name => name === cb_obj.value);
shown.data = Object.fromEntries(Object.entries(points.data).map(
  ([name, values]) => [name, Array.from(values).filter((_, i) => chosen[i])]));
"""


def write_atlas(path: Path, out: Path) -> None:
    """Write the interactive page of one model's atlas.

    The page is a single file: it opens from disk and needs no network. The same arrays give the
    same bytes in a fresh process.

    Args:
        path: what `kahlervae atlas` wrote.
        out: HTML file.

    Raises:
        InputError: an array is missing, or there is no set of points.
    """
    names = ["axis", *(name for name in FIELDS if name != "difference"), "images", "oracles"]
    content, identity = arrays(path, names)
    content["difference"] = content["log_det_fitted"] - content["log_det_fisher"]
    sets = [name.partition("/")[2] for name in content if name.startswith("points/")]
    if not sets:
        raise InputError(f"{path} has no points of any sampler: make it again.")
    variant = VARIANTS[ordered([identity["variant"]], VARIANTS)[0]].label
    title = (
        f"Latent atlas: {variant}, {identity['dataset']} ({identity['representation']}), "
        f"seed {identity['seed']}"
    )
    document = Document()
    document.add_root(_page(title, content, sorted(sets, key=_rank)))
    html = _numbered(file_html(document, INLINE, title=title))
    write_page(out, html, title)


def _page(title: str, content: Mapping[str, np.ndarray], sets: list[str]) -> LayoutDOM:
    axis, first = content["axis"], next(iter(FIELDS))
    extent, step = float(axis[-1]), float(axis[1] - axis[0])
    scales = {name: _scale(content[name], field.diverging) for name, field in FIELDS.items()}
    palette, low, high = scales[first]
    mapper = LinearColorMapper(palette=palette, low=low, high=high, nan_color="#DDDDDD")
    fields = ColumnDataSource({name: content[name].astype(np.float32) for name in FIELDS})
    image = ColumnDataSource({"value": [content[first].astype(np.float32)]})
    points, pictures = _points(content, sets)
    shown = ColumnDataSource(points[points["set"] == sets[0]].to_dict("list"))

    plot = figure(
        width=640,
        height=520,
        x_range=(-extent, extent),
        y_range=(-extent, extent),
        x_axis_label="1st principal direction",
        y_axis_label="2nd principal direction",
        tools="pan,wheel_zoom,box_zoom,reset,save",
        toolbar_location="above",
        name="map",
    )
    # A value colours the cell around its grid point.
    corner, width = -extent - step / 2, 2 * extent + step
    plot.image("value", x=corner, y=corner, dw=width, dh=width, source=image, color_mapper=mapper)
    plot.scatter(
        "x",
        "y",
        source=shown,
        marker="marker",
        size="size",
        fill_color="white",
        line_color="colour",
        line_width="line",
    )
    plot.add_layout(ColorBar(color_mapper=mapper), "right")
    plot.grid.visible = False

    n, across = len(axis), math.isqrt(len(pictures) - 1) + 1
    decoded = _preview("decoded", content["images"].reshape(-1, *pictures.shape[1:]), n)
    sample = _preview("sample", pictures, across)
    values, about = (Div(name=name, width=SIDE) for name in ("values", "about"))
    colour = Select(
        title="Colour",
        name="field",
        options=[(name, field.title) for name, field in FIELDS.items()],
        value=first,
        width=SIDE,
    )
    chosen = Select(
        title="Points",
        name="set",
        options=[(key, _set_label(key)) for key in sets],
        value=sets[0],
        width=SIDE,
    )
    colour.js_on_change(
        "value",
        CustomJS(
            args={"image": image, "fields": fields, "scales": scales, "mapper": mapper},
            code=CHOOSE_FIELD,
        ),
    )
    chosen.js_on_change(
        "value",
        CustomJS(
            args={"points": ColumnDataSource(points.to_dict("list")), "shown": shown},
            code=CHOOSE_SET,
        ),
    )
    plot.js_on_event(
        MouseMove,
        CustomJS(
            args={
                "extent": extent,
                "step": step,
                "side": PREVIEW,
                "across": across,
                "oracles": int(content["oracles"]),
                "titles": [(name, field.short) for name, field in FIELDS.items()],
                "fields": fields,
                "shown": shown,
                "decoded": decoded,
                "values": values,
                "sample": sample,
                "about": about,
            },
            code=HOVER,
        ),
    )
    heading = Div(
        width=1060,
        text=f"<h1 style='font-size: 1.4em; margin: 0 0 0.4em'>{title}</h1>{INTRODUCTION}",
    )
    beside = column(
        colour,
        chosen,
        row(_titled("decoded here", decoded), _titled("nearest point", sample)),
        values,
        about,
    )
    return column(heading, row(plot, beside), margin=16)


def _rank(key: str) -> tuple[bool, str]:
    """Sets by name, the prior first: what every other sampler is compared with."""
    return key != "prior:default", key


def _set_label(key: str) -> str:
    if key.startswith("posterior_mean:"):
        return "test data (posterior means)"
    return key_label(key).replace("\n", ", ")


def _scale(values: np.ndarray, diverging: bool) -> tuple[list[str], float, float]:
    """Palette and limits; outermost values saturate, so that single ones do not flatten the map."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
    if diverging:
        high = max(abs(low), abs(high))
        low = -high
    if low == high:
        low, high = low - 1, high + 1
    colours = mpl.colormaps["PuOr_r" if diverging else "cividis"](np.linspace(0, 1, 256))
    return [mpl.colors.to_hex(colour) for colour in colours], float(low), float(high)


def _points(content: Mapping[str, np.ndarray], sets: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """All points with their looks, and their images; ``position`` leads from one to the other."""
    parts = []
    for key in sets:
        outliers = content[f"outliers/{key}"]
        x, y = content[f"points/{key}"].T.astype(float)
        part = pd.DataFrame({"set": key, "x": x, "y": y, "outliers": outliers})
        parts.append(part.assign(distance=content[f"distances/{key}"].astype(float)))
    points = pd.concat(parts, ignore_index=True)
    outlying = points["outliers"] > 0
    looks = {
        "position": np.arange(len(points)),
        "marker": np.where(outlying, "x", "circle"),
        "colour": np.where(outlying, OUTLIER, INK),
        "size": np.where(outlying, 9, 6),
        "line": np.where(outlying, 2.5, 1.0),
    }
    return points.assign(**looks), np.concatenate([content[f"images/{key}"] for key in sets])


def _preview(name: str, images: np.ndarray, across: int) -> Div:
    """A window on one image of a sheet, ``across`` in a row; moving the sheet changes the image."""
    down = -(-len(images) // across)
    drawn = pictures(images)
    height, width, *colours = drawn.shape[1:]
    sheet = np.zeros((across * down, height, width, *colours))
    sheet[: len(images)] = drawn
    rows = sheet.reshape(down, across, height, width, *colours).swapaxes(1, 2)
    rows = rows.reshape(down * height, -1, *colours)
    # Dark strokes on white paper, in 32 shades, of which no eye tells two neighbours apart; colours
    # are what they are.
    light = rows if colours else 1 - rows
    ink = (np.round(31 * light) * 255 / 31).round().astype(np.uint8)
    side = min(PREVIEW, math.isqrt(PIXELS // (across * down)))
    small = (across * min(width, side), down * min(height, side))
    shrunk = Image.fromarray(ink).resize(small, Image.Resampling.BOX)
    window = f""":host {{
        background-image: url({data_uri("image/webp", webp(shrunk, SHEET))});
        background-size: {across * PREVIEW}px {down * PREVIEW}px;
        image-rendering: pixelated;
        border: 1px solid #999999;
        margin: 0 12px 12px 0;
    }}"""
    position = {"background-position": "0px 0px"}
    return Div(name=name, width=PREVIEW, height=PREVIEW, styles=position, stylesheets=[window])


def _titled(title: str, preview: Div) -> LayoutDOM:
    return column(Div(text=title), preview)


def _numbered(html: str) -> str:
    """The page with its random identifiers numbered, so that equal content gives equal bytes."""
    pattern = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
    names = {name: f"id-{k}" for k, name in enumerate(dict.fromkeys(pattern.findall(html)))}
    return pattern.sub(lambda match: names[match[0]], html)
