"""The page of the atlas in a browser: it draws, follows the pointer and the choices, offline."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from browser import needs_chromium, opened
from PIL import Image
from sklearn.datasets import load_digits

from kahlervae.errors import InputError
from kahlervae.figures.atlas import write_atlas
from kahlervae.figures.single_file import LARGEST
from kahlervae.storage import read_tensors, write_tensors

IDENTITY = {"dataset": "digits", "representation": "pixels", "variant": "kahler", "seed": 0}
N, EXTENT = 11, 2.5


@pytest.fixture
def atlas(tmp_path):
    """Arrays with a left half that decodes to blank images and a right half that decodes to ink."""
    random = torch.Generator().manual_seed(0)
    axis = torch.linspace(-EXTENT, EXTENT, N)
    images = (axis[None, :, None, None] > 0).float().expand(N, N, 8, 8).clone()
    fields = {
        name: torch.randn(N, N, generator=random)
        for name in ("log_det_fisher", "log_det_fitted", "ricci_scalar")
    }
    fields["ricci_scalar"][0, 0] = torch.nan
    content = {"axis": axis, "images": images, "oracles": torch.tensor(2), **fields}
    for key, x in (("prior:default", -1.0), ("volume:alpha=-0.5", 1.0)):
        content |= {
            f"points/{key}": torch.tensor([[x, 1.0], [x, -1.0]]),
            f"distances/{key}": torch.tensor([0.5, 1.25]),
            f"images/{key}": torch.tensor([0.25, 0.75])[:, None, None].expand(2, 8, 8),
            f"outliers/{key}": torch.tensor([0, 2]),
        }
    path = tmp_path / "atlas.safetensors"
    write_tensors(path, content, IDENTITY)
    return path


def ink(page, name):
    """Mean darkness, 0 to 1, of what a named view shows."""
    box = page.evaluate(
        """name => {
          const view = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name(name));
          const {left, top, width, height} = view.el.getBoundingClientRect();
          return {x: left + 4, y: top + 4, width: width - 8, height: height - 8};
        }""",
        name,
    )
    picture = Image.open(io.BytesIO(page.screenshot(clip=box))).convert("L")
    return 1 - np.asarray(picture).mean() / 255


def text(page, name):
    return page.evaluate("name => Bokeh.documents[0].get_model_by_name(name).text", name)


def choose(page, name, value):
    page.evaluate(
        "([name, value]) => { Bokeh.documents[0].get_model_by_name(name).value = value; }",
        [name, value],
    )


def point_at(page, x, y):
    """Move the pointer to a place of the map, given in its coordinates."""
    place = page.evaluate(
        """([x, y]) => {
          const plot = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name('map'));
          const {left, top} = plot.canvas_view.el.getBoundingClientRect();
          const {x_scale, y_scale} = plot.frame;
          return [left + x_scale.compute(x), top + y_scale.compute(y)];
        }""",
        [x, y],
    )
    page.mouse.move(*place)
    page.wait_for_timeout(200)


@needs_chromium
def test_page_follows_the_pointer_and_the_choices(atlas, tmp_path):
    out = tmp_path / "atlas.html"
    write_atlas(atlas, out)
    assert out.stat().st_size < LARGEST
    content, _ = read_tensors(atlas)
    with opened(out, 1280, 720) as page:
        page.wait_for_function(
            "window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle"
        )
        point_at(page, -1.5, 1.0)
        assert ink(page, "decoded") < 0.1  # white, in the frame of an image that shows nothing
        point_at(page, 1.5, 1.0)
        assert ink(page, "decoded") > 0.99
        assert "no point near" in text(page, "about")

        # The values are those of the nearest point of the grid: here exactly of one.
        point_at(page, 2.0, -1.5)
        values = {name: content[name][2, 9].item() for name in ("log_det_fisher", "ricci_scalar")}
        for value in values.values():
            assert f": {value:.2f}" in text(page, "values")

        point_at(page, -0.95, 1.05)
        assert ink(page, "sample") == pytest.approx(0.25, abs=0.02)
        assert "no outlier" in text(page, "about")
        point_at(page, -0.95, -0.95)
        assert ink(page, "sample") == pytest.approx(0.75, abs=0.02)
        assert "outlier by 2 of 2" in text(page, "about")
        assert "1.25 off the plane" in text(page, "about")

        choose(page, "set", "volume:alpha=-0.5")
        point_at(page, -0.95, -0.96)
        assert "no point near" in text(page, "about")
        point_at(page, 0.95, -0.96)
        assert "outlier by 2 of 2" in text(page, "about")

        before = page.screenshot()
        choose(page, "field", "ricci_scalar")
        page.wait_for_timeout(300)
        assert page.screenshot() != before
        # Everything is on a laptop's screen.
        size = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        assert page.evaluate(size) == [1280, 720]


@pytest.mark.parametrize("colours", [False, True])
def test_page_of_the_largest_run_opens_out_of_the_report(colours, tmp_path):
    """MNIST's size with as many families of samplers as there may be, 100 points each, or noise."""
    random = torch.Generator().manual_seed(0)
    digits = torch.tensor(load_digits().images / 16, dtype=torch.float32)[:, None]
    digits = torch.nn.functional.interpolate(digits, (28, 28), mode="bicubic").clamp(0, 1)[:, 0]
    if colours:  # wider than they are shown
        digits = torch.rand(100, 60, 80, 3, generator=random)
    axis = torch.linspace(-EXTENT, EXTENT, 33)
    images = digits[torch.randint(len(digits), (33, 33), generator=random)]
    content = {"axis": axis, "images": images, "oracles": torch.tensor(2)}
    for name in ("log_det_fisher", "log_det_fitted", "ricci_scalar"):
        content[name] = torch.randn(33, 33, generator=random)
    for k in range(16):
        key = f"volume:base=gmm,weight=local,metric={k},power=-4"
        content[f"points/{key}"] = torch.randn(100, 2, generator=random)
        content[f"distances/{key}"] = torch.rand(100, generator=random)
        content[f"images/{key}"] = digits[torch.randint(len(digits), (100,), generator=random)]
        content[f"outliers/{key}"] = torch.randint(3, (100,), generator=random)
    write_tensors(tmp_path / "atlas.safetensors", content, IDENTITY)
    write_atlas(tmp_path / "atlas.safetensors", tmp_path / "atlas.html")
    assert (tmp_path / "atlas.html").stat().st_size < LARGEST


def test_page_is_the_same_each_time(atlas, tmp_path):
    pages = [tmp_path / f"{k}.html" for k in range(2)]
    for page in pages:
        command = [sys.executable, "-m", "kahlervae.cli", "page", str(atlas), "--out", str(page)]
        subprocess.run(command, check=True)
    first, second = (page.read_bytes() for page in pages)
    assert first == second


def test_lacking_arrays_are_named(atlas, tmp_path):
    content, identity = read_tensors(atlas)
    lacking = {name: tensor for name, tensor in content.items() if name != "ricci_scalar"}
    write_tensors(atlas, lacking, identity)
    with pytest.raises(InputError, match="no array 'ricci_scalar'"):
        write_atlas(atlas, tmp_path / "atlas.html")
    bare = {name: tensor for name, tensor in content.items() if "/" not in name}
    write_tensors(atlas, bare, identity)
    with pytest.raises(InputError, match="no points of any sampler"):
        write_atlas(atlas, tmp_path / "atlas.html")
