"""Variation scores against double loops and closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kahlervae.evaluate.outliers import distances_within, nearest_distances, pairwise_distances
from kahlervae.evaluate.variation import (
    class_entropy,
    coverage,
    novelty,
    recall,
    vendi_score,
)


def cloud(seed, n, features=6):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, features, generator=random, dtype=torch.float64)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.floats(0.1, 3))
def test_against_loops(seed, k, scale):
    real, samples = cloud(seed, 12), scale * cloud(seed + 1, 9)

    def radius(points, i):
        others = [(points[i] - points[j]).norm().item() for j in range(len(points)) if j != i]
        return sorted(others)[k - 1]

    def share(covered):
        return sum(covered) / 12

    distances = pairwise_distances(real, samples)
    naive_recall = share(
        any((r - samples[j]).norm() <= radius(samples, j) for j in range(9)) for r in real
    )
    naive_coverage = share(
        any((real[i] - x).norm() <= radius(real, i) for x in samples) for i in range(12)
    )
    within, real_radii = distances_within(samples, k), distances_within(real, k).radii
    assert recall(distances, within.radii) == pytest.approx(naive_recall)
    assert coverage(distances, real_radii) == pytest.approx(naive_coverage)
    medians = sorted(min((r - x).norm().item() for r in real) for x in samples)
    nearest = nearest_distances(samples, real, 3)
    assert novelty(nearest) == pytest.approx(medians[4])
    pairs = [(samples[i] - samples[j]).norm().item() for i in range(9) for j in range(9) if i != j]
    assert within.mean_distance == pytest.approx(sum(pairs) / 72, rel=1e-6)


def test_recall_falls_when_samples_collapse():
    real = cloud(0, 500)
    samples = cloud(1, 500)
    values = []
    for scale in (1.0, 0.3, 0.01):
        distances = pairwise_distances(real, scale * samples)
        values.append(recall(distances, distances_within(scale * samples, 5).radii))
    assert values[0] > 0.8 > values[1] > values[2]


@pytest.mark.parametrize(("n", "features"), [(5, 5), (5, 20), (20, 5)])
def test_vendi_of_identical_points_is_one(n, features):
    point = cloud(0, 1, features)
    assert vendi_score(point.expand(n, features), torch.zeros(features)) == pytest.approx(1)


@pytest.mark.parametrize("features", [6, 9])
def test_vendi_of_orthogonal_points_is_their_number(features):
    points = torch.diag(torch.arange(1.0, 10))[:6, :features] if features == 9 else torch.eye(6)
    assert vendi_score(points, torch.zeros(features)) == pytest.approx(6)
    repeated = points.repeat(7, 1)
    assert vendi_score(repeated, torch.zeros(features)) == pytest.approx(6)


def test_vendi_against_its_definition():
    features, centre = cloud(0, 30, 8) + 2, cloud(1, 1, 8)[0]
    kernel = torch.nn.functional.cosine_similarity(
        (features - centre)[:, None], (features - centre)[None], dim=-1
    )
    eigenvalues = torch.linalg.eigvalsh(kernel / 30).clamp_min(1e-300)
    expected = math.exp(-(eigenvalues * eigenvalues.log()).sum().item())
    assert vendi_score(features, centre) == pytest.approx(expected)
    shifted = cloud(2, 1, 8)[0]
    assert vendi_score(features + shifted, centre + shifted) == pytest.approx(expected)


def test_centring_keeps_vendi_from_saturating():
    features = cloud(0, 200, 8).abs() + 5  # as behind a rectifier: all in one direction
    assert vendi_score(features, torch.zeros(8)) < 1.2
    assert vendi_score(features, features.mean(0)) > 7


def test_vendi_ignores_points_at_the_centre():
    points = torch.cat([torch.eye(3), torch.zeros(2, 3)])
    assert vendi_score(points, torch.zeros(3)) == pytest.approx(3)
    assert vendi_score(torch.zeros(4, 3), torch.zeros(3)) == 1


def test_class_entropy():
    assert class_entropy(torch.arange(10).repeat(3)) == pytest.approx(math.log(10))
    assert class_entropy(torch.full((7,), 4)) == 0
    expected = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert class_entropy(torch.tensor([0, 5, 5, 5])) == pytest.approx(expected)
