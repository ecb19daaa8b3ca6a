"""Semantic outliers: how many samples lie where no real image lies, in oracle features."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kahlervae.errors import InputError

__all__ = [
    "ClassGaussians",
    "Within",
    "cohen_kappa",
    "density",
    "distances_within",
    "nearest_distances",
    "outlier_share",
    "pairwise_distances",
    "shrunk_covariance",
    "threshold",
]

BLOCK = 128
"""Points whose distances to all others are looked at together: few enough to stay in caches."""
SPARE = 3
"""Neighbours beyond those wanted that are measured, should products confuse the last ones."""


def pairwise_distances(
    a: Float[Tensor, "n features"], b: Float[Tensor, "m features"]
) -> Float[Tensor, "n m"]:
    """Euclidean distances in float64.

    They are computed by a matrix product, whose cancellation costs half of the digits: seven
    remain of float64, where float32 would keep three.
    """
    return torch.cdist(a.double(), b.double(), compute_mode="use_mm_for_euclid_dist")


def nearest_distances(
    points: Float[Tensor, "n features"], others: Float[Tensor, "m features"], neighbours: int
) -> Float[Tensor, "n k"]:
    """Distances of each of n points to its k nearest of m others, the nearest first.

    Neighbours are found by matrix products and measured by differences, which do not cancel.

    Raises:
        InputError: m < k.
    """
    if len(others) < neighbours:
        raise InputError(
            f"{len(others)} points cannot give {neighbours} nearest neighbours: "
            "lower evaluation.neighbours or take more images."
        )
    found = [
        _closest(part, others, squares, neighbours) for part, squares in _blocks(points, others)
    ]
    return torch.cat(found)


class Within(NamedTuple):
    """Distances within a set of points.

    Attributes:
        radii: of each point to its k-th nearest other one.
        mean_distance: between two different points.
    """

    radii: Float[Tensor, " n"]
    mean_distance: float


def distances_within(points: Float[Tensor, "n features"], neighbours: int) -> Within:
    """Radii of the neighbourhoods of k others, and the mean distance of a set.

    The radii are found as by :func:`nearest_distances`; the mean is of the products' distances.

    Raises:
        InputError: n ≤ k.
    """
    n = len(points)
    if n <= neighbours:
        raise InputError(
            f"{n} points cannot give {neighbours} nearest neighbours of each other: "
            "lower evaluation.neighbours or take more images."
        )
    radii, total = [], 0.0
    for part, squares in _blocks(points, points):
        radii.append(_closest(part, points, squares, neighbours + 1)[:, -1])  # the point itself
        total += squares.sqrt_().sum().item()
    return Within(torch.cat(radii), total / (n * (n - 1)))


def _blocks(points: Tensor, others: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Some of the points at a time, and their squared distances to all others, by a product."""
    centre = others.mean(0)  # away from the origin products cancel
    columns = (others - centre).T
    lengths = columns.square().sum(0)
    for part in points.split(BLOCK):
        rows = part - centre
        squares = torch.addmm(lengths, rows, columns, alpha=-2)
        yield part, squares.add_(rows.square().sum(1, keepdim=True)).clamp_(min=0)


def _closest(part: Tensor, others: Tensor, squares: Tensor, neighbours: int) -> Tensor:
    """Distances of some points to their nearest others, which products point out."""
    count = min(neighbours + SPARE, len(others))
    index = squares.topk(count, largest=False, sorted=False).indices
    steps = others[index] - part.unsqueeze(1)
    return steps.square().sum(-1, dtype=torch.float64).sqrt().sort().values[:, :neighbours]


def threshold(values: Float[Tensor, " n"], quantile: float) -> float:
    """The quantile of a score over held-out real images beyond which a sample is an outlier.

    Raises:
        InputError: there are no values.
    """
    if len(values) == 0:
        raise InputError("no held-out images set the threshold of outliers: enlarge validation.")
    return torch.quantile(values.double(), quantile).item()


def outlier_share(flags: Bool[Tensor, " n"]) -> float:
    """Share of images beyond a threshold; real images score about 1 − quantile."""
    return flags.double().mean().item()


