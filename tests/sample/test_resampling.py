"""Pools: their draws follow the weights, and raking leaves components their shares."""

import math

import pytest
import torch

from kahlervae.errors import InputError
from kahlervae.sample import Pool, effective_size, estimate_normaliser, rake


def test_a_pool_draws_by_weight(random):
    """Of a large pool few are drawn, so that their law is the weighted one: a tilted normal."""
    n = 200_000
    x = torch.randn(n, generator=random, dtype=torch.float64)
    pool, log_weight = Pool.draw(n, random), 0.7 * x
    index = pool.resample(log_weight, 4000)
    assert x[index].mean().item() == pytest.approx(0.7, abs=0.06)
    assert x[index].std().item() == pytest.approx(1, abs=0.04)
    assert len(index.unique()) == 4000
    # In no order of their weights: both halves have the same law.
    first, second = x[index].chunk(2)
    assert first.mean().item() == pytest.approx(second.mean().item(), abs=0.1)
    # (E w)² / E w² of w = exp(tx), x normal, is exp(−t²).
    assert effective_size(log_weight) == pytest.approx(n * math.exp(-0.49), rel=0.02)
    assert effective_size(torch.zeros(n)) == pytest.approx(n)


@pytest.mark.parametrize(
    ("log_weight", "fault"),
    {
        "no numbers": ([math.nan] * 4, "4 of 4 log weights of a pool are NaN or ∞"),
        "an infinite one": ([0, 0, 0, math.inf], "1 of 4 log weights of a pool are NaN or ∞"),
        "nothing": ([-math.inf] * 4, "a pool of 0 weights above 0 are too many"),
        "too few": ([0, 0, -math.inf, -math.inf], "a pool of 2 weights above 0 are too many"),
    }.values(),
)
def test_a_pool_has_as_many_weights_as_draws(log_weight, fault, random):
    pool = Pool.draw(4, random)
    with pytest.raises(InputError, match=fault):
        pool.resample(torch.tensor(log_weight), 3)
    with pytest.raises(InputError, match="give a whole number of at least 1"):
        pool.resample(torch.zeros(4), 2.5)
    never = torch.tensor([0, -math.inf, 0, -math.inf])
    assert pool.resample(never, 2).tolist() == [0, 2]


@pytest.mark.parametrize("estimate", [effective_size, estimate_normaliser])
def test_no_weights_are_refused(estimate):
    with pytest.raises(InputError, match="there are no weights"):
        estimate(torch.zeros(0))


def test_an_effective_size_is_that_of_one_weight_for_each_draw():
    with pytest.raises(
        InputError, match=r"log weights have the shape \(10, 3\): give one for each"
    ):
        effective_size(torch.zeros(10, 3))
    assert effective_size(torch.zeros(10_000, dtype=torch.float16)) == pytest.approx(10_000)


def test_raking_takes_no_share_from_a_component(random):
    """Components at ±1 keep their shares, and inside of each the weight is what it was."""
    n = 20_000
    centre = torch.where(torch.rand(n, generator=random) < 0.2, 1.0, -1.0).double()
    x = centre + 0.2 * torch.randn(n, generator=random, dtype=torch.float64)
    one = torch.stack([centre > 0, centre < 0], dim=1).double()
    soft = torch.softmax(torch.stack([4 * x, -4 * x], dim=1), dim=1)
    for responsibilities in (one, soft):
        w = rake(2 * x, responsibilities).softmax(0)
        torch.testing.assert_close(w @ responsibilities, responsibilities.mean(0))
    inside = rake(2 * x, one)[centre > 0] - 2 * x[centre > 0]
    assert inside.std() < 1e-10


BOTH = torch.eye(2).repeat_interleave(2, 0)


@pytest.mark.parametrize(
    ("log_weight", "responsibilities"),
    {
        "components that hardly differ": (
            torch.arange(100.0) / 5,
            torch.stack([torch.linspace(0.6, 0.4, 100), torch.linspace(0.4, 0.6, 100)], 1),
        ),
        "weights that underflow": (torch.tensor([200.0, 200, 0, 0]), BOTH),
        "a component without a share": (
            torch.tensor([2.0, 1, 0, 0]),
            torch.nn.functional.pad(BOTH, (0, 1)),
        ),
        "a share that is next to none": (
            torch.tensor([2.0, 1, 0, 0]),
            torch.nn.functional.pad(BOTH, (0, 1), value=1e-30),
        ),
        "a draw that is left out": (torch.tensor([0, -math.inf, 2, 1]), BOTH),
    }.values(),
)
def test_raking_reaches_the_shares_whatever_the_weights(log_weight, responsibilities):
    found = rake(log_weight, responsibilities).softmax(0) @ responsibilities
    torch.testing.assert_close(found, responsibilities.mean(0), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "log_weight", [[math.nan, 0, 0, 0], [math.inf, 0, 0, 0], [-math.inf, -math.inf, 0, 0]]
)
def test_shares_that_no_weight_gives_back_are_said(log_weight):
    with pytest.raises(InputError, match="does not give the components of a mixture their shares"):
        rake(torch.tensor(log_weight), BOTH)
