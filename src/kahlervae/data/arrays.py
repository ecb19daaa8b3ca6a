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

__all__ = [
    "CLASSES",
    "SUFFIXES",
    "ArrayHeader",
    "as_classes",
    "as_labels",
    "as_samples",
    "channel_axis",
    "read_arrays",
    "read_headers",
]

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
"""Of files that hold arrays."""


class ArrayHeader(NamedTuple):
    """What a file says of one of its arrays.

    Attributes:
        shape: of it.
        dtype: of its values.
        fortran_order: whether its first axis varies fastest.
        fault: why it is not read, in a sentence; empty for what is.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool = False
    fault: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


Read = tuple[ArrayHeader, np.ndarray | None]
"""The header of an array, and its values where they were asked for."""


def read_headers(path: Path) -> dict[str, ArrayHeader]:
    """The headers of all members of a file; the array of an .npy file has the name ``""``.

    Members that are no plain arrays have a header with a fault.

    Raises:
        InputError: the file is missing, damaged or of another kind.
    """
    return {name: header for name, (header, _) in _read(path, ()).items()}


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of a file by name, in the machine's byte order.

    What else the file holds does not matter.

    Raises:
        InputError: as :func:`read_headers`; or one of the names is not in the file or is no plain
            array.
    """
    found = _read(path, names)
    for name in names:
        if name not in found:
            if set(found) == {""}:
                raise InputError(
                    f"{path} holds one array, which has no name: leave {name!r} out of the entry."
                )
            held = ", ".join(sorted(found)) or "nothing"
            raise InputError(f"{path} holds no array {name!r}: it holds {held}, name one of these.")
    return {name: array for name, (_, array) in found.items() if array is not None}


def _read(path: Path, names: Sequence[str]) -> dict[str, Read]:
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
        raise _unreadable(str(path), error, again) from error


def _unreadable(what: str, error: Exception, again: str) -> InputError:
    """The sentence for whatever a reader stumbled over; a failed allocation is raised as it is."""
    if out_of_memory(error):
        raise error
    reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
    return InputError(f"{what} cannot be read ({reason}): {again}")


def _read_npz(path: Path, names: Sequence[str]) -> dict[str, Read]:
    found: dict[str, Read] = {}
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) > MEMBERS:
            raise InputError(f"{path} holds {len(members)} arrays, more than {MEMBERS}: split it.")
        for member in members:
            name = member.filename.removesuffix(".npy")
            what = f"{name!r} of {path}"
            try:
                _hold_named(name, path)
                if name in found:
                    raise InputError(f"{what} is there twice: save it anew.")
                found[name] = _read_member(archive, member, name in names, what)
            except Exception as error:
                if not isinstance(error, InputError):
                    error = _unreadable(what, error, "it is damaged, get it anew.")
                if name in names:
                    raise error from None
                found[name] = ArrayHeader((), np.dtype("V"), fault=str(error)), None
    return found


def _hold_named(name: str, path: Path) -> None:
    """Refuse an array without a name, by which none is asked for."""
    if not name:
        raise InputError(f"an array of {path} has no name: save it under one.")


def _read_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, wanted: bool, what: str
) -> Read:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{what} is packed in an unusual way: save it by numpy.savez.")
    with archive.open(member) as file:
        if not member.compress_type:
            most = member.compress_size
        else:
            most = EXPANSION * Path(str(archive.filename)).stat().st_size
        return _read_npy(file, min(most, member.file_size), wanted, what)


