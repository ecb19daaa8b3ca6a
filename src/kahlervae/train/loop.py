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
from kahlervae.train.objective import Batch, Objective
from kahlervae.train.progress import Progress
from kahlervae.train.stack import Stack

__all__ = ["draw", "take_step", "train", "train_together"]

NETWORKS = ("real", "holomorphic", "pluriharmonic")
"""The variants that have networks of their own; all others have complex ones."""

CAUSES = {
    "log_likelihood": "the learning rate is too high or the likelihood's variance collapsed",
    "kl": "the learning rate is too high or the posterior's variance overflowed",
    "regulariser": "the metric became singular: raise regulariser.epsilon or lower its strength",
    "tie": "the decoder's metric overflowed: lower regulariser.tie or its strength",
    "gradient_norm": "a term is finite but its derivative is not: lower the learning rate",
}


def train(
    splits: Mapping[str, Split],
    identity: Mapping[str, Any],
    settings: Mapping[str, Any],
    checkpoint: Path,
) -> tuple[VAE, pd.DataFrame]:
    """Train one variant with one seed: :func:`train_together` of it alone.

    Args:
        splits: see there.
        identity: dataset, representation, variant, seed.
        settings: see there.
        checkpoint: see there.

    Returns:
        The trained model, and a table with one row an epoch.

    Raises:
        InputError: see there.
    """
    ((model, table),) = train_together(splits, [identity], settings, checkpoint)
    return model, table


def train_together(
    splits: Mapping[str, Split],
    identities: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    checkpoint: Path,
) -> list[tuple[VAE, pd.DataFrame]]:
    """Train one variant with several seeds on :class:`~kahlervae.train.objective.Objective`.

    All that is random in a model follows from its seed, so that it depends on the others by no more
    than rounding. Together they take less time: see :class:`~kahlervae.train.stack.Stack`.

    The state is saved to ``checkpoint`` every few epochs; where that file exists, the run goes on
    from there and ends at the same parameters, bit for bit, as a run without a stop.

    Args:
        splits: ``train`` and ``validation``; training runs on their device.
        identities: dataset, representation, variant and seed of every model; they differ by the
            seed.
        settings: the config's ``model``, ``training`` and ``variant`` blocks.
        checkpoint: where the state of an unfinished run is kept; removed by the caller.

    Returns:
        The trained models, each with a table of one row an epoch.

    Raises:
        InputError: samples have no density under the likelihood, a term or gradient is not finite
            (names seed, epoch, term and likely cause), or the checkpoint is damaged.
    """
    options = settings["training"]
    samples = splits["train"].samples
    objectives = [_build(splits, identity, settings) for identity in identities]
    stack = Stack(objectives)
    optimiser = Adam(stack.parameters.values(), lr=options["learning_rate"])
    streams = [generator(identity["seed"], "train") for identity in identities]
    data = hashlib.sha256(samples.cpu().numpy().tobytes()).hexdigest()
    origin = {**settings, "models": [dict(identity) for identity in identities], "data": data}
    state = Checkpoint(checkpoint, stack.parameters, optimiser, streams, origin)
    history = state.restore()

    names = ["/".join(str(value) for value in identity.values()) for identity in identities]
    with Progress(names, options["epochs"], start=len(history)) as progress:
        for epoch in range(len(history) + 1, options["epochs"] + 1):
            steps = []
            _set_rate(optimiser, options, epoch)
            orders = [torch.randperm(len(samples), generator=stream) for stream in streams]
            for index in _batches(torch.stack(orders, dim=1), options["batch_size"]):
                parts = [samples[own] for own in index.unbind(1)]
                batch = draw(objectives, parts, streams)
                terms = take_step(stack, optimiser, batch, epoch, options["gradient_clip"])
                for row, identity in zip(terms, identities, strict=True):
                    _refuse_divergence(row, identity, epoch)
                steps.append(terms)
            means = [
                {"epoch": epoch, **pd.DataFrame(rows).mean()} for rows in zip(*steps, strict=True)
            ]
            for row, objective in zip(means, objectives, strict=True):
                row["validation_elbo"] = _elbo(objective.model, splits["validation"].samples)
            history.append(means)
            progress.report(means)
            if epoch % options["checkpoint_every"] == 0:
                state.save(history)
    return [
        (objective.model.eval().requires_grad_(False), _table(rows, identity))
        for objective, rows, identity in zip(
            objectives, zip(*history, strict=True), identities, strict=True
        )
    ]


def _build(
    splits: Mapping[str, Split], identity: Mapping[str, Any], settings: Mapping[str, Any]
) -> Objective:
    """A freshly initialised model with its objective, by its seed."""
    variant = settings["variant"]
    torch.manual_seed(generator(identity["seed"], "initialise").initial_seed())
    networks = identity["variant"] if identity["variant"] in NETWORKS else "complex"
    names = ("latent_dim", "width", "depth", "likelihood_variance")
    sizes = {name: settings["model"][name] for name in names}
    given = {name: variant.get(name) for name in ("likelihood", "prior")}
    given["own_depth"] = variant.get("depth")
    model = build_model(identity, splits["train"].form, networks, **sizes, **given)
    for split in splits.values():
        model.check_data(split.samples)
    objective = Objective(model, variant, settings["training"]["kl_warmup_epochs"])
    return objective.to(splits["train"].samples.device)


def _table(rows: Sequence[Mapping[str, float]], identity: Mapping[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(rows).astype({"epoch": int}).reindex(columns=HISTORY)
    return identified(table, identity)


def _batches(
    order: Int64[Tensor, "n *models"], size: int
) -> Sequence[Int64[Tensor, "batch *models"]]:
    """Batches of that size, without a last one of a single sample: it has no variance."""
    batches = order.split(size)
    alone = size > 1 and len(batches) > 1 and len(batches[-1]) == 1
    return batches[:-1] if alone else batches


def draw(
    objectives: Sequence[Objective],
    parts: Sequence[Num[Tensor, "n *shape"]],
    streams: Sequence[torch.Generator],
) -> Batch:
    """A batch for every objective, each with random numbers of its own stream, stacked."""
    triples = zip(objectives, parts, streams, strict=True)
    batches = [objective.draw(part, stream) for objective, part, stream in triples]
    return Batch(*map(torch.stack, zip(*batches, strict=True)))


def take_step(
    stack: Stack, optimiser: Adam, batch: Batch, epoch: int, gradient_clip: float
) -> list[dict[str, float]]:
    """One step of the optimiser; every model's terms of the objective and norm of its gradient."""
    terms = stack(batch, epoch=epoch)
    optimiser.zero_grad()
    terms["loss"].sum().backward()
    terms["gradient_norm"] = optimiser.clip(gradient_clip)
    optimiser.step()
    values = torch.stack([*terms.values()], dim=1).tolist()
    return [dict(zip(terms, row, strict=True)) for row in values]


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
def _elbo(model: VAE, samples: Tensor) -> float:
    stream = generator(model.identity["seed"], "validation")
    log_likelihood, kl = model.elbo_terms(samples, stream)
    return (log_likelihood - kl).mean().item()
