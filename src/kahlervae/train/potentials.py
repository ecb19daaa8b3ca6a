"""Potentials of a trained decoder, and their file."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Complex, Num
from torch import Tensor

from kahlervae import storage
from kahlervae.errors import Diverged, InputError
from kahlervae.geometry import (
    MixturePotential,
    Potential,
    best_constant_metric,
    fisher_metric,
    log_det,
    relative_error,
)
from kahlervae.geometry.fit import (
    calibrate_posterior_potential,
    continue_fit,
    fit_potential,
    polish_potential,
    potential_error,
)
from kahlervae.models import VAE
from kahlervae.seeding import generator

__all__ = [
    "Fitted",
    "choose_potential",
    "draw_fit_probes",
    "draw_probes",
    "fit_potentials",
    "load_potentials",
    "save_potentials",
]


POTENTIALS = ("fitted", "posterior", "constant")

CALIBRATION = 12
"""Every how many-th probe calibrates two numbers of a potential that is not fitted."""

HELD_BACK = 10
"""Every how many-th probe judges the candidates and fits none."""

RATES = 3
"""Learning rates that a fit is given."""


def draw_probes(
    model: VAE, samples: Num[Tensor, "n *shape"], count: int, stream: torch.Generator
) -> dict[str, Complex[Tensor, "count d"]]:
    """Latents at which metrics are compared: ``posterior`` (of random samples) and ``prior``.

    Args:
        model: with complex latents.
        samples: to whose posteriors the probes belong.
        count: of each kind.
        stream: the draws are from it.
    """
    chosen = torch.randint(len(samples), (count,), generator=stream)
    posterior = model.encode(samples[chosen]).sample(stream)
    prior = model.prior.sample(count, stream).to(posterior.device)
    return {"posterior": posterior, "prior": prior}


class Fitted(NamedTuple):
    """What :func:`fit_potentials` returns.

    Attributes:
        potentials: by name.
        choice: one row for every candidate and stage, with the errors at validation probes and
            whether it is the one that is ``fitted``.
    """

    potentials: dict[str, Potential]
    choice: pd.DataFrame


def draw_fit_probes(
    model: VAE, samples: Num[Tensor, "n *shape"], count: int, stream: torch.Generator
) -> Complex[Tensor, "m d"]:
    """Latents to whose metrics something is fitted, m = 5/4 ``count``: four fifths posterior.

    Args: as of :func:`draw_probes`.
    """
    probes = draw_probes(model, samples, count, stream)
    return torch.cat([probes["posterior"], probes["prior"][::4]])


def fit_potentials(
    model: VAE, samples: Num[Tensor, "n *shape"], settings: Mapping[str, Any]
) -> Fitted:
    """Three potentials of the decoder's Fisher metric, from training samples alone.

    - ``fitted``: regressed on the exact metric at probes, four fifths posterior, one prior; class,
      size and optimiser by :func:`choose_potential`;
    - ``posterior``: the aggregated posterior of random anchors, two numbers calibrated;
    - ``constant``: the best constant metric, which the others have to beat.

    Args:
        model: with complex latents.
        samples: of the train split.
        settings: ``geometry.potential`` of the configuration.

    Raises:
        InputError: the metric is singular, or a fit diverged.
    """
    stream = generator(model.identity["seed"], "potentials")
    z = draw_fit_probes(model, samples, settings["probes"], stream)
    metrics = fisher_metric(model.decoder, z)
    whose = f"{model.identity['variant']} (seed {model.identity['seed']})"
    if singular := int((~log_det(metrics).isfinite()).sum()):
        raise InputError(
            f"the Fisher metric of {whose} is singular at {singular} of {len(z)} probes: lower "
            "model.latent_dim, or train longer and with a smaller beta, so that all of it is used."
        )
    anchors = model.encode(
        samples[torch.randperm(len(samples), generator=stream)[: settings["anchors"]]]
    )
    fitted, choice = choose_potential(
        z, metrics, settings["candidates"], settings["trial"], settings["polish"], stream
    )
    potentials: dict[str, Potential] = {
        "fitted": fitted,
        # A few probes are enough for two numbers.
        "posterior": calibrate_posterior_potential(
            anchors.mean, anchors.variance, z[::CALIBRATION], metrics[::CALIBRATION]
        ),
        "constant": MixturePotential.constant(best_constant_metric(metrics)).to(z.device),
    }
    for name, potential in potentials.items():
        if not all(parameter.isfinite().all() for parameter in potential.parameters()):
            raise InputError(
                f"the {name} potential of {whose} is not finite: lower the learning rates of "
                "geometry.potential.candidates, or raise geometry.potential.anchors."
            )
    return Fitted(potentials, storage.identified(choice, model.identity))


def choose_potential(
    z: Complex[Tensor, "n d"],
    metrics: Complex[Tensor, "n d d"],
    candidates: Mapping[str, Mapping[str, Any]],
    trial: float,
    polish: int,
    stream: torch.Generator,
) -> tuple[Potential, pd.DataFrame]:
    """The best of several classes and sizes by the error at probes that are held back.

    Every :data:`HELD_BACK`-th probe is. All candidates are fitted by a share of their steps of
    Adam, unless there is one; that with the least error goes on for the rest of its steps, at a
    rate that rises and falls once more, and then by L-BFGS. What does not lower the error is not
    kept. Adam is given :data:`RATES` rates, each half of the last, as long as it diverges or ends
    no better than where it begins, a single candidate than the best constant metric.

    Args:
        z: probes.
        metrics: the exact metric at each of them.
        candidates: by name, what :func:`~kahlervae.geometry.fit.fit_potential` takes: ``kind``,
            ``size``, ``steps``, ``learning_rate`` and ``batch``.
        trial: the share of the steps.
        polish: iterations of L-BFGS; none at 0.
        stream: for starts and batches.

    Returns:
        The potential, and a row for every candidate, stage (``trial``, ``adam``, ``lbfgs``) and
        rate.

    Raises:
        InputError: as :func:`~kahlervae.geometry.fit.fit_potential` does.
    """
    held_back = torch.arange(len(z), device=z.device) % HELD_BACK == 0
    fit, check = ((z[rows], metrics[rows]) for rows in (~held_back, held_back))
    rows: list[dict[str, Any]] = []

    def judged(name: str, stage: str, steps: int, rate: float, potential: Potential) -> _Fit:
        errors = relative_error(potential.metric(check[0]), check[1])
        error = potential_error(potential, *check)
        rows.append(
            {"candidate": name, "kind": candidates[name]["kind"], "stage": stage, "steps": steps}
            | {
                "learning_rate": rate,
                "parameters": sum(p.numel() * (1 + p.is_complex()) for p in potential.parameters()),
                "train_objective": potential_error(potential, *(x[:: HELD_BACK - 1] for x in fit)),
                "validation_objective": error,
                "validation_relative_error_median": errors.median().item(),
            }
        )
        return _Fit(error if math.isfinite(error) else math.inf, potential, len(rows) - 1)

    def by_adam(
        name: str, stage: str, share: float, bound: float, start: Potential | None = None
    ) -> _Fit:
        """The first fit below the bound, at rates that are halved; if none is, the best."""
        candidate = candidates[name]
        steps = max(2, round(share * candidate["steps"]))
        fits: list[_Fit] = []
        for halvings in range(RATES):
            rate = candidate["learning_rate"] / 2**halvings
            how = {"steps": steps, "learning_rate": rate, "batch": candidate["batch"]}
            try:
                potential = (
                    fit_potential(
                        *fit, candidate["kind"], candidate["size"], generator=stream, **how
                    )
                    if start is None
                    else continue_fit(start, *fit, generator=stream, **how)
                )
            except Diverged:
                if halvings + 1 == RATES and not fits and start is None:
                    raise
                continue
            fits.append(judged(name, stage, steps, rate, potential))
            if fits[-1].error < bound:
                break
        return min(fits, key=_error, default=_Fit(math.inf, start, 0))

    if len(candidates) > 1:
        tried = {name: by_adam(name, "trial", trial, math.inf) for name in candidates}
        best = min(tried, key=lambda name: tried[name].error)
        begun = tried[best]
        fits = [begun, by_adam(best, "adam", 1 - trial, begun.error, begun.potential)]
    else:
        (best,) = candidates
        constant = MixturePotential.constant(best_constant_metric(fit[1])).to(z.device)
        fits = [by_adam(best, "adam", 1.0, potential_error(constant, *check))]
    if polish:
        polished = polish_potential(min(fits, key=_error).potential, *fit, polish)
        fits.append(judged(best, "lbfgs", polish, math.nan, polished))
    chosen = min(fits, key=_error)
    table = pd.DataFrame(rows)
    return chosen.potential, table.assign(chosen=table.index == chosen.row)


class _Fit(NamedTuple):
    """A fitted potential with its error at the probes held back, and its row of the table."""

    error: float
    potential: Any
    row: int


def _error(fit: _Fit) -> float:
    return fit.error


def save_potentials(
    path: Path | str, potentials: Mapping[str, Potential], identity: Mapping[str, Any]
) -> None:
    """Write classes and parameters of all potentials as one safetensors file."""
    tensors = {
        f"{name}.{key}": value
        for name, potential in potentials.items()
        for key, value in potential.state_dict().items()
    }
    kinds = {f"{name}.kind": type(potential).__name__ for name, potential in potentials.items()}
    storage.write_tensors(path, tensors, {**identity, **kinds})


def load_potentials(
    path: Path | str, latent_dim: int, device: torch.device | None = None
) -> dict[str, Potential]:
    """The potentials of a file that :func:`save_potentials` wrote, without gradients.

    Raises:
        InputError: the file is missing, damaged or does not hold potentials in that dimension.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> flat = torch.eye(2, dtype=torch.complex64)
        >>> potentials = {name: MixturePotential.constant(flat) for name in POTENTIALS}
        >>> with TemporaryDirectory() as folder:
        ...     save_potentials(f"{folder}/p.safetensors", potentials, {})
        ...     potentials = load_potentials(f"{folder}/p.safetensors", latent_dim=2)
        >>> list(potentials), potentials["fitted"].certificate().lower_bound
        (['fitted', 'posterior', 'constant'], 1.0)
    """
    tensors, metadata = storage.read_tensors(path)
    parameters: dict[str, dict[str, Tensor]] = {name: {} for name in POTENTIALS}
    for key, value in tensors.items():
        name, _, parameter = key.partition(".")
        if name not in parameters:
            raise InputError(f"{path} has the unknown tensor {key!r}: fit its potentials again.")
        parameters[name][parameter] = value
    potentials = {}
    for name, values in parameters.items():
        if not values:
            raise InputError(f"{path} does not hold potentials: fit them again.")
        potential = Potential.restore(path, metadata.get(f"{name}.kind", ""), values)
        if potential.latent_dim != latent_dim or potential.dtype != torch.complex64:
            raise InputError(
                f"{path} holds a potential in {potential.latent_dim} dimensions "
                f"({potential.dtype}), not one in {latent_dim} (torch.complex64): fit it again."
            )
        potentials[name] = potential.to(device)
    return potentials
