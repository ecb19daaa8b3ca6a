"""Samplers of latents in C^d, one interface."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from kahlervae.errors import InputError
from kahlervae.models import Posterior
from kahlervae.sample.diagnostics import Diagnostics, diagnose
from kahlervae.sample.hmc import run_chains

__all__ = [
    "Base",
    "Draws",
    "PosteriorMixture",
    "Prior",
    "Sampler",
    "Truncated",
    "Volume",
    "VolumeElement",
]


class Draws(NamedTuple):
    """What a sampler returns.

    Attributes:
        latents: the draws.
        diagnostics: how the Markov chains behaved; None where the draws are independent.
    """

    latents: Complex[Tensor, "count d"]
    diagnostics: Diagnostics | None = None


class Sampler(ABC):
    """A way to draw latents. Its key in files and tables is ``"{name}:{setting}"``."""

    name: ClassVar[str]
    setting: str = "default"

    @property
    def key(self) -> str:
        """``"{name}:{setting}"``, for example ``volume:alpha=-0.5``."""
        return f"{self.name}:{self.setting}"

    def sample(self, count: int, generator: torch.Generator) -> Draws:
        """Draw ``count`` latents.

        Raises:
            InputError: ``count`` is below 1, or the sampler cannot deliver that many.
        """
        if count < 1:
            raise InputError(f"{self.key} cannot draw {count} samples: ask for at least 1.")
        return self._sample(count, generator)

    @abstractmethod
    def _sample(self, count: int, generator: torch.Generator) -> Draws: ...


class Base(Sampler):
    """A sampler whose density is known, so that a volume element can weigh it."""

    @abstractmethod
    def log_density(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Log density, differentiable."""


