"""Data sets and their seeded split into oracle, train, validation and test."""

import hashlib
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
    as_labels,
    as_samples,
    channel_axis,
    read_arrays,
    read_headers,
)
from kahlervae.data.files import data_files, find, locate
from kahlervae.data.form import Form
from kahlervae.data.idx import read_idx
from kahlervae.data.recordings import digest, label_of, read_recordings, read_wav
from kahlervae.data.scale import Scale
from kahlervae.data.states import make_states
from kahlervae.errors import InputError
from kahlervae.places import beside, label_file, places_of
from kahlervae.seeding import generator

__all__ = ["SPLITS", "Loaded", "Split", "load", "load_form", "load_split", "prepare"]

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
        source: its entry in the table of data sets, see
            :func:`kahlervae.config.registry.data_sources`.
        split: the sizes of ``oracle``, ``validation`` and ``test``, and the ``seed`` of the
            permutation; all other samples are for training. Samples without labels need no
            ``oracle``.
        stft: of recordings, see :class:`~kahlervae.data.form.Form`.

    Raises:
        InputError: files are missing or are not what the entry says, or there are too few samples
            for the split.
    """
    loaded = load(dataset, source)
    samples, labels = loaded.samples, loaded.labels
    if labels is None and split.get("oracle"):
        raise InputError(
            f"{dataset} has no labels, and {split['oracle']} of its samples are set aside for "
            "oracles: take split.oracle out, or set it to 0."
        )
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
    content = hashlib.sha256(samples.numpy().data)
    if labels is not None:
        content.update(labels.numpy().data)
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
        "sha256": content.hexdigest(),
    }
    return tensors, form, record


def load(dataset: str, source: Mapping[str, Any]) -> Loaded:
    """All samples of an entry of the table of data sets, before they are split.

    Raises:
        InputError: as :func:`prepare`, but for the split.
    """
    loaded = LOADERS[source["kind"]](dataset, source)
    _hold_against_entry(dataset, source, loaded.samples, loaded.labels)
    return loaded


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
    paths = locate(dataset, source.get("addresses", []), files, places_of(dataset, source))
    images, labels = (
        torch.from_numpy(np.concatenate([read_idx(paths[f.name], f.shape) for f in column]))
        for column in zip(*parts, strict=True)
    )
    return Loaded(images.float() / 255, labels.long(), True, None, {})


def _arrays(dataset: str, source: Mapping[str, Any]) -> Loaded:
    """Arrays of all files, one after the other, on one scale."""
    places, channels = places_of(dataset, source), source.get("channels")
    apart = label_file(source)
    keys = [] if apart else _listed(source.get("labels", []))
    samples: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for path in _paths(dataset, source):
        names = _keys_of_samples(dataset, source, path)
        found = read_arrays(path, [*names, *keys])
        parts = [as_samples(found[name], f"{dataset} ({path.name})", channels) for name in names]
        samples += parts
        for key, part in zip(keys, parts if keys else [], strict=True):
            labels.append(as_labels(found[key], len(part), f"{key!r} of {path}"))
    if apart is not None:
        sha256 = source.get("sha256", {}).get(apart)
        path = find(dataset, apart, beside(source["files"][0], places), [], sha256, LARGEST)
        labels = [as_labels(read_arrays(path, [""])[""], sum(map(len, samples)), str(path))]
    shapes = Counter(part.shape[1:] for part in samples)
    if len(shapes) > 1:
        listed = ", ".join(map(str, shapes))
        raise InputError(f"the files of {dataset} hold samples of shapes {listed}: give them one.")
    scale = Scale.of(samples, source.get("scale"), dataset)
    scaled = torch.from_numpy(scale.apply(samples, dataset))
    record: dict[str, Any] = {"scale": scale._asdict()}
    if scaled.dim() > 3:
        record["channels"] = channels or channel_axis(found[names[0]].shape[1:])
    classes = None
    if labels:
        numbers, names = as_classes(labels, f"labels of {dataset}")
        classes = torch.from_numpy(numbers)
        record |= {"labels": names}
    return Loaded(scaled, classes, scale.kind == "unit", None, record)


def _paths(dataset: str, source: Mapping[str, Any]) -> list[Path]:
    """Where the files of an entry are, each of them once."""
    paths: dict[Path, Path] = {}
    for name in source["files"]:
        addresses, sha256 = source.get("addresses", []), source.get("sha256", {})
        if source["kind"] == "arrays":
            below = [address + name for address in addresses]
            path = find(dataset, name, places_of(dataset, source), below, sha256.get(name), LARGEST)
        else:  # one archive at each address, and one checksum for all that is in them
            path = find(dataset, name, places_of(dataset, source), addresses, None, ARCHIVE)
        real = path.resolve()
        for other, known in paths.items():
            if real.is_relative_to(other) or other.is_relative_to(real):
                raise InputError(
                    f"{path} and {known}, files of {dataset}, are the same or one in the other: "
                    "name them once."
                )
        paths[real] = path
    return list(paths.values())


def _listed(keys: str | list[str]) -> list[str]:
    return [keys] if isinstance(keys, str) else keys


def _keys_of_samples(dataset: str, source: Mapping[str, Any], path: Path) -> list[str]:
    """The names that samples have in a file: what the entry says, or that of the one array."""
    if "samples" in source:
        return _listed(source["samples"])
    headers = read_headers(path)
    others = [name for name in headers if name not in _listed(source.get("labels", []))]
    readable = [name for name in others if not headers[name].fault]
    if len(readable) == 1:
        return readable
    if not readable:
        faults = [headers[name].fault for name in others]
        raise InputError(faults[0] if faults else f"{path} holds no samples: put them there.")
    raise InputError(
        f"{path} holds {', '.join(sorted(headers)) or 'nothing'}: say in the entry of {dataset} "
        "which of them are the `samples`."
    )


def _wav(dataset: str, source: Mapping[str, Any]) -> Loaded:
    """All recordings, cropped or padded to one length, on one scale."""
    recordings: dict[str, bytes] = {}
    for name, path in zip(source["files"], _paths(dataset, source), strict=True):
        within = Path(name).name if path.name != Path(name).name else ""
        found = read_recordings(path, within)
        if twice := recordings.keys() & found.keys():
            raise InputError(
                f"the files of {dataset} hold {len(twice):,} recordings of the same name, such as "
                f"{min(twice)}: name the folder above them, or rename them."
            )
        recordings |= found
    sha256 = digest(recordings)
    if (expected := source.get("sha256")) not in (None, sha256):
        raise InputError(
            f"the recordings of {dataset} in {path} have the SHA-256 {sha256}, not {expected}: "
            "some are missing, damaged or others, replace or remove them."
        )
    rate, length = source["rate"], source["length"]
    values = np.stack([read_wav(c, n, rate, length) for n, c in recordings.items()])
    if (values == values.flat[0]).all():
        raise InputError(f"the recordings of {dataset} are silent: there is nothing to learn.")
    scale = Scale.of([values], "standard", dataset)
    record: dict[str, Any] = {
        "scale": scale._asdict(),
        "recordings": {"count": len(recordings), "sha256": sha256, "rate": rate, "length": length},
    }
    labels = held_out = None
    if "label" in source:
        pattern = re.compile(source["label"])
        texts = np.array([label_of(name, pattern) for name in recordings])
        classes, names = as_classes([texts], f"labels of {dataset}")
        labels = torch.from_numpy(classes)
        record |= {"labels": names}
    if "test" in source:
        held_out = np.array([bool(re.search(source["test"], name)) for name in recordings])
    scaled = torch.from_numpy(scale.apply([values], dataset))
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


def load_split(path: Path | str, name: str, dataset: str | None = None) -> Split:
    """One split of a file that the data stage wrote, which is of that data set where one is named.

    Raises:
        InputError: the file is missing or damaged, is of another data set, or holds no such split.
    """
    tensors, metadata = storage.read_tensors(path)
    if dataset is not None and (found := metadata.get("dataset", dataset)) != dataset:
        raise InputError(f"{path} holds samples of {found}: pass those of {dataset}.")
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
