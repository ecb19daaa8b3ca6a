"""Potentials of a trained decoder, and their file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Complex, Num
from torch import Tensor

from kahlervae import storage
from kahlervae.errors import InputError
from kahlervae.geometry import MixturePotential, best_constant_metric, fisher_metric, log_det
from kahlervae.geometry.fit import calibrate_posterior_potential, fit_potential
from kahlervae.models import VAE
from kahlervae.seeding import generator, standard_normal

__all__ = ["draw_probes", "fit_potentials", "load_potentials", "save_potentials"]


POTENTIALS = ("fitted", "posterior", "constant")

CALIBRATION = 12
"""Every how many-th probe calibrates the posterior potential."""


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
    prior = standard_normal(posterior, stream)
    return {"posterior": posterior, "prior": prior}


def fit_potentials(
    model: VAE, samples: Num[Tensor, "n *shape"], settings: Mapping[str, Any]
) -> dict[str, MixturePotential]:
    """Three potentials of the decoder's Fisher metric, from training samples alone.

    - ``fitted``: regressed on the exact metric at probes, four fifths posterior, one prior;
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
    probes = draw_probes(model, samples, settings["probes"], stream)
    z = torch.cat([probes["posterior"], probes["prior"][::4]])
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
    fit = {key: settings[key] for key in ("groups", "components", "steps", "learning_rate")}
    potentials = {
        "fitted": fit_potential(z, metrics, **fit, generator=stream),
        # A few probes are enough for two numbers.
        "posterior": calibrate_posterior_potential(
            anchors.mean, anchors.variance, z[::CALIBRATION], metrics[::CALIBRATION]
        ),
        "constant": MixturePotential.constant(best_constant_metric(metrics)).to(z.device),
    }
    for name, potential in potentials.items():
        if not all(parameter.isfinite().all() for parameter in potential.parameters()):
            raise InputError(
                f"the {name} potential of {whose} is not finite: lower "
                "geometry.potential.learning_rate, or raise geometry.potential.anchors."
            )
    return potentials


def save_potentials(
    path: Path | str, potentials: Mapping[str, MixturePotential], identity: Mapping[str, Any]
) -> None:
    """Write the parameters of all potentials as one safetensors file."""
    tensors = {
        f"{name}.{key}": value
        for name, potential in potentials.items()
        for key, value in potential.state_dict().items()
    }
    storage.write_tensors(path, tensors, identity)


def load_potentials(
    path: Path | str, latent_dim: int, device: torch.device | None = None
) -> dict[str, MixturePotential]:
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
    tensors, _ = storage.read_tensors(path)
    expected: dict[str, Tensor] = {}
    for name in POTENTIALS:
        offset = tensors.get(f"{name}.offset")
        if offset is None or offset.dim() != 2:
            raise InputError(f"{path} does not hold potentials: fit them again.")
        groups, components = offset.shape
        shapes = {
            "background": (latent_dim, latent_dim),
            "slope": (groups, components, latent_dim),
            "offset": (groups, components),
            "log_strength": (groups,),
        }
        if (factor := tensors.get(f"{name}.factor")) is not None:  # of any rank, or a diagonal
            shapes["factor"] = (groups, components, latent_dim, *factor.shape[3:4])
        for key, shape in shapes.items():
            real = key in ("offset", "log_strength")
            dtype = torch.float32 if real else torch.complex64
            expected[f"{name}.{key}"] = torch.empty(shape, dtype=dtype, device="meta")
    storage.check_tensors(path, tensors, expected)
    parameters: dict[str, dict[str, Tensor]] = {name: {} for name in POTENTIALS}
    for key, value in tensors.items():
        name, _, parameter = key.partition(".")
        parameters[name][parameter] = value
    return {
        name: MixturePotential(**values).requires_grad_(False).to(device)
        for name, values in parameters.items()
    }
