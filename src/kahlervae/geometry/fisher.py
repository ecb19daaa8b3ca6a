"""Fisher information metric of a decoder, pulled back to the latent space."""

from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae.errors import InputError, out_of_memory
from kahlervae.geometry.decoder import Decoder, check_overflow, explained
from kahlervae.geometry.derivatives import derivatives
from kahlervae.geometry.examination import examine
from kahlervae.geometry.latents import check_latents
from kahlervae.geometry.memory import MEMORY, fitting, gathered
from kahlervae.geometry.relative_entropy import relative_entropy_form
from kahlervae.geometry.wirtinger import (
    basis,
    describes,
    has_pushforward,
    hermitian_part,
    holomorphic_part,
)
from kahlervae.models.decoders import (
    ComplexDecoder,
    ConstantVariance,
    HolomorphicDecoder,
    PluriharmonicDecoder,
)
from kahlervae.nn import RealOutput

__all__ = [
    "fisher_form",
    "fisher_metric",
    "fisher_norm",
    "fisher_relation",
    "form_anywhere",
    "restricted_form",
]


def fisher_metric(
    decoder: Decoder, z: Complex[Tensor, "n d"], memory: int = MEMORY
) -> Complex[Tensor, "n d d"]:
    r"""Hermitian part of the Fisher information, :math:`E[\partial_i \ell\; \bar\partial_j \ell]`.

    With :math:`\ell = \log p(x \mid z)` and θ the parameters of the distribution that the decoder
    returns, I their Fisher information,

    .. math:: g_{i\bar j} = \tfrac12 [\partial_i\theta^T I\, \bar\partial_j\theta
              + \ldots] \ \text{(its (1,1) part)};

    for Gaussians, with :math:`\lambda = \log \sigma^2`,

    .. math::
        \text{real:}\quad g_{i\bar j} &= \sum_a \sigma_a^{-2} \partial_i\mu_a
            \overline{\partial_j\mu_a}
            + \tfrac12 \sum_a \partial_i\lambda_a \overline{\partial_j\lambda_a} \\
        \text{complex:}\quad g_{i\bar j} &= \sum_a \sigma_a^{-2} [\partial_i\mu_a
            \overline{\partial_j\mu_a} + \overline{\bar\partial_i\mu_a}\, \bar\partial_j\mu_a]
            + \sum_a \partial_i\lambda_a \overline{\partial_j\lambda_a} \\
        \text{dense complex:}\quad g_{i\bar j} &= \ldots
            + \mathrm{tr}(\Sigma^{-1} \partial_i\Sigma\, \Sigma^{-1} \bar\partial_j\Sigma)

    (docs/theory.md, section 3); by the cheapest exact route, see :func:`fisher_form`.

    Args:
        decoder: latents (n, d) to a distribution over data of any shape, row by row: one of
            :mod:`kahlervae.models.likelihoods` or of ``torch.distributions``; its network in
            evaluation mode. :func:`~kahlervae.geometry.check.check_decoder` says what is wrong.
        z: where.
        memory: bytes beyond the result that may be taken, by and large.

    Raises:
        InputError: the latents or the decoder are not of that kind, torch cannot differentiate the
            decoder, or the Fisher information is not finite at latents that are and nothing is
            being differentiated; in one sentence.

    Example:
        A linear decoder has the constant metric W†W / σ² (transposed, by the order of indices):

        >>> from kahlervae.models import ComplexGaussian
        >>> W = torch.tensor([[1, 2j], [3, 1], [0, 1 - 1j]])
        >>> def decoder(z):  # C² → CN(Wz, ¼ I) in C³
        ...     return ComplexGaussian(z @ W.mT, torch.full((len(z), 3), 0.25).log())
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
        >>> torch.allclose(fisher_metric(decoder, z)[0], (W.mH @ W).mT / 0.25)
        True
    """
    return hermitian_part(fisher_form(decoder, z, memory))