def _read_npy(file: IO[bytes], size: int, wanted: bool, what: str) -> Read:
    """Header and, if wanted, values of an array in the format of numpy.

    Args:
        file: from its start.
        size: bytes that it can have.
        wanted: whether values are read.
        what: names it in sentences.
    """
    prefix = file.read(np.lib.format.MAGIC_LEN)
    if not prefix.startswith(np.lib.format.MAGIC_PREFIX):
        raise InputError(f"{what} is no array of numpy: it is damaged or of another kind.")
    version = np.lib.format.read_magic(io.BytesIO(prefix))
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise InputError(f"{what} is in version {version} of its format: save it as a plain array.")
    length = "<H" if version == (1, 0) else "<I"
    start = file.read(struct.calcsize(length))
    # The header is text of a few hundred characters, whatever it claims to be.
    (claimed,) = struct.unpack(length, start)
    if claimed > 10_000:
        raise InputError(f"{what} has a header of {claimed} bytes: save it as a plain array.")
    text = io.BytesIO(start + file.read(claimed))
    if version == (1, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(text)
    else:  # 3.0 differs from 2.0 in the names of fields alone, and arrays of numbers have none
        shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(text)
    header = _checked(ArrayHeader(shape, dtype, fortran_order), what)
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
    flat = np.frombuffer(values, header.dtype).astype(header.dtype.newbyteorder("="), copy=False)
    if header.fortran_order:
        return header, flat.reshape(header.shape[::-1]).T
    return header, flat.reshape(header.shape)


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


def _read_safetensors(path: Path, names: Sequence[str]) -> dict[str, Read]:
    from safetensors import safe_open

    found: dict[str, Read] = {}
    with safe_open(path, framework="np") as file:  # which holds the header against the file's size
        for name in file.keys():  # noqa: SIM118
            part, what = file.get_slice(name), f"{name!r} of {path}"
            kind = part.get_dtype()
            try:
                _hold_named(name, path)
                if kind not in SAFETENSORS:
                    raise InputError(f"{what} is of type {kind}: save it as F32.")
                header = ArrayHeader(tuple(part.get_shape()), np.dtype(SAFETENSORS[kind]))
                found[name] = (
                    _checked(header, what),
                    file.get_tensor(name) if name in names else None,
                )
            except InputError as error:
                if name in names:
                    raise
                found[name] = ArrayHeader((), np.dtype("V"), fault=str(error)), None
    return found


def channel_axis(shape: Sequence[int]) -> str:
    """Where a sample of that shape has its channels, if any: ``last`` unless that is unlikely.

    They are ``first`` of three axes where the first one has the length of grey, colour or colour
    with opacity, and the last one has not.

    Example:
        >>> [channel_axis(shape) for shape in ((3, 32, 32), (2, 40, 3), (16, 16, 30), (3, 4))]
        ['first', 'last', 'last', 'last']
    """
    usual = (1, 3, 4)
    turned = len(shape) == 3 and shape[0] in usual and shape[-1] not in usual
    return "first" if turned else "last"


def as_samples(values: np.ndarray, what: str, channels: str | None = None) -> np.ndarray:
    """Samples as they are, with channels last.

    Args:
        values: (n, *shape), numbers of any type.
        what: names them in sentences.
        channels: ``first`` or ``last`` axis of a sample of three or more; by default what
            :func:`channel_axis` takes it for.

    Raises:
        InputError: they are no numbers, a sample has no axis or no value, all are the same, some
            are not finite, or channels are named of samples that have no axis for them.
    """
    if values.dtype.kind not in "biufc":
        raise InputError(f"{what} holds values of type {values.dtype}: samples are numbers.")
    if values.ndim < 2 or values.size == 0:
        raise InputError(
            f"{what} has the shape {values.shape}: samples are stacked along the first axis, and "
            "each has one axis at least, as in (n, 64) or (n, 28, 28)."
        )
    if channels is not None and values.ndim < 4:
        raise InputError(
            f"{what} holds samples of shape {values.shape[1:]}: `channels` is for three axes or "
            "more, leave it out."
        )
    broken = ~np.isfinite(values)
    if broken.any():
        samples = int(broken.reshape(len(values), -1).any(axis=1).sum())
        raise InputError(
            f"{what} holds {int(broken.sum()):,} values that are not finite, in {samples:,} of "
            f"{len(values):,} samples: leave these out or fill the gaps."
        )
    if (values == values.flat[0]).all():
        raise InputError(
            f"{what} holds the value {values.flat[0]} alone: there is nothing to learn."
        )
    turned = (channels or channel_axis(values.shape[1:])) == "first"
    return np.moveaxis(values, 1, -1) if turned else values


def as_labels(labels: np.ndarray, count: int, what: str) -> np.ndarray:
    """Labels of ``count`` samples: whole numbers, truth values or texts, (n,).

    Args:
        labels: (n,) or (n, 1); of fractions those that are whole, of bytes their text.
        count: samples that they belong to.
        what: names them in sentences.

    Raises:
        InputError: there is not one label for each sample, or they are of another type.
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
        labels = labels.astype(np.float64)  # half precision does not reach the bound
        whole = np.isfinite(labels) & (labels == np.round(labels)) & (np.abs(labels) < 2**53)
        if not whole.all():
            first = labels[~whole][0]
            raise InputError(f"{what} holds {first}: labels are whole numbers or texts, {out}")
        return labels.astype(np.int64)
    if labels.dtype.kind == "S":
        return np.char.decode(labels, "utf-8", "backslashreplace")
    if labels.dtype.kind not in "biuU":
        raise InputError(f"{what} holds values of type {labels.dtype}: number the classes, {out}")
    return labels


def as_classes(parts: Sequence[np.ndarray], what: str) -> tuple[np.ndarray, list[Any]]:
    """Classes from 0 of all samples, and what each of them is called.

    Args:
        parts: what :func:`as_labels` gave, one after the other.
        what: names them in sentences.

    Raises:
        InputError: all are the same, there are too many different ones, or some are texts and
            others numbers.

    Example:
        >>> as_classes([np.array(["eel", "cat"]), np.array(["dog"])], "labels")
        (array([2, 0, 1]), ['cat', 'dog', 'eel'])
    """
    if len({part.dtype.kind == "U" for part in parts}) > 1:
        raise InputError(f"{what} are texts in one file and numbers in another: use one kind.")
    found = [np.unique(part, return_inverse=True) for part in parts]
    names = sorted({name for own, _ in found for name in own.tolist()})
    if not 2 <= len(names) <= CLASSES:
        number = "a single class" if len(names) == 1 else f"{len(names):,} classes"
        raise InputError(
            f"{what} holds {number}: labels are of 2 to {CLASSES} classes, or leave `labels` out "
            "of the entry."
        )
    index = {name: k for k, name in enumerate(names)}
    classes = [np.array([index[name] for name in own.tolist()])[each] for own, each in found]
    return np.concatenate(classes).astype(np.int64), names
