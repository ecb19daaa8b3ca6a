"""Settings that suit a data set: a run of them takes minutes and is judged by enough samples."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Facts", "anchors", "rare", "settings"]

EXPECTED = 5
"""Samples of a class in a part of the split below which its accuracy says little."""
STFT = {"window": 256, "hop": 128, "lowest": 1, "highest": 128}


@dataclass(frozen=True)
class Facts:
    """What settings depend on.

    Attributes:
        count: of the samples.
        size: values of one of them.
        spread: of the values, scaled.
        classes: how many samples each class has, by its name; none without labels.
        representation: of the samples.
    """

    count: int
    size: int
    spread: float = 1.0
    classes: Mapping[Any, int] = field(default_factory=dict)
    representation: str = "pixels"


def anchors(facts: Facts) -> int:
    """Of the potential: as many as usual, or what the training split has to spare.

    Example:
        >>> anchors(Facts(count=200, size=9))
        50
    """
    return int(min(256, facts.count // 4))


def settings(facts: Facts) -> dict[str, Any]:
    """The block of a data set: sizes by the number of samples and of their values.

    Example:
        >>> settings(Facts(count=200, size=9))["split"]
        {'validation': 20, 'test': 30, 'seed': 0}
    """
    count, size, stft = facts.count, facts.size, facts.representation == "stft"
    share = {"oracle": (0.25, 10_000), "validation": (0.1, 2_000), "test": (0.15, 3_000)}
    split = {key: max(16, min(int(part * count), most)) for key, (part, most) in share.items()}
    if not facts.classes:
        del split["oracle"]
    train = count - sum(split.values())
    batch = min(64 if train < 5_000 else 128, train)
    # About 3,000 steps: enough for sets of a few thousand, and minutes at most for larger ones.
    epochs = int(np.clip(round(3_000 * batch / train), 10, 150))
    warmup = max(1, epochs // 5)
    latent_dim = 4 if size <= 128 else 8 if size <= 16_384 else 16
    width = 64 if size <= 256 else 128
    found: dict[str, Any] = {"representations": [facts.representation]}
    if stft:
        found["stft"] = dict(STFT)
    found["split"] = split | {"seed": 0}
    if facts.classes:
        # A fifth of the way from naming the largest class, whatever is seen, to no error; in two
        # digits of the error, which is never 0 and never that of the largest class.
        others = 1 - max(facts.classes.values()) / count
        gate = round(1 - float(f"{0.8 * others:.2g}"), 12)
        # A third of how far values spread: more would drown what tells classes apart.
        noise = float(f"{min(0.1, facts.spread / 3):.1g}")
        found["oracle"] = {"epochs": 60 if train < 5_000 else 20, "noise": noise}
        found["oracle"] |= {"minimum_accuracy": gate, "seed": 0}
    found["model"] = {"latent_dim": min(latent_dim, size), "width": width, "depth": 2}
    found["model"] |= {"likelihood_variance": "diagonal" if stft else "constant"}
    found["training"] = {"epochs": epochs, "batch_size": batch, "learning_rate": 2e-3}
    found["training"] |= {"gradient_clip": 1e4 if stft else 100.0, "kl_warmup_epochs": warmup}
    found["training"] |= {"checkpoint_every": max(1, epochs // 3)}
    found["variants"] = dict(_variants(train, warmup))
    return found


def rare(facts: Facts, split: dict[str, int]) -> Iterator[str]:
    """A class of which oracles meet too few samples, in words.

    Args:
        facts: of the data.
        split: sizes of its parts.

    Example:
        >>> facts = Facts(count=200, size=9, classes={"cat": 190, "dog": 10})
        >>> [told] = rare(facts, settings(facts)["split"])
        >>> told.partition(":")[0]
        'the rarest class is expected 1 times among the 20 samples of split.validation'
    """
    if not facts.classes:
        return
    smallest = min(("oracle", "validation", "test"), key=split.__getitem__)
    expected = min(facts.classes.values()) * split[smallest] / facts.count
    if expected < EXPECTED:
        yield (
            f"the rarest class is expected {expected:.2g} times among the {split[smallest]} "
            f"samples of split.{smallest}: the accuracy of oracles says little of it"
        )


def _variants(train: int, warmup: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The plain model, and the regularised one with a learned prior."""
    yield "complex", {}
    prior = {"kind": "mixture", "components": int(np.clip(train // 50, 8, 64))}
    regulariser = {"form": "isometry", "strength": 30.0, "tie": 30.0, "tie_to": "full"}
    regulariser |= {"epsilon": 1e-3, "points": 16, "warmup_epochs": warmup}
    regulariser |= {"groups": 8, "components": 16, "scale": 30.0}
    yield "kahler", {"prior": prior, "regulariser": regulariser}
