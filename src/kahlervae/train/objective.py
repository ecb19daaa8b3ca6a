"""The training objective: evidence lower bound and geometric regularisation."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Complex, Float, Num
from torch import Tensor, nn

from kahlervae.models import VAE
from kahlervae.seeding import generator
from kahlervae.train.regulariser import build_regulariser

__all__ = ["Objective"]


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
        >>> terms = objective(torch.zeros(5, 8, 8), 1, torch.Generator().manual_seed(0))
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

    def forward(
        self, samples: Num[Tensor, "n *shape"], epoch: int, generator: torch.Generator
    ) -> dict[str, Float[Tensor, ""]]:
        """``loss`` and the terms it is made of."""
        x = self.model.observed(samples, generator)
        posterior = self.model.posterior(x)
        z = posterior.sample(generator)
        terms = {
            "log_likelihood": self.model.decoder(z).log_prob(x).mean(),
            "kl": self.model.prior.kl(posterior, z).mean(),
        }
        beta = self.beta * _warmup(epoch, self.kl_warmup_epochs)
        loss = beta * terms["kl"] - terms["log_likelihood"]
        if self.weights is not None:
            points = _along_paths(z[: self.weights["points"]], generator)
            regularisation = self.regulariser(self.model.decoder, points, generator)
            strength = self.weights["strength"] * _warmup(epoch, self.weights["warmup_epochs"])
            loss = loss + strength * regularisation.regulariser
            loss = loss + self.weights.get("tie", 0.0) * regularisation.tie
            terms |= regularisation._asdict()
        return {"loss": loss, **terms}


def _warmup(epoch: int, epochs: int) -> float:
    return min(1.0, epoch / epochs) if epochs else 1.0


def _along_paths(z: Complex[Tensor, "n d"], generator: torch.Generator) -> Complex[Tensor, "n d"]:
    """Every other point as it is, the rest moved towards the next one: where paths run.

    Batches are shuffled, so that the next one is any other.
    """
    share = torch.rand(len(z), 1, generator=generator).to(z.device)
    share[::2] = 0
    return z + share * (z.roll(1, 0) - z)
