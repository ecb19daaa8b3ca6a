"""The best Kähler approximant: a mixture potential regressed on given metrics."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.geometry.curvature import log_det
from kahlervae.geometry.latents import check_latents
from kahlervae.geometry.mixture import MixturePotential
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
    to which all contribute. With Adam under a one-cycle rate on batches drawn with replacement, in
    units in which the mean diagonal entry of the metrics is :data:`UNIT`: c times the metrics have
    c times the potential.

    Args:
        z: probes; the fit has their precision.
        metrics: the metric to approximate at each of them, Hermitian and positive definite.
        groups: number of log-sum-exps.
        components: of each of them.
        steps: of the optimiser.
        learning_rate: the largest one.
        generator: for the start and the batches.

    Returns:
        The potential, without gradients.

    Raises:
        InputError: there are no probes, latents or metrics are not finite or of another shape,
            metrics are not Hermitian or not positive definite, or the fit diverged.

    Example:
        The metric of :math:`|z|^2 + \log(1 + |z|^2)`, from its values at 256 points:

        >>> stream = torch.Generator().manual_seed(0)
        >>> z = torch.randn(256, 1, dtype=torch.complex64, generator=stream)
        >>> metrics = 1 + (1 + z * z.conj()).unsqueeze(-1) ** -2
        >>> potential = fit_potential(z, metrics, 2, 8, 200, 0.1, stream)
        >>> bool((log_det(potential.metric(z)) - log_det(metrics)).abs().mean() < 0.1)
        True
        >>> potential.certificate().valid
        True
    """
    z, metrics = _check_probes(z, metrics)
    scale = float(metrics.diagonal(dim1=-2, dim2=-1).real.double().mean()) / UNIT
    metrics = metrics / scale
    potential = MixturePotential.random(z.shape[1], groups, components, UNIT, generator, z.dtype)
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
    if not all(parameter.isfinite().all() for parameter in potential.parameters()):
        raise InputError(
            f"the fit of {groups} × {components} exponentials to {len(z)} metrics diverged: lower "
            "the learning rate."
        )
    return potential.requires_grad_(False).scaled(scale)


BATCH = 256
VOLUME_WEIGHT = 0.05
UNIT = 30.0
"""Size of the metrics to which Adam's rate belongs, in which the root of the background is learned:
that of the digits, where the rate of the configuration was chosen."""


def _check_probes(z: Tensor, metrics: Tensor) -> tuple[Tensor, Tensor]:
    z = check_latents(z, finite=True).detach()
    expected = (*z.shape, z.shape[1])
    if not len(z):
        raise InputError("there are no probes: a fit needs latents with their metrics.")
    if not isinstance(metrics, Tensor) or metrics.shape != expected or not metrics.is_complex():
        given = tuple(metrics.shape) if isinstance(metrics, Tensor) else type(metrics).__name__
        raise InputError(
            f"the metrics are {given}, not one complex matrix for each of the probes: give a "
            f"tensor of shape {expected}."
        )
    metrics = metrics.detach().to(z)
    size = torch.linalg.matrix_norm(metrics)
    skew = torch.linalg.matrix_norm(metrics - metrics.mH) > 1e-3 * size
    for fault, rows in {
        "not finite": ~size.isfinite(),
        "not Hermitian": skew,
        "not positive definite": ~log_det(metrics).isfinite(),
    }.items():
        if count := int(rows.sum()):
            first = ", ".join(map(str, rows.nonzero().flatten()[:5].tolist()))
            raise InputError(
                f"{count} of {len(z)} metrics are {fault} (rows {first}{', …' * (count > 5)}): "
                "leave these probes out, or add ε times the identity."
            )
    return z, metrics


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

    Returns:
        The potential, without gradients.

    Raises:
        InputError: as :func:`fit_potential` does.

    Example:
        Metrics of a posterior potential give temperature and strength back:

        >>> mean, variance = torch.tensor([[1 + 0j], [-1 + 0j]]), torch.tensor([[0.5], [1.0]])
        >>> z = torch.tensor([[0j], [1 + 1j], [-2j]])
        >>> metrics = MixturePotential.from_posterior(mean, 4 * variance, 3.0).metric(z).detach()
        >>> potential = calibrate_posterior_potential(mean, variance, z, metrics)
        >>> torch.allclose(potential.metric(z), metrics)
        True
    """
    z, metrics = _check_probes(z, metrics)
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
