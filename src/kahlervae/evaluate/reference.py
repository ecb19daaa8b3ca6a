"""Real data as one oracle sees them, and the scores of images relative to them."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.evaluate import outliers, smoothness, variation
from kahlervae.evaluate.oracle import Oracle

__all__ = ["Reference"]


LARGEST = 5000
"""Images that real data are represented by, at most: all pairs of them are compared."""


class Reference:
    """What is computed once per oracle from real images, for all models.

    Neighbourhoods are those of the training images; thresholds are quantiles over the validation
    images; distances are in units of those between real images, so that oracles can be averaged.

    Args:
        oracle: The classifier through which images are judged.
        train: Images of the train split, in random order; the first :data:`LARGEST` count.
        validation: Images of the validation split.
        test: Images of the test split.
        settings: ``neighbours`` k and ``quantile``.

    Raises:
        InputError: an image is not finite or of another shape, or there are too few.
    """

    def __init__(
        self,
        oracle: Oracle,
        train: Float[Tensor, "n height width"],
        validation: Float[Tensor, "m height width"],
        test: Float[Tensor, "l height width"],
        settings: Mapping[str, Any],
    ) -> None:
        self.oracle = oracle
        self.neighbours: int = settings["neighbours"]
        self.features = oracle.read(train[:LARGEST]).features
        self.centre = self.features.mean(0)
        within = outliers.pairwise_distances(self.features, self.features)
        self.radii = outliers.neighbour_radii(within, self.neighbours)
        self.mean_distance = variation.mean_distance(within)
        held_out = oracle.read(validation)
        self.knn_limit = outliers.threshold(self._knn(held_out.features), settings["quantile"])
        self.entropy_limit = outliers.threshold(held_out.entropy, settings["quantile"])
        test_features = oracle.read(test).features
        self.nearest_distance = variation.nearest_distance(
            outliers.pairwise_distances(self.features, test_features)
        )
        scale = self.features.double().norm(dim=1).mean().item()
        if min(self.mean_distance, self.nearest_distance) <= 1e-6 * scale:  # rounding of distances
            raise InputError(
                f"the {oracle.architecture} oracle gives real images the same features: the data "
                "hold duplicates or the oracle has collapsed, nothing can be told apart by it."
            )

    def _knn(self, features: Float[Tensor, "n features"]) -> Float[Tensor, " n"]:
        distances = outliers.pairwise_distances(features, self.features)
        return outliers.neighbour_distance(distances, self.neighbours)

    def image_scores(self, images: Float[Tensor, "n height width"]) -> dict[str, float]:
        """Outliers, variation and novelty of a set of images (docs/theory.md, section 11).

        - ``knn_outliers``, ``entropy_outliers``: shares beyond the thresholds, 0.05 for real data;
        - ``density``, ``recall``, ``coverage``, ``vendi``, ``class_entropy``: see the functions;
        - ``mean_distance``: mean distance between two images over that between two real ones;
        - ``novelty``: median distance to the nearest training image over that of real test images;
          well below 1, the images replay the training set.

        Recall and coverage rise with the number of images: compare sets of one size.

        Raises:
            InputError: an image is not finite or of another shape, or there are no more than k.
        """
        reading = self.oracle.read(images)
        distances = outliers.pairwise_distances(self.features, reading.features)
        knn = outliers.neighbour_distance(distances.T, self.neighbours)
        within = outliers.pairwise_distances(reading.features, reading.features)
        return {
            "knn_outliers": outliers.outlier_share(knn, self.knn_limit),
            "entropy_outliers": outliers.outlier_share(reading.entropy, self.entropy_limit),
            "density": outliers.density(distances, self.radii, self.neighbours),
            "recall": variation.recall(
                distances, outliers.neighbour_radii(within, self.neighbours)
            ),
            "coverage": variation.coverage(distances, self.radii),
            "vendi": variation.vendi_score(reading.features, self.centre),
            "mean_distance": variation.mean_distance(within) / self.mean_distance,
            "class_entropy": variation.class_entropy(reading.labels),
            "novelty": variation.nearest_distance(distances) / self.nearest_distance,
        }

    def knn_outliers(self, images: Float[Tensor, "n height width"]) -> Bool[Tensor, " n"]:
        """Which images lie beyond the kNN threshold, 0.05 of real ones.

        Raises:
            InputError: an image is not finite or of another shape.
        """
        return self._knn(self.oracle.read(images).features) > self.knn_limit

    def path_scores(self, paths: Float[Tensor, "n points height width"]) -> dict[str, float]:
        """What happens along paths of images, means over the paths.

        - ``path_length`` in oracle features, in mean distances between real images;
        - ``label_flips``: changes of the predicted class;
        - ``midpoint_outliers``: share of midpoints beyond the kNN threshold.

        Raises:
            InputError: an image is not finite or of another shape.
        """
        count, points = paths.shape[:2]
        reading = self.oracle.read(paths.flatten(0, 1))
        features = reading.features.unflatten(0, (count, points))
        length = smoothness.path_length(features).mean().item()
        flips = smoothness.label_flips(reading.labels.unflatten(0, (count, points)))
        midpoints = self._knn(features[:, points // 2])
        return {
            "path_length": length / self.mean_distance,
            "label_flips": flips.mean().item(),
            "midpoint_outliers": outliers.outlier_share(midpoints, self.knn_limit),
        }
