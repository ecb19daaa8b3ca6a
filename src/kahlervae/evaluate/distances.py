"""What distances by each metric are worth: ranks, agreement of retrained models, neighbours."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Complex, Float, Int64, Num
from scipy.stats import spearmanr
from torch import Tensor

from kahlervae.data import Split
from kahlervae.errors import InputError
from kahlervae.evaluate.smoothness import latent_lines, pairs
from kahlervae.geometry import Potential, fisher_norm
from kahlervae.geometry.decoder import Decoder
from kahlervae.geometry.distance import distance
from kahlervae.models import VAE
from kahlervae.seeding import generator

__all__ = ["compare_distances", "few_shot_accuracy"]

Lengths = Callable[[Tensor, Tensor], Tensor]
"""Ends (n, d) to distances (n,)."""

WARM = 16
"""Pairs of the first call, whose time does not count."""
AT_ONCE = 256
"""Lines whose exact lengths are computed at once."""


@torch.no_grad()
def compare_distances(
    models: Sequence[VAE],
    potentials: Sequence[Mapping[str, Potential]],
    train: Split,
    test: Split,
    settings: Mapping[str, Any],
) -> pd.DataFrame:
    """Distances of posterior means along straight latent lines, by metric and model.

    Metrics: ``fisher``, the exact one, by Jacobian-vector products along the line; each potential;
    ``euclidean``. Pairs, queries and labelled samples are the same for all models, so that those of
    several seeds can be compared.

    Args:
        models: of one variant, with complex latents, one for every seed.
        potentials: of each model, by name.
        train: where the labelled samples are from.
        test: where pairs and queries are from.
        settings: ``pairs``, ``steps`` of every line, ``queries``, and ``shots``, the numbers of
            labelled samples of a class.

    Returns:
        One row per model and metric. ``spearman``: rank correlation with the exact lengths;
        ``seeds_spearman``: mean rank correlation with the same metric of the other models, NaN
        where there are none; ``accuracy_<n>``: see :func:`few_shot_accuracy`, NaN without labels;
        ``microseconds_per_pair``: CPU time, so that other work on the machine does not count.

    Raises:
        InputError: there are fewer than two test samples, or a length is not finite.
    """
    if len(test.samples) < 2:
        raise InputError(
            f"a distance joins two samples, but there are {len(test.samples)}: enlarge test."
        )
    chosen = _draw(train, test, settings)
    measured = [
        _measure_all(model, _metrics(model, fitted, settings["steps"]), chosen)
        for model, fitted in zip(models, potentials, strict=True)
    ]
    rows = []
    for i, (model, metrics) in enumerate(zip(models, measured, strict=True)):
        for name, found in metrics.items():
            others = [other[name] for k, other in enumerate(measured) if k != i]
            ranks = [_spearman(found.lengths, other.lengths) for other in others]
            rows.append(
                model.identity
                | {"metric": name, "spearman": _spearman(found.lengths, metrics["fisher"].lengths)}
                | {"seeds_spearman": np.mean(ranks) if ranks else float("nan")}
                | {f"accuracy_{n}": found.accuracy(n, chosen) for n in settings["shots"]}
                | {"microseconds_per_pair": found.microseconds}
            )
    return pd.DataFrame(rows)


def few_shot_accuracy(
    distances: Float[Tensor, "queries labelled"],
    classes: Int64[Tensor, " queries"],
    labels: Int64[Tensor, " labelled"],
    shots: int,
) -> float:
    """Accuracy of the nearest of so many labelled samples of every class.

    The mean over disjoint choices of the labelled samples, as many as their number gives: the first
    ``shots`` of every class, the next ones, and so on; all of them, where they are fewer.

    Args:
        distances: of queries from labelled samples.
        classes: true ones of the queries.
        labels: classes of the labelled samples.
        shots: of every class.

    Example:
        >>> distances = torch.tensor([[1.0, 2.0, 3.0, 0.0]])
        >>> labels = torch.tensor([0, 1, 0, 1])
        >>> query = torch.tensor([0])
        >>> few_shot_accuracy(distances, query, labels, shots=1)  # of 0 and 1, and of 2 and 3
        0.5
        >>> few_shot_accuracy(distances, query, labels, shots=2)
        0.0
    """
    # Which of its class a labelled sample is: the first, the second, ...
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    order = same.tril(-1).sum(1)
    choices = max(1, int(labels.bincount()[labels.unique()].min()) // shots)
    correct = []
    for choice in range(choices):
        shown = order // shots == choice
        nearest = distances[:, shown].argmin(1)
        correct.append((labels[shown][nearest] == classes).double().mean())
    return torch.stack(correct).mean().item()


class _Chosen(NamedTuple):
    """What every model is asked for: samples, and how they are compared."""

    pairs: tuple[Num[Tensor, "pairs *shape"], Num[Tensor, "pairs *shape"]]
    queries: Num[Tensor, "queries *shape"]
    labelled: Num[Tensor, "labelled *shape"]
    classes: Int64[Tensor, " queries"] | None
    labels: Int64[Tensor, " labelled"] | None


class _Measured(NamedTuple):
    """Of one metric of one model."""

    lengths: Float[Tensor, " pairs"]
    neighbours: Float[Tensor, "queries labelled"] | None
    microseconds: float

    def accuracy(self, shots: int, chosen: _Chosen) -> float:
        if self.neighbours is None or chosen.classes is None or chosen.labels is None:
            return float("nan")
        return few_shot_accuracy(self.neighbours, chosen.classes, chosen.labels, shots)


def _draw(train: Split, test: Split, settings: Mapping[str, Any]) -> _Chosen:
    """Of the data alone, whatever the model."""
    stream = generator(0, "distances")
    first, second = pairs(len(test.samples), settings["pairs"], stream)
    joined = (test.samples[first], test.samples[second])
    if train.labels is None or test.labels is None:
        return _Chosen(joined, test.samples[:0], train.samples[:0], None, None)
    asked = torch.randperm(len(test.samples), generator=stream)[: settings["queries"]]
    shuffled = torch.randperm(len(train.samples), generator=stream)
    labels = train.labels[shuffled]
    most = max(settings["shots"])
    shown = torch.cat([(labels == c).nonzero().flatten()[:most] for c in labels.unique()])
    return _Chosen(
        joined,
        test.samples[asked],
        train.samples[shuffled[shown]],
        test.labels[asked],
        labels[shown],
    )


def _metrics(model: VAE, potentials: Mapping[str, Potential], steps: int) -> dict[str, Lengths]:
    return {
        "fisher": partial(_exact_length, model.decoder, steps),
        **{
            name: partial(distance, potential.metric, steps=steps)
            for name, potential in potentials.items()
        },
        "euclidean": lambda a, b: torch.linalg.vector_norm(b - a, dim=1),
    }


def _measure_all(
    model: VAE, metrics: Mapping[str, Lengths], chosen: _Chosen
) -> dict[str, _Measured]:
    try:
        return {name: _measure(model, lengths, chosen) for name, lengths in metrics.items()}
    except InputError as error:
        identity = f"{model.identity['variant']} (seed {model.identity['seed']})"
        raise InputError(f"distances of {identity} cannot be measured: {error}") from error


def _measure(model: VAE, lengths: Lengths, chosen: _Chosen) -> _Measured:
    first, second = (model.encode(samples).mean for samples in chosen.pairs)
    lengths(first[:WARM], second[:WARM])
    start = time.process_time()
    found = lengths(first, second)
    microseconds = 1e6 * (time.process_time() - start) / len(first)
    if chosen.labels is None:
        return _Measured(found, None, microseconds)
    a, b = (model.encode(samples).mean for samples in (chosen.queries, chosen.labelled))
    neighbours = lengths(a.repeat_interleave(len(b), 0), b.repeat(len(a), 1))
    return _Measured(found, neighbours.view(len(a), len(b)), microseconds)


def _exact_length(
    decoder: Decoder, steps: int, a: Complex[Tensor, "n d"], b: Complex[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    """By the midpoint rule, as :func:`~kahlervae.geometry.distance.distance` does it."""
    found = []
    for start, end in zip(a.split(AT_ONCE), b.split(AT_ONCE), strict=True):
        lines = latent_lines(start, end, steps)
        middle, change = (lines[:, 1:] + lines[:, :-1]) / 2, lines.diff(dim=1)
        squares = fisher_norm(decoder, middle.flatten(0, 1), change.flatten(0, 1))
        found.append(squares.view(-1, steps).sqrt().sum(1))
    return torch.cat(found)


def _spearman(values: Tensor, reference: Tensor) -> float:
    return float(spearmanr(values.cpu(), reference.cpu()).statistic)
