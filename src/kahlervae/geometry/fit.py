"""The best Kähler approximant in a class: a potential regressed on given metrics."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.errors import Diverged, InputError
from kahlervae.geometry.curvature import log_det
from kahlervae.geometry.holomorphic import HolomorphicPotential
from kahlervae.geometry.latents import check_gradients, check_latents
from kahlervae.geometry.metric import is_hermitian
from kahlervae.geometry.mixture import MixturePotential
from kahlervae.geometry.potential import Potential, inverse_and_log_det
from kahlervae.nn.optimiser import Adam
from kahlervae.options import check_count, check_number
from kahlervae.seeding import check_stream

__all__ = [
    "calibrate_anchor_potential",
    "calibrate_posterior_potential",
    "continue_fit",
    "fit_potential",
    "polish_potential",
    "potential_error",
    "random_potential",
]

KINDS: dict[str, Any] = {"mixture": MixturePotential, "holomorphic": HolomorphicPotential}
"""Classes that can be fitted, by the name that a configuration has for them."""


def fit_potential(
    z: Complex[Tensor, "n d"],
    metrics: Complex[Tensor, "n d d"],
    kind: str,
    size: Mapping[str, int],
    steps: int,
    learning_rate: float,
    generator: torch.Generator,
    batch: int = 256,
) -> Potential:
    r"""Regress the metric of a potential on given metrics.

    .. math:: \min \; E_n \left[ \frac{\|g_K(z_n) - G_n\|^2}{\|G_n\|^2}
              + w\, (\log\det g_K(z_n) - \log\det G_n)^2 \right], \qquad w = 0.05

    The first term is dominated by the largest eigenvalues, the second keeps the volume element,
    to which all contribute. With Adam under a one-cycle rate on batches drawn with replacement, in
    units in which the mean diagonal entry of the metrics is :data:`UNIT`: c times the metrics have
    c times the potential. A few metrics that are huge do not set the unit for the others.
    :func:`polish_potential` may take it further.

    Args:
        z: probes; the fit has their precision.
        metrics: the metric to approximate at each of them, Hermitian and positive definite.
        kind: the class, one of :data:`KINDS`.
        size: what its ``random`` takes: ``groups`` and ``components``, and perhaps ``rank``, of a
            mixture; ``width`` and ``layers``, and perhaps ``groups`` and ``rank``, of a holomorphic
            one.
        steps: of the optimiser.
        learning_rate: the largest one.
        generator: for the start and the batches.
        batch: probes of a step.

    Returns:
        The potential, without gradients.

    Raises:
        InputError: there is no such kind, its size is another one's, there are no probes, latents
            or metrics are not finite or of another shape, metrics are not Hermitian or not positive
            definite.
        Diverged: the fit ends far above the error at which it starts.

    Example:
        The metric of :math:`|z|^2 + \log(1 + |z|^2)`, from its values at 256 points:

        >>> stream = torch.Generator().manual_seed(0)
        >>> z = torch.randn(256, 1, dtype=torch.complex64, generator=stream)
        >>> metrics = 1 + (1 + z * z.conj()).unsqueeze(-1) ** -2
        >>> size = {"groups": 2, "components": 8}
        >>> potential = fit_potential(z, metrics, "mixture", size, 200, 0.1, stream)
        >>> bool((log_det(potential.metric(z)) - log_det(metrics)).abs().mean() < 0.1)
        True
        >>> potential.certificate().valid
        True
    """
    z, metrics = _check_probes(z, metrics)
    start = random_potential(kind, size, z.shape[1], UNIT, generator, z.dtype).to(z.device)
    start = start.scaled(_scale(metrics))
    return continue_fit(start, z, metrics, steps, learning_rate, generator, batch)


@torch.enable_grad()
def continue_fit(
    potential: Potential,
    z: Complex[Tensor, "n d"],
    metrics: Complex[Tensor, "n d d"],
    steps: int,
    learning_rate: float,
    generator: torch.Generator,
    batch: int = 256,
) -> Potential:
    """The potential after further steps of :func:`fit_potential`, which takes the other arguments.

    The rate rises and falls once more: a fit in two parts is as good as one of a few more steps.

    Args:
        potential: where to start; it stays as it is.

    Raises:
        InputError: as :func:`fit_potential` does.

    Example:
        >>> stream = torch.Generator().manual_seed(0)
        >>> z = torch.randn(256, 1, dtype=torch.complex64, generator=stream)
        >>> metrics = 1 + (1 + z * z.conj()).unsqueeze(-1) ** -2
        >>> size = {"groups": 2, "components": 8}
        >>> start = fit_potential(z, metrics, "mixture", size, 50, 0.1, stream)
        >>> potential = continue_fit(start, z, metrics, 100, 0.1, stream)
        >>> potential_error(potential, z, metrics) < potential_error(start, z, metrics)
        True
    """
    check_gradients("a potential")
    check_stream(generator)
    z, metrics = _check_probes(z, metrics)
    check_count("the number of steps", steps)
    check_count("the number of probes in a batch", batch)
    check_number("the learning rate", learning_rate, positive=True)
    scale = _scale(metrics)
    start = potential.scaled(1 / scale)
    few = slice(None, None, math.ceil(len(z) / (4 * batch)))  # enough to tell
    before = _typical_error(start, z[few], metrics[few] / scale)
    fitted = start.requires_grad_(True)
    _regress(fitted, z, metrics / scale, steps, learning_rate, generator, batch)
    after = _typical_error(fitted, z[few], metrics[few] / scale)
    if not after <= DIVERGED * max(1.0, before):
        raise Diverged(
            f"the fit of a {type(potential).__name__} to {len(z)} metrics diverged, from an error "
            f"of {before:.3g} to {after:.3g}: lower the learning rate."
        )
    return fitted.requires_grad_(False).scaled(scale)


@torch.no_grad()
def _typical_error(potential: Potential, z: Tensor, metrics: Tensor) -> float:
    """The median of the objective, which a few metrics that are huge do not decide."""
    return _Target.of(metrics).objective(potential.metric(z)).values.nanmedian().item()


def _scale(metrics: Tensor) -> float:
    """What metrics are to be divided by."""
    sizes = metrics.diagonal(dim1=-2, dim2=-1).real.double().mean(-1)
    return sizes.clamp_max(HUGE * sizes.median()).mean().item() / UNIT


def _regress(
    potential: Potential,
    z: Complex[Tensor, "n d"],
    metrics: Complex[Tensor, "n d d"],
    steps: int,
    learning_rate: float,
    generator: torch.Generator,
    batch: int,
) -> None:
    """Adam under a one-cycle rate, in place, on batches drawn with replacement."""
    optimiser = Adam(potential.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps)
    target = _Target.of(metrics)
    for _ in range(steps):
        rows = torch.randint(len(z), (batch,), generator=generator, device=generator.device)
        optimiser.zero_grad()
        metric = potential.metric(z[rows])
        metric.backward(target.objective(metric.detach(), rows).gradient / batch)
        optimiser.step()
        schedule.step()


def random_potential(
    kind: str,
    size: Mapping[str, int],
    latent_dim: int,
    scale: float,
    generator: torch.Generator,
    dtype: torch.dtype = torch.complex64,
) -> Potential:
    """A random potential of any class: where a fit starts, or a training that ties one along.

    Args:
        kind: see :func:`fit_potential`, which takes the size, too.
        size: what the ``random`` of the class takes.
        latent_dim: d.
        scale: of the metric.
        generator: for the parameters.
        dtype: of the latents.

    Raises:
        InputError: there is no such kind, its size is another one's, or a number is out of range.

    Example:
        >>> stream = torch.Generator().manual_seed(0)
        >>> size = {"width": 4, "layers": 2}
        >>> type(random_potential("holomorphic", size, 2, 1.0, stream)).__name__
        'HolomorphicPotential'
        >>> random_potential("mixture", size, 2, 1.0, stream)
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: the size of a mixture potential consists of 'groups', \
'components', 'rank', of which 'components' and 'groups' are needed, not of 'width', 'layers'.
    """
    if kind not in KINDS:
        raise InputError(
            f"there is no kind {kind!r} of potentials: take one of {', '.join(KINDS)}."
        )
    given = ("latent_dim", "scale", "generator", "dtype")
    parameters = inspect.signature(KINDS[kind].random).parameters.values()
    sizes = {p.name: p.default is p.empty for p in parameters if p.name not in given}
    needed = {name for name, required in sizes.items() if required}
    if not needed <= set(size) <= set(sizes):
        raise InputError(
            f"the size of a {kind} potential consists of {', '.join(map(repr, sizes))}, of which "
            f"{' and '.join(map(repr, sorted(needed)))} are needed, not of "
            f"{', '.join(map(repr, size)) or 'nothing'}."
        )
    potential: Potential = KINDS[kind].random(
        latent_dim, **size, scale=scale, generator=generator, dtype=dtype
    )
    return potential


@torch.enable_grad()
def polish_potential(
    potential: Potential,
    z: Complex[Tensor, "n d"],
    metrics: Complex[Tensor, "n d d"],
    iterations: int,
) -> Potential:
    """The potential after so many iterations of L-BFGS on the objective of :func:`fit_potential`.

    All probes count in every iteration. L-BFGS finds a step's length by itself and, other than
    Adam, sees how parameters act together: it goes on where Adam has stalled.

    Args:
        potential: where to start; it stays as it is.
        z: probes.
        metrics: the metric at each of them.
        iterations: at most.

    Raises:
        InputError: as :func:`fit_potential` does.

    Example:
        >>> stream = torch.Generator().manual_seed(0)
        >>> z = torch.randn(256, 1, dtype=torch.complex64, generator=stream)
        >>> metrics = 1 + (1 + z * z.conj()).unsqueeze(-1) ** -2
        >>> start = HolomorphicPotential.random(1, 4, 1, 2.0, stream)
        >>> potential = polish_potential(start, z, metrics, 20)
        >>> potential_error(potential, z, metrics) < 0.1 * potential_error(start, z, metrics)
        True
    """
    from scipy.optimize import minimize  # takes a while to load

    check_gradients("a potential")
    check_count("the number of iterations", iterations)
    z, metrics = _check_probes(z, metrics)
    scale = _scale(metrics)
    metrics = metrics / scale
    polished = potential.scaled(1 / scale).requires_grad_(True)
    reals = [
        torch.view_as_real(parameter.data) if parameter.is_complex() else parameter.data
        for parameter in polished.parameters()
    ]

    def put(flat: np.ndarray) -> None:
        values = torch.from_numpy(flat).split([part.numel() for part in reals])
        for part, value in zip(reals, values, strict=True):
            part.copy_(value.reshape(part.shape))

    target = _Target.of(metrics)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        put(flat)
        polished.zero_grad(set_to_none=False)
        total = 0.0
        for rows in torch.arange(len(z)).split(PART):
            metric = polished.metric(z[rows])
            found = target.objective(metric.detach(), rows)
            metric.backward(found.gradient / len(z))
            total += found.values.sum().item() / len(z)
        gradients = [
            torch.view_as_real(cast(Tensor, parameter.grad)).flatten()
            if parameter.is_complex()
            else cast(Tensor, parameter.grad).flatten()
            for parameter in polished.parameters()
        ]
        gradient = torch.cat(gradients).double().cpu().numpy()
        # A line search that has gone too far comes back.
        return (total, gradient) if np.isfinite(total) else (FAR, np.zeros_like(gradient))

    for parameter in polished.parameters():
        parameter.grad = torch.zeros_like(parameter)
    start = torch.cat([part.flatten() for part in reals]).double().cpu().numpy()
    found = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        # Its own tolerances are absolute where the objective is small, and end the search too soon.
        options={
            "maxiter": iterations,
            "maxfun": 2 * iterations,
            "maxcor": MEMORY,
            "ftol": torch.finfo(z.real.dtype).eps * 1e-3,
            "gtol": 0.0,
        },
    )
    put(found.x)
    return polished.requires_grad_(False).scaled(scale)


@torch.no_grad()
def potential_error(
    potential: Potential, z: Complex[Tensor, "n d"], metrics: Complex[Tensor, "n d d"]
) -> float:
    """The objective of :func:`fit_potential` at any probes: 0 where the metrics are met.

    Example:
        >>> flat = torch.eye(2, dtype=torch.complex64)
        >>> z = torch.zeros(3, 2, dtype=torch.complex64)
        >>> potential_error(MixturePotential.constant(flat), z, flat.expand(3, 2, 2))
        0.0
    """
    z, metrics = _check_probes(z, metrics)
    return _Target.of(metrics).objective(potential.metric(z)).values.mean().item()


class _Objective(NamedTuple):
    """At every probe: the value, and what the metric has to be moved against."""

    values: Float[Tensor, " n"]
    gradient: Complex[Tensor, "n d d"]


class _Target(NamedTuple):
    """Given metrics, and what of them every evaluation of the objective needs."""

    metrics: Complex[Tensor, "n d d"]
    squares: Float[Tensor, " n"]
    log_dets: Float[Tensor, " n"]

    @classmethod
    def of(cls, metrics: Complex[Tensor, "n d d"]) -> "_Target":
        return cls(metrics, squared_norm(metrics), log_det(metrics))

    def objective(
        self, metric: Complex[Tensor, "n d d"], rows: Tensor | slice = slice(None)
    ) -> _Objective:
        r"""The objective of :func:`fit_potential` at some of the probes.

        Its gradient in the metric g is in closed form, which spares automatic differentiation
        through factorisations of small matrices,

        .. math:: 2\, \frac{g - G}{\|G\|^2} + 2w\, (\log\det g - \log\det G)\, g^{-1}.
        """
        change, squares = metric - self.metrics[rows], self.squares[rows]
        inverse, log_dets = inverse_and_log_det(metric, 0.0)
        volume = log_dets - self.log_dets[rows]
        values = squared_norm(change) / squares + VOLUME_WEIGHT * volume.square()
        scale = (2 * VOLUME_WEIGHT * volume)[:, None, None]
        return _Objective(values, 2 * change / squares[:, None, None] + scale * inverse)


def squared_norm(matrices: Complex[Tensor, "n d d"]) -> Float[Tensor, " n"]:
    """Squared Frobenius norms.

    Example:
        >>> squared_norm(torch.tensor([[[1, 2j], [0, 1 + 1j]]]))
        tensor([7.])
    """
    return torch.view_as_real(matrices.resolve_conj()).square().sum((-3, -2, -1))


DIVERGED = 10.0
"""Times the error at the start, and at least that of no metric at all, 1, from where on a fit that
ends there has diverged."""

VOLUME_WEIGHT = 0.05
UNIT = 30.0
"""Size of the metrics to which Adam's rate belongs, in which the root of the background is learned:
that of the digits, where the rate of the configuration was chosen."""

HUGE = 1e3
"""Times the median size, from where on a metric no longer counts for the unit of a fit."""

PART = 1024
"""Probes at once of L-BFGS."""

MEMORY = 20
"""Updates that L-BFGS remembers."""

FAR = 1e10
"""What L-BFGS is told where the objective is not finite."""


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
    size = torch.linalg.matrix_norm(metrics.to(torch.complex128))  # in which no square overflows
    for fault, rows in {
        "not finite": ~size.isfinite(),
        "not Hermitian": ~is_hermitian(metrics),
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
    units = [MixturePotential.from_posterior(mean, scale * variance) for scale in TEMPERATURES]
    return _calibrated(units, z, metrics)


def calibrate_anchor_potential(
    anchors: Complex[Tensor, "components d"],
    anchor_metrics: Complex[Tensor, "components d d"],
    z: Complex[Tensor, "n d"],
    metrics: Complex[Tensor, "n d d"],
) -> MixturePotential:
    """The potential of metrics at anchors at the rate and strength that suit other metrics best.

    :meth:`~kahlervae.geometry.mixture.MixturePotential.from_metrics` for every rate of
    :data:`RATES`, with the strength of :func:`calibrate_posterior_potential`: K exact metrics, two
    numbers, and nothing else is fitted.

    Args:
        anchors: a_k.
        anchor_metrics: the metric at each of them.
        z: probes that are no anchors.
        metrics: the metric at each of these.

    Returns:
        The potential, without gradients.

    Raises:
        InputError: as :func:`fit_potential` does.

    Example:
        Metrics of such a potential give it back:

        >>> a = torch.tensor([[1 + 0j], [-1 + 0j]])
        >>> own = torch.tensor([[[2 + 0j]], [[4 + 0j]]])
        >>> z = torch.tensor([[0j], [1 + 1j], [-2j]])
        >>> metrics = MixturePotential.from_metrics(a, own, 0.4).scaled(0.5).metric(z).detach()
        >>> potential = calibrate_anchor_potential(a, own, z, metrics)
        >>> torch.allclose(potential.metric(z), metrics)
        True
    """
    z, metrics = _check_probes(z, metrics)
    anchors, anchor_metrics = _check_probes(anchors, anchor_metrics)
    units = [MixturePotential.from_metrics(anchors, anchor_metrics, rate) for rate in RATES]
    return _calibrated(units, z, metrics)


def _calibrated(units: Sequence[MixturePotential], z: Tensor, metrics: Tensor) -> MixturePotential:
    """That of the potentials which, at its best strength, has the least error."""
    norms = torch.linalg.matrix_norm(metrics)
    best: tuple[float, MixturePotential] | None = None
    for unit in units:
        potential = unit.to(z.device).requires_grad_(False)
        metric = potential.metric(z)
        inner = (metric * metrics.conj()).sum((-2, -1)).real / norms.square()
        square = torch.linalg.matrix_norm(metric).square() / norms.square()
        strength = float(inner.sum() / square.sum())
        if not 0 < strength < math.inf:
            continue
        errors = torch.linalg.matrix_norm(strength * metric - metrics) / norms
        loss = errors.square().mean().item()
        if best is None or loss < best[0]:
            best = loss, potential.scaled(strength)
    if best is None:
        raise InputError(
            f"{len(units)} potentials of these anchors have no curvature at the probes: take two "
            "anchors or more."
        )
    return best[1]


TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
RATES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
