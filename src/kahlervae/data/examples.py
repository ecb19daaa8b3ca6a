"""Small sets of arrays with known answers, to try the workflow on."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Complex, UInt8

from kahlervae.errors import InputError

__all__ = ["EXAMPLES", "make_example"]


def _colours(count: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Discs of three colours, which are the labels, anywhere on dark pictures of 8 × 8."""
    labels = random.integers(0, 3, count)
    rows, columns = np.indices((8, 8))
    centres = random.uniform(2, 5, (2, count, 1, 1))
    squares = (rows - centres[0]) ** 2 + (columns - centres[1]) ** 2
    hues = np.array([[0.9, 0.2, 0.1], [0.2, 0.8, 0.2], [0.2, 0.3, 0.9]])[labels]
    light = np.exp(-squares / random.uniform(2, 5, (count, 1, 1)))[..., None] * hues[:, None, None]
    noisy = np.clip(255 * light + random.normal(0, 6, light.shape), 0, 255)
    pictures: UInt8[np.ndarray, "count 8 8 3"] = noisy.round().astype(np.uint8)
    return {"x": pictures, "y": np.array(["red", "green", "blue"])[labels]}


def _waves(count: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Complex pulses of one frequency each, at any phase, in noise; without labels."""
    t = np.arange(32)
    frequency, phase, centre = (
        random.uniform(low, high, (count, 1))
        for low, high in ((0.02, 0.3), (0, 2 * np.pi), (10, 22))
    )
    pulse = np.exp(1j * (2 * np.pi * frequency * t + phase) - (t - centre) ** 2 / 50)
    noise = random.normal(0, 0.05, (2, count, 32))
    waves: Complex[np.ndarray, "count 32"] = (pulse + noise[0] + 1j * noise[1]).astype(np.complex64)
    return {"x": waves}


EXAMPLES: dict[str, Callable[[int, np.random.Generator], dict[str, np.ndarray]]] = {
    "colours": _colours,
    "waves": _waves,
}
"""Makers of arrays by name."""


def make_example(name: str, count: int, seed: int) -> dict[str, np.ndarray]:
    """The arrays of an example: samples ``x``, and labels ``y`` where it has any.

    Raises:
        InputError: there is none of that name.

    Example:
        >>> {key: array.shape for key, array in make_example("colours", 5, seed=0).items()}
        {'x': (5, 8, 8, 3), 'y': (5,)}
    """
    if name not in EXAMPLES:
        raise InputError(f"there is no example {name!r}: choose one of {', '.join(EXAMPLES)}.")
    return EXAMPLES[name](count, np.random.default_rng(seed))
