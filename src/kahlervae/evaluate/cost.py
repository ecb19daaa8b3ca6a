"""What a metric costs: potential in closed form, exact Fisher metric, decoder alone."""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.func import jacfwd, vmap

from kahlervae.geometry import MixturePotential, fisher_metric
from kahlervae.models.decoders import ComplexDecoder
from kahlervae.seeding import generator

__all__ = ["measure_cost"]

GROUPS = 16


def measure_cost(settings: Mapping[str, Any]) -> pd.DataFrame:
    """Median time of one metric per point on random decoders, all within one run on one thread.

    Methods: ``decoder`` (one forward pass, the floor of all that differentiates it), ``potential``
    (closed form), ``fisher`` (:func:`~kahlervae.geometry.fisher.fisher_metric`) and ``jacfwd``
    (a plain ``vmap(jacfwd)`` of the decoder and a product). Repetitions of the methods alternate,
    so that a drift of the machine's speed meets them alike.

    Args:
        settings: ``output_dims``, ``latent_dims``, ``width``, ``batch``, ``components``,
            ``repetitions``.

    Returns:
        One row per size and method; ``relative`` is the time in units of the potential's.
    """
    rows = []
    for output_dim, latent_dim in itertools.product(
        settings["output_dims"], settings["latent_dims"]
    ):
        methods = _methods(output_dim, latent_dim, settings)
        times: dict[str, list[float]] = {name: [] for name in methods}
        for repetition in range(settings["repetitions"] + 1):
            for name, method in methods.items():
                start = time.perf_counter()
                with torch.no_grad():
                    method()
                if repetition > 0:  # the first is a warm-up
                    times[name].append(time.perf_counter() - start)
        medians = {name: statistics.median(values) for name, values in times.items()}
        rows += [
            {
                "output_dim": output_dim,
                "latent_dim": latent_dim,
                "width": settings["width"],
                "batch": settings["batch"],
                "components": settings["components"],
                "method": name,
                "microseconds_per_point": 1e6 * median / settings["batch"],
                "relative": median / medians["potential"],
            }
            for name, median in medians.items()
        ]
    return pd.DataFrame(rows)


def _methods(
    output_dim: int, latent_dim: int, settings: Mapping[str, Any]
) -> dict[str, Callable[[], Tensor]]:
    stream = generator(0, "cost")
    torch.manual_seed(0)
    decoder = ComplexDecoder(output_dim, latent_dim, settings["width"], depth=2)
    potential = MixturePotential.random(
        latent_dim, GROUPS, settings["components"] // GROUPS, 1.0, stream
    )
    z = torch.randn(settings["batch"], latent_dim, generator=stream, dtype=torch.complex64)
    return {
        "decoder": lambda: decoder(z).mean,
        "potential": lambda: potential.metric(z),
        "fisher": lambda: fisher_metric(decoder, z),
        "jacfwd": lambda: _jacfwd_metric(decoder, z),
    }


def _jacfwd_metric(decoder: ComplexDecoder, z: Tensor) -> Tensor:
    """The textbook route: a Jacobian per point in real coordinates, constant variance."""

    def mean(x: Tensor) -> Tensor:
        return decoder(torch.complex(*x.chunk(2)).unsqueeze(0)).mean.squeeze(0)

    jacobian = vmap(jacfwd(mean))(torch.cat([z.real, z.imag], dim=-1))
    real, imaginary = jacobian.chunk(2, dim=-1)
    derivative = 0.5 * torch.complex(real, -imaginary)
    return (derivative.mT @ derivative.conj()) * torch.exp(-decoder(z[:1]).log_var[0, 0])
