"""Geometric regularisation of the latent space by the decoder's metric."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae.geometry.curvature import log_det
from kahlervae.geometry.decoder import Decoder
from kahlervae.geometry.fisher import fisher_metric, fisher_norm
from kahlervae.geometry.mixture import MixturePotential
from kahlervae.geometry.potential import Potential
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

    Example:
        A constant potential is flat; it is tied where the decoder has the same metric:

        >>> from kahlervae.models import ComplexGaussian
        >>> def decoder(z):  # CN(2z, I), whose metric is 4I
        ...     return ComplexGaussian(2 * z, torch.zeros(z.shape))
        >>> potential = MixturePotential.constant(4 * torch.eye(2, dtype=torch.complex64))
        >>> flatness = PotentialRegulariser(potential, "flatness", epsilon=1e-3)
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j], [0j, 1j]])
        >>> terms = flatness(decoder, z, torch.Generator().manual_seed(0))
        >>> bool(terms.regulariser < 1e-6), bool(terms.tie < 1e-6)
        (True, True)
    """

    def __init__(self, potential: Potential, form: str, epsilon: float) -> None:
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

    Example:
        >>> from kahlervae.models import ComplexGaussian
        >>> def decoder(z):  # CN(2z, I), whose metric is 4I
        ...     return ComplexGaussian(2 * z, torch.zeros(z.shape))
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j], [0j, 1j]])
        >>> volume = FisherRegulariser("volume", epsilon=0.0)
        >>> round(volume(decoder, z, torch.Generator()).regulariser.item(), 4)  # 2 log 4
        2.7726
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
    """The regulariser on a potential's metric where the settings have a ``tie``, else exact.

    Args:
        settings: the variant's ``regulariser`` block of the configuration.
        latent_dim: d.
        generator: for the potential's start.

    Example:
        >>> settings = {"form": "volume", "epsilon": 1e-3}
        >>> type(build_regulariser(settings, 2, torch.Generator())).__name__
        'FisherRegulariser'
    """
    form, epsilon = settings["form"], settings["epsilon"]
    if "tie" not in settings:
        return FisherRegulariser(form, epsilon)
    potential = MixturePotential.random(
        latent_dim, settings["groups"], settings["components"], settings["scale"], generator
    )
    return PotentialRegulariser(potential, form, epsilon)
