"""The variational autoencoders: one class, complex or real networks inside."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae import storage
from kahlervae.data.representations import REPRESENTATIONS
from kahlervae.errors import InputError
from kahlervae.models.decoders import ComplexDecoder, HolomorphicDecoder, RealDecoder
from kahlervae.models.encoders import ComplexEncoder, RealEncoder
from kahlervae.models.posteriors import Posterior

__all__ = ["VAE", "build_model", "count_parameters", "load_model", "save_model"]

IDENTITY = {"dataset": str, "representation": str, "variant": str, "seed": int}


class VAE(nn.Module):
    """A variational autoencoder with latents in C^d and prior CN(0, I).

    Args:
        identity: dataset, representation, variant and seed: the first columns of every table.
        architecture: ``image_shape``, ``latent_dim``, ``width``, ``depth``,
            ``likelihood_variance`` (``constant`` or ``diagonal``) and ``networks`` (``complex``,
            ``real`` or ``holomorphic``); enough to build the model again from its file.

    Raises:
        InputError: the networks are holomorphic and the data are real.
    """

    def __init__(self, identity: Mapping[str, Any], architecture: Mapping[str, Any]) -> None:
        super().__init__()
        self.identity = dict(identity)
        self.architecture = dict(architecture)
        self.image_shape: tuple[int, int] = tuple(architecture["image_shape"])
        self.latent_dim: int = architecture["latent_dim"]
        self.representation = REPRESENTATIONS[identity["representation"]]
        self.encoder, self.decoder = self._networks()

    def _networks(self) -> tuple[nn.Module, nn.Module]:
        networks, is_complex = self.architecture["networks"], self.representation.is_complex
        if networks == "holomorphic" and not is_complex:
            raise InputError(
                "a holomorphic decoder needs complex data, and "
                f"{self.identity['representation']} are real: use kspace."
            )
        output_dim = self.representation.dimension(self.image_shape)
        width, depth = self.architecture["width"], self.architecture["depth"]
        sizes = (output_dim, self.latent_dim, width, depth)
        variance = self.architecture["likelihood_variance"]
        if networks == "real":
            return RealEncoder(*sizes, is_complex), RealDecoder(*sizes, is_complex, variance)
        encoder = ComplexEncoder(*sizes, is_complex)
        if networks == "holomorphic":
            return encoder, HolomorphicDecoder(*sizes)
        return encoder, ComplexDecoder(*sizes, is_complex, variance)

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
    networks: str,
    latent_dim: int,
    width: int,
    depth: int,
    likelihood_variance: str = "constant",
) -> VAE:
    """A freshly initialised model; draws from torch's global random state.

    ``width`` is that of the complex networks. Real networks get the width at which their number
    of real parameters comes closest to that of the complex ones.

    Args:
        identity: dataset, representation, variant and seed.
        image_shape: height and width.
        networks: ``complex``, ``real`` or ``holomorphic``.
        latent_dim: d.
        width: of the hidden layers.
        depth: number of hidden layers.
        likelihood_variance: ``constant`` or ``diagonal``.

    Raises:
        InputError: the networks are holomorphic and the data are real.

    Example:
        >>> names = dict(dataset="digits", representation="pixels", variant="complex", seed=0)
        >>> model = build_model(names, (8, 8), "complex", latent_dim=2, width=16, depth=1)
        >>> model.decode_images(torch.zeros(5, 2, dtype=torch.complex64)).shape
        torch.Size([5, 8, 8])
    """
    architecture = {
        "image_shape": list(image_shape),
        "latent_dim": latent_dim,
        "width": width,
        "depth": depth,
        "likelihood_variance": likelihood_variance,
        "networks": networks,
    }
    if networks == "real":
        with torch.device("meta"):
            target = count_parameters(VAE(identity, architecture | {"networks": "complex"}))
            architecture["width"] = min(
                range(width, 3 * width),
                key=lambda w: abs(
                    count_parameters(VAE(identity, architecture | {"width": w})) - target
                ),
            )
    return VAE(identity, architecture)


def count_parameters(model: nn.Module) -> int:
    """Number of real parameters; a complex one counts twice.

    Example:
        >>> [count_parameters(nn.Linear(3, 2, dtype=d)) for d in (torch.float32, torch.complex64)]
        [8, 16]
    """
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

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> names = dict(dataset="digits", representation="pixels", variant="complex", seed=0)
        >>> model = build_model(names, (8, 8), "complex", latent_dim=2, width=16, depth=1)
        >>> with TemporaryDirectory() as folder:
        ...     save_model(f"{folder}/model.safetensors", model)
        ...     again = load_model(f"{folder}/model.safetensors")
        >>> z = torch.zeros(5, 2, dtype=torch.complex64)
        >>> torch.equal(again.decode_images(z), model.decode_images(z))
        True
    """
    tensors, metadata = storage.read_tensors(path)
    try:
        identity, architecture = (json.loads(metadata[k]) for k in ("identity", "architecture"))
        if {key: type(value) for key, value in identity.items()} != IDENTITY:
            raise ValueError("another identity")
        if identity["seed"] < 0 or architecture["depth"] > len(tensors):
            raise ValueError("a seed or a depth that no model has")
        with torch.device("meta"):  # nothing is allocated for the sizes that a file claims
            model = VAE(identity, architecture)
    except (AttributeError, InputError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path} does not hold a model: train it again.") from error
    storage.check_tensors(path, tensors, model.state_dict())
    # Copies, for what is read is not aligned like other tensors, which the last digit can show.
    model.load_state_dict({key: value.clone() for key, value in tensors.items()}, assign=True)
    return model.eval().requires_grad_(False)
