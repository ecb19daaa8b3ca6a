"""The variational autoencoders: one class, complex or real networks inside."""

import json
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Complex, Float, Num
from torch import Tensor, nn

from kahlervae import storage
from kahlervae.data.form import Form
from kahlervae.data.representations import represent
from kahlervae.errors import InputError
from kahlervae.models.decoders import (
    LIKELIHOODS,
    VARIANCES,
    ComplexDecoder,
    HolomorphicDecoder,
    PluriharmonicDecoder,
    RealDecoder,
    choose_likelihood,
    refuse_half_line,
)
from kahlervae.models.encoders import ComplexEncoder, RealEncoder
from kahlervae.models.families import Bernoulli, ContinuousBernoulli, check_support
from kahlervae.models.likelihoods import ComplexGaussian, RealGaussian
from kahlervae.models.posteriors import Posterior
from kahlervae.models.priors import build_prior
from kahlervae.nn.skeleton import skeleton
from kahlervae.options import check_choice
from kahlervae.seeding import standard_normal, uniform

__all__ = ["VAE", "build_model", "count_parameters", "load_model", "save_model"]

MATCHED = ("real", "pluriharmonic")
"""Networks that get as many parameters as complex ones."""

NETWORKS = ("complex", "real", "holomorphic", "pluriharmonic")
IDENTITY = {"dataset": str, "representation": str, "variant": str, "seed": int}


