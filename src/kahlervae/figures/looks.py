"""The colours, markers and names of variants, samplers, potentials and verdicts, in all figures.

Colours begin with Okabe and Ito's (https://jfly.uni-koeln.de/color/); every colour has a marker or
a line style that says the same, so that a figure survives a black and white print.
"""

import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kahlervae.errors import InputError

__all__ = ["LEFT_OUT", "POTENTIALS", "SAMPLERS", "VARIANTS", "VERDICTS", "Look", "ordered"]


class Look(NamedTuple):
    """How one category is drawn, everywhere; ``dashes`` are lengths of strokes and gaps."""

    label: str
    color: str
    marker: str
    dashes: tuple[float, ...] = ()


class _Variants(dict[str, Look]):
    """Variants of one's own are grey, with a marker and a line by their name."""

    def __missing__(self, name: str) -> Look:
        k = zlib.crc32(name.encode())
        return Look(name.replace("_", " "), "#777777", "os^v<>DP"[k % 8], (1 + k % 5, 1 + k % 3))


VARIANTS = _Variants(
    {
        "real": Look("real", "#5F5F5F", "s", (1, 1)),
        "complex": Look("complex", "#0072B2", "o"),
        "mixture": Look("learned prior", "#56B4E9", "p", (8, 2)),
        "beta": Look("β-VAE", "#E69F00", "^", (5, 1.5)),
        "kahler": Look("Kähler", "#D55E00", "D", (6, 1, 1, 1)),
        "fisher": Look("Fisher", "#009E73", "v", (3, 1)),
        "volume": Look("Kähler, β, by volume", "#805080", "H", (4, 1, 1, 1)),
        "tie": Look("Kähler, tie alone", "#8C564B", ">", (2, 1)),
        "kahler_beta": Look("Kähler, β", "#999933", "<", (1, 2)),
        "constant": Look("constant metric", "#101010", "X", (4, 2, 1, 2)),
        "isometric": Look("isometric", "#800000", "d", (2, 1, 1, 1)),
        "holomorphic": Look("holomorphic", "#CC79A7", "P", (3, 1, 1, 1, 1, 1)),
        "pluriharmonic": Look("pluriharmonic", "#400060", "h", (6, 1, 1, 1, 1, 1)),
        "unconstrained": Look("unconstrained", "#6000E0", "*", (1, 1, 3, 1)),
        "unconstrained_beta": Look("unconstrained, β", "#A070F0", "8", (5, 1, 1, 1)),
    }
)
"""Model variants, in the order of the legends."""

SAMPLERS = {
    "prior": Look("prior", "#000000", "o"),
    "truncated": Look("truncated prior", "#000000", "."),
    "posterior_mixture": Look("aggregated posterior", "#000000", "s"),
    "gmm": Look("Gaussian mixture", "#000000", "^"),
    "ratio": Look("classifier", "#000000", "p"),
    "volume": Look("volume-weighted", "#000000", "D"),
    "riemannian": Look("Riemannian", "#000000", "v"),
}
"""Samplers, told apart by marker; colour is left to the variant."""

POTENTIALS = {
    "fitted": Look("fitted potential", "#332288", "o"),
    "posterior": Look("posterior potential", "#AA4499", "s"),
    "constant": Look("best constant metric", "#888888", "X"),
    "anchors": Look("exact metrics of anchors", "#60A8F0", "v"),
    "log_partition": Look("log-partition function", "#DDAA33", "P"),
    "hermitian": Look("any Hermitian metric (control)", "#117733", "^"),
}
"""Metrics that are compared with the Fisher metric."""

VERDICTS = {
    "supported": Look("supported", "#0072B2", "o"),
    "inconclusive": Look("inconclusive", "#999999", "s"),
    "not supported": Look("not supported", "#D55E00", "X"),
    "left out": Look("left out", "#BBBBBB", "D"),
}
"""Verdicts; the last one only where it occurs."""

LEFT_OUT = "left out: no labels"
"""What figures say in place of what only an oracle can tell."""


def ordered(names: Iterable[str], looks: Mapping[str, Look]) -> list[str]:
    """The distinct names, in the order of ``looks``; variants of one's own come last.

    Raises:
        InputError: a name has no look.
    """
    names = set(names)
    others = sorted(names - looks.keys())
    if others and looks is not VARIANTS:
        raise InputError(f"No figure knows {others[0]!r}: known are {', '.join(looks)}.")
    return [*(name for name in looks if name in names), *others]
