"""What volume sampling costs: the potential's metric against the exact one, on a trained model."""

import statistics
import time
from collections.abc import Mapping
from typing import Any

import pandas as pd

from kahlervae.geometry import exact_potential
from kahlervae.models import VAE
from kahlervae.sample.diagnostics import diagnose
from kahlervae.sample.run import prior_sampler
from kahlervae.sample.volume import FisherVolume, Volume, VolumeElement
from kahlervae.seeding import generator

__all__ = ["measure_samplers"]

POWER = -4.0
SHORT = {"warmup": 30, "draws": 60}
"""Iterations on both metrics: few, since the exact one takes long."""
WIDE = SHORT | {"chains": 256}
"""Chains enough that steps are spent on arithmetic, not on calls."""
PROBES = 256
"""At which log dets are compared."""
REPETITIONS = 3
"""Of the runs on the potential, which are short; those on the exact metric take a minute."""


def measure_samplers(
    model: VAE, potential: VolumeElement, settings: Mapping[str, Any]
) -> pd.DataFrame:
    """Effective draws per second of ``volume``, by metric, of the same sampler otherwise.

    The prior with a global weight of power −4, for the same iterations on all metrics, with the
    chains of the configuration and with 256; on potentials, all iterations of the configuration
    come last. The time is that of the chains, warm-up included, without their diagnostics; on
    potentials the median of three runs.

    Args:
        model: a trained one, with complex latents.
        potential: fitted to its decoder. Where the decoder brings its own, that comes beside it
            (``log_partition``), and the exact metric by automatic differentiation (``automatic``).
        settings: ``sampling.volume`` of the configuration, and ``epsilon``.

    Returns:
        One row per metric and run (``short``, ``wide``, ``configured``): identity, numbers of
        chains and draws, gradients and other densities, seconds, effective draws,
        ``ess_per_second``, ``seconds_per_1000`` effective draws, ``relative``, the effective
        draws per second in units of those on the exact metric with as many chains, and
        ``log_det_error``, the root mean square difference of log det from that of the exact metric
        over 256 draws from the prior.
    """
    names = ("chains", "warmup", "draws", "leapfrog", "candidates")
    configured = {name: settings[name] for name in names}
    exact: dict[str, VolumeElement] = {"fisher": FisherVolume(model.decoder)}
    slow: dict[str, VolumeElement] = {}
    potentials = {"fitted": potential}
    if own := exact_potential(model.decoder):
        potentials["log_partition"] = own
        slow["automatic"] = FisherVolume(lambda z: model.decoder(z))
    elements = exact | potentials | slow
    runs = [
        *(("short", configured | SHORT, name) for name in elements),
        *(("wide", configured | WIDE, name) for name in exact | potentials),
        *(("configured", configured, name) for name in potentials),
    ]
    base = prior_sampler(model)
    probes = base.sample(PROBES, generator(model.identity["seed"], "probes"))
    log_dets = {
        name: element.log_det(probes.latents, settings["epsilon"]).detach()
        for name, element in elements.items()
    }
    rows: list[dict[str, Any]] = []
    for run, options, metric in runs:
        element, difference = elements[metric], log_dets[metric] - log_dets["fisher"]
        volume = Volume(base, element, POWER, settings["epsilon"], metric=metric, **options)
        times = []
        for _ in range(REPETITIONS if metric in potentials else 1):
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
                "log_det_error": difference.square().mean().sqrt().item(),
            }
        )
    table = pd.DataFrame(rows)
    rate = table["ess_per_second"]
    # Of as many chains the exact metric comes first.
    exact_rate = table.groupby("chains")["ess_per_second"].transform("first")
    return table.assign(seconds_per_1000=1000 / rate, relative=rate / exact_rate)
