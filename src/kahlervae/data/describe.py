"""What files hold, and the configuration with which they can be run."""

import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from kahlervae.config.registry import data_sources
from kahlervae.data.arrays import (
    CLASSES,
    SUFFIXES,
    ArrayHeader,
    as_classes,
    as_labels,
    as_samples,
    channel_axis,
    read_arrays,
    read_headers,
)
from kahlervae.data.datasets import Loaded, load
from kahlervae.data.doubts import copies, doubts, uneven
from kahlervae.data.idx import is_idx
from kahlervae.data.keys import label_keys, named_part, sample_keys
from kahlervae.data.recordings import decode_wav, read_recordings
from kahlervae.data.suggest import Facts, anchors, rare, settings
from kahlervae.errors import InputError, one_line
from kahlervae.places import local_files

__all__ = ["describe"]

FEWEST = 120
"""Samples below which no split is large enough for the scores."""
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz")
"""Of files that may hold recordings."""
RAREST = 10
"""Samples below which a class is too small to be learnt and judged."""
LABEL_PATTERNS = {
    "folder": r"([^/]+)/[^/]*$",
    "first part": r"(?:^|/)([^/_\-.]+)[_\-][^/]*$",
}
"""Where names of recordings may have their labels; folders above that of the file do not count."""


def describe(
    files: Sequence[Path],
    name: str | None = None,
    samples: str | None = None,
    labels: str | None = None,
) -> str:
    """A configuration that runs a data set as it stands, with what its files hold as comments.

    Args:
        files: arrays of one data set, or one folder or archive of recordings.
        name: of the data set; by default that of the first file.
        samples: the array that holds them; by default one of a known name, or the largest, and what
            is called as it but for the part of a split.
        labels: the array that holds them, or an .npy file of their own; by default one of a known
            name.

    Raises:
        InputError: a file cannot be read, or holds no samples, or too few of them; or its name
            holds braces.
    """
    dataset = _name(name or files[0].stem)
    if len({file.resolve() for file in files}) < len(files):
        raise InputError("one of the files is named twice: name each of them once.")
    if files[0].suffix.lower() not in SUFFIXES:
        _refuse_other_kinds(files[0])
        if samples is not None or labels is not None:
            raise InputError(f"{files[0]} holds no arrays: leave samples and labels out.")
        comments, source, facts = _of_recordings(dataset, files)
    else:
        comments, source, facts = _of_arrays(dataset, files, samples, labels)
    if facts.count < FEWEST:
        shape = f" of shape {tuple(source['shape'])}" if "shape" in source else ""
        raise InputError(
            f"{files[0]} holds {facts.count} samples{shape}: at least {FEWEST} are "
            "needed to train on some and be judged by others."
        )
    block = settings(facts)
    comments += rare(facts, block["split"])
    config = {
        "results": f"results/{dataset}",
        "figures": f"results/{dataset}/figures",
        "seeds": [0, 1, 2],
        "registry": {dataset: source},
        "datasets": {"digits": None, "states": None, dataset: block},
        "geometry": {"potential": {"probes": 8192, "anchors": anchors(facts)}},
        "claims": {"minimum_seeds": 3},
    }
    options = {"--name": name, "--samples": samples, "--labels": labels}
    given = [part for key, value in options.items() if value is not None for part in (key, value)]
    head = [
        *comments,
        "",
        "Written to a file, this runs as it stands:",
        f"  kahlervae describe {shlex.join([*map(_literal, files), *given])} > {dataset}.yaml",
        f"  snakemake --cores all --configfile {dataset}.yaml",
        f"  snakemake --configfile {dataset}.yaml --report results/{dataset}/report.html",
        "config.yaml explains every key; what is not here is as it stands there, such as further",
        "variants: mixture, which tells what the learned prior of kahler does by itself.",
    ]
    text = yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return "".join(f"# {one_line(line)}".rstrip() + "\n" for line in head) + text


class _Dumper(yaml.SafeDumper):
    """Lists, and mappings that hold nothing but values, in one line."""


def _mapping(dumper: yaml.SafeDumper, value: dict[str, Any]) -> yaml.Node:
    plain = not any(isinstance(v, dict) for v in value.values()) and len(value) < 7
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=plain)


_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(
    list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, True)
)
# With a point, since YAML reads 1e-3 as a text.
_Dumper.add_representer(
    float,
    lambda dumper, value: dumper.represent_scalar(
        "tag:yaml.org,2002:float", re.sub(r"^(\d+)e", r"\1.0e", repr(value))
    ),
)


