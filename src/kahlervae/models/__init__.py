"""Encoders, decoders, likelihoods, posteriors, priors and the VAEs made of them."""

from kahlervae.models.likelihoods import ComplexGaussian, RealGaussian
from kahlervae.models.posteriors import ComplexPosterior, Posterior, RealPosterior
from kahlervae.models.priors import MixturePrior, StandardPrior
from kahlervae.models.vae import VAE, build_model, load_model, save_model

__all__ = [
    "VAE",
    "ComplexGaussian",
    "ComplexPosterior",
    "MixturePrior",
    "Posterior",
    "RealGaussian",
    "RealPosterior",
    "StandardPrior",
    "build_model",
    "load_model",
    "save_model",
]
