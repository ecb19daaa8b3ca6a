"""Headless Chromium, which holds pages to what they promise: no errors, no network."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium: apt-get install chromium"
)


@contextmanager
def opened(path: Path, width: int = 1280, height: int = 720) -> Iterator[Page]:
    """The page of a file; fails on leaving if there was an error or a request."""
    troubles: list[str] = []
    with sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, as whom containers often run.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on(
            "console",
            lambda message: (
                troubles.append(f"console: {message.text}") if message.type == "error" else None
            ),
        )
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(("file:", "data:", "blob:"))
                else troubles.append(f"network: {request.url}")
            ),
        )
        page.goto(path.resolve().as_uri())
        yield page
        browser.close()
    if troubles:
        raise AssertionError("\n".join(troubles))
