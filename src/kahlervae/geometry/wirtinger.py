"""Wirtinger calculus by automatic differentiation."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.func import grad, jvp, vmap
from torch.utils._pytree import tree_map

from kahlervae.errors import InputError
from kahlervae.geometry.exact import exactly
from kahlervae.geometry.latents import check_latents

__all__ = [
    "basis",
    "describes",
    "has_pushforward",
    "hermitian_part",
    "holomorphic_part",
    "mixed_hessian",
    "pushforward",
    "real_hessian",
    "wirtinger",
]


def basis(z: Complex[Tensor, "n d"]) -> Complex[Tensor, "k n d"]:
    """The k = 2d real coordinate directions e_i and ie_i of C^d, at every one of n points.

    Example:
        >>> basis(torch.tensor([[3 + 4j]])).flatten().tolist()
        [(1+0j), 1j]
    """
    eye = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    return torch.cat([eye, 1j * eye]).unsqueeze(1).expand(-1, *z.shape)


def has_pushforward(f: Callable) -> bool:
    """Whether a map brings its derivative, and has not been changed below it by inheritance.

    Example:
        >>> from kahlervae.models.decoders import ComplexDecoder
        >>> from kahlervae.models import RealGaussian
        >>> class Brighter(ComplexDecoder):  # whose inherited pushforward is that of another map
        ...     def forward(self, z):
        ...         return RealGaussian(super().forward(z).mean + 1, torch.zeros(()))
        >>> [has_pushforward(kind(4, 2, 3, 1)) for kind in (ComplexDecoder, Brighter)]
        [True, False]
    """
    return describes(f, "pushforward")


def describes(f: Callable, name: str) -> bool:
    """Whether an attribute tells of this map, and not of one that inheritance has changed since.

    Example:
        >>> from kahlervae.models.decoders import HolomorphicDecoder
        >>> class Conjugate(HolomorphicDecoder):
        ...     def forward(self, z):
        ...         return super().forward(z.conj())
        >>> [describes(kind(4, 2, 3, 1), "holomorphic") for kind in (HolomorphicDecoder, Conjugate)]
        [True, False]
    """
    if any(m._forward_hooks or m._forward_pre_hooks for m in _modules(f)):
        return False
    for described in (getattr(f, "__dict__", {}), *map(vars, type(f).__mro__)):
        if name in described:
            return True
        if not CHANGES.isdisjoint(described):
            return False
    return False


CHANGES = {"forward", "__call__", "pushforward"}
"""What makes another map of what inherits the rest."""


def _modules(f: Callable) -> Iterable[nn.Module]:
    return f.modules() if isinstance(f, nn.Module) else ()


def pushforward(
    f: Callable[[Tensor], Any],
    z: Complex[Tensor, "n d"],
    tangents: Complex[Tensor, "k n d"],
    at_once: int | None = None,
) -> tuple[Any, Any]:
    r"""Value and real directional derivatives :math:`D_v f = \tfrac{d}{dt} f(z + tv)|_{t=0}`.

    By the method ``f.pushforward(z, tangents)`` where f has one, else by forward differentiation,
    which is right to any order for elementary operations (docs/theory.md, section 14).

    Args:
        f: maps (n, d) to a tensor, or a pytree of tensors, with leading axis n, row by row.
        z: where.
        tangents: k vectors v at every point.
        at_once: how many of them are differentiated along at once, all if it is not said.

    Returns:
        f(z), and the derivatives with the structure of f(z) and a first axis of length k.

    Example:
        >>> z, v = torch.tensor([[1 + 2j]]), torch.tensor([[[1j]]])
        >>> value, derivative = pushforward(lambda z: z**2, z, v)
        >>> torch.allclose(value, z**2), torch.allclose(derivative, 2 * z * v)
        (True, True)
    """
    if has_pushforward(f):
        return f.pushforward(z, tangents)  # type: ignore[attr-defined]
    f = exactly(f)
    derivative = vmap(lambda v: jvp(f, (z,), (v,))[1], chunk_size=at_once, randomness="same")
    return f(z), derivative(tangents)


def wirtinger(
    f: Callable[[Tensor], Any], z: Complex[Tensor, "n d"], at_once: int | None = None
) -> tuple[Any, Any, Any]:
    r"""Value and both Wirtinger derivatives of a function that acts on rows.

    .. math:: \partial_i f = \tfrac12 (D_{e_i} f - i D_{ie_i} f), \qquad
              \bar\partial_i f = \tfrac12 (D_{e_i} f + i D_{ie_i} f)

    with the real directional derivatives :math:`D_v` of :func:`pushforward`.

    Args:
        f: maps (n, d) to a tensor, or a pytree of tensors, with leading axis n, real or complex;
            row k of the result may depend on row k of the argument only.
        z: where.
        at_once: how many of the 2d directions at once, all if it is not said.

    Returns:
        f(z); ∂f and ∂̄f of the same structure with a last axis of length d appended, complex.

    Example:
        >>> z = torch.tensor([[1 + 2j]])
        >>> _, derivative, conjugate = wirtinger(lambda z: z**2 * z.conj(), z)
        >>> torch.allclose(derivative, 2 * z * z.conj()), torch.allclose(conjugate, z**2)
        (True, True)
    """
    z = check_latents(z)
    value, derivatives = pushforward(f, z, basis(z), at_once)

    def combine(sign: int) -> Any:
        def leaf(t: Tensor) -> Tensor:
            real, imaginary = t.movedim(0, -1).chunk(2, dim=-1)
            return 0.5 * (real + sign * 1j * imaginary)

        return tree_map(leaf, derivatives)

    return value, combine(-1), combine(+1)


def real_hessian(
    f: Callable[[Tensor], Tensor], z: Complex[Tensor, "n d"]
) -> Float[Tensor, "n 2*d 2*d"]:
    """Hessian of a real function in the real coordinates (a, b), z = a + ib.

    Args:
        f: maps (n, d) to (n,), row by row.
        z: where.

    Raises:
        InputError: f returns something else than real numbers, or z are no latents.

    Example:
        >>> real_hessian(lambda z: (z.real**2 + 3 * z.imag**2).sum(-1), torch.tensor([[1 + 2j]]))
        tensor([[[2., 0.],
                 [0., 6.]]])
    """

    f = exactly(f)

    def gradient(x: Tensor) -> Tensor:
        return grad(lambda x: real(f(torch.complex(*x.chunk(2, dim=-1)))).sum())(x)

    def real(value: Tensor) -> Tensor:
        if not isinstance(value, Tensor) or value.is_complex():
            raise InputError(
                "the function whose Hessian is taken does not return real numbers: give one for "
                "every row, such as the real part of what is real but for rounding."
            )
        return value

    z = check_latents(z)
    # Forward over reverse, one direction at a time: forward over forward goes wrong where f itself
    # differentiates, and vmap over directions loses the values of linear solves (torch 2.13).
    x = torch.cat([z.real, z.imag], dim=-1)
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    return torch.stack([jvp(gradient, (x,), (v.expand_as(x),))[1] for v in eye], dim=-1)


def hermitian_part(hessian: Float[Tensor, "*batch m m"]) -> Complex[Tensor, "*batch d d"]:
    r"""(1,1) part of a real symmetric form with blocks [[A, B], [Bᵀ, C]] in (a, b) order.

    .. math:: g_{i\bar j} = \tfrac14 [(A + C) + i (B - B^T)]_{ij}

    For a Hessian it is :math:`\partial_i \bar\partial_j f`.

    Example:
        >>> hermitian_part(torch.tensor([[2.0, 0.0], [0.0, 6.0]])).real  # of a² + 3b²
        tensor([[2.]])
    """
    a, b, c = _blocks(hessian)
    return torch.complex(a + c, b - b.mT) / 4


def holomorphic_part(hessian: Float[Tensor, "*batch m m"]) -> Complex[Tensor, "*batch d d"]:
    r"""(2,0) part of a real symmetric form: what :func:`hermitian_part` drops.

    .. math:: g_{ij} = \tfrac14 [(A - C) - i (B + B^T)]_{ij}

    For a Hessian it is :math:`\partial_i \partial_j f`.

    Example:
        >>> holomorphic_part(torch.tensor([[2.0, 0.0], [0.0, 6.0]])).real  # of a² + 3b²
        tensor([[-1.]])
    """
    a, b, c = _blocks(hessian)
    return torch.complex(a - c, -(b + b.mT)) / 4


def mixed_hessian(
    f: Callable[[Tensor], Tensor], z: Complex[Tensor, "n d"]
) -> Complex[Tensor, "n d d"]:
    r""":math:`\partial_i \bar\partial_j f`, the metric of which f is a Kähler potential.

    Args:
        f: maps (n, d) to (n,), row by row.
        z: where.

    Example:
        The potential of the sphere, ``log(1 + |z|²)``, has the metric ``(1 + |z|²)⁻²``:

        >>> z = torch.tensor([[0j], [1 + 0j]])
        >>> mixed_hessian(lambda z: (1 + z * z.conj()).real.log().sum(-1), z).real.flatten()
        tensor([1.0000, 0.2500])
    """
    return hermitian_part(real_hessian(f, z))


def _blocks(form: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    d = form.shape[-1] // 2
    if form.dim() < 2 or form.shape[-2:] != (2 * d, 2 * d):
        raise InputError(
            f"the real form has the shape {tuple(form.shape)}: its last two axes have to be 2d "
            "long, as those of a Hessian in (a, b) are."
        )
    return form[..., :d, :d], form[..., :d, d:], form[..., d:, d:]
