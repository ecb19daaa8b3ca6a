"""The scoring stage: from files of models, samples and oracles to tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.data import load_split
from kahlervae.errors import InputError
from kahlervae.evaluate import smoothness
from kahlervae.evaluate.oracle import load_oracle, save_oracle, train_oracle
from kahlervae.evaluate.reconstruction import reconstruction_scores
from kahlervae.evaluate.reference import Reference
from kahlervae.models import VAE, load_model
from kahlervae.seeding import generator
from kahlervae.storage import check_tensors, read_tensors, write_table, write_tensors

__all__ = [
    "gallery",
    "load_references",
    "load_samples",
    "make_oracle",
    "score_model",
    "score_paths",
    "score_samples",
]

SHEET = 64
"""Images on a sheet of samples."""


def make_oracle(
    dataset: str,
    architecture: str,
    data: Path | str,
    oracle_settings: Mapping[str, Any],
    evaluation_settings: Mapping[str, Any],
    out: Path | str,
    record: Path | str,
    device: torch.device | None = None,
) -> None:
    """Train an oracle, hold it against its gate, and score real test images by it.

    Writes the oracle to ``out`` and one row to ``record``: dataset, oracle, accuracy, and the
    scores of the test split, which say what the scores of samples are to be compared with.

    Raises:
        InputError: the data cannot be read, or the oracle misses the gate.
    """
    split, test = (load_split(data, name).to(device) for name in ("oracle", "test"))
    oracle = train_oracle(
        architecture, split.images, split.labels, test.images, test.labels, oracle_settings
    )
    save_oracle(out, oracle)
    (reference,) = load_references(data, [out], evaluation_settings, device)
    row = {"dataset": dataset, "oracle": architecture, "accuracy": oracle.accuracy}
    write_table(record, pd.DataFrame([row | reference.image_scores(test.images)]))


def score_model(
    data: Path | str,
    model: Path | str,
    samples: Path | str,
    oracles: Sequence[Path | str],
    settings: Mapping[str, Any],
    out: Path | str,
    sheet: Path | str,
    paths: Path | str,
    reconstruction: Path | str,
    gallery_out: Path | str,
    device: torch.device | None = None,
) -> None:
    """Score the samples, the paths and the reconstructions of a model, and keep pictures of each.

    Raises:
        InputError: a file cannot be read, or decoded images are not finite.
    """
    vae = load_model(model).to(device)
    latents = load_samples(samples, vae.latent_dim, device)
    references = load_references(data, oracles, settings, device)
    write_table(out, score_samples(vae, latents, references))
    with torch.no_grad():
        sheets = {key: vae.decode_images(z[:SHEET]) for key, z in latents.items()}
    write_tensors(sheet, sheets, vae.identity)

    images = load_split(data, "test").images.to(device)
    write_table(paths, score_paths(vae, latents, images, references, settings["paths"]))
    random = generator(vae.identity["seed"], "reconstruction")
    scores = reconstruction_scores(vae, images, random)
    write_table(reconstruction, pd.DataFrame([vae.identity | scores]))
    write_tensors(gallery_out, gallery(vae, images), vae.identity)


def load_samples(
    path: Path | str, latent_dim: int, device: torch.device | None = None
) -> dict[str, Complex[Tensor, "n d"]]:
    """Latents by ``sampler:setting``, as the sampling stage wrote them.

    Raises:
        InputError: the file is missing, damaged or does not hold latents in that dimension.
    """
    latents, _ = read_tensors(path)
    if not all(":" in key and z.dim() == 2 for key, z in latents.items()):
        raise InputError(f"{path} does not hold samples: draw them again.")
    counts = {key: len(z) for key, z in latents.items()}
    check_tensors(
        path,
        latents,
        {
            key: torch.empty(count, latent_dim, dtype=torch.complex64, device="meta")
            for key, count in counts.items()
        },
    )
    return {key: z.to(device) for key, z in latents.items()}


@torch.no_grad()
def score_samples(
    model: VAE,
    samples: Mapping[str, Complex[Tensor, "n d"]],
    references: Sequence[Reference],
) -> pd.DataFrame:
    """One row per sampler setting and oracle; see :meth:`Reference.image_scores`.

    Args:
        model: The model that decodes.
        samples: Latents by ``sampler:setting``.
        references: Real data as seen by each oracle.

    Raises:
        InputError: decoded images are not finite, or fewer than the neighbours asked for.
    """
    rows = []
    for key, z in samples.items():
        sampler, setting = key.split(":", 1)
        images = model.decode_images(z)
        for reference in references:
            where = {
                "sampler": sampler,
                "setting": setting,
                "oracle": reference.oracle.architecture,
            }
            rows.append(model.identity | where | reference.image_scores(images))
    return pd.DataFrame(rows)


@torch.no_grad()
def score_paths(
    model: VAE,
    samples: Mapping[str, Complex[Tensor, "n d"]],
    test_images: Float[Tensor, "m height width"],
    references: Sequence[Reference],
    settings: Mapping[str, Any],
) -> pd.DataFrame:
    """Smoothness along decoded lines: one row per kind of endpoints and oracle.

    Endpoints are pairs of posterior means of test images (``posterior``), of prior samples
    (``prior``) and of volume samples (``volume:...``); the pairs are drawn by the seed of the model
    alone, so that variants of one seed join the same test images.

    Args:
        model: The model that decodes.
        samples: Latents by ``sampler:setting``; samplers other than prior and volume are skipped.
        test_images: Images of the test split.
        references: Real data as seen by each oracle.
        settings: ``count`` of the paths and ``steps`` of each.

    Raises:
        InputError: there are fewer than two points to join, or decoded images are not finite.
    """
    endpoints = {"posterior": model.encode_images(test_images).mean}
    endpoints |= {
        key.removesuffix(":default"): z
        for key, z in samples.items()
        if key.startswith(("prior:", "volume:"))
    }
    real_variation = smoothness.total_variation(test_images)
    rows = []
    for name, z in endpoints.items():
        if len(z) < 2:
            raise InputError(f"a path needs two endpoints, but there are {len(z)} of {name}.")
        random = generator(model.identity["seed"], "paths")
        first, second = smoothness.pairs(len(z), settings["count"], random)
        paths = _decode_lines(model, z[first], z[second], settings["steps"])
        midpoints = paths[:, paths.shape[1] // 2]
        for reference in references:
            scores = reference.path_scores(paths)
            rows.append(
                model.identity
                | {"endpoints": name, "oracle": reference.oracle.architecture}
                | {"acceleration": smoothness.relative_acceleration(paths).mean().item()}
                | scores
                | {"sharpness": smoothness.total_variation(midpoints) / real_variation}
            )
    return pd.DataFrame(rows)


@torch.no_grad()
def gallery(model: VAE, images: Float[Tensor, "n height width"]) -> dict[str, Float[Tensor, "..."]]:
    """Pictures of a model: 16 originals with reconstructions, 6 decoded lines of 11 points."""
    originals = images[:16]
    means = model.encode_images(originals).mean
    return {
        "originals": originals,
        "reconstructions": model.decode_images(means),
        "paths": _decode_lines(model, means[0:12:2], means[1:12:2], steps=10),
    }


def _decode_lines(
    model: VAE, start: Complex[Tensor, "n d"], end: Complex[Tensor, "n d"], steps: int
) -> Float[Tensor, "n points height width"]:
    lines = smoothness.latent_lines(start, end, steps)
    return model.decode_images(lines.flatten(0, 1)).unflatten(0, lines.shape[:2])


def load_references(
    data: Path | str,
    oracles: Sequence[Path | str],
    settings: Mapping[str, Any],
    device: torch.device | None = None,
) -> list[Reference]:
    """Real data as seen by each oracle; ``settings`` are ``neighbours`` and ``quantile``.

    Raises:
        InputError: a file cannot be read.
    """
    train, validation, test = (
        load_split(data, split).images.to(device) for split in ("train", "validation", "test")
    )
    return [
        Reference(load_oracle(path).to(device), train, validation, test, settings)
        for path in oracles
    ]