Headers = dict[Path, dict[str, ArrayHeader]]
"""Of the arrays of every file, by their names."""


def _name(text: str) -> str:
    """Letters, digits and underscores, and no name that has settings of its own already."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()[:40] or "mine"
    return f"my_{name}" if name in data_sources({}) else name


def _refuse_other_kinds(file: Path) -> None:
    """Refuse what is neither a file of arrays nor may hold recordings."""
    if is_idx(file):
        raise InputError(
            f"{file} is an IDX file: name those of images and labels in an entry of kind: idx, as "
            "docs/data.md shows."
        )
    if file.is_file() and file.suffix.lower() not in (*ARCHIVES, ".wav"):
        raise InputError(
            f"{file} is neither a file of arrays ({', '.join(SUFFIXES)}) nor a folder or archive "
            "of WAV files: save what it holds by numpy.savez('FILE.npz', x=..., y=...)."
        )


def _of_arrays(
    dataset: str, files: Sequence[Path], samples: str | None, labels: str | None
) -> tuple[list[str], dict[str, Any], Facts]:
    headers = {file: read_headers(file) for file in files}
    comments = list(_held(headers))
    _refuse_labels_among(headers)
    keys = [samples] if samples is not None else sample_keys(headers[files[0]], files[0])
    found, seen = _seen(files, keys)
    comments += seen
    source: dict[str, Any] = {"kind": "arrays", "files": [_literal(file) for file in files]}
    if keys != [""]:
        source["samples"] = keys if len(keys) > 1 else keys[0]
    named, sizes, told = _labels(headers, keys, found.counts, labels)
    comments += told
    if named is not None:
        source["labels"] = named
    if found.channels is not None:
        source["channels"] = found.channels
    shape, count = found.shape, sum(found.counts)
    source |= {"scale": found.scale, "shape": list(shape), "count": count}
    values = _loaded(dataset, source).samples.numpy()
    comments += [*doubts(values), *copies(values)]
    facts = Facts(
        count=count,
        size=math.prod(shape),
        spread=float(values.std()),
        classes=sizes,
        representation="native" if found.is_complex else "pixels",
    )
    return comments, source, facts


def _loaded(dataset: str, source: dict[str, Any]) -> Loaded:
    """What the data stage makes of an entry: what it refuses is not offered."""
    local_files(dataset, source)  # refuses names that Snakemake takes for something else
    return load(dataset, data_sources({"registry": {dataset: source}})[dataset])


def _literal(file: Path | str) -> str:
    """A name that is neither taken for a home nor for an option."""
    return f"./{file}" if str(file).startswith(("~", "-")) else str(file)


def _held(headers: Headers) -> Iterator[str]:
    for file, held in headers.items():
        yield f"{file} holds"
        for key, header in held.items():
            yield f"  {key or 'one array'}: {header.fault or f'{header.dtype} {header.shape}'}"


def _refuse_labels_among(headers: Headers) -> None:
    """Refuse labels that are named as if they were further samples."""
    first, *others = headers
    sizes = {
        file: [header.shape[0] for header in held.values() if len(header.shape) > 1]
        for file, held in headers.items()
    }
    counts = {*sizes[first], sum(map(sum, sizes.values()))}
    for file in others:
        shapes = [header.shape for header in headers[file].values()]
        if len(shapes) == 1 and len(shapes[0]) == 1 and shapes[0][0] in counts:
            raise InputError(
                f"{file} holds one value for each sample: if these are the labels, name "
                f"it by --labels {shlex.quote(_literal(file))}."
            )


class _Found(NamedTuple):
    """What samples are.

    Attributes:
        counts: of every array of them.
        shape: of a sample, channels last.
        is_complex: whether one of the arrays is.
        channels: which axis of a sample they are in the files; None if there is none for them.
        scale: that suits them.
    """

    counts: list[int]
    shape: tuple[int, ...]
    is_complex: bool
    channels: str | None
    scale: str


def _seen(files: Sequence[Path], keys: Sequence[str]) -> tuple[_Found, list[str]]:
    """What samples are, and what is to be said of them."""
    held = list(_read(files, keys))
    parts = {what: as_samples(array, what) for what, array in held}
    originals = [array.shape[1:] for _, array in held]
    shapes = {part.shape[1:] for part in parts.values()}
    if len(shapes) > 1:
        raise InputError(f"{files[0]} and what belongs to it hold samples of several shapes.")
    if len(set(map(channel_axis, originals))) > 1:
        listed = " and ".join(map(str, dict.fromkeys(originals)))
        raise InputError(
            f"{files[0]} and what belongs to it hold samples of the shapes {listed}, with channels "
            "in different places: save all of them alike."
        )
    (shape,) = shapes
    is_complex = any(map(np.iscomplexobj, parts.values()))
    extents = {what: np.abs(part) if is_complex else part for what, part in parts.items()}
    bounds = {what: (float(part.min()), float(part.max())) for what, part in extents.items()}
    least, most = min(low for low, _ in bounds.values()), max(high for _, high in bounds.values())
    # One scale for pictures, another for what has no bounds.
    bounded = least >= 0 or (least >= -1 and most <= 1 < most - least)
    scale = "unit" if not is_complex and len(shape) > 1 and bounded else "standard"
    counts = [len(part) for part in parts.values()]
    shown = ", ".join(map(repr, filter(None, keys)))
    comments = [
        f"samples{f' {shown}' if shown else ''}: {sum(counts):,}, "
        f"{'complex' if is_complex else 'real'}, of shape {shape}; "
        f"{'modulus' if is_complex else 'values'} from {least:.4g} to {most:.4g}"
    ]
    channels = None
    if len(shape) > 2:
        channels = channel_axis(originals[0])
        comments.append(f"channels of {originals[0]}: taken to be {channels}")
    comments += uneven(bounds)
    return _Found(counts, shape, is_complex, channels, scale), comments


def _labels(
    headers: Headers, samples: Sequence[str], counts: Sequence[int], wanted: str | None
) -> tuple[str | list[str] | None, dict[Any, int], list[str]]:
    """What an entry says of labels, if any, the sizes of their classes, and what is to be said.

    Args:
        headers: of all files.
        samples: keys of the samples.
        counts: samples of every array of them.
        wanted: the key of the labels, or an .npy file; by default a known name.
    """
    files, first = list(headers), next(iter(headers.values()))
    others = [key for key in first if key not in samples and not first[key].fault]
    # What the file holds comes before a file of that name.
    apart = wanted is not None and wanted.endswith(".npy") and wanted not in first
    tried, comments = set(), []
    named: str | list[str] | None = None
    sizes: dict[Any, int] = {}
    for keys in label_keys(others, samples) if wanted is None else [[wanted]]:
        shown = keys[0] if apart else ", ".join(map(repr, keys))
        tried.update(keys)
        try:
            held = _read([Path(keys[0])], [""]) if apart else _read(files, keys)
            sizes = _class_sizes(list(held), shown, [sum(counts)] if apart else counts)
        except InputError as error:
            if wanted is not None:
                raise
            comments.append(f"{shown} are not the labels: {error}")
            continue
        # A text that ends like a file names one, a list never does.
        alone = len(keys) == 1 and not keys[0].endswith(".npy")
        named = _literal(keys[0]) if apart else keys[0] if alone else keys
        comments.append(f"labels {shown}: {_classes_shown(sizes)}")
        break
    else:
        comments.append("without labels: what needs an oracle is left out")
    for key in others:
        if key not in tried:
            fits = len(samples) == 1 and first[key].shape in ((counts[0],), (counts[0], 1))
            parts = {named_part(name)[1] for name in (key, *samples)} - {None}
            how = f"; if these are the labels: --labels {shlex.quote(key)}"
            comments.append(f"not used: {key}{how if fits and len(parts) < 2 else ''}")
    return named, sizes, comments


def _classes_shown(sizes: dict[Any, int]) -> str:
    classes = ", ".join(map(str, list(sizes)[:10])) + (", …" if len(sizes) > 10 else "")
    return f"{len(sizes)} classes ({classes}), the rarest {min(sizes.values())} times"


def _read(files: Sequence[Path], keys: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays of all files with what sentences call them, those of a file in the order of keys."""
    for file in files:
        found = read_arrays(file, keys)
        yield from ((f"{key!r} of {file}" if key else str(file), found[key]) for key in keys)


