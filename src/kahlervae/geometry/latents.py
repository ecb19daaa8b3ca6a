"""Latents at the door: what is let in, and how real ones become complex."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kahlervae.errors import InputError

__all__ = ["check_gradients", "check_latents", "complexify", "latent_unit", "to_complex", "to_real"]

REAL = (torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)


def check_latents(
    z: Tensor, name: str = "z", finite: bool = False, latent_dim: int | None = None
) -> Complex[Tensor, "n d"]:
    """The latents, with lazy conjugations, negations and expansions carried out, or one sentence.

    Every public function that takes latents calls this once; nothing behind it checks again.

    Args:
        z: what was given.
        name: what it is called in the sentence.
        finite: whether all of them have to be finite. They need not be where a sampler asks for a
            metric, since its proposals may run away and are rejected then.
        latent_dim: d, where it is known.

    Raises:
        InputError: z is not a tensor of shape (n, d) with d ≥ 1, or the one that is known, of
            complex64 or complex128 numbers, or torch.autocast lowers the precision of what is done
            with it.

    Example:
        >>> check_latents(torch.tensor([[1 + 2j]]).conj()).is_conj()
        False
        >>> check_latents(torch.ones(3, 2))
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: z is real (float32), but latents are complex: wrap a decoder \
of real latents u as complexify(decoder) and give to_complex(u).
    """
    if not isinstance(z, Tensor):
        raise InputError(
            f"{name} is a {type(z).__name__}, not a tensor: give latents as torch.tensor(...) of "
            "shape (n, d)."
        )
    dtype = str(z.dtype).removeprefix("torch.")
    if not z.is_complex():
        raise InputError(
            f"{name} is real ({dtype}), but latents are complex: wrap a decoder of real latents u "
            "as complexify(decoder) and give to_complex(u)."
        )
    if z.dtype not in COMPLEX:
        raise InputError(f"{name} is {dtype}: give complex64 or complex128.")
    if z.layout != torch.strided:
        raise InputError(f"{name} is sparse: give it dense, as by to_dense().")
    if z.dim() != 2 or z.shape[1] == 0:
        raise InputError(
            f"{name} has the shape {tuple(z.shape)}, but latents are a batch of shape (n, d), "
            "d ≥ 1: give a single latent as z[None]."
        )
    if latent_dim is not None and z.shape[1] != latent_dim:
        raise InputError(
            f"{name} has the shape {tuple(z.shape)}, but these latents have {latent_dim} "
            f"dimensions: give the shape (n, {latent_dim})."
        )
    if any(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda", "mps")):
        raise InputError(
            "torch.autocast computes in half precision, too coarse for a metric: call this within "
            "torch.autocast(device, enabled=False)."
        )
    if finite and (wrong := int((~z.isfinite()).any(1).sum())):
        raise InputError(
            f"{name} is not finite in {wrong} of {len(z)} rows: leave them out, or find what made "
            "them diverge."
        )
    return z.resolve_conj().resolve_neg().contiguous()


def check_gradients(what: str) -> None:
    """Refuse what goes by gradients where torch has none, not even if they are asked for.

    Raises:
        InputError: it is called in torch.inference_mode.

    Example:
        >>> with torch.inference_mode():
        ...     check_gradients("a geodesic")
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: a geodesic is found by gradients, which torch.inference_mode \
does not have: call this outside of it.
    """
    if torch.is_inference_mode_enabled():
        raise InputError(
            f"{what} is found by gradients, which torch.inference_mode does not have: call this "
            "outside of it."
        )


def latent_unit(z: Complex[Tensor, "n d"]) -> float:
    """Root mean square of the entries of latents, the unit of length of a batch; 1 if all are 0.

    Example:
        >>> latent_unit(torch.tensor([[3j, 0j], [4 + 0j, 0j]]))  # √(25/4)
        2.5
    """
    size = float(torch.linalg.vector_norm(z)) / math.sqrt(z.numel())
    return size if 0 < size < math.inf else 1.0


def to_complex(u: Float[Tensor, "*batch 2*d"]) -> Complex[Tensor, "*batch d"]:
    r"""Real latents as complex ones, :math:`z = (u_a + i u_b) / \sqrt 2`, u = (u_a, u_b).

    The prior N(0, I) of u becomes CN(0, I), E|z|² = 1.

    Raises:
        InputError: u is no float32 or float64 tensor, or its dimension is odd.

    Example:
        >>> u = torch.tensor([[1.0, 2.0]])
        >>> torch.allclose(2**0.5 * to_complex(u), torch.tensor([[1 + 2j]]))
        True
    """
    if not isinstance(u, Tensor) or u.dtype not in REAL or u.dim() == 0:
        raise InputError("u has to be a tensor of float32 or float64 numbers (..., 2d).")
    if u.shape[-1] % 2:
        raise InputError(
            f"u has the odd dimension {u.shape[-1]}, and C^d has 2d real ones: train with an even "
            "one, or fix a coordinate of yours, as in complexify(lambda u: decoder(u[..., :-1])), "
            "whose metric is then degenerate along what is ignored."
        )
    return torch.complex(*u.chunk(2, dim=-1)) / math.sqrt(2)


def to_real(z: Complex[Tensor, "*batch d"]) -> Float[Tensor, "*batch 2*d"]:
    r"""Complex latents as real ones, :math:`u = \sqrt 2\, (\mathrm{Re}\, z, \mathrm{Im}\, z)`.

    The inverse of :func:`to_complex`.

    Raises:
        InputError: z is no tensor of complex numbers (..., d).

    Example:
        >>> u = torch.tensor([[1.0, 2.0]])
        >>> torch.allclose(to_real(to_complex(u)), u)
        True
    """
    if not isinstance(z, Tensor) or not z.is_complex() or z.dim() == 0:
        raise InputError("z has to be a tensor of complex numbers (..., d).")
    z = z.resolve_conj()
    return math.sqrt(2) * torch.cat([z.real, z.imag], dim=-1)


def complexify(decoder: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    r"""A decoder of 2d real latents as one of d complex latents.

    .. math:: z \mapsto \mathrm{decoder}(\sqrt 2\, (\mathrm{Re}\, z, \mathrm{Im}\, z))

    The complex structure is a choice, of which coordinates go together: first half and second half.
    Another one is a permutation of u. With J the real Jacobian of the decoder's parameters and I
    their Fisher information, the real form in (Re z, Im z) is 2 JᵀIJ, and the metric its Hermitian
    part.

    Args:
        decoder: real latents (n, 2d) to a distribution over data, row by row.

    Example:
        >>> from torch.distributions import Normal
        >>> from kahlervae.geometry import fisher_metric
        >>> decoder = complexify(lambda u: Normal(3 * u, 1.0))  # R² to N(3u, 1)
        >>> metric = fisher_metric(decoder, to_complex(torch.tensor([[1.0, 2.0]])))
        >>> round(metric.real.item(), 4)  # ¼ (18 + 18)
        9.0
    """

    return Complexified(decoder)


class Complexified:
    """A class, for functions within functions cannot be pickled."""

    def __init__(self, decoder: Callable[[Tensor], Any]) -> None:
        self.decoder = decoder

    def __call__(self, z: Tensor) -> Any:
        return self.decoder(to_real(z))
