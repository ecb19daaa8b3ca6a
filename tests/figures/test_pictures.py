"""Samples of any shape become pictures that show what they hold."""

import numpy as np
import pytest

from kahlervae.figures.images import _alike, tile
from kahlervae.figures.pictures import pictures

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "kind", "expected"),
    [
        ((8, 9), "real", (8, 9)),
        ((8, 9, 3), "real", (8, 9, 3)),
        ((8, 9, 4), "real", (8, 9, 3)),
        ((8, 9, 1), "real", (8, 9)),
        ((8, 9, 2), "real", (8, 9)),
        ((2, 3, 8, 9), "real", (48, 9 * 5)),
        ((4, 8, 9, 3), "real", (32, 9 * 3, 3)),
        ((4, 8, 9, 1), "complex", (32, 9 * 3, 3)),
        ((100,), "real", (64, 64)),
        ((1,), "real", (64, 64)),
        ((5000,), "real", (64, 64)),
        ((7,), "complex", (64, 64, 3)),
        ((8, 9), "complex", (8, 9, 3)),
        ((8, 9, 2), "complex", (8, 9, 3)),
    ],
)
def test_every_shape_has_a_picture(shape, kind, expected):
    views = RANDOM.normal(size=(5, *shape))
    if kind == "complex":
        views = views + 1j * RANDOM.normal(size=views.shape)
    found = pictures(views)
    assert found.shape == (5, *expected)
    assert found.min() >= 0
    assert found.max() <= 1
    assert not np.isnan(found).any()
    views[2] = np.nan
    blank = pictures(views)
    assert np.isnan(blank[2]).all() or shape[-1:] == (100,) or (len(shape) == 1 and kind == "real")
    assert tile(blank, 3).shape[2:] == found.shape[3:]


def test_shades_within_bounds_are_kept():
    views = RANDOM.random((3, 6, 6))
    assert (pictures(views) == views).all()


def test_phase_is_the_hue_and_modulus_its_strength():
    views = np.array([[[1, -1, 1j, 0]]], dtype=complex).repeat(4, axis=1)
    red, cyan, green, white = pictures(views)[0, 0]
    assert red.argmax() == 0
    assert cyan.argmin() == 0
    assert green.argmax() == 1
    assert (white == 1).all()


def test_what_is_transparent_is_white():
    drawn = np.array([[[[0.5, 0.2, 0, 1], [0.5, 0.2, 0, 0], [0.5, 0.2, 0, 0.5]]] * 3])
    np.testing.assert_allclose(pictures(drawn)[0, 0], [[0.5, 0.2, 0], [1, 1, 1], [0.75, 0.6, 0.5]])


def test_frames_in_colour_lie_one_below_the_other():
    frames = RANDOM.random((2, 3, 8, 9, 3))
    assert (pictures(frames)[:, 8:16] == frames[:, 1]).all()


def test_channels_of_opposite_phase_do_not_cancel():
    coil = RANDOM.normal(size=(4, 6, 6)) + 1j
    drawn = pictures(np.stack([coil, -0.5 * coil], axis=-1))
    np.testing.assert_allclose(drawn, pictures(coil))


def test_a_line_lies_where_its_values_are():
    rising = pictures(np.linspace(0, 1, 200)[None])[0]
    rows = rising.argmax(axis=0)
    assert rows[0] > 55
    assert rows[-1] < 8
    assert (np.diff(rows) <= 0).all()
    modulus = pictures(np.exp(2j * np.pi * np.arange(50) / 50)[None])[0]
    dark = 1 - modulus[:45].mean(axis=2)
    assert (dark.argmax(axis=0) == dark.argmax(axis=0)[0]).all()  # constant


@pytest.mark.parametrize("kind", [float, complex])
def test_lines_and_what_is_white_all_over_have_a_frame(kind):
    drawn = pictures(np.stack([np.full(50, 0.5), np.linspace(0, 1, 50)]).astype(kind))
    light = drawn if kind is complex else 1 - drawn
    for edge in (light[:, 0], light[:, -1], light[:, :, 0], light[:, :, -1]):
        assert (edge.reshape(len(edge), len(edge[0]), -1).min(axis=2) <= 0.8 + 1e-9).all()
    silence, sound = pictures(np.stack([np.zeros((8, 9)), np.eye(8, 9)]))
    np.testing.assert_allclose(silence[0], 0.2)
    assert silence[1:-1, 1:-1].max() == 0
    assert (sound == np.eye(8, 9)).all()


def test_views_of_several_panels_are_drawn_on_one_scale():
    soft, loud = RANDOM.normal(size=(2, 3, 40)) * [[[1]], [[10]]]
    apart = pictures(soft)
    together = _alike({"soft": soft, "loud": loud})
    assert (together["loud"] == pictures(np.concatenate([soft, loud]))[3:]).all()
    assert (np.ptp(together["soft"].argmax(axis=1)) < np.ptp(apart.argmax(axis=1))).all()
    assert _alike({}) == {}
