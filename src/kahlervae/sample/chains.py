"""Samplers that run Markov chains on an unnormalised density."""

import math
from abc import abstractmethod

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.sample.diagnostics import Normaliser, diagnose, estimate_normaliser
from kahlervae.sample.hmc import Chains, run_chains
from kahlervae.sample.samplers import Base, Draws, Sampler

__all__ = ["ChainSampler"]

POOL = 4096
"""Draws of the base from which the normaliser is estimated and the chains' starts are chosen."""
EFFECTIVE = 3
"""Effective draws that the candidates of an iteration hold, if no more are needed than allowed."""


class ChainSampler(Sampler):
    r"""A density ρ that is known up to a factor, by :func:`~kahlervae.sample.hmc.run_chains`.

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

    @torch.no_grad()
    def log_weight(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """log ρ(z)/p(z)."""
        return self.log_density(z) - self.base.log_density(z)

    def run(self, generator: torch.Generator) -> tuple[Chains, Normaliser]:
        """The chains whose draws :meth:`sample` takes, and the normaliser of ρ in the base.

        Raises:
            InputError: the log density is not finite where the chains start.
        """
        pool = self.base.propose(POOL, generator)
        log_weights = self.log_weight(pool).double()
        if not log_weights.isfinite().any():
            raise InputError(
                f"{self.key}: the log density is not finite at any of {POOL} draws from the base: "
                "check the potential (its metric must be finite and positive) and epsilon."
            )
        # What is not finite is not visited.
        log_weights = log_weights.nan_to_num(-torch.inf, posinf=-torch.inf, neginf=-torch.inf)
        normaliser = estimate_normaliser(log_weights)
        needed = EFFECTIVE * POOL / max(normaliser.normaliser_ess, 1.0)
        chances = (log_weights - log_weights.max()).exp().cpu()
        start = torch.multinomial(chances, self.chains, replacement=True, generator=generator)
        try:
            chains = run_chains(
                self.log_density,
                pool[start.to(pool.device)],
                warmup=self.warmup,
                draws=self.draws,
                leapfrog=self.leapfrog,
                generator=generator,
                scale=self.base.scale,
                proposal=self.proposal,
                candidates=min(self.candidates, math.ceil(needed)),
            )
        except InputError as error:
            raise InputError(f"{self.key}: {error}") from error
        return chains, normaliser

    def _sample(self, count: int, generator: torch.Generator) -> Draws:
        total = self.chains * self.draws
        if count > total:
            raise InputError(
                f"{self.key} cannot give {count} samples from {self.chains} chains of "
                f"{self.draws} draws: raise sampling.{self.name}.draws or lower the counts."
            )
        chains, normaliser = self.run(generator)
        every = torch.arange(count) * total // count
        order = torch.randperm(count, generator=generator)
        latents = chains.latents.flatten(0, 1)[every][order]
        return Draws(latents, diagnose(chains, self.rhat, normaliser))
