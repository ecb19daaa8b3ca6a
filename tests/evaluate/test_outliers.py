"""Outlier scores against double loops, closed forms, scipy and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis
from scipy.stats import chi2
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import cohen_kappa_score

from kahlervae.errors import InputError
from kahlervae.evaluate.outliers import (
    ClassGaussians,
    cohen_kappa,
    density,
    distances_within,
    nearest_distances,
    outlier_share,
    pairwise_distances,
    shrunk_covariance,
    threshold,
)


def cloud(seed, n, features=6):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, features, generator=random, dtype=torch.float64)


def test_distances_keep_their_digits_far_from_the_origin():
    a, b = cloud(0, 40).float() + 10, cloud(1, 50).float() + 10
    naive = torch.stack([torch.stack([(x - y).norm() for y in b.double()]) for x in a.double()])
    torch.testing.assert_close(pairwise_distances(a, b), naive, rtol=1e-6, atol=1e-6)
    nearest = naive.sort().values[:, :5]
    torch.testing.assert_close(nearest_distances(a, b, 5), nearest, rtol=1e-6, atol=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_radii_and_density_against_loops(seed, k):
    real, samples = cloud(seed, 12), cloud(seed + 1, 9)
    radii = [
        sorted((real[i] - real[j]).norm().item() for j in range(12) if j != i)[k - 1]
        for i in range(12)
    ]
    found = distances_within(real, k).radii
    torch.testing.assert_close(found, torch.tensor(radii, dtype=torch.float64))
    inside = sum((real[i] - x).norm().item() <= radii[i] for i in range(12) for x in samples)
    distances = pairwise_distances(real, samples)
    assert density(distances, found, k) == pytest.approx(inside / (k * 9))
    nearest = [sorted((x - r).norm().item() for r in real)[:k] for x in samples]
    torch.testing.assert_close(
        nearest_distances(samples, real, k), torch.tensor(nearest, dtype=torch.float64)
    )


def test_duplicates_count_as_neighbours():
    points = torch.tensor([[0.0], [0.0], [3.0]])
    assert distances_within(points, 1).radii.tolist() == [0, 0, 3]
    assert distances_within(points, 2).radii.tolist() == [3, 3, 3]


def test_neighbours_in_single_precision_are_those_in_double():
    """Features as oracles give them, more of them than fit into one block."""
    features = cloud(0, 700, 64).relu() + 2
    others = cloud(1, 300, 64).relu() + 2
    single, exact = distances_within(features.float(), 5), distances_within(features, 5)
    torch.testing.assert_close(single.radii, exact.radii, rtol=1e-6, atol=0)
    assert single.mean_distance == pytest.approx(exact.mean_distance, rel=1e-6)
    torch.testing.assert_close(
        nearest_distances(features.float(), others.float(), 5),
        pairwise_distances(features, others).sort().values[:, :5],
        rtol=1e-6,
        atol=0,
    )


def test_real_data_score_one_minus_the_quantile():
    reference, held_out, test = cloud(0, 1000), cloud(1, 4000), cloud(2, 4000)
    knn = [nearest_distances(x, reference, 5)[:, -1] for x in (held_out, test, 4 * test)]
    limit = threshold(knn[0], 0.95)
    assert outlier_share(knn[0] > limit) == pytest.approx(0.05)
    assert outlier_share(knn[1] > limit) == pytest.approx(0.05, abs=0.015)
    assert outlier_share(knn[2] > limit) > 0.9


def test_density_of_real_data_is_one():
    real, more = cloud(0, 2000), cloud(1, 2000)
    radii = distances_within(real, 5).radii
    assert density(pairwise_distances(real, more), radii, 5) == pytest.approx(1, abs=0.1)
    assert density(pairwise_distances(real, more + 100), radii, 5) == 0


def classes(seed, n=400, features=5, k=3):
    """Points of k correlated Gaussians with one covariance, and their labels."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(k, (n,), generator=random)
    mixing, means = cloud(seed + 1, features, features), 3 * cloud(seed + 2, k, features)
    return means[labels] + cloud(seed + 3, n, features) @ mixing, labels


