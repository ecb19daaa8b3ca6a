"""The scoring stage: from files of models, samples and oracles to tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Complex, Num
from torch import Tensor

from kahlervae.data import load_split
from kahlervae.errors import InputError
from kahlervae.evaluate import smoothness
from kahlervae.evaluate.flagged import flagged_images, score_agreement, shown_keys
from kahlervae.evaluate.oracle import load_oracle, save_oracle, train_oracle
from kahlervae.evaluate.reconstruction import reconstruction_scores
from kahlervae.evaluate.reference import HELD_OUT, LARGEST, Reference, Unjudged
from kahlervae.models import VAE
from kahlervae.seeding import generator
from kahlervae.storage import (
    check_identity,
    check_tensors,
    identified,
    read_tensors,
    write_table,
    write_tensors,
)

__all__ = [
    "Scored",
    "gallery",
    "load_references",
    "load_samples",
    "make_oracle",
    "score_model",
    "score_paths",
    "score_samples",
]

AGREEMENT = [
    *("sampler", "setting", "oracle", "score", "other_oracle", "other_score"),
    *("kappa", "spearman", "both"),
]
"""Columns of the agreement of scores, beside the identity."""
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
    scores of the test split, which say what the scores of samples are to be compared with. Test
    images are held against the validation images, since nothing is to be learned from how well a
    set covers itself.

    Raises:
        InputError: data cannot be read or are of another set, or the oracle misses the gate.
    """
    split, test = (load_split(data, name, dataset).to(device) for name in ("oracle", "test"))
    if split.labels is None or test.labels is None:
        raise InputError(f"{dataset} has no labels, which an oracle needs: name them in its entry.")
    oracle = train_oracle(
        architecture, split.views, split.labels, test.views, test.labels, oracle_settings
    )
    save_oracle(out, oracle)
    (reference,) = load_references(data, [out], evaluation_settings, device)
    row = {"dataset": dataset, "oracle": architecture, "accuracy": oracle.accuracy}
    assert isinstance(reference, Reference)
    scores = reference.image_scores(reference.see(test.views[:LARGEST]), "validation")
    write_table(record, pd.DataFrame([row | scores]))


def score_model(
    data: Path | str,
    vae: VAE,
    test: Num[Tensor, "n *shape"],
    samples: Path | str,
    oracles: Sequence[Path | str],
    settings: Mapping[str, Any],
    out: Path | str,
    agreement: Path | str,
    sheet: Path | str,
    flagged: Path | str,
    paths: Path | str,
    reconstruction: Path | str,
    gallery_out: Path | str,
) -> None:
    """Score the samples, the paths and the reconstructions of a model, and keep pictures of each.

    Args:
        data: What the data stage wrote.
        vae: The model.
        test: Samples of the test split, where the model is.
        samples: What the sample stage wrote.
        oracles: What the oracle stage wrote; none for samples without labels, of which everything
            that an oracle tells is left out.
        settings: ``neighbours``, ``quantile``, ``paths``, ``flagged`` (the beginnings of the
            sampler settings whose flagged samples are shown) and ``sampling`` with the counts.
        out: Table of the scores of samples.
        agreement: Table of the agreement of outlier scores.
        sheet: Samples of every sampler setting.
        flagged: Samples by the scores that flag them.
        paths: Table of the scores of decoded lines.
        reconstruction: Table of the scores of reconstructions.
        gallery_out: Reconstructions and decoded lines.

    Raises:
        InputError: a file cannot be read, or decoded images are not finite.
    """
    latents = load_samples(samples, vae, settings["sampling"], test.device)
    references = load_references(data, oracles, settings, test.device)
    scored = score_samples(vae, latents, references, settings["flagged"])
    write_table(out, scored.scores)
    write_table(agreement, scored.agreement)
    write_tensors(flagged, scored.flagged, vae.identity)
    with torch.no_grad():
        sheets = {key: vae.decode(z[:SHEET]) for key, z in latents["test"].items()}
    write_tensors(sheet, sheets, vae.identity)

    write_table(paths, score_paths(vae, latents["test"], test, references, settings["paths"]))
    random = generator(vae.identity["seed"], "reconstruction")
    scores = reconstruction_scores(vae, test, random)
    write_table(reconstruction, pd.DataFrame([vae.identity | scores]))
    write_tensors(gallery_out, gallery(vae, test), vae.identity)


def load_samples(
    path: Path | str,
    model: VAE,
    counts: Mapping[str, int],
    device: torch.device | None = None,
) -> dict[str, dict[str, Complex[Tensor, "n d"]]]:
    """Latents by split and ``sampler:setting``, as the sampling stage wrote them.

    Args:
        path: The file; every tensor holds the draws of the validation split, then those of the
            test split.
        model: The one that they were drawn from.
        counts: ``validation_count`` and ``count``, draws of the two splits.
        device: Where the latents go.

    Raises:
        InputError: the file is missing, damaged or does not hold so many latents of that model.
    """
    latents, metadata = read_tensors(path)
    if not all(":" in key and z.dim() == 2 for key, z in latents.items()):
        raise InputError(f"{path} does not hold samples: draw them again.")
    sizes = [counts["validation_count"], counts["count"]]
    check_identity(path, metadata, model.identity, "samples")
    expected = torch.empty(sum(sizes), model.latent_dim, dtype=torch.complex64, device="meta")
    check_tensors(path, latents, dict.fromkeys(latents, expected))
    parts = {key: z.to(device).split(sizes) for key, z in latents.items()}
    return {
        split: {key: part[i] for key, part in parts.items()} for i, split in enumerate(HELD_OUT)
    }


