"""Real data as one oracle sees them, and the scores of images relative to them."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from kahlervae.data import Split
from kahlervae.errors import InputError
from kahlervae.evaluate import UNJUDGED, outliers, smoothness, variation
from kahlervae.evaluate.oracle import Oracle, Reading

__all__ = ["HELD_OUT", "LARGEST", "Reference", "Seen", "Unjudged"]


LARGEST = 5000
"""Images of a split that represent it, at most: all pairs of them are compared."""

HELD_OUT = ("validation", "test")
"""Splits that samples are compared with: settings are chosen on the one, reported on the other."""


class Seen(NamedTuple):
    """Images as an oracle sees them beside the training images.

    Attributes:
        features: of the images.
        labels: predicted classes.
        nearest: distances to the k nearest training images, the nearest first.
        outlier_scores: of every image by ``knn`` (distance to the k-th nearest training image),
            ``entropy``, ``mahalanobis`` and ``energy``; large where no real image lies.
    """

    features: Float[Tensor, "n features"]
    labels: Int[Tensor, " n"]
    nearest: Float[Tensor, "n k"]
    outlier_scores: dict[str, Float[Tensor, " n"]]


class _HeldOut(NamedTuple):
    """Real images that samples are compared with: their neighbourhoods and what they measure."""

    features: Float[Tensor, "n features"]
    radii: Float[Tensor, " n"]
    mean_distance: float
    novelty: float


class Reference:
    r"""What is computed once per oracle from real images, for all models.

    Outlier scores are taken from the training images (distances to them, Gaussians of their
    classes); their thresholds are quantiles over the validation images. Neighbourhoods are those
    of the held-out split that samples are compared with, validation or test, so that neither the
    models nor the thresholds have seen what reported samples are held against. Distances are in
    units of those between real images of that split, so that oracles can be averaged.

    Recall and coverage are shares of that split, with a standard error of up to
    :math:`1 / (2\sqrt{n})` from the choice of its n images: 0.03 for the 247 test images of the
    digits. All models and samplers are held against the same images, so that this error is mostly
    common to them and cancels from their differences; seeds do not average it out. A neighbourhood
    holds k of the n images: the fewer there are, the wider it is, and coverage is the more easily
    reached. The two splits, of different sizes, must therefore not be compared with each other.

    Args:
        oracle: The classifier through which images are judged.
        splits: ``train``, ``validation`` and ``test``, each in random order; the first
            :data:`LARGEST` images count.
        settings: ``neighbours`` k and ``quantile``.

    Raises:
        InputError: an image is not finite or of another shape, or there are too few.
    """

    def __init__(
        self, oracle: Oracle, splits: Mapping[str, Split], settings: Mapping[str, Any]
    ) -> None:
        self.oracle = oracle
        self.neighbours: int = settings["neighbours"]
        readings = {
            name: oracle.read(splits[name].form.show(splits[name].samples[:LARGEST]))
            for name in ("train", *HELD_OUT)
        }
        self.features = readings["train"].features
        self.centre = self.features.mean(0)
        nearest = {name: self._nearest(readings[name].features) for name in HELD_OUT}
        self.held_out = {name: self._hold_out(readings[name], nearest[name]) for name in HELD_OUT}
        scale = self.features.double().norm(dim=1).mean().item()
        units = [unit for held in self.held_out.values() for unit in held[-2:]]
        if min(units) <= 1e-6 * scale:  # rounding of distances
            raise InputError(
                f"the {oracle.architecture} oracle gives real images the same features: the data "
                "hold duplicates or the oracle has collapsed, nothing can be told apart by it."
            )
        labels = splits["train"].labels
        assert labels is not None
        self.gaussians = outliers.ClassGaussians(self.features, labels[:LARGEST])
        scores = self._outlier_scores(readings["validation"], nearest["validation"])
        self.limits = {
            name: outliers.threshold(values, settings["quantile"])
            for name, values in scores.items()
        }

    @property
    def name(self) -> str:
        """That of the oracle, in tables."""
        return self.oracle.architecture

    def _hold_out(self, reading: Reading, nearest: Float[Tensor, "n k"]) -> _HeldOut:
        within = outliers.distances_within(reading.features, self.neighbours)
        return _HeldOut(reading.features, *within, variation.novelty(nearest))

    def _nearest(self, features: Float[Tensor, "n features"]) -> Float[Tensor, "n k"]:
        return outliers.nearest_distances(features, self.features, self.neighbours)

    def _outlier_scores(
        self, reading: Reading, nearest: Float[Tensor, "n k"]
    ) -> dict[str, Float[Tensor, " n"]]:
        return {
            "knn": nearest[:, -1],
            "entropy": reading.entropy,
            "mahalanobis": self.gaussians.distance(reading.features),
            "energy": reading.energy,
        }

    def _see(self, reading: Reading) -> Seen:
        nearest = self._nearest(reading.features)
        scores = self._outlier_scores(reading, nearest)
        return Seen(reading.features, reading.labels, nearest, scores)

    def see(self, images: Num[Tensor, "n *view"]) -> Seen:
        """Read images and find their outlier scores.

        Raises:
            InputError: an image is not finite or of another shape, or there are none.
        """
        return self._see(self.oracle.read(images))

    def flags(self, seen: Seen) -> dict[str, Bool[Tensor, " n"]]:
        """Which images lie beyond the threshold of each outlier score, 0.05 of real ones."""
        return {name: values > self.limits[name] for name, values in seen.outlier_scores.items()}

    def image_scores(self, seen: Seen, split: str) -> dict[str, float]:
        """Outliers, variation and novelty of a set of images (docs/theory.md, section 11).

        - ``knn_outliers``, ``entropy_outliers``, ``mahalanobis_outliers``, ``energy_outliers``:
          shares beyond the thresholds, 0.05 for real data;
        - ``density``, ``recall``, ``coverage``, ``vendi``, ``class_entropy``: see the functions;
        - ``mean_distance``: mean distance between two images over that between two real ones;
        - ``novelty``: median distance to the nearest training image over that of real images;
          well below 1, the images replay the training set.

        Recall and coverage rise with the number of images: compare sets of one size.

        Args:
            seen: The images, as :meth:`see` gives them.
            split: Whose real images they are compared with: ``validation`` or ``test``.

        Raises:
            InputError: there are no more images than k.
        """
        real = self.held_out[split]
        distances = outliers.pairwise_distances(real.features, seen.features)
        within = outliers.distances_within(seen.features, self.neighbours)
        return {
            **{
                f"{name}_outliers": outliers.outlier_share(flags)
                for name, flags in self.flags(seen).items()
            },
            "density": outliers.density(distances, real.radii, self.neighbours),
            "recall": variation.recall(distances, within.radii),
            "coverage": variation.coverage(distances, real.radii),
            "vendi": variation.vendi_score(seen.features, self.centre),
            "mean_distance": within.mean_distance / real.mean_distance,
            "class_entropy": variation.class_entropy(seen.labels),
            "novelty": variation.novelty(seen.nearest) / real.novelty,
        }

    def path_scores(self, paths: Num[Tensor, "n points *view"]) -> dict[str, float]:
        """What happens along paths of images, means over the paths.

        - ``feature_acceleration``, ``feature_speed_variation``, ``feature_turning``: those of
          :func:`~kahlervae.evaluate.smoothness.roughness` in oracle features;
        - ``path_length`` in oracle features, in mean distances between real test images;
        - ``label_flips``: changes of the predicted class;
        - ``midpoint_outliers``, ``midpoint_entropy_outliers``, ``midpoint_mahalanobis_outliers``:
          shares of midpoints beyond the thresholds of kNN distance, entropy, Mahalanobis distance.

        Raises:
            InputError: an image is not finite or of another shape.
        """
        count, points = paths.shape[:2]
        reading = self.oracle.read(paths.flatten(0, 1))
        along = Reading(*(part.unflatten(0, (count, points)) for part in reading))
        length = smoothness.path_length(along.features).mean().item()
        flips = smoothness.label_flips(reading.labels.unflatten(0, (count, points)))
        flags = self.flags(self._see(Reading(*(part[:, points // 2] for part in along))))
        roughness = smoothness.roughness(along.features)
        return {f"feature_{name}": value for name, value in roughness.items()} | {
            "path_length": length / self.held_out["test"].mean_distance,
            "label_flips": flips.mean().item(),
            "midpoint_outliers": outliers.outlier_share(flags["knn"]),
            "midpoint_entropy_outliers": outliers.outlier_share(flags["entropy"]),
            "midpoint_mahalanobis_outliers": outliers.outlier_share(flags["mahalanobis"]),
        }


class Unjudged:
    """In place of a reference where samples have no labels, and hence no oracle: no score is known.

    Example:
        >>> judge = Unjudged()
        >>> judge.name, judge.flags(judge.see(torch.zeros(3, 8, 8)))
        ('no labels', {})
        >>> judge.path_scores(torch.zeros(3, 5, 8, 8))["path_length"]
        nan
    """

    name = UNJUDGED

    def see(self, images: Num[Tensor, "n *view"]) -> Seen:
        """Nothing is seen of them."""
        nothing = torch.zeros(len(images), 0)
        return Seen(nothing, torch.zeros(len(images), dtype=torch.int64), nothing, {})

    def flags(self, seen: Seen) -> dict[str, Bool[Tensor, " n"]]:
        """No flag."""
        return {}

    def image_scores(self, seen: Seen, split: str) -> dict[str, float]:
        """Those of :meth:`Reference.image_scores`, all unknown."""
        return dict.fromkeys(IMAGE_SCORES, math.nan)

    def path_scores(self, paths: Num[Tensor, "n points *view"]) -> dict[str, float]:
        """Those of :meth:`Reference.path_scores`, all unknown."""
        return dict.fromkeys(PATH_SCORES, math.nan)


IMAGE_SCORES = [
    *(f"{name}_outliers" for name in ("knn", "entropy", "mahalanobis", "energy")),
    *("density", "recall", "coverage", "vendi", "mean_distance", "class_entropy", "novelty"),
]
PATH_SCORES = [
    *("feature_acceleration", "feature_speed_variation", "feature_turning"),
    *("path_length", "label_flips", "midpoint_outliers"),
    *("midpoint_entropy_outliers", "midpoint_mahalanobis_outliers"),
]
"""What only an oracle can tell, in the order of the tables."""
