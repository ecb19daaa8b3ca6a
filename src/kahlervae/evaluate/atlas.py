"""The latent atlas of a model: its geometry, what is decoded there and its samples on one plane."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Complex, Num
from torch import Tensor

from kahlervae.evaluate.latent_slice import principal_plane
from kahlervae.evaluate.reference import Reference, Unjudged
from kahlervae.geometry import Potential, fisher_metric, log_det, scalar_curvature
from kahlervae.models import VAE

__all__ = ["map_latents", "middle_settings"]


def middle_settings(keys: Sequence[str]) -> list[str]:
    """Of each family of samplers the setting in the middle of its sweep: what a page can show.

    The last ``name=value`` of a setting is what the sweep runs over.

    Example:
        >>> middle_settings(["prior:default", *(f"truncated:temperature={t}" for t in (1, 2, 3))])
        ['prior:default', 'truncated:temperature=2']
    """
    families: dict[str, list[str]] = {}
    for key in keys:
        families.setdefault(key.rpartition("," if "," in key else ":")[0], []).append(key)
    return [family[len(family) // 2] for family in families.values()]


@torch.no_grad()
def map_latents(
    model: VAE,
    potential: Potential,
    test: Num[Tensor, "m *shape"],
    samples: Mapping[str, Complex[Tensor, "n d"]],
    references: Sequence[Reference | Unjudged],
    settings: Mapping[str, Any],
) -> dict[str, Tensor]:
    r"""Everything that the page of the atlas shows, on the plane of the latent slice.

    The Ricci scalar is :math:`\mathrm{tr}(G^{-1} R)` of the potential's metric G, see
    :func:`~kahlervae.geometry.scalar_curvature`.

    Args:
        model: with complex latents.
        potential: the fitted one.
        test: samples; their posterior means span the plane.
        samples: latents of the test split by ``sampler:setting``.
        references: real data as seen by each oracle, which tell the outliers.
        settings: as of the latent slice, and ``samples`` of each sampler.

    Returns:
        ``axis``; ``log_det_fisher``, ``log_det_fitted`` and ``ricci_scalar``, vertical axis first;
        ``images`` decoded at the same points; ``oracles``, their number. For the posterior means of
        the test samples and for one set of samples of every family (:func:`middle_settings`), under
        ``<what>/<sampler:setting>``:
        ``points``, their orthogonal projections into the plane; ``distances`` from it; ``images``;
        ``outliers``, by how many of the oracles the decoded image counts as a kNN outlier.
    """
    means = model.encode(test).mean
    plane = principal_plane(means)
    axis, z = plane.grid(settings["extent"], settings["resolution"])
    square = (settings["resolution"],) * 2
    fields = {
        "log_det_fisher": log_det(fisher_metric(model.decoder, z), settings["epsilon"]),
        "log_det_fitted": log_det(potential.metric(z), settings["epsilon"]),
        "ricci_scalar": scalar_curvature(potential.metric, z),
        "images": model.decode(z),
    }
    judges = [judge for judge in references if isinstance(judge, Reference)]
    content = {"axis": axis, "oracles": torch.tensor(len(judges))}
    content |= {name: field.unflatten(0, square) for name, field in fields.items()}
    chosen = {key: samples[key] for key in middle_settings(list(samples))}
    for key, drawn in {"posterior_mean:default": means, **chosen}.items():
        latents = drawn[: settings["samples"]]
        points, images = plane.project(latents), model.decode(latents)
        content[f"points/{key}"] = points
        content[f"distances/{key}"] = plane.distance(latents)
        content[f"images/{key}"] = images
        outliers = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        for judge in judges:
            outliers = outliers + judge.flags(judge.see(images))["knn"]
        content[f"outliers/{key}"] = outliers
    return content
