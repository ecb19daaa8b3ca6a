"""Metrics and decoded images on a plane through the latent space."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kahlervae.data import Split
from kahlervae.geometry import MixturePotential, fisher_metric, log_det
from kahlervae.models import VAE

__all__ = ["slice_latents"]


def slice_latents(
    model: VAE,
    potentials: Mapping[str, MixturePotential],
    test: Split,
    settings: Mapping[str, Any],
) -> dict[str, Float[Tensor, "..."]]:
    """Log-determinants on the plane of the two leading principal directions of the means.

    The directions are real ones in R^{2d}, orthonormal, through the prior's mean z = 0.

    Args:
        model: with complex latents.
        potentials: ``fitted`` and ``posterior``.
        test: images whose posterior means span the plane and are projected into it.
        settings: ``extent`` (half side), ``resolution``, ``images`` per side, ``epsilon``.

    Returns:
        ``axis``; ``log_det_fisher``, ``log_det_fitted``, ``log_det_posterior`` with the vertical
        axis first; ``images`` on a coarser grid of the same square; ``means`` and ``labels``.
    """
    means = torch.view_as_real(model.encode_images(test.images).mean).flatten(1)
    _, _, directions = torch.linalg.svd(means, full_matrices=False)
    plane = directions[:2]

    def grid(points: int) -> tuple[Tensor, Tensor]:
        axis = torch.linspace(-settings["extent"], settings["extent"], points)
        vertical, horizontal = torch.meshgrid(axis, axis, indexing="ij")
        coordinates = torch.stack([horizontal, vertical], dim=-1).flatten(0, 1)
        return axis, torch.view_as_complex((coordinates @ plane).unflatten(1, (-1, 2)))

    axis, z = grid(settings["resolution"])
    square = (settings["resolution"],) * 2
    metrics = {"fisher": fisher_metric(model.decoder, z)}
    metrics |= {name: potentials[name].metric(z) for name in ("fitted", "posterior")}
    _, coarse = grid(settings["images"])
    return {
        "axis": axis,
        **{
            f"log_det_{name}": log_det(metric, settings["epsilon"]).unflatten(0, square)
            for name, metric in metrics.items()
        },
        "images": model.decode_images(coarse).unflatten(0, (settings["images"],) * 2),
        "means": means @ plane.mT,
        "labels": test.labels,
    }
