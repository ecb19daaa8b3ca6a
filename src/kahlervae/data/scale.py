"""One scale for all samples, found and applied in pieces, which alone are in double precision."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Num

from kahlervae.errors import InputError

__all__ = ["Scale"]

PIECE = 2**22
"""Values that are in double precision at once, or those of one sample if they are more."""
MEASURED = 2**20
"""Of these the values by which precision is judged, or those of one sample."""
LOST = 0.05
"""Share of the spread of values that rounding to single precision may make up."""


class Scale(NamedTuple):
    """Samples as models get them: (x − offset) / factor.

    Attributes:
        kind: ``unit``, ``standard`` or ``none``.
        offset: what becomes 0.
        factor: what becomes 1 above it.

    Example:
        >>> parts = [np.array([[0, 10]], dtype=np.uint8), np.array([[20.0, 5.0]])]
        >>> scale = Scale.of(parts, "unit", "data")
        >>> scale
        Scale(kind='unit', offset=0.0, factor=20.0)
        >>> scale.apply(parts, "data").tolist()
        [[0.0, 0.5], [1.0, 0.25]]
    """

    kind: str
    offset: float
    factor: float

    @classmethod
    def of(
        cls, parts: Sequence[Num[np.ndarray, "_ *shape"]], kind: str | None, what: str
    ) -> "Scale":
        """The scale of arrays of samples, which are all on the same one.

        Args:
            parts: numbers of any type.
            kind: ``unit``, from the least to the largest value; ``standard``, mean 0 (of real
                values) and mean square 1; ``none``; None for ``standard`` of complex ones and
                ``unit`` of others.
            what: names them in sentences.

        Raises:
            InputError: they are complex and meant to be in [0, 1], or their spread is beyond double
                precision.
        """
        is_complex = any(map(np.iscomplexobj, parts))
        kind = kind or ("standard" if is_complex else "unit")
        count = sum(part.size for part in parts)
        offset, factor = 0.0, 1.0
        if kind == "unit":
            if is_complex:
                raise InputError(
                    f"the samples of {what} are complex, which cannot be brought into [0, 1]: set "
                    "its scale to standard or none."
                )
            offset = min(float(part.min()) for part in parts)
            factor = max(float(part.max()) for part in parts) - offset
        elif kind == "standard":
            # The phase of a complex number counts, hence its origin stays where it is.
            with np.errstate(over="ignore", invalid="ignore"):
                if not is_complex:
                    offset = float(sum(piece.sum() for piece in _pieces(parts)) / count)
                square = sum(np.square(np.abs(piece - offset)).sum() for piece in _pieces(parts))
            factor = math.sqrt(square / count) if square >= 0 else math.nan
        if not (math.isfinite(factor) and factor > 0):
            raise InputError(
                f"the values of {what} lie too far apart, or too close together, for double "
                "precision: rescale them, or subtract what they have in common."
            )
        return cls(kind, offset, factor)

    def apply(
        self, parts: Sequence[Num[np.ndarray, "_ *shape"]], what: str
    ) -> Num[np.ndarray, "n *shape"]:
        """All samples on this scale, one after the other, in single precision.

        Raises:
            InputError: some of them are beyond it, or it cannot tell them apart.
        """
        dtype = np.complex64 if any(map(np.iscomplexobj, parts)) else np.float32
        scaled = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype)
        start, rounding = 0, _Rounding()
        for piece in _pieces(parts):
            kept = scaled[start : start + len(piece)]
            with np.errstate(over="ignore"):
                piece = (piece - self.offset) / self.factor
                kept[:] = piece
            if not np.isfinite(kept).all():
                raise InputError(
                    f"{what} holds values beyond single precision: set its scale to standard or "
                    "unit."
                )
            rounding.add(piece, kept)
            start += len(piece)
        if rounding.loses():
            raise InputError(
                f"single precision cannot tell the values of {what} apart: subtract what they have "
                "in common, or rescale them."
            )
        return scaled


class _Rounding:
    """How far values spread, and how far what rounding changes of them does, by absolute values,
    of which none is too small, and by real and imaginary parts, of which either may be lost."""

    def __init__(self) -> None:
        self.centres: list[np.ndarray] = []
        self.spreads: list[np.ndarray] = []

    def add(self, exact: np.ndarray, kept: np.ndarray) -> None:
        """Count a piece of the values and the same in single precision."""
        step, double = max(1, exact.size // MEASURED), np.result_type(kept, np.float64)
        values, rounded = (_components(each[::step].astype(double)) for each in (exact, kept))
        found = values, rounded - values
        if not self.centres:  # a median, since what is constant has no distance from it at all
            self.centres = [np.median(each, axis=0) for each in found]
            self.spreads = [np.zeros_like(centre) for centre in self.centres]
        for each, centre, spread in zip(found, self.centres, self.spreads, strict=True):
            spread += np.abs(each - centre).sum(axis=0)

    def loses(self) -> bool:
        """Whether rounding makes up more than its share of a spread."""
        values, errors = self.spreads
        return bool((errors > LOST * values).any())


def _components(values: np.ndarray) -> Num[np.ndarray, "n parts"]:
    """Real values, or real and imaginary parts, of samples in double precision."""
    return values.view(np.float64).reshape(-1, 2 if np.iscomplexobj(values) else 1)


def _pieces(parts: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """A few samples at a time, in double precision."""
    for part in parts:
        step = max(1, PIECE // math.prod(part.shape[1:]))
        double = np.complex128 if np.iscomplexobj(part) else np.float64
        for start in range(0, len(part), step):
            yield part[start : start + step].astype(double)
