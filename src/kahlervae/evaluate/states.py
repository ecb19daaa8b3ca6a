"""The geometry that a model has learned of pure states, against the known one."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae.data import Split
from kahlervae.data.states import density_coordinates, nearest_states
from kahlervae.errors import InputError
from kahlervae.evaluate.reconstruction import reconstruction_scores
from kahlervae.evaluate.smoothness import latent_lines, pairs
from kahlervae.geometry import (
    fisher_form,
    fisher_metric,
    hermitian_defect,
    hermitian_part,
    holomorphic_part,
    log_det,
    relative_error,
    scalar_curvature,
)
from kahlervae.geometry.decoder import Decoder
from kahlervae.geometry.fubini_study import (
    fubini_study_distance,
    fubini_study_geodesic,
    states_around,
)
from kahlervae.geometry.geodesic import curve_length, geodesics
from kahlervae.geometry.metric import Metric
from kahlervae.geometry.wirtinger import basis
from kahlervae.models import VAE
from kahlervae.nn import to_double
from kahlervae.seeding import generator
from kahlervae.storage import identified

__all__ = ["compare_with_truth", "measure_states", "true_form"]


class Measured(NamedTuple):
    """A metric under test, in units of the data: the decoder's variance is taken out.

    Attributes:
        metric: coordinates to Hermitian matrices.
        embed: latents to its coordinates.
        tensor: latents to what is compared with the truth's tensor of the same kind.
        kind: the kind, of the truth's real form.
    """

    metric: Metric
    embed: Callable[[Tensor], Tensor]
    tensor: Callable[[Tensor], Tensor]
    kind: Callable[[Tensor], Tensor]


def true_form(
    encode: Callable[[Tensor], Tensor], states: Complex[Tensor, "n levels"]
) -> Float[Tensor, "n 2d 2d"]:
    r"""The real form of the known metric in the latents, by the encoder alone.

    .. math:: F = 2\, (E^{-1})^T E^{-1}, \qquad
              E = \frac{\partial(\mathrm{Re}\,z, \mathrm{Im}\,z)}
                       {\partial(\mathrm{Re}\,w, \mathrm{Im}\,w)}

    with w the affine chart around each state, in which :math:`\|d\rho\|^2 = 2 |dw|^2`, and z the
    latent of the state at w. It owes nothing to the decoder, whose Fisher form is F over the
    variance of the data where encoder and decoder are inverse to each other.

    Args:
        encode: coordinates of density matrices to latents, row by row.
        states: unit vectors ψ.
    """
    zero = torch.zeros_like(states[:, 1:])

    def latents(w: Tensor) -> Tensor:
        return encode(density_coordinates(states_around(states, w)))

    changes = [torch.func.jvp(latents, (zero,), (tangent,))[1] for tangent in basis(zero)]
    columns = [torch.cat([change.real, change.imag], dim=1) for change in changes]
    inverse = torch.linalg.inv(torch.stack(columns, dim=-1))
    return 2 * inverse.mT @ inverse


def measure_states(
    model: VAE,
    potentials: Mapping[str, nn.Module],
    test: Split,
    settings: Mapping[str, Any],
) -> pd.DataFrame:
    """What :func:`compare_with_truth` finds, beside the model's ``elbo`` and ``mse``.

    Args:
        test: with the states that its samples were made from.
        settings: ``count`` of the states that are looked at, ``noise``; and those of
            :func:`compare_with_truth`.

    Raises:
        InputError: the samples are not of known states, or no pair is away from the tear.
    """
    if test.truth is None:
        raise InputError(
            "the test split has no states that its samples were made from: give data of kind "
            "states, made again with the data stage."
        )
    states = test.truth[: settings["count"]]
    table = compare_with_truth(model, potentials, states, settings["noise"], settings)
    stream = generator(model.identity["seed"], "reconstruction")
    scores = reconstruction_scores(model, test.samples, stream)
    return table.assign(elbo=scores["elbo"], mse=scores["mse"])


@torch.no_grad()
def compare_with_truth(
    model: Any,
    potentials: Mapping[str, nn.Module],
    states: Complex[Tensor, "n levels"],
    noise: float,
    settings: Mapping[str, Any],
) -> pd.DataFrame:
    r"""Errors of lengths, distances, volumes and curvature, in float64.

    The metrics are ``real``, the whole Fisher form of the decoder, in whose lengths no chart is
    better than another; ``fisher``, its Hermitian part; and those of the potentials. All are taken
    times the decoder's σ², since a σ that is off is an error of scale alone and stands in a column
    of its own.

    A chart of these states tears somewhere. A state counts as away from the tear if it is
    reproduced within an angle ``tear``; a pair, if all states between are and it is at most
    ``angle`` apart. Of these, medians:

    - ``length_error``: relative error of the length of the straight latent line, against that of
      the decoded states along it;
    - ``distance_error``: relative error of the length of the metric's own geodesic, against
      arccos |⟨ψ, φ⟩|; ``distance_spearman`` is their rank correlation;
    - ``metric_error``: relative error of the tensor against :func:`true_form`, of a Hermitian one
      against the Hermitian part of that;
    - ``volume_error``: difference of log det to ½ log det F/2, the same of the truth F;
    - ``curvature``: scalar curvature, d(d + 1) in truth, at the ``curvature_points`` where the
      decoder's Hermitian defect is at most ``defect``; empty where there are none.

    Args:
        model: with ``identity``, ``encode`` and ``decoder``, of constant variance.
        potentials: by name; modules of any class that have a ``metric``.
        states: of the test split.
        noise: σ of the data.
        settings: ``pairs``, ``steps`` and free ``points`` of curves; ``angle`` and ``tear`` in
            degrees; ``defect``.

    Returns:
        One row for every metric; ``hermitian_defect`` is the decoder's, ``chart_defect`` that of
        the truth in the encoder's chart: 0 where latents are holomorphic coordinates of states.

    Raises:
        InputError: no pair is away from the tear.
    """
    model, states = to_double(model), states.to(torch.complex128)
    states = states / torch.linalg.vector_norm(states, dim=1, keepdim=True)  # to double precision
    decoder = model.decoder

    def encode(x: Tensor) -> Tensor:
        return model.encode(x).mean

    def decode(z: Tensor) -> Tensor:
        return nearest_states(decoder(z.flatten(0, -2)).mean).unflatten(0, z.shape[:-1])

    def reproduced(states: Tensor) -> Tensor:
        again = decode(encode(density_coordinates(states)))
        return fubini_study_distance(states, again).rad2deg() <= settings["tear"]

    z = encode(density_coordinates(states))
    kept = reproduced(states)
    first, second = pairs(
        len(states), settings["pairs"], generator(model.identity["seed"], "states")
    )
    apart = fubini_study_distance(states[first], states[second])
    between = fubini_study_geodesic(states[first], states[second], settings["steps"])
    near = reproduced(between.flatten(0, 1)).unflatten(0, between.shape[:2]).all(1)
    near &= apart.rad2deg() <= settings["angle"]
    if near.sum() < 2:
        raise InputError(
            f"{model.identity['variant']} (seed {model.identity['seed']}) reproduces the states "
            f"between fewer than two of {len(near)} pairs: train longer, or raise "
            "evaluation.states.tear."
        )
    apart, start, end = apart[near], z[first][near], z[second][near]
    variance = decoder(z[:1]).log_var.exp().mean()
    form = true_form(encode, states[kept])
    z = z[kept]
    lines = latent_lines(start, end, settings["steps"])
    true_lengths = _travelled(decode(lines))
    volume = 0.5 * log_det(0.5 * form)
    defects = hermitian_defect(decoder, z)
    chart = torch.linalg.matrix_norm(holomorphic_part(form))
    chart = chart / torch.linalg.matrix_norm(hermitian_part(form))
    readable = z[defects <= settings["defect"]]
    shared = {
        "noise": noise,
        "sigma": variance.sqrt().item(),
        "states_kept": kept.double().mean().item(),
        "pairs_kept": len(apart),
        "hermitian_defect": defects.median().item(),
        "chart_defect": chart.median().item(),
    }
    rows = []
    for name, measured in _metrics(decoder, potentials, variance).items():
        curves = _geodesics(measured.metric, measured.embed(start), measured.embed(end), settings)
        lengths = curve_length(measured.metric, measured.embed(lines))
        distances = curve_length(measured.metric, curves)
        tensor, truth = measured.tensor(z), measured.kind(form)
        rows.append(
            {
                "metric": name,
                "length_error": _median_error(lengths, true_lengths),
                "distance_error": _median_error(distances, apart),
                "distance_spearman": _rank_correlation(distances, apart),
                "metric_error": relative_error(tensor, truth).median().item(),
                "volume_error": (_log_volume(tensor) - volume).abs().median().item(),
                "curvature": float("nan")
                if name == "real" or not len(readable)
                else scalar_curvature(measured.metric, readable).median().item(),
                "curvature_points": len(readable),
            }
            | shared
        )
    return identified(pd.DataFrame(rows), model.identity)


def _metrics(
    decoder: Decoder, potentials: Mapping[str, nn.Module], variance: Tensor
) -> dict[str, Measured]:
    """All metrics under test, those of the decoder first."""

    def form(z: Tensor) -> Tensor:
        return variance * fisher_form(decoder, z)

    def real(u: Tensor) -> Tensor:
        # Half of the form, as g(v, v) is; in C^2d, whose real points are the latents.
        return 0.5 * form(torch.complex(*u.real.chunk(2, dim=-1))).to(u.dtype)

    def apart(z: Tensor) -> Tensor:
        parts = torch.cat([z.real, z.imag], dim=-1)
        return torch.complex(parts, torch.zeros_like(parts))

    def hermitian(metric: Metric) -> Measured:
        def scaled(z: Tensor) -> Tensor:
            return variance * metric(z)

        return Measured(scaled, _same, scaled, hermitian_part)

    found = {
        "real": Measured(real, apart, form, _same),
        "fisher": hermitian(lambda z: fisher_metric(decoder, z)),
    }
    for name, potential in potentials.items():
        doubled: Any = to_double(potential)
        found[name] = hermitian(doubled.metric)
    return found


def _geodesics(metric: Metric, start: Tensor, end: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """Curves to single precision: a fraction of the iterations, and no digit lost that is shown."""

    def rounded(z: Tensor) -> Tensor:
        return metric(z.to(start.dtype)).to(z.dtype)

    ends = start.to(torch.complex64), end.to(torch.complex64)
    return geodesics(rounded, *ends, settings["steps"], settings["points"]).to(start.dtype)


def _same(value: Tensor) -> Tensor:
    return value


def _travelled(curves: Complex[Tensor, "n points levels"]) -> Float[Tensor, " n"]:
    """Way along the states of each curve."""
    return fubini_study_distance(curves[:, :-1], curves[:, 1:]).sum(1)


def _log_volume(tensor: Tensor) -> Tensor:
    """log det g of a Hermitian metric, and what is the same of a real form: ½ log det F/2."""
    return log_det(tensor) if tensor.is_complex() else 0.5 * log_det(0.5 * tensor)


def _median_error(values: Tensor, truth: Tensor) -> float:
    return (values / truth - 1).abs().median().item()


def _rank_correlation(values: Tensor, others: Tensor) -> float:
    """Spearman's; by pandas, since scipy.stats takes half a second to load."""
    ranks = pd.DataFrame({"x": values.numpy(), "y": others.numpy()}).rank()
    return float(ranks.corr().to_numpy()[0, 1])
