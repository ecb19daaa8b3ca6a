"""Geometric regularisation of the latent space by the decoder's metric."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae.errors import InputError
from kahlervae.geometry.curvature import log_det
from kahlervae.geometry.decoder import Decoder
from kahlervae.geometry.fisher import fisher_metric, fisher_norm
from kahlervae.geometry.fit import random_potential
from kahlervae.geometry.potential import Potential
from kahlervae.options import check_choice, check_number

__all__ = [
    "FORMS",
    "FisherRegulariser",
    "PotentialRegulariser",
    "Regularisation",
    "build_regulariser",
    "distortion",
    "isometry",
]


class Regularisation(NamedTuple):
    """Both terms of the regulariser.

    Attributes:
        regulariser: R, on the metric.
        tie: M, which ties the potential to the decoder; 0 where the metric is the decoder's own.
    """

    regulariser: Float[Tensor, ""]
    tie: Float[Tensor, ""]


def isometry(metric: Complex[Tensor, "n d d"]) -> Float[Tensor, ""]:
    r"""Distance of metrics from their mean :math:`\bar g = L L^\dagger`, in its own units.

    .. math:: R = \tfrac1d\, E\, \lVert L^{-1} g L^{-\dagger} - I \rVert^2

    0 for a constant metric alone, where flatness asks for a constant volume; the same in latents
    that are transformed linearly (docs/theory.md, section 9). NaN where the mean is not definite.

    Example:
        >>> isometry(torch.stack([torch.eye(2), 3 * torch.eye(2)]) + 0j)  # both off by a half
        tensor(0.2500)
    """
    factor, failed = torch.linalg.cholesky_ex(metric.mean(0))
    half = torch.linalg.solve_triangular(factor, metric, upper=False)
    white = torch.linalg.solve_triangular(factor, half.mH, upper=False)
    off = white - torch.eye(len(factor), dtype=metric.dtype, device=metric.device)
    moment = off.abs().square().sum((1, 2)).mean() / len(factor)
    return moment.masked_fill(failed > 0, torch.nan)


def distortion(metric: Complex[Tensor, "n d d"]) -> Float[Tensor, ""]:
    r"""Relaxed distortion of Lee, Yoon, Son & Park (2022), less its least value.

    .. math:: R = d\, E\,\mathrm{tr}\, g^2 / (E\,\mathrm{tr}\, g)^2 - 1

    0 for :math:`g = c I` alone, with one c for all points: a scaled isometry of the flat latent
    space (docs/theory.md, section 9).

    Example:
        >>> distortion(torch.stack([torch.eye(2), 3 * torch.eye(2)]) + 0j)  # 2 · 10 / 4² − 1
        tensor(0.2500)
    """
    trace = metric.diagonal(dim1=1, dim2=2).real.sum(1).mean()
    return metric.shape[1] * metric.abs().square().sum((1, 2)).mean() / trace**2 - 1


def _flatness(metric: Complex[Tensor, "n d d"]) -> Float[Tensor, ""]:
    """Unbiased variance of the log volume element; a single point has none, hence 0."""
    return log_det(metric).var(correction=min(1, len(metric) - 1))


FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "volume": lambda metric: log_det(metric).mean(),
    "flatness": _flatness,
    "isometry": isometry,
    "distortion": distortion,
}
"""What is kept small, of Hermitian metrics (n, d, d), by name."""


def _moment(form: str, metric: Tensor, epsilon: float) -> Tensor:
    if not len(metric):
        raise InputError("there are no latents to regularise at: give one at least.")
    identity = torch.eye(metric.shape[1], dtype=metric.dtype, device=metric.device)
    return FORMS[form](metric + epsilon * identity)


def _check_options(form: str, epsilon: float) -> None:
    check_choice("the form of a regulariser", form, FORMS)
    check_number("epsilon of a regulariser", epsilon, least=0)


def _log(lengths: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Logarithms of squared lengths, finite where a metric vanishes, as that of a constant does.

    No gradient comes from there, where the logarithm has none. Lengths so short mean nothing else,
    and a weight that is not finite would stay so.
    """
    return lengths.clamp_min(torch.finfo(lengths.dtype).tiny ** 0.5).log()


