"""Data sets and their seeded split into oracle, train, validation and test."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Complex, Int64, Num
from torch import Tensor

from kahlervae import storage
from kahlervae.data.arrays import (
    CLASSES,
    LARGEST,
    as_classes,
    as_samples,
    read_arrays,
    read_headers,
)
from kahlervae.data.files import data_files, find, folders, locate
from kahlervae.data.form import Form
from kahlervae.data.idx import read_idx
from kahlervae.data.recordings import digest, label_of, read_recordings, read_wav
from kahlervae.data.states import make_states
from kahlervae.errors import InputError
from kahlervae.seeding import generator

__all__ = ["SPLITS", "Split", "load_form", "load_split", "prepare"]

SPLITS = ("oracle", "train", "validation", "test")


class Split(NamedTuple):
    """Samples, and their classes where they have any.

    Attributes:
        samples: real or complex arrays of any one shape.
        labels: classes from 0, or None.
        form: of the samples.
        truth: what the samples were made from, where the project made them: pure states.
    """

    samples: Num[Tensor, "n *shape"]
    labels: Int64[Tensor, " n"] | None
    form: Form
    truth: Complex[Tensor, "n levels"] | None = None

    def to(self, device: torch.device | None) -> "Split":
        """The same on a device."""
        labels = self.labels if self.labels is None else self.labels.to(device)
        truth = self.truth if self.truth is None else self.truth.to(device)
        return Split(self.samples.to(device), labels, self.form, truth)

    @property
    def views(self) -> Num[Tensor, "n *view"]:
        """What people see of the samples, and oracles read."""
        return self.form.show(self.samples)


class Loaded(NamedTuple):
    """What a loader gives.

    Attributes:
        samples: all of them, as the models get them.
        labels: their classes, or None.
        bounded: whether samples lie in [0, 1].
        held_out: which of them are the test split, or None where it is drawn at random.
        record: what else is to be said of them.
        truth: what they were made from, or None.
    """

    samples: Num[Tensor, "n *shape"]
    labels: Int64[Tensor, " n"] | None
    bounded: bool
    held_out: Bool[np.ndarray, " n"] | None
    record: dict[str, Any]
    truth: Complex[Tensor, "n levels"] | None = None


def prepare(
    dataset: str,
    source: Mapping[str, Any],
    split: Mapping[str, int],
    stft: Mapping[str, int] | None = None,
) -> tuple[dict[str, Tensor], Form, dict[str, Any]]:
    """The tensors of all splits, the form of the samples, and a record that says what they are.

    Args:
        dataset: its name.
        source: its entry in the table of data sets, see :func:`kahlervae.config.data_sources`.
        split: the sizes of ``oracle``, ``validation`` and ``test``, and the ``seed`` of the
            permutation; all other samples are for training. Samples without labels need no
            ``oracle``.
        stft: of recordings, see :class:`~kahlervae.data.form.Form`.

    Raises:
        InputError: files are missing or are not what the entry says, or there are too few samples
            for the split.
    """
    loaded = LOADERS[source["kind"]](dataset, source)
    samples, labels = loaded.samples, loaded.labels
    _hold_against_entry(dataset, source, samples, labels)
    sizes = {"oracle": split.get("oracle", 0)}
    sizes |= {name: split[name] for name in ("validation", "test")}
    sizes["train"] = len(samples) - sum(sizes.values())
    if sizes["train"] < 1:
        raise InputError(
            f"the split of {dataset} leaves no sample for training, there are {len(samples)} in "
            "all: lower oracle, validation or test."
        )
    form = Form(tuple(samples.shape[1:]), samples.is_complex(), loaded.bounded, stft)
    if stft is not None:
        try:
            form.spectrogram  # noqa: B018  refuses sizes that do not fit
        except ValueError as error:
            raise InputError(f"the block stft of {dataset} is refused: {error}.") from error
    order = torch.randperm(len(samples), generator=generator(split["seed"], "split", dataset))
    if loaded.held_out is not None:
        out = torch.from_numpy(loaded.held_out)[order]
        if int(out.sum()) != sizes["test"]:
            raise InputError(
                f"`test` of {dataset} names {int(out.sum())} recordings, but its split.test is "
                f"{sizes['test']}: set it to that number."
            )
        order = torch.cat([order[~out], order[out]])
    parts = order.split([sizes[name] for name in SPLITS])
    tensors = {}
    for name, part in zip(SPLITS, parts, strict=True):
        if len(part) == 0:  # no oracle without labels
            continue
        tensors[f"{name}_samples"] = samples[part]
        if labels is not None:
            tensors[f"{name}_labels"] = labels[part]
        if loaded.truth is not None:
            tensors[f"{name}_truth"] = loaded.truth[part]
    # Of complex values those of both parts.
    values = torch.view_as_real(samples) if samples.is_complex() else samples
    content = samples.numpy().tobytes()
    record = {
        "dataset": dataset,
        "citation": source.get("citation"),
        "licence": source.get("licence"),
        "shape": list(samples.shape[1:]),
        "complex": samples.is_complex(),
        "classes": None if labels is None else int(source.get("classes", labels.max() + 1)),
        "range": [float(values.min()), float(values.max())],
        "split": {name: sizes[name] for name in SPLITS},
        "seed": split["seed"],
        **loaded.record,
        "sha256": hashlib.sha256(
            content if labels is None else content + labels.numpy().tobytes()
        ).hexdigest(),
    }
    return tensors, form, record


def _hold_against_entry(
    dataset: str, source: Mapping[str, Any], samples: Tensor, labels: Tensor | None
) -> None:
    """Refuse data that are other than their entry says."""
    shape = source.get("shape")
    if shape is not None and tuple(shape) != tuple(samples.shape[1:]):
        raise InputError(
            f"the samples of {dataset} have the shape {tuple(samples.shape[1:])}, but its entry "
            f"says {tuple(shape)}: correct one of them."
        )
    count = source.get("count")
    if count is not None and count != len(samples):
        raise InputError(
            f"{dataset} has {len(samples)} samples, but its entry says {count}: correct one of "
            "them."
        )
    if labels is not None and "classes" in source and int(labels.max()) >= source["classes"]:
        raise InputError(
            f"{dataset} has a sample of class {int(labels.max())}, but its classes are said to be "
            f"0 to {source['classes'] - 1}."
        )


def _bundled(dataset: str, source: Mapping[str, Any]) -> Loaded:
    """The UCI handwritten digits that come with scikit-learn: 1,797 images, 8×8, 10 classes."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32) / 16
    return Loaded(images, torch.tensor(bunch.target, dtype=torch.int64), True, None, {})


