"""Data that are degenerate: a stage ends as it should, or in a sentence, but never in NaN."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from kahlervae import cli
from kahlervae.data import load_split
from kahlervae.errors import InputError
from kahlervae.storage import read_tensors, write_tensors

from .stages import TINY, run_stages

SPLITS = ("oracle", "train", "validation", "test")


def write(path: Path, count: int = 64, **images: Any) -> Path:
    """A data file of random images of ten classes, with tensors replaced or, by None, left out."""
    random = torch.Generator().manual_seed(0)
    tensors = {}
    for name in SPLITS:
        tensors[f"{name}_samples"] = torch.rand(count, 8, 8, generator=random)
        tensors[f"{name}_labels"] = torch.arange(count) % 10
    tensors |= images
    write_tensors(path, {key: value for key, value in tensors.items() if value is not None})
    return path


NAN, INFINITE = torch.rand(64, 8, 8), torch.rand(64, 8, 8)
NAN[3, 2, 1], INFINITE[3, 2, 1] = torch.nan, torch.inf
BROKEN = [
    ({"train_samples": NAN}, "not finite"),
    ({"train_samples": INFINITE}, "not finite"),
    ({"train_samples": 255 * torch.rand(64, 8, 8)}, r"out of \[0, 1\]"),
    ({"train_samples": torch.rand(0, 8, 8), "train_labels": torch.arange(0)}, "holds no samples"),
    ({"train_samples": torch.rand(64)}, "holds no samples"),
    ({"train_samples": torch.rand(64, 8, 8, dtype=torch.float64)}, "holds no samples"),
    ({"train_samples": None}, "holds no split 'train'"),
    ({"train_labels": None}, "one class for each sample"),
    ({"train_labels": torch.arange(63)}, "one class for each sample"),
    ({"train_labels": torch.arange(64.0)}, "one class for each sample"),
    ({"train_labels": torch.full((64,), -1)}, "classes out of 0 to 255"),
    ({"train_labels": torch.full((64,), 10**12)}, "classes out of 0 to 255"),
]


@pytest.mark.parametrize(("changes", "sentence"), BROKEN)
def test_data_that_are_none_are_refused(
    changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "data.safetensors", **changes)
    with pytest.raises(InputError, match=sentence):
        load_split(path, "train")
    load_split(path, "test")


def everywhere(images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    contents = {"samples": images, "labels": labels}
    return {f"{name}_{kind}": v.clone() for name in SPLITS for kind, v in contents.items()}


TEN = torch.arange(64) % 10
DEGENERATE = {
    "constant": (everywhere(torch.full((64, 8, 8), 0.5), TEN), "the same features"),
    "black": (everywhere(torch.zeros(64, 8, 8), TEN), "the same features"),
    "one image": (everywhere(torch.rand(1, 8, 8), torch.zeros(1).long()), "1 images of 1 classes"),
    "one class": (everywhere(torch.rand(64, 8, 8), torch.zeros(64).long()), "of 1 classes"),
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_data_end_in_a_sentence(case: str, tmp_path: Path) -> None:
    tensors, sentence = DEGENERATE[case]
    oracle = TINY["datasets"]["digits"]["oracle"] | {"minimum_accuracy": 0.0, "epochs": 1}
    config = TINY | {"datasets": {"digits": TINY["datasets"]["digits"] | {"oracle": oracle}}}
    data = write(tmp_path / "data.safetensors", **tensors)
    with pytest.raises(InputError, match=sentence):
        run_stages(config, tmp_path, data)


def trained(data: Path, folder: Path, latent_dim: int = 1, variant: str = "complex") -> Path:
    digits = TINY["datasets"]["digits"]
    settings = {
        "model": digits["model"] | {"latent_dim": latent_dim},
        "training": digits["training"] | {"batch_size": 16},
        "variant": digits["variants"][variant],
    }
    model = folder / "model.safetensors"
    cli.train(
        *("digits", "pixels", variant, [0], data, settings),
        *(folder / "checkpoint.safetensors", [model], [folder / "history.csv"]),
    )
    return model


@pytest.mark.parametrize("variant", ["complex", "kahler"])
@pytest.mark.parametrize("images", [torch.zeros(64, 8, 8), torch.rand(1, 8, 8)])
def test_models_of_constant_images_and_of_one_are_finite_or_refused(
    variant: str, images: torch.Tensor, tmp_path: Path
) -> None:
    data = write(tmp_path / "data.safetensors", **everywhere(images, TEN[: len(images)]))
    try:
        model = trained(data, tmp_path, variant=variant)
    except InputError as error:
        assert "diverged in epoch" in str(error)  # noqa: PT017
        return
    parameters, _ = read_tensors(model)
    assert all(value.isfinite().all() for value in parameters.values())
    history = pd.read_csv(tmp_path / "history.csv")
    assert np.isfinite(history[["loss", "kl", "validation_elbo", "gradient_norm"]]).all(axis=None)


def test_a_singular_metric_is_refused(tmp_path: Path) -> None:
    """More latent dimensions than hidden units: the decoder cannot tell them apart."""
    data = write(tmp_path / "data.safetensors")
    model = trained(data, tmp_path, latent_dim=20)
    settings = TINY["geometry"]["potential"]
    with pytest.raises(InputError, match=r"metric of complex \(seed 0\) is singular at \d+ of"):
        cli.potential(
            data, model, settings, tmp_path / "potential.safetensors", tmp_path / "choice.csv"
        )
    assert not (tmp_path / "potential.safetensors").exists()


def test_one_anchor_makes_no_potential(tmp_path: Path) -> None:
    """The configuration asks for two; one image twice passes it and has no spread either."""
    data = write(tmp_path / "data.safetensors", **everywhere(torch.rand(1, 8, 8), TEN[:1]))
    model = trained(data, tmp_path)
    with pytest.raises(InputError, match="take two anchors or more"):
        cli.potential(
            *(data, model, TINY["geometry"]["potential"]),
            *(tmp_path / "p.safetensors", tmp_path / "choice.csv"),
        )


def test_models_that_hold_nan_are_refused_by_every_stage(tmp_path: Path) -> None:
    data = write(tmp_path / "data.safetensors")
    model = trained(data, tmp_path)
    tensors, metadata = read_tensors(model)
    key = next(key for key in tensors if key.startswith("decoder"))
    tensors[key] = torch.full_like(tensors[key], torch.nan)
    write_tensors(model, tensors, metadata)
    out = tmp_path / "out.safetensors"
    with pytest.raises(InputError, match=r"model\.safetensors holds values in 'decoder\."):
        cli.potential(data, model, TINY["geometry"]["potential"], out, tmp_path / "choice.csv")
    settings = json.loads(json.dumps(TINY["sampling"] | {"epsilon": 1e-3, "samplers": ["prior"]}))
    with pytest.raises(InputError, match="that are not finite"):
        cli.sample(data, model, settings, out, *(tmp_path / f"{name}.csv" for name in "dsm"))
    assert not out.exists()