def fisher_relation(
    decoder: Decoder, z: Complex[Tensor, "n d"], memory: int = MEMORY
) -> Complex[Tensor, "n d d"]:
    r"""(2,0) part of the Fisher information, :math:`E[\partial_i \ell\; \partial_j \ell]`.

    What :func:`fisher_metric` drops; it vanishes where the Fisher information is Hermitian, as for
    a holomorphic decoder of a complex Gaussian with constant variance.

    Args and errors: see :func:`fisher_metric`.

    Example:
        None where the mean is holomorphic; as large as the metric where it is a real part:

        >>> from kahlervae.models import ComplexGaussian, RealGaussian
        >>> z = torch.tensor([[1 + 2j]])
        >>> def holomorphic(z):
        ...     return ComplexGaussian(z**2, torch.zeros(z.shape))
        >>> fisher_relation(holomorphic, z).abs()
        tensor([[[0.]]])
        >>> def real(z):
        ...     return RealGaussian((z**2).real, torch.zeros(z.shape))
        >>> torch.allclose(fisher_relation(real, z).abs(), fisher_metric(real, z).abs())
        True
    """
    return holomorphic_part(fisher_form(decoder, z, memory))


def fisher_norm(
    decoder: Decoder, z: Complex[Tensor, "n d"], v: Complex[Tensor, "n d"], full: bool = False
) -> Float[Tensor, " n"]:
    r"""Squared length of one vector per point, :math:`g(v, v) = v^T G \bar v`.

    Two Jacobian-vector products, along v and iv, whatever the dimensions: with the real Fisher
    form F,

    .. math:: g(v, v) = \tfrac14 [F(v, v) + F(iv, iv)].

    For a holomorphic decoder both terms are equal, and one product is enough.

    Args:
        decoder: see :func:`fisher_metric`.
        z: where.
        v: the vectors.
        full: the squared length in the real Fisher form instead, :math:`\tfrac12 F(v, v)`, with its
            (2, 0) part; equal to g(v, v) where F is Hermitian. One product.

    Raises:
        InputError: see :func:`fisher_metric`; v and z differ in shape.

    Example:
        >>> from kahlervae.models import RealGaussian
        >>> def decoder(z):  # C² → N(|z|², 1) in R²
        ...     return RealGaussian((z * z.conj()).real, torch.zeros(z.shape))
        >>> z, v = torch.tensor([[1 + 2j, 0.5j]]), torch.tensor([[1j, 2 + 1j]])
        >>> metric = fisher_metric(decoder, z)
        >>> torch.allclose(fisher_norm(decoder, z, v), (v @ metric[0] @ v.mH).real[0])
        True
    """
    z, v = check_latents(z), check_latents(v, "v")
    if v.shape != z.shape:
        raise InputError(
            f"v has the shape {tuple(v.shape)} and z {tuple(z.shape)}: give a vector for every row."
        )
    if not len(z):
        return z.real.new_zeros(0)
    alone = full or _holomorphic(decoder)
    tangents = v.unsqueeze(0) if alone else torch.stack([v, 1j * v])
    if _has_no_information(decoder, z):
        squares = restricted_form(decoder, z, tangents).diagonal(dim1=1, dim2=2).mean(1) / 2
    else:
        squares = _standardised(decoder, z, tangents).square().sum(-1).mean(0) / 2
    check_overflow(squares, torch.cat([z, v], dim=1))
    return squares


def fisher_form(
    decoder: Decoder, z: Complex[Tensor, "n d"], memory: int = MEMORY
) -> Float[Tensor, "n 2*d 2*d"]:
    r"""Real Fisher information matrix in the coordinates (a, b), z = a + ib.

    .. math:: F_{uv} = E[D_u \ell\, D_v \ell]

    A Gram matrix of the derivatives of the distribution's parameters along the 2d real directions,
    whitened by their Fisher information (:mod:`kahlervae.geometry.information`), in chunks of
    points. Of a distribution that is not registered it is the Hessian of the relative entropy. What
    is known of the decoder makes it cheaper:

    - it is a :class:`~kahlervae.models.decoders.HolomorphicDecoder`: the derivative along iv is i
      times the one along v, so that d directions are enough;
    - it is a :class:`~kahlervae.models.decoders.PluriharmonicDecoder`: its natural parameters are
      real parts of holomorphic functions, of which d directions are enough, too;
    - it is a :class:`~kahlervae.models.decoders.ComplexDecoder` of constant variance σ²: its last
      layer W is linear, and with many more outputs than features f the product is taken of the
      features, :math:`Df^\dagger (W^\dagger W / \sigma^2)\, Df`, with W†W once for all points.

    Args:
        decoder: see :func:`fisher_metric`.
        z: where.
        memory: bytes beyond the result that may be taken, by and large.

    Raises:
        InputError: see :func:`fisher_metric`.

    Example:
        >>> from kahlervae.models import RealGaussian
        >>> def decoder(z):  # a + ib → N((a, 2b), I)
        ...     return RealGaussian(torch.cat([z.real, 2 * z.imag], dim=-1), torch.zeros(len(z), 2))
        >>> fisher_form(decoder, torch.tensor([[1 + 2j]]))
        tensor([[[1., 0.],
                 [0., 4.]]])
    """
    form = form_anywhere(decoder, z, memory)
    check_overflow(form, z)
    return form


