"""Distances against closed forms, against each other, and bad input."""

import math

import pytest
import torch
from geometry.decoders import points
from geometry.test_curvature import ball, fubini_study
from geometry.test_geodesic import MODEL_SPACES, mixture
from torch import distributions as dist

from kahlervae.errors import InputError
from kahlervae.geometry import (
    Manifold,
    closedness_defect,
    distance,
    distances,
    estimate_hermitian_defect,
    fisher_metric,
    geodesics,
    nearest,
    ricci,
    scalar_curvature,
)
from kahlervae.geometry.geodesic import christoffel
from kahlervae.measure.cost import _peak_memory


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize(("metric", "exact"), MODEL_SPACES)
def test_distances_of_the_model_spaces(metric, exact, d):
    a, b = 0.3 * points(4, d) / d, 0.3 * points(5, d, seed=1) / d
    found = distances(metric, a, b, along="geodesic", steps=48, points=20)
    expected = exact(a[:, None], b[None])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)
    lines = distances(metric, a, b, steps=48)
    assert (lines > (1 - 1e-3) * expected).all()
    assert (lines > (1 + 1e-3) * expected).any()  # further than the tolerance


def test_lines_through_the_origin_are_geodesics():
    z = 0.3 * points(6, 2)
    origin = torch.zeros_like(z)
    radius = z.norm(dim=1)
    for metric, exact in ((fubini_study, radius.arctan()), (ball, radius.arctanh())):
        torch.testing.assert_close(distance(metric, origin, z, steps=256), exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("along", ["line", "geodesic"])
def test_all_pairs_are_the_single_ones_whatever_the_memory(along):
    metric = mixture(2).metric
    a = points(5, 2)
    settings = {"along": along, "steps": 6, "points": 3}
    found = distances(metric, a, **settings)
    for i in range(5):
        alone = distance(metric, a[i : i + 1].expand(5, 2), a, **settings)
        torch.testing.assert_close(found[i], alone, rtol=1e-5, atol=1e-9)
    assert (found.diagonal() == 0).all()
    assert torch.equal(found, found.T)
    least = distances(metric, a, **settings, memory=1)
    torch.testing.assert_close(found, least, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(found, distances(metric, a, a, **settings), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("memory", [1, 1 << 30])
def test_nearest(memory):
    metric = mixture(2).metric
    a, b = points(6, 2), points(9, 2, seed=1)
    values, indices = nearest(metric, a, b, 4, memory=memory)
    matrix = distances(metric, a, b)
    torch.testing.assert_close(values, matrix.sort(dim=1).values[:, :4])
    torch.testing.assert_close(matrix.gather(1, indices), values)
    twice = nearest(metric, a, b[[3, 3, 3]], 2, memory=memory)[1]
    assert twice.tolist() == [[0, 1]] * 6


def flat(z):
    return torch.eye(z.shape[1], dtype=z.dtype).expand(len(z), -1, -1)


@pytest.mark.parametrize("symmetric", [True, False])
def test_beside_the_result_all_pairs_take_no_more_than_their_memory(symmetric):
    a, memory = points(200, 2), 1 << 17
    b = None if symmetric else points(200, 2, seed=1)

    def call():
        return distances(flat, a, b, steps=1, memory=memory)

    result = 200 * 200 * 8
    assert _peak_memory(call, torch.device("cpu")) < result + memory


def test_neighbours_take_no_more_than_their_memory():
    a, b, memory = points(200, 2), points(200, 2, seed=1), 1 << 17

    def call():
        return nearest(flat, a, b, 3, steps=1, memory=memory)

    assert _peak_memory(call, torch.device("cpu")) < 2 * memory < 200 * 200 * 8


def test_no_points():
    none, z = points(0, 2), points(3, 2)
    metric = mixture(2).metric
    assert distance(metric, none, none).shape == (0,)
    assert distances(metric, none).shape == (0, 0)
    assert distances(metric, z, none).shape == (3, 0)
    assert [part.shape for part in nearest(metric, none, z, 2)] == [(0, 2), (0, 2)]


def test_numbers_that_are_none_are_refused():
    z, metric = points(3, 2), mixture(2).metric
    for steps in (0, 2.5, "4"):
        for joined in (
            lambda steps: distance(metric, z, z, steps=steps),
            lambda steps: distances(metric, z, steps=steps),
            lambda steps: geodesics(metric, z, z, steps, 1),
            lambda steps: Manifold(metric, steps).exp(z, z),
            lambda steps: Manifold(metric, steps).log(z, z),
        ):
            with pytest.raises(InputError, match=f"steps of a .* is {steps!r}: give a whole"):
                joined(steps)
    for count in (0, 2.5, "1"):
        with pytest.raises(InputError, match=f"points of a curve is {count!r}: give a whole"):
            distance(metric, z, z, "geodesic", points=count)
        with pytest.raises(InputError, match=f"number of neighbours, is {count!r}: give a whole"):
            nearest(metric, z, z, count)


@pytest.mark.parametrize("memory", ["1GB", None, math.nan, math.inf])
def test_memory_is_a_number(memory):
    z, metric = points(3, 2), mixture(2).metric
    for take in (
        lambda: distance(metric, z, z, memory=memory),
        lambda: distances(metric, z, memory=memory),
        lambda: nearest(metric, z, z, 1, memory=memory),
        lambda: geodesics(metric, z, z, 4, 1, memory=memory),
        lambda: Manifold(metric, 4, memory).exp(z, z),
        lambda: closedness_defect(metric, z, memory),
        lambda: scalar_curvature(metric, z, memory),
        lambda: fisher_metric(lambda z: dist.Normal(z.real, 1.0), z, memory),
        lambda: estimate_hermitian_defect(lambda z: dist.Normal(z.real, 1.0), z, memory=memory),
    ):
        with pytest.raises(InputError, match=f"memory, a number of bytes, is {memory!r}: give a"):
            take()


def test_bad_input():
    z = points(3, 2)
    metric = mixture(2).metric
    with pytest.raises(InputError, match="differ in shape"):
        distance(metric, z, z[:2])
    with pytest.raises(InputError, match=r"a has 2 dimensions .* and b has 1"):
        distances(metric, z, z[:, :1])
    with pytest.raises(InputError, match="give equal ones"):
        distances(metric, z, z.to(torch.complex64))
    with pytest.raises(InputError, match="take 'line' or 'geodesic'"):
        distance(metric, z, z, along="curve")
    with pytest.raises(InputError, match="take more steps than points"):
        distance(metric, z, z, along="geodesic", steps=4, points=4)
    with pytest.raises(InputError, match="no 4 nearest of 3 points"):
        nearest(metric, z, z, 4)

    def with_hole(z):
        return torch.where(z.abs().sum(1) < 1e-3, torch.nan, 1.0)[:, None, None] * metric(z)

    with pytest.raises(InputError, match="of 3 curves is not finite"):
        distance(with_hole, z, -z, steps=3)
    for bad, words in (
        (lambda z: torch.nan * metric(z), "metric is not finite at"),
        (lambda z: -metric(z), "has the eigenvalue -"),
        (lambda z: metric(z) + torch.triu(torch.ones(2, 2), 1), "not Hermitian at"),
        (lambda z: metric(z)[:1], r"returns the shape \(1, 2, 2\) for latents \(2, 2\)"),
        (lambda z: metric(z).real, "is float64 where the latents are complex128"),
        (lambda z: dist.Normal(z.real, 1.0), r"of a decoder give functools.partial"),
        (mixture(2), "give its method metric"),
        (lambda z: z @ torch.ones(3, 3), r"fails at latents of shape \(2, 2\) \("),
    ):
        for function in (
            lambda m: distance(m, z, -z),
            lambda m: geodesics(m, z, -z, 4, 3),
            lambda m: closedness_defect(m, z),
            lambda m: ricci(m, z),
            lambda m: christoffel(m, z),
            lambda m: Manifold(m).exp(z, z),
        ):
            with pytest.raises(InputError, match=words):
                function(bad)
