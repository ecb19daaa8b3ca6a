"""The best Kähler approximant: a mixture potential regressed on given metrics."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.geometry.curvature import log_det
from kahlervae.geometry.potential import MixturePotential
from kahlervae.nn.optimiser import Adam

__all__ = ["calibrate_posterior_potential", "fit_potential"]


def fit_potential(
    z: Complex[Tensor, "n d"],
    metrics: Complex[Tensor, "n d d"],
    groups: int,
    components: int,
    steps: int,
    learning_rate: float,
    generator: torch.Generator,
) -> MixturePotential:
    r"""Regress the metric of a potential on given metrics.

    .. math:: \min \; E_n \left[ \frac{\|g_K(z_n) - G_n\|^2}{\|G_n\|^2}
              + w\, (\log\det g_K(z_n) - \log\det G_n)^2 \right], \qquad w = 0.05

    The first term is dominated by the largest eigenvalues, the second keeps the volume element,
    to which all contribute. With Adam under a one-cycle rate on batches drawn with replacement.

    Args:
        z: probes.
        metrics: the metric to approximate at each of them.
    """
    scale = float(metrics.diagonal(dim1=-2, dim2=-1).real.mean())
    potential = MixturePotential.random(z.shape[1], groups, components, scale, generator)
    potential = potential.to(z.device)
    optimiser = Adam(potential.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps)
    norms, log_dets = torch.linalg.matrix_norm(metrics), log_det(metrics)
    for _ in range(steps):
        rows = torch.randint(len(z), (BATCH,), generator=generator)
        metric = potential.metric(z[rows])
        errors = torch.linalg.matrix_norm(metric - metrics[rows]) / norms[rows]
        volumes = log_det(metric) - log_dets[rows]
        optimiser.zero_grad()
        (errors.square() + VOLUME_WEIGHT * volumes.square()).mean().backward()
        optimiser.step()
        schedule.step()
    return potential.requires_grad_(False)


BATCH = 256
VOLUME_WEIGHT = 0.05


def calibrate_posterior_potential(
    mean: Complex[Tensor, "components d"],
    variance: Float[Tensor, "components d"],
    z: Complex[Tensor, "n d"],
    metrics: Complex[Tensor, "n d d"],
) -> MixturePotential:
    r"""The posterior potential at the temperature and strength that suit the given metrics best.

    Components are widened, γ → τγ, for τ in :data:`TEMPERATURES`; for each τ the strength with the
    least mean squared relative error is known in closed form,

    .. math:: s = \frac{\sum_n \langle H_n, G_n \rangle / \|G_n\|^2}
                       {\sum_n \|H_n\|^2 / \|G_n\|^2},

    with H the metric of unit strength. Two numbers are calibrated and nothing else is fitted.

    Args:
        mean: anchors m_k of the aggregated posterior.
        variance: γ_k.
        z: training probes.
        metrics: the metric at each of them.
    """
    candidates = []
    norms = torch.linalg.matrix_norm(metrics)
    for temperature in TEMPERATURES:
        unit = MixturePotential.from_posterior(mean, temperature * variance).to(z.device).metric(z)
        unit = unit.detach()
        inner = (unit * metrics.conj()).sum((-2, -1)).real / norms.square()
        square = torch.linalg.matrix_norm(unit).square() / norms.square()
        strength = float(inner.sum() / square.sum())
        loss = float((torch.linalg.matrix_norm(strength * unit - metrics) / norms).square().mean())
        candidates.append((loss, temperature, strength))
    _, temperature, strength = min(candidates)
    potential = MixturePotential.from_posterior(mean, temperature * variance, strength)
    return potential.to(z.device).requires_grad_(False)


TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
