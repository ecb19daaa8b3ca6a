"""The table of data sets: what there is, and what the configuration adds."""

import difflib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kahlervae.config.sentences import Validator, joined, load_yaml, plain, quoted, schema_faults
from kahlervae.errors import InputError
from kahlervae.places import label_file

__all__ = [
    "COMPLEX_DATA",
    "GREY",
    "IMAGES",
    "REPRESENTED",
    "TABLE",
    "data_sources",
    "is_labelled",
    "resolved",
    "unknown_datasets",
]

TABLE = Path(__file__).parents[1] / "data/datasets.yaml"
"""The data sets that come with the package, and beside it the schema of such tables."""


COMPLEX_DATA = {"kspace", "native", "stft"}
"""Representations in which samples are complex vectors."""


IMAGES, GREY = {"bundled", "idx"}, {"bernoulli", "continuous_bernoulli"}
"""Kinds of data sets whose values lie in [0, 1], and the likelihoods that are of such values."""


REPRESENTED = {
    "bundled": ("pixels", "kspace"),
    "idx": ("pixels", "kspace"),
    "arrays": ("pixels", "kspace", "native"),
    "wav": ("pixels", "stft"),
    "states": ("pixels",),
}
"""Representations that data sets of a kind can have."""


LONGEST = 100_000
"""Characters of an entry as a command gets it. Linux takes 131,072 bytes of one argument, which
here is the whole command."""


def data_sources(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The table of data sets: those of the package and those of the key ``registry``.

    Args:
        config: of which ``registry`` is read; an entry of a known name replaces the package's.

    Returns:
        For every name what src/kahlervae/data/datasets.schema.yaml describes.

    Raises:
        InputError: an entry is not one.
    """
    validator = Validator(load_yaml(TABLE.with_suffix(".schema.yaml")))
    added = resolved(plain(config.get("registry", {})))
    faults = schema_faults(validator, added, "registry")
    if faults := faults or [
        *_wrong_patterns(added),
        *_wrong_parts(added),
        *_wrong_checksums(added),
        *_long_entries(added),
    ]:
        raise InputError("\n".join(f"config: {fault}" for fault in faults))
    return load_yaml(TABLE) | added


def unknown_datasets(config: Mapping[str, Any]) -> Iterator[str]:
    """Data sets of a configuration that the table lacks, whatever else is wrong with either."""
    datasets, registry = (config.get(key) for key in ("datasets", "registry"))
    known = [*load_yaml(TABLE), *(registry if isinstance(registry, Mapping) else ())]
    for name in datasets if isinstance(datasets, Mapping) else ():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            yield (
                f"{joined('datasets', name)} is not a known data set{hint}; known are "
                f"{', '.join(known)}, and those that `registry` adds."
            )


def resolved(registry: Mapping[str, Any]) -> dict[str, Any]:
    """The entries; one that is ``like`` one of the package's is that one, from its files.

    Raises:
        InputError: there is no such entry, or there is more beside it.
    """
    known, resolved = load_yaml(TABLE), dict(registry)
    for name, entry in registry.items():
        if not isinstance(entry, Mapping) or "like" not in entry:
            continue
        like = entry["like"]
        if list(entry) != ["like"] or not isinstance(like, str) or like not in known:
            raise InputError(
                f"config: registry.{name} must be `like: NAME` and no more, with one of "
                f"{', '.join(known)}, or an entry of its own, not {quoted(entry)}."
            )
        folder = {"folder": like} if "files" in known[like] else {}
        resolved[name] = folder | known[like]
    return resolved


def _wrong_patterns(registry: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Regular expressions that are none, or have no group where one is asked for."""
    for name, source in registry.items():
        for key in ("label", "test"):
            if key not in source:
                continue
            path = f"registry.{name}.{key}"
            try:
                groups = re.compile(source[key]).groups
            except re.error as error:
                shown = quoted(source[key])
                yield f"{path} must be a regular expression of Python, not {shown}: {error}."
            else:
                if key == "label" and groups < 1:
                    yield (
                        f"{path} must have a group, as in '^(\\d)_', which is the label, not "
                        f"{quoted(source[key])}."
                    )


def _wrong_parts(registry: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Parts of arrays whose labels are not as many."""
    for name, source in registry.items():
        if source["kind"] != "arrays" or "labels" not in source or label_file(source):
            continue
        samples, labels = (source.get(key) for key in ("samples", "labels"))
        parts = [len(keys) if isinstance(keys, list) else 1 for keys in (samples, labels)]
        # A file of one array has no keys.
        unnamed = all(file.endswith(".npy") for file in source["files"])
        named_as_files = isinstance(labels, list) and all(key.endswith(".npy") for key in labels)
        if named_as_files and (unnamed or parts[0] != parts[1]):
            yield (
                f"registry.{name}.labels must be one file with the labels of all samples together, "
                f"as in `labels: y.npy`, or keys of arrays, not {quoted(labels)}."
            )
        elif parts[0] != parts[1]:
            yield (
                f"registry.{name}.labels must name as many keys as samples does ({parts[0]}), not "
                f"{quoted(labels)}."
            )


def _wrong_checksums(registry: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Checksums of arrays that are of no file, and files to be downloaded without any."""
    for name, source in registry.items():
        if source["kind"] != "arrays":
            continue
        at, sha256 = f"registry.{name}", source.get("sha256", {})
        for other in sorted(sha256.keys() - {*source["files"], label_file(source)}):
            yield f"{at}.sha256 names {quoted(other)}, which is not among its files: correct it."
        for file in source["files"] if "addresses" in source else ():
            if file not in sha256:
                yield f"{at}.sha256 lacks {quoted(file)}: what is downloaded needs a checksum."


def _long_entries(registry: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Entries that no command takes, since the data stage gets its entry as one argument."""
    for name, source in registry.items():
        length = len(shlex.quote(json.dumps(source, separators=(",", ":"))))
        if length > LONGEST:
            yield (
                f"registry.{name} has {length:,} characters, and a command takes {LONGEST:,}: join "
                "its files or arrays into fewer, larger ones."
            )


def is_labelled(source: Mapping[str, Any]) -> bool:
    """Whether an entry of the table of data sets has labels.

    Example:
        >>> is_labelled({"kind": "arrays", "files": ["signals.npz"]})
        False
    """
    needed = {"arrays": "labels", "wav": "label", "states": "labels"}  # states have none
    return needed.get(source["kind"], "kind") in source
