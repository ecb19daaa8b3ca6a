"""Files of anybody's with random damage: read as what they are, or refused in one sentence."""

import io
import random
import resource
import struct
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from kahlervae.data.arrays import as_classes, as_labels, as_samples, read_arrays, read_headers
from kahlervae.data.recordings import read_recordings, read_wav
from kahlervae.errors import InputError

EACH = 1200
"""Damaged versions of each kind of file."""
MEMORY = 600
"""Megabytes by which all of them may raise the peak: what a few large arrays would take."""
VALUES = np.random.default_rng(0).normal(size=(20, 3, 4)).astype("f4")
LABELS = np.arange(20) % 3


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, VALUES)
    return file.getvalue()


def npz(compressed: bool) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, x=VALUES, y=LABELS)
    return file.getvalue()


def wav() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 8000, 200, "NONE", ""))
        writer.writeframes((3000 * VALUES.ravel()[:200]).astype("<i2").tobytes())
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(3):
            archive.writestr(f"a/{k}.wav", wav())
    return file.getvalue()


def load_arrays(path: Path) -> None:
    """As the data stage does."""
    headers = read_headers(path)
    found = read_arrays(path, list(headers))
    for name, array in found.items():
        assert array.shape == headers[name].shape
        assert array.nbytes <= 2**20  # what the small file can hold
    for name, array in found.items():
        samples = as_samples(array, name)
        assert np.isfinite(samples).all()
        as_classes([as_labels(array, len(array), name)], name)


def load_wav(path: Path) -> None:
    sound = read_wav(path.read_bytes(), path.name, 8000, 300)
    assert sound.shape == (300,)
    assert np.isfinite(sound).all()


def load_recordings(path: Path) -> None:
    for name, content in read_recordings(path).items():
        sound = read_wav(content, name, 8000, 300)
        assert np.isfinite(sound).all()


KINDS: dict[str, tuple[bytes, str, Callable[[Path], None]]] = {
    "npy": (npy(), "a.npy", load_arrays),
    "npz": (npz(False), "a.npz", load_arrays),
    "compressed npz": (npz(True), "a.npz", load_arrays),
    "safetensors": (save({"x": VALUES, "y": LABELS}), "a.safetensors", load_arrays),
    "wav": (wav(), "a.wav", load_wav),
    "zip of wav": (zipped(), "a.zip", load_recordings),
}


def damage(raw: bytes, stream: random.Random) -> bytes:
    """One of the ways in which files get broken, or are broken on purpose."""
    content = bytearray(raw)
    at = stream.randrange(len(content))
    # Headers are where a change matters most.
    head = stream.randrange(min(200, len(content)))
    match stream.randrange(8):
        case 0:
            return bytes(content[:at])
        case 1:
            content[at] ^= 1 << stream.randrange(8)
        case 2:
            content[head] = stream.randrange(256)
        case 3:
            size = stream.choice([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 2])
            content[head : head + 4] = struct.pack("<I", size)
        case 4:
            return bytes(content[:at] + stream.randbytes(stream.randrange(1, 64)) + content[at:])
        case 5:
            return bytes(content[:at] + content[at + stream.randrange(1, 64) :])
        case 6:  # digits of shapes, letters of types
            digits = [i for i, byte in enumerate(content[:200]) if chr(byte).isalnum()]
            for _ in range(stream.randrange(1, 4)):
                content[stream.choice(digits)] = stream.choice(b"0123456789cfiuOVSUb<>|(),")
        case 7:
            tail = max(0, len(content) - 200)
            content[stream.randrange(tail, len(content))] = stream.randrange(256)
    return bytes(content)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    raw, name, load = KINDS[kind]
    path = tmp_path / name
    path.write_bytes(raw)
    load_once = {"read": 0, "refused": 0}
    stream = random.Random(kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(EACH):
        content = damage(raw, stream)
        path.write_bytes(content)
        try:
            load(path)
            load_once["read"] += 1
        except InputError as error:
            sentence = str(error)
            assert "\n" not in sentence, (number, sentence)
            assert len(sentence) < 700, (number, sentence)
            load_once["refused"] += 1
    assert load_once["refused"] > EACH // 5
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MEMORY * 1024, f"{grown / 1024:.0f} MB"


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_refused(kind: str, tmp_path: Path) -> None:
    _, name, load = KINDS[kind]
    stream = random.Random(0)
    for _ in range(100):
        (tmp_path / name).write_bytes(stream.randbytes(stream.randrange(300)))
        with pytest.raises(InputError):
            load(tmp_path / name)
