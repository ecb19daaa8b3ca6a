"""Arrays of anybody's in .npz, .npy and safetensors files.

Nothing is unpickled, and nothing is allocated for what a header claims: a file is read in pieces,
and no further than the header says.
"""

import io
import math
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from kahlervae.errors import InputError, out_of_memory

__all__ = ["CLASSES", "ArrayHeader", "as_classes", "as_samples", "read_arrays", "read_headers"]

LARGEST = 2**33
"""Bytes of one array, unpacked, at most: 8 GiB."""
EXPANSION = 1032
"""Bytes that deflate makes of one at most."""
MEMBERS = 10_000
"""Arrays of a file, at most."""
CLASSES = 256
"""Classes of a data set, at most."""
PIECE = 2**24
SUFFIXES = (".npz", ".npy", ".safetensors")


class ArrayHeader(NamedTuple):
    """What a file says of one of its arrays."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_headers(path: Path) -> dict[str, ArrayHeader]:
    """The headers of all arrays of a file; the array of an .npy file has the name ``""``.

    Raises:
        InputError: the file is missing, damaged, of another kind, or holds what is no plain array.
    """
    return {name: header for name, (header, _) in _read(path, ()).items()}


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of a file by name, in the machine's byte order.

    Raises:
        InputError: as :func:`read_headers`; or one of the names is not in the file.
    """
    found = _read(path, names)
    for name in names:
        if name not in found:
            held = ", ".join(sorted(found)) or "nothing"
            raise InputError(f"{path} holds no array {name!r}: it holds {held}, name one of these.")
    return {name: array for name, (_, array) in found.items() if array is not None}


def _read(path: Path, names: Sequence[str]) -> dict[str, tuple[ArrayHeader, np.ndarray | None]]:
    """All headers, and the arrays of the given names."""
    again = "it is damaged or of another kind, get it anew or save it again."
    try:
        if not path.is_file():
            raise InputError(f"{path} is not a file: put it there or correct its name.")
        match path.suffix.lower():
            case ".npy":
                with path.open("rb") as file:
                    return {"": _read_npy(file, path.stat().st_size, "" in names, str(path))}
            case ".npz":
                return _read_npz(path, names)
            case ".safetensors":
                return _read_safetensors(path, names)
        raise InputError(
            f"{path} is not read: arrays come in files that end with {', '.join(SUFFIXES)}."
        )
    except InputError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise InputError(f"{path} cannot be read ({reason}): {again}") from error


def _read_npz(path: Path, names: Sequence[str]) -> dict[str, tuple[ArrayHeader, np.ndarray | None]]:
    found = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > MEMBERS:
            raise InputError(f"{path} holds {len(members)} arrays, more than {MEMBERS}: split it.")
        for member in members:
            name = member.filename.removesuffix(".npy")
            packed = path.stat().st_size if member.compress_type else member.compress_size
            most = packed * (EXPANSION if member.compress_type else 1)
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InputError(f"{path} is packed in an unusual way: save it by numpy.savez.")
            with archive.open(member) as file:
                what = f"{name!r} of {path}"
                found[name] = _read_npy(file, min(most, member.file_size), name in names, what)
    return found


