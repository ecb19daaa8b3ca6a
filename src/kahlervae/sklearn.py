"""Distances of a decoder's geometry for scikit-learn, and for what takes its precomputed ones."""

from contextlib import suppress
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from kahlervae.geometry.distance import Along, distances
from kahlervae.geometry.latents import COMPLEX, to_complex, to_real
from kahlervae.geometry.memory import MEMORY
from kahlervae.geometry.metric import Metric

__all__ = ["DistanceTransformer", "to_rows"]


def to_rows(z: torch.Tensor) -> np.ndarray:
    r"""Complex latents (n, d) as the real rows (n, 2d) that scikit-learn takes,
    :math:`\sqrt 2\, (\mathrm{Re}\, z, \mathrm{Im}\, z)`, see
    :func:`~kahlervae.geometry.latents.to_real`.

    Example:
        >>> to_rows(torch.tensor([[3 + 4j]]) / 2**0.5).round(4).tolist()
        [[3.0, 4.0]]
    """
    rows: np.ndarray = to_real(z).detach().cpu().numpy()
    return rows


class DistanceTransformer(TransformerMixin, BaseEstimator):
    r"""Rows to their distances from the rows that it was fitted to, (n, 2d) to (n, m).

    Before an estimator with ``metric="precomputed"``: nearest neighbours, DBSCAN, HDBSCAN, t-SNE;
    also those of other packages, as UMAP. Rows are real, see :func:`to_rows`.

    Args:
        metric: maps complex latents (n, d) to Hermitian matrices (n, d, d), row by row:
            ``potential.metric``, or ``partial(fisher_metric, decoder)``; None is the Euclidean
            one of rows. One that computes in a single precision has rows converted to it.
        along: ``line`` or ``geodesic``, see :func:`~kahlervae.geometry.distance.distance`.
        steps: T of the curves.
        points: of a geodesic that are free.
        memory: bytes beyond the result that may be taken, by and large.

    Raises:
        ValueError: rows are not real and finite, or their number of columns is not that of fit;
            also an InputError of :func:`~kahlervae.geometry.distance.distances`, and for an odd
            number of columns.

    Example:
        >>> from sklearn.neighbors import KNeighborsClassifier
        >>> from sklearn.pipeline import make_pipeline
        >>> disc = lambda z: ((1 - z.abs() ** 2) ** -2).to(z.dtype)[..., None]  # (n, 1, 1)
        >>> nearest = KNeighborsClassifier(1, metric="precomputed")
        >>> classifier = make_pipeline(DistanceTransformer(disc, steps=64), nearest)
        >>> rows = to_rows(torch.tensor([[0j], [0.96 + 0j]]))
        >>> classifier = classifier.fit(rows, ["centre", "rim"])
        >>> classifier.predict(to_rows(torch.tensor([[0.6 + 0j]]))).tolist()  # Euclidean: rim
        ['centre']
    """

    def __init__(
        self,
        metric: Metric | None = None,
        along: Along = "line",
        steps: int = 16,
        points: int = 7,
        memory: int = MEMORY,
    ) -> None:
        self.metric = metric
        self.along = along
        self.steps = steps
        self.points = points
        self.memory = memory

    def fit(self, X: Any, y: Any = None) -> "DistanceTransformer":
        """Keep the rows from which distances are taken."""
        self.rows_ = validate_data(self, X, dtype=[np.float64, np.float32])
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Distances (n, m) of rows from those of the fit."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self._distances(rows, self.rows_.astype(rows.dtype, copy=False))

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Distances (n, n) of all pairs, symmetric, each of which is joined once."""
        rows = self.fit(X, y).rows_
        return self._distances(rows, None)

    def _distances(self, a: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        if self.metric is None:
            # Of differences: products of rows, as in sklearn's own, leave 1e-8 on the diagonal.
            found: np.ndarray = cdist(a, a if b is None else b).astype(a.dtype, copy=False)
            return found
        # Copies: torch takes no rows in reverse order, and warns of those that are not writeable.
        z = [to_complex(torch.from_numpy(x.copy())) for x in (a, b) if x is not None]
        dtype = _precision(self.metric, z[0])
        first, second = z[0].to(dtype), None if b is None else z[1].to(dtype)
        settings = (self.along, self.steps, self.points, self.memory)
        return distances(self.metric, first, second, *settings).cpu().numpy()


def _precision(metric: Metric, z: torch.Tensor) -> torch.dtype:
    """That of the latents, or the other one if a metric computes only in that.

    Rows have mostly double precision, and trained models single.
    """
    for dtype in (z.dtype, *COMPLEX):
        with suppress(Exception), torch.no_grad():  # distances refuse it in a sentence
            if metric(z[:1].to(dtype)).dtype == dtype:
                return dtype
    return z.dtype
