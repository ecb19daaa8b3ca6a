"""The pages build offline without a warning, and the reference has every public name."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from sphinx.util.inventory import InventoryFile

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("html")
    # The tutorial is run by a test of its own.
    quick = ("--define", "nb_execution_mode=off", "--doctree-dir", str(out / ".doctrees"))
    command = ["-m", "sphinx", "--quiet", "--fail-on-warning", *quick, str(ROOT / "docs"), str(out)]
    run = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return out


def test_reference_has_every_public_name(built):
    inventory = InventoryFile.loads((built / "objects.inv").read_bytes(), uri="").data
    held = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    for package in ("geometry", "models", "sample", "train"):
        module = importlib.import_module(f"kahlervae.{package}")
        for name in module.__all__:
            found = getattr(module, name)
            if hasattr(found, "__module__") and hasattr(found, "__qualname__"):
                assert f"{found.__module__}.{found.__qualname__}" in held, name


def test_pages_need_no_network_and_set_mathematics(built):
    pages = list(built.rglob("*.html"))
    assert len(pages) >= 8
    for page in pages:
        text = page.read_text()
        assert 'src="http' not in text, page
        assert '<link rel="stylesheet" href="http' not in text, page
    assert (built / "theory.html").read_text().count("<math") > 50
