"""What volume sampling costs: the potential's metric against the exact one, on a trained model."""

import statistics
import time
from collections.abc import Mapping
from typing import Any

import pandas as pd

from kahlervae.models import VAE
from kahlervae.sample.diagnostics import diagnose
from kahlervae.sample.samplers import Prior
from kahlervae.sample.volume import FisherVolume, Volume, VolumeElement
from kahlervae.seeding import generator

__all__ = ["measure_samplers"]

POWER = -4.0
SHORT = {"warmup": 30, "draws": 60}
"""Iterations on both metrics: few, since the exact one takes long."""
WIDE = SHORT | {"chains": 256}
"""Chains enough that steps are spent on arithmetic, not on calls."""
REPETITIONS = 3
"""Of the runs on the potential, which are short; those on the exact metric take a minute."""


def measure_samplers(
    model: VAE, potential: VolumeElement, settings: Mapping[str, Any]
) -> pd.DataFrame:
    """Effective draws per second of ``volume``, by metric, of the same sampler otherwise.

    The prior with a global weight of power −4, for the same iterations on both metrics, with the
    chains of the configuration and with 256; on the potential, all iterations of the configuration
    come last. The time is that of the chains, warm-up included, without their diagnostics; on the
    potential the median of three runs.

    Args:
        model: a trained one, with complex latents.
        potential: fitted to its decoder.
        settings: ``sampling.volume`` of the configuration, and ``epsilon``.

    Returns:
        One row per metric and run (``short``, ``wide``, ``configured``): identity, numbers of
        chains and draws, gradients and other densities, seconds, effective draws,
        ``ess_per_second``, ``seconds_per_1000`` effective draws, and ``relative``, the effective
        draws per second in units of those on the exact metric with as many chains.
    """
    names = ("chains", "warmup", "draws", "leapfrog", "candidates")
    configured = {name: settings[name] for name in names}
    exact = FisherVolume(model.decoder)
    short, wide = configured | SHORT, configured | WIDE
    runs = (
        ("fisher", "short", exact, short),
        ("fitted", "short", potential, short),
        ("fisher", "wide", exact, wide),
        ("fitted", "wide", potential, wide),
        ("fitted", "configured", potential, configured),
    )
    rows: list[dict[str, Any]] = []
    for metric, run, element, options in runs:
        base = Prior(model.latent_dim)
        volume = Volume(base, element, POWER, settings["epsilon"], metric=metric, **options)
        times = []
        for _ in range(1 if element is exact else REPETITIONS):
            stream = generator(model.identity["seed"], "sampler_cost")
            start = time.perf_counter()
            chains, _ = volume.run(stream)
            times.append(time.perf_counter() - start)
        seconds = statistics.median(times)
        diagnostics = diagnose(chains)
        rows.append(
            {
                **model.identity,
                "latent_dim": model.latent_dim,
                "metric": metric,
                "run": run,
                "chains": diagnostics.chains,
                "draws": diagnostics.draws,
                "gradients": diagnostics.gradients,
                "values": diagnostics.values,
                "seconds": seconds,
                "ess_bulk": diagnostics.ess_bulk,
                "rhat": diagnostics.rhat,
                "ess_per_second": diagnostics.ess_bulk / seconds,
            }
        )
    table = pd.DataFrame(rows)
    rate = table["ess_per_second"]
    # Of as many chains the exact metric comes first.
    exact_rate = table.groupby("chains")["ess_per_second"].transform("first")
    return table.assign(seconds_per_1000=1000 / rate, relative=rate / exact_rate)
