"""Recordings: WAV files in a folder, a zip or a tar archive."""

import hashlib
import io
import re
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from kahlervae.errors import InputError, out_of_memory
from kahlervae.places import wav_files

__all__ = ["decode_wav", "digest", "label_of", "read_recordings", "read_wav"]

LARGEST = 2**26
"""Bytes of one recording, at most: 64 MiB, half an hour at 16 kHz."""
ALL = 2**32
"""Bytes of all recordings, at most: 4 GiB."""
MOST = 100_000
"""Recordings, at most."""


def read_recordings(path: Path, within: str = "") -> dict[str, bytes]:
    """The WAV files of a folder, a zip or a tar archive by their names, in order of these.

    Args:
        path: of the folder or archive.
        within: a folder's name; of an archive only the files directly below such a folder count,
            and go by their own names alone.

    Raises:
        InputError: it cannot be read, holds no WAV file or more than may be, one that is a link to
            nothing, or two of one name.
    """
    try:
        if path.is_dir():
            members = _in_folder(path)
        elif zipfile.is_zipfile(path):
            members = _in_zip(path)
        elif path.is_file() and tarfile.is_tarfile(path):
            members = _in_tar(path)
        else:
            what = "no folder, zip or tar archive of recordings" if path.exists() else "not there"
            do = "put the recordings there or correct the name"
            if path.suffix.lower() == ".wav":
                do = "name the folder that the recordings lie in"
            raise InputError(f"{path} is {what}: {do}.")
        found: dict[str, bytes] = {}
        total = 0
        for name, content in members:
            place = PurePosixPath(name)
            if within and path.is_file():
                if place.parent.name != within:
                    continue
                place = PurePosixPath(place.name)
            if str(place) in found:
                raise InputError(f"{path} holds two recordings of the name {place}: rename one.")
            total += len(content)
            if total > ALL or len(found) >= MOST:
                raise InputError(f"{path} holds more than {MOST:,} recordings or {ALL:,} bytes.")
            found[str(place)] = content
    except InputError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise InputError(f"{path} cannot be read ({reason}): get it anew.") from error
    if not found:
        raise InputError(
            f"{path} holds no WAV file: put the recordings there, or name the files themselves if "
            "they hold arrays."
        )
    return dict(sorted(found.items()))


def _is_wav(name: str) -> bool:
    place = PurePosixPath(name)
    return place.suffix.lower() == ".wav" and not place.name.startswith(".")


def _limited(size: int, name: str) -> int:
    if size > LARGEST:
        raise InputError(f"{name} has {size:,} bytes, more than {LARGEST:,}: crop the recording.")
    return size


def _in_folder(path: Path) -> Iterator[tuple[str, bytes]]:
    for file in wav_files(path):
        name = file.relative_to(path).as_posix()
        if not file.is_file():
            raise InputError(f"{file} is a link to nothing: remove it, or put the recording there.")
        _limited(file.stat().st_size, name)
        yield name, file.read_bytes()


def _in_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if _is_wav(member.filename) and not member.is_dir():
                with archive.open(member) as file:
                    content = file.read(_limited(member.file_size, member.filename))
                    yield member.filename, content


def _in_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        unpacked = 0
        for member in archive:
            unpacked += max(member.size, 0)
            if unpacked > ALL:
                raise InputError(f"{path} unpacks to more than {ALL:,} bytes.")
            if _is_wav(member.name) and not member.isdir():
                if not member.isreg():
                    raise InputError(
                        f"{member.name} of {path} is a link: pack the recordings themselves."
                    )
                _limited(member.size, member.name)
                file = archive.extractfile(member)
                assert file is not None
                yield member.name, file.read(member.size)


