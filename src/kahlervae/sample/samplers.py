"""Samplers of latents in C^d, one interface."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.geometry.latents import check_latents
from kahlervae.options import check_count, check_number, check_sizes
from kahlervae.sample.diagnostics import Diagnostics
from kahlervae.seeding import check_stream

__all__ = ["Base", "Draws", "Prior", "Sampler", "Truncated"]


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
        """``"{name}:{setting}"``, for example ``truncated:temperature=0.7``."""
        return f"{self.name}:{self.setting}"

    @property
    def family(self) -> str:
        """Samplers of one family are drawn together, by one stream; here each is its own."""
        return self.key

    def sample(self, count: int, generator: torch.Generator) -> Draws:
        """Draw ``count`` latents.

        Raises:
            InputError: ``count`` is no whole number from 1 on, there is no generator, or the
                sampler cannot deliver that many.
        """
        check_count(f"the number of samples of {self.key}", count)
        check_stream(generator)
        return self._sample(count, generator)

    @abstractmethod
    def _sample(self, count: int, generator: torch.Generator) -> Draws: ...


class Base(Sampler):
    """A sampler whose density is known, so that a volume element can weigh it.

    Its tails must be Gaussian: log ρ(z) ≤ C − c|z|² for some c > 0. That is what makes the targets
    of :class:`~kahlervae.sample.volume.Volume` integrable.
    """

    latent_dim: int

    @abstractmethod
    def log_density(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Log density, differentiable.

        Raises:
            InputError: z is none of its latents, (n, d).
        """

    @abstractmethod
    def log_density_and_gradient(
        self, z: Complex[Tensor, "n d"], log_weights: Float[Tensor, "n K"] | None = None
    ) -> tuple[Float[Tensor, " n"], Complex[Tensor, "n d"]]:
        r"""Log density and its gradient :math:`\nabla_a + i \nabla_b` in closed form.

        Args:
            z: latents.
            log_weights: of the components at every latent, in place of those of a mixture.
        """

    def propose(self, count: int, generator: torch.Generator) -> Complex[Tensor, "count d"]:
        """Independent draws, by themselves."""
        return self._sample(count, generator).latents

    @property
    @abstractmethod
    def scale(self) -> Float[Tensor, " d"]:
        """Standard deviation √E|z − m|² of every coordinate, in mixtures that within components."""


class Truncated(Base):
    r"""The prior at temperature T.

    .. math:: CN(0, T^2 I), \qquad ρ(z) = (π T^2)^{-d} \exp(-|z|^2 / T^2)

    Args:
        latent_dim: d.
        temperature: T > 0, the factor on the standard deviation.
        dtype: precision of the latents.
        device: where the latents go; they are drawn on the CPU.

    Raises:
        InputError: the temperature is not positive and finite, or d no whole number from 1 on.

    Example:
        >>> import torch
        >>> cold = Truncated(latent_dim=2, temperature=0.5)
        >>> z = cold.sample(2000, torch.Generator().manual_seed(0)).latents
        >>> round(z.abs().square().mean().item(), 2)  # T²
        0.25
    """

    name = "truncated"

    def __init__(
        self,
        latent_dim: int,
        temperature: float,
        dtype: torch.dtype = torch.complex64,
        device: torch.device | None = None,
    ) -> None:
        check_sizes(f"the sampler {self.name}", latent_dim=latent_dim)
        check_number("the temperature of the truncated prior", temperature, positive=True)
        self.latent_dim = latent_dim
        self.temperature = temperature
        self.dtype = dtype
        self.device = device
        self.setting = f"temperature={temperature:g}"

    def log_density(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Normalised log density, nats.

        Raises:
            InputError: z is none of its latents, (n, d).
        """
        return self._log_density(check_latents(z, latent_dim=self.latent_dim))

    def _log_density(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        squares = (z.real.square() + z.imag.square()).sum(-1)
        variance = self.temperature**2
        return -squares / variance - self.latent_dim * math.log(math.pi * variance)

    def log_density_and_gradient(
        self, z: Complex[Tensor, "n d"], log_weights: Float[Tensor, "n K"] | None = None
    ) -> tuple[Float[Tensor, " n"], Complex[Tensor, "n d"]]:
        r"""Log density and its gradient :math:`-2z/T^2`; there are no components."""
        return self._log_density(z), z * (-2 / self.temperature**2)

    @property
    def scale(self) -> Float[Tensor, " d"]:
        """T in every coordinate."""
        real = torch.empty((), dtype=self.dtype).real.dtype
        return torch.full((self.latent_dim,), self.temperature, dtype=real, device=self.device)

    def _sample(self, count: int, generator: torch.Generator) -> Draws:
        # torch's complex normal is CN(0, 1): E|z|² = 1.
        noise = torch.randn(count, self.latent_dim, generator=generator, dtype=self.dtype)
        return Draws(self.temperature * noise.to(self.device))


class Prior(Truncated):
    r"""The prior of every model.

    .. math:: CN(0, I), \qquad ρ(z) = π^{-d} \exp(-|z|^2)

    Example:
        >>> import torch
        >>> prior = Prior(latent_dim=2)
        >>> z = prior.sample(3, torch.Generator().manual_seed(0)).latents
        >>> tuple(z.shape), prior.key
        ((3, 2), 'prior:default')
        >>> prior.log_density(torch.zeros(1, 2, dtype=torch.complex64))  # −2 log π
        tensor([-2.2895])
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
