"""Oracles: small classifiers whose penultimate layer is the space in which samples are judged.

An oracle is trained on the oracle split only, so that the training images of the autoencoders and
the held-out images are equally new to it. The features are kept out of reach of pixel noise and
of small affine changes by augmentation: both are drawn anew for every batch.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from kahlervae.data.form import planes
from kahlervae.errors import InputError
from kahlervae.nn.optimiser import Adam
from kahlervae.nn.skeleton import skeleton
from kahlervae.seeding import generator, standard_normal
from kahlervae.storage import check_tensors, read_tensors, write_tensors

__all__ = ["ARCHITECTURES", "Oracle", "Reading", "load_oracle", "save_oracle", "train_oracle"]

ROTATION = 0.15
"""Largest rotation of the augmentation, in radians."""
SCALING = 0.1
"""Largest relative change of size of the augmentation."""
SHIFT = 0.1
"""Largest shift of the augmentation, in half widths of the image."""
BATCH = 64
"""Views that are read at once: few enough for their layers to stay in the caches."""


class Reading(NamedTuple):
    """What an oracle sees in a batch of views."""

    features: Float[Tensor, "n features"]
    logits: Float[Tensor, "n classes"]

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """The most probable class of each image."""
        return self.logits.argmax(1)

    @property
    def entropy(self) -> Float[Tensor, " n"]:
        r"""Predictive entropy :math:`-\sum_c p_c \log p_c` of each image, in nats."""
        return torch.special.entr(self.logits.softmax(1)).sum(1)

    @property
    def energy(self) -> Float[Tensor, " n"]:
        r"""Free energy :math:`-\log\sum_c \exp(l_c)` of the logits of each image.

        Unlike entropy it keeps the logits' size: an image that speaks for no class has a large
        one, an image between two classes that both are sure of has not.

        Source: Liu et al. 2020, *Energy-based out-of-distribution detection*.
        """
        return -self.logits.logsumexp(1)


class _Planes(nn.Module):
    """Views as channels over one or two axes."""

    def forward(self, views: Num[Tensor, "n *view"]) -> Float[Tensor, "n channels *space"]:
        return planes(views)


class _Flat(nn.Module):
    """Views as real vectors."""

    def forward(self, views: Num[Tensor, "n *view"]) -> Float[Tensor, "n entries"]:
        return planes(views).flatten(1)


def _cnn(channels: int, *space: int) -> nn.Sequential:
    convolution = nn.Conv2d if len(space) == 2 else nn.Conv1d
    return nn.Sequential(
        _Planes(),
        convolution(channels, 32, 3, padding=1),
        nn.ReLU(),
        convolution(32, 64, 3, padding=1, stride=2),
        nn.ReLU(),
        convolution(64, 64, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * math.prod(-(-size // 4) for size in space), 64),
        nn.ReLU(),
    )


def _mlp(channels: int, *space: int) -> nn.Sequential:
    return nn.Sequential(
        _Flat(),
        nn.Linear(channels * math.prod(space), 256),
        nn.GELU(),
        nn.Linear(256, 64),
        nn.GELU(),
    )


ARCHITECTURES = {"cnn": _cnn, "mlp": _mlp}
"""Builders of the feature networks by name; both end in 64 features."""


class Oracle(nn.Module):
    """A classifier of views whose features are its penultimate layer.

    Args:
        architecture: ``cnn`` or ``mlp``.
        shape: Of a view.
        classes: Number of classes.
        accuracy: Accuracy on the test split, once it is known.
        is_complex: Whether views are complex; both parts are read then.

    Raises:
        InputError: the architecture is unknown.
    """

    def __init__(
        self,
        architecture: str,
        shape: tuple[int, ...],
        classes: int,
        accuracy: float = float("nan"),
        is_complex: bool = False,
    ) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise InputError(
                f"the oracle architecture {architecture!r} is unknown: "
                f"choose one of {', '.join(ARCHITECTURES)}."
            )
        self.architecture = architecture
        self.shape = shape
        self.is_complex = is_complex
        self.accuracy = accuracy
        dtype = torch.complex64 if is_complex else torch.float32
        laid_out = planes(torch.empty(1, *shape, dtype=dtype, device="meta"))
        self.body = ARCHITECTURES[architecture](*laid_out.shape[1:])
        self.head = nn.Linear(64, classes)

    def forward(self, views: Num[Tensor, "n *view"]) -> Float[Tensor, "n classes"]:
        """Logits of the classes."""
        return self.head(self.body(views))

    @torch.no_grad()
    def read(self, images: Num[Tensor, "n *view"]) -> Reading:
        """Features and logits of views, without gradients.

        Raises:
            InputError: the images are empty, not finite, or of another shape.
        """
        if images.shape[1:] != self.shape or images.is_complex() != self.is_complex:
            kinds = ["complex" if yes else "real" for yes in (self.is_complex, images.is_complex())]
            raise InputError(
                f"the {self.architecture} oracle reads {kinds[0]} arrays of shape {self.shape}, "
                f"but was given a {kinds[1]} array of shape {tuple(images.shape)}: use the "
                "oracle of this data set."
            )
        if len(images) == 0:
            raise InputError("there are no images to score: enlarge the split or take samples.")
        if not images.isfinite().all():
            broken = int((~images.isfinite().flatten(1).all(1)).sum())
            raise InputError(
                f"{broken} of {len(images)} images contain NaN or infinite pixels: "
                "the model that decoded them has diverged, train it again."
            )
        single = images.to(torch.complex64 if self.is_complex else torch.float32)
        features = torch.cat([self.body(part) for part in single.split(BATCH)])
        return Reading(features, self.head(features))


def _jitter(views: Num[Tensor, "n *view"], random: torch.Generator) -> Num[Tensor, "n *view"]:
    """Pictures under small random rotations, scalings and shifts; what has one axis as it is."""
    batch = planes(views)
    if batch.dim() < 4:
        return views

    def uniform(limit: float) -> Float[Tensor, " n"]:
        return limit * (2 * torch.rand(len(views), generator=random) - 1).to(views.device)

    angle, scale = uniform(ROTATION), 1 + uniform(SCALING)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = [cosine, -sine, uniform(SHIFT), sine, cosine, uniform(SHIFT)]
    transforms = torch.stack(rows, 1).unflatten(1, (2, 3))
    grid = nn.functional.affine_grid(transforms, list(batch.shape), align_corners=False)
    moved = nn.functional.grid_sample(batch, grid, align_corners=False)
    if views.is_complex():
        moved = torch.complex(*moved.chunk(2, dim=1))
    return moved.movedim(1, -1).reshape(views.shape)


def train_oracle(
    architecture: str,
    images: Num[Tensor, "n *view"],
    labels: Int[Tensor, " n"],
    test_images: Num[Tensor, "m *view"],
    test_labels: Int[Tensor, " m"],
    settings: Mapping[str, Any],
) -> Oracle:
    """Train an oracle on the oracle split and hold it against the gate on the test split.

    Cross-entropy under AdamW with a one-cycle learning rate; every batch is jittered (rotation,
    scaling, shift) and covered with Gaussian noise of standard deviation ``noise``.

    Args:
        architecture: ``cnn`` or ``mlp``.
        images: Views of the oracle split.
        labels: Their classes, from 0.
        test_images: Views of the test split.
        test_labels: Their classes.
        settings: ``epochs``, ``noise``, ``minimum_accuracy`` and ``seed``.

    Raises:
        InputError: the split is empty or of a single class, or the accuracy on the test split is
            below ``minimum_accuracy`` (an oracle that fails judges nothing).
    """
    if len(labels.unique()) < 2:
        raise InputError(
            f"the oracle split holds {len(labels)} images of {len(labels.unique())} classes: "
            "a classifier needs two classes at least, enlarge split.oracle."
        )
    random = generator(settings["seed"], "oracle", architecture)
    classes = int(labels.max()) + 1
    with torch.random.fork_rng(devices=[]):  # layers are initialised from the global stream
        torch.manual_seed(int(torch.randint(2**62, (), generator=random)))
        shape = tuple(images.shape[1:])
        oracle = Oracle(architecture, shape, classes, is_complex=images.is_complex())
        oracle = oracle.to(images.device)

    batches_per_epoch = -(-len(images) // 64)
    optimiser = Adam(oracle.parameters(), weight_decay=0.01, decoupled_weight_decay=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=5e-3, total_steps=settings["epochs"] * batches_per_epoch
    )
    for _ in range(settings["epochs"]):
        for index in torch.randperm(len(images), generator=random).split(64):
            batch = _jitter(images[index], random)
            batch = batch + settings["noise"] * standard_normal(batch, random)
            loss = nn.functional.cross_entropy(oracle(batch), labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()

    oracle.eval().requires_grad_(False)
    oracle.accuracy = (oracle.read(test_images).labels == test_labels).double().mean().item()
    if oracle.accuracy < settings["minimum_accuracy"]:
        raise InputError(
            f"the {architecture} oracle reaches a test accuracy of {oracle.accuracy:.3f}, below "
            f"minimum_accuracy = {settings['minimum_accuracy']}: raise oracle.epochs or "
            "split.oracle, scores through a weaker oracle mean little."
        )
    return oracle


def save_oracle(path: Path | str, oracle: Oracle) -> None:
    """Write an oracle as safetensors; architecture, shape and accuracy are in the metadata."""
    metadata = {
        "kind": "oracle",
        "architecture": oracle.architecture,
        "shape": json.dumps(oracle.shape),
        "complex": json.dumps(oracle.is_complex),
        "classes": oracle.head.out_features,
        "accuracy": oracle.accuracy,
    }
    write_tensors(path, oracle.state_dict(), metadata)


def load_oracle(path: Path | str) -> Oracle:
    """Read an oracle that :func:`save_oracle` wrote.

    Raises:
        InputError: the file is missing, truncated, or holds something else.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("kind") != "oracle":
        raise InputError(f"{path} is not an oracle: give a file written by `kahlervae oracle`.")
    try:
        with skeleton():
            oracle = Oracle(
                metadata["architecture"],
                tuple(map(int, json.loads(metadata["shape"]))),
                int(metadata["classes"]),
                float(metadata["accuracy"]),
                bool(json.loads(metadata["complex"])),
            )
    except (InputError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} does not hold an oracle: train it again.") from error
    check_tensors(path, tensors, oracle.state_dict())
    oracle.load_state_dict({key: value.clone() for key, value in tensors.items()}, assign=True)
    return oracle.eval().requires_grad_(False)
