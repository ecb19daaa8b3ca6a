"""Relative entropy as a Kähler potential."""

from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.geometry.decoder import Decoder, ask, check_overflow, explained
from kahlervae.geometry.exact import exact
from kahlervae.geometry.examination import examine
from kahlervae.geometry.information import kl
from kahlervae.geometry.latents import check_latents
from kahlervae.geometry.wirtinger import has_pushforward, hermitian_part, real_hessian

__all__ = ["relative_entropy", "relative_entropy_metric"]


def relative_entropy(
    decoder: Decoder, base: Complex[Tensor, "n d"], z: Complex[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    r""":math:`K(z; z_0) = KL(p_{z_0} \| p_z)` of the decoder's likelihoods, nats, row by row.

    Args:
        decoder: latents (n, d) to a distribution whose relative entropy is known in closed form,
            by its method ``kl`` or by torch.
        base: z₀.
        z: where.

    Raises:
        InputError: it is not known, base and z differ in shape, or the decoder is none, see
            :func:`~kahlervae.geometry.check.check_decoder`.

    Example:
        >>> import torch
        >>> from kahlervae.models import ComplexGaussian
        >>> def decoder(z):  # CN(z, I)
        ...     return ComplexGaussian(z, torch.zeros(z.shape))
        >>> relative_entropy(decoder, torch.tensor([[0j]]), torch.tensor([[1 + 2j]]))  # |z − z₀|²
        tensor([5.])
    """
    base, z = check_latents(base, "base"), check_latents(z)
    if base.shape != z.shape:
        raise InputError(
            f"base has the shape {tuple(base.shape)} and z {tuple(z.shape)}: give one base for "
            "every row of z."
        )
    if not len(z):
        return z.real.new_zeros(0)
    if not has_pushforward(decoder):
        examine(decoder, z)
    return _relative_entropy(decoder, base, z)


def _relative_entropy(decoder: Decoder, base: Tensor, z: Tensor) -> Tensor:
    p, q = ask(decoder, base), ask(decoder, z)
    with explained(decoder, z), exact():
        return kl(p, q).reshape(len(z), -1).sum(1)


def relative_entropy_metric(
    decoder: Decoder, z: Complex[Tensor, "n d"]
) -> Complex[Tensor, "n d d"]:
    r"""Mixed Hessian of the relative entropy at its base point.

    .. math:: \partial_i \bar\partial_j\, KL(p_{z_0} \| p_z) \big|_{z = z_0} = g_{i\bar j}(z_0)

    Equal to :func:`~kahlervae.geometry.fisher.fisher_metric`, reached by second instead of first
    derivatives of the decoder: an independent route, and a slow one.

    Args:
        decoder: see :func:`relative_entropy`.
        z: where.

    Raises:
        InputError: the relative entropy is not known, or has no minimum at its base point, as where
            the support of the distribution depends on the latent: it has no Fisher information; or
            its Hessian is not finite at latents that are.

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
    z = check_latents(z)
    if not len(z):
        return z.new_zeros(0, z.shape[1], z.shape[1])
    form = relative_entropy_form(decoder, z)
    check_overflow(form, z)
    return hermitian_part(form)


def relative_entropy_form(
    decoder: Decoder, z: Complex[Tensor, "n d"]
) -> Float[Tensor, "n 2*d 2*d"]:
    """Real Hessian of the relative entropy at its base point, in the coordinates (a, b)."""
    if not has_pushforward(decoder):
        examine(decoder, z, entropy=True)
    return real_hessian(lambda point: _relative_entropy(decoder, z, point), z)
