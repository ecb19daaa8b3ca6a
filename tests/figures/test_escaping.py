"""Pages show hostile text as text: nothing of it becomes part of the page."""

from pathlib import Path

import pandas as pd
import pytest
from browser import needs_chromium, opened
from markupsafe import escape

from kahlervae.figures.pages import write_summary, write_table_page
from kahlervae.storage import write_table

HOSTILE = [
    "<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>",
    '"><svg onload="window.hit = 1">',
    "</td></table><script>window.hit = 1</script>",
    "{{ 7 * 191 }}",
    "&lt;b&gt;",
]


def table_page(folder: Path) -> Path:
    """Hostile names of columns, of the table, and hostile values."""
    path = folder / "<script>window.hit=1<script>.csv"
    write_table(path, pd.DataFrame({f"{text}": HOSTILE for text in HOSTILE}))
    write_table_page(path, folder / "table.html")
    return folder / "table.html"


def summary_page(folder: Path) -> Path:
    rows = [
        {
            "claim": text, "dataset": text, "statement": text, "metric": text, "estimate": 1.0,
            "ci_low": low, "ci_high": low, "verdict": "supported", "adjusted": "supported",
            "part": text, "role": "primary", "paper": text, "bound": 0.0, "control": 2.0,
            "p_value": 0.01,
        }
        for text in HOSTILE
        for low in (None, 0.5)
    ]  # fmt: skip
    write_table(folder / "claims.csv", pd.DataFrame(rows))
    write_summary(folder / "claims.csv", [], folder / "summary.html")
    return folder / "summary.html"


@pytest.mark.parametrize("make", [table_page, summary_page])
def test_hostile_text_is_escaped(make, tmp_path):
    page = make(tmp_path).read_text(encoding="utf-8")
    for text in HOSTILE[:4]:
        assert text not in page
        assert str(escape(text)) in page
    assert "1337" not in page


@needs_chromium
@pytest.mark.parametrize("make", [table_page, summary_page])
def test_hostile_text_does_nothing_in_a_browser(make, tmp_path):
    with opened(make(tmp_path)) as page:
        assert page.evaluate("window.hit") is None
        assert HOSTILE[0] in page.inner_text("body")
        assert page.query_selector("img[src=x], svg[onload]") is None
