"""The tutorial runs from beginning to end, and its decoder's potential is what it says."""

import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TUTORIAL = Path(__file__).parents[1] / "docs/tutorial.ipynb"


def test_runs(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(TUTORIAL, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "keep it without outputs"
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    said = "".join(
        output.get("text", "")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    )
    assert "certified: True" in said
    error, constant = map(
        float, re.search(r"error: (\S+), of the mean metric: (\S+)", said).groups()
    )
    assert error < 0.5 * constant
    prior, drawn = (float(value) for value in re.findall(r"mean log det, \w+: (\S+)", said))
    assert drawn < prior  # α < 0
