"""A control: any Hermitian metric, with no potential behind it."""

from typing import Self

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae.errors import InputError
from kahlervae.geometry import log_det
from kahlervae.geometry.fit import VOLUME_WEIGHT, squared_norm
from kahlervae.nn.optimiser import Adam

__all__ = ["HermitianRegression"]


class HermitianRegression(nn.Module):
    r"""A Hermitian positive definite matrix for every z by a network.

    .. math:: g = C L L^\dagger C^\dagger

    L is lower triangular. Its positive diagonal is :math:`x / 2 + \sqrt{x^2 / 4 + 1}` of an output
    x of the network: of any size, small or large, and growing like x, falling like 1/x, so that
    nothing is infinite or 0 at latents far out. C is the same for all z and takes the units of the
    metrics and of every direction.

    What it leaves of the error of a potential is not the price of being Kähler but of probes and
    optimisation; what a potential leaves beyond it is that price, and what its class lacks. It is a
    measuring rod, not a product: its metric is not closed, and its log det costs differentiation.

    Args:
        root: C, of shape (d, d).
        width: of the two hidden layers.

    Example:
        >>> metric = HermitianRegression(3 * torch.eye(2) + 0j, 4).metric(torch.zeros(1, 2) + 0j)
        >>> bool((torch.linalg.eigvalsh(metric) > 0).all())
        True
    """

    root: Complex[Tensor, "d d"]

    def __init__(self, root: Complex[Tensor, "d d"], width: int) -> None:
        super().__init__()
        self.register_buffer("root", root)
        latent_dim = len(root)
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

        It starts at the typical metric, everywhere. The volume and its gradient are those of L's
        diagonal: on the way a matrix may have eigenvalues 1e7 times apart, and single precision has
        no inverse of that.

        Args:
            z: probes.
            metrics: the metric at each of them.
            width: of the network.
            steps: of Adam.
            learning_rate: the largest one.
            generator: for the start and the batches.
            batch: probes of a step.

        Raises:
            InputError: the fit diverged.
        """
        model = cls(torch.linalg.cholesky(_typical(metrics)), width)
        linear = [layer for layer in model.layers if isinstance(layer, nn.Linear)]
        for layer in linear:
            normal = torch.randn(layer.weight.shape, generator=generator)
            layer.weight.data.copy_(normal / layer.in_features**0.5)
            layer.bias.data.zero_()
        linear[-1].weight.data.zero_()
        model = model.to(z.device)
        optimiser = Adam(model.parameters(), lr=learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps)
        squares, log_dets = squared_norm(metrics), log_det(metrics)
        for _ in range(steps):
            rows = torch.randint(len(z), (batch,), generator=generator, device=generator.device)
            root, volume = model._root(z[rows])
            change = root @ root.mH - metrics[rows]
            loss = squared_norm(change) / squares[rows]
            loss = loss + VOLUME_WEIGHT * (volume - log_dets[rows]).square()
            optimiser.zero_grad()
            loss.mean().backward()
            optimiser.step()
            schedule.step()
        if not all(parameter.isfinite().all() for parameter in model.parameters()):
            raise InputError(
                f"the regression of any Hermitian metric on {len(z)} metrics diverged: lower the "
                "learning rate of the control."
            )
        return model.requires_grad_(False)

    def metric(self, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
        """The matrix at every z."""
        root, _ = self._root(z)
        return root @ root.mH

    def _root(
        self, z: Complex[Tensor, "n d"]
    ) -> tuple[Complex[Tensor, "n d d"], Float[Tensor, " n"]]:
        """C L, and log det g."""
        output = self.layers(torch.view_as_real(z.resolve_conj()).flatten(1))
        square = torch.complex(*output.unflatten(1, (2, len(self.root), -1)).unbind(1))
        logs = (square.diagonal(dim1=-2, dim2=-1).real / 2).asinh()
        lower = square.tril(-1) + torch.diag_embed(logs.exp()).to(square)
        volume = 2 * (logs.sum(-1) + self.root.diagonal().real.log().sum())
        return self.root @ lower, volume


def _typical(metrics: Complex[Tensor, "n d d"]) -> Complex[Tensor, "d d"]:
    """The mean shape at the geometric mean size: a few huge metrics do not decide it."""
    sizes = metrics.diagonal(dim1=-2, dim2=-1).real.mean(-1)
    return (metrics / sizes[:, None, None]).mean(0) * sizes.log().mean().exp()
