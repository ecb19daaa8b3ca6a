"""Finding the files of a data set, or downloading them."""

import hashlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from kahlervae.data.idx import size_limit
from kahlervae.errors import InputError
from kahlervae.places import paths_of

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["DataFile", "data_files", "find", "locate"]

log = logging.getLogger(__name__)

RETRIES = 2
"""How often a download is tried again at each address."""
TIMEOUT = 30
"""Seconds without an answer after which an address is given up."""


class DataFile(NamedTuple):
    """One file of a data set.

    Attributes:
        name: within the folder of the data set.
        sha256: of the file as it is, that is, packed where it is packed.
        shape: of the values in it.
    """

    name: str
    sha256: str
    shape: tuple[int, ...]

    @property
    def limit(self) -> int:
        """The most bytes that it can need."""
        return size_limit(self.shape)


def data_files(source: Mapping[str, Any]) -> Iterator[tuple[DataFile, DataFile]]:
    """Images and labels of every part of an entry of the table of data sets."""
    for part in source["files"].values():
        yield (
            DataFile(**part["images"], shape=(part["count"], *source["image_shape"])),
            DataFile(**part["labels"], shape=(part["count"],)),
        )


def locate(
    dataset: str, addresses: Sequence[str], files: Sequence[DataFile], places: Sequence[Path]
) -> dict[str, Path]:
    """Where the files are; what no place has is downloaded into the first of them.

    Args:
        dataset: names it in sentences.
        addresses: of folders on the network, by https.
        files: what is needed.
        places: folders to look in, in this order.

    Raises:
        InputError: a file has another checksum or is too large, or files are missing and cannot be
            downloaded; names the files, their checksums and where to put them.
    """
    found = {file.name: _find(file, places) for file in files}
    for file in files:
        if found[file.name] is None:
            try:
                found[file.name] = _download(
                    file.name, file.sha256, file.limit, addresses, places[0]
                )
            except OSError as error:
                raise InputError(_missing(dataset, files, found, places, str(error))) from error
    return {name: path for name, path in found.items() if path is not None}


def find(
    dataset: str,
    name: str,
    places: Sequence[Path],
    addresses: Sequence[str],
    sha256: str | None,
    limit: int,
) -> Path:
    """Where anybody's file or folder is: at its own path, in one of the places, or at an address.

    Args:
        dataset: names it in sentences.
        name: a path, also one below a place.
        places: folders to look in, in this order; the first one takes what is downloaded.
        addresses: of the file itself, by https.
        sha256: of the file; None where it is not held against one.
        limit: bytes that may be downloaded.

    Raises:
        InputError: it is nowhere, or has another checksum.
    """
    paths = paths_of(name, places, addresses)
    for path in paths:
        try:
            if path.exists():
                _hold_against(path, sha256)
                return path
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    reason = "there is no address to download it from"
    for address in addresses:
        start, _, last = address.rpartition("/")
        try:
            return _download(last, sha256, limit, [f"{start}/"], places[0])
        except OSError as error:
            reason = f"it cannot be downloaded: {error}"
    listed = " or ".join(dict.fromkeys(map(str, paths)))
    raise InputError(
        f"{dataset} lacks {name} ({reason}): put it at {listed}, or correct its name in the entry."
    )


def _missing(
    dataset: str,
    files: Sequence[DataFile],
    found: Mapping[str, Path | None],
    places: Sequence[Path],
    reason: str,
) -> str:
    missing = [file for file in files if found[file.name] is None]
    listed = ", ".join(f"{file.name} (SHA-256 {file.sha256})" for file in missing)
    return (
        f"{dataset} lacks {len(missing)} of its files and they cannot be downloaded ({reason}): "
        f"put {listed} into {' or '.join(map(str, places))}."
    )


def _find(file: DataFile, places: Sequence[Path]) -> Path | None:
    """The first of the places that has the file; the file is held against its checksum."""
    for path in (place / file.name for place in places):
        try:
            if not path.exists():
                continue
            if not path.is_file():
                raise InputError(f"{path} is not a file: put {file.name} there.")
            if path.stat().st_size > file.limit:
                raise InputError(
                    f"{path} has {path.stat().st_size} bytes, more than {file.name} can need: "
                    "it is another file, replace or remove it."
                )
            _hold_against(path, file.sha256)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}).") from error
        return path
    return None


def _hold_against(path: Path, sha256: str | None) -> None:
    """Refuse a file of another checksum."""
    if sha256 is None:
        return
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != sha256:
        raise InputError(
            f"{path} has the SHA-256 {digest}, not {sha256}: it is damaged or another "
            "file, replace or remove it."
        )


def _download(
    name: str, sha256: str | None, limit: int, addresses: Sequence[str], folder: Path
) -> Path:
    """Download a file into a folder from the first address that has it.

    Raises:
        OSError: no address has it; with the reasons.
    """
    import pooch
    import requests
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    reasons = []
    for address in addresses:
        source = pooch.create(
            path=folder,
            base_url=address,
            registry={name: sha256 and f"sha256:{sha256}"},
            retry_if_failed=RETRIES,
        )
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Progress(*columns, disable=not sys.stderr.isatty()) as bar:
            downloader = pooch.HTTPDownloader(
                progressbar=_Meter(bar, name, limit),
                chunk_size=2**14,
                timeout=TIMEOUT,
                hooks={"response": _stay_secure},
                # Lest the transfer is unpacked on the way and counts as another file.
                headers={"Accept-Encoding": "identity"},
            )
            try:
                return Path(source.fetch(name, downloader=downloader))
            except (OSError, ValueError) as error:
                log.info("%s%s: %s", address, name, error)
                offline = isinstance(error, requests.ConnectionError | requests.Timeout)
                reason = "no connection" if offline else str(error).partition("\n")[0][:200]
                reasons.append(f"{urlsplit(address).netloc}: {reason or repr(error)}")
    raise OSError("; ".join(reasons) or "no address is known")


def _stay_secure(response: Any, **_: Any) -> None:
    """Refuse to be led from https to anything else."""
    if response.is_redirect:
        target = urljoin(response.url, response.headers["location"])
        if not target.startswith("https://"):
            raise OSError(f"redirects to {target}, which is not https")


class _Meter:
    """The progress bar of one download, which ends it when more comes than may.

    It has the members that pooch asks of a progress bar.
    """

    def __init__(self, bar: "Progress", name: str, limit: int) -> None:
        self.bar = bar
        self.task: TaskID = bar.add_task(name, total=None)
        self.limit = limit
        self.received = 0

    @property
    def total(self) -> int:
        """Bytes that the server announces, 0 where it does not; set when an attempt starts."""
        return int(self.bar.tasks[self.task].total or 0)

    @total.setter
    def total(self, size: int) -> None:
        self.reset()
        self.bar.update(self.task, total=size or None)
        self._check(size)

    def update(self, count: int) -> None:
        """More bytes have come."""
        self.received += count
        self.bar.advance(self.task, count)
        self._check(self.received - 2**14)  # the last chunk counts as a full one

    def reset(self) -> None:
        """Start anew."""
        self.received = 0
        self.bar.reset(self.task)

    def close(self) -> None:
        """All has come."""

    def _check(self, size: int) -> None:
        if size > self.limit:
            raise OSError(f"sends more than the {self.limit} bytes that the file can have")
