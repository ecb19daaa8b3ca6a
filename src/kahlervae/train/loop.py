"""The training loop."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Int64, Num
from torch import Tensor

from kahlervae.data import Split
from kahlervae.errors import InputError
from kahlervae.models import VAE, build_model
from kahlervae.nn.optimiser import Adam
from kahlervae.seeding import generator
from kahlervae.storage import identified
from kahlervae.train.checkpoint import Checkpoint
from kahlervae.train.objective import Objective
from kahlervae.train.progress import Progress

__all__ = ["take_step", "train"]

NETWORKS = ("real", "holomorphic", "pluriharmonic")
"""The variants that have networks of their own; all others have complex ones."""

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
    """Train one variant with one seed on :class:`~kahlervae.train.objective.Objective`.

    The state is saved to ``checkpoint`` every few epochs; where that file exists, the run goes on
    from there and ends at the same parameters, bit for bit, as a run without a stop.

    Args:
        splits: ``train`` and ``validation``; training runs on their device.
        identity: dataset, representation, variant, seed.
        settings: the config's ``model``, ``training`` and ``variant`` blocks.
        checkpoint: where the state of an unfinished run is kept; removed by the caller.

    Returns:
        The trained model, and a table with one row an epoch.

    Raises:
        InputError: samples have no density under the likelihood, a term or gradient is not finite
            (names epoch, term and likely cause), or the checkpoint is damaged.
    """
    options, variant = settings["training"], settings["variant"]
    seed = identity["seed"]
    samples = splits["train"].samples
    torch.manual_seed(generator(seed, "initialise").initial_seed())
    networks = identity["variant"] if identity["variant"] in NETWORKS else "complex"
    names = ("latent_dim", "width", "depth", "likelihood_variance")
    sizes = {name: settings["model"][name] for name in names}
    given = {name: variant.get(name) for name in ("likelihood", "prior")}
    model = build_model(identity, splits["train"].form, networks, **sizes, **given)
    for split in splits.values():
        model.check_data(split.samples)
    objective = Objective(model, variant, options["kl_warmup_epochs"]).to(samples.device)
    optimiser = Adam(objective.parameters(), lr=options["learning_rate"])
    stream = generator(seed, "train")
    data = hashlib.sha256(samples.cpu().numpy().tobytes()).hexdigest()
    origin = {**settings, **identity, "data": data}
    state = Checkpoint(checkpoint, objective, optimiser, stream, origin)
    history = state.restore()

    with Progress(identity, options["epochs"], start=len(history)) as progress:
        for epoch in range(len(history) + 1, options["epochs"] + 1):
            rows = []
            _set_rate(optimiser, options, epoch)
            order = torch.randperm(len(samples), generator=stream)
            for index in _batches(order, options["batch_size"]):
                terms = take_step(
                    objective, optimiser, samples[index], epoch, stream, options["gradient_clip"]
                )
                _refuse_divergence(terms, identity, epoch)
                rows.append(terms)
            means = {"epoch": epoch, **pd.DataFrame(rows).mean()}
            means["validation_elbo"] = _elbo(model, splits["validation"].samples, seed)
            history.append(means)
            progress.report(means)
            if epoch % options["checkpoint_every"] == 0:
                state.save(history)
    table = pd.DataFrame(history).astype({"epoch": int}).reindex(columns=HISTORY)
    return model.eval().requires_grad_(False), identified(table, identity)


def _batches(order: Int64[Tensor, " n"], size: int) -> Sequence[Int64[Tensor, " batch"]]:
    """Batches of that size, without a last one of a single sample: it has no variance."""
    batches = order.split(size)
    alone = size > 1 and len(batches) > 1 and len(batches[-1]) == 1
    return batches[:-1] if alone else batches


def take_step(
    objective: Objective,
    optimiser: Adam,
    samples: Num[Tensor, "n *shape"],
    epoch: int,
    stream: torch.Generator,
    gradient_clip: float,
) -> dict[str, float]:
    """One step of the optimiser; the terms of the objective and the norm of its gradient."""
    terms = objective(samples, epoch, stream)
    optimiser.zero_grad()
    terms["loss"].backward()
    norm = optimiser.clip(gradient_clip)
    optimiser.step()
    return {name: term.item() for name, term in (terms | {"gradient_norm": norm}).items()}


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


def _refuse_divergence(row: Mapping[str, float], identity: Mapping[str, Any], epoch: int) -> None:
    for term, cause in CAUSES.items():
        if term in row and not math.isfinite(row[term]):
            raise InputError(
                f"training of {identity['variant']} (seed {identity['seed']}) diverged in epoch "
                f"{epoch}: {term} is {row[term]}; {cause}."
            )


@torch.no_grad()
def _elbo(model: VAE, samples: Tensor, seed: int) -> float:
    log_likelihood, kl = model.elbo_terms(samples, generator(seed, "validation"))
    return (log_likelihood - kl).mean().item()
