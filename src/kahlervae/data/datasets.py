"""Data sets and their seeded split into oracle, train, validation and test."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kahlervae import storage
from kahlervae.errors import InputError
from kahlervae.seeding import generator

__all__ = ["DATASETS", "SPLITS", "Split", "load_split", "prepare"]

SPLITS = ("oracle", "train", "validation", "test")


class Split(NamedTuple):
    """Images in [0, 1] and their classes."""

    images: Float[Tensor, "n height width"]
    labels: Int64[Tensor, " n"]


def digits() -> Split:
    """The UCI handwritten digits that come with scikit-learn: 1,797 images, 8×8, 10 classes."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32) / 16
    return Split(images, torch.tensor(bunch.target, dtype=torch.int64))


DATASETS: dict[str, Callable[[], Split]] = {"digits": digits}

SOURCES = {
    "digits": "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak; UCI Machine "
    "Learning Repository, 1998; CC BY 4.0), as bundled with scikit-learn"
}


def prepare(dataset: str, split: Mapping[str, int]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of all splits and a record that says what they are.

    Args:
        dataset: a key of :data:`DATASETS`.
        split: the sizes of ``oracle``, ``validation`` and ``test``, and the ``seed`` of the
            permutation; all other images are for training.

    Raises:
        InputError: the data set is unknown, or too small for the split.
    """
    if dataset not in DATASETS:
        raise InputError(f"unknown data set {dataset!r}: choose one of {', '.join(DATASETS)}.")
    images, labels = DATASETS[dataset]()
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
        "source": SOURCES[dataset],
        "image_shape": list(images.shape[1:]),
        "classes": int(labels.max()) + 1,
        "range": [float(images.min()), float(images.max())],
        "split": {name: sizes[name] for name in SPLITS},
        "seed": split["seed"],
        "sha256": hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest(),
    }
    return tensors, record


def load_split(path: Path | str, name: str) -> Split:
    """One split of a file that the data stage wrote.

    Raises:
        InputError: the file is missing or damaged, or holds no such split.
    """
    tensors, _ = storage.read_tensors(path)
    if f"{name}_images" not in tensors:
        raise InputError(f"{path} holds no split {name!r}: make it again with the data stage.")
    split = Split(tensors[f"{name}_images"], tensors[f"{name}_labels"])
    if not torch.isfinite(split.images).all():
        raise InputError(f"{path} holds values that are not finite in {name!r}: make it again.")
    return split
