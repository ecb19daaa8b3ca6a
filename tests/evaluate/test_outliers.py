"""Outlier scores against double loops and closed forms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kahlervae.errors import InputError
from kahlervae.evaluate.outliers import (
    density,
    neighbour_distance,
    neighbour_radii,
    outlier_share,
    pairwise_distances,
    threshold,
)


def cloud(seed, n, features=6):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, features, generator=random, dtype=torch.float64)


def test_distances_keep_their_digits_far_from_the_origin():
    a, b = cloud(0, 40).float() + 10, cloud(1, 50).float() + 10
    naive = torch.stack([torch.stack([(x - y).norm() for y in b.double()]) for x in a.double()])
    torch.testing.assert_close(pairwise_distances(a, b), naive, rtol=1e-6, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_radii_and_density_against_loops(seed, k):
    real, samples = cloud(seed, 12), cloud(seed + 1, 9)
    radii = [
        sorted((real[i] - real[j]).norm().item() for j in range(12) if j != i)[k - 1]
        for i in range(12)
    ]
    found = neighbour_radii(pairwise_distances(real, real), k)
    torch.testing.assert_close(found, torch.tensor(radii, dtype=torch.float64))
    inside = sum((real[i] - x).norm().item() <= radii[i] for i in range(12) for x in samples)
    distances = pairwise_distances(real, samples)
    assert density(distances, found, k) == pytest.approx(inside / (k * 9))
    nearest = [sorted((x - r).norm().item() for r in real)[k - 1] for x in samples]
    torch.testing.assert_close(
        neighbour_distance(distances.T, k), torch.tensor(nearest, dtype=torch.float64)
    )


def test_duplicates_count_as_neighbours():
    points = torch.tensor([[0.0], [0.0], [3.0]])
    distances = (points - points.T).abs().double()
    assert neighbour_radii(distances, 1).tolist() == [0, 0, 3]
    assert neighbour_radii(distances, 2).tolist() == [3, 3, 3]


def test_real_data_score_one_minus_the_quantile():
    reference, held_out, test = cloud(0, 1000), cloud(1, 4000), cloud(2, 4000)
    knn = [
        neighbour_distance(pairwise_distances(x, reference), 5) for x in (held_out, test, 4 * test)
    ]
    limit = threshold(knn[0], 0.95)
    assert outlier_share(knn[0], limit) == pytest.approx(0.05)
    assert outlier_share(knn[1], limit) == pytest.approx(0.05, abs=0.015)
    assert outlier_share(knn[2], limit) > 0.9


def test_density_of_real_data_is_one():
    real, more = cloud(0, 2000), cloud(1, 2000)
    radii = neighbour_radii(pairwise_distances(real, real), 5)
    assert density(pairwise_distances(real, more), radii, 5) == pytest.approx(1, abs=0.1)
    assert density(pairwise_distances(real, more + 100), radii, 5) == 0


def test_bad_input():
    distances = torch.zeros(3, 4)
    with pytest.raises(InputError, match="4 points cannot give 5 nearest neighbours"):
        neighbour_distance(distances, 5)
    with pytest.raises(InputError, match="nearest neighbours"):
        neighbour_radii(torch.zeros(5, 5), 5)
    with pytest.raises(InputError, match="validation"):
        threshold(torch.zeros(0), 0.95)