@pytest.mark.parametrize(("n", "features"), [(400, 5), (12, 30), (6, 1)])
def test_shrunk_covariance_is_that_of_scikit_learn(n, features):
    x = cloud(0, n, features) @ cloud(1, features, features)
    x = x - x.mean(0)
    expected, _ = ledoit_wolf(x.numpy(), assume_centered=True)
    found = shrunk_covariance(x)
    torch.testing.assert_close(found, torch.from_numpy(expected))
    torch.linalg.cholesky(found)


@pytest.mark.parametrize("dead", [0, 2])
def test_mahalanobis_distance_is_that_of_scipy(dead):
    """Features that are zero for all real images included."""
    features, labels = classes(0)
    features = torch.cat([features, torch.zeros(400, dead)], 1)
    means = {c: features[labels == c].mean(0) for c in range(3)}
    deviations = torch.stack([x - means[int(c)] for x, c in zip(features, labels, strict=True)])
    precision = np.linalg.inv(shrunk_covariance(deviations).numpy())
    points = cloud(9, 50, 5 + dead)
    expected = [
        min(mahalanobis(x.numpy(), mean.numpy(), precision) ** 2 for mean in means.values())
        for x in points
    ]
    # Names of the classes are of no matter.
    found = ClassGaussians(features, 7 * labels + 2).distance(points)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_mahalanobis_distance_is_that_of_linear_discriminants(monkeypatch):
    """Without shrinkage: the largest log density of a class by scikit-learn's discriminants."""
    monkeypatch.setattr("kahlervae.evaluate.outliers.shrunk_covariance", lambda x: x.T @ x / len(x))
    features, labels = classes(3)
    lda = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True)
    lda.fit(features.numpy(), labels.numpy())
    points = cloud(8, 40, 5).numpy()
    log_density = lda.decision_function(points) - np.log(lda.priors_)
    square = np.einsum("ni,ni->n", points, np.linalg.solve(lda.covariance_, points.T).T)
    found = ClassGaussians(features, labels).distance(torch.from_numpy(points))
    np.testing.assert_allclose(found, square - 2 * log_density.max(1))


def test_mahalanobis_distance_of_real_data_is_a_chi_square():
    features, labels = classes(5, n=20_000, k=1)
    distances = ClassGaussians(features[:10_000], labels[:10_000]).distance(features[10_000:])
    for quantile in (0.05, 0.5, 0.95):
        share = (distances <= chi2.ppf(quantile, 5)).double().mean().item()
        assert share == pytest.approx(quantile, abs=0.01)


def test_kappa_is_that_of_scikit_learn():
    random = torch.Generator().manual_seed(0)
    first, noise, turned = (torch.rand(500, generator=random) for _ in range(3))
    first = first < 0.1
    for second in (first, noise < 0.2, first ^ (turned < 0.05), ~first):
        expected = cohen_kappa_score(first.numpy(), second.numpy())
        assert cohen_kappa(first, second) == pytest.approx(expected)
    assert cohen_kappa(first, first) == pytest.approx(1)
    nothing = torch.zeros(5, dtype=torch.bool)
    assert math.isnan(cohen_kappa(nothing, nothing))


def test_bad_input():
    with pytest.raises(InputError, match="3 training images of 3 classes are too alike"):
        ClassGaussians(cloud(0, 3), torch.arange(3))
    with pytest.raises(InputError, match="4 points cannot give 5 nearest neighbours"):
        nearest_distances(torch.zeros(3, 2), torch.zeros(4, 2), 5)
    with pytest.raises(InputError, match="5 points cannot give 5 nearest neighbours of each other"):
        distances_within(torch.zeros(5, 2), 5)
    with pytest.raises(InputError, match="validation"):
        threshold(torch.zeros(0), 0.95)
