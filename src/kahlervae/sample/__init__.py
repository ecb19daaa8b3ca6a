"""Samplers of latents, by geometry and by simpler means, and their diagnostics."""

from kahlervae.sample.chains import ChainSampler
from kahlervae.sample.diagnostics import Diagnostics, Normaliser, diagnose, estimate_normaliser
from kahlervae.sample.hmc import Chains, DualAveraging, Proposal, run_chains
from kahlervae.sample.mixtures import (
    GaussianMixture,
    LearnedPrior,
    Mixture,
    PosteriorMixture,
    TruncatedMixture,
)
from kahlervae.sample.ratio import Ratio
from kahlervae.sample.resampling import Pool, effective_size, rake
from kahlervae.sample.riemannian import Riemannian, choose_anchors
from kahlervae.sample.run import (
    SAMPLERS,
    Sources,
    build_samplers,
    prior_sampler,
    sample_model,
    truncated_sampler,
)
from kahlervae.sample.samplers import Base, Draws, Prior, Sampler, Truncated
from kahlervae.sample.volume import FisherVolume, Volume, VolumeElement, component_log_dets

__all__ = [
    "SAMPLERS",
    "Base",
    "ChainSampler",
    "Chains",
    "Diagnostics",
    "Draws",
    "DualAveraging",
    "FisherVolume",
    "GaussianMixture",
    "LearnedPrior",
    "Mixture",
    "Normaliser",
    "Pool",
    "PosteriorMixture",
    "Prior",
    "Proposal",
    "Ratio",
    "Riemannian",
    "Sampler",
    "Sources",
    "Truncated",
    "TruncatedMixture",
    "Volume",
    "VolumeElement",
    "build_samplers",
    "choose_anchors",
    "component_log_dets",
    "diagnose",
    "effective_size",
    "estimate_normaliser",
    "prior_sampler",
    "rake",
    "run_chains",
    "sample_model",
    "truncated_sampler",
]
