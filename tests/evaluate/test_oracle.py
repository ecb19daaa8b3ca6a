"""Oracles: the gate on real digits, what is read from images, files, bad input."""

import math

import pytest
import torch

from kahlervae.config.registry import data_sources
from kahlervae.data import prepare
from kahlervae.errors import InputError
from kahlervae.evaluate.oracle import (
    ARCHITECTURES,
    Oracle,
    Reading,
    load_oracle,
    save_oracle,
    train_oracle,
)
from kahlervae.storage import write_tensors

SETTINGS = {"epochs": 3, "noise": 0.1, "minimum_accuracy": 0.0, "seed": 0}


@pytest.fixture(scope="module")
def digits():
    split = {"oracle": 500, "validation": 200, "test": 297, "seed": 0}
    tensors, *_ = prepare("digits", data_sources({})["digits"], split)
    return [
        tensors[key] for key in ("oracle_samples", "oracle_labels", "test_samples", "test_labels")
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_passes_the_gate_on_digits(architecture, digits):
    settings = SETTINGS | {"epochs": 60, "minimum_accuracy": 0.95}
    assert train_oracle(architecture, *digits, settings).accuracy >= 0.95


def test_below_the_gate(digits):
    with pytest.raises(InputError, match=r"mlp oracle reaches a test accuracy of .* 0\.99"):
        train_oracle("mlp", *digits, SETTINGS | {"epochs": 1, "minimum_accuracy": 0.99})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_same_seed_same_oracle_whatever_the_global_state(architecture, digits):
    digits = [part[:128] for part in digits]
    oracles = []
    for state in (1, 2):
        torch.manual_seed(state)
        oracles.append(train_oracle(architecture, *digits, SETTINGS))
        assert torch.initial_seed() == state
    first, second = (oracle.state_dict() for oracle in oracles)
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = train_oracle(architecture, *digits, SETTINGS | {"seed": 1}).state_dict()
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (9, 6)])
def test_reads_images_of_any_shape_in_any_batches(architecture, shape, monkeypatch):
    oracle = Oracle(architecture, shape, 10)
    images = torch.rand(7, *shape)
    whole = oracle.read(images)
    monkeypatch.setattr("kahlervae.evaluate.oracle.BATCH", 2)
    assert whole.features.shape == (7, 64)
    torch.testing.assert_close(whole.features, oracle.read(images).features)
    torch.testing.assert_close(whole.logits, oracle(images))


def test_entropy_and_labels():
    probabilities = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.2, 0.7, 0.1]])
    reading = Reading(torch.zeros(3, 1), probabilities.log())
    expected = [torch.log(torch.tensor(2.0)).item(), 0.0, 0.8018186]
    torch.testing.assert_close(reading.entropy, torch.tensor(expected))
    assert reading.labels.tolist()[1:] == [2, 1]
    shifted = Reading(reading.features, reading.logits + 3)
    torch.testing.assert_close(shifted.entropy, reading.entropy)


def test_energy_is_minus_the_log_of_the_summed_exponentials():
    logits = torch.tensor([[0.0, 0.0, 0.0], [5.0, 5.0, -90.0], [1000.0, 0.0, 0.0]])
    energy = Reading(torch.zeros(3, 1), logits).energy
    expected = [-math.log(3), -5 - math.log(2), -1000.0]
    torch.testing.assert_close(energy, torch.tensor(expected))
    random = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    naive = torch.tensor([-math.log(sum(math.exp(x) for x in row)) for row in random.tolist()])
    torch.testing.assert_close(Reading(torch.zeros(20, 1), random).energy, naive)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_file_round_trip(architecture, tmp_path):
    oracle = Oracle(architecture, (8, 8), 3, accuracy=0.9765625)
    save_oracle(tmp_path / "oracle.safetensors", oracle)
    loaded = load_oracle(tmp_path / "oracle.safetensors")
    images = torch.rand(5, 8, 8)
    assert torch.equal(loaded.read(images).features, oracle.read(images).features)
    assert (loaded.architecture, loaded.shape, loaded.accuracy) == (
        architecture,
        (8, 8),
        0.9765625,
    )


def test_damaged_file(tmp_path):
    path = tmp_path / "oracle.safetensors"
    save_oracle(path, Oracle("mlp", (8, 8), 3))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_oracle(path)
    with pytest.raises(InputError, match="does not exist"):
        load_oracle(tmp_path / "nothing.safetensors")


def test_file_of_something_else(tmp_path):
    write_tensors(tmp_path / "data.safetensors", {"x": torch.zeros(2)})
    with pytest.raises(InputError, match="is not an oracle"):
        load_oracle(tmp_path / "data.safetensors")


def test_bad_input(digits):
    oracle = Oracle("cnn", (8, 8), 10)
    broken = torch.rand(4, 8, 8)
    broken[1, 2, 3], broken[2, 0, 0] = torch.nan, torch.inf
    with pytest.raises(InputError, match="2 of 4 images contain NaN or infinite"):
        oracle.read(broken)
    with pytest.raises(InputError, match="reads real arrays of shape"):
        oracle.read(torch.rand(4, 28, 28))
    with pytest.raises(InputError, match="no images"):
        oracle.read(torch.rand(0, 8, 8))
    with pytest.raises(InputError, match="'vit' is unknown: choose one of cnn, mlp"):
        Oracle("vit", (8, 8), 10)
    images, labels, *test = digits
    for part in (labels == 3, labels < 0):  # a single class, nothing at all
        with pytest.raises(InputError, match="two classes"):
            train_oracle("mlp", images[part], labels[part], *test, SETTINGS)
