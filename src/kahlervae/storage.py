"""Reading and writing of tensors, tables, records and figures.

Every write goes to a temporary name in the same folder and is renamed into place, so that a file
that exists is whole. Every failed read is one :class:`~kahlervae.errors.InputError`.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kahlervae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = [
    "atomic",
    "identified",
    "read_json",
    "read_table",
    "read_tensors",
    "write_figure",
    "write_json",
    "write_table",
    "write_tensors",
]


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it to ``path`` when the block succeeds.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}): "
            "check the permissions and the free space of its folder."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def _reading(path: Path | str, kind: str) -> Iterator[Path]:
    path = Path(path)
    try:
        yield path
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: run the rule that makes it first.") from error
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path} is not a readable {kind} file ({reason}): delete it and run again."
        ) from error


def read_tensors(path: Path | str) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        InputError: the file is missing, truncated or not a safetensors file.
    """
    from safetensors import safe_open

    with _reading(path, "safetensors") as path, safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, json.loads((file.metadata() or {}).get("metadata", "{}"))


def write_tensors(
    path: Path | str, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write tensors (complex64 included) and string metadata as a safetensors file."""
    from safetensors.torch import save_file

    # One entry, since the format keeps no order of several: equal content, equal bytes.
    content = {key: str(value) for key, value in (metadata or {}).items()}
    header = {"metadata": json.dumps(content, sort_keys=True)}
    with atomic(path) as temporary:
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, temporary, header)


def read_table(path: Path | str) -> "pd.DataFrame":
    """A CSV file as a data frame.

    Raises:
        InputError: the file is missing, empty or not a table.
    """
    import pandas as pd

    with _reading(path, "CSV") as path:
        return pd.read_csv(path)


def write_table(path: Path | str, frame: "pd.DataFrame") -> None:
    """Write a data frame as CSV; floats keep every digit that identifies them."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False)


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


def write_figure(path: Path | str, figure: "Figure") -> None:
    """Write a matplotlib figure in the format of the suffix, without a creation date."""
    undated: dict[str, Any] = {
        ".pdf": {"CreationDate": None},
        ".png": {"Software": None},
    }
    with atomic(path) as temporary:
        figure.savefig(temporary, metadata=undated.get(Path(path).suffix))
