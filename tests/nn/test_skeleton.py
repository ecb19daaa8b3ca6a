import subprocess
import sys

import torch

from kahlervae.data.form import Form
from kahlervae.models import build_model, load_model, save_model
from kahlervae.nn import skeleton

NAMES = {"dataset": "digits", "representation": "pixels", "variant": "mixture", "seed": 0}
SIZES = {"latent_dim": 2, "width": 16, "depth": 1, "prior": {"kind": "mixture", "components": 3}}


def test_has_shapes_and_nothing_else():
    with skeleton():
        layer = torch.nn.Linear(10**6, 10**6)
        drawn = torch.empty(3).normal_()
    assert layer.weight.shape == (10**6, 10**6)
    assert layer.weight.is_meta
    assert drawn.is_meta


def test_values_are_drawn_outside():
    assert torch.nn.Linear(100, 100).weight.std() > 0.01


def test_compiler_is_not_loaded_to_read_a_model_and_to_bound_its_memory(tmp_path):
    """torch would load it to draw, or to multiply, on the device meta, and under its own modes."""
    save_model(tmp_path / "model", build_model(NAMES, Form((8, 8)), "complex", **SIZES))
    assert load_model(tmp_path / "model").architecture["prior"]["components"] == 3
    code = f"""
import sys, torch
from kahlervae.geometry.memory import allocated
from kahlervae.models import load_model
model = load_model({str(tmp_path / "model")!r})
allocated(model.decode, torch.zeros(1, 2, dtype=torch.complex64))
print({{"torch._dynamo", "sympy"}} & set(sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
