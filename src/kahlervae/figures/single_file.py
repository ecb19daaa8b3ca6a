"""One HTML file with all that belongs to it, small enough to open out of Snakemake's report.

The report holds every page in an address, and browsers open none above 2 MiB: they show nothing.
"""

import base64
import gzip
import html
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from kahlervae.storage import atomic

__all__ = ["LARGEST", "data_uri", "webp", "write_page"]

LARGEST = 3 * 2**19
"""Bytes of a page that opens; in base64 a third more, 2 MiB."""
PLAIN, SAVING = 2**18, 0.75
"""Bytes of a page that is not worth packing, and what share of a larger one has to be left."""
QUALITIES = (90, 75, 50, 25, 10)
"""Of pictures with loss, in the order in which they are tried."""

PACKED = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body>
<noscript>This page needs JavaScript.</noscript>
<script>
(async () => {{
  const bytes = Uint8Array.from(atob('{payload}'), letter => letter.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  const page = await new Response(unpacked).text();
  document.open();
  document.write(page);
  document.close();
}})();
</script>
</body>
</html>
"""


def write_page(out: Path, text: str, title: str) -> None:
    """Write a page, a large one as one that unpacks it, if that saves a quarter.

    What is too large for the report even so opens from disk, and a warning says so.

    Args:
        out: where to.
        text: the page.
        title: of the window.
    """
    page = text.encode()
    if len(page) > PLAIN:
        payload = base64.b64encode(gzip.compress(page, mtime=0)).decode()
        packed = PACKED.format(title=html.escape(title), payload=payload).encode()
        page = packed if len(packed) < SAVING * len(page) else page  # pictures are packed already
    if len(page) > LARGEST:
        logging.warning(
            "%s has %.1f MB, more than browsers open out of the report: open the file itself.",
            out,
            len(page) / 1e6,
        )
    with atomic(out) as temporary:
        temporary.write_bytes(page)


def data_uri(kind: str, content: bytes) -> str:
    """Content of a MIME type as an address.

    Example:
        >>> data_uri("text/plain", b"metric")
        'data:text/plain;base64,bWV0cmlj'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def webp(image: Image.Image, most: int) -> bytes:
    """A picture in so many bytes: without loss if it may, else as well and as large as it may.

    Example:
        >>> len(webp(Image.new("L", (640, 480)), most=1000)) < 1000
        True
    """
    content = b""
    for picture, options in _attempts(image):
        file = io.BytesIO()
        picture.save(file, "webp", **options)
        content = file.getvalue()
        if len(content) <= most:
            break
    return content


def _attempts(image: Image.Image) -> Iterator[tuple[Image.Image, dict[str, Any]]]:
    yield image, {"lossless": True}
    for quality in QUALITIES:
        yield image, {"quality": quality}
    while max(image.size) > 1:
        image = image.reduce(2)
        yield image, {"quality": QUALITIES[-1]}
