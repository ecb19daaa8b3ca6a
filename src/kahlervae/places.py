"""Where the files of data sets lie.

Known to the data stage and to the workflow, which names files as inputs and loads no torch.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kahlervae.errors import InputError

__all__ = [
    "FOLDERS",
    "beside",
    "folders",
    "label_file",
    "local_files",
    "paths_of",
    "places_of",
    "wav_files",
]

FOLDERS = "KAHLERVAE_DATA"
"""Environment variable with the folders of data files, separated as in PATH."""


def folders() -> list[Path]:
    """The folders in which data sets are looked for, ``data`` unless the environment names some."""
    named = [Path(folder) for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if folder]
    return named or [Path("data")]


def places_of(dataset: str, source: Mapping[str, Any]) -> list[Path]:
    """Where the files of an entry are looked for, beside their own path."""
    return [folder / source.get("folder", dataset) for folder in folders()]


def paths_of(name: str, places: Sequence[Path], addresses: Sequence[str] = ()) -> list[Path]:
    """Where anybody's file or folder may be, in the order in which it is looked for.

    Args:
        name: a path, also one below a place.
        places: folders to look in.
        addresses: from which it is downloaded, under names of their own.
    """
    others = sorted({Path(address).name for address in addresses} - {name})
    below = [place / other for place in places for other in (name, *others)]
    # Of the text, since a path knows no ./~x, and fails where there is no such home.
    return [Path(os.path.expanduser(name)), *below]  # noqa: PTH111


def beside(name: str, places: Sequence[Path]) -> list[Path]:
    """The places, and before them the folders that a file may lie in."""
    return list(dict.fromkeys([*(path.parent for path in paths_of(name, places)), *places]))


def label_file(source: Mapping[str, Any]) -> str | None:
    """The file in which the labels of all samples of an entry lie by themselves."""
    labels = source.get("labels")
    return labels if isinstance(labels, str) and labels.endswith(".npy") else None


def wav_files(folder: Path) -> Iterator[Path]:
    """What is called WAV below a folder, also where folders are links, in order of the names.

    Raises:
        InputError: links lead to a folder above, or a second time to the same folder or file.
    """
    real = folder.resolve()
    yield from _wav_files(folder, real, {above: above for above in real.parents})


def _wav_files(folder: Path, real: Path, seen: dict[Path, Path]) -> Iterator[Path]:
    """The same, of a folder whose links are resolved; what is read already goes by its names."""
    _see(folder, real, seen)
    for entry in sorted(folder.iterdir()):
        # Without a question to the disk for each of many recordings.
        its_real = Path(os.path.realpath(entry)) if entry.is_symlink() else real / entry.name
        if entry.is_dir():
            yield from _wav_files(entry, its_real, seen)
        elif entry.suffix.lower() == ".wav" and not entry.name.startswith("."):
            _see(entry, its_real, seen)
            yield entry


def _see(path: Path, real: Path, seen: dict[Path, Path]) -> None:
    """Refuse a second visit, by which recordings would be multiplied."""
    if real in seen:
        raise InputError(
            f"{path} and {seen[real]} are the same: remove the link that one of them is."
        )
    seen[real] = path


def local_files(dataset: str, source: Mapping[str, Any]) -> list[str]:
    """The files that decide what a data set is: those that are there and have no checksum.

    They are inputs of the data stage. What is held against a checksum cannot become something else
    unnoticed, and what is downloaded comes after the inputs are named.

    Args:
        dataset: its name.
        source: its entry in the table of data sets, see
            :func:`kahlervae.config.registry.data_sources`.

    Raises:
        InputError: a path holds braces, or a folder cannot be read.
    """
    if source["kind"] not in ("arrays", "wav"):
        return []
    sha256, places = source.get("sha256", {}), places_of(dataset, source)
    unchecked = [name for name in source["files"] if source["kind"] == "arrays" or not sha256]
    candidates = {name: paths_of(name, places) for name in unchecked if name not in sha256}
    labels = label_file(source)
    if labels is not None and labels not in sha256:
        candidates[labels] = paths_of(labels, beside(source["files"][0], places))
    found: list[str] = []
    for name, paths in candidates.items():
        try:
            path = next((path for path in paths if path.exists()), None)
            if path is not None:
                found += map(str, wav_files(path) if path.is_dir() else [path])
        except OSError as error:
            raise InputError(f"{dataset}: {name} cannot be read ({error.strerror}).") from error
    if braces := [path for path in found if "{" in path or "}" in path]:
        raise InputError(
            f"{dataset}: {braces[0]} holds braces, which Snakemake takes for a wildcard: rename it."
        )
    return found