def _read_npy(
    file: IO[bytes], size: int, wanted: bool, what: str
) -> tuple[ArrayHeader, np.ndarray | None]:
    """Header and, if wanted, values of an array in the format of numpy.

    Args:
        file: from its start.
        size: bytes that it can have.
        wanted: whether values are read.
        what: names it in sentences.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"{what} is in version {version} of its format: save it as a plain array.")
    length = {1: "<H", 2: "<I"}[version[0]]
    start = file.read(struct.calcsize(length))
    # The header is text of a few hundred characters, whatever it claims to be.
    (claimed,) = struct.unpack(length, start)
    if claimed > 10_000:
        raise InputError(f"{what} has a header of {claimed} bytes: save it as a plain array.")
    text = io.BytesIO(start + file.read(claimed))
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    header = _checked(ArrayHeader(*_reordered(read[version[0]](text))), what)
    rest = size - (8 + len(start) + claimed)
    if header.size > max(rest, 0):
        raise InputError(
            f"{what} says that it has {header.size:,} bytes of values, and {max(rest, 0):,} is the "
            "most that there can be: it is damaged, get it anew."
        )
    if not wanted:
        return header, None
    values = bytearray()
    while len(values) < header.size:
        piece = file.read(min(PIECE, header.size - len(values)))
        if not piece:
            raise InputError(
                f"{what} ends after {len(values):,} of {header.size:,} bytes: get it anew."
            )
        values += piece
    if file.read(1):
        raise InputError(f"{what} goes on after the values of its header: get it anew.")
    flat = np.frombuffer(values, header.dtype)
    if header.fortran_order:
        return header, flat.reshape(header.shape[::-1]).T
    return header, flat.reshape(header.shape)


def _reordered(header: tuple[tuple[int, ...], bool, np.dtype]) -> tuple[Any, ...]:
    shape, fortran_order, dtype = header
    return shape, dtype, fortran_order


def _checked(header: ArrayHeader, what: str) -> ArrayHeader:
    """A header of plain values whose size is within bounds."""
    kind = header.dtype.kind
    if header.dtype.hasobject:
        raise InputError(
            f"{what} holds Python objects, which are not read since that may run code: save an "
            "array of numbers; rows of unequal length are padded or cropped before."
        )
    if header.dtype.names or header.dtype.subdtype or kind not in "biufcUS":
        raise InputError(f"{what} holds values of type {header.dtype}: save an array of numbers.")
    if not all(isinstance(n, int) and n >= 0 for n in header.shape) or len(header.shape) > 32:
        raise InputError(f"{what} has the shape {header.shape}, which is none: save it again.")
    if header.size > LARGEST:
        raise InputError(
            f"{what} says that it has {header.size:,} bytes, more than {LARGEST:,}: split it into "
            "several files."
        )
    return header


SAFETENSORS = {
    **{"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4"},
    **{"I32": "<i4", "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8"},
    "C64": "<c8",
}


def _read_safetensors(
    path: Path, names: Sequence[str]
) -> dict[str, tuple[ArrayHeader, np.ndarray | None]]:
    from safetensors import safe_open

    found: dict[str, tuple[ArrayHeader, np.ndarray | None]] = {}
    with safe_open(path, framework="np") as file:  # which holds the header against the file's size
        for name in file.keys():  # noqa: SIM118
            part = file.get_slice(name)
            kind = part.get_dtype()
            if kind not in SAFETENSORS:
                if name in names:
                    raise InputError(f"{name!r} of {path} is of type {kind}: save it as F32.")
                continue
            header = ArrayHeader(tuple(part.get_shape()), np.dtype(SAFETENSORS[kind]))
            header = _checked(header, f"{name!r} of {path}")
            found[name] = header, file.get_tensor(name) if name in names else None
    return found


def as_samples(values: np.ndarray, what: str, channels: str | None = None) -> np.ndarray:
    """Samples in double precision, complex or real, with channels last.

    Args:
        values: (n, *shape), numbers of any type.
        what: names them in sentences.
        channels: ``first`` or ``last`` axis of a sample of three or more; by default ``first`` if
            that is the shorter one of the two.

    Raises:
        InputError: they are no numbers, a sample has no axis or no value, all are the same, or some
            are not finite.
    """
    if values.dtype.kind not in "biufc":
        raise InputError(f"{what} holds values of type {values.dtype}: samples are numbers.")
    if values.ndim < 2 or values.size == 0:
        raise InputError(
            f"{what} has the shape {values.shape}: samples are stacked along the first axis, and "
            "each has one axis at least, as in (n, 64) or (n, 28, 28)."
        )
    values = values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)
    if broken := int((~np.isfinite(values)).sum()):
        samples = int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum())
        raise InputError(
            f"{what} holds {broken:,} values that are not finite, in {samples:,} of "
            f"{len(values):,} samples: leave these out or fill the gaps."
        )
    if (values == values.flat[0]).all():
        raise InputError(
            f"{what} holds the value {values.flat[0]} alone: there is nothing to learn."
        )
    if channels is None and values.ndim > 3:
        channels = "first" if values.shape[1] < values.shape[-1] else "last"
    return np.moveaxis(values, 1, -1) if channels == "first" and values.ndim > 3 else values


def as_classes(labels: np.ndarray, count: int, what: str) -> tuple[np.ndarray, list[Any]]:
    """Classes from 0 of ``count`` samples, and what each of them is called.

    Args:
        labels: (n,) or (n, 1); whole numbers, truth values, or texts.
        count: samples that they belong to.
        what: names them in sentences.

    Raises:
        InputError: there is not one label for each sample, labels are fractions, all are the same,
            or there are too many different ones.
    """
    out = "or leave `labels` out of the entry."
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != count:
        raise InputError(
            f"{what} has the shape {labels.shape} for {count:,} samples: give one label for each, "
            f"{out}"
        )
    if labels.dtype.kind == "f":
        whole = np.isfinite(labels) & (labels == np.round(labels)) & (np.abs(labels) < 2**53)
        if not whole.all():
            first = labels[~whole][0]
            raise InputError(f"{what} holds {first}: labels are whole numbers or texts, {out}")
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "biuUS":
        raise InputError(f"{what} holds values of type {labels.dtype}: number the classes, {out}")
    names, classes = np.unique(labels, return_inverse=True)
    if not 2 <= len(names) <= CLASSES:
        number = "a single class" if len(names) == 1 else f"{len(names):,} classes"
        raise InputError(f"{what} holds {number}: labels are of 2 to {CLASSES} classes, {out}")
    texts = [n.decode("utf-8", "replace") if isinstance(n, bytes) else n for n in names.tolist()]
    return classes.astype(np.int64), texts
