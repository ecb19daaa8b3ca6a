"""What regularisation adds to the cost of a training step, and where the step's time goes."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch

from kahlervae.data import Form
from kahlervae.geometry.fisher import fisher_norm
from kahlervae.models import build_model
from kahlervae.nn.optimiser import Adam
from kahlervae.seeding import generator
from kahlervae.train.loop import draw, take_step
from kahlervae.train.objective import Batch, Objective
from kahlervae.train.regulariser import PotentialRegulariser
from kahlervae.train.stack import Stack

__all__ = ["measure_steps"]

VARIANTS = ("complex", "kahler", "fisher")
CLIP = 100.0
WARM_UP = 3
REGULARISER: dict[str, Any] = {
    "form": "volume",
    "strength": 0.5,
    "epsilon": 1e-3,
    "warmup_epochs": 0,
}
POTENTIAL: dict[str, Any] = {"tie": 30.0, "scale": 30.0}


def measure_steps(settings: Mapping[str, Any]) -> pd.DataFrame:
    """Median time of one training step by variant, and of the parts of it, on one thread.

    Parts: ``step``, the whole of it; ``forward``, ``backward`` and ``optimiser``, which make it up,
    per model of those that are trained together; for ``kahler`` also ``regulariser`` (the
    potential's log det) and ``tie`` (the length of one vector in both metrics), each alone, of one
    model and with its derivatives. Repetitions of the variants alternate, so that a drift of the
    machine's speed meets them alike.

    Args:
        settings: ``sizes`` by name (``image``, ``latent_dim``, ``width``, ``depth``, ``batch``,
            ``points``, ``groups``, ``components``, and ``seeds``, the number of models that are
            trained together) and ``repetitions``.

    Returns:
        One row per size, variant and part; ``relative`` is the median, over repetitions, of the
        time in units of the same part of ``complex``, for the parts which that has.
    """
    rows = []
    for name, size in settings["sizes"].items():
        clocks = {variant: _clock(variant, size) for variant in VARIANTS}
        for repetition in range(settings["repetitions"] + WARM_UP):
            for variant, clock in clocks.items():
                rows += [
                    {"size": name, "repetition": repetition, "variant": variant, "part": part}
                    | {"milliseconds": 1e3 * seconds}
                    for part, seconds in clock().items()
                ]
    times = pd.DataFrame(rows).query("repetition >= @WARM_UP")
    base = times.query("variant == 'complex'").drop(columns="variant")
    times = times.merge(base, how="left", on=["size", "repetition", "part"], suffixes=("", "_base"))
    times["relative"] = times["milliseconds"] / times["milliseconds_base"]
    groups = times.groupby(["size", "variant", "part"], sort=False)
    table = groups[["milliseconds", "relative"]].median().reset_index()
    for name, share in (("q25", 0.25), ("q75", 0.75)):
        table[f"milliseconds_{name}"] = groups["milliseconds"].quantile(share).to_numpy()
    sizes = pd.DataFrame(settings["sizes"]).T.rename_axis("size").reset_index()
    return sizes.merge(table, on="size")


def _clock(variant: str, size: Mapping[str, int]) -> Callable[[], dict[str, float]]:
    """A function that takes a step of fresh models on noise, and times it and its parts."""
    torch.manual_seed(0)
    shape = (size["image"], size["image"])
    identity = {"dataset": "noise", "representation": "pixels", "variant": variant, "seed": 0}
    sizes: dict[str, Any] = {key: size[key] for key in ("latent_dim", "width", "depth")}
    exact = REGULARISER | {"points": size["points"]}
    learned = exact | POTENTIAL | {key: size[key] for key in ("groups", "components")}
    blocks = {"complex": {}, "fisher": {"regulariser": exact}, "kahler": {"regulariser": learned}}
    objectives = []
    for _ in range(size["seeds"]):
        model = build_model(
            identity, Form(shape), "complex", **sizes, likelihood_variance="constant"
        )
        objectives.append(Objective(model, blocks[variant], 0))
    stack = Stack(objectives)
    optimiser = Adam(stack.parameters.values(), lr=1e-3)
    stream = generator(0, "step_cost")
    images = torch.rand(size["seeds"], size["batch"], *shape, generator=stream)

    terms = {}

    def batch() -> Batch:
        return draw(objectives, images.unbind(), [stream] * len(objectives))

    def step() -> None:
        take_step(stack, optimiser, batch(), 1, CLIP)

    def forward() -> None:
        terms.update(stack(batch(), epoch=1))

    def backward() -> None:
        optimiser.zero_grad()
        terms["loss"].sum().backward()

    def optimise() -> None:
        optimiser.clip(CLIP)
        optimiser.step()

    shared = {"step": step, "forward": forward, "backward": backward, "optimiser": optimise}
    alone: dict[str, Callable[[], None]] = {}
    if variant == "kahler":
        (objective, *_) = objectives
        assert isinstance(objective.regulariser, PotentialRegulariser)
        potential, decoder = objective.regulariser.potential, objective.model.decoder
        shape_z = (size["points"], size["latent_dim"])
        z, v = torch.randn(2, *shape_z, generator=stream, dtype=torch.complex64)
        z.requires_grad_()

        def regulariser() -> None:
            potential.log_det(z, REGULARISER["epsilon"]).mean().backward()

        def tie() -> None:
            (fisher_norm(decoder, z, v).log()).square().mean().backward()

        alone = {"regulariser": regulariser, "tie": tie}
    return lambda: (
        {name: _seconds(part) / len(objectives) for name, part in shared.items()}
        | {name: _seconds(part) for name, part in alone.items()}
    )


def _seconds(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
