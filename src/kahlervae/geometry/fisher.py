"""Fisher information metric of a decoder, pulled back to the latent space."""

import math
from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.geometry.wirtinger import basis, hermitian_part, holomorphic_part, pushforward
from kahlervae.models.decoders import ComplexDecoder, ConstantVariance
from kahlervae.models.likelihoods import ComplexGaussian, DenseComplexGaussian, RealGaussian
from kahlervae.nn import RealOutput

__all__ = ["Decoder", "fisher_form", "fisher_metric", "fisher_norm", "fisher_relation"]

Likelihood = RealGaussian | ComplexGaussian | DenseComplexGaussian
Decoder = Callable[[Tensor], Likelihood]
"""Latents (n, d) to a Gaussian likelihood over them, row by row."""


def fisher_metric(decoder: Decoder, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
    r"""Hermitian part of the Fisher information, :math:`E[\partial_i \ell\; \bar\partial_j \ell]`.

    With :math:`\ell = \log p(x \mid z)` and :math:`\lambda = \log \sigma^2`,

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
        decoder: latents (n, d) to a Gaussian likelihood, row by row; its mean and log-variance
            have the shape (n, D), so that images are flattened, and its network is in evaluation
            mode.
        z: where.

    Example:
        A linear decoder has the constant metric W†W / σ² (transposed, by the order of indices):

        >>> W = torch.tensor([[1, 2j], [3, 1], [0, 1 - 1j]])
        >>> def decoder(z):  # C² → CN(Wz, ¼ I) in C³
        ...     return ComplexGaussian(z @ W.mT, torch.full((len(z), 3), 0.25).log())
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
        >>> torch.allclose(fisher_metric(decoder, z)[0], (W.mH @ W).mT / 0.25)
        True
    """
    return hermitian_part(fisher_form(decoder, z))


def fisher_relation(decoder: Decoder, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
    r"""(2,0) part of the Fisher information, :math:`E[\partial_i \ell\; \partial_j \ell]`.

    What :func:`fisher_metric` drops; it vanishes where the Fisher information is Hermitian, as for
    a holomorphic decoder of a complex Gaussian with constant variance.

    Args: see :func:`fisher_metric`.

    Example:
        None where the mean is holomorphic; as large as the metric where it is a real part:

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
    return holomorphic_part(fisher_form(decoder, z))


def fisher_norm(
    decoder: Decoder, z: Complex[Tensor, "n d"], v: Complex[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    r"""Squared length of one vector per point, :math:`g(v, v) = v^T G \bar v`.

    Two Jacobian-vector products, along v and iv, whatever the dimensions: with the real Fisher
    form F,

    .. math:: g(v, v) = \tfrac14 [F(v, v) + F(iv, iv)].

    For a holomorphic decoder both terms are equal, and one product is enough.

    Args:
        decoder: latents (n, d) to a Gaussian likelihood, row by row.
        z: where.
        v: the vectors.

    Example:
        >>> def decoder(z):  # C² → N(|z|², 1) in R²
        ...     return RealGaussian((z * z.conj()).real, torch.zeros(z.shape))
        >>> z, v = torch.tensor([[1 + 2j, 0.5j]]), torch.tensor([[1j, 2 + 1j]])
        >>> metric = fisher_metric(decoder, z)
        >>> torch.allclose(fisher_norm(decoder, z, v), (v @ metric[0] @ v.mH).real[0])
        True
    """
    tangents = v.unsqueeze(0) if _holomorphic(decoder) else torch.stack([v, 1j * v])
    return _standardised(decoder, z, tangents).square().sum(-1).mean(0) / 2


def fisher_form(decoder: Decoder, z: Complex[Tensor, "n d"]) -> Float[Tensor, "n 2*d 2*d"]:
    r"""Real Fisher information matrix in the coordinates (a, b), z = a + ib.

    .. math:: F_{uv} = E[D_u \ell\, D_v \ell]

    A Gram matrix of the likelihood's derivatives along the 2d real directions, in chunks of points.
    The derivatives come from :func:`~kahlervae.geometry.wirtinger.pushforward`. What is known of
    the decoder makes them cheaper:

    - ``decoder.holomorphic`` is true (its mean is holomorphic, its variance constant): the
      derivative along iv is i times the one along v, so that d directions are enough;
    - it is a :class:`~kahlervae.models.decoders.ComplexDecoder` of constant variance σ²: its last
      layer W is linear, and with many more outputs than features f the product is taken of the
      features, :math:`Df^\dagger (W^\dagger W / \sigma^2)\, Df`, with W†W once for all points.

    Args:
        decoder: latents (n, d) to a Gaussian likelihood, row by row.
        z: where.

    Raises:
        torch.linalg.LinAlgError: a dense covariance is not positive definite.

    Example:
        >>> def decoder(z):  # a + ib → N((a, 2b), I)
        ...     return RealGaussian(torch.cat([z.real, 2 * z.imag], dim=-1), torch.zeros(len(z), 2))
        >>> fisher_form(decoder, torch.tensor([[1 + 2j]]))
        tensor([[[1., 0.],
                 [0., 4.]]])
    """
    parts = z.split(max(1, CHUNK // (2 * z.shape[1])))
    if _has_constant_variance(decoder) and _has_wide_output(decoder, z):
        gram = _output_gram(decoder)
        return torch.cat([_form_of_features(decoder, part, gram) for part in parts])
    return torch.cat([_form(decoder, part) for part in parts])


CHUNK = 4096
"""Tangent vectors that are pushed forward at once, so that memory stays bounded."""


def _form(decoder: Decoder, z: Tensor) -> Tensor:
    features = _standardised(decoder, z, _directions(decoder, z)).movedim(0, 1)
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
    return isinstance(decoder, ComplexDecoder) and isinstance(decoder.log_var, ConstantVariance)


def _holomorphic(decoder: Decoder) -> bool:
    return getattr(decoder, "holomorphic", False)


def _directions(decoder: Decoder, z: Tensor) -> Tensor:
    """Those of the basis along which derivatives are needed."""
    return basis(z)[: z.shape[1]] if _holomorphic(decoder) else basis(z)


def _standardised(decoder: Decoder, z: Tensor, tangents: Tensor) -> Tensor:
    """Derivatives of the likelihood's parameters along tangents (k, n, d), as real vectors
    (k, n, features) whose inner products are the Fisher information."""
    likelihood, change = pushforward(decoder, z, tangents)
    if isinstance(likelihood, DenseComplexGaussian):
        factor = torch.linalg.cholesky(likelihood.covariance)
        mean = torch.linalg.solve_triangular(factor, change.mean.unsqueeze(-1), upper=False)
        half = torch.linalg.solve_triangular(factor, change.covariance, upper=False)
        covariance = torch.linalg.solve_triangular(factor, half.mH, upper=False)
        parts = [_real(math.sqrt(2) * mean.squeeze(-1)), _real(covariance.flatten(-2))]
    else:
        mean = change.mean * torch.exp(-0.5 * likelihood.log_var)
        real = isinstance(likelihood, RealGaussian)
        parts = [mean if real else _real(math.sqrt(2) * mean)]
        if not (_has_constant_variance(decoder) or _holomorphic(decoder)):
            parts.append(math.sqrt(0.5) * change.log_var if real else change.log_var)
    return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]


def _real(z: Tensor) -> Tensor:
    return torch.view_as_real(z).flatten(-2)
