"""What files hold, and the configuration with which they can be run."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
from kahlervae.data.recordings import decode_wav, read_recordings
from kahlervae.data.scale import Scale
from kahlervae.errors import InputError, one_line
from kahlervae.places import local_files

__all__ = ["describe"]

SAMPLES = ("samples", "x", "data", "images", "image", "signals")
"""Names by which samples are known, by themselves or with the part of a split."""
LABELS = ("labels", "label", "y", "targets", "target", "classes")
"""Names by which labels are known, by themselves or with the part of a split."""
PART = re.compile(r"train(ing)?|val(id(ation)?)?|test", re.IGNORECASE)
"""How names tell the part of a split, as in x_train or test_images."""
FEWEST = 120
"""Samples below which no split is large enough for the scores."""
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz")
"""Of files that may hold recordings."""
RAREST = 10
"""Samples below which a class is too small to be learnt and judged."""
STFT = {"window": 256, "hop": 128, "lowest": 1, "highest": 128}


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
    suffix = files[0].suffix.lower()
    if suffix not in SUFFIXES:
        if files[0].is_file() and suffix not in (*ARCHIVES, ".wav"):
            raise InputError(
                f"{files[0]} is neither a file of arrays ({', '.join(SUFFIXES)}) nor a folder or "
                "archive of WAV files: save what it holds by numpy.savez('FILE.npz', x=..., y=...)."
            )
        if samples is not None or labels is not None:
            raise InputError(f"{files[0]} holds no arrays: leave samples and labels out.")
        comments, source, facts = _of_recordings(files)
    else:
        comments, source, facts = _of_arrays(files, samples, labels)
    local_files(dataset, source)  # refuses names that Snakemake takes for something else
    if facts["count"] < FEWEST:
        raise InputError(
            f"{files[0]} holds {facts['count']} samples{facts['each']}: at least {FEWEST} are "
            "needed to train on some and be judged by others."
        )
    config = {
        "results": f"results/{dataset}",
        "figures": f"results/{dataset}/figures",
        "seeds": [0, 1, 2],
        "registry": {dataset: source},
        "datasets": {"digits": None, "states": None, dataset: _settings(facts)},
        "geometry": {"potential": {"probes": 8192, "anchors": _anchors(facts)}},
        "claims": {"minimum_seeds": 3},
    }
    options = {"--name": name, "--samples": samples, "--labels": labels}
    given = [part for key, value in options.items() if value is not None for part in (key, value)]
    head = [
        *comments,
        "",
        "Written to a file, this runs as it stands:",
        f"  kahlervae describe {shlex.join([*map(str, files), *given])} > {dataset}.yaml",
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
        "tag:yaml.org,2002:float", re.sub(r"^(\d+)(e|$)", r"\1.0\2", f"{value:g}")
    ),
)


def _name(text: str) -> str:
    """Letters, digits and underscores, and no name that has settings of its own already."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()[:40] or "mine"
    return f"my_{name}" if name in data_sources({}) else name


def _of_arrays(
    files: Sequence[Path], samples: str | None, labels: str | None
) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    comments, headers = [], {file: read_headers(file) for file in files}
    for file, held in headers.items():
        comments.append(f"{file} holds")
        for key, header in held.items():
            what = f"{header.dtype} {header.shape}"
            comments.append(f"  {key or 'one array'}: {header.fault or what}")
    keys = _samples_keys(headers[files[0]], files[0], samples)
    shown = ", ".join(map(repr, filter(None, keys)))
    parts = [as_samples(array, what) for what, array in _read(files, keys)]
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise InputError(f"{files[0]} and what belongs to it hold samples of several shapes.")
    (shape,) = shapes
    count, is_complex = sum(map(len, parts)), any(map(np.iscomplexobj, parts))
    extent = [np.abs(part) if is_complex else part for part in parts]
    least, most = min(part.min() for part in extent), max(part.max() for part in extent)
    # One scale for pictures, another for what has no bounds.
    bounded = least >= 0 or (least >= -1 and most <= 1 < most - least)
    scale = "unit" if not is_complex and len(shape) > 1 and bounded else "standard"
    values = Scale.of(parts, scale, shown).apply(parts, shown)
    comments.append(
        f"samples{f' {shown}' if shown else ''}: {count:,}, {'complex' if is_complex else 'real'}, "
        f"of shape {shape}; {'modulus' if is_complex else 'values'} from {least:.4g} to {most:.4g}"
    )
    comments += _doubts(values)
    source: dict[str, Any] = {"kind": "arrays", "files": [str(file) for file in files]}
    source |= {"samples": keys if len(keys) > 1 else keys[0]} if shown else {}
    sizes: dict[Any, int] = {}
    apart = labels is not None and labels.endswith(".npy")
    for candidates in _label_keys(headers, keys, labels, comments):
        named = candidates[0] if apart else ", ".join(map(repr, candidates))
        try:
            found = _read([Path(named)], [""]) if apart else _read(files, candidates)
            counts = [count] if apart else [len(part) for part in parts]
            sizes = _class_sizes(list(found), named, counts)
        except InputError as error:
            if labels is not None:
                raise
            comments.append(f"{named} are not the labels: {error}")
            continue
        source["labels"] = candidates if len(candidates) > 1 else candidates[0]
        classes = ", ".join(map(str, list(sizes)[:10])) + (", …" if len(sizes) > 10 else "")
        rarest = min(sizes.values())
        comments.append(
            f"labels {named}: {len(sizes)} classes ({classes}), the rarest {rarest} times"
        )
        break
    else:
        comments.append("without labels: what needs an oracle is left out")
    if len(shape) > 2:
        original = headers[files[0]][keys[0]].shape[1:]
        source["channels"] = channel_axis(original)
        comments.append(f"channels of {original}: taken to be {source['channels']}")
    source |= {"scale": scale, "shape": list(shape), "count": count}
    if len(shape) == 1 and len(values) > 1:
        spread = values.std(axis=0)
        if spread.max() > 10 * np.median(spread):
            comments.append(
                f"one scale for all columns: column {int(spread.argmax())} spreads "
                f"{spread.max() / max(float(np.median(spread)), 1e-30):.3g} times as far as the "
                "median one, and is most of what a model learns; rescale it if that is not meant"
            )
    facts = {
        "count": count,
        "each": f" of shape {shape}",
        "size": int(np.prod(shape)),
        "spread": float(values.std()),
        "classes": sizes,
        "representation": "native" if is_complex else "pixels",
    }
    return comments, source, facts


