"""Pages that open out of Snakemake's report, which holds each in an address."""

import base64

import numpy as np
import pytest
from browser import needs_chromium, opened
from PIL import Image

from kahlervae.figures.single_file import LARGEST, data_uri, webp, write_page

LETTERS = base64.b64encode(np.random.default_rng(0).bytes(3 * LARGEST)).decode()


def page(letters):
    head = "<!doctype html><meta charset='utf-8'><title>t</title>"
    return f"{head}<p id='end'>é</p><!-- {letters} -->"


def in_an_address(path, tmp_path):
    """A page that holds another one as the report does."""
    address = data_uri("text/html", path.read_bytes())
    (tmp_path / "holder.html").write_text(f'<iframe src="{address}"></iframe>')
    return tmp_path / "holder.html"


@needs_chromium
@pytest.mark.parametrize("letters", ["", "abc" * LARGEST, LETTERS[: LARGEST - 1000]])
def test_a_page_opens_out_of_an_address(letters, tmp_path):
    write_page(tmp_path / "page.html", page(letters), "t")
    assert (tmp_path / "page.html").stat().st_size <= LARGEST
    with opened(in_an_address(tmp_path / "page.html", tmp_path)) as holder:
        end = holder.frame_locator("iframe").locator("#end")
        end.wait_for(state="attached", timeout=5000)
        assert end.inner_text() == "é"


def test_a_page_that_opens_from_disk_alone_is_told_of(tmp_path, caplog):
    write_page(tmp_path / "page.html", page(LETTERS), "t")
    assert "page.html has" in caplog.text
    assert "open the file itself" in caplog.text


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_picture_keeps_to_its_bytes(mode):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, len(mode)), dtype=np.uint8)
    image = Image.fromarray(noise.squeeze())
    assert len(webp(image, 20_000)) <= 20_000
    flat = Image.new(mode, (300, 300), 200 if mode == "L" else (200, 3, 7))
    content = webp(flat, 20_000)
    assert content == webp(flat, 10**9)  # without loss
