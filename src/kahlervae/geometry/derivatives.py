"""The parameters of anyone's decoder and their derivatives along tangents."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex
from torch import Tensor
from torch.func import jvp, vmap

from kahlervae.errors import InputError
from kahlervae.geometry.decoder import Decoder, ask, explained
from kahlervae.geometry.examination import examine
from kahlervae.geometry.information import information, unwrapped
from kahlervae.geometry.memory import allocated
from kahlervae.geometry.wirtinger import has_pushforward

__all__ = ["Derivatives", "derivative_memory", "derivatives"]


class Derivatives(NamedTuple):
    """Parameters of a decoder's distribution and their derivatives along k tangents.

    Attributes:
        at: an object with the parameters as attributes, of shape (n, ...).
        d: the same with their derivatives, of shape (k, n, ...).
        whiten: maps both to vectors whose inner products are the Fisher information, see
            :mod:`kahlervae.geometry.information`.
    """

    at: Any
    d: Any
    whiten: Callable[[Any, Any], Any]


def derivatives(
    decoder: Decoder,
    z: Complex[Tensor, "n d"],
    tangents: Complex[Tensor, "k n d"],
    at_once: int | None = None,
) -> Derivatives:
    """The parameters at z and their real derivatives along tangents.

    By ``decoder.pushforward(z, tangents)`` where it :func:`has_pushforward`, else by forward
    differentiation, a number of tangents at once.

    Raises:
        InputError: as :func:`ask` and :func:`examine` do.
    """
    if has_pushforward(decoder):
        with explained(decoder, z):
            likelihood, change = decoder.pushforward(z, tangents)  # type: ignore[attr-defined]
        known = information(likelihood)
        assert known is not None
        return Derivatives(likelihood, change, known.whiten)
    facts = examine(decoder, z)
    known = facts.information
    assert known is not None

    def parameters(point: Tensor) -> tuple[Tensor, ...]:
        likelihood = unwrapped(ask(decoder, point))
        if type(likelihood) is not facts.kind:
            raise InputError(
                f"the decoder returns a {type(likelihood).__name__} where it returned a "
                f"{facts.kind.__name__} before: let it have one distribution at all latents, and "
                "make another decoder for another one."
            )
        return tuple(getattr(likelihood, name).resolve_conj() for name in known.parameters)

    with explained(decoder, z):
        # Chance is looked for elsewhere; constants may be drawn, the same ones for all tangents.
        pushed = vmap(
            lambda v: jvp(parameters, (z,), (v,)),
            out_dims=(None, 0),  # type: ignore[arg-type]
            randomness="same",
        )
        parts = [pushed(part) for part in tangents.split(at_once or len(tangents))]
    values = parts[0][0]
    changes = (torch.cat(column) for column in zip(*(part[1] for part in parts), strict=True))
    at, d = (dict(zip(known.parameters, column, strict=True)) for column in (values, changes))
    return Derivatives(SimpleNamespace(**at), SimpleNamespace(**d), known.whiten)


def derivative_memory(decoder: Decoder, z: Complex[Tensor, "n d"]) -> int:
    """Bytes that the derivative of one row along one tangent takes, at most."""
    if not has_pushforward(decoder):
        return examine(decoder, z).memory
    row = z[:1]
    return allocated(lambda: decoder.pushforward(row, row.unsqueeze(0)))  # type: ignore[attr-defined]