class PotentialRegulariser(nn.Module):
    r"""R on the metric of a potential that is learned along with the model, and the tie M.

    .. math::
        R = E\,\log\det(g_K + \epsilon I) \ \text{(volume)} \quad\text{or}\quad
        R = \mathrm{Var}\,\log\det(g_K + \epsilon I) \ \text{(flatness)}, \qquad
        M = E\,(\log g_K(v, v) - \log g(v, v))^2

    or R of another of the :data:`FORMS` of :math:`g_K + \epsilon I`, with one random direction v
    per point, so that M costs two Jacobian-vector products of the decoder whatever the dimensions;
    its gradient reaches the decoder (docs/theory.md, section 9). Where the decoder's metric
    vanishes, as it does where a last layer starts at 0, M is large and pulls at the potential
    alone.

    Args:
        potential: K.
        form: one of :data:`FORMS`.
        epsilon: ε ≥ 0, in the units of the metric.
        full: whether M compares with the real Fisher form, :math:`\tfrac12 F(v, v)`, in the place
            of its Hermitian part g: one product, and it asks the metric to be Hermitian.

    Raises:
        InputError: there is no such form, or ε is negative.

    Example:
        A constant potential is flat; it is tied where the decoder has the same metric:

        >>> from kahlervae.geometry import MixturePotential
        >>> from kahlervae.models import ComplexGaussian
        >>> def decoder(z):  # CN(2z, I), whose metric is 4I
        ...     return ComplexGaussian(2 * z, torch.zeros(z.shape))
        >>> potential = MixturePotential.constant(4 * torch.eye(2, dtype=torch.complex64))
        >>> flatness = PotentialRegulariser(potential, "flatness", epsilon=1e-3)
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j], [0j, 1j]])
        >>> terms = flatness(decoder, z, v=1j * z)
        >>> bool(terms.regulariser < 1e-6), bool(terms.tie < 1e-6)
        (True, True)
    """

    def __init__(self, potential: Potential, form: str, epsilon: float, full: bool = False) -> None:
        super().__init__()
        _check_options(form, epsilon)
        self.potential = potential
        self.form = form
        self.epsilon = epsilon
        self.full = full

    def forward(
        self, decoder: Decoder, z: Complex[Tensor, "n d"], v: Complex[Tensor, "n d"]
    ) -> Regularisation:
        metric = self.potential.metric(z)
        proxy = ((metric @ v.conj().unsqueeze(-1)).squeeze(-1) * v).sum(-1).real
        tie = (_log(proxy) - _log(fisher_norm(decoder, z, v, self.full))).square().mean()
        return Regularisation(_moment(self.form, metric, self.epsilon), tie)


class FisherRegulariser(nn.Module):
    """R on the decoder's exact Fisher metric: what :class:`PotentialRegulariser` replaces.

    Args:
        form: one of :data:`FORMS`.
        epsilon: ε ≥ 0, in the units of the metric.

    Raises:
        InputError: there is no such form, or ε is negative.

    Example:
        >>> from kahlervae.models import ComplexGaussian
        >>> def decoder(z):  # CN(2z, I), whose metric is 4I
        ...     return ComplexGaussian(2 * z, torch.zeros(z.shape))
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j], [0j, 1j]])
        >>> volume = FisherRegulariser("volume", epsilon=0.0)
        >>> round(volume(decoder, z, v=1j * z).regulariser.item(), 4)  # 2 log 4
        2.7726
    """

    def __init__(self, form: str, epsilon: float) -> None:
        super().__init__()
        _check_options(form, epsilon)
        self.form = form
        self.epsilon = epsilon

    def forward(
        self, decoder: Decoder, z: Complex[Tensor, "n d"], v: Complex[Tensor, "n d"]
    ) -> Regularisation:
        moment = _moment(self.form, fisher_metric(decoder, z), self.epsilon)
        return Regularisation(moment, torch.zeros_like(moment))


SIZES = ("groups", "components", "rank", "width", "layers")
"""Of potentials of any class."""


def build_regulariser(
    settings: Mapping[str, Any], latent_dim: int, generator: torch.Generator
) -> PotentialRegulariser | FisherRegulariser:
    """The regulariser on a potential's metric where the settings have a ``tie``, else exact.

    Args:
        settings: the variant's ``regulariser`` block of the configuration. Of what class the
            potential is and how large, ``kind`` tells, ``mixture`` if there is none, and the keys
            of :data:`SIZES` that are there.
        latent_dim: d.
        generator: for the potential's start.

    Raises:
        InputError: a form, a kind or what the potential is tied to is unknown.

    Example:
        >>> settings = {"form": "volume", "epsilon": 1e-3}
        >>> type(build_regulariser(settings, 2, torch.Generator())).__name__
        'FisherRegulariser'
    """
    form, epsilon = settings["form"], settings["epsilon"]
    if "tie" not in settings:
        return FisherRegulariser(form, epsilon)
    kind, size = settings.get("kind", "mixture"), {k: settings[k] for k in SIZES if k in settings}
    potential = random_potential(kind, size, latent_dim, settings["scale"], generator)
    tie_to = settings.get("tie_to", "hermitian")
    check_choice("what a potential is tied to,", tie_to, ("hermitian", "full"))
    return PotentialRegulariser(potential, form, epsilon, tie_to == "full")