def _idx(dataset: str, source: Mapping[str, Any]) -> Loaded:
    """All parts of a set of IDX files, one after the other."""
    parts = list(data_files(source))
    files = [file for part in parts for file in part]
    paths = locate(dataset, source.get("addresses", []), files, folders())
    images, labels = (
        torch.from_numpy(np.concatenate([read_idx(paths[f.name], f.shape) for f in column]))
        for column in zip(*parts, strict=True)
    )
    return Loaded(images.float() / 255, labels.long(), True, None, {})


def _arrays(dataset: str, source: Mapping[str, Any]) -> Loaded:
    """Arrays of all files, one after the other, on one scale."""
    places = [folder / source.get("folder", dataset) for folder in folders()]
    samples: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for name in source["files"]:
        sha256 = source.get("sha256", {}).get(name)
        addresses = [address + name for address in source.get("addresses", [])]
        path = find(dataset, name, places, addresses, sha256, LARGEST)
        part, own = _read_pair(dataset, path, source, places)
        samples.append(as_samples(part, f"{dataset} ({path.name})", source.get("channels")))
        if own is not None:
            if own.shape[:1] != part.shape[:1]:
                as_classes(own, len(part), f"{source['labels']!r} of {path}")  # says so
            labels.append(own)
    shapes = Counter(part.shape[1:] for part in samples)
    if len(shapes) > 1:
        listed = ", ".join(map(str, shapes))
        raise InputError(f"the files of {dataset} hold samples of shapes {listed}: give them one.")
    values = np.concatenate(samples)
    kind = source.get("scale", "standard" if np.iscomplexobj(values) else "unit")
    scaled, scale = _scaled(values, kind, dataset)
    record: dict[str, Any] = {"scale": {"kind": kind, **scale}}
    classes = None
    if labels:
        kinds = {"text" if part.dtype.kind in "US" else "number" for part in labels}
        if len(kinds) > 1:
            raise InputError(
                f"the labels of {dataset} are texts in one file and numbers in another."
            )
        found, names = as_classes(np.concatenate(labels), len(values), f"labels of {dataset}")
        classes = torch.from_numpy(found)
        record |= {"labels": names}
    return Loaded(scaled, classes, kind == "unit", None, record)


