"""Adam without the compiler: the bits of torch's fused one, and the compiler is not loaded."""

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
    """Of the plain one but for rounding; of the fused one, for real numbers, to the bit."""
    weights = [torch.nn.Parameter(torch.ones(5, dtype=dtype)) for _ in range(2)]
    decay = {k: v for k, v in options.items() if k == "weight_decay"}
    fused = {"fused": True} if dtype == torch.float32 else {}
    expected = descend(reference([weights[0]], lr=0.1, **decay, **fused), weights[0], 10)
    found = descend(Adam([weights[1]], lr=0.1, **options), weights[1], 10)
    torch.testing.assert_close(found, expected)
    assert torch.equal(found, expected) or not fused
    assert not torch.equal(found, torch.ones(5))


def test_a_parameter_without_a_gradient_stays():
    used, unused = (torch.nn.Parameter(torch.ones(5, dtype=torch.complex64)) for _ in range(2))
    descend(Adam([used, unused], lr=0.1), used, 3)
    assert torch.equal(unused, torch.ones(5))
    assert not torch.equal(used, torch.ones(5))


@pytest.mark.parametrize("largest", [0.5, 50.0, 100.0])
def test_clipping_is_that_of_torch_for_every_model_alone(largest):
    """Norms of 24 and 78: both, one or none is clipped."""
    starts = [
        (torch.tensor([3.0, -4.0]), torch.tensor([[1 + 2j], [-2j]]), torch.tensor(1.0)),
        (torch.tensor([6.0, -8.0]), torch.tensor([[10 + 10j], [9j]]), torch.tensor(-2.0)),
    ]
    weights = [torch.nn.Parameter(torch.stack(parts)) for parts in zip(*starts, strict=True)]
    (2 * sum(weight.abs().square().sum() for weight in weights)).backward()
    gradients = [weight.grad.clone() for weight in weights]
    norms = Adam(weights, lr=0.1).clip(largest)
    for model, norm in enumerate(norms):
        alone = [torch.nn.Parameter(part) for part in starts[model]]
        for weight, gradient in zip(alone, gradients, strict=True):
            weight.grad = gradient[model]
        torch.testing.assert_close(torch.nn.utils.clip_grad_norm_(alone, largest), norm)
        clipped = [weight.grad[model] for weight in weights]
        torch.testing.assert_close(clipped, [weight.grad for weight in alone])


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
