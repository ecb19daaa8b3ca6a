"""The training loop."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from kahlervae.data import Split
from kahlervae.errors import InputError
from kahlervae.models import VAE, build_model
from kahlervae.seeding import generator
from kahlervae.storage import identified
from kahlervae.train.checkpoint import Checkpoint
from kahlervae.train.progress import Progress
from kahlervae.train.regulariser import Regularisation, build_regulariser

__all__ = ["train"]

CAUSES = {
    "log_likelihood": "the learning rate is too high or the likelihood's variance collapsed",
    "kl": "the learning rate is too high or the posterior's variance overflowed",
    "regulariser": "the metric became singular: raise regulariser.epsilon or lower its strength",
    "tie": "the decoder's metric vanished or overflowed: lower regulariser.tie or its strength",
    "gradient_norm": "a term is finite but its derivative is not: lower the learning rate",
}


def train(
    splits: Mapping[str, Split],
    identity: Mapping[str, Any],
    settings: Mapping[str, Any],
    checkpoint: Path,
) -> tuple[VAE, pd.DataFrame]:
    r"""Train one variant with one seed.

    .. math:: \mathcal L = -\log p(x \mid z) + \beta_t\, KL + \lambda_t R + \eta M

    per image, averaged over the batch; β and λ rise linearly from 0 over their warm-ups. The state
    is saved to ``checkpoint`` every few epochs; where that file exists, the run goes on from there
    and ends at the same parameters, bit for bit, as a run without a stop.

    Args:
        splits: ``train`` and ``validation``.
        identity: dataset, representation, variant, seed.
        settings: the config's ``model``, ``training`` and ``variant`` blocks.
        checkpoint: where the state of an unfinished run is kept; removed by the caller.

    Returns:
        The trained model, and a table with one row an epoch.

    Raises:
        InputError: a term or gradient is not finite (names epoch, term and likely cause), or the
            checkpoint is damaged.
    """
    options, variant = settings["training"], settings["variant"]
    seed = identity["seed"]
    images = splits["train"].images
    torch.manual_seed(generator(seed, "initialise").initial_seed())
    variant_networks = ("real", "holomorphic")
    networks = identity["variant"] if identity["variant"] in variant_networks else "complex"
    height, width = images.shape[1:]
    model = build_model(identity, (height, width), networks, **settings["model"])
    modules = torch.nn.ModuleDict({"model": model})
    weights = variant.get("regulariser")
    if weights is not None:
        modules["regulariser"] = build_regulariser(
            identity["variant"], weights, model.latent_dim, generator(seed, "potential")
        )
    optimiser = torch.optim.Adam(modules.parameters(), lr=options["learning_rate"])
    stream = generator(seed, "train")
    data = hashlib.sha256(images.numpy().tobytes()).hexdigest()
    origin = {**settings, **identity, "data": data}
    state = Checkpoint(checkpoint, modules, optimiser, stream, origin)
    history = state.restore()

    def objective(batch: Tensor, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        x = model.representation.encode(batch)
        posterior = model.encoder(x)
        z = posterior.sample(stream)
        terms = {
            "log_likelihood": model.decoder(z).log_prob(x).mean(),
            "kl": posterior.kl().mean(),
        }
        beta = variant.get("beta", 1.0) * _warmup(epoch, options["kl_warmup_epochs"])
        loss = beta * terms["kl"] - terms["log_likelihood"]
        if weights is None:
            return loss, terms
        regularisation: Regularisation = modules["regulariser"](
            model.decoder, _mixtures(z, stream), stream
        )
        strength = weights["strength"] * _warmup(epoch, weights["warmup_epochs"])
        loss = loss + strength * regularisation.regulariser
        loss = loss + weights.get("tie", 0.0) * regularisation.tie
        return loss, terms | regularisation._asdict()

    with Progress(identity, options["epochs"], start=len(history)) as progress:
        for epoch in range(len(history) + 1, options["epochs"] + 1):
            rows = []
            _set_rate(optimiser, options, epoch)
            for index in torch.randperm(len(images), generator=stream).split(options["batch_size"]):
                loss, terms = objective(images[index], epoch)
                optimiser.zero_grad()
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(
                    modules.parameters(), options["gradient_clip"]
                )
                row = {"loss": loss.item()} | {k: v.item() for k, v in terms.items()}
                row["gradient_norm"] = norm.item()
                _refuse_divergence(row, identity, epoch)
                optimiser.step()
                rows.append(row)
            means = {"epoch": epoch, **pd.DataFrame(rows).mean()}
            means["validation_elbo"] = _elbo(model, splits["validation"].images, seed)
            history.append(means)
            progress.report(means)
            if epoch % options["checkpoint_every"] == 0:
                state.save(history)
    table = pd.DataFrame(history).astype({"epoch": int}).reindex(columns=HISTORY)
    return model.eval().requires_grad_(False), identified(table, identity)


HISTORY = [
    "epoch",
    "loss",
    "log_likelihood",
    "kl",
    "regulariser",
    "tie",
    "validation_elbo",
    "gradient_norm",
]


def _set_rate(optimiser: torch.optim.Adam, options: Mapping[str, Any], epoch: int) -> None:
    """Cosine decay to zero, a function of the epoch alone so that a resumed run needs no state."""
    share = (epoch - 1) / options["epochs"]
    for group in optimiser.param_groups:
        group["lr"] = options["learning_rate"] * 0.5 * (1 + math.cos(math.pi * share))


def _warmup(epoch: int, epochs: int) -> float:
    return min(1.0, epoch / epochs) if epochs else 1.0


def _mixtures(z: Tensor, stream: torch.Generator) -> Tensor:
    """Half of the posterior samples as they are, half moved towards another: where paths run."""
    partner = z[torch.randperm(len(z), generator=stream)]
    share = torch.rand(len(z), 1, generator=stream)
    share[::2] = 0
    return (1 - share) * z + share * partner


def _refuse_divergence(row: Mapping[str, float], identity: Mapping[str, Any], epoch: int) -> None:
    for term, cause in CAUSES.items():
        if term in row and not math.isfinite(row[term]):
            raise InputError(
                f"training of {identity['variant']} (seed {identity['seed']}) diverged in epoch "
                f"{epoch}: {term} is {row[term]}; {cause}."
            )


@torch.no_grad()
def _elbo(model: VAE, images: Tensor, seed: int) -> float:
    log_likelihood, kl = model.elbo_terms(images, generator(seed, "validation"))
    return (log_likelihood - kl).mean().item()
