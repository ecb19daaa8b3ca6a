"""The tutorial runs from beginning to end, and what it prints is what it says."""

import re
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from sklearn.datasets import load_digits
from torch.distributions import Bernoulli

TUTORIAL = Path(__file__).parents[1] / "docs/tutorial.ipynb"


@pytest.fixture(scope="module")
def said() -> str:
    """All that the tutorial prints."""
    notebook = nbformat.read(TUTORIAL, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "keep it without outputs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return "".join(
        output.get("text", "")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    )


def number(text: str, before: str) -> float:
    return float(re.search(rf"{before}: (-?[\d.]+)", text)[1])


def test_checks_fail_in_training_mode_and_pass_in_evaluation_mode(said):
    refused, passed = re.split(r"^latents ", said, flags=re.MULTILINE)[1:]
    assert "WRONG  the decoder's BatchNorm2d is in training mode" in refused
    assert "WRONG" not in passed
    assert re.search(r"Bernoulli .* closed form", passed)


def test_the_vae_has_learned(said):
    """Better than independent pixels of the right frequencies."""
    images = torch.tensor(load_digits().images > 8, dtype=torch.float64)
    pixels = Bernoulli(images.mean(0)).entropy().sum().item()
    assert float(re.search(r"([\d.]+) nats", said)[1]) < pixels - 0.5


def test_the_potential_is_certified_and_beats_a_constant_metric(said):
    assert "certified: True" in said
    assert number(said, "relative error") < 0.5 * number(said, "of a constant metric")


def test_geodesics_are_shorter_than_straight_lines(said):
    straight = number(said, "straight lines")
    assert number(said, "geodesics of the exact metric") < straight
    assert number(said, "geodesics of the potential's metric") < 1.01 * straight


def test_samples_lie_where_the_volume_is_small(said):
    assert number(said, "mean log det, drawn") < number(said, "mean log det, prior")  # α < 0