def _class_sizes(
    held: Sequence[tuple[str, np.ndarray]], what: str, counts: Sequence[int]
) -> dict[Any, int]:
    """How many samples each class has, by its name.

    Args:
        held: arrays of labels, with what sentences call them.
        what: what sentences call all of them.
        counts: samples that each of them belongs to.

    Raises:
        InputError: the arrays are no labels, are not as many as those of samples, or one class has
            too few samples.
    """
    parts = []
    if len(held) != len(counts):
        raise InputError(
            f"each of {len(counts)} arrays of samples needs one of labels, and there is {what} "
            "alone."
        )
    for (own, found), count in zip(held, counts, strict=True):
        if _is_one_hot(found):
            raise InputError(f"{own} holds one column for each class: save its argmax(axis=1).")
        parts.append(as_labels(found, count, own))
    classes, names = as_classes(parts, what)
    sizes = Counter(classes.tolist())
    rarest = min(sizes, key=sizes.__getitem__)
    if sizes[rarest] < RAREST:
        raise InputError(
            f"{what} has {len(names)} classes, and {names[rarest]!r} is that of {sizes[rarest]} "
            f"samples alone: each should have {RAREST} at least."
        )
    return {name: sizes[k] for k, name in enumerate(names)}


def _is_one_hot(values: np.ndarray) -> bool:
    if values.dtype.kind not in "biuf" or values.ndim != 2 or values.shape[1] < 2:
        return False
    return bool(np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all())


