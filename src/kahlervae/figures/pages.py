"""Pages of the report beside the figures: tables that sort, and the summary on one page."""

import base64
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined

from kahlervae.errors import InputError
from kahlervae.figures.style import VERDICTS, table
from kahlervae.judge.claims import LEFT_OUT
from kahlervae.storage import atomic, read_table

__all__ = ["render", "write_summary", "write_table_page"]


def write_table_page(path: Path, out: Path) -> None:
    """Write a table as a self-contained page whose columns sort on a click.

    Raises:
        InputError: the table cannot be read.
    """
    frame = read_table(path)
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]
    rows = [
        ["" if pd.isna(v) else f"{v:.4g}" if isinstance(v, float) else str(v) for v in row]
        for row in frame.itertuples(index=False)
    ]
    render(out, "table", name=path.stem, columns=list(frame.columns), numeric=numeric, rows=rows)


def write_summary(claims: Path, figures: Sequence[Path], out: Path) -> None:
    """Write the claims and the main figures on one page, to read on a screen or to print on A4.

    Claims without an interval are shown one by one, of several data sets the worst. Those over
    seeds are counted by their score and verdict; the figure of the claims shows each.

    Raises:
        InputError: the claims cannot be read, or a figure is missing.
    """
    frame = table(claims, ["statement", "metric", "estimate", "ci_low", "rule", "verdict"])
    alone = frame["ci_low"].isna() & frame["rule"].str.contains("each of")
    scored = frame[~alone]
    told = [name for name in VERDICTS if name != LEFT_OUT or (frame["verdict"] == name).any()]
    counts = pd.crosstab(scored["metric"], scored["verdict"]).reindex(
        index=scored["metric"].unique(), columns=told, fill_value=0
    )
    render(
        out,
        "summary",
        identities=[_worst(held) for _, held in frame[alone].groupby("statement", sort=False)],
        counts=counts,
        totals=frame["verdict"].value_counts().to_dict(),
        colours={name: VERDICTS[name].color for name in told},
        figures=[(path.stem.replace("_", " "), _data_uri(path)) for path in figures],
    )


def _worst(claims: pd.DataFrame) -> dict[str, Any]:
    """Of one identity on several data sets the claim that is furthest from holding."""
    lowest = claims["metric"].iloc[0].startswith("smallest")
    row = claims.sort_values("estimate", ascending=lowest).iloc[0]
    return {str(name): value for name, value in row.items()}


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
