"""Smoothness of paths against closed forms."""

import math

import pytest
import torch

from kahlervae.evaluate.smoothness import (
    label_flips,
    latent_lines,
    pairs,
    path_length,
    relative_acceleration,
    speed_variation,
    total_variation,
    turning,
)


def arc(angle, steps, radius=1.0):
    """An arc of a circle in a random plane through the space of 3×4 images."""
    random = torch.Generator().manual_seed(0)
    plane = torch.linalg.qr(torch.randn(12, 2, generator=random, dtype=torch.float64)).Q
    t = torch.linspace(0, angle, steps + 1, dtype=torch.float64)
    points = radius * torch.stack([t.cos(), t.sin()], 1) @ plane.T
    return points.reshape(1, steps + 1, 3, 4)


@pytest.mark.parametrize("angle", [0.3, math.pi, 2 * math.pi])
@pytest.mark.parametrize("steps", [4, 16, 200])
def test_acceleration_of_an_arc_is_its_angle(angle, steps):
    # T²·4R sin²(δ/2) over a length of 2RT sin(δ/2), δ = θ/T: 2T sin(δ/2) → θ.
    value = relative_acceleration(arc(angle, steps)).item()
    assert value == pytest.approx(2 * steps * math.sin(angle / steps / 2))
    if steps == 200:
        assert value == pytest.approx(angle, rel=1e-3)


def test_acceleration_has_no_unit():
    expected = relative_acceleration(arc(2.0, 16))
    torch.testing.assert_close(relative_acceleration(arc(2.0, 16, radius=0.01) + 3), expected)


def test_acceleration_of_lines():
    ends = torch.rand(2, 3, 4, dtype=torch.float64)
    t = torch.linspace(0, 1, 17, dtype=torch.float64)[:, None, None]
    straight = (ends[0] + t * (ends[1] - ends[0]))[None]
    assert relative_acceleration(straight).item() == pytest.approx(0, abs=1e-10)
    # x = t²: the acceleration is 2 everywhere, the length 1.
    assert relative_acceleration((t**2 * ends[0])[None]).item() == pytest.approx(2)
    assert relative_acceleration(straight[:, :1].expand(1, 17, 3, 4)).item() == 0


@pytest.mark.parametrize("angle", [1e-3, 0.3, math.pi, 2 * math.pi])
@pytest.mark.parametrize("steps", [4, 16, 200])
def test_an_arc_turns_at_constant_speed(angle, steps):
    path = arc(angle, steps)
    assert turning(path).item() == pytest.approx(angle * (steps - 1) / steps, rel=1e-6)
    assert speed_variation(path).item() == pytest.approx(0, abs=1e-8)


def test_a_line_has_changes_of_speed_alone():
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    direction = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    path = (t**2)[None, :, None] * direction
    assert turning(path).item() == pytest.approx(0, abs=1e-9)
    # Speeds 2t: standard deviation 1/√3 to a mean of 1.
    assert speed_variation(path).item() == pytest.approx(3**-0.5, rel=1e-5)
    for part in (turning, speed_variation, relative_acceleration):
        torch.testing.assert_close(part(1e-3 * path), part(path), atol=1e-6, rtol=1e-6)


def test_steps_of_no_length_do_not_turn():
    still = torch.zeros(1, 5, 2)
    assert turning(still).item() == speed_variation(still).item() == 0
    pause = torch.tensor([[[0.0, 0], [1, 0], [1, 0], [1, 1]]])
    assert turning(pause).item() == 0


def test_a_reversal_turns_by_pi_and_complex_paths_are_real_ones():
    back = torch.tensor([[[0.0], [1], [0]]])
    assert turning(back).item() == pytest.approx(math.pi)
    path = torch.randn(3, 9, 4, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    for part in (turning, speed_variation):
        torch.testing.assert_close(part(path), part(torch.view_as_real(path)))


def test_a_path_that_is_not_finite_is_not_smooth():
    paths = torch.randn(2, 6, 3, dtype=torch.float64)
    paths[0, 2, 1] = math.nan
    for measure in (relative_acceleration, speed_variation, turning):
        lost, kept = measure(paths)
        assert lost.isnan()
        assert kept > 0


def test_path_length_and_label_flips():
    features = torch.tensor([[[0.0, 0], [3, 4], [3, 4]], [[0, 0], [0, 1], [0, 0]]])
    assert path_length(features).tolist() == [5, 2]
    labels = torch.tensor([[1, 1, 1, 1], [1, 1, 7, 7], [1, 2, 1, 2]])
    assert label_flips(labels).tolist() == [0, 1, 3]


def test_total_variation():
    assert total_variation(torch.full((2, 3, 4), 0.7)) == pytest.approx(0)
    edge = torch.zeros(1, 3, 4)
    edge[:, :, 2:] = 1
    assert total_variation(edge) == 3
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    images = torch.stack([board.double(), torch.zeros(8, 8)])
    assert total_variation(images) == 56
    blurred = torch.nn.functional.avg_pool2d(torch.rand(5, 10, 10), 3, 1)
    assert total_variation(blurred) < total_variation(torch.rand(5, 8, 8))


@pytest.mark.parametrize("shape", [(5, 1), (5, 1, 1), (5, 1, 1, 3)])
def test_single_numbers_have_no_variation(shape):
    assert math.isnan(total_variation(torch.rand(shape)))
    assert math.isnan(total_variation(torch.rand(shape)) / total_variation(torch.rand(shape)))


def test_lines_join_their_ends():
    z = torch.randn(2, 5, 3, dtype=torch.complex64)
    lines = latent_lines(z[0], z[1], 8)
    assert lines.shape == (5, 9, 3)
    torch.testing.assert_close(lines[:, 0], z[0])
    torch.testing.assert_close(lines[:, -1], z[1])
    torch.testing.assert_close(lines[:, 4], z.mean(0))
    assert lines.dtype == torch.complex64


def test_pairs_are_different_and_uniform():
    first, second = pairs(5, 5000, torch.Generator().manual_seed(0))
    assert (first != second).all()
    counts = torch.bincount(5 * first + second, minlength=25).reshape(5, 5)
    off_diagonal = counts[~torch.eye(5, dtype=torch.bool)]
    assert (off_diagonal - 250).abs().max() < 5 * math.sqrt(250)
    assert pairs(2, 4, torch.Generator().manual_seed(0)).shape == (2, 4)
