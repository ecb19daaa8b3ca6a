"""States as data: their law, their coordinates, and what the data stage keeps of them."""

import json

import pytest
import torch

from kahlervae.config.registry import data_sources
from kahlervae.data import SPLITS, load_split, prepare
from kahlervae.data.states import density_coordinates, make_states, nearest_states
from kahlervae.errors import InputError
from kahlervae.geometry.fubini_study import fubini_study_distance
from kahlervae.storage import write_tensors

SOURCE = {"kind": "states", "levels": 3, "count": 4000, "noise": 0.03, "seed": 0}
SPLIT = {"validation": 100, "test": 200, "seed": 0}


def matrices(states):
    return states[..., :, None] * states[..., None, :].conj()


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_coordinates_are_an_isometry_of_density_matrices(levels):
    _, states = make_states(levels, 60, 0.1, seed=levels)
    first, second = states.to(torch.complex128).chunk(2)
    apart = torch.linalg.vector_norm(
        density_coordinates(first) - density_coordinates(second), dim=1
    )
    expected = torch.linalg.matrix_norm(matrices(first) - matrices(second))
    torch.testing.assert_close(apart, expected)
    again = nearest_states(density_coordinates(first))
    assert fubini_study_distance(first, again).max() < 1e-6


def test_coordinates_forget_the_phase_and_nothing_else():
    _, states = make_states(3, 20, 0.0, seed=1)
    turned = torch.polar(torch.ones(20, 1), torch.linspace(0, 6, 20)[:, None]) * states
    torch.testing.assert_close(density_coordinates(turned), density_coordinates(states))


def test_states_are_haar_random_and_the_noise_is_as_said():
    """|ψ_k|² is uniform on the simplex: mean 1/n, E|ψ_k|⁴ = 2/(n(n + 1))."""
    samples, states = make_states(3, 40_000, 0.03, seed=0)
    shares = states.abs().square().double()
    torch.testing.assert_close(shares.mean(0), torch.full((3,), 1 / 3).double(), atol=5e-3, rtol=0)
    fourth = shares.square().mean(0)
    torch.testing.assert_close(fourth, torch.full((3,), 1 / 6).double(), atol=5e-3, rtol=0)
    mean = matrices(states).mean(0)
    assert (mean - torch.eye(3) / 3).abs().max() < 5e-3
    error = samples - density_coordinates(states)
    torch.testing.assert_close(error.std(0), torch.full((9,), 0.03), atol=5e-4, rtol=0)
    torch.testing.assert_close(error.T.cov(), 0.0009 * torch.eye(9), atol=2e-5, rtol=0)


def test_each_split_keeps_the_states_that_it_was_made_from(tmp_path):
    tensors, form, record = prepare("states", SOURCE, SPLIT)
    assert form.shape == (9,)
    assert not form.bounded
    assert record["states"] == {"levels": 3, "count": 4000, "noise": 0.03, "seed": 0}
    path = tmp_path / "data.safetensors"
    write_tensors(path, tensors, {"form": json.dumps(form.dump())})
    for name in SPLITS[1:]:
        split = load_split(path, name)
        assert split.labels is None
        error = split.samples - density_coordinates(split.truth)
        assert abs(error.std() - 0.03) < 0.003
    again, *_ = prepare("states", SOURCE, SPLIT)
    assert all(torch.equal(tensors[key], again[key]) for key in tensors)
    other, *_ = prepare("states", SOURCE | {"seed": 1}, SPLIT)
    assert not torch.equal(tensors["test_samples"], other["test_samples"])


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (lambda truth: truth[1:], "does not hold one state for each sample in 'test'"),
        (lambda truth: truth.real.contiguous(), "does not hold one state for each sample"),
        (lambda truth: 2 * truth, "holds states in 'test' that are no unit vectors"),
        (lambda truth: truth * float("nan"), "holds states in 'test' that are no unit vectors"),
    ],
)
def test_damaged_states_are_refused(tmp_path, fault, sentence):
    tensors, form, _ = prepare("states", SOURCE, SPLIT)
    tensors["test_truth"] = fault(tensors["test_truth"])
    path = tmp_path / "data.safetensors"
    write_tensors(path, tensors, {"form": json.dumps(form.dump())})
    with pytest.raises(InputError, match=sentence):
        load_split(path, "test")


def test_the_known_set_has_three_levels():
    assert data_sources({})["states"]["levels"] == 3
