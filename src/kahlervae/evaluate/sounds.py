"""What a model of recordings says: sounds drawn from its likelihood."""

from collections.abc import Mapping

import torch
from jaxtyping import Complex, Float, Num
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.evaluate.atlas import middle_settings
from kahlervae.evaluate.smoothness import latent_lines
from kahlervae.models import VAE
from kahlervae.seeding import generator

__all__ = ["make_sounds"]

SHOWN, LINES, STEPS = 8, 3, 7
"""Sounds of a kind; lines, and the intervals of each."""


@torch.no_grad()
def make_sounds(
    model: VAE,
    test: Num[Tensor, "m length"],
    samples: Mapping[str, Complex[Tensor, "n d"]],
) -> dict[str, Float[Tensor, "..."]]:
    """Sounds of test recordings, of their reconstructions, of lines between them and of samples.

    What a model says is drawn from its likelihood, whose phase is random, and transformed back.

    Args:
        model: of recordings, seen by their short-time Fourier transform.
        test: recordings of the test split.
        samples: latents of the test split by ``sampler:setting``.

    Returns:
        ``sounds/<what>`` (count, length) and ``views/<what>``, the log power (count, bins, frames),
        with what one of ``recordings``, ``reconstructions``, ``line 1``, ... and, for a middle
        setting of every family of samplers, its ``sampler:setting``.

    Raises:
        InputError: the model is not of recordings.
    """
    if model.form.stft is None:
        raise InputError(
            f"the data set {model.identity['dataset']} has no block `stft`: it cannot be heard."
        )
    stream = generator(model.identity["seed"], "sounds")
    means = model.encode(test[:SHOWN]).mean
    said = {"reconstructions": means}
    for k in range(min(LINES, len(means) // 2)):
        said[f"line {k + 1}"] = latent_lines(means[2 * k, None], means[2 * k + 1, None], STEPS)[0]
    said |= {key: samples[key][:SHOWN] for key in middle_settings(list(samples))}
    content = {
        "sounds/recordings": test[:SHOWN],
        "views/recordings": model.form.show(test[:SHOWN]),
    }
    for name, z in said.items():
        likelihood = model.decoder(z)
        content[f"sounds/{name}"] = model.representation.decode(likelihood.sample(stream))
        content[f"views/{name}"] = model.representation.view(likelihood)
    return content
