"""The transformer in scikit-learn's own checks, and before its estimators."""

import re
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from geometry.decoders import points
from geometry.test_curvature import ball
from geometry.test_geodesic import ball_distance
from sklearn.cluster import HDBSCAN
from sklearn.datasets import make_blobs
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from torch.distributions import Normal

from kahlervae.errors import InputError
from kahlervae.geometry import MixturePotential, fisher_metric
from kahlervae.geometry.latents import complexify, to_complex
from kahlervae.sklearn import DistanceTransformer, to_rows

PAGE = Path(__file__).parents[1] / "docs/distances.md"


def test_estimator():
    check_estimator(DistanceTransformer())


def test_rows_and_their_distances():
    z = 0.2 * points(7, 2)
    rows = to_rows(z)
    torch.testing.assert_close(to_complex(torch.from_numpy(rows)), z)
    transformer = DistanceTransformer(ball, along="geodesic", steps=32, points=12)
    exact = ball_distance(z[:, None], z[None]).numpy()
    together = transformer.fit_transform(rows)
    off = ~np.eye(7, dtype=bool)
    np.testing.assert_allclose(together[off], exact[off], rtol=1e-3)
    np.testing.assert_allclose(transformer.transform(rows[:3]), together[:3], rtol=1e-5, atol=1e-9)


def test_neighbours_are_those_of_the_metric():
    """The axis that the metric stretches tells the classes, the other one is noise."""
    rows = np.random.default_rng(0).normal(size=(80, 4)) * [1, 30, 1, 30]
    classes = (rows[:, 0] > 0).astype(int)
    stretched = torch.diag(torch.tensor([1.0, 1e-6])).to(torch.complex128)
    scores = []
    for metric in (None, lambda z: stretched.expand(len(z), 2, 2)):
        nearest = KNeighborsClassifier(1, metric="precomputed")
        pipe = make_pipeline(DistanceTransformer(metric, steps=1), nearest)
        scores.append(pipe.fit(rows[:40], classes[:40]).score(rows[40:], classes[40:]))
    assert scores[0] < 0.75 < 0.8 < scores[1]


def test_clusters():
    rows, classes = make_blobs(60, 2, centers=[[0, 0], [9, 9]], random_state=0)
    matrix = DistanceTransformer(lambda z: torch.ones_like(z)[..., None]).fit_transform(rows)
    found = HDBSCAN(metric="precomputed", copy=True).fit_predict(matrix)
    kept = found >= 0
    assert kept.mean() > 0.8
    assert len({*zip(found[kept], classes[kept], strict=True)}) == 2


@pytest.mark.parametrize(
    "view", [lambda x: x[::-1], lambda x: x[:, ::-1], lambda x: x[::2], np.asfortranarray]
)
def test_rows_lie_in_memory_as_they_will(view):
    rows = np.random.default_rng(0).normal(size=(6, 4))
    rows.flags.writeable = False
    flat = DistanceTransformer(lambda z: torch.eye(2, dtype=z.dtype).expand(len(z), 2, 2), steps=1)
    expected = DistanceTransformer().fit(rows).transform(view(rows)) / 2**0.5
    np.testing.assert_allclose(flat.fit(rows).transform(view(rows)), expected)
    flat.fit_transform(view(rows))


@pytest.mark.parametrize("own", [torch.complex64, torch.complex128])
def test_rows_have_the_precision_of_the_metric(own):
    potential = MixturePotential.constant(2 * torch.eye(2, dtype=own))
    decoder = torch.nn.Linear(4, 3, dtype=own.to_real())
    metrics = (
        potential.metric,
        partial(fisher_metric, complexify(lambda u: Normal(decoder(u), 1.0))),
    )
    rows = np.random.default_rng(0).normal(size=(6, 4))
    for metric, dtype in product(metrics, (np.float32, np.float64)):
        transformer = DistanceTransformer(metric)
        together = transformer.fit_transform(rows.astype(dtype))
        assert torch.from_numpy(together).dtype == own.to_real()
        apart = transformer.transform(rows[:3].astype(dtype))
        np.testing.assert_allclose(apart, together[:3], rtol=1e-3, atol=1e-5)


def test_odd_rows():
    with pytest.raises(InputError, match="odd dimension 3"):
        DistanceTransformer(lambda z: z).fit_transform(np.ones((2, 3)))


def test_example_of_the_page_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), {})
    said = capsys.readouterr().out
    shares = [float(value) for value in re.findall(r"0\.\d+", said)]
    assert len(shares) == 4
    assert min(shares) > 0.7
    assert min(map(int, re.findall(r"(\d+) clusters", said))) > 4
