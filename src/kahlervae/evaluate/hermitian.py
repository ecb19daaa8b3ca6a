"""A control: any Hermitian metric, with no potential behind it."""

from typing import Self

import torch
from jaxtyping import Complex
from torch import Tensor, nn

from kahlervae.geometry.fit import regress

__all__ = ["HermitianRegression"]


class HermitianRegression(nn.Module):
    r"""A Hermitian positive definite matrix for every z by a network: :math:`g = L L^\dagger`.

    L is lower triangular with a positive diagonal. What it leaves of the error of a potential is
    not the price of being Kähler but of probes and optimisation; what a potential leaves beyond it
    is that price, and what its class lacks. It is a measuring rod, not a product: its metric is not
    closed, and its log det costs differentiation.

    Args:
        latent_dim: d.
        width: of the two hidden layers.
        scale: size of the metrics.

    Example:
        >>> metric = HermitianRegression(2, 4, 3.0).metric(torch.zeros(1, 2, dtype=torch.complex64))
        >>> bool((torch.linalg.eigvalsh(metric) > 0).all())
        True
    """

    def __init__(self, latent_dim: int, width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.latent_dim = latent_dim
        self.layers = nn.Sequential(
            nn.Linear(2 * latent_dim, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 2 * latent_dim**2),
        )

    @classmethod
    def fit(
        cls,
        z: Complex[Tensor, "n d"],
        metrics: Complex[Tensor, "n d d"],
        width: int,
        steps: int,
        learning_rate: float,
        generator: torch.Generator,
        batch: int = 256,
    ) -> Self:
        """By Adam under a one-cycle rate, on the objective of a potential's fit.

        Args:
            z: probes.
            metrics: the metric at each of them.
            width: of the network.
            steps: of Adam.
            learning_rate: the largest one.
            generator: for the start and the batches.
            batch: probes of a step.
        """
        scale = float(metrics.diagonal(dim1=-2, dim2=-1).real.mean())
        model = cls(z.shape[1], width, scale)
        for layer in model.layers:
            if isinstance(layer, nn.Linear):
                normal = torch.randn(layer.weight.shape, generator=generator)
                layer.weight.data.copy_(normal / layer.in_features**0.5)
                layer.bias.data.zero_()
        model = model.to(z.device)
        regress(model, z, metrics, steps, learning_rate, generator, batch)
        return model.requires_grad_(False)

    def metric(self, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
        """The matrix at every z."""
        output = self.layers(torch.view_as_real(z.resolve_conj()).flatten(1))
        square = torch.complex(*output.unflatten(1, (2, self.latent_dim, -1)).unbind(1))
        lower = square.tril(-1) + torch.diag_embed(square.diagonal(dim1=-2, dim2=-1).real.exp()).to(
            square
        )
        return self.scale * lower @ lower.mH
