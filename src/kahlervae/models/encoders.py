"""Encoders: from data to the approximate posterior."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae.models.posteriors import ComplexPosterior, RealPosterior
from kahlervae.nn import ComplexLinear, RealInput, RealOutput, SmoothCardioid, hidden
from kahlervae.options import check_sizes

__all__ = ["ComplexEncoder", "RealEncoder"]


class ComplexEncoder(nn.Module):
    """x in R^D or C^D to the posterior CN(m(x), diag γ(x)) in C^d, by complex layers.

    Args:
        input_dim: D.
        latent_dim: d.
        width: of the hidden layers.
        depth: number of hidden layers.
        complex_data: whether x is complex.

    Example:
        >>> encoder = ComplexEncoder(input_dim=64, latent_dim=2, width=8, depth=1)
        >>> posterior = encoder(torch.zeros(5, 64))
        >>> posterior.mean.shape, posterior.mean.dtype
        (torch.Size([5, 2]), torch.complex64)
    """

    def __init__(
        self, input_dim: int, latent_dim: int, width: int, depth: int, complex_data: bool = False
    ) -> None:
        super().__init__()
        check_sizes(
            "an encoder", input_dim=input_dim, latent_dim=latent_dim, width=width, depth=depth
        )
        first = ComplexLinear if complex_data else RealInput
        self.body = nn.Sequential(
            first(input_dim, width),
            SmoothCardioid(),
            *hidden(ComplexLinear, SmoothCardioid, width, depth - 1),
        )
        self.mean = ComplexLinear(width, latent_dim)
        self.log_var = RealOutput(width, latent_dim)

    def forward(
        self, x: Float[Tensor, "*batch D"] | Complex[Tensor, "*batch D"]
    ) -> ComplexPosterior:
        features = self.body(x)
        return ComplexPosterior(self.mean(features), self.log_var(features))


class RealEncoder(nn.Module):
    """x in R^D or C^D to the posterior N(m(x), diag s²(x)) in R^{2d}, by real layers.

    Args:
        input_dim: D.
        latent_dim: d.
        width: of the hidden layers.
        depth: number of hidden layers.
        complex_data: whether x is complex; its real and imaginary parts are read then.

    Example:
        >>> encoder = RealEncoder(input_dim=64, latent_dim=2, width=8, depth=1)
        >>> posterior = encoder(torch.zeros(5, 64))
        >>> posterior.mean.shape, posterior.mean.dtype
        (torch.Size([5, 2]), torch.complex64)
    """

    def __init__(
        self, input_dim: int, latent_dim: int, width: int, depth: int, complex_data: bool = False
    ) -> None:
        super().__init__()
        check_sizes(
            "an encoder", input_dim=input_dim, latent_dim=latent_dim, width=width, depth=depth
        )
        self.complex_data = complex_data
        self.body = nn.Sequential(
            nn.Linear(2 * input_dim if complex_data else input_dim, width),
            nn.SiLU(),
            *hidden(nn.Linear, nn.SiLU, width, depth - 1),
        )
        self.mean = nn.Linear(width, 2 * latent_dim)
        self.log_var = nn.Linear(width, 2 * latent_dim)

    def forward(self, x: Float[Tensor, "*batch D"] | Complex[Tensor, "*batch D"]) -> RealPosterior:
        features = self.body(torch.cat([x.real, x.imag], dim=-1) if self.complex_data else x)
        return RealPosterior(self.mean(features), self.log_var(features))
