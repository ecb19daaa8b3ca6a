import pytest
import torch
from geometry.decoders import points

from kahlervae.errors import InputError
from kahlervae.geometry import affine_invariant_distance, best_constant_metric, relative_error


def random_metrics(count, d, seed=0):
    factor = points(count * d, d, seed).unflatten(0, (count, d))
    return factor @ factor.mH + 0.1 * torch.eye(d)


def test_distance_is_invariant_under_changes_of_coordinates_and_symmetric():
    a, b, change = random_metrics(5, 3), random_metrics(5, 3, 1), points(3, 3, 2)
    distance = affine_invariant_distance(a, b)
    torch.testing.assert_close(affine_invariant_distance(b, a), distance)
    moved = affine_invariant_distance(change @ a @ change.mH, change @ b @ change.mH)
    torch.testing.assert_close(moved, distance)


def test_distance_of_a_multiple():
    a = random_metrics(4, 3)
    expected = torch.full((4,), 3**0.5 * 0.5, dtype=torch.float64)
    torch.testing.assert_close(affine_invariant_distance(a * 2.718281828459045**0.5, a), expected)


@pytest.mark.parametrize("bad", [0.0, torch.nan, torch.inf])
def test_a_best_constant_is_that_of_metrics(bad):
    metrics = random_metrics(3, 2)
    metrics[1] = bad
    with pytest.raises(InputError, match="1 of 3 metrics are 0, not finite, or too large"):
        best_constant_metric(metrics)
    with pytest.raises(InputError, match="there are no metrics"):
        best_constant_metric(metrics[:0])


def test_best_constant_is_a_minimum():
    metrics = random_metrics(50, 2)
    best = best_constant_metric(metrics)
    loss = relative_error(best, metrics).square().mean()
    for seed in range(20):
        step = 1e-3 * random_metrics(1, 2, seed)[0] * (-1) ** seed
        assert relative_error(best + step, metrics).square().mean() > loss


def test_relative_error_of_a_multiple():
    metrics = random_metrics(3, 2)
    assert relative_error(1.25 * metrics, metrics).tolist() == pytest.approx([0.25] * 3)


def test_a_singular_metric_is_infinitely_far():
    """As of a decoder that ignores its latents: of size 0, or so small that its inverse is none."""
    flat = torch.eye(2, dtype=torch.complex64)
    tiny = torch.stack([0 * flat, 1e-30 * flat, torch.diag(torch.tensor([1, 1e-45])) + 0j])
    found = affine_invariant_distance(flat.expand(3, 2, 2), tiny)
    assert found.isinf().tolist() == [True, False, False]
    assert not found.isnan().any()


def test_relative_errors_of_tiny_and_huge_metrics():
    flat = torch.eye(2, dtype=torch.complex64).expand(3, 2, 2)
    for size in (1e-30, 1e30):
        assert torch.allclose(relative_error(1.5 * size * flat, size * flat), torch.tensor(0.5))
