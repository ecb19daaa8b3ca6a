"""The figures of the report: one function a figure, from tables and array files alone.

Importing this package costs nothing; matplotlib is loaded when a figure is drawn.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kahlervae.errors import InputError
from kahlervae.storage import figure_suffix, write_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "WHOLE", "draw"]

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
    "claims": "claims",
    "runtime": "runtime",
}


WHOLE = ("cost", "tradeoff", "claims", "runtime")
"""Figures of everything; of the others there is one for each data set in each representation."""


def _figure(name: str) -> "Callable[..., Figure]":
    def figure(*arguments: Any) -> "Figure":
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)(*arguments)

    return figure


FIGURES: "dict[str, Callable[..., Figure]]" = {name: _figure(name) for name in _MODULES}
"""Figure by name: a function from the input files, and a run, to a matplotlib figure."""


def draw(
    name: str, inputs: Sequence[Path], outputs: Sequence[Path], runs: Sequence[str] = ()
) -> None:
    """Draw figure ``name`` from ``inputs`` and write it to every path of ``outputs``.

    The format follows the suffix (``.png``, ``.pdf``). The same inputs give the same bytes.

    Args:
        name: one of :data:`FIGURES`.
        inputs: tables and array files.
        outputs: files to write.
        runs: data sets and representations, ``digits/pixels``: there is a figure for each, written
            to the ``outputs`` in a folder of that name. Without, the inputs may hold only one.

    Raises:
        InputError: the name is unknown, or an input is missing, unreadable or lacks a column or a
            run, or a run has no file to be written to, or the other way round, or a file has
            neither suffix.
    """
    if name not in FIGURES:
        raise InputError(f"There is no figure {name!r}: choose one of {', '.join(FIGURES)}.")
    if runs and name in WHOLE:
        raise InputError(f"There is one figure {name!r} of all data sets: leave --of away.")
    placed = {run: [path for path in outputs if path.parent.match(run)] for run in runs}
    lost = [run for run, paths in placed.items() if outputs and not paths]
    lost += [str(path) for path in outputs if runs and not any(path in p for p in placed.values())]
    if lost:
        raise InputError(
            f"Nothing is written of {lost[0]}: every --of needs an --out in a folder of that name, "
            "and every --out lies in one of these."
        )
    for path in outputs:
        figure_suffix(path)  # refused before anything is drawn
    from kahlervae.figures.style import style

    with style():
        if not runs:
            _write(FIGURES[name](inputs), outputs)
        for run, paths in placed.items():
            figure = FIGURES[name](inputs, tuple(run.split("/")))
            figure.suptitle(run.replace("/", ", "))
            _write(figure, paths)


def _write(figure: "Figure", paths: Sequence[Path]) -> None:
    for path in paths:
        write_figure(path, figure)