def digest(recordings: Mapping[str, bytes]) -> str:
    """SHA-256 of the names and contents of recordings, however they are packed.

    Example:
        >>> digest({"b.wav": b"1", "a.wav": b"2"}) == digest({"a.wav": b"2", "b.wav": b"1"})
        True
    """
    lines = (
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in sorted(recordings.items())
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_wav(content: bytes, name: str, rate: int, length: int) -> Float[np.ndarray, " length"]:
    """One recording at a rate, in [−1, 1], from its start: cropped, or padded with silence.

    Another rate is changed by a polyphase filter.

    Args:
        content: of the file, see :func:`decode_wav`.
        name: names it in sentences.
        rate: values a second.
        length: values.

    Raises:
        InputError: as :func:`decode_wav`.
    """
    from scipy.signal import resample_poly

    found, mono = decode_wav(content, name)
    if found != rate:
        # No more than is kept, with what the filter reaches over.
        mono = resample_poly(mono[: (length + rate) * found // rate + 1], rate, found)
    kept = mono[:length]
    return np.pad(kept, (0, length - len(kept)))


def decode_wav(content: bytes, name: str) -> tuple[int, Float[np.ndarray, " values"]]:
    """Values a second of a recording, and its values in [−1, 1], averaged over channels.

    Args:
        content: of the file: PCM of 8, 16, 24 or 32 bits, or floating point of 32 or 64.
        name: names it in sentences.

    Raises:
        InputError: it is damaged, empty, of another kind, or holds what is not finite.
    """
    from scipy.io import wavfile

    content, cut_off = _whole(content)
    try:
        with warnings.catch_warnings():
            # Of chunks that are unknown or cut off.
            warnings.simplefilter("error", wavfile.WavFileWarning)
            warnings.filterwarnings(
                "ignore", message="Chunk .* not understood", category=wavfile.WavFileWarning
            )
            rate, values = wavfile.read(io.BytesIO(content))
    except Exception as error:
        if out_of_memory(error):
            raise
        # Of other errors the words are about scipy's own variables.
        told = str(error) if isinstance(error, ValueError | Warning) else "its header is wrong"
        reason = told.strip().partition("\n")[0][:200]
        raise InputError(
            f"{name} is not a readable WAV file ({reason}): it is truncated, damaged or compressed."
        ) from error
    if values.size == 0:
        raise InputError(f"{name} holds no sound: leave it out.")
    if cut_off:
        raise InputError(f"{name} ends before its header says: it is truncated, get it anew.")
    if not 1000 <= rate <= 1_000_000:
        raise InputError(
            f"{name} says that it has {rate} values a second, and 1,000 to 1,000,000 are read: "
            "it is damaged, or to be resampled."
        )
    scaled = _scaled(values)
    if not np.isfinite(scaled).all():
        raise InputError(f"{name} holds values that are not finite: leave it out.")
    mono = scaled.mean(axis=1) if scaled.ndim == 2 else scaled
    if scaled.any() and not mono.any():
        raise InputError(f"{name} has channels that cancel each other: keep one of them.")
    return rate, mono


STREAMED = 2**32 - 1
"""What the header of a recording that came through a pipe says of its size."""


def _whole(content: bytes) -> tuple[bytes, bool]:
    """A file whose header says how many values there are, and whether there are fewer than that."""
    at = 12
    while content[:4] == b"RIFF" and at + 8 <= len(content):
        (size,) = struct.unpack("<I", content[at + 4 : at + 8])
        rest = len(content) - at - 8
        if content[at : at + 4] == b"data":
            if size != STREAMED:
                return content, size > rest
            both = struct.pack("<I", len(content) - 8), struct.pack("<I", rest)
            return content[:4] + both[0] + content[8 : at + 4] + both[1] + content[at + 8 :], False
        at += 8 + size + size % 2
    return content, False


def _scaled(values: np.ndarray) -> np.ndarray:
    """Integers of any width as fractions of the largest; scipy shifts 24 bits up to 32."""
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    if values.dtype == np.uint8:
        return (values.astype(np.float64) - 128) / 128
    return values.astype(np.float64) / -float(np.iinfo(values.dtype).min)


def label_of(name: str, pattern: "re.Pattern[str]") -> Any:
    """What the pattern finds in the name of a recording: its first group.

    Raises:
        InputError: it finds nothing.
    """
    found = pattern.search(name)
    if found is None or found[1] is None:
        raise InputError(
            f"{name} has no label by the pattern {pattern.pattern!r}: correct `label`, or leave it "
            "out."
        )
    return found[1]
