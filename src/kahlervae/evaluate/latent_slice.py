"""Metrics and decoded images on a plane through the latent space."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.data import Split
from kahlervae.geometry import Potential, exact_potential, fisher_metric, log_det
from kahlervae.models import VAE

__all__ = ["Plane", "principal_plane", "slice_latents"]


class Plane(NamedTuple):
    """A real plane in C^d = R^{2d}, coordinates in the order (a_1, b_1, a_2, b_2, ...), z = a + ib.

    Attributes:
        origin: where both coordinates of the plane are 0.
        directions: orthonormal.
        spread: a length on the plane.
    """

    origin: Float[Tensor, " 2*d"]
    directions: Float[Tensor, "2 2*d"]
    spread: float

    def grid(
        self, extent: float, points: int
    ) -> tuple[Float[Tensor, " points"], Complex[Tensor, "points**2 d"]]:
        """The axis of a square grid, and its latents by rows from below.

        Half the side is ``extent`` times the spread.
        """
        half = extent * self.spread
        axis = torch.linspace(-half, half, points, device=self.directions.device)
        vertical, horizontal = torch.meshgrid(axis, axis, indexing="ij")
        coordinates = torch.stack([horizontal, vertical], dim=-1).flatten(0, 1)
        latents = self.origin + coordinates @ self.directions
        return axis, torch.view_as_complex(latents.unflatten(1, (-1, 2)).contiguous())

    def project(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
        """Coordinates in the plane of the latents' orthogonal projections."""
        return (torch.view_as_real(z).flatten(1) - self.origin) @ self.directions.mT

    def distance(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far the latents lie from the plane."""
        squares = (torch.view_as_real(z).flatten(1) - self.origin).square().sum(1)
        return (squares - self.project(z).square().sum(1)).clamp(min=0).sqrt()


def principal_plane(means: Complex[Tensor, "n d"]) -> Plane:
    """The plane from which the means lie least far, in the mean of squares, around their mean.

    Its spread is their standard deviation along the first direction, so that a square of so many of
    them shows as much of every model, however large its latents are; 1 where they do not vary.
    """
    real = torch.view_as_real(means).flatten(1)
    _, singular, directions = torch.linalg.svd(real - real.mean(0), full_matrices=False)
    return Plane(real.mean(0), directions[:2], float(singular[0]) / len(real) ** 0.5 or 1.0)


def slice_latents(
    model: VAE,
    potentials: Mapping[str, Potential],
    test: Split,
    settings: Mapping[str, Any],
) -> dict[str, Float[Tensor, "..."]]:
    """Log-determinants on the plane of the two leading principal directions of the means.

    The directions are real ones in R^{2d}, orthonormal, through the mean of the means: a learned
    prior need not lie around 0.

    Args:
        model: with complex latents.
        potentials: ``fitted`` and ``posterior``.
        test: samples whose posterior means span the plane and are projected into it.
        settings: ``extent`` (half side, in the means' spread), ``resolution``, ``images`` per side,
            ``epsilon``.

    Returns:
        ``axis``; ``log_det_fisher``, ``log_det_fitted``, ``log_det_posterior``, and
        ``log_det_log_partition`` where the decoder brings an exact potential, with the vertical
        axis first; ``images`` on a coarser grid of the same square; ``means``, and ``labels`` where
        there are any.
    """
    means = model.encode(test.samples).mean
    plane = principal_plane(means)
    axis, z = plane.grid(settings["extent"], settings["resolution"])
    square = (settings["resolution"],) * 2
    metrics = {"fisher": fisher_metric(model.decoder, z)}
    metrics |= {name: potentials[name].metric(z) for name in ("fitted", "posterior")}
    if own := exact_potential(model.decoder):
        metrics["log_partition"] = own.metric(z)
    _, coarse = plane.grid(settings["extent"], settings["images"])
    return {
        "axis": axis,
        **{
            f"log_det_{name}": log_det(metric, settings["epsilon"]).unflatten(0, square)
            for name, metric in metrics.items()
        },
        "images": model.decode(coarse).unflatten(0, (settings["images"],) * 2),
        "means": plane.project(means),
        **({} if test.labels is None else {"labels": test.labels}),
    }
