"""Adam without the compiler: the same bits as torch's, and nothing of the compiler is loaded."""

import subprocess
import sys

import pytest
import torch

from kahlervae.nn.optimiser import Adam


def descend(optimiser, weight, steps):
    """Some steps on a fixed objective; the parameter afterwards."""
    target = torch.linspace(-1, 2, len(weight))
    for _ in range(steps):
        optimiser.zero_grad()
        (weight - target).abs().pow(3).sum().backward()
        optimiser.step()
    return weight.detach().clone()


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize(
    ("reference", "options"),
    [
        (torch.optim.Adam, {}),
        (torch.optim.AdamW, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ],
)
def test_steps_are_those_of_torch(dtype, reference, options):
    weights = [torch.nn.Parameter(torch.ones(5, dtype=dtype)) for _ in range(2)]
    expected = reference(
        [weights[0]], lr=0.1, **{k: v for k, v in options.items() if k == "weight_decay"}
    )
    found = Adam([weights[1]], lr=0.1, **options)
    assert torch.equal(descend(found, weights[1], 10), descend(expected, weights[0], 10))
    assert not torch.equal(weights[1], torch.ones(5))


def test_state_goes_on_where_it_was_saved():
    whole = torch.nn.Parameter(torch.ones(5))
    descend(Adam([whole], lr=0.1), whole, 10)
    part = torch.nn.Parameter(torch.ones(5))
    first = Adam([part], lr=0.1)
    descend(first, part, 4)
    second = Adam([part], lr=0.3)
    second.load_state_dict(first.state_dict())
    descend(second, part, 6)
    assert torch.equal(part, whole)


def test_compiler_is_not_loaded():
    code = """
import sys, torch
from kahlervae.nn.optimiser import Adam
weight = torch.nn.Parameter(torch.ones(3))
optimiser = Adam([weight], lr=0.1)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=9)
for _ in range(2):
    optimiser.zero_grad()
    weight.square().sum().backward()
    optimiser.step()
    schedule.step()
optimiser.load_state_dict(optimiser.state_dict())
print({"torch._dynamo", "sympy"} & set(sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
