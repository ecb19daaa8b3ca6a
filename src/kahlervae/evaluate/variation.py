"""Variation of samples: how much of the real data they reach, in oracle features."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "class_entropy",
    "coverage",
    "novelty",
    "recall",
    "vendi_score",
]


def recall(
    distances: Float[Tensor, "real samples"], sample_radii: Float[Tensor, " samples"]
) -> float:
    r"""Recall, :math:`\frac1N\sum_i 1[\exists j: |r_i - x_j| \le R_j]`.

    Share of real images in the neighbourhood of at least one sample; the radius :math:`R_j` is the
    distance of sample j to its k-th nearest sample
    (:func:`~kahlervae.evaluate.outliers.distances_within`).

    Source: Kynkäänniemi et al. 2019, *Improved precision and recall metric*.
    """
    return (distances <= sample_radii).any(1).double().mean().item()


def coverage(distances: Float[Tensor, "real samples"], real_radii: Float[Tensor, " real"]) -> float:
    r"""Coverage, :math:`\frac1N\sum_i 1[\exists j: |r_i - x_j| \le R_i]`.

    Share of real images whose own neighbourhood holds at least one sample; unlike recall, it
    cannot be raised by a few samples far out with large neighbourhoods.

    Source: Naeem et al. 2020, *Reliable fidelity and diversity metrics for generative models*.
    """
    return (distances.amin(1) <= real_radii).double().mean().item()


def vendi_score(features: Float[Tensor, "n features"], centre: Float[Tensor, " features"]) -> float:
    r"""Vendi score, :math:`\exp(-\sum_i \lambda_i\log\lambda_i)`: the effective number of samples.

    :math:`\lambda` are the eigenvalues of :math:`K/n`, with K the cosine kernel of the features
    after the mean of *real* features is taken off: features behind a rectifier all point the same
    way, and without the centre the score saturates near 1: from 1 (all points in one
    direction) to min(n, features).

    Source: Friedman & Dieng 2023, *The Vendi score*.
    """
    directions = torch.nn.functional.normalize(features.double() - centre.double(), dim=1)
    # K = X Xᵀ and Xᵀ X share their non-zero eigenvalues: take the smaller one.
    gram = directions.T @ directions if len(features) > features.shape[1] else None
    eigenvalues = torch.linalg.eigvalsh(directions @ directions.T if gram is None else gram)
    # A point at the centre has no direction and leaves the kernel; the rest sums to one again.
    weights = eigenvalues.clamp_min(0)
    weights = weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    return torch.special.entr(weights).sum().exp().item()


def class_entropy(labels: Int[Tensor, " n"]) -> float:
    """Entropy of the histogram of predicted classes, in nats; 0 for a single class."""
    return torch.special.entr(labels.bincount().double() / len(labels)).sum().item()


def novelty(nearest: Float[Tensor, "n k"]) -> float:
    """Median distance of images to their nearest training image; ``nearest`` holds it first.

    Its ratio to that of real images tells a sampler that replays the training set from one that
    does not.
    """
    return nearest[:, 0].median().item()
