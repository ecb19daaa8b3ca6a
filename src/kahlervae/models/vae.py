"""The variational autoencoders: one class, complex or real networks inside."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Complex, Float, Num
from torch import Tensor, nn

from kahlervae import storage
from kahlervae.data.form import Form
from kahlervae.data.representations import represent
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
        architecture: ``form`` of the samples, ``latent_dim``, ``width``, ``depth``,
            ``likelihood_variance`` (``constant`` or ``diagonal``) and ``networks`` (``complex``,
            ``real`` or ``holomorphic``); enough to build the model again from its file.

    Raises:
        InputError: the representation is not for such samples, or the networks are holomorphic and
            it is real.
    """

    def __init__(self, identity: Mapping[str, Any], architecture: Mapping[str, Any]) -> None:
        super().__init__()
        self.identity = dict(identity)
        self.architecture = dict(architecture)
        self.form = Form.load(architecture["form"])
        self.latent_dim: int = architecture["latent_dim"]
        self.representation = represent(identity["representation"], self.form)
        self.encoder, self.decoder = self._networks()

    def _networks(self) -> tuple[nn.Module, nn.Module]:
        networks, is_complex = self.architecture["networks"], self.representation.is_complex
        if networks == "holomorphic" and not is_complex:
            raise InputError(
                "a holomorphic decoder needs complex data, and "
                f"{self.identity['representation']} are real: use kspace, or native for data that "
                "are complex."
            )
        width, depth = self.architecture["width"], self.architecture["depth"]
        sizes = (self.representation.dimension, self.latent_dim, width, depth)
        observes_complex = self.representation.observes_complex
        variance = self.architecture["likelihood_variance"]
        if networks == "real":
            return RealEncoder(*sizes, observes_complex), RealDecoder(*sizes, is_complex, variance)
        encoder = ComplexEncoder(*sizes, observes_complex)
        if networks == "holomorphic":
            return encoder, HolomorphicDecoder(*sizes)
        return encoder, ComplexDecoder(*sizes, is_complex, variance)

    def encode(self, samples: Num[Tensor, "n *shape"]) -> Posterior:
        """The posterior of every sample."""
        return self.posterior(self.representation.encode(samples))

    def posterior(self, x: Num[Tensor, "n D"]) -> Posterior:
        """The posterior of every vector of the representation."""
        return self.encoder(self.representation.observe(x))

    def decode(self, z: Complex[Tensor, "n d"]) -> Num[Tensor, "n *view"]:
        """The likelihood at every latent as it is shown and judged, a view of its mean.

        What is known to lie in [0, 1] is clipped to it. See :class:`~kahlervae.data.form.Form`.
        """
        return self.representation.view(self.decoder(z))

    def elbo_terms(
        self, samples: Num[Tensor, "n *shape"], generator: torch.Generator
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        r"""Both terms of the evidence lower bound of every sample, in nats.

        .. math:: \log p(x \mid z),\ z \sim q(z \mid x) \qquad\text{and}\qquad KL(q(z|x) \| p(z))
        """
        x = self.representation.encode(samples)
        posterior = self.posterior(x)
        return self.decoder(posterior.sample(generator)).log_prob(x), posterior.kl()


def build_model(
    identity: Mapping[str, Any],
    form: Form,
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
        form: of the samples.
        networks: ``complex``, ``real`` or ``holomorphic``.
        latent_dim: d.
        width: of the hidden layers.
        depth: number of hidden layers.
        likelihood_variance: ``constant`` or ``diagonal``.

    Raises:
        InputError: the representation is not for such samples, or the networks are holomorphic and
            it is real.

    Example:
        >>> names = dict(dataset="digits", representation="pixels", variant="complex", seed=0)
        >>> model = build_model(names, Form((8, 8)), "complex", latent_dim=2, width=16, depth=1)
        >>> model.decode(torch.zeros(5, 2, dtype=torch.complex64)).shape
        torch.Size([5, 8, 8])
    """
    architecture = {
        "form": form.dump(),
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
        >>> model = build_model(names, Form((8, 8)), "complex", latent_dim=2, width=16, depth=1)
        >>> with TemporaryDirectory() as folder:
        ...     save_model(f"{folder}/model.safetensors", model)
        ...     again = load_model(f"{folder}/model.safetensors")
        >>> z = torch.zeros(5, 2, dtype=torch.complex64)
        >>> torch.equal(again.decode(z), model.decode(z))
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
