"""Samplers of latents, by geometry and by simpler means, and their diagnostics."""

from kahlervae.sample.diagnostics import Diagnostics, diagnose
from kahlervae.sample.hmc import Chains, DualAveraging, run_chains
from kahlervae.sample.run import SAMPLERS, build_samplers, sample_model
from kahlervae.sample.samplers import (
    Base,
    Draws,
    PosteriorMixture,
    Prior,
    Sampler,
    Truncated,
    Volume,
    VolumeElement,
)

__all__ = [
    "SAMPLERS",
    "Base",
    "Chains",
    "Diagnostics",
    "Draws",
    "DualAveraging",
    "PosteriorMixture",
    "Prior",
    "Sampler",
    "Truncated",
    "Volume",
    "VolumeElement",
    "build_samplers",
    "diagnose",
    "run_chains",
    "sample_model",
]
