"""Reading and writing of tensors, tables, records and figures.

Every write goes to a temporary name in the same folder and is renamed into place, so that a file
that exists is whole. Every failed read is one :class:`~kahlervae.errors.InputError`.
"""

import fcntl
import glob
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kahlervae.errors import InputError, out_of_memory

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy import ndarray
    from torch import Tensor

__all__ = [
    "atomic",
    "check_tensors",
    "checksum",
    "figure_suffix",
    "identified",
    "read_arrays",
    "read_json",
    "read_table",
    "read_tensors",
    "write_figure",
    "write_json",
    "write_npz",
    "write_table",
    "write_tensors",
]


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it to ``path`` when the block succeeds.

    A link stays one: what it leads to is written.

    Raises:
        InputError: the folder cannot be written to, the disk is full, or ``path`` is there and no
            regular file.
    """
    target = _target(Path(path))
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target, temporary)
        with temporary.open("ab") as file:
            with suppress(OSError):  # a file system without locks: leftovers stay
                fcntl.flock(file, fcntl.LOCK_EX)
            yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}): "
            "check the permissions and the free space of its folder."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _target(path: Path) -> Path:
    """Where the links of ``path`` lead: renaming would replace a link, a device or a pipe."""
    target = Path(os.path.realpath(path))  # of links in a circle the path itself
    if os.path.lexists(target) and not target.is_file():
        raise InputError(
            f"{path} cannot be written (there is a folder, a device or the like): give the name "
            "of a file."
        )
    return target


def _remove_leftovers(path: Path, own: Path) -> None:
    """Delete the temporary files of writers of ``path`` that were killed.

    A writer holds a lock, which ends with it; its number may by now be another process's, and one
    that nobody has waited for still has it.
    """
    for file in path.parent.glob(f".{glob.escape(path.stem)}.*{glob.escape(path.suffix)}"):
        process = file.name.removeprefix(f".{path.stem}.").removesuffix(path.suffix)
        if process.isdecimal() and file != own:
            with suppress(OSError), file.open("rb") as left:
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.unlink()


@contextmanager
def _reading(path: Path | str, kind: str) -> Iterator[Path]:
    path = Path(path)
    try:
        yield path
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: run the rule that makes it first.") from error
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path} is not a readable {kind} file ({reason}): delete it and run again."
        ) from error


def read_tensors(path: Path | str) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        InputError: the file is missing, truncated or not a safetensors file.
    """
    return _read_safetensors(path, "pt")


def read_arrays(path: Path | str) -> tuple[dict[str, "ndarray"], dict[str, str]]:
    """What :func:`read_tensors` reads, as numpy arrays and without loading torch.

    Raises:
        InputError: the file is missing, truncated or not a safetensors file.
    """
    return _read_safetensors(path, "np")


def _read_safetensors(path: Path | str, framework: str) -> tuple[dict[str, Any], dict[str, str]]:
    from safetensors import safe_open

    with _reading(path, "safetensors") as path, safe_open(path, framework=framework) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = json.loads((file.metadata() or {}).get("metadata", "{}"))
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise ValueError("its metadata is not a mapping of texts")
        return tensors, metadata


def check_tensors(
    path: Path | str, tensors: Mapping[str, "Tensor"], expected: Mapping[str, "Tensor"]
) -> None:
    """Refuse tensors of a file that are not those a loader can use.

    Args:
        path: named in the sentence.
        tensors: as read.
        expected: tensors with the names, shapes and types that there have to be; on the device
            ``meta`` they take no memory, whatever sizes a file claims.

    Raises:
        InputError: a tensor is missing, unknown, of another shape or type, or not finite.
    """
    again = "delete the file and run again."
    for name in sorted(tensors.keys() ^ expected.keys()):
        what = "lacks" if name in expected else "has the unknown"
        raise InputError(f"{path} {what} tensor {name!r}: {again}")
    for name, tensor in tensors.items():
        form, other = (f"{t.dtype} of {tuple(t.shape)}" for t in (tensor, expected[name]))
        if form != other:
            raise InputError(f"{path} holds {name!r} as {form}, not as {other}: {again}")
        if not tensor.isfinite().all():
            raise InputError(f"{path} holds values in {name!r} that are not finite: {again}")