class Truncated(Base):
    r"""The prior at temperature T.

    .. math:: CN(0, T^2 I), \qquad ρ(z) = (π T^2)^{-d} \exp(-|z|^2 / T^2)

    Args:
        latent_dim: d.
        temperature: T > 0, the factor on the standard deviation.
        dtype: precision of the latents.
        device: where the latents go; they are drawn on the CPU.

    Raises:
        InputError: the temperature is not positive.
    """

    name = "truncated"

    def __init__(
        self,
        latent_dim: int,
        temperature: float,
        dtype: torch.dtype = torch.complex64,
        device: torch.device | None = None,
    ) -> None:
        if not temperature > 0:
            raise InputError(
                f"the temperature {temperature:g} of the truncated prior is not positive: "
                "choose one above 0 (1 is the prior itself)."
            )
        self.latent_dim = latent_dim
        self.temperature = temperature
        self.dtype = dtype
        self.device = device
        self.setting = f"temperature={temperature:g}"

    def log_density(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Normalised log density, nats."""
        squares = (z.real.square() + z.imag.square()).sum(-1)
        variance = self.temperature**2
        return -squares / variance - self.latent_dim * math.log(math.pi * variance)

    def _sample(self, count: int, generator: torch.Generator) -> Draws:
        # torch's complex normal is CN(0, 1): E|z|² = 1.
        noise = torch.randn(count, self.latent_dim, generator=generator, dtype=self.dtype)
        return Draws(self.temperature * noise.to(self.device))


class Prior(Truncated):
    r"""The prior of every model.

    .. math:: CN(0, I), \qquad ρ(z) = π^{-d} \exp(-|z|^2)
    """

    name = "prior"

    def __init__(
        self,
        latent_dim: int,
        dtype: torch.dtype = torch.complex64,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(latent_dim, 1.0, dtype, device)
        self.setting = "default"


class PosteriorMixture(Sampler):
    r"""The aggregated posterior over N images: an image uniformly, then a draw from its posterior.

    .. math:: ρ(z) = \frac1N \sum_n q(z \mid x_n)

    Args:
        posterior: the posteriors of all N images.
    """

    name = "posterior_mixture"

    def __init__(self, posterior: Posterior) -> None:
        self.posterior = posterior

    def _sample(self, count: int, generator: torch.Generator) -> Draws:
        index = torch.randint(len(self.posterior[0]), (count,), generator=generator)
        chosen = type(self.posterior)(*(parameter[index] for parameter in self.posterior))
        return Draws(chosen.sample(generator))


@runtime_checkable
class VolumeElement(Protocol):
    """A metric that knows its regularised log volume element."""

    def log_det(self, z: Complex[Tensor, "n d"], epsilon: float) -> Float[Tensor, " n"]:
        """log det(g(z) + εI), differentiable in z."""


class Volume(Base):
    r"""A base density p, weighted by a power of the complex volume element of a metric g.

    .. math:: ρ(z) \propto p(z) \, \det(g(z) + εI)^α

    The volume element of a Hermitian metric is its determinant, not the root of it: √det of the
    real 2d × 2d metric is 2^d det g.

    **Integrability.** With the prior as base, every real α is allowed when g is positive
    semidefinite, continuous and of polynomial growth. For α ≤ 0 the weight is bounded,
    det(g + εI)^α ≤ ε^{dα}. For α > 0, ``‖g(z)‖ ≤ C(1 + |z|²)^m`` gives
    ``det(g + εI)^α ≤ (ε + C(1 + |z|²)^m)^{dα}``, a polynomial bound, which ``exp(−|z|²)``
    integrates. A mixture potential has m = 1: its metric is a weighted covariance of the vectors
    b_k + A_k z plus bounded terms. A base with tails heavier than every exponential would need its
    own argument.

    Draws are those of :func:`~kahlervae.sample.hmc.run_chains`, started at draws from the base,
    thinned evenly over every chain and put in random order. The defaults suit a base of unit
    variance: longer trajectories come back to where ``|z|²`` was and mix the density worse.

    Args:
        base: p, which also gives the starts.
        volume: g, by its ``log_det``, or by ``log_det_and_gradient`` where it has that as well.
        alpha: α.
        epsilon: ε > 0.
        chains: number of chains.
        warmup: iterations that are dropped.
        draws: kept iterations of every chain.
        leapfrog: largest number of steps of a trajectory.
        rhat: largest R-hat that is not flagged.
    """

    name = "volume"

    def __init__(
        self,
        base: Base,
        volume: VolumeElement,
        alpha: float,
        epsilon: float,
        *,
        chains: int = 16,
        warmup: int = 150,
        draws: int = 800,
        leapfrog: int = 3,
        rhat: float = 1.01,
    ) -> None:
        self.base = base
        self.volume = volume
        self.alpha = alpha
        self.epsilon = epsilon
        self.chains = chains
        self.warmup = warmup
        self.draws = draws
        self.leapfrog = leapfrog
        self.rhat = rhat
        self.setting = f"alpha={alpha:g}"

    def log_density(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Unnormalised log density, nats."""
        if hasattr(self.volume, "log_det_and_gradient"):
            log_det = _LogDet.apply(z, self.volume, self.epsilon)
        else:
            log_det = self.volume.log_det(z, self.epsilon)
        return self.base.log_density(z) + self.alpha * log_det

    def _sample(self, count: int, generator: torch.Generator) -> Draws:
        total = self.chains * self.draws
        if count > total:
            raise InputError(
                f"{self.key} cannot give {count} samples from {self.chains} chains of "
                f"{self.draws} draws: raise sampling.volume.draws or lower sampling.count."
            )
        try:
            chains = run_chains(
                self.log_density,
                self.base.sample(self.chains, generator).latents,
                warmup=self.warmup,
                draws=self.draws,
                leapfrog=self.leapfrog,
                generator=generator,
            )
        except InputError as error:
            raise InputError(f"{self.key}: {error}") from error
        every = torch.arange(count) * total // count
        order = torch.randperm(count, generator=generator)
        latents = chains.latents.flatten(0, 1)[every][order]
        return Draws(latents, diagnose(chains, self.rhat))


class _LogDet(torch.autograd.Function):
    """The log det of a volume element that knows its gradient: no graph, once differentiable."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, volume: Any, epsilon: float) -> Tensor:
        value, gradient = volume.log_det_and_gradient(z, epsilon)
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, change: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return change.unsqueeze(-1) * gradient, None, None
