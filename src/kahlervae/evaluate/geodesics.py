"""Interpolation along the metric of a potential against straight lines."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Complex, Num
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.evaluate import smoothness
from kahlervae.evaluate.reference import Reference, Unjudged
from kahlervae.geometry import LogPartitionPotential, Potential, fisher_metric
from kahlervae.geometry.geodesic import curve_energy, curve_length, geodesics
from kahlervae.geometry.metric import Metric
from kahlervae.models import VAE
from kahlervae.seeding import generator

__all__ = ["compare_curves", "join_posteriors"]

SHOWN = 2
"""Pairs whose decoded curves are kept for the figure."""


@torch.no_grad()
def join_posteriors(
    model: VAE,
    potential: Potential,
    samples: Num[Tensor, "m *shape"],
    settings: Mapping[str, Any],
) -> dict[str, Complex[Tensor, "n steps+1 d"]]:
    r"""Both curves, ``straight`` and ``geodesic``, between random pairs of posterior means.

    The geodesics are those of :math:`g + \epsilon I`, g the metric of the potential. The pairs are
    drawn by the seed of the model alone, so that variants of one seed join the same test samples;
    they are those of the decoded lines of the same number, see
    :func:`~kahlervae.evaluate.score.score_paths`.

    Args:
        model: with complex latents.
        potential: that of the decoder itself where it brings one, else the fitted one.
        samples: of the test split.
        settings: ``epsilon``; ``count`` of the pairs, ``steps`` and free ``points`` of each curve.

    Raises:
        InputError: there are fewer than two samples, or the metric is not finite.
    """
    if len(samples) < 2:
        raise InputError(f"a curve joins two samples, but there are {len(samples)}: enlarge test.")
    means = model.encode(samples).mean
    random = generator(model.identity["seed"], "paths")
    first, second = smoothness.pairs(len(means), settings["count"], random)
    start, end, steps = means[first], means[second], settings["steps"]
    metric = _regularised(potential, settings["epsilon"])
    straight = smoothness.latent_lines(start, end, steps)
    if curve_energy(metric, straight).isfinite().all():
        geodesic = geodesics(metric, start, end, steps, settings["points"])
        if curve_energy(metric, geodesic).isfinite().all():
            return {"straight": straight, "geodesic": geodesic}
    identity = f"{model.identity['variant']} (seed {model.identity['seed']})"
    raise InputError(
        f"the metric of the potential of {identity} is not finite along curves: fit it again with "
        "a lower geometry.potential.learning_rate."
    )


@torch.no_grad()
def compare_curves(
    model: VAE,
    potential: Potential,
    samples: Num[Tensor, "m *shape"],
    references: Sequence[Reference | Unjudged],
    settings: Mapping[str, Any],
) -> tuple[pd.DataFrame, dict[str, Num[Tensor, "pairs points *view"]]]:
    r"""Scores of both curves, and some of them decoded.

    Energy and length are taken in the metric of the potential, :math:`g + \epsilon I`, which the
    geodesics minimise, and in the exact Fisher metric of the decoder, which tells whether they are
    shorter there as well. The other columns are those of decoded lines, see
    :func:`~kahlervae.evaluate.score.score_paths`; all are means over the pairs.

    Args:
        references: real data as seen by each oracle.
        settings: see :func:`join_posteriors`, which takes the other arguments, too.

    Returns:
        One row per curve and oracle, with the name of the ``potential``; decoded curves by name.

    Raises:
        InputError: there are fewer than two samples, or what is computed is not finite.
    """
    curves = join_posteriors(model, potential, samples, settings)
    fitted = _regularised(potential, settings["epsilon"])
    real_variation = smoothness.total_variation(model.form.show(samples))

    def fisher(z: Tensor) -> Tensor:
        return fisher_metric(model.decoder, z)

    whose = "log_partition" if isinstance(potential, LogPartitionPotential) else "fitted"
    rows, decoded = [], {}
    for name, latents in curves.items():
        paths = model.decode(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])
        decoded[name] = paths[:SHOWN]
        midpoints = paths[:, paths.shape[1] // 2]
        geometry = {
            "energy": curve_energy(fitted, latents).mean().item(),
            "length": curve_length(fitted, latents).mean().item(),
            "fisher_energy": curve_energy(fisher, latents).mean().item(),
            "fisher_length": curve_length(fisher, latents).mean().item(),
        }
        roughness = smoothness.roughness(paths)
        sharpness = smoothness.total_variation(midpoints) / real_variation
        rows += [
            model.identity
            | {"potential": whose, "curve": name, "oracle": reference.name}
            | geometry
            | roughness
            | reference.path_scores(paths)
            | {"sharpness": sharpness}
            for reference in references
        ]
    return pd.DataFrame(rows), decoded


def _regularised(potential: Potential, epsilon: float) -> Metric:
    """g + εI as a function of z."""

    def metric(z: Tensor) -> Tensor:
        return potential.metric(z) + epsilon * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)

    return metric
