"""Did the chains converge? Rank-normalised diagnostics by ArviZ."""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.sample.hmc import Chains

__all__ = ["Diagnostics", "Normaliser", "diagnose", "estimate_normaliser"]


class Normaliser(NamedTuple):
    """What a weight is divided by, estimated from draws of the base.

    Attributes:
        log_normaliser: log of the mean weight.
        normaliser_ess: effective number of the draws, (Σw)² / Σw².
        normaliser_draws: number of the draws.
        pareto_k: shape of the generalised Pareto distribution of the largest weights. Above 0.7
            the estimate is unreliable, above 1 the mean weight may be infinite; not a number
            where these weights are all the same, so that none is in doubt, or too few for a shape.
    """

    log_normaliser: float
    normaliser_ess: float
    normaliser_draws: int
    pareto_k: float


UNWEIGHTED = Normaliser(math.nan, math.nan, 0, math.nan)


def estimate_normaliser(log_weights: Float[Tensor, " draws"]) -> Normaliser:
    r"""Importance sampling of a normaliser, :math:`\log E_p[w]`.

    Reference:
        Vehtari, Simpson, Gelman, Yao & Gabry (2024), Pareto smoothed importance sampling.

    Args:
        log_weights: log w at draws from the base.

    Raises:
        InputError: there are none.

    Example:
        >>> import torch
        >>> estimate = estimate_normaliser(torch.full((100,), -2.0))  # a weight that is constant
        >>> round(estimate.log_normaliser, 6), round(estimate.normaliser_ess, 6)
        (-2.0, 100.0)
    """
    from arviz_stats.base.array import array_stats

    if not len(log_weights):
        raise InputError("there are no weights: a normaliser takes one draw of the base at least.")
    values = log_weights.double().cpu()
    total = values.logsumexp(0)
    weights = (values - values.max()).exp().numpy()[None]
    try:
        k = array_stats.pareto_khat(weights, chain_axis=0, draw_axis=1, r_eff=1.0, tail="right")
    except (ValueError, IndexError):  # raised for a tail of equal values, or of none at all
        k = math.nan
    return Normaliser(
        log_normaliser=float(total) - math.log(len(values)),
        normaliser_ess=float((2 * total - (2 * values).logsumexp(0)).exp()),
        normaliser_draws=len(values),
        pareto_k=float(k),
    )


class Diagnostics(NamedTuple):
    """What a run of Markov chains is judged by; fields are the columns of the table.

    Attributes:
        chains: number of chains.
        draws: kept draws of every chain.
        acceptance: mean acceptance probability of trajectories.
        jumps: share of the iterations in which a candidate took the place of the state.
        step_size: step size after warm-up.
        ess_bulk: effective sample size of the bulk, all chains together.
        ess_tail: the smaller effective sample size of the 5 % and 95 % quantiles.
        rhat: split R-hat.
        gradients: gradients of the log density that were taken, warm-up included.
        values: log densities that were taken without their gradient, for candidates.
        ess_per_1000_gradients: ``ess_bulk`` for every thousand of the gradients.
        log_normaliser: those of :class:`Normaliser`; not a number where nothing is weighted.
        normaliser_ess: see there.
        normaliser_draws: see there.
        pareto_k: see there.
        flagged: whether the draws should not be trusted.
        reason: why, empty if not flagged.
    """

    chains: int
    draws: int
    acceptance: float
    jumps: float
    step_size: float
    ess_bulk: float
    ess_tail: float
    rhat: float
    gradients: int
    values: int
    ess_per_1000_gradients: float
    log_normaliser: float
    normaliser_ess: float
    normaliser_draws: int
    pareto_k: float
    flagged: bool
    reason: str


def diagnose(
    chains: Chains, maximum_rhat: float = 1.01, normaliser: Normaliser = UNWEIGHTED
) -> Diagnostics:
    r"""Diagnostics on all kept draws: the worst over the 2d real coordinates and the log density.

    A run is flagged for an R-hat above ``maximum_rhat``, for fewer than 400 effective draws in
    all, for chains that accepted less than 5 % of their proposals, and for divergent
    trajectories.

    Reference:
        Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), Rank-normalization, folding, and
        localization: an improved R-hat.

    Args:
        chains: kept draws, at least 4 of every chain.
        maximum_rhat: largest R-hat that passes.
        normaliser: that of the density, which is reported with the rest.

    Example:
        >>> import torch
        >>> from kahlervae.sample import run_chains
        >>> generator = torch.Generator().manual_seed(0)
        >>> chains = run_chains(
        ...     lambda z: -z.abs().square().sum(-1),
        ...     torch.randn(8, 2, dtype=torch.complex128, generator=generator),
        ...     warmup=50, draws=400, leapfrog=3, generator=generator,
        ... )
        >>> verdict = diagnose(chains, maximum_rhat=1.05)
        >>> verdict.flagged, verdict.ess_bulk > 400
        (False, True)
    """
    from arviz_stats.base.array import array_stats

    coordinates = torch.view_as_real(chains.latents).flatten(2)
    quantities = torch.cat([coordinates, chains.log_density[..., None]], dim=-1)
    values = quantities.double().cpu().numpy()
    axes = {"chain_axis": 0, "draw_axis": 1}
    # A chain that never moves has no variance to divide by: R-hat is then nan, which fails.
    with np.errstate(invalid="ignore", divide="ignore"):
        rhat = float(np.max(array_stats.rhat(values, **axes)))
        bulk = float(np.min(array_stats.ess(values, method="bulk", **axes)))
        tail = float(np.min(array_stats.ess(values, method="tail", prob=(0.05, 0.95), **axes)))

    count, draws = chains.log_density.shape
    stuck = torch.nonzero(chains.moved.double().mean(1) < 0.05).flatten().tolist()
    divergent = int(chains.divergent.sum())
    reasons = []
    if not rhat <= maximum_rhat:
        reasons.append(f"R-hat {rhat:.3f} above {maximum_rhat:g}")
    if not min(bulk, tail) >= 400:
        reasons.append(f"only {min(bulk, tail):.0f} effective draws")
    if stuck:
        reasons.append(f"stuck chains: {' '.join(map(str, stuck))}")
    if divergent:
        reasons.append(f"{divergent} divergent trajectories")
    return Diagnostics(
        chains=count,
        draws=draws,
        acceptance=float(chains.acceptance.mean()),
        jumps=float(chains.jumped.double().mean()),
        step_size=chains.step_size,
        ess_bulk=bulk,
        ess_tail=tail,
        rhat=rhat,
        gradients=chains.gradients,
        values=chains.values,
        ess_per_1000_gradients=1000 * bulk / chains.gradients,
        **normaliser._asdict(),
        flagged=bool(reasons),
        reason="; ".join(reasons),
    )