def _read_pair(
    dataset: str, path: Path, source: Mapping[str, Any], places: list[Path]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples and labels of one file; labels that are a file of their own lie beside it."""
    labels, headers = source.get("labels"), read_headers(path)
    apart = labels if labels and labels.endswith(".npy") and labels not in headers else None
    others = [name for name in headers if apart is not None or name != labels]
    name = str(source["samples"]) if "samples" in source else others[0] if others else ""
    if "samples" not in source and len(others) != 1:
        raise InputError(
            f"{path} holds {', '.join(sorted(headers)) or 'nothing'}: say in the entry of "
            f"{dataset} which of them are the `samples`."
        )
    wanted = [name] if labels is None or apart is not None else [name, labels]
    found = read_arrays(path, wanted)
    if apart is not None:
        place = find(dataset, apart, [path.parent, *places], [], None, LARGEST)
        return found[name], read_arrays(place, [""])[""]
    return found[name], found[labels] if labels is not None else None


def _scaled(values: np.ndarray, kind: str, dataset: str) -> tuple[Tensor, dict[str, float]]:
    """Samples in single precision, (x − offset) / factor, and these two numbers."""
    offset, factor = 0.0, 1.0
    is_complex = np.iscomplexobj(values)
    if kind == "unit":
        if is_complex:
            raise InputError(
                f"the samples of {dataset} are complex, which cannot be brought into [0, 1]: set "
                "its scale to standard or none."
            )
        offset = float(values.min())
        factor = float(values.max()) - offset
    elif kind == "standard":
        # The phase of a complex number counts, hence its origin stays where it is.
        offset = 0.0 if is_complex else float(values.mean())
        with np.errstate(over="ignore"):
            factor = math.sqrt(np.square(np.abs(values - offset)).mean())
    if not (math.isfinite(factor) and factor > 0):
        raise InputError(f"the values of {dataset} are too large or too small: rescale them.")
    with np.errstate(over="ignore"):
        scaled = ((values - offset) / factor).astype(np.complex64 if is_complex else np.float32)
    if not np.isfinite(scaled).all():
        raise InputError(
            f"{dataset} holds values beyond single precision: set its scale to standard or unit."
        )
    return torch.from_numpy(np.ascontiguousarray(scaled)), {"offset": offset, "factor": factor}


def _wav(dataset: str, source: Mapping[str, Any]) -> Loaded:
    """All recordings, cropped or padded to one length, on one scale."""
    places = [folder / source.get("folder", dataset) for folder in folders()]
    recordings: dict[str, bytes] = {}
    for name in source["files"]:
        addresses = source.get("addresses", [])
        path = find(dataset, name, places, addresses, None, ARCHIVE)
        within = Path(name).name if path.name != Path(name).name else ""
        recordings |= read_recordings(path, within)
    found = digest(recordings)
    if (expected := source.get("sha256")) not in (None, found):
        raise InputError(
            f"the recordings of {dataset} in {path} have the SHA-256 {found}, not {expected}: some "
            "are missing, damaged or others, replace or remove them."
        )
    rate, length = source["rate"], source["length"]
    values = np.stack([read_wav(c, n, rate, length) for n, c in recordings.items()])
    if (values == values.flat[0]).all():
        raise InputError(f"the recordings of {dataset} are silent: there is nothing to learn.")
    scaled, scale = _scaled(values - values.mean(), "standard", dataset)
    record: dict[str, Any] = {
        "scale": {"kind": "standard", **scale},
        "recordings": {"count": len(recordings), "sha256": found, "rate": rate, "length": length},
    }
    labels = held_out = None
    if "label" in source:
        pattern = re.compile(source["label"])
        texts = np.array([label_of(name, pattern) for name in recordings])
        classes, names = as_classes(texts, len(texts), f"labels of {dataset}")
        labels = torch.from_numpy(classes)
        record |= {"labels": names}
    if "test" in source:
        held_out = np.array([bool(re.search(source["test"], name)) for name in recordings])
    return Loaded(scaled, labels, False, held_out, record)


def _states(dataset: str, source: Mapping[str, Any]) -> Loaded:
    """Pure quantum states as noisy density matrices, made from the seed."""
    made = {key: source[key] for key in ("levels", "count", "noise", "seed")}
    samples, states = make_states(**made)
    return Loaded(samples, None, False, None, {"states": made}, states)


ARCHIVE = 2**30
"""Bytes of an archive of recordings that may be downloaded: 1 GiB."""


LOADERS: dict[str, Callable[[str, Mapping[str, Any]], Loaded]] = {
    "bundled": _bundled,
    "idx": _idx,
    "arrays": _arrays,
    "wav": _wav,
    "states": _states,
}


def load_form(path: Path | str) -> Form:
    """The form of the samples of a file that the data stage wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    tensors, metadata = storage.read_tensors(path)
    return _form(path, tensors.get("train_samples", torch.zeros(0)), metadata)


def _form(path: Path | str, samples: Tensor, metadata: Mapping[str, str]) -> Form:
    """That of the metadata; without any, samples are real and lie in [0, 1]."""
    try:
        return Form.load(metadata.get("form", {"shape": samples.shape[1:]}))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} holds no samples: make it again with the data stage.") from error


