"""The training objective: evidence lower bound and geometric regularisation."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex, Float, Num
from torch import Tensor, nn

from kahlervae.models import VAE
from kahlervae.seeding import generator, standard_normal
from kahlervae.train.regulariser import build_regulariser

__all__ = ["Batch", "Objective"]


class Batch(NamedTuple):
    """The data of one step, and all that is random in it.

    Attributes:
        x: what the likelihood is of, binary draws where it is of such.
        noise: of which the posterior makes its draws.
        share: of the way to the next point, for every point of the regulariser.
        direction: one for every such point.
    """

    x: Num[Tensor, "n D"]
    noise: Num[Tensor, "n k"]
    share: Float[Tensor, "points 1"]
    direction: Complex[Tensor, "points d"]


class Objective(nn.Module):
    r"""What training minimises, per sample and averaged over a batch.

    .. math:: \mathcal L = -\log p(x \mid z) + \beta_t\, KL + \lambda_t R + \eta M

    β and λ rise linearly from 0 over their warm-ups. R and M are taken at a few points of every
    batch: their gradients stay unbiased and are noisier, and the step costs little more than one
    without them (docs/theory.md, section 9).

    Args:
        model: the autoencoder.
        variant: its block of the configuration.
        kl_warmup_epochs: epochs over which β rises.

    Example:
        >>> from kahlervae.data import Form
        >>> from kahlervae.models import build_model
        >>> names = dict(dataset="digits", representation="pixels", variant="beta", seed=0)
        >>> model = build_model(names, Form((8, 8)), "complex", latent_dim=2, width=16, depth=1)
        >>> objective = Objective(model, {"beta": 4.0}, kl_warmup_epochs=0)
        >>> batch = objective.draw(torch.zeros(5, 8, 8), torch.Generator().manual_seed(0))
        >>> terms = objective(batch, epoch=1)
        >>> torch.allclose(terms["loss"], 4 * terms["kl"] - terms["log_likelihood"])
        True
    """

    def __init__(self, model: VAE, variant: Mapping[str, Any], kl_warmup_epochs: int) -> None:
        super().__init__()
        self.model = model
        self.beta = variant.get("beta", 1.0)
        self.kl_warmup_epochs = kl_warmup_epochs
        self.weights = variant.get("regulariser")
        if self.weights is not None:
            stream = generator(model.identity["seed"], "potential")
            self.regulariser = build_regulariser(self.weights, model.latent_dim, stream)

    def draw(self, samples: Num[Tensor, "n *shape"], generator: torch.Generator) -> Batch:
        """The samples with the random numbers of a step, all of them from the generator."""
        x = self.model.observed(samples, generator)
        noise = self.model.noise(len(x), generator)
        points = 0 if self.weights is None else min(self.weights["points"], len(x))
        share = torch.rand(points, 1, generator=generator, dtype=noise.dtype.to_real())
        share[::2] = 0
        z = torch.empty(points, self.model.latent_dim, dtype=noise.dtype.to_complex())
        direction = standard_normal(z.to(x.device), generator)
        return Batch(x, noise, share.to(x.device), direction)

    def forward(self, batch: Batch, epoch: int) -> dict[str, Float[Tensor, ""]]:
        """``loss`` and the terms it is made of."""
        posterior = self.model.posterior(batch.x)
        z = posterior.at(batch.noise)
        terms = {
            "log_likelihood": self.model.decoder(z).log_prob(batch.x).mean(),
            "kl": self.model.prior.kl(posterior, z).mean(),
        }
        beta = self.beta * _warmup(epoch, self.kl_warmup_epochs)
        loss = beta * terms["kl"] - terms["log_likelihood"]
        if self.weights is not None:
            points = _along_paths(z[: len(batch.share)], batch.share)
            regularisation = self.regulariser(self.model.decoder, points, batch.direction)
            strength = self.weights["strength"] * _warmup(epoch, self.weights["warmup_epochs"])
            loss = loss + strength * regularisation.regulariser
            loss = loss + self.weights.get("tie", 0.0) * regularisation.tie
            terms |= regularisation._asdict()
        return {"loss": loss, **terms}


def _warmup(epoch: int, epochs: int) -> float:
    return min(1.0, epoch / epochs) if epochs else 1.0


def _along_paths(z: Complex[Tensor, "n d"], share: Float[Tensor, "n 1"]) -> Complex[Tensor, "n d"]:
    """Points moved by a share of the way towards the next one, where paths run.

    That share is 0 for every other point. Batches are shuffled, so that the next one is any other.
    """
    return z + share * (z.roll(1, 0) - z)
