"""Geometric regularisation of the latent space by the decoder's metric."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae.geometry.curvature import log_det
from kahlervae.geometry.fisher import Decoder, fisher_metric, fisher_norm
from kahlervae.geometry.potential import MixturePotential
from kahlervae.seeding import standard_normal

__all__ = ["FisherRegulariser", "PotentialRegulariser", "Regularisation", "build_regulariser"]


class Regularisation(NamedTuple):
    """Both terms of the regulariser.

    Attributes:
        regulariser: R, on log det of the metric.
        tie: M, which ties the potential to the decoder; 0 where the metric is the decoder's own.
    """

    regulariser: Float[Tensor, ""]
    tie: Float[Tensor, ""]


FORMS = {
    "volume": lambda log_dets: log_dets.mean(),
    "flatness": lambda log_dets: log_dets.var(),
}


class PotentialRegulariser(nn.Module):
    r"""R on the metric of a potential that is learned along with the model, and the tie M.

    .. math::
        R = E\,\log\det(g_K + \epsilon I) \ \text{(volume)} \quad\text{or}\quad
        R = \mathrm{Var}\,\log\det(g_K + \epsilon I) \ \text{(flatness)}, \qquad
        M = E\,(\log g_K(v, v) - \log g(v, v))^2

    with one random direction v per point, so that M costs two Jacobian-vector products of the
    decoder whatever the dimensions; its gradient reaches the decoder (docs/theory.md, section 9).

    Args:
        potential: K.
        form: ``volume`` or ``flatness``.
        epsilon: ε, in the units of the metric.
    """

    def __init__(self, potential: MixturePotential, form: str, epsilon: float) -> None:
        super().__init__()
        self.potential = potential
        self.form = form
        self.epsilon = epsilon

    def forward(
        self, decoder: Decoder, z: Complex[Tensor, "n d"], generator: torch.Generator
    ) -> Regularisation:
        metric = self.potential.metric(z)
        v = standard_normal(z, generator)
        proxy = ((metric @ v.conj().unsqueeze(-1)).squeeze(-1) * v).sum(-1).real
        tie = (proxy.log() - fisher_norm(decoder, z, v).log()).square().mean()
        return Regularisation(FORMS[self.form](log_det(metric, self.epsilon)), tie)


class FisherRegulariser(nn.Module):
    """R on the decoder's exact Fisher metric: what :class:`PotentialRegulariser` replaces.

    Args:
        form: ``volume`` or ``flatness``.
        epsilon: ε, in the units of the metric.
    """

    def __init__(self, form: str, epsilon: float) -> None:
        super().__init__()
        self.form = form
        self.epsilon = epsilon

    def forward(
        self, decoder: Decoder, z: Complex[Tensor, "n d"], generator: torch.Generator
    ) -> Regularisation:
        log_dets = log_det(fisher_metric(decoder, z), self.epsilon)
        return Regularisation(FORMS[self.form](log_dets), log_dets.new_zeros(()))


def build_regulariser(
    settings: Mapping[str, Any], latent_dim: int, generator: torch.Generator
) -> PotentialRegulariser | FisherRegulariser:
    """The regulariser on a potential's metric where the settings have a ``tie``, else exact."""
    form, epsilon = settings["form"], settings["epsilon"]
    if "tie" not in settings:
        return FisherRegulariser(form, epsilon)
    potential = MixturePotential.random(
        latent_dim, settings["groups"], settings["components"], settings["scale"], generator
    )
    return PotentialRegulariser(potential, form, epsilon)
