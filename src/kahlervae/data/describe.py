"""What files hold, and the configuration with which they can be run."""

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kahlervae.data.arrays import ArrayHeader, as_classes, as_samples, read_arrays, read_headers
from kahlervae.data.recordings import read_recordings, read_wav
from kahlervae.errors import InputError

__all__ = ["describe"]

LABELS = ("labels", "label", "y", "targets", "target", "classes", "y_train", "train_labels")
"""Names by which labels are known."""
FEWEST = 120
"""Samples below which no split is large enough for the scores."""
STFT = {"window": 256, "hop": 128, "lowest": 1, "highest": 128}


def describe(files: Sequence[Path], name: str | None = None) -> str:
    """A configuration that runs a data set as it stands, with what its files hold as comments.

    Args:
        files: arrays of one data set, or one folder or archive of recordings.
        name: of the data set; by default that of the first file.

    Raises:
        InputError: a file cannot be read, or holds no samples, or too few of them.
    """
    dataset = _name(name or files[0].stem)
    recorded = files[0].is_dir() or files[0].suffix.lower() not in (".npz", ".npy", ".safetensors")
    comments, source, facts = (_of_recordings if recorded else _of_arrays)(files)
    if facts["count"] < FEWEST:
        raise InputError(
            f"{files[0]} holds {facts['count']} samples: at least {FEWEST} are needed to train on "
            "some and be judged by others."
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
    head = [
        *comments,
        "",
        "Written to a file, this runs as it stands:",
        f"  kahlervae describe {' '.join(map(str, files))} > {dataset}.yaml",
        f"  snakemake --cores all --configfile {dataset}.yaml",
        f"  snakemake --configfile {dataset}.yaml --report results/{dataset}/report.html",
        "config.yaml explains every key; what is not here is as it stands there.",
    ]
    text = yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return "".join(f"# {line}".rstrip() + "\n" for line in head) + text


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
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()
    return name or "mine"


def _of_arrays(files: Sequence[Path]) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    comments, headers = [], {file: read_headers(file) for file in files}
    for file, held in headers.items():
        comments.append(f"{file} holds")
        comments += [f"  {key or 'one array'}: {h.dtype} {h.shape}" for key, h in held.items()]
    samples, labels = _roles(headers[files[0]], files[0])
    parts, classes = [], []
    for file in files:
        found = read_arrays(file, [samples, *([labels] if labels is not None else [])])
        parts.append(as_samples(found[samples], f"{samples!r} of {file}"))
        if labels is not None:
            classes.append(found[labels])
    if len({part.shape[1:] for part in parts}) > 1:
        raise InputError(f"{files[0]} and the others hold samples of several shapes.")
    values = np.concatenate(parts)
    number, is_complex = 0, np.iscomplexobj(values)
    if labels is not None:
        try:
            found_classes, names = as_classes(np.concatenate(classes), len(values), f"{labels!r}")
        except InputError as error:
            comments.append(f"labels: none that can be used; {error}")
            labels = None
        else:
            number = len(names)
            least = int(np.bincount(found_classes).min())
            shown = ", ".join(map(str, names[:10])) + (", …" if number > 10 else "")
            comments.append(
                f"labels {labels!r}: {number} classes ({shown}), the rarest {least} times"
            )
    extent = np.abs(values) if is_complex else values
    what = "modulus" if is_complex else "values"
    comments.append(
        f"samples{f' {samples!r}' if samples else ''}: {len(values):,}, "
        f"{'complex' if is_complex else 'real'}, of shape "
        f"{values.shape[1:]}; {what} from {extent.min():.4g} to {extent.max():.4g}"
    )
    if labels is None:
        comments.append("without labels: what needs an oracle is left out")
    source: dict[str, Any] = {"kind": "arrays", "files": [str(file) for file in files]}
    source |= {"samples": samples} if samples else {}
    source |= {"labels": labels} if labels is not None else {}
    # One scale for pictures, another for what has no bounds.
    source["scale"] = "unit" if not is_complex and values.ndim > 2 else "standard"
    source |= {"shape": list(values.shape[1:]), "count": len(values)}
    facts = {
        "count": len(values),
        "size": int(np.prod(values.shape[1:])),
        "classes": number,
        "representation": "native" if is_complex else "pixels",
    }
    return comments, source, facts


def _roles(headers: dict[str, ArrayHeader], file: Path) -> tuple[str, str | None]:
    """The names of samples and of labels: the largest array of numbers, and one by its name."""
    numbers = {
        key: header
        for key, header in headers.items()
        if header.dtype.kind in "biufc" and len(header.shape) > 1 and header.shape[0] > 0
    }
    if not numbers:
        held = ", ".join(f"{key} {h.shape}" for key, h in headers.items()) or "nothing"
        raise InputError(
            f"{file} holds no samples ({held}): these are numbers, stacked along the first axis: "
            "(n, 64) or (n, 28, 28)."
        )
    samples = max(numbers, key=lambda key: numbers[key].size)
    count = headers[samples].shape[0]
    one_each = [
        key
        for key, header in headers.items()
        if key != samples and header.shape in ((count,), (count, 1))
    ]
    known = [key for key in one_each if key.lower() in LABELS]
    named = known or one_each
    return samples, named[0] if named else None


def _of_recordings(files: Sequence[Path]) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    if len(files) > 1:
        raise InputError("describe takes one folder or archive of recordings at a time.")
    from scipy.io import wavfile

    recordings = read_recordings(files[0])
    sizes, rates = [], []
    for name, content in recordings.items():
        read_wav(content, name, 8000, 16)  # refuses what is none
        rate, values = wavfile.read(io.BytesIO(content))
        rates.append(rate)
        sizes.append(len(values) / rate)
    rate = min(max(set(rates), key=rates.count), 16000)
    # Three quarters of the recordings are kept whole; a power of two, within bounds.
    wanted = float(np.percentile(sizes, 75)) * rate
    length = int(min(2 ** round(np.log2(max(wanted, 512))), 8192))
    names = list(recordings)
    label = _label(names)
    comments = [
        f"{files[0]} holds {len(names):,} recordings of {min(sizes):.2f} to {max(sizes):.2f} s at "
        f"{', '.join(f'{r:,} Hz' for r in sorted(set(rates)))}",
        f"kept of each: {length / rate:.2f} s from its start, "
        f"{sum(s * rate <= length for s in sizes):,} whole ones",
    ]
    number = 0
    source: dict[str, Any] = {"kind": "wav", "files": [str(files[0])], "rate": int(rate)}
    source["length"] = length
    if label is not None:
        pattern, number = label
        source["label"] = pattern
        comments.append(f"labels by their names: {number} classes, as in {names[0]}")
    else:
        comments.append("without labels: what needs an oracle is left out")
    source["count"] = len(names)
    facts = {
        "count": len(names),
        "size": 2 * length,
        "classes": number,
        "representation": "stft",
    }
    return comments, source, facts


def _label(names: Sequence[str]) -> tuple[str, int] | None:
    """The pattern by which names have a label, folder or first part, and the number of labels."""
    for pattern in (r"([^/]+)/[^/]*$", r"^([^_\-.]+)[_\-]"):
        found = [re.search(pattern, name) for name in names]
        labels = [match[1] for match in found if match is not None]
        if len(labels) == len(names) and 2 <= len(set(labels)) <= min(256, len(names) // 10):
            return pattern, len(set(labels))
    return None


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
    batch = 64 if train < 5_000 else 128
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
        gate = round(min(0.5, 2 / facts["classes"]), 2)
        settings["oracle"] = {"epochs": 60 if train < 5_000 else 20, "noise": 0.1}
        settings["oracle"] |= {"minimum_accuracy": gate, "seed": 0}
    settings["model"] = {"latent_dim": min(latent_dim, size), "width": width, "depth": 2}
    settings["model"] |= {"likelihood_variance": "diagonal" if stft else "constant"}
    settings["training"] = {"epochs": epochs, "batch_size": batch, "learning_rate": 2e-3}
    settings["training"] |= {"gradient_clip": 1e4 if stft else 100.0, "kl_warmup_epochs": warmup}
    settings["training"] |= {"checkpoint_every": max(1, epochs // 3)}
    settings["variants"] = dict(_variants(warmup))
    return settings


def _variants(warmup: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The plain model and the regularised one."""
    yield "complex", {}
    regulariser = {"form": "flatness", "strength": 30.0, "tie": 30.0, "epsilon": 1e-3, "points": 16}
    regulariser |= {"warmup_epochs": warmup, "groups": 8, "components": 16, "scale": 30.0}
    yield "kahler", {"beta": 2.0, "regulariser": regulariser}