def _doubts(values: np.ndarray) -> Iterator[str]:
    """What samples look like that is seldom meant.

    Args:
        values: (n, *shape), scaled.
    """
    if values.dtype.kind == "c":
        if not values.imag.any():
            yield "all imaginary parts are 0: if that is not meant, save the real ones alone"
    elif values.ndim > 2 and 2 in (values.shape[1], values.shape[-1]):
        real, imaginary = (
            ("x[..., 0]", "x[..., 1]") if values.shape[-1] == 2 else ("x[:, 0]", "x[:, 1]")
        )
        yield (
            f"one axis has the length 2: if these are real and imaginary parts, save {real} + "
            f"1j * {imaginary}"
        )
    distances = np.abs(values - values.mean()).ravel()
    usual = float(np.quantile(distances[:: max(1, distances.size // 10**6)], 0.99))
    furthest = float(distances.max())
    if furthest > 10 * usual > 0:
        yield (
            f"outliers: the furthest value lies {furthest / usual:.3g} times as far from the mean "
            "as 99 % of them, and all share one scale; clip it if that is not meant"
        )


def _samples_keys(headers: dict[str, ArrayHeader], file: Path, wanted: str | None) -> list[str]:
    """The names of the samples: the one that is wanted; a known one, or that of the largest, and
    what is called as it but for the part of a split."""
    numbers = {
        key: header
        for key, header in headers.items()
        if header.dtype.kind in "biufc" and len(header.shape) > 1 and header.shape[0] > 0
    }
    if wanted is not None:
        return [wanted]
    if not numbers:
        for header in headers.values():
            if header.fault:
                raise InputError(header.fault)
        held = ", ".join(f"{key} {header.shape}" for key, header in headers.items()) or "nothing"
        raise InputError(
            f"{file} holds no samples ({held}): these are numbers, stacked along the first axis: "
            "(n, 64) or (n, 28, 28)."
        )
    known = [key for key in numbers if _whole(key) in SAMPLES]
    # Of the same values as pictures and as vectors, the pictures.
    key = max(known or numbers, key=lambda k: (np.prod(numbers[k].shape), len(numbers[k].shape)))
    if not PART.search(key):
        return [key]
    whole, shape = _whole(key), numbers[key].shape[1:]
    parts = [k for k in numbers if PART.search(k) and _whole(k) == whole]
    return [k for k in parts if numbers[k].shape[1:] == shape]


def _whole(key: str) -> str:
    """A name without the part of a split, in small letters."""
    return PART.sub("", key).strip("_-./ ").lower()


def _label_keys(
    headers: dict[Path, dict[str, ArrayHeader]],
    samples: list[str],
    wanted: str | None,
    comments: list[str],
) -> list[list[str]]:
    """Arrays that may be the labels, those of every array of samples together; of others that have
    one value a sample the comments tell."""
    if wanted is not None:
        return [[wanted]]
    first = next(iter(headers.values()))
    others = [key for key in first if key not in samples and not first[key].fault]
    parts = [PART.search(key) for key in samples]
    found = {}
    for name in LABELS:
        alike = [key for key in others if _whole(key) == name]
        if len(samples) > 1:  # in the order of the samples
            by_part = {match[0].lower(): key for key in alike if (match := PART.search(key))}
            alike = [by_part[p[0].lower()] for p in parts if p and p[0].lower() in by_part]
        if alike:
            found[name] = alike[: len(samples)]
    used = {key for keys in found.values() for key in keys}
    for key in others:
        if key not in used:
            shape = first[key].shape
            one_each = any(shape in ((n,), (n, 1)) for n in (first[s].shape[0] for s in samples))
            how = f"; if these are the labels: --labels {shlex.quote(key)}" if one_each else ""
            comments.append(f"not used: {key}{how}")
    return list(found.values())


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
        raise InputError(f"they are {len(held)} arrays, and those of samples {len(counts)}.")
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


def _of_recordings(files: Sequence[Path]) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
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
    source: dict[str, Any] = {"kind": "wav", "files": [str(files[0])], "rate": int(rate)}
    source["length"] = length
    classes: dict[str, int] = {}
    if label is not None:
        source["label"], classes = label
        comments.append(f"labels by their names: {len(classes)} classes, as in {names[0]}")
    else:
        comments += why_not
        comments.append("without labels: what needs an oracle is left out")
    source["count"] = len(names)
    facts = {
        "count": len(names),
        "each": "",
        "size": 2 * length,
        "spread": 1.0,
        "classes": classes,
        "representation": "stft",
    }
    return comments, source, facts


def _label(names: Sequence[str]) -> tuple[tuple[str, dict[str, int]] | None, list[str]]:
    """The pattern by which names have a label, folder or first part, and the sizes of classes; or
    else why they have none."""
    why_not = []
    for what, pattern in (("folder", r"([^/]+)/[^/]*$"), ("first part", r"^([^_\-.]+)[_\-]")):
        found = [re.search(pattern, name) for name in names]
        sizes = Counter(match[1] for match in found if match is not None)
        if sizes.total() < len(names) or len(sizes) < 2:
            continue
        rarest = min(sizes, key=sizes.__getitem__)
        if len(sizes) <= CLASSES and sizes[rarest] >= RAREST:
            return (pattern, dict(sizes)), []
        why_not.append(
            f"no labels by the {what} of their names: there are {len(sizes)} of these, and "
            f"{rarest!r} is that of {sizes[rarest]} recordings alone"
        )
    return None, why_not


def _anchors(facts: dict[str, Any]) -> int:
    """As many as usual, or what the training split has to spare."""
    return int(min(256, facts["count"] // 4))


def _settings(facts: dict[str, Any]) -> dict[str, Any]:
    """Sizes by the number of samples and of their values."""
    count, size, stft = facts["count"], facts["size"], facts["representation"] == "stft"
    share = {"oracle": (0.25, 10_000), "validation": (0.1, 2_000), "test": (0.15, 3_000)}
    split = {key: max(16, min(int(part * count), most)) for key, (part, most) in share.items()}
    if not facts["classes"]:
        del split["oracle"]
    train = count - sum(split.values())
    batch = min(64 if train < 5_000 else 128, train)
    # About 3,000 steps: enough for sets of a few thousand, and minutes at most for larger ones.
    epochs = int(np.clip(round(3_000 * batch / train), 10, 150))
    warmup = max(1, epochs // 5)
    latent_dim = 4 if size <= 128 else 8 if size <= 16_384 else 16
    width = 64 if size <= 256 else 128
    settings: dict[str, Any] = {"representations": [facts["representation"]]}
    if stft:
        settings["stft"] = dict(STFT)
    settings["split"] = split | {"seed": 0}
    if facts["classes"]:
        # A fifth of the way from naming the largest class, whatever is seen, to no error.
        gate = round(0.8 * max(facts["classes"].values()) / count + 0.2, 2)
        # A third of how far values spread: more would drown what tells classes apart.
        noise = float(f"{min(0.1, facts['spread'] / 3):.1g}")
        settings["oracle"] = {"epochs": 60 if train < 5_000 else 20, "noise": noise}
        settings["oracle"] |= {"minimum_accuracy": gate, "seed": 0}
    settings["model"] = {"latent_dim": min(latent_dim, size), "width": width, "depth": 2}
    settings["model"] |= {"likelihood_variance": "diagonal" if stft else "constant"}
    settings["training"] = {"epochs": epochs, "batch_size": batch, "learning_rate": 2e-3}
    settings["training"] |= {"gradient_clip": 1e4 if stft else 100.0, "kl_warmup_epochs": warmup}
    settings["training"] |= {"checkpoint_every": max(1, epochs // 3)}
    settings["variants"] = dict(_variants(train, warmup))
    return settings


def _variants(train: int, warmup: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The plain model, and the regularised one with a learned prior."""
    yield "complex", {}
    prior = {"kind": "mixture", "components": int(np.clip(train // 50, 8, 64))}
    regulariser = {"form": "isometry", "strength": 30.0, "tie": 30.0, "tie_to": "full"}
    regulariser |= {"epsilon": 1e-3, "points": 16, "warmup_epochs": warmup}
    regulariser |= {"groups": 8, "components": 16, "scale": 30.0}
    yield "kahler", {"prior": prior, "regulariser": regulariser}
