"""Relative entropy as a Kähler potential."""

from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.geometry.fisher import Decoder
from kahlervae.geometry.wirtinger import mixed_hessian

__all__ = ["relative_entropy", "relative_entropy_metric"]


def relative_entropy(
    decoder: Decoder, base: Complex[Tensor, "n d"], z: Complex[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    r""":math:`K(z; z_0) = KL(p_{z_0} \| p_z)` of the decoder's likelihoods, nats, row by row.

    Args:
        decoder: latents (n, d) to a likelihood with a closed-form ``kl``.
        base: z₀.
        z: where.

    Example:
        >>> import torch
        >>> from kahlervae.models import ComplexGaussian
        >>> def decoder(z):  # CN(z, I)
        ...     return ComplexGaussian(z, torch.zeros(z.shape))
        >>> relative_entropy(decoder, torch.tensor([[0j]]), torch.tensor([[1 + 2j]]))  # |z − z₀|²
        tensor([5.])
    """
    return decoder(base).kl(decoder(z))  # type: ignore[arg-type]


def relative_entropy_metric(
    decoder: Decoder, z: Complex[Tensor, "n d"]
) -> Complex[Tensor, "n d d"]:
    r"""Mixed Hessian of the relative entropy at its base point.

    .. math:: \partial_i \bar\partial_j\, KL(p_{z_0} \| p_z) \big|_{z = z_0} = g_{i\bar j}(z_0)

    Equal to :func:`~kahlervae.geometry.fisher.fisher_metric`, reached by second instead of first
    derivatives of the decoder: an independent route, and a slow one.

    Args:
        decoder: latents (n, d) to a likelihood with a closed-form ``kl``.
        z: where.

    Example:
        >>> import torch
        >>> from kahlervae.geometry import fisher_metric
        >>> from kahlervae.models import RealGaussian
        >>> def decoder(z):  # mean and variance depend on z
        ...     return RealGaussian((z**2).real, z.imag)
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
        >>> torch.allclose(relative_entropy_metric(decoder, z), fisher_metric(decoder, z))
        True
    """
    return mixed_hessian(lambda point: relative_entropy(decoder, z, point), z)
