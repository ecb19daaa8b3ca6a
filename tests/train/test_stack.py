"""Models that are trained together are those that are trained alone."""

import pytest
import torch
from torch import nn
from train.test_loop import VARIANTS, identity, interrupt, run, same, settings, splits

from kahlervae.errors import InputError
from kahlervae.nn import to_double
from kahlervae.nn.optimiser import Adam
from kahlervae.seeding import generator
from kahlervae.train import loop, train_together
from kahlervae.train.loop import draw, take_step
from kahlervae.train.stack import Stack

SEEDS = [3, 0, 5]
CLIPS = {"pluriharmonic": 2.8}


def together(variant, path, seeds=SEEDS, **training):
    identities = [identity(variant, seed) for seed in seeds]
    return train_together(splits(), identities, settings(variant, **training), path)


def stepped(variant, seeds, steps=6):
    """Models in double precision after some steps; norms of their gradients over the largest."""
    chosen = settings(variant)
    data = splits()
    samples = data["train"].samples.double()
    objectives = [to_double(loop._build(data, identity(variant, s), chosen)) for s in seeds]
    stack = Stack(objectives)
    optimiser = Adam(stack.parameters.values(), lr=1e-2)
    streams = [generator(seed, "train") for seed in seeds]
    clip, norms = CLIPS.get(variant, 20.0), []
    for _ in range(steps):
        orders = [torch.randperm(len(samples), generator=stream)[:16] for stream in streams]
        batch = draw(objectives, [samples[order] for order in orders], streams)
        norms.append([t["gradient_norm"] for t in take_step(stack, optimiser, batch, 3, clip)])
    return [objective.state_dict() for objective in objectives], torch.tensor(norms) / clip


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_group_equals_its_models_alone_to_rounding(variant):
    """Also where the gradient of one is clipped and that of another is not."""
    models, norms = stepped(variant, SEEDS)
    for model, seed in zip(models, SEEDS, strict=True):
        ((alone,), _) = stepped(variant, [seed])
        torch.testing.assert_close(model, alone, rtol=1e-9, atol=1e-11)
    assert (norms > 1).any()
    assert (norms < 1).any()


@pytest.mark.parametrize("variant", ["kahler", "real"])
def test_trained_models_do_not_depend_on_their_company(variant, tmp_path):
    for (model, history), seed in zip(together(variant, tmp_path / "a"), SEEDS, strict=True):
        assert model.identity["seed"] == seed
        alone, alone_history = run(variant, tmp_path / "b", seed=seed)
        (tmp_path / "b").unlink()
        for found, expected in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
        assert history["seed"].unique() == [seed]
        values = history["validation_elbo"].tolist()
        assert values == pytest.approx(alone_history["validation_elbo"].tolist(), rel=1e-4)


def test_an_interrupted_group_resumes_to_the_same_bits(tmp_path, monkeypatch):
    undisturbed = together("kahler", tmp_path / "a")
    interrupt(monkeypatch, lambda: together("kahler", tmp_path / "b"))
    resumed = together("kahler", tmp_path / "b")
    for (model, history), (again, again_history) in zip(undisturbed, resumed, strict=True):
        assert same(model, again)
        assert history.equals(again_history)


def test_a_checkpoint_of_other_seeds_is_passed_over(tmp_path):
    together("complex", tmp_path / "a")
    ((model, history),) = together("complex", tmp_path / "a", seeds=[3])
    expected, _ = run("complex", tmp_path / "b", seed=3)
    assert same(model, expected)
    assert len(history) == 6


def test_a_model_that_diverges_names_itself(tmp_path, monkeypatch):
    build = loop._build

    def broken(data, names, chosen):
        objective = build(data, names, chosen)
        if names["seed"] == 0:
            with torch.no_grad():
                objective.model.decoder.mean.linear.bias.fill_(torch.nan)
        return objective

    monkeypatch.setattr(loop, "_build", broken)
    with pytest.raises(InputError, match=r"complex \(seed 0\) diverged in epoch 1: log_likelihood"):
        together("complex", tmp_path / "a")


def test_modules_share_their_numbers_with_the_stack():
    modules = [nn.Linear(3, 2, dtype=torch.complex64) for _ in range(2)]
    before = [module.weight.detach().clone() for module in modules]
    stack = Stack(modules)
    assert all(torch.equal(m.weight, start) for m, start in zip(modules, before, strict=True))
    with torch.no_grad():
        stack.parameters["weight"].mul_(2)
    assert all(torch.equal(m.weight, 2 * start) for m, start in zip(modules, before, strict=True))