class Scored(NamedTuple):
    """What is found of samples.

    Attributes:
        scores: one row per split, sampler setting and oracle; see :meth:`Reference.image_scores`.
        agreement: of the outlier scores on test samples; see
            :func:`~kahlervae.evaluate.flagged.score_agreement`.
        flagged: test samples by the scores of the first oracle that flag them, under
            ``<what>/<group>/<sampler:setting>``; see
            :func:`~kahlervae.evaluate.flagged.flagged_images`.
    """

    scores: pd.DataFrame
    agreement: pd.DataFrame
    flagged: dict[str, Tensor]


@torch.no_grad()
def score_samples(
    model: VAE,
    samples: Mapping[str, Mapping[str, Complex[Tensor, "n d"]]],
    references: Sequence[Reference | Unjudged],
    flagged: Sequence[str],
) -> Scored:
    """Score samples of both splits, each against the real images of its own.

    Args:
        model: The model that decodes.
        samples: Latents by split and ``sampler:setting``.
        references: Real data as seen by each oracle.
        flagged: Beginnings of the sampler settings whose outlier scores are compared, see
            :func:`~kahlervae.evaluate.flagged.shown_keys`.

    Raises:
        InputError: decoded images are not finite, or fewer than the neighbours asked for.
    """
    rows, agreements = [], []
    pictures: dict[str, Tensor] = {}
    shown = shown_keys(list(samples["test"]), flagged)
    for split, latents in samples.items():
        for key, z in latents.items():
            sampler, setting = key.split(":", 1)
            where = {"sampler": sampler, "setting": setting}
            images = model.decode(z)
            scores: dict[tuple[str, str], Tensor] = {}
            flags: dict[tuple[str, str], Tensor] = {}
            for reference in references:
                oracle = reference.name
                seen = reference.see(images)
                found = reference.image_scores(seen, split)
                rows.append(model.identity | {"split": split, "oracle": oracle} | where | found)
                scores |= {(oracle, name): x for name, x in seen.outlier_scores.items()}
                flags |= {(oracle, name): x for name, x in reference.flags(seen).items()}
            if split == "test" and key in shown and flags:
                agreements.append(identified(score_agreement(scores, flags), where))
                first = references[0].name
                by_first = {name: x for (oracle, name), x in flags.items() if oracle == first}
                groups = flagged_images(images, by_first)
                pictures |= {f"{name}/{key}": tensor for name, tensor in groups.items()}
    if not agreements:  # without an oracle
        nothing = pd.DataFrame(columns=[*model.identity, *AGREEMENT])
        return Scored(pd.DataFrame(rows), nothing, pictures)
    agreement = identified(pd.concat(agreements, ignore_index=True), model.identity)
    return Scored(pd.DataFrame(rows), agreement, pictures)


@torch.no_grad()
def score_paths(
    model: VAE,
    samples: Mapping[str, Complex[Tensor, "n d"]],
    test: Num[Tensor, "m *shape"],
    references: Sequence[Reference | Unjudged],
    settings: Mapping[str, Any],
) -> pd.DataFrame:
    """Smoothness along decoded lines: one row per kind of endpoints and oracle.

    Endpoints are pairs of posterior means of test images (``posterior``) and of prior samples
    (``prior``); the pairs are drawn by the seed of the model alone, so that variants of one seed
    join the same test images.

    Args:
        model: The model that decodes.
        samples: Latents of the test split by ``sampler:setting``; other samplers than the prior
            are skipped.
        test: Samples of the test split.
        references: Real data as seen by each oracle.
        settings: ``count`` of the paths and ``steps`` of each.

    Raises:
        InputError: there are fewer than two points to join, or decoded images are not finite.
    """
    endpoints = {"posterior": model.encode(test).mean}
    if "prior:default" in samples:
        endpoints["prior"] = samples["prior:default"]
    real_variation = smoothness.total_variation(model.form.show(test))
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
                | {"endpoints": name, "oracle": reference.name}
                | smoothness.roughness(paths)
                | scores
                | {"sharpness": smoothness.total_variation(midpoints) / real_variation}
            )
    return pd.DataFrame(rows)


@torch.no_grad()
def gallery(model: VAE, samples: Num[Tensor, "n *shape"]) -> dict[str, Num[Tensor, "..."]]:
    """Pictures of a model: 16 originals with reconstructions, 6 decoded lines of 11 points."""
    originals = model.form.show(samples[:16])
    means = model.encode(samples[:16]).mean
    return {
        "originals": originals,
        "reconstructions": model.decode(means),
        "paths": _decode_lines(model, means[0:12:2], means[1:12:2], steps=10),
    }


def _decode_lines(
    model: VAE, start: Complex[Tensor, "n d"], end: Complex[Tensor, "n d"], steps: int
) -> Num[Tensor, "n points *view"]:
    lines = smoothness.latent_lines(start, end, steps)
    return model.decode(lines.flatten(0, 1)).unflatten(0, lines.shape[:2])


def load_references(
    data: Path | str,
    oracles: Sequence[Path | str],
    settings: Mapping[str, Any],
    device: torch.device | None = None,
) -> list[Reference | Unjudged]:
    """Real data as seen by each oracle; ``settings`` are ``neighbours`` and ``quantile``.

    Without any oracle the only one is :class:`~kahlervae.evaluate.reference.Unjudged`.

    Raises:
        InputError: a file cannot be read.
    """
    if not oracles:
        return [Unjudged()]
    splits = {name: load_split(data, name).to(device) for name in ("train", *HELD_OUT)}
    return [Reference(load_oracle(path).to(device), splits, settings) for path in oracles]
