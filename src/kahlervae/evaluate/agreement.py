"""How well potentials agree with the Fisher metric of a trained decoder, and the identities."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Bool, Complex, Float, Num
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.evaluate.hermitian import HermitianRegression
from kahlervae.geometry import (
    LogPartitionPotential,
    MixtureDecoder,
    MixturePotential,
    Potential,
    affine_invariant_distance,
    calibrate_anchor_potential,
    closedness_defect,
    exact_potential,
    fisher_metric,
    hermitian_defect,
    kahler_residual,
    log_det,
    mixed_hessian,
    relative_entropy_metric,
    relative_error,
    smallest_eigenvalue,
)
from kahlervae.geometry.decoder import Decoder
from kahlervae.geometry.wirtinger import basis, pushforward
from kahlervae.models import VAE, ComplexGaussian, ComplexPosterior, RealGaussian
from kahlervae.nn import to_double
from kahlervae.seeding import generator
from kahlervae.storage import identified
from kahlervae.train.potentials import CALIBRATION, draw_fit_probes, draw_probes

__all__ = ["Agreement", "compare_potentials"]

TOLERANCES = {
    "kl_hessian": 1e-8,
    "total_covariance": 1e-10,
    "missing_information": 4.0,
    "psh_certificate": 0.0,
    "closedness": 1e-8,
    "holomorphic_hermitian": 1e-8,
    "holomorphic_closedness": 1e-8,
    "holomorphic_potential": 1e-8,
    "construction_closedness": 1e-8,
    "construction_potential": 1e-8,
}

COMPONENTS, PROBES, DRAWS = 16, 16, 2000
"""Of the missing-information bridge: components, latents and Monte Carlo draws at each."""

ANCHORS, DIFFERENTIATED = 256, 64
"""Exact metrics of the potential that is made of them; probes at which metrics are differentiated,
which costs what 4d of them do."""


class Agreement(NamedTuple):
    """The three tables of the comparison.

    Attributes:
        agreement: one row per probe set and potential; the row ``fisher`` is the exact metric
            itself, for its own closedness defect.
        identities: one row per identity, the largest error over all probes.
        probes: one row per probe and potential for log det and every eigenvalue.
    """

    agreement: pd.DataFrame
    identities: pd.DataFrame
    probes: pd.DataFrame


def compare_potentials(
    model: VAE,
    potentials: Mapping[str, Potential],
    train: Num[Tensor, "n *shape"],
    test: Num[Tensor, "n *shape"],
    settings: Mapping[str, Any],
) -> Agreement:
    """Hold potentials and identities against the exact Fisher metric, in float64.

    Beside the potentials there are the rows ``hermitian``, a regression on any Hermitian metric,
    with no potential: what the best potential leaves beyond its error is the price of being Kähler,
    and of what its class lacks; and ``anchors``, the potential of the exact metrics at as many
    training posteriors as the posterior potential has, without regression.

    Args:
        model: with complex latents.
        potentials: by name; that of a decoder that is Kähler by construction comes in beside
            them, as ``log_partition``.
        train: samples to whose posteriors the probes of ``hermitian`` belong.
        test: held out from the fit of the potentials.
        settings: ``probes`` of each set, ``epsilon`` of log det(g + εI), ``control`` with the
            ``probes``, ``width``, ``steps`` and ``learning_rate`` of ``hermitian``.
    """
    stream = generator(model.identity["seed"], "agreement")
    drawn = draw_probes(model, test, settings["probes"], stream)
    controls = _controls(model, train, settings["control"])
    probe_sets = {name: z.to(torch.complex128) for name, z in drawn.items()}
    decoder = to_double(model.decoder)
    doubled: dict[str, Any]
    doubled = {name: to_double(potential) for name, potential in potentials.items()}
    if own := exact_potential(decoder):
        doubled["log_partition"] = own
    rows, scatter = [], []
    for probe_set, z in probe_sets.items():
        exact = _finite(fisher_metric(decoder, z), f"the Fisher metric at {probe_set} probes")
        exact_log_det = log_det(exact, settings["epsilon"])
        shared = {
            "hermitian_defect": hermitian_defect(_opaque(decoder), z).median().item(),
            "kahler_residual": kahler_residual(_opaque(decoder), z).median().item(),
            "covariance_share": _covariance_share(decoder, z).median().item(),
        }
        rows.append(
            {"probe_set": probe_set, "potential": "fisher"}
            | {"min_eigenvalue": smallest_eigenvalue(exact).min().item()}
            | shared
            | {"closedness_defect": _closedness(lambda z: fisher_metric(decoder, z), z)}
        )
        for name, compared in (doubled | controls).items():
            metric = _finite(compared.metric(z), f"the metric of {name} at {probe_set} probes")
            proxy_log_det = log_det(metric, settings["epsilon"])
            row = {
                "probe_set": probe_set,
                "potential": name,
                "relative_error_median": relative_error(metric, exact).median().item(),
                "airm_median": affine_invariant_distance(metric, exact).median().item(),
                "logdet_spearman": _spearman(proxy_log_det, exact_log_det),
                "within_share": float("nan"),
                "min_eigenvalue": smallest_eigenvalue(metric).min().item(),
            }
            row |= shared | {"closedness_defect": _closedness(compared.metric, z)}
            rows.append(row)
            if isinstance(compared, Potential):
                row["within_share"] = _within_share(compared, z)
            if name in controls:
                continue
            pairs = [
                _scatter(exact_log_det[:, None], proxy_log_det[:, None], "log_det", 0),
                _scatter(
                    torch.linalg.eigvalsh(exact), torch.linalg.eigvalsh(metric), "eigenvalue", 1
                ),
            ]
            scatter += [pair.assign(probe_set=probe_set, potential=name) for pair in pairs]
    posterior = model.encode(test[:1])
    assert isinstance(posterior, ComplexPosterior)
    errors = _identities(decoder, doubled, probe_sets, posterior, stream)
    identities = [
        {"identity_name": name, "value": value, "tolerance": TOLERANCES[name]}
        for name, value in errors.items()
    ]
    order = ["probe_set", "potential", "probe", "quantity", "rank", "fisher", "value"]
    return Agreement(
        identified(pd.DataFrame(rows)[list(rows[1])], model.identity),
        identified(pd.DataFrame(identities), model.identity),
        identified(pd.concat(scatter)[order], model.identity),
    )


def _controls(
    model: VAE, samples: Num[Tensor, "n *shape"], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What potentials are held against, from metrics at probes as those of the fitted one."""
    stream = generator(model.identity["seed"], "control")
    z = draw_fit_probes(model, samples, settings["probes"], stream)
    metrics = fisher_metric(model.decoder, z)
    fit = {key: settings[key] for key in ("width", "steps", "learning_rate")}
    count = min(ANCHORS, len(z) // 2)
    anchors, others = slice(0, count), slice(count, None, CALIBRATION)
    controls = {
        "anchors": calibrate_anchor_potential(
            z[anchors], metrics[anchors], z[others], metrics[others]
        ),
        "hermitian": HermitianRegression.fit(z, metrics, **fit, generator=stream),
    }
    return {name: to_double(control) for name, control in controls.items()}


def _identities(
    decoder: Decoder,
    potentials: Mapping[str, Potential],
    probe_sets: Mapping[str, Complex[Tensor, "n d"]],
    posterior: ComplexPosterior,
    stream: torch.Generator,
) -> dict[str, float]:
    """The largest error of every identity; for ``psh_certificate`` the smallest eigenvalue."""
    z = torch.cat([*probe_sets.values()])
    own, holomorphic = potentials.get("log_partition"), getattr(decoder, "holomorphic", False)
    learned = [potentials["fitted"], potentials["posterior"]]
    return {
        "kl_hessian": _largest(
            relative_error(relative_entropy_metric(decoder, z), fisher_metric(decoder, z))
        ),
        "total_covariance": max(_largest(_hessian_error(p, z)) for p in learned),
        "missing_information": _missing_information_score(decoder, posterior, stream),
        "psh_certificate": min(
            min(p.certificate().lower_bound, smallest_eigenvalue(p.metric(z)).min().item())
            for p in learned
        ),
        "closedness": max(_largest(_closedness_error(p, z)) for p in learned),
        **(_kahler_identities(decoder, z) if holomorphic else {}),
        **(
            _construction_identities(decoder, own, z)
            if isinstance(own, LogPartitionPotential) and not holomorphic
            else {}
        ),
    }


def _hessian_error(potential: Potential, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Relative error of the metric in closed form against the mixed Hessian."""
    errors = relative_error(potential.metric(z), mixed_hessian(potential.potential, z))
    for n, local, origin in _steep(potential, z, errors > TOLERANCES["total_covariance"]):
        errors[n] = relative_error(local.metric(origin), mixed_hessian(local.potential, origin))
    return errors


def _closedness_error(potential: Potential, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Closedness defect of the metric in closed form."""
    errors = closedness_defect(potential.metric, z)
    for n, local, origin in _steep(potential, z, errors > TOLERANCES["closedness"]):
        errors[n] = closedness_defect(local.metric, origin)
    return errors


def _steep(
    potential: Potential, z: Complex[Tensor, "n d"], doubtful: Bool[Tensor, " n"]
) -> Iterator[tuple[int, MixturePotential, Complex[Tensor, "1 d"]]]:
    """Of doubtful probes the number, and the potential about each, where its derivatives are those
    of its geometry: of sure posteriors it is so steep that rounding alone is beyond a tolerance."""
    if isinstance(potential, MixturePotential):
        for n in doubtful.nonzero().flatten().tolist():
            yield n, potential.about(z[n]), torch.zeros_like(z[:1])


def _construction_identities(
    decoder: Decoder, own: LogPartitionPotential, z: Complex[Tensor, "n d"]
) -> dict[str, float]:
    """What holds of a decoder that is Kähler by construction, by derivatives of it as of any."""
    plain = _opaque(decoder)
    metric = fisher_metric(plain, z)
    own_metrics = (own.metric(z), mixed_hessian(own.potential, z))
    return {
        "construction_closedness": _largest(
            closedness_defect(lambda z: fisher_metric(plain, z), z)
        ),
        "construction_potential": max(_largest(relative_error(g, metric)) for g in own_metrics),
    }


def _kahler_identities(decoder: Decoder, z: Complex[Tensor, "n d"]) -> dict[str, float]:
    """The positive control: what holds of a holomorphic decoder and not of others.

    The metric is Hermitian, closed, and the mixed Hessian of ‖μ(z)‖²/σ² everywhere.
    """

    def potential(z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        likelihood = decoder(z)
        assert isinstance(likelihood, ComplexGaussian)
        squares = likelihood.mean.real.square() + likelihood.mean.imag.square()
        return (squares * torch.exp(-likelihood.log_var)).sum(-1)

    plain = _opaque(decoder)
    metric = fisher_metric(plain, z)
    return {
        "holomorphic_hermitian": _largest(hermitian_defect(plain, z)),
        "holomorphic_closedness": _largest(closedness_defect(lambda z: fisher_metric(plain, z), z)),
        "holomorphic_potential": _largest(relative_error(mixed_hessian(potential, z), metric)),
    }


def _opaque(decoder: Decoder) -> Decoder:
    """The decoder as a function of which nothing is known.

    The metric of a decoder that says it is holomorphic is Hermitian by construction; of this one
    all derivatives are taken, automatically.
    """
    return lambda z: decoder(z)


def _missing_information_score(
    decoder: Decoder, posterior: ComplexPosterior, stream: torch.Generator
) -> float:
    """Standard score of the trace of observed + missing − complete, summed over the probes.

    The components are the decoder's likelihoods at draws a_k from one posterior, where they
    overlap, with the weights of a Gaussian mixture of the posterior's covariance:
    φ_k(z) = −a_k†Γ⁻¹a_k + 2 Re(a_k†Γ⁻¹z), up to a common term. The probes are further draws.
    """
    draws = [posterior.sample(stream)[0] for _ in range(COMPONENTS + PROBES)]
    anchors, z = torch.stack(draws).to(torch.complex128).split([COMPONENTS, PROBES])
    slope = anchors / posterior.variance.double()
    offset = -(anchors.conj() * slope).real.sum(-1)
    mixture = MixtureDecoder(offset, slope, decoder(anchors))
    observed, missing = mixture.information_draws(z, DRAWS, stream)
    total = _trace(observed) + _trace(missing)
    error = (total.mean(1) - _trace(mixture.complete_information(z))).sum().abs()
    return float(error / (total.var(1) / DRAWS).sum().sqrt())


def _covariance_share(decoder: Decoder, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
    r"""Share of the trace of the Fisher metric that is due to the variance.

    .. math:: \frac{\sum_{k,a} w (D_k \lambda_a)^2}
              {\sum_{k,a} [w (D_k \lambda_a)^2 + 2w |D_k \mu_a|^2 / \sigma_a^2]}

    over the 2d real directions, with λ = log σ² and w = 1 for complex data, ½ for real ones. 0
    where the variance is constant or the likelihood has none of its own, 1 where the mean is.
    """
    if not isinstance(decoder(z[:1]), RealGaussian | ComplexGaussian):
        return z.real.new_zeros(len(z))
    shares = []
    for part in z.split(16):  # all directions at once of few points, so that memory stays bounded
        likelihood, change = pushforward(decoder, part, basis(part))
        weight = 1.0 if isinstance(likelihood, ComplexGaussian) else 0.5
        covariance = weight * change.log_var.square().sum((0, -1))
        mean = change.mean * torch.exp(-0.5 * likelihood.log_var)
        total = covariance + 2 * weight * mean.abs().square().sum((0, -1))
        shares.append(covariance / total)
    return torch.cat(shares)


def _finite(metrics: Tensor, what: str) -> Tensor:
    """The metrics, refused in words where some are none."""
    if wrong := int((~metrics.isfinite()).flatten(1).any(1).sum()):
        raise InputError(
            f"{what} is not finite at {wrong} of {len(metrics)}: the decoder hardly depends on its "
            "latents, or it diverged; train it longer, or with fewer latents or another scale."
        )
    return metrics


def _closedness(metric: Any, z: Tensor) -> float:
    return closedness_defect(metric, z[:DIFFERENTIATED]).median().item()


def _within_share(potential: Potential, z: Tensor) -> float:
    within, between = (_trace(part) for part in potential.total_covariance(z))
    return (within / (within + between)).median().item()


def _spearman(values: Tensor, reference: Tensor) -> float:
    """Rank correlation; undefined (NaN) for a constant, and if a value is, which pandas skips."""
    if (values + reference).isnan().any() or values.max() - values.min() < 1e-9:
        return float("nan")
    # By pandas, since scipy.stats takes half a second to load.
    ranks = pd.DataFrame({"x": values.cpu().numpy(), "y": reference.cpu().numpy()}).rank()
    return float(ranks.corr().to_numpy()[0, 1])


def _trace(form: Tensor) -> Tensor:
    return form.diagonal(dim1=-2, dim2=-1).sum(-1).real


def _largest(values: Tensor) -> float:
    return values.max().item()


def _scatter(fisher: Tensor, value: Tensor, quantity: str, first_rank: int) -> pd.DataFrame:
    count, ranks = fisher.shape
    return pd.DataFrame(
        {
            "probe": torch.arange(count).repeat_interleave(ranks),
            "quantity": quantity,
            "rank": (first_rank + torch.arange(ranks)).repeat(count),
            "fisher": fisher.flatten().cpu(),
            "value": value.flatten().cpu(),
        }
    )
