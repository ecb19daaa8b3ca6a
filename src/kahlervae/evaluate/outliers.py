"""Semantic outliers: how many samples lie where no real image lies, in oracle features.

All scores take distances, so that one matrix (:func:`pairwise_distances`) serves several.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from kahlervae.errors import InputError

__all__ = [
    "density",
    "neighbour_distance",
    "neighbour_radii",
    "outlier_share",
    "pairwise_distances",
    "threshold",
]


def pairwise_distances(
    a: Float[Tensor, "n features"], b: Float[Tensor, "m features"]
) -> Float[Tensor, "n m"]:
    """Euclidean distances in float64.

    They are computed by a matrix product, whose cancellation costs half of the digits: seven
    remain of float64, where float32 would keep three.
    """
    return torch.cdist(a.double(), b.double(), compute_mode="use_mm_for_euclid_dist")


def neighbour_distance(distances: Float[Tensor, "n m"], neighbours: int) -> Float[Tensor, " n"]:
    """Distance of each of n points to its k-th nearest of m others.

    Raises:
        InputError: m < k.
    """
    if distances.shape[1] < neighbours:
        raise InputError(
            f"{distances.shape[1]} points cannot give {neighbours} nearest neighbours: "
            "lower evaluation.neighbours or take more samples."
        )
    return distances.topk(neighbours, dim=1, largest=False).values[:, -1]


def neighbour_radii(distances: Float[Tensor, "n n"], neighbours: int) -> Float[Tensor, " n"]:
    """Distance of each point to its k-th nearest within the same set, itself not counted.

    Raises:
        InputError: n ≤ k.
    """
    others = distances.clone().fill_diagonal_(-1)  # a duplicate must not pass for the point itself
    return neighbour_distance(others, neighbours + 1)


def threshold(values: Float[Tensor, " n"], quantile: float) -> float:
    """The quantile of a score over held-out real images beyond which a sample is an outlier.

    Raises:
        InputError: there are no values.
    """
    if len(values) == 0:
        raise InputError("no held-out images set the threshold of outliers: enlarge validation.")
    return torch.quantile(values.double(), quantile).item()


def outlier_share(values: Float[Tensor, " n"], limit: float) -> float:
    """Share of the values beyond the limit; real images score about 1 − quantile."""
    return (values > limit).double().mean().item()


def density(
    distances: Float[Tensor, "real samples"],
    real_radii: Float[Tensor, " real"],
    neighbours: int,
) -> float:
    r"""Density, :math:`\frac{1}{kM}\sum_{j=1}^{M}\sum_{i=1}^{N} 1[\,|r_i - x_j| \le R_i\,]`.

    In how many of the neighbourhoods of real images a sample lies, relative to the k expected;
    about 1 for real data, not bounded by it. Radii :math:`R_i` by :func:`neighbour_radii`.

    Source: Naeem et al. 2020, *Reliable fidelity and diversity metrics for generative models*.
    """
    inside = distances <= real_radii[:, None]
    return inside.double().sum(0).mean().item() / neighbours
