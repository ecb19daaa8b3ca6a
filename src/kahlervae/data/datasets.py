"""Data sets and their seeded split into oracle, train, validation and test."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kahlervae import storage
from kahlervae.data.files import data_files, folders, locate
from kahlervae.data.idx import read_idx
from kahlervae.errors import InputError
from kahlervae.seeding import generator

__all__ = ["SPLITS", "Split", "load_split", "prepare"]

SPLITS = ("oracle", "train", "validation", "test")

CLASSES = 256
"""The most classes that a data set can have, its labels being bytes."""


class Split(NamedTuple):
    """Images in [0, 1] and their classes."""

    images: Float[Tensor, "n height width"]
    labels: Int64[Tensor, " n"]

    def to(self, device: torch.device | None) -> "Split":
        """The same on a device."""
        return Split(self.images.to(device), self.labels.to(device))


def prepare(
    dataset: str, source: Mapping[str, Any], split: Mapping[str, int]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of all splits and a record that says what they are.

    Args:
        dataset: its name.
        source: its entry in the table of data sets, see :func:`kahlervae.config.data_sources`.
        split: the sizes of ``oracle``, ``validation`` and ``test``, and the ``seed`` of the
            permutation; all other images are for training.

    Raises:
        InputError: files are missing or are not what the entry says, or there are too few images
            for the split.
    """
    images, labels = LOADERS[source["kind"]](dataset, source)
    if int(labels.max()) >= source["classes"]:
        raise InputError(
            f"{dataset} has an image of class {int(labels.max())}, but its classes are said to be "
            f"0 to {source['classes'] - 1}."
        )
    sizes = {name: split[name] for name in SPLITS if name != "train"}
    sizes["train"] = len(images) - sum(sizes.values())
    if sizes["train"] < 1:
        raise InputError(
            f"the split of {dataset} leaves no image for training, there are {len(images)} in all: "
            "lower oracle, validation or test."
        )
    order = torch.randperm(len(images), generator=generator(split["seed"], "split", dataset))
    parts = order.split([sizes[name] for name in SPLITS])
    tensors = {}
    for name, part in zip(SPLITS, parts, strict=True):
        tensors[f"{name}_images"] = images[part]
        tensors[f"{name}_labels"] = labels[part]
    record = {
        "dataset": dataset,
        "citation": source["citation"],
        "licence": source["licence"],
        "image_shape": list(images.shape[1:]),
        "classes": source["classes"],
        "range": [float(images.min()), float(images.max())],
        "split": {name: sizes[name] for name in SPLITS},
        "seed": split["seed"],
        "sha256": hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest(),
    }
    return tensors, record


def _bundled(dataset: str, source: Mapping[str, Any]) -> Split:
    """The UCI handwritten digits that come with scikit-learn: 1,797 images, 8×8, 10 classes."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32) / 16
    return Split(images, torch.tensor(bunch.target, dtype=torch.int64))


def _idx(dataset: str, source: Mapping[str, Any]) -> Split:
    """All parts of a set of IDX files, one after the other."""
    parts = list(data_files(source))
    files = [file for part in parts for file in part]
    paths = locate(dataset, source.get("addresses", []), files, folders())
    images, labels = (
        torch.from_numpy(np.concatenate([read_idx(paths[f.name], f.shape) for f in column]))
        for column in zip(*parts, strict=True)
    )
    return Split(images.float() / 255, labels.long())


LOADERS: dict[str, Callable[[str, Mapping[str, Any]], Split]] = {"bundled": _bundled, "idx": _idx}


def load_split(path: Path | str, name: str) -> Split:
    """One split of a file that the data stage wrote.

    Raises:
        InputError: the file is missing or damaged, or holds no such split.
    """
    tensors, _ = storage.read_tensors(path)
    again = "make it again with the data stage."
    keys = f"{name}_images", f"{name}_labels"
    if not tensors.keys() >= set(keys):
        raise InputError(f"{path} holds no split {name!r}: {again}")
    images, labels = (tensors[key] for key in keys)
    if images.dtype != torch.float32 or images.dim() != 3 or images.numel() == 0:
        raise InputError(f"{path} holds no images in {name!r}: {again}")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise InputError(f"{path} does not hold one class for each image in {name!r}: {again}")
    if not ((images >= 0) & (images <= 1)).all():  # fails for NaN, too
        raise InputError(
            f"{path} holds grey values out of [0, 1] in {name!r}, or not finite: {again}"
        )
    if not ((labels >= 0) & (labels < CLASSES)).all():
        raise InputError(f"{path} holds classes out of 0 to {CLASSES - 1} in {name!r}: {again}")
    return Split(images, labels)
