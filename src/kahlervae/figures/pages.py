"""Pages of the report beside the figures: tables that sort, and the summary on one page."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined

from kahlervae.errors import InputError
from kahlervae.figures.looks import VERDICTS
from kahlervae.figures.sources import EFFECT, primary
from kahlervae.storage import atomic, read_table

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


LINE = 40
"""Characters of a column that is not broken into lines."""


def shown_by(metric: str) -> str | None:
    """The figure that shows a metric, if there is one."""
    for figure, metrics in FIGURES.items():
        if metric.startswith(metrics):
            return figure
    return None


def write_table_page(path: Path, out: Path) -> None:
    """Write a table as a self-contained page whose columns sort on a click.

    Raises:
        InputError: the table cannot be read.
    """
    frame = read_table(path)
    rows = [
        ["" if pd.isna(v) else f"{v:.4g}" if isinstance(v, float) else str(v) for v in row]
        for row in frame.itertuples(index=False)
    ]
    columns = [
        (name, "number" if pd.api.types.is_numeric_dtype(kind) else _width(row[i] for row in rows))
        for i, (name, kind) in enumerate(frame.dtypes.items())
    ]
    render(out, "table", name=path.stem, columns=columns, rows=rows)


def _width(cells: Iterable[str]) -> str:
    """How texts are set: words in one line, sentences in several."""
    return "words" if max(map(len, cells), default=0) <= LINE else "sentence"


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
        rows=rows,
        datasets=list(frame["dataset"].unique()),
        figures={
            path.stem: {"caption": MEANING.get(path.stem, path.stem), "source": _data_uri(path)}
            for path in figures
        },
        room=min(85, max(40, 120 - 5 * frame["claim"].nunique())),  # mm for a figure on A4
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


def _data_uri(path: Path) -> str:
    if not path.exists():
        raise InputError(f"{path} does not exist: run the rule that makes it first.")
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def render(out: Path, template: str, **values: Any) -> None:
    """Write a template of this folder, with all values escaped."""
    text = files("kahlervae.figures").joinpath(f"{template}.html.jinja").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    with atomic(out) as temporary:
        temporary.write_text(environment.from_string(text).render(values), encoding="utf-8")
