"""The look of the figures: colours that all readers can tell apart, intervals, tiles."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from scipy import stats

from kahlervae.evaluate import UNJUDGED
from kahlervae.figures.images import tile
from kahlervae.figures.looks import POTENTIALS, SAMPLERS, VARIANTS, VERDICTS
from kahlervae.figures.style import (
    drawn,
    half_weight,
    handle,
    interval,
    judged_by,
    legend,
    quartiles,
)

# Machado, Oliveira & Fernandes 2009: full deficiency, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lab(color, vision):
    """CIELAB of a colour as seen by a reader (D65)."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(VISION[vision] @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(to_xyz @ seen / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("looks", [VARIANTS, POTENTIALS, VERDICTS])
def test_colours_differ_for_every_reader(looks, vision):
    """A difference of 10 is told apart at a glance; 2.3 is just noticeable."""
    colors = [lab(look.color, vision) for look in looks.values()]
    assert min(np.linalg.norm(a - b) for a, b in combinations(colors, 2)) > 10


@pytest.mark.parametrize("looks", [VARIANTS, POTENTIALS, VERDICTS, SAMPLERS])
def test_markers_and_lines_say_the_same_as_colours(looks):
    assert len({str(look.marker) for look in looks.values()}) == len(looks)
    if looks is VARIANTS:
        assert len({look.dashes for look in looks.values()}) == len(looks)


@pytest.mark.parametrize("width", [4, 7, 20])
def test_a_legend_stays_within_its_figure(width):
    figure = Figure(figsize=(width, 3))
    looks = [*POTENTIALS.values()]
    legend(figure, [handle(look) for look in looks], [handle(look) for look in SAMPLERS.values()])
    (box,) = figure.legends
    assert box.get_window_extent().width <= figure.bbox.width
    labels = [text.get_text() for text in box.get_texts() if text.get_text().strip()]
    assert sorted(labels) == sorted(look.label for look in [*looks, *SAMPLERS.values()])


def test_who_judged_is_said():
    frame = pd.DataFrame({"oracle": ["mlp", "cnn", "mlp"]})
    assert judged_by(frame) == "mean of 2 oracles"
    assert judged_by(frame.assign(oracle=UNJUDGED)) == "no oracle"


def test_interval_is_the_one_of_the_t_test():
    values = np.array([0.1, 0.4, 0.35, 0.8, np.nan])
    test = stats.ttest_1samp(values[:-1], 0).confidence_interval(0.95)
    np.testing.assert_allclose(interval(values), test)


@pytest.mark.parametrize("values", [[], [0.2, 0.4, np.nan]])
def test_few_values_have_no_interval(values):
    assert np.isnan(interval(values)).all()


def test_intervals_of_a_table_are_drawn_as_they_are():
    frame = pd.DataFrame({"x": [1, 2], "middle": [3.0, 5.0], "low": [2.5, 1.0], "high": [9.0, 6.0]})
    (ax,) = Figure().subplots(1, squeeze=False)[0]
    bars = {"linestyle": "none", "err_style": "bars", **drawn}
    sns.lineplot(quartiles(frame, "middle", "low", "high"), x="x", y="value", ax=ax, **bars)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), frame["middle"])
    (bars,) = ax.collections
    ends = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_array_equal(ends, frame[["low", "high"]])


def test_variants_of_ones_own_look_the_same_everywhere():
    assert VARIANTS["my_own"] == VARIANTS["my_own"]
    assert VARIANTS["my_own"].label == "my own"
    assert "my_own" not in VARIANTS


@pytest.mark.parametrize(
    ("alphas", "half"), [([-1.0, -0.5, -0.25, 0.25], -0.5), ([-0.5], -0.5), ([0.5, 1.0], 0.5)]
)
def test_half_weight(alphas, half):
    assert half_weight(alphas) == half


def test_tile_keeps_every_image_and_separates_them():
    images = np.random.default_rng(0).random((5, 20, 30))
    sheet = tile(images, columns=3)
    assert sheet.shape == (20 + 3 + 20, 30 + 3 + 30 + 3 + 30)
    np.testing.assert_array_equal(sheet[:20, 33:63], images[1])
    np.testing.assert_array_equal(sheet[23:, :30], images[3])
    assert np.isnan(sheet[20:23]).all()
    assert np.isnan(sheet[23:, 63:]).all()
