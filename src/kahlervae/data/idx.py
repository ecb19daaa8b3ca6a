"""The IDX format of MNIST and its kin.

A header of 4 bytes (0, 0, the type of the values, the number of dimensions) and one big-endian
32-bit size per dimension, then the values. Source: http://yann.lecun.com/exdb/mnist/.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from jaxtyping import UInt8

from kahlervae.errors import InputError

__all__ = ["is_idx", "read_idx", "size_limit"]

UNSIGNED_BYTE = 0x08
GZIPPED = b"\x1f\x8b"
"""How a gzipped file starts."""


def is_idx(path: Path) -> bool:
    """Whether a file, plain or gzipped, starts as an IDX file of unsigned bytes does."""
    try:
        with path.open("rb") as file:
            zipped = file.read(len(GZIPPED)) == GZIPPED
            file.seek(0)
            start = (gzip.GzipFile(fileobj=file) if zipped else file).read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return len(start) == 4 and start.startswith(bytes([0, 0, UNSIGNED_BYTE]))


def size_limit(shape: tuple[int, ...]) -> int:
    """The most bytes that a file of this shape, plain or gzipped, can need.

    Gzip makes what cannot be compressed larger by less than a hundredth.
    """
    return math.ceil(1.01 * math.prod(shape)) + 2**16


def read_idx(path: Path | str, shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
    """The values of an IDX file of unsigned bytes, plain or gzipped.

    The shape is asked for and not taken from the file, so that no file can demand memory: at most
    as many bytes are unpacked as the shape has, and one more to see that the file ends there.

    Args:
        path: the file.
        shape: what its header has to say.

    Raises:
        InputError: the file is missing, is not an IDX file of that shape and type, is damaged,
            too short or too long.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError(f"{path} is not a file: put the IDX file there.")
        if path.stat().st_size > size_limit(shape):
            raise InputError(
                f"{path} has {path.stat().st_size} bytes, more than an IDX file of shape "
                f"{shape} can need: it is another file."
            )
        with path.open("rb") as file:
            zipped = file.read(len(GZIPPED)) == GZIPPED
            file.seek(0)
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if zipped else file
            values = _read(stream, path, shape)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path} cannot be read ({error}): it is damaged or not accessible, get it anew."
        ) from error
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)


def _read(stream: BinaryIO, path: Path, shape: tuple[int, ...]) -> bytes:
    start = stream.read(4)
    if len(start) < 4 or start[:2] != b"\0\0":
        raise InputError(f"{path} is not an IDX file: it does not start with two zero bytes.")
    kind, dimensions = start[2:]
    if kind != UNSIGNED_BYTE:
        raise InputError(
            f"{path} holds values of the IDX type 0x{kind:02x}, but only unsigned bytes (0x08) are "
            "read."
        )
    sizes = stream.read(4 * dimensions)
    found = struct.unpack(f">{len(sizes) // 4}I", sizes[: len(sizes) // 4 * 4])
    if found != shape:
        raise InputError(f"{path} holds an array of shape {found}, not of {shape}.")
    values = stream.read(math.prod(shape))
    if len(values) < math.prod(shape):
        raise InputError(
            f"{path} ends after {len(values)} of {math.prod(shape)} values: it is truncated, "
            "get it anew."
        )
    if stream.read(1):
        raise InputError(f"{path} goes on after the values that its header names: get it anew.")
    return values
