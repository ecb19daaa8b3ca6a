"""Samplers that run Markov chains on an unnormalised density."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.options import check_count, check_number
from kahlervae.sample.diagnostics import Normaliser, diagnose, estimate_normaliser
from kahlervae.sample.hmc import Chains, Densities, Proposal, check_run, run_together
from kahlervae.sample.samplers import Base, Draws, Sampler

__all__ = ["ChainSampler", "draw_family"]

POOL = 4096
"""Draws of the base from which the normaliser is estimated and the chains' starts are chosen."""
EFFECTIVE = 3
"""Effective draws that the candidates of an iteration hold, if no more are needed than allowed."""


class ChainSampler(Sampler):
    r"""A density ρ that is known up to a factor, by :func:`~kahlervae.sample.hmc.run_together`.

    Chains start at draws from a base p that are resampled by weight ρ/p, and their candidates to
    cross between modes come from a proposal, the base or one like it. Both only decide how fast
    chains converge, for their iterations leave ρ invariant. What is returned is thinned evenly
    over every chain and put in random order.

    Args:
        base: p.
        proposal: of the candidates.
        chains: number of chains.
        warmup: iterations that are dropped.
        draws: kept iterations of every chain.
        leapfrog: largest number of steps of a trajectory.
        candidates: from which every iteration chooses beside the state, at most; fewer where the
            weights of the base's draws vary little.
        rhat: largest R-hat that is not flagged.

    Raises:
        InputError: a number is no whole one, or out of range.
    """

    def __init__(
        self,
        base: Base,
        proposal: Base,
        *,
        chains: int = 32,
        warmup: int = 40,
        draws: int = 200,
        leapfrog: int = 2,
        candidates: int = 32,
        rhat: float = 1.01,
    ) -> None:
        check_count("chains, the number of chains,", chains)
        check_run(warmup, draws, leapfrog, candidates)
        check_number("rhat, the largest R-hat that is not flagged,", rhat, positive=True)
        self.base = base
        self.proposal = proposal
        self.latent_dim = base.latent_dim
        self.chains = chains
        self.warmup = warmup
        self.draws = draws
        self.leapfrog = leapfrog
        self.candidates = candidates
        self.rhat = rhat

    @abstractmethod
    def log_density(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Unnormalised log density, nats, differentiable."""

    @classmethod
    @abstractmethod
    def join(cls, family: Sequence[Self]) -> tuple[Densities, Proposal]:
        """The densities of a family of samplers, and a proposal for all of them."""

    def run(self, generator: torch.Generator) -> tuple[Chains, Normaliser]:
        """The chains whose draws :meth:`sample` takes, and the normaliser of ρ in the base.

        Raises:
            InputError: the log density is not finite where the chains start.
        """
        (found,) = _run([self], generator)
        return found

    def _sample(self, count: int, generator: torch.Generator) -> Draws:
        (draws,) = draw_family([self], count, generator)
        return draws

    def _take(self, count: int, generator: torch.Generator) -> Int[Tensor, " count"]:
        """Which of all kept draws, chain by chain, make up the samples."""
        check_count(f"the number of samples of {self.key}", count)
        total = self.chains * self.draws
        if count > total:
            raise InputError(
                f"{self.key} cannot give {count} samples from {self.chains} chains of "
                f"{self.draws} draws: raise sampling.{self.name}.draws or lower the counts."
            )
        every = torch.arange(count) * total // count
        return every[torch.randperm(count, generator=generator)]


def draw_family(family: Sequence[Sampler], count: int, generator: torch.Generator) -> list[Draws]:
    """So many latents of every sampler of a family; chains of all of them run together.

    Raises:
        InputError: ``count`` is no whole number from 1 on, or a sampler cannot deliver that many.
    """
    chained = [sampler for sampler in family if isinstance(sampler, ChainSampler)]
    if not chained:
        return [sampler.sample(count, generator) for sampler in family]
    taken = [sampler._take(count, generator) for sampler in chained]
    return [
        Draws(chains.latents.flatten(0, 1)[take], diagnose(chains, sampler.rhat, normaliser))
        for sampler, take, (chains, normaliser) in zip(
            chained, taken, _run(chained, generator), strict=True
        )
    ]


def _run(
    family: Sequence[ChainSampler], generator: torch.Generator
) -> list[tuple[Chains, Normaliser]]:
    """The chains of a family and the normalisers of its densities in the base."""
    first = family[0]
    densities, proposal = first.join(family)
    pool = first.base.propose(POOL, generator)
    with torch.no_grad():
        log_weights = (densities.log_densities(pool) - first.base.log_density(pool)).double()
    starts, normalisers = [], []
    for sampler, weights in zip(family, log_weights, strict=True):
        if not weights.isfinite().any():
            raise InputError(
                f"{sampler.key}: the log density is not finite at any of {POOL} draws from the "
                "base: check the potential (its metric must be finite and positive) and epsilon."
            )
        # What is not finite is not visited.
        weights = weights.nan_to_num(-torch.inf, posinf=-torch.inf, neginf=-torch.inf)
        normalisers.append(estimate_normaliser(weights))
        chances = (weights - weights.max()).exp().cpu()
        start = torch.multinomial(chances, first.chains, replacement=True, generator=generator)
        starts.append(pool[start.to(pool.device)])
    effective = min(normaliser.normaliser_ess for normaliser in normalisers)
    needed = EFFECTIVE * POOL / max(effective, 1.0)
    try:
        chains = run_together(
            densities,
            torch.stack(starts),
            warmup=first.warmup,
            draws=first.draws,
            leapfrog=first.leapfrog,
            generator=generator,
            scale=first.base.scale,
            proposal=proposal,
            candidates=min(first.candidates, math.ceil(needed)),
        )
    except InputError as error:
        raise InputError(f"{first.family}: {error}") from error
    return list(zip(chains, normalisers, strict=True))
