"""The rule by which class, size and optimiser are chosen, and the file of the outcome."""

import pytest
import torch
from geometry.decoders import points

from kahlervae.errors import Diverged, InputError
from kahlervae.geometry import HolomorphicPotential, MixturePotential, relative_error
from kahlervae.train.potentials import (
    POTENTIALS,
    choose_potential,
    load_potentials,
    save_potentials,
)

MIXTURE = {"kind": "mixture", "size": {"groups": 2, "components": 4}, "steps": 60, "batch": 64}
MIXTURE |= {"learning_rate": 0.05}
HOLOMORPHIC = {"kind": "holomorphic", "size": {"width": 8, "layers": 1}, "steps": 60, "batch": 64}
HOLOMORPHIC |= {"learning_rate": 0.02}
BOTH = {"mixture": MIXTURE, "holomorphic": HOLOMORPHIC}


def fubini_study(z):
    norm = 1 + z.abs().square().sum(-1, keepdim=True).unsqueeze(-1)
    eye = torch.eye(z.shape[1], dtype=z.dtype)
    return eye / norm - z.conj().unsqueeze(-1) * z.unsqueeze(-2) / norm**2


def choose(candidates, polish=0, trial=0.5):
    z = 2 * points(400, 2)
    stream = torch.Generator().manual_seed(0)
    return choose_potential(z, fubini_study(z), candidates, trial, polish, stream)


def test_the_class_with_the_least_error_on_trial_is_fitted():
    potential, table = choose(BOTH)
    assert isinstance(potential, HolomorphicPotential)
    assert table["stage"].tolist() == ["trial", "trial", "adam"]
    trials = table.query("stage == 'trial'").set_index("candidate")["validation_objective"]
    assert table["candidate"].iloc[2] == trials.idxmin() == "holomorphic"
    assert table["steps"].tolist() == [30, 30, 30]
    errors = table.query("candidate == 'holomorphic'")["validation_objective"].tolist()
    assert errors[1] < errors[0]  # it goes on from where it was
    assert table["chosen"].tolist() == [False, False, True]


def test_one_candidate_needs_no_trial():
    potential, table = choose({"mixture": MIXTURE})
    assert isinstance(potential, MixturePotential)
    assert table["stage"].tolist() == ["adam"]


def test_bfgs_is_kept_where_it_lowers_the_error_of_probes_that_it_did_not_see():
    potential, table = choose({"holomorphic": HOLOMORPHIC}, polish=40)
    errors = table.set_index("stage")["validation_objective"]
    assert errors["lbfgs"] < 0.2 * errors["adam"]
    assert table.set_index("stage")["chosen"].to_dict() == {"adam": False, "lbfgs": True}
    z = 2 * points(100, 2, seed=7)
    assert relative_error(potential.metric(z), fubini_study(z)).median() < 0.02
    assert potential.certificate().valid


def test_a_polish_that_does_not_help_is_dropped(monkeypatch):
    monkeypatch.setattr("kahlervae.train.potentials.polish_potential", lambda p, *_: p.scaled(2.0))
    _, table = choose({"holomorphic": HOLOMORPHIC}, polish=1)
    assert table.set_index("stage")["chosen"].to_dict() == {"adam": True, "lbfgs": False}


def test_the_same_seed_chooses_the_same():
    (one, first), (two, second) = choose(BOTH, polish=2), choose(BOTH, polish=2)
    assert first.equals(second)
    torch.testing.assert_close(one.state_dict(), two.state_dict(), rtol=0, atol=0)


def test_a_file_holds_potentials_of_any_class(tmp_path):
    stream = torch.Generator().manual_seed(0)
    potentials = {
        "fitted": HolomorphicPotential.random(2, 4, 2, 1.0, stream),
        "posterior": MixturePotential.random(2, 2, 3, 1.0, stream, rank=2),
        "constant": MixturePotential.constant(torch.eye(2, dtype=torch.complex64)),
    }
    path = tmp_path / "p.safetensors"
    save_potentials(path, potentials, {"seed": 0})
    loaded = load_potentials(path, 2)
    assert list(loaded) == list(POTENTIALS)
    for name, potential in potentials.items():
        assert type(loaded[name]) is type(potential)
        state = loaded[name].state_dict()
        torch.testing.assert_close(state, potential.state_dict(), rtol=0, atol=0)
    with pytest.raises(InputError, match="in 2 dimensions"):
        load_potentials(path, 3)
    del potentials["posterior"]
    save_potentials(path, potentials, {"seed": 0})
    with pytest.raises(InputError, match="does not hold potentials"):
        load_potentials(path, 2)


def test_a_rate_at_which_the_fit_diverges_is_halved():
    potential, table = choose({"holomorphic": HOLOMORPHIC | {"learning_rate": 1.0, "steps": 300}})
    assert table["learning_rate"].tolist()[-1] < 1
    assert table["chosen"].tolist()[-1]
    z = 2 * points(100, 2, seed=7)
    assert relative_error(potential.metric(z), fubini_study(z)).median() < 0.05


def test_a_fit_that_diverges_at_every_rate_is_refused():
    with pytest.raises(Diverged, match=r"diverged, from an error of .* lower the learning rate"):
        choose({"holomorphic": HOLOMORPHIC | {"learning_rate": 1e4}})


def test_what_gets_worse_by_going_on_is_not_kept(monkeypatch):
    monkeypatch.setattr(
        "kahlervae.train.potentials.continue_fit", lambda p, *_, **__: p.scaled(9.0)
    )
    _, table = choose(BOTH)
    assert table["stage"].tolist() == ["trial", "trial", "adam", "adam", "adam"]
    assert table["learning_rate"].tolist()[2:] == [0.02, 0.01, 0.005]
    assert table["stage"][table["chosen"]].tolist() == ["trial"]
