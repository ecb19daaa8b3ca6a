"""The page on which a model of recordings is heard: one HTML file with its sounds inside."""

import io
import wave
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from kahlervae.errors import InputError
from kahlervae.figures.images import key_label
from kahlervae.figures.looks import VARIANTS, ordered
from kahlervae.figures.pages import render
from kahlervae.figures.pictures import pictures
from kahlervae.figures.single_file import data_uri
from kahlervae.figures.sources import arrays

__all__ = ["wav_bytes", "write_player"]

LOUDNESS = 0.08
"""Root mean square of every sound, in units of the largest value of a WAV file."""
TITLES = {
    "recordings": "test recordings",
    "reconstructions": "their reconstructions, in the same order",
}


def write_player(path: Path, rate: int, out: Path) -> None:
    """Write the page of one model's sounds; it opens from disk and needs no network.

    Args:
        path: what `kahlervae sounds` wrote.
        rate: values a second.
        out: HTML file.

    Raises:
        InputError: the file holds no sounds.
    """
    content, identity = arrays(path, [])
    names = [name.partition("/")[2] for name in content if name.startswith("sounds/")]
    if not names:
        raise InputError(f"{path} holds no sounds: make it again.")
    rows = [
        {
            "title": _title(name),
            "sounds": [
                {"sound": data_uri("audio/wav", wav_bytes(sound, rate)), "view": _picture(view)}
                for sound, view in zip(
                    content[f"sounds/{name}"], pictures(content[f"views/{name}"]), strict=True
                )
            ],
        }
        for name in sorted(names, key=_rank)
    ]
    variant = VARIANTS[ordered([identity["variant"]], VARIANTS)[0]].label
    title = f"Sounds: {variant}, {identity['dataset']}, seed {identity['seed']}"
    render(out, "player", title, rows=rows)


def wav_bytes(sound: Float[np.ndarray, " length"], rate: int) -> bytes:
    """A WAV file of 16 bits, all sounds equally loud; what is too loud by itself is clipped.

    Example:
        >>> content = wav_bytes(np.sin(np.arange(800)), 8000)
        >>> content[:4], len(content)
        (b'RIFF', 1644)
    """
    power = float(np.sqrt(np.square(sound, dtype=np.float64).mean())) or 1.0
    values = np.clip(sound * (LOUDNESS / power), -1, 1)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, rate, len(values), "NONE", ""))
        writer.writeframes((32767 * values).round().astype("<i2").tobytes())
    return file.getvalue()


def _picture(view: Float[np.ndarray, "height width"]) -> str:
    file = io.BytesIO()
    Image.fromarray((255 * (1 - np.clip(view, 0, 1))).round().astype(np.uint8)).save(file, "png")
    return data_uri("image/png", file.getvalue())


def _rank(name: str) -> tuple[int, str]:
    """Recordings, reconstructions, lines, then samples, the prior first."""
    order = [name == "recordings", name == "reconstructions", name.startswith("line ")]
    return (order.index(True), name) if any(order) else (3 + (name != "prior:default"), name)


def _title(name: str) -> str:
    if name.startswith("line "):
        return f"{name} between two of them"
    return TITLES.get(name) or "samples: " + key_label(name).replace("\n", ", ")