def load_split(path: Path | str, name: str) -> Split:
    """One split of a file that the data stage wrote.

    Raises:
        InputError: the file is missing or damaged, or holds no such split.
    """
    tensors, metadata = storage.read_tensors(path)
    again = "make it again with the data stage."
    if f"{name}_samples" not in tensors:
        raise InputError(f"{path} holds no split {name!r}: {again}")
    samples, labels = tensors[f"{name}_samples"], tensors.get(f"{name}_labels")
    form = _form(path, samples, metadata)
    if fault := form.check(samples):
        raise InputError(f"{path} holds {fault} in {name!r}: {again}")
    truth = tensors.get(f"{name}_truth")
    if truth is not None:
        sizes = truth.abs().square().sum(-1)
        if truth.dim() != 2 or len(truth) != len(samples) or not truth.is_complex():
            raise InputError(f"{path} does not hold one state for each sample in {name!r}: {again}")
        if not torch.allclose(sizes, torch.ones_like(sizes), atol=1e-3):
            raise InputError(f"{path} holds states in {name!r} that are no unit vectors: {again}")
    if labels is None and not any(key.endswith("_labels") for key in tensors):
        return Split(samples, None, form, truth)
    if labels is None or labels.dtype != torch.int64 or labels.shape != samples.shape[:1]:
        raise InputError(f"{path} does not hold one class for each sample in {name!r}: {again}")
    if not ((labels >= 0) & (labels < CLASSES)).all():
        raise InputError(f"{path} holds classes out of 0 to {CLASSES - 1} in {name!r}: {again}")
    return Split(samples, labels, form, truth)