def _of_recordings(dataset: str, files: Sequence[Path]) -> tuple[list[str], dict[str, Any], Facts]:
    if len(files) > 1:
        raise InputError("describe takes one folder or archive of recordings at a time.")
    recordings = read_recordings(files[0])
    sizes, rates, heard = [], [], False
    for name, content in recordings.items():
        rate, values = decode_wav(content, name)
        rates.append(rate)
        sizes.append(len(values) / rate)
        heard = heard or bool(values.any())
    if not heard:
        raise InputError(f"the recordings of {files[0]} are silent: there is nothing to learn.")
    rate = min(max(set(rates), key=rates.count), 16000)
    # Three quarters of the recordings are kept whole; a power of two, within bounds.
    wanted = float(np.percentile(sizes, 75)) * rate
    length = int(min(2 ** round(np.log2(max(wanted, 512))), 8192))
    names = list(recordings)
    label, why_not = _label(names)
    comments = [
        f"{files[0]} holds {len(names):,} recordings of {min(sizes):.2f} to {max(sizes):.2f} s at "
        f"{', '.join(f'{r:,} Hz' for r in sorted(set(rates)))}",
        f"kept of each: {length / rate:.2f} s from its start, "
        f"{sum(s * rate <= length for s in sizes):,} whole ones",
    ]
    source: dict[str, Any] = {"kind": "wav", "files": [_literal(files[0])], "rate": int(rate)}
    source["length"] = length
    classes: dict[str, int] = {}
    if label is not None:
        source["label"], classes = label
        comments.append(f"labels by their names: {_classes_shown(classes)}, as in {names[0]}")
    else:
        comments += why_not
        comments.append("without labels: what needs an oracle is left out")
    source["count"] = len(names)
    comments += copies(_loaded(dataset, source).samples.numpy())
    facts = Facts(count=len(names), size=2 * length, classes=classes, representation="stft")
    return comments, source, facts


def _label(names: Sequence[str]) -> tuple[tuple[str, dict[str, int]] | None, list[str]]:
    """The pattern by which names have a label, folder or first part, and the sizes of classes; or
    else why they have none."""
    why_not = []
    for what, pattern in LABEL_PATTERNS.items():
        found = [match[1] for name in names if (match := re.search(pattern, name))]
        sizes = dict(Counter(found))
        fault = _no_classes(sizes, len(names))
        if fault is None:
            return (pattern, sizes), []
        why_not.append(f"no labels by the {what} of their names: {fault}")
    return None, why_not


def _no_classes(sizes: dict[str, int], count: int) -> str | None:
    """Why what names hold are not the classes of so many recordings, if they are not."""
    if sum(sizes.values()) < count:
        return f"{count - sum(sizes.values()):,} of {count:,} have none"
    if all(not named_part(name)[0] for name in sizes):
        return f"these are parts of a split, {', '.join(sizes)}"
    if len(sizes) < 2:
        return f"all have the same, {min(sizes)!r}"
    rarest = min(sizes, key=sizes.__getitem__)
    if len(sizes) > CLASSES or sizes[rarest] < RAREST:
        return (
            f"there are {len(sizes)} of these, and {rarest!r} is that of {sizes[rarest]} "
            "recordings alone"
        )
    return None
