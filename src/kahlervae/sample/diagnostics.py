"""Did the chains converge? Rank-normalised diagnostics by ArviZ."""

from typing import NamedTuple

import numpy as np
import torch
from arviz_stats.base.array import array_stats

from kahlervae.sample.hmc import Chains

__all__ = ["Diagnostics", "diagnose"]


class Diagnostics(NamedTuple):
    """What a run of Markov chains is judged by; fields are the columns of the table.

    Attributes:
        chains: number of chains.
        draws: kept draws of every chain.
        acceptance: mean acceptance probability.
        step_size: step size after warm-up.
        ess_bulk: effective sample size of the bulk, all chains together.
        ess_tail: the smaller effective sample size of the 5 % and 95 % quantiles.
        rhat: split R-hat.
        flagged: whether the draws should not be trusted.
        reason: why, empty if not flagged.
    """

    chains: int
    draws: int
    acceptance: float
    step_size: float
    ess_bulk: float
    ess_tail: float
    rhat: float
    flagged: bool
    reason: str


def diagnose(chains: Chains, maximum_rhat: float = 1.01) -> Diagnostics:
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
    """
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
        step_size=chains.step_size,
        ess_bulk=bulk,
        ess_tail=tail,
        rhat=rhat,
        flagged=bool(reasons),
        reason="; ".join(reasons),
    )
