"""Samples of any shape as small pictures: what is drawn of an array, real or complex.

Pictures of two axes are shown as they are, in shades or in colour, on white where they are
transparent; complex ones with the phase as hue and the modulus as its strength. Channels that are
no colours are shown by their mean, complex ones by its phase and their root mean square; further
axes lie one below the other. Vectors and series are lines, complex ones a line of the modulus above
dots of the phase, in a frame.
"""

import math

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Num

__all__ = ["pictures"]

SIDE = 64
"""Side of the picture of a line."""
BROAD = 3
"""From how many times as high as wide on, or the reverse, a picture gets broad pixels."""
FRAME = 0.2
"""Darkness of the frame of lines, without which neighbours would run into each other."""
PHASE = 0.3
"""Share of the height that the phase of a complex series takes."""


def pictures(views: Num[np.ndarray, "n *view"]) -> Float[np.ndarray, "n height width *channels"]:
    """One picture of each view: darkness from 0 to 1, or red, green and blue.

    What does not lie in [0, 1] is scaled, all views alike. A view of NaN alone stays NaN: nothing.

    Example:
        >>> pictures(np.zeros((5, 8, 8))).shape, pictures(np.zeros((5, 8, 8, 3))).shape
        ((5, 8, 8), (5, 8, 8, 3))
        >>> pictures(np.zeros((5, 100), dtype=complex)).shape
        (5, 64, 64, 3)
    """
    shape = views.shape[1:]
    if len(shape) == 1:
        return _line(views) if not np.iscomplexobj(views) else _complex_line(views)
    if len(shape) > 3:
        kept = 2 if shape[-1] in (1, 3, 4) else 1  # the width, with grey or colours as channels
        views = views.reshape(len(views), math.prod(shape[:-kept]), *shape[-kept:])
    if views.ndim > 3:
        if np.iscomplexobj(views):
            modulus = np.sqrt(np.square(np.abs(views)).mean(axis=3))
            views = modulus * np.exp(1j * np.angle(views.mean(axis=3)))
        elif shape[-1] not in (3, 4):
            views = views.mean(axis=3)
    shown = _hues(views) if np.iscomplexobj(views) else _scaled(views)
    if shown.ndim > 3 and shown.shape[3] == 4:
        shown = 1 - shown[..., 3:] * (1 - shown[..., :3])
    height, width = shown.shape[1:3]
    if len(shape) == 2 and not np.iscomplexobj(views) and min(height, width) > 2:
        seen = np.nanmax(shown.reshape(len(shown), -1), axis=1, initial=0) > FRAME
        nothing = np.isfinite(shown).all(axis=(1, 2)) & ~seen  # as silence, white on white
        shown = np.where(nothing[:, None, None], 1 - _framed(1 - shown), shown)
    down, across = max(1, width // height), max(1, height // width)
    if max(down, across) < BROAD:
        return shown
    return shown.repeat(down, axis=1).repeat(across, axis=2)


def _scaled(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Values in [0, 1]; others between their percentiles."""
    low, high = _limits(values)
    return values if (low, high) == (0.0, 1.0) else np.clip((values - low) / (high - low), 0, 1)


def _limits(values: Float[np.ndarray, "*shape"]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if finite.size == 0 or (finite.min() >= 0 and finite.max() <= 1):
        return 0.0, 1.0
    low, high = np.percentile(finite, [1, 99])
    return (float(low), float(high)) if low < high else (float(low) - 1, float(high) + 1)


def _hues(views: Num[np.ndarray, "n height width"]) -> Float[np.ndarray, "n height width 3"]:
    """Phase as hue; strong where the modulus is large, white where it vanishes."""
    modulus = np.abs(views)
    finite = modulus[np.isfinite(modulus)]
    strongest = np.percentile(finite, 99) if finite.size else 1.0
    strength = np.clip(np.nan_to_num(modulus) / (strongest or 1.0), 0, 1)
    hue = np.nan_to_num(np.angle(views) / (2 * np.pi)) % 1
    colours = mpl.colors.hsv_to_rgb(np.stack([hue, strength, 1 - 0.25 * strength], axis=-1))
    colours[~np.isfinite(modulus)] = np.nan
    return colours


def _line(views: Float[np.ndarray, "n length"]) -> Float[np.ndarray, "n side side"]:
    """Values against their place, 0 to 1 or scaled from the bottom to the top."""
    finite = views[np.isfinite(views)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    return 1 - _framed(1 - _traced(views, low, high, SIDE))


def _framed(light: Float[np.ndarray, "n *shape"]) -> Float[np.ndarray, "n *shape"]:
    """Pictures with a frame of one pixel, which is behind what is drawn."""
    edges = (slice(None), [0, -1]), (slice(None), slice(None), [0, -1])
    for edge in edges:
        light[edge] = np.minimum(light[edge], 1 - FRAME)
    return light


def _complex_line(views: Num[np.ndarray, "n length"]) -> Float[np.ndarray, "n side side 3"]:
    """The modulus as a black line, and below it the phase as dots of its hue."""
    modulus = np.abs(views)
    lower = round(PHASE * SIDE)
    highest = np.nanmax(modulus, initial=0) or 1.0
    upper = 1 - _traced(modulus, 0.0, float(highest), SIDE - lower)
    picture = np.ones((len(views), SIDE, SIDE, 3))
    picture[:, : SIDE - lower] = upper[..., None]
    place = np.linspace(0, views.shape[1] - 1, SIDE).round().astype(int)
    phase = np.angle(views[:, place])
    share = np.nan_to_num(phase / (2 * np.pi)) % 1
    rows = SIDE - 1 - ((np.nan_to_num(phase) / (2 * np.pi) + 0.5) * (lower - 3)).round().astype(int)
    colours = mpl.colors.hsv_to_rgb(np.stack([share, 0 * share + 1, 0 * share + 0.8], axis=-1))
    samples, columns = np.indices(rows.shape)
    for thick in (0, 1):
        picture[samples, rows - thick, columns] = colours
    picture = _framed(picture)
    picture[~np.isfinite(modulus).all(axis=1)] = np.nan
    return picture


def _traced(
    values: Float[np.ndarray, "n length"], low: float, high: float, height: int
) -> Float[np.ndarray, "n height side"]:
    """Darkness of a line through values, from ``low`` at the bottom to ``high`` at the top."""
    n, length = values.shape
    fine = max(length, 4 * SIDE)
    fine += -fine % SIDE
    place = np.linspace(0, max(length - 1, 1e-9), fine + 1)
    known = np.arange(length)
    y = np.stack([np.interp(place, known, row) for row in values])
    y = (height - 2) * (1 - (y - low) / ((high - low) or 1.0)) + 0.5
    pieces = y[:, :-1].reshape(n, SIDE, -1)
    after = y[:, fine // SIDE :: fine // SIDE][:, :, None]
    joined = np.concatenate([pieces, after], axis=2)
    top, bottom = joined.min(axis=2)[:, None], joined.max(axis=2)[:, None]
    row = np.arange(height)[:, None]
    return np.clip(1.2 - np.maximum(np.maximum(top - row, row - bottom), 0), 0, 1)