def form_anywhere(
    decoder: Decoder, z: Complex[Tensor, "n d"], memory: int = MEMORY
) -> Float[Tensor, "n 2*d 2*d"]:
    """:func:`fisher_form`, also where it is not finite: of proposals that are rejected then."""
    z = check_latents(z)
    if not len(z):
        return z.real.new_zeros(0, 2 * z.shape[1], 2 * z.shape[1])
    if not has_pushforward(decoder):
        return _foreign_form(decoder, z, memory)
    parts = z.split(max(1, _tangents_at_once(decoder) // (2 * z.shape[1])))
    with explained(decoder, z):
        if _has_constant_variance(decoder) and _has_wide_output(decoder, z):
            gram = _output_gram(decoder)
            return gathered(lambda part: _form_of_features(decoder, part, gram), parts, len(z))
        return gathered(lambda part: _form(decoder, part), parts, len(z))


def restricted_form(
    decoder: Decoder, z: Complex[Tensor, "n d"], tangents: Complex[Tensor, "k n d"]
) -> Float[Tensor, "n k k"]:
    """The Fisher information along tangents that differ from point to point."""
    if _has_no_information(decoder, z):
        real = torch.cat([tangents.real, tangents.imag], dim=-1).movedim(0, 1)
        return real @ relative_entropy_form(decoder, z) @ real.mT
    features = _standardised(decoder, z, tangents).movedim(0, 1)
    return features @ features.mT


CHUNK = 4096
"""Tangent vectors that are pushed forward at once by a decoder's own ``pushforward``, at most."""

WIDE = 1 << 21
"""Numbers that its widest layer makes of them, at most: far beyond the caches, most of the time
goes into memory that the system hands out anew."""


def _tangents_at_once(decoder: Decoder) -> int:
    parameters = decoder.parameters() if isinstance(decoder, nn.Module) else ()
    widest = max((size for parameter in parameters for size in parameter.shape), default=1)
    return min(CHUNK, WIDE // widest)


def _foreign_form(decoder: Decoder, z: Tensor, memory: int) -> Tensor:
    """That of a decoder of which nothing is known."""
    facts = examine(decoder, z)
    tangents = fitting(memory, facts.memory)
    parts = z.split(max(1, tangents // (2 * z.shape[1])))
    if facts.information is None:
        return gathered(lambda part: relative_entropy_form(decoder, part), parts, len(z))
    return gathered(lambda part: _form(decoder, part, tangents), parts, len(z))


def _has_no_information(decoder: Decoder, z: Tensor) -> bool:
    return not has_pushforward(decoder) and examine(decoder, z).information is None


def _form(decoder: Decoder, z: Tensor, at_once: int | None = None) -> Tensor:
    if isinstance(decoder, PluriharmonicDecoder) and describes(decoder, "holomorphic_factor"):
        # Along v the real part of 2Sv, with Sᵀ S̄ the metric; along iv minus the imaginary one.
        factor = 2 * decoder.holomorphic_factor(z)
        features = torch.cat([factor.real, -factor.imag], dim=2)
        return features.mT @ features
    features = _standardised(decoder, z, _directions(decoder, z), at_once).movedim(0, 1)
    if _holomorphic(decoder):
        # Real and imaginary parts alternate: i (x + iy) = −y + ix.
        turned = torch.view_as_complex(features.unflatten(-1, (-1, 2))) * 1j
        features = torch.cat([features, _real(turned)], dim=1)
    return features @ features.mT


def _form_of_features(decoder: ComplexDecoder, z: Tensor, gram: Tensor) -> Tensor:
    """Df† gram Df with the derivatives Df of the features before the last layer."""
    tangents = _directions(decoder, z)
    layers: list[Any] = list(decoder.body)
    for layer in layers:
        z, tangents = layer.pushforward(z, tangents)
    tangents = tangents.movedim(0, 1)
    if isinstance(decoder.mean, RealOutput):
        flat = torch.cat([tangents.real, tangents.imag], dim=-1)
        return flat @ (flat @ gram).mT
    dual = tangents @ gram
    if _holomorphic(decoder):
        tangents, dual = (torch.cat([t, 1j * t], dim=1) for t in (tangents, dual))
    return 2 * _real(tangents) @ _real(dual).mT


def _has_wide_output(decoder: ComplexDecoder, z: Tensor) -> bool:
    """Whether products by W†W, and forming it, take fewer operations than products by W."""
    weight = _output_weight(decoder)
    (outputs, features), vectors = weight.shape, 2 * z.numel()
    return vectors * (outputs - features) > outputs * features


def _output_gram(decoder: ComplexDecoder) -> Tensor:
    """(W†W)ᵀ / σ² of the last layer."""
    weight, variance = _output_weight(decoder), decoder.log_var
    assert isinstance(variance, ConstantVariance)
    return weight.mT @ weight.conj() * torch.exp(-variance.value)


def _output_weight(decoder: ComplexDecoder) -> Tensor:
    last = decoder.mean
    return last.linear.weight if isinstance(last, RealOutput) else last.weight


def _has_constant_variance(decoder: Decoder) -> TypeGuard[ComplexDecoder]:
    return (
        isinstance(decoder, ComplexDecoder)
        and type(decoder).forward is ComplexDecoder.forward
        and isinstance(decoder.log_var, ConstantVariance)
        and has_pushforward(decoder)
    )


def _holomorphic(decoder: Decoder) -> bool:
    """Whether its class says so; what others call holomorphic may be something else."""
    return (
        _has_constant_variance(decoder)
        and decoder.holomorphic
        and decoder.activation is HolomorphicDecoder.activation
        and describes(decoder, "holomorphic")
    )


def _directions(decoder: Decoder, z: Tensor) -> Tensor:
    """Those of the basis along which derivatives are needed."""
    return basis(z)[: z.shape[1]] if _holomorphic(decoder) else basis(z)


def _standardised(
    decoder: Decoder, z: Tensor, tangents: Tensor, at_once: int | None = None
) -> Tensor:
    """Derivatives of the distribution's parameters along tangents (k, n, d), as real vectors
    (k, n, features) whose inner products are the Fisher information."""
    at, d, whiten = derivatives(decoder, z, tangents, at_once)
    parts = _vectors(whiten, at, d, tangents.shape[:2])
    if _has_constant_variance(decoder) or _holomorphic(decoder):
        parts = parts[:1]  # the variance does not depend on z
    flat = [part.reshape(*part.shape[:2], -1) for part in parts]
    return torch.cat(flat, dim=-1) if len(flat) > 1 else flat[0]


def _vectors(whiten: Callable[[Any, Any], Any], at: Any, d: Any, leading: torch.Size) -> list[Any]:
    """What a registered function makes of parameters and their derivatives, if it is of use."""
    name = getattr(whiten, "__name__", repr(whiten))
    try:
        vectors = whiten(at, d)
    except Exception as error:
        if out_of_memory(error):
            raise
        first = str(error).partition("\n")[0]
        raise InputError(f"the function {name} of a Fisher information fails ({first}).") from error
    parts = list(vectors) if isinstance(vectors, list | tuple) else [vectors]
    for part in parts:
        if (
            not isinstance(part, Tensor)
            or not part.is_floating_point()
            or part.shape[:2] != leading
        ):
            raise InputError(
                f"the function {name} of a Fisher information has to return real tensors, or a "
                f"sequence of them, whose first axes are those of the derivatives, {(*leading,)}: "
                f"it returned {_named(part)}."
            )
    return parts


def _named(thing: Any) -> str:
    if isinstance(thing, Tensor):
        return f"one of type {str(thing.dtype).removeprefix('torch.')}, shape {(*thing.shape,)}"
    return f"a {type(thing).__name__}"


def _real(z: Tensor) -> Tensor:
    return torch.view_as_real(z).flatten(-2)
