"""The sampling stage: all samplers of one model."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.models import VAE
from kahlervae.sample.diagnostics import Diagnostics
from kahlervae.sample.samplers import (
    PosteriorMixture,
    Prior,
    Sampler,
    Truncated,
    Volume,
    VolumeElement,
)
from kahlervae.seeding import generator

__all__ = ["SAMPLERS", "build_samplers", "sample_model"]

SAMPLERS = ("prior", "truncated", "posterior_mixture", "volume")


def build_samplers(
    model: VAE,
    images: Float[Tensor, "n height width"],
    potential: VolumeElement | None,
    settings: Mapping[str, Any],
) -> Iterator[Sampler]:
    """All samplers that the settings name, one for every temperature and every α.

    A model with a real latent space has no potential; it gets no ``volume`` samplers.

    Raises:
        InputError: an unknown sampler, or a complex model without a potential.
    """
    for name in settings["samplers"]:
        if name == "prior":
            yield Prior(model.latent_dim, device=images.device)
        elif name == "truncated":
            for temperature in settings["truncated"]["temperatures"]:
                yield Truncated(model.latent_dim, temperature, device=images.device)
        elif name == "posterior_mixture":
            with torch.no_grad():
                yield PosteriorMixture(model.encode_images(images))
        elif name == "volume":
            if potential is None:
                if model.identity["variant"] == "real":
                    continue
                raise InputError("the volume sampler needs a potential: pass its file.")
            names = ("chains", "warmup", "draws", "leapfrog", "rhat")
            options = {name: settings["volume"][name] for name in names}
            for alpha in settings["volume"]["alphas"]:
                prior = Prior(model.latent_dim, device=images.device)
                yield Volume(prior, potential, alpha, settings["epsilon"], **options)
        else:
            raise InputError(
                f"sampling.samplers names the unknown sampler {name!r}: "
                f"choose from {', '.join(SAMPLERS)}."
            )


def sample_model(
    model: VAE,
    images: Float[Tensor, "n height width"],
    potential: VolumeElement | None,
    settings: Mapping[str, Any],
) -> tuple[dict[str, Complex[Tensor, "count d"]], pd.DataFrame]:
    """Latents of every sampler and the diagnostics of those that run Markov chains.

    Every sampler draws from its own stream of the model's seed, so that none depends on which
    others are run, and samplers with equal names are paired between variants.

    Args:
        model: gives the latent dimension, the posteriors, the identity and the seed.
        images: training images, for the aggregated posterior; latents are drawn to their device.
        potential: metric of the volume samplers; None for a model with a real latent space.
        settings: ``sampling`` of the configuration, and ``epsilon`` of its ``geometry``.

    Returns:
        Latents (count, d) by key ``"{sampler}:{setting}"``, and a table with one row for every
        volume sampler: identity, sampler, setting, then the fields of
        :class:`~kahlervae.sample.diagnostics.Diagnostics`.

    Raises:
        InputError: a setting that no sampler can follow; the sentence names it.
    """
    latents, rows = {}, []
    for sampler in build_samplers(model, images, potential, settings):
        stream = generator(model.identity["seed"], "sample", sampler.key)
        draws = sampler.sample(settings["count"], stream)
        latents[sampler.key] = draws.latents
        if draws.diagnostics is not None:
            row = {"sampler": sampler.name, "setting": sampler.setting}
            rows.append({**model.identity, **row, **draws.diagnostics._asdict()})
    columns = [*model.identity, "sampler", "setting", *Diagnostics._fields]
    return latents, pd.DataFrame(rows, columns=columns)