def density(
    distances: Float[Tensor, "real samples"],
    real_radii: Float[Tensor, " real"],
    neighbours: int,
) -> float:
    r"""Density, :math:`\frac{1}{kM}\sum_{j=1}^{M}\sum_{i=1}^{N} 1[\,|r_i - x_j| \le R_i\,]`.

    In how many of the neighbourhoods of real images a sample lies, relative to the k expected;
    about 1 for real data, not bounded by it. Radii :math:`R_i` by :func:`distances_within`.

    Source: Naeem et al. 2020, *Reliable fidelity and diversity metrics for generative models*.
    """
    inside = distances <= real_radii[:, None]
    return inside.count_nonzero().item() / (neighbours * distances.shape[1])


def shrunk_covariance(
    deviations: Float[Tensor, "n features"],
) -> Float[Tensor, "features features"]:
    r"""Covariance of n deviations :math:`x_i \in R^p` from their mean, shrunk to the isotropic.

    .. math::
        \hat\Sigma = (1 - \rho) S + \rho\mu I, \quad S = \frac1n\sum_i x_ix_i^T, \quad
        \mu = \frac{\operatorname{tr} S}{p}, \quad
        \rho = \min\Big(1,\; \frac{\frac1n(\frac1n\sum_i |x_i|^4 - \|S\|^2)}{\|S - \mu I\|^2}\Big)

    It is positive definite where S is not, as with features that no real image switches on.

    Source: Ledoit & Wolf 2004, *A well-conditioned estimator for large-dimensional covariance
    matrices*; written out, since scikit-learn's takes longer to load than a model to be scored.
    """
    x = deviations.double()
    n, p = x.shape
    covariance = x.T @ x / n
    isotropic = covariance.trace() / p * torch.eye(p, dtype=x.dtype, device=x.device)
    noise = (x.square().sum(1).square().mean() - covariance.square().sum()) / n
    distance = (covariance - isotropic).square().sum()
    shrinkage = (noise / distance.clamp_min(torch.finfo(x.dtype).tiny)).clamp(0, 1)
    return torch.lerp(covariance, isotropic, shrinkage)


class ClassGaussians:
    r"""A Gaussian for every class of real images, all with one covariance, in oracle features.

    The outlier score of a point is its squared Mahalanobis distance to the nearest class,

    .. math:: M(f) = \min_c\, (f - \mu_c)^T\Sigma^{-1}(f - \mu_c),

    which is, up to a constant, minus twice the largest log density of a class. The mean
    :math:`\mu_c` is that of the class, the covariance that of the deviations from it
    (:func:`shrunk_covariance`).

    Source: Lee et al. 2018, *A simple unified framework for detecting out-of-distribution samples
    and adversarial attacks*.

    Args:
        features: Features of real images.
        labels: Their true classes.

    Raises:
        InputError: the images differ within no class, or too few do.
    """

    def __init__(self, features: Float[Tensor, "n features"], labels: Int[Tensor, " n"]) -> None:
        features = features.double()
        members = torch.nn.functional.one_hot(labels.unique(return_inverse=True)[1]).double()
        means = members.T @ features / members.sum(0)[:, None]
        factor, failed = torch.linalg.cholesky_ex(shrunk_covariance(features - members @ means))
        if failed:
            raise InputError(
                f"{len(features)} training images of {len(means)} classes are too alike or too few "
                "for Gaussians of the classes: enlarge the train split."
            )
        self.factor = factor
        self.means = self._whiten(means)

    def _whiten(self, features: Float[Tensor, "n features"]) -> Float[Tensor, "n features"]:
        return torch.linalg.solve_triangular(self.factor, features.double().T, upper=False).T

    def distance(self, features: Float[Tensor, "n features"]) -> Float[Tensor, " n"]:
        """Squared Mahalanobis distance to the nearest class, in float64."""
        return pairwise_distances(self._whiten(features), self.means).amin(1).square()


def cohen_kappa(first: Bool[Tensor, " n"], second: Bool[Tensor, " n"]) -> float:
    r"""Agreement of two judges beyond chance, :math:`\kappa = (p_o - p_e) / (1 - p_e)`.

    :math:`p_o` is the share of points on which they agree and :math:`p_e` the share expected of
    independent judges that flag as many: 1 for equal flags, 0 for independent ones, NaN where
    nothing or everything is flagged by both.

    Source: Cohen 1960, *A coefficient of agreement for nominal scales*.
    """
    a, b = first.double().mean(), second.double().mean()
    expected = a * b + (1 - a) * (1 - b)
    return (((first == second).double().mean() - expected) / (1 - expected)).item()
