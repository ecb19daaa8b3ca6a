"""Sampling by a classifier that tells the aggregated posterior from a base: no label, no oracle."""

import math
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.geometry.latents import check_latents
from kahlervae.options import check_count, check_number
from kahlervae.sample.diagnostics import Diagnostics, estimate_normaliser
from kahlervae.sample.mixtures import PosteriorMixture, coordinates
from kahlervae.sample.resampling import Pool
from kahlervae.sample.samplers import Base, Draws, Sampler
from kahlervae.sample.volume import VolumeElement
from kahlervae.seeding import check_seed
from kahlervae.seeding import generator as seeded

__all__ = ["Ratio"]

RELIABLE = 0.7
"""Shape of the tail of the weights above which their mean cannot be estimated."""


class Ratio(Sampler):
    r"""A base density p, weighted by the ratio of the aggregated posterior q to it.

    .. math:: ρ(z) \propto p(z)\, r(z), \qquad
              r(z) = \frac{D(z)}{1 - D(z)} \approx \frac{q(z)}{p(z)}

    where D is the chance that a latent is of q and not of p, as a classifier learns it from as many
    draws of both (noise-contrastive prior: Aneja, Schwing, Kautz & Vahdat 2021): gradient-boosted
    trees on the coordinates of a latent and, if asked for, on log det(g + εI) of a metric. Nothing
    of labels or of oracles enters. Draws are resampled by their weights, without replacement, from
    a pool of independent draws of p.

    Args:
        base: p.
        target: q, by the posteriors of training samples.
        element: g, whose log det is among the inputs; None for the coordinates alone.
        epsilon: ε ≥ 0.
        draws: of q and of p, from which the classifier learns.
        pool: draws of p for each that is kept.
        seed: of the classifier and of what it learns from.

    Raises:
        InputError: log det is not finite at a draw, or a number is out of range.

    Example:
        >>> import torch
        >>> from kahlervae.models import ComplexPosterior
        >>> from kahlervae.sample import Prior
        >>> far = ComplexPosterior(torch.tensor([[1 + 1j], [1 - 1j]]), torch.full((2, 1), -3.0))
        >>> sampler = Ratio(Prior(1), PosteriorMixture(far), draws=2000, pool=20)
        >>> sampler.key
        'ratio:base=prior,inputs=latent'
        >>> z = sampler.sample(200, torch.Generator().manual_seed(0)).latents
        >>> bool((z.real - 1).abs().mean() < 0.3)
        True
    """

    name = "ratio"

    def __init__(
        self,
        base: Base,
        target: PosteriorMixture,
        element: VolumeElement | None = None,
        epsilon: float = 0.0,
        *,
        draws: int = 10_000,
        pool: int = 10,
        seed: int = 0,
    ) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        check_count("draws, from which a ratio is learned,", draws)
        check_count("pool, the draws for each that a ratio keeps,", pool)
        check_number("epsilon of a ratio", epsilon, least=0)
        check_seed(seed)
        self.base, self.element, self.epsilon, self.pool = base, element, epsilon, pool
        inputs = "latent" if element is None else "latent+log_det"
        self.setting = f"base={base.name},inputs={inputs}"
        stream = seeded(seed, "ratio", self.setting)
        drawn = torch.cat([source.sample(draws, stream).latents for source in (base, target)])
        is_target = torch.arange(2 * draws) >= draws
        # Early stopping would take draws away, of which there are as many as one likes.
        self.classifier: Any = HistGradientBoostingClassifier(
            max_iter=200,
            max_leaf_nodes=15,
            min_samples_leaf=40,
            early_stopping=False,
            random_state=seed,
        ).fit(self._inputs(drawn).numpy(), is_target.numpy())

    @torch.no_grad()
    def _inputs(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, "n inputs"]:
        """What the classifier sees of latents."""
        columns = coordinates(z).double()
        if self.element is not None:
            log_det = self.element.log_det(z, self.epsilon).double().unsqueeze(1)
            if not log_det.isfinite().all():
                raise InputError(
                    f"{self.key}: log det is not finite at a draw: check the potential (its metric "
                    "must be finite and positive) and epsilon."
                )
            columns = torch.cat([columns, log_det], dim=1)
        return columns.cpu()

    def log_ratio(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """log r: the classifier's log odds, since it saw as many draws of both.

        Raises:
            InputError: z is none of the base's latents, (n, d), or not finite, or log det is not.
        """
        z = check_latents(z, finite=True, latent_dim=self.base.latent_dim)
        return torch.from_numpy(self.classifier.decision_function(self._inputs(z).numpy()))

    def _sample(self, count: int, generator: torch.Generator) -> Draws:
        pool = self.base.propose(self.pool * count, generator)
        log_weight = self.log_ratio(pool)
        index = Pool.draw(len(pool), generator).resample(log_weight, count)
        normaliser = estimate_normaliser(log_weight)
        reasons = []
        if normaliser.normaliser_ess < count:
            reasons.append(f"{normaliser.normaliser_ess:.0f} effective draws for {count}")
        if normaliser.pareto_k > RELIABLE:
            reasons.append(f"the largest weights have the shape {normaliser.pareto_k:.2f}")
        diagnostics = Diagnostics(
            chains=0,
            draws=count,
            acceptance=math.nan,
            jumps=math.nan,
            step_size=math.nan,
            ess_bulk=min(normaliser.normaliser_ess, count),
            ess_tail=math.nan,
            rhat=math.nan,
            gradients=0,
            values=len(pool),
            ess_per_1000_gradients=math.nan,
            **normaliser._asdict(),
            flagged=bool(reasons),
            reason="; ".join(reasons),
        )
        return Draws(pool[index.to(pool.device)], diagnostics)
