"""What figures are drawn from: the rows and the arrays of one experiment."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kahlervae.errors import InputError
from kahlervae.storage import read_arrays, read_table

__all__ = ["EFFECT", "GROUP", "MODEL", "Run", "arrays", "given", "only", "primary", "rows", "table"]

GROUP = ["dataset", "representation"]
"""Columns that tell one experiment from another."""
MODEL = [*GROUP, "variant", "seed"]
"""Columns that identify a model, in every table and in the metadata of every array file."""

EFFECT = ["effect", "low", "high"]
"""Columns of a claim's effect and the ends of its interval."""

Run = tuple[str, ...]
"""Data set and representation: one experiment, which has its own figures."""


def given(inputs: Sequence[Path], *names: str) -> Sequence[Path]:
    """The inputs of a figure, one table for every name.

    Raises:
        InputError: there are more or fewer.
    """
    if len(inputs) != len(names):
        raise InputError(
            f"The figure is drawn from {len(names)} and not from {len(inputs)} tables: give "
            f"{' and '.join(names)}, in this order."
        )
    return inputs


def table(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """A table that has at least the named columns and one row.

    Raises:
        InputError: a column is missing, or the table is empty.
    """
    frame = read_table(path)
    for column in columns:
        if column not in frame.columns:
            raise InputError(
                f"{path} has no column {column!r}, which the figure needs: make the table again."
            )
    if frame.empty:
        raise InputError(f"{path} has no rows: make the table again.")
    return frame


def rows(path: Path, columns: Iterable[str], run: Run | None) -> pd.DataFrame:
    """The rows of one experiment in a table of models; of the only one without ``run``.

    Raises:
        InputError: as of :func:`table`; there is none of that experiment, or more than one.
    """
    frame = table(path, [*GROUP, *columns])
    present = {tuple(map(str, names)) for names in frame[GROUP].drop_duplicates().to_numpy()}
    (chosen,) = only(present, run, path)
    return frame[(frame[GROUP].astype(str) == list(chosen)).all(axis=1)].reset_index(drop=True)


def only(present: Iterable[Run], run: Run | None, path: Path) -> list[Run]:
    """``run``, or the only one that is present.

    Raises:
        InputError: it is not present; without it, there are several.
    """
    present = sorted(present)
    if run is not None and run not in present:
        raise InputError(f"{path} holds nothing of {'/'.join(run)}: name one that is there.")
    if run is None and len(present) > 1:
        listed = ", ".join("/".join(names) for names in present)
        raise InputError(f"{path} holds {listed}: say with --of which one to draw.")
    return [run] if run else present


def arrays(path: Path, names: Iterable[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and the model's identity from an array file.

    Raises:
        InputError: an array or a key of the identity is missing.
    """
    content, metadata = read_arrays(path)
    for name in names:
        if name not in content:
            raise InputError(
                f"{path} has no array {name!r}, which the figure needs: make it again."
            )
    for key in MODEL:
        if key not in metadata:
            raise InputError(f"{path} does not say the {key} of its model: make it again.")
    return content, metadata


def primary(path: Path) -> pd.DataFrame:
    """The primary claims, or all where none is primary, with effect, ``low`` and ``high``.

    ``paper`` is the part of the claims where the paper has no words for it; ``told`` is the effect
    with its interval; the estimate where there is no interval, with it and the bound where there is
    no control; the effect in brackets where not every seed compares and there can be no verdict.

    An effect is a difference in percent of its control, or of its bound where it has no control;
    NaN for what holds or fails by a tolerance, and has no interval.

    Raises:
        InputError: the table lacks a column, or has no claim.
    """
    numbers = ["estimate", "ci_low", "ci_high", "bound", "control", "p_value"]
    texts = ["claim", "dataset", "part", "role", "paper", "statement", "metric"]
    frame = table(path, [*texts, *numbers, "verdict", "adjusted"])
    chosen = frame["role"] == "primary"
    frame = frame[chosen if chosen.any() else ~chosen].reset_index(drop=True)
    frame["paper"] = frame["paper"].astype(object).fillna(frame["part"])
    scale = frame["control"].fillna(frame["bound"]).abs().replace(0, np.nan)
    scale = scale.mask(frame["ci_low"].isna())
    for end, column in zip(EFFECT, numbers[:3], strict=True):
        frame[end] = 100 * (frame[column] - frame["bound"]) / scale
    frame["told"] = [_told(row) for row in frame.to_dict("records")]
    return frame


def _told(row: Mapping[Any, Any]) -> str:
    if np.isnan(row["effect"]):
        text = f"{row['estimate']:.2g}".replace("nan", "")
    elif np.isnan(row["p_value"]):
        text = f"({row['effect']:+.0f} %)"
    elif np.isnan(row["control"]):
        text = "{estimate:.3g} [{ci_low:.3g}, {ci_high:.3g}], bound {bound:g}".format(**row)
    else:
        text = "{effect:+.0f} % [{low:+.0f}, {high:+.0f}]".format(**row)
    return text.replace("-", "−")