def write_tensors(
    path: Path | str, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write tensors (complex64 included) and string metadata as a safetensors file."""
    from safetensors.torch import save

    # One entry, since the format keeps no order of several: equal content, equal bytes.
    content = {key: str(value) for key, value in (metadata or {}).items()}
    header = {"metadata": json.dumps(content, sort_keys=True)}
    whole = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    with atomic(path) as temporary:
        temporary.write_bytes(save(whole, header))


def write_npz(path: Path | str, arrays: "Mapping[str, ndarray]") -> None:
    """Write arrays as a numpy archive; equal content gives equal bytes."""
    import numpy as np

    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_table(
    path: Path | str, texts: Sequence[str] = (), numbers: Sequence[str] = ()
) -> "pd.DataFrame":
    """A CSV file as a data frame.

    Args:
        path: the file.
        texts: columns that there have to be, read as texts whatever they look like; none is blank.
        numbers: columns that there have to be and that hold numbers, or nothing.

    Raises:
        InputError: the file is missing, empty, cut off or not a table, its rows are longer than its
            header or two of its columns have one name, or it lacks a column or a text.
    """
    import pandas as pd

    with _reading(path, "CSV") as path:
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            raise ValueError("it is cut off")
        frame = pd.read_csv(io.BytesIO(content), dtype=dict.fromkeys(texts, "str"))
        # pandas takes what rows have more than the header for an index, and renames the second of
        # two columns of one name.
        if not isinstance(frame.index, pd.RangeIndex):
            raise ValueError("its rows have more fields than its header")
        names = pd.read_csv(io.BytesIO(content), header=None, nrows=1, dtype="str").iloc[0]
        if names.duplicated().any():
            raise ValueError(f"it has two columns {names[names.duplicated()].iloc[0]!r}")
    for column in [*texts, *numbers]:
        if column not in frame.columns:
            raise InputError(f"{path} has no column {column!r}: delete it and run again.")
        if column in texts and frame[column].isna().any():
            raise InputError(f"{path} has blanks in {column!r}: delete it and run again.")
        if column in numbers and len(frame) and not pd.api.types.is_numeric_dtype(frame[column]):
            raise InputError(f"{path} holds no numbers in {column!r}: delete it and run again.")
    return frame


def write_table(path: Path | str, frame: "pd.DataFrame") -> None:
    """Write a data frame as CSV; floats keep every digit that identifies them."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False)


def check_identity(
    path: Path | str, metadata: Mapping[str, str], identity: Mapping[str, Any], what: str
) -> None:
    """Refuse a file of another model than the one that it is used with.

    Args:
        path: the file.
        metadata: its own, which names the model.
        identity: of the model.
        what: the file holds.

    Raises:
        InputError: they differ.

    Example:
        >>> check_identity("samples", {"seed": "1"}, {"seed": 0}, "samples")
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: samples holds samples of the model 1, not of 0: pass those of \
this model.
    """
    wanted = [str(value) for value in identity.values()]
    found = [metadata.get(key, "") for key in identity]
    if found != wanted:
        raise InputError(
            f"{path} holds {what} of the model {'/'.join(found)}, not of {'/'.join(wanted)}: pass "
            "those of this model."
        )


def identified(frame: "pd.DataFrame", identity: Mapping[str, Any]) -> "pd.DataFrame":
    """The table with the identity of a model as its first columns."""
    columns = [column for column in frame.columns if column not in identity]
    return frame.assign(**identity)[[*identity, *columns]]


def read_json(path: Path | str) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: the file is missing or not JSON.
    """
    with _reading(path, "JSON") as path:
        return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path | str, content: Any) -> None:
    """Write indented JSON."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def checksum(path: Path | str) -> str:
    """SHA-256 of a file.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    with _reading(path, "result") as path, path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


FORMATS = (".pdf", ".png")
"""Suffixes of figures."""


def figure_suffix(path: Path | str) -> str:
    """The suffix of a figure's file, which says its format.

    Raises:
        InputError: it is neither of a PDF nor of a PNG.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{path} is no name of a figure: let it end in {' or '.join(FORMATS)}.")
    return suffix


def write_figure(path: Path | str, figure: "Figure") -> None:
    """Write a matplotlib figure in the format of the suffix, without a creation date.

    A PNG has 256 colours and a third of the bytes; colours of heat maps are off by less than one
    sees. A PDF has all.

    Raises:
        InputError: see :func:`figure_suffix`.
    """
    suffix = figure_suffix(path)
    with atomic(path) as temporary:  # which has the suffix of what a link leads to
        if suffix == ".pdf":
            figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})
        else:
            from PIL import Image

            figure.savefig(drawn := io.BytesIO(), format="png")
            image = Image.open(drawn)
            # Colours as far apart as can be, so that those of small marks have their place, then
            # the means of what is nearest to each, so that surfaces and grids have theirs.
            few = image.convert("RGB").quantize(
                method=Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE
            )
            few.save(temporary, "png", optimize=True, dpi=image.info["dpi"])
