"""What volume sampling costs: the potential's metric against the exact one, on a trained model."""

import time
from collections.abc import Mapping
from typing import Any

import pandas as pd

from kahlervae.models import VAE
from kahlervae.sample.samplers import Prior
from kahlervae.sample.volume import FisherVolume, Volume, VolumeElement
from kahlervae.seeding import generator

__all__ = ["measure_samplers"]

POWER = -4.0
SHORT = {"warmup": 30, "draws": 60}
"""Iterations on both metrics: few, since the exact one takes long."""


def measure_samplers(
    model: VAE, potential: VolumeElement, settings: Mapping[str, Any]
) -> pd.DataFrame:
    """Effective draws per second of ``volume``, by metric, of the same sampler otherwise.

    The prior with a global weight of power −4, for the same iterations on both metrics; on the
    potential, all iterations of the configuration come third.

    Args:
        model: a trained one, with complex latents.
        potential: fitted to its decoder.
        settings: ``sampling.volume`` of the configuration, and ``epsilon``.

    Returns:
        One row per metric and length (``short``, ``configured``): identity, numbers of
        chains and draws, gradients and other densities, seconds, effective draws,
        ``ess_per_second``, ``seconds_per_1000`` effective draws, and ``relative``, the effective
        draws per second in units of those on the exact metric.
    """
    names = ("chains", "warmup", "draws", "leapfrog", "candidates")
    configured = {name: settings[name] for name in names}
    short = configured | SHORT
    exact = FisherVolume(model.decoder)
    runs = (
        ("fisher", "short", exact, short),
        ("fitted", "short", potential, short),
        ("fitted", "configured", potential, configured),
    )
    rows: list[dict[str, Any]] = []
    for metric, length, element, options in runs:
        base = Prior(model.latent_dim)
        volume = Volume(base, element, POWER, settings["epsilon"], metric=metric, **options)
        stream = generator(model.identity["seed"], "sampler_cost")
        start = time.perf_counter()
        diagnostics = volume.sample(options["chains"], stream).diagnostics
        seconds = time.perf_counter() - start
        assert diagnostics is not None
        rate = diagnostics.ess_bulk / seconds
        rows.append(
            {
                **model.identity,
                "latent_dim": model.latent_dim,
                "metric": metric,
                "length": length,
                "chains": diagnostics.chains,
                "draws": diagnostics.draws,
                "gradients": diagnostics.gradients,
                "values": diagnostics.values,
                "seconds": seconds,
                "ess_bulk": diagnostics.ess_bulk,
                "rhat": diagnostics.rhat,
                "ess_per_second": rate,
                "seconds_per_1000": 1000 / rate,
                "relative": rate / rows[0]["ess_per_second"] if rows else 1.0,
            }
        )
    return pd.DataFrame(rows)
