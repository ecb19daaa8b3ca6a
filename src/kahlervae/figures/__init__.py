"""The figures of the report: one function a figure, from tables and array files alone.

Importing this package costs nothing; matplotlib is loaded when a figure is drawn.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from kahlervae.errors import InputError
from kahlervae.storage import write_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "draw"]

_MODULES = {
    "reconstructions": "images",
    "sample_sheets": "images",
    "flagged": "images",
    "paths": "images",
    "geodesics": "images",
    "latent_slice": "metric",
    "construction": "metric",
    "agreement": "metric",
    "agreement_summary": "metric",
    "cost": "metric",
    "states": "states",
    "tradeoff": "metric",
    "training": "scores",
    "strengths": "scores",
    "smoothness": "scores",
    "pareto": "scores",
    "claims": "scores",
    "runtime": "runtime",
}


def _figure(name: str) -> "Callable[[Sequence[Path]], Figure]":
    def figure(inputs: Sequence[Path]) -> "Figure":
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)(inputs)

    return figure


FIGURES: "dict[str, Callable[[Sequence[Path]], Figure]]" = {
    name: _figure(name) for name in _MODULES
}
"""Figure by name: a function from the input files to a matplotlib figure."""


def draw(name: str, inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Draw figure ``name`` from ``inputs`` and write it to every path of ``outputs``.

    The format follows the suffix (``.png``, ``.pdf``). The same inputs give the same bytes.

    Raises:
        InputError: the name is unknown, or an input is missing, unreadable or lacks a column.
    """
    if name not in FIGURES:
        raise InputError(f"There is no figure {name!r}: choose one of {', '.join(FIGURES)}.")
    from kahlervae.figures.style import style

    with style():
        figure = FIGURES[name](inputs)
        for path in outputs:
            write_figure(path, figure)
