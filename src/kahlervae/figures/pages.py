"""Pages of the report beside the figures: tables that sort, and the summary on one page."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from PIL import Image

from kahlervae.errors import InputError
from kahlervae.figures.looks import VERDICTS
from kahlervae.figures.single_file import data_uri, webp, write_page
from kahlervae.figures.sources import EFFECT, primary
from kahlervae.storage import read_table

__all__ = ["render", "write_summary", "write_table_page"]

MEANING = {
    "smoothness": "Decoded lines: how smooth, and how sharp",
    "pareto": "Samples: outliers against variation; lower right is better",
    "agreement_summary": "How near potentials are to the metric, and the metric to Kähler",
    "latent_slice": "Volume element on a plane of the latent space",
}
"""What the figures of the summary tell."""
FIGURES = {
    "agreement_summary": (
        *("relative_error", "logdet_spearman", "hermitian_defect", "closedness_defect"),
    ),
    "latent_slice": ("logdet_sd", "log_condition"),
    "smoothness": (
        *("acceleration", "speed_variation", "turning", "feature_", "sharpness"),
        *("midpoint_", "label_flips"),
    ),
    "pareto": (
        *("knn_outliers", "entropy_outliers", "mahalanobis_outliers", "energy_outliers"),
        *("recall", "vendi", "coverage", "novelty"),
    ),
    "reconstructions": ("mse",),
}
"""Figures, with the beginnings of the metrics that they show."""


FIRST = ("claim", "dataset", "estimate", "ci_low", "ci_high", "verdict", "adjusted")
"""Columns of claims that a reader looks for before the others."""
LINE = 40
"""Characters of a column that is not broken into lines."""
PICTURE = 250_000
"""Bytes of a figure in the summary, at most."""


def shown_by(metric: str) -> str | None:
    """The figure that shows a metric, if there is one."""
    for figure, metrics in FIGURES.items():
        if metric.startswith(metrics):
            return figure
    return None


def write_table_page(path: Path, out: Path) -> None:
    """Write a table as a self-contained page whose columns sort on a click, sentences last.

    Words that all rows share stand above the table, once.

    Raises:
        InputError: the table cannot be read.
    """
    frame = read_table(path)
    columns = [_column(str(name), values) for name, values in frame.items()]
    shared = {
        column.name: column.cells[0]
        for column in columns
        if column.set_as == "words" and len(frame) > 1 and len({*column.cells}) == 1
    }
    columns = [column for column in columns if column.name not in shared]
    columns.sort(key=lambda column: (column.set_as == "sentence", column.name not in FIRST))
    rows = list(zip(*(column.cells for column in columns), strict=True))
    render(out, "table", path.stem, columns=columns, rows=rows, shared=shared)


class _Column(NamedTuple):
    name: str
    set_as: str
    cells: list[str]


def _column(name: str, values: pd.Series) -> _Column:
    """A number, words in one line, keys that may be broken, or sentences."""
    cells = ["" if pd.isna(v) else f"{v:.4g}" if isinstance(v, float) else str(v) for v in values]
    if pd.api.types.is_numeric_dtype(values.dtype):
        return _Column(name, "number", cells)
    long = [cell for cell in cells if len(cell) > LINE]
    if not long:
        return _Column(name, "words", cells)
    return _Column(name, "sentence" if any(" " in cell for cell in long) else "key", cells)


def write_summary(claims: Path, figures: Sequence[Path], out: Path) -> None:
    """Write the primary claims and the main figures on one page, for a screen or for A4.

    Args:
        claims: ``claims.csv``.
        figures: PNG files, the name of each that of its figure.
        out: the page.

    Raises:
        InputError: the claims cannot be read or none is primary, or a figure is missing.
    """
    frame = primary(claims)
    reach = np.nanmax(frame[EFFECT].abs(), initial=1.0)
    rows = [
        (
            paper,
            [
                {
                    "statement": held["statement"].iloc[0],
                    "figure": shown_by(held["metric"].iloc[0]),
                    "cells": {row["dataset"]: _cell(row, reach) for row in held.to_dict("records")},
                }
                for _, held in asked.groupby("claim", sort=False)
            ],
        )
        for paper, asked in frame.groupby("paper", sort=False)
    ]
    render(
        out,
        "summary",
        "Kähler geometry of complex variational autoencoders: what came out",
        rows=rows,
        datasets=list(frame["dataset"].unique()),
        figures={
            path.stem: {"caption": MEANING.get(path.stem, path.stem), "source": _embedded(path)}
            for path in figures
        },
        room=min(85, max(40, 140 - 5 * frame["claim"].nunique())),  # mm for a figure on A4
    )


def _cell(row: Mapping[Any, Any], reach: float) -> dict[str, Any]:
    """Verdict after correction, effect in words, and its bar on a scale from -100 to 100."""
    bar = None
    if np.isfinite(row["effect"]):
        middle, low, high = (100 * row[end] / reach for end in EFFECT)
        bar = {"left": low, "width": high - low, "middle": middle}
    verdict = row["adjusted"]
    colour = VERDICTS[verdict].color
    return {"verdict": verdict, "colour": colour, "effect": row["told"], "bar": bar}


def _embedded(path: Path) -> str:
    if not path.exists():
        raise InputError(f"{path} does not exist: run the rule that makes it first.")
    with Image.open(path) as image:
        return data_uri("image/webp", webp(image.convert("RGB"), PICTURE))


def render(out: Path, template: str, title: str, **values: Any) -> None:
    """Write a template of this folder, with all values escaped."""
    text = files("kahlervae.figures").joinpath(f"{template}.html.jinja").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    write_page(out, environment.from_string(text).render(values, title=title), title)
