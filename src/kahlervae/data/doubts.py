"""What data look like that is seldom meant, in words."""

from collections.abc import Iterator

import numpy as np

__all__ = ["copies", "doubts", "uneven"]

MANY = 0.01
"""Share of the samples above which copies of others are told."""


def doubts(values: np.ndarray) -> Iterator[str]:
    """What samples look like that is seldom meant.

    Args:
        values: (n, *shape), scaled.

    Example:
        >>> list(doubts(np.array([[1.0, 0.0], [0.0, 0.0], [2.0, 0.0]])))
        ['1 of 2 columns are constant']
    """
    if values.dtype.kind == "c":
        if not values.imag.any():
            yield "all imaginary parts are 0: if that is not meant, save the real ones alone"
    elif values.ndim > 2 and 2 in (values.shape[1], values.shape[-1]):
        real, imaginary = (
            ("x[..., 0]", "x[..., 1]") if values.shape[-1] == 2 else ("x[:, 0]", "x[:, 1]")
        )
        yield (
            f"one axis has the length 2: if these are real and imaginary parts, save {real} + "
            f"1j * {imaginary}"
        )
    distances = np.abs(values - values.mean()).ravel()
    usual = float(np.quantile(distances[:: max(1, distances.size // 10**6)], 0.99))
    furthest = float(distances.max())
    if furthest > 10 * usual > 0:
        yield (
            f"outliers: the furthest value lies {furthest / usual:.3g} times as far from the mean "
            "as 99 % of them, and all share one scale; clip it if that is not meant"
        )
    if values.ndim == 2:
        yield from _columns(values)


def _columns(values: np.ndarray) -> Iterator[str]:
    """Columns that weigh nothing, and one that weighs more than all others.

    Args:
        values: (n, columns), scaled.
    """
    varies = (values != values[0]).any(axis=0)
    if not varies.all():
        yield f"{np.sum(~varies)} of {len(varies)} columns are constant"
    double = np.result_type(values, np.float64)
    spread = np.abs(values.std(axis=0, dtype=double)) * varies  # without what is left by rounding
    usual = float(np.median(spread[varies]))
    if spread.max() > 10 * usual:
        yield (
            f"one scale for all columns: column {int(spread.argmax())} spreads "
            f"{spread.max() / usual:.3g} times as far as the median one, and is most of what a "
            "model learns; rescale it if that is not meant"
        )


def copies(values: np.ndarray) -> Iterator[str]:
    """Samples that lie in the data more than once, if they are many.

    Args:
        values: (n, *shape).

    Example:
        >>> [told] = copies(np.array([[1, 2], [3, 4], [1, 2]]))
        >>> told.partition(",")[0]
        '1 of 3 samples are copies of others'
    """
    different = len({hash(sample.tobytes()) for sample in values})
    if (count := len(values) - different) > MANY * len(values):
        yield (
            f"{count:,} of {len(values):,} samples are copies of others, and the same lie in "
            "several parts of the split: leave them out if that is not meant"
        )


def uneven(bounds: dict[str, tuple[float, float]]) -> Iterator[str]:
    """Arrays of samples that spread much less than others, with which they share one scale.

    Args:
        bounds: the least and the largest value of each, by what sentences call them.

    Example:
        >>> list(uneven({"a.npy": (0, 255), "b.npy": (0, 200)}))
        []
    """
    spans = {what: high - low for what, (low, high) in bounds.items()}
    narrow, wide = min(spans, key=spans.__getitem__), max(spans, key=spans.__getitem__)
    if spans[wide] >= 10 * spans[narrow]:
        yield (
            f"one scale for all parts: {wide} goes from {bounds[wide][0]:.4g} to "
            f"{bounds[wide][1]:.4g}, and {narrow} from {bounds[narrow][0]:.4g} to "
            f"{bounds[narrow][1]:.4g}; rescale one of them if that is not meant"
        )
