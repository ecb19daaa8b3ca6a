"""The variational autoencoders: one class, complex or real networks inside."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae import storage
from kahlervae.data.representations import REPRESENTATIONS
from kahlervae.errors import InputError
from kahlervae.models.likelihoods import RealGaussian
from kahlervae.models.posteriors import ComplexPosterior, Posterior, RealPosterior
from kahlervae.nn import ComplexLinear, RealInput, RealOutput, SmoothCardioid

__all__ = ["VAE", "build_model", "count_parameters", "load_model", "save_model"]


class ComplexEncoder(nn.Module):
    """x in R^D to the posterior CN(m(x), diag γ(x)) in C^d, by complex layers."""

    def __init__(self, output_dim: int, latent_dim: int, width: int, depth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            RealInput(output_dim, width), SmoothCardioid(), *_complex_layers(width, depth - 1)
        )
        self.mean = ComplexLinear(width, latent_dim)
        self.log_var = RealOutput(width, latent_dim)

    def forward(self, x: Float[Tensor, "*batch D"]) -> ComplexPosterior:
        features = self.body(x)
        return ComplexPosterior(self.mean(features), self.log_var(features))


class ComplexDecoder(nn.Module):
    """z in C^d to N(μ(z), σ²I) in R^D, by complex layers; σ² is learned and constant."""

    def __init__(self, output_dim: int, latent_dim: int, width: int, depth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ComplexLinear(latent_dim, width), SmoothCardioid(), *_complex_layers(width, depth - 1)
        )
        self.mean = RealOutput(width, output_dim)
        self.log_var = nn.Parameter(torch.tensor(INITIAL_LOG_VAR))

    def forward(self, z: Complex[Tensor, "*batch d"]) -> RealGaussian:
        mean = self.mean(self.body(z))
        return RealGaussian(mean, self.log_var.expand_as(mean))

    def pushforward(
        self, z: Complex[Tensor, "n d"], tangent: Complex[Tensor, "*k n d"]
    ) -> tuple[RealGaussian, RealGaussian]:
        """The likelihood at z and its derivatives along the tangents."""
        for layer in [*self.body, self.mean]:
            z, tangent = layer.pushforward(z, tangent)
        return RealGaussian(z, self.log_var.expand_as(z)), RealGaussian(
            tangent, torch.zeros_like(tangent)
        )


class RealEncoder(nn.Module):
    """x in R^D to the posterior N(m(x), diag s²(x)) in R^{2d}, by real layers."""

    def __init__(self, output_dim: int, latent_dim: int, width: int, depth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(output_dim, width), nn.SiLU(), *_real_layers(width, depth - 1)
        )
        self.mean = nn.Linear(width, 2 * latent_dim)
        self.log_var = nn.Linear(width, 2 * latent_dim)

    def forward(self, x: Float[Tensor, "*batch D"]) -> RealPosterior:
        features = self.body(x)
        return RealPosterior(self.mean(features), self.log_var(features))


class RealDecoder(nn.Module):
    """u = √2 (Re z, Im z) in R^{2d} to N(μ(u), σ²I) in R^D, by real layers."""

    def __init__(self, output_dim: int, latent_dim: int, width: int, depth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(2 * latent_dim, width), nn.SiLU(), *_real_layers(width, depth - 1)
        )
        self.mean = nn.Linear(width, output_dim)
        self.log_var = nn.Parameter(torch.tensor(INITIAL_LOG_VAR))

    def forward(self, z: Complex[Tensor, "*batch d"]) -> RealGaussian:
        mean = self.mean(self.body(math.sqrt(2) * torch.cat([z.real, z.imag], dim=-1)))
        return RealGaussian(mean, self.log_var.expand_as(mean))


class VAE(nn.Module):
    """A variational autoencoder with latents in C^d and prior CN(0, I).

    Args:
        identity: dataset, representation, variant and seed: the first columns of every table.
        architecture: ``image_shape``, ``latent_dim``, ``width``, ``depth`` and ``latent``
            (``complex`` or ``real``); enough to build the model again from its file.
    """

    def __init__(self, identity: Mapping[str, Any], architecture: Mapping[str, Any]) -> None:
        super().__init__()
        self.identity = dict(identity)
        self.architecture = dict(architecture)
        self.image_shape: tuple[int, int] = tuple(architecture["image_shape"])
        self.latent_dim: int = architecture["latent_dim"]
        self.representation = REPRESENTATIONS[identity["representation"]]
        output_dim = math.prod(self.image_shape)
        sizes = (output_dim, self.latent_dim, architecture["width"], architecture["depth"])
        self.encoder: nn.Module
        self.decoder: nn.Module
        if architecture["latent"] == "complex":
            self.encoder, self.decoder = ComplexEncoder(*sizes), ComplexDecoder(*sizes)
        else:
            self.encoder, self.decoder = RealEncoder(*sizes), RealDecoder(*sizes)

    def encode_images(self, images: Float[Tensor, "n height width"]) -> Posterior:
        """The posterior of every image."""
        return self.encoder(self.representation.encode(images))

    def decode_images(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, "n height width"]:
        """The mean of the likelihood at every latent as an image, clipped to [0, 1]."""
        return self.representation.decode(self.decoder(z).mean, self.image_shape).clamp(0, 1)

    def elbo_terms(
        self, images: Float[Tensor, "n height width"], generator: torch.Generator
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        r"""Both terms of the evidence lower bound of every image, in nats.

        .. math:: \log p(x \mid z),\ z \sim q(z \mid x) \qquad\text{and}\qquad KL(q(z|x) \| p(z))
        """
        x = self.representation.encode(images)
        posterior = self.encoder(x)
        return self.decoder(posterior.sample(generator)).log_prob(x), posterior.kl()


def build_model(
    identity: Mapping[str, Any],
    image_shape: tuple[int, int],
    latent: str,
    latent_dim: int,
    width: int,
    depth: int,
) -> VAE:
    """A freshly initialised model; draws from torch's global random state.

    ``width`` is that of the complex networks. Real networks get the width at which their number
    of real parameters comes closest to that of the complex ones.
    """
    architecture = {
        "image_shape": list(image_shape),
        "latent_dim": latent_dim,
        "width": width,
        "depth": depth,
        "latent": latent,
    }
    if latent == "real":
        with torch.device("meta"):
            target = count_parameters(VAE(identity, architecture | {"latent": "complex"}))
            architecture["width"] = min(
                range(width, 3 * width),
                key=lambda w: abs(
                    count_parameters(VAE(identity, architecture | {"width": w})) - target
                ),
            )
    return VAE(identity, architecture)


def count_parameters(model: nn.Module) -> int:
    """Number of real parameters; a complex one counts twice."""
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in model.parameters())


def save_model(path: Path | str, model: VAE) -> None:
    """Write parameters, identity and architecture as one safetensors file."""
    metadata = {"identity": json.dumps(model.identity)}
    metadata["architecture"] = json.dumps(model.architecture)
    storage.write_tensors(path, model.state_dict(), metadata)


def load_model(path: Path | str) -> VAE:
    """The model of a file that :func:`save_model` wrote, in evaluation mode, without gradients.

    Raises:
        InputError: the file is missing, damaged or does not hold a model.
    """
    tensors, metadata = storage.read_tensors(path)
    try:
        model = VAE(json.loads(metadata["identity"]), json.loads(metadata["architecture"]))
        model.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} does not hold a model: train it again.") from error
    return model.eval().requires_grad_(False)


INITIAL_LOG_VAR = -2.0


def _complex_layers(width: int, count: int) -> list[nn.Module]:
    return [
        layer for _ in range(count) for layer in (ComplexLinear(width, width), SmoothCardioid())
    ]


def _real_layers(width: int, count: int) -> list[nn.Module]:
    return [layer for _ in range(count) for layer in (nn.Linear(width, width), nn.SiLU())]