class VAE(nn.Module):
    """A variational autoencoder with latents in C^d.

    Args:
        identity: dataset, representation, variant and seed: the first columns of every table.
        architecture: ``form`` of the samples, ``latent_dim``, ``width``, ``depth``,
            ``likelihood_variance`` (``constant`` or ``diagonal``), ``networks`` (``complex``,
            ``real``, ``holomorphic`` or ``pluriharmonic``), ``likelihood`` where it is no Gaussian,
            and ``prior`` where it is not CN(0, I); enough to build the model again from its file.

    Raises:
        InputError: the representation is not for such samples, the networks are holomorphic and
            it is real, the likelihood is not for such data or such networks, networks or variance
            are unknown, or a size is no whole number from 1 on.
    """

    def __init__(self, identity: Mapping[str, Any], architecture: Mapping[str, Any]) -> None:
        super().__init__()
        self.identity = dict(identity)
        self.architecture = dict(architecture)
        self.form = Form.load(architecture["form"])
        self.latent_dim: int = architecture["latent_dim"]
        self.representation = represent(identity["representation"], self.form)
        self.encoder, self.decoder = self._networks()
        self.prior = build_prior(self.latent_dim, architecture.get("prior"))

    def _networks(self) -> tuple[nn.Module, nn.Module]:
        networks, is_complex = self.architecture["networks"], self.representation.is_complex
        variance, likelihood = self.architecture["likelihood_variance"], self.likelihood
        check_choice("the kind of networks", networks, NETWORKS)
        check_choice("the variance of a likelihood", variance, VARIANCES)
        if networks == "holomorphic" and not is_complex:
            raise InputError(
                "a holomorphic decoder needs complex data, and "
                f"{self.identity['representation']} are real: use kspace, or native for data that "
                "are complex."
            )
        width, depth = self.architecture["width"], self.architecture["depth"]
        sizes = (self.representation.dimension, self.latent_dim, width, depth)
        observes_complex = self.representation.observes_complex
        kind = choose_likelihood(likelihood, is_complex)
        if networks == "real":
            decoder = RealDecoder(*sizes, is_complex, variance, likelihood)
            return RealEncoder(*sizes, observes_complex), decoder
        encoder = ComplexEncoder(*sizes, observes_complex)
        if networks == "holomorphic":
            return encoder, HolomorphicDecoder(*sizes)
        if networks == "pluriharmonic":
            if variance == "diagonal" and kind in (RealGaussian, ComplexGaussian):
                refuse_half_line("gaussian of a variance that depends on z")
            gaussian = "complex_gaussian" if is_complex else "gaussian"
            return encoder, PluriharmonicDecoder(*sizes, likelihood or gaussian)
        return encoder, ComplexDecoder(*sizes, is_complex, variance, likelihood)

    @property
    def likelihood(self) -> str | None:
        """The name of the likelihood; None is the Gaussian of the data."""
        return self.architecture.get("likelihood")

    @property
    def binarises(self) -> bool:
        """Whether the likelihood is one of binary draws of the grey values."""
        return self.likelihood is not None and LIKELIHOODS[self.likelihood] is Bernoulli

    def check_data(self, samples: Num[Tensor, "n *shape"]) -> None:
        """Refuse samples that have no density under the likelihood.

        Raises:
            InputError: says how many of their values.
        """
        if self.likelihood is None:
            return
        kind = ContinuousBernoulli if self.binarises else LIKELIHOODS[self.likelihood]
        check_support(kind, self.representation.encode(samples), self.likelihood)

    def observed(
        self, samples: Num[Tensor, "n *shape"], generator: torch.Generator
    ) -> Num[Tensor, "n D"]:
        """What the likelihood is of: vectors, or binary draws with grey values as their means.

        Stochastic binarisation (Salakhutdinov & Murray 2008), new draws every time.
        """
        x = self.representation.encode(samples)
        return (uniform(x, generator) < x).to(x.dtype) if self.binarises else x

    def noise(self, count: int, generator: torch.Generator) -> Num[Tensor, "count k"]:
        """Standard normal numbers, of which a posterior makes one draw for every sample."""
        mean: Any = self.encoder.mean
        return standard_normal(mean.bias.expand(count, -1), generator)

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

        The second by the same draw where the prior has no closed form of it.
        """
        x = self.observed(samples, generator)
        posterior = self.posterior(x)
        z = posterior.sample(generator)
        return self.decoder(z).log_prob(x), self.prior.kl(posterior, z)

    def log_evidence(
        self, samples: Num[Tensor, "n *shape"], draws: int, generator: torch.Generator
    ) -> Float[Tensor, " n"]:
        r"""Estimate of log p(x) of every sample by importance sampling, nats.

        .. math:: \log \frac1S \sum_{s=1}^S \frac{p(x \mid z_s)\, p(z_s)}{q(z_s \mid x)},
                  \qquad z_s \sim q(z \mid x)

        A lower bound in the mean, and tighter with every draw (Burda, Grosse & Salakhutdinov 2016).

        Args:
            samples: of which binary draws are taken once, where the likelihood has it so.
            draws: S.
            generator: the draws are from it.
        """
        x = self.observed(samples, generator)
        posterior = self.posterior(x)
        weights = []
        for _ in range(draws):
            z = posterior.sample(generator)
            joint = self.decoder(z).log_prob(x) + self.prior.log_prob(z)
            weights.append(joint - posterior.log_prob(z))
        return torch.stack(weights).logsumexp(0) - math.log(draws)


def build_model(
    identity: Mapping[str, Any],
    form: Form,
    networks: str,
    latent_dim: int,
    width: int,
    depth: int,
    likelihood_variance: str = "constant",
    likelihood: str | None = None,
    prior: Mapping[str, Any] | None = None,
    own_depth: int | None = None,
) -> VAE:
    """A freshly initialised model; draws from torch's global random state.

    ``width`` and ``depth`` are those of the complex networks. Real and pluriharmonic ones, and all
    of another depth, get the width at which their number of real parameters comes closest to that
    of the complex ones.

    Args:
        identity: dataset, representation, variant and seed.
        form: of the samples.
        networks: ``complex``, ``real``, ``holomorphic`` or ``pluriharmonic``.
        latent_dim: d.
        width: of the hidden layers.
        depth: number of hidden layers.
        likelihood_variance: ``constant`` or ``diagonal``, of a Gaussian.
        likelihood: a key of :data:`~kahlervae.models.decoders.LIKELIHOODS`; the Gaussian of the
            data if there is none.
        prior: see :func:`~kahlervae.models.priors.build_prior`; CN(0, I) if there is none.
        own_depth: of these networks, where it is another one.

    Raises:
        InputError: see :class:`VAE`; or so many hidden layers leave a width below d.

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
    if likelihood is not None:
        architecture["likelihood"] = likelihood
    if prior is not None:
        architecture["prior"] = dict(prior)
    own_depth = own_depth or depth
    if networks in MATCHED or own_depth != depth:

        def parameters(**changes: Any) -> int:
            return count_parameters(VAE(identity, architecture | changes))

        with skeleton():
            target = parameters(networks="complex")
            own_width = _closest(lambda size: parameters(width=size, depth=own_depth), target)
        if own_width < latent_dim:
            raise InputError(
                f"networks of depth {own_depth} with as many parameters as complex ones of depth "
                f"{depth} have a width of {own_width}, less than the {latent_dim} latents: lower "
                "the depth."
            )
        architecture |= {"width": own_width, "depth": own_depth}
    return VAE(identity, architecture)


def _closest(count: Callable[[int], int], target: int) -> int:
    """The width at which a number of parameters, which grows with it, comes closest to another."""
    upper = 1
    while count(upper) < target:
        upper *= 2
    above = bisect_left(range(upper), target, lo=max(1, upper // 2), key=count)
    return min(max(above - 1, 1), above, key=lambda size: abs(count(size) - target))


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
        with skeleton():
            model = VAE(identity, architecture)
    except (AttributeError, InputError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path} does not hold a model: train it again.") from error
    storage.check_tensors(path, tensors, model.state_dict())
    # Copies, for what is read is not aligned like other tensors, which the last digit can show.
    model.load_state_dict({key: value.clone() for key, value in tensors.items()}, assign=True)
    return model.eval().requires_grad_(False)
