"""Whether torch's modes of differentiation agree, and the operation that is at fault where not."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, jvp
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

from kahlervae.errors import InputError
from kahlervae.geometry.interception import Interception

__all__ = ["check_modes", "differs", "draw", "largest", "real", "tolerance"]


def check_modes(parameters: Callable[[Tensor], Tensor], x: Tensor, twice: bool) -> None:
    if found := _disagreement(parameters, x, twice):
        if low := _low_precision(parameters, x):
            raise InputError(
                f"the decoder computes in {low}, too coarse for its derivatives to be told from "
                "rounding: let it compute in float32 or float64."
            )
        if not _finite(parameters, x):
            raise InputError(
                "the decoder or its derivative is not finite at the first of these latents: leave "
                "such latents out, or bound what it computes."
            )
        name = _culprit(parameters, x, twice) or "a custom or scripted function"
        raise InputError(
            f"torch gives two different {found} of the decoder, since it differentiates {name} "
            "wrong: write that out in elementary operations."
        )


def _finite(f: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    return all(bool(part.isfinite().all()) for part in jvp(f, (x,), (torch.ones_like(x),)))


def _disagreement(f: Callable[[Tensor], Tensor], x: Tensor, twice: bool) -> str | None:
    """What differs between modes along random directions; None if they agree."""
    stream = torch.Generator().manual_seed(0)
    value = f(x)
    for _ in range(PROBES):
        v, w, c = draw(x, stream), draw(x, stream), draw(value, stream)

        def along(x: Tensor, v: Tensor = v) -> Tensor:
            return jvp(f, (x,), (v,))[1]

        def gradient(x: Tensor, c: Tensor = c) -> Tensor:
            return grad(lambda x: (f(x) * c).sum())(x)

        first, change = gradient(x), c * along(x)
        if differs(change, (first * v).sum()):
            sums = _sum(change), _sum(first * v)
            return f"first derivatives, forward ({sums[0]}) and reverse ({sums[1]}),"
        if twice:
            second = grad(lambda x, v=v: (gradient(x) * v).sum())(x) * w
            forward = c * jvp(along, (x,), (w,))[1]
            mixed = grad(lambda x, c=c: (along(x) * c).sum())(x) * w
            hessian = jvp(gradient, (x,), (w,))[1] * v
            # Of a linear f, written as a curve and its inverse, all that is left is rounding.
            rounding = torch.finfo(x.dtype).eps ** 0.5 * float(change.detach().norm())
            compositions = (second, forward, mixed, hessian)
            # Reverse over reverse, where it does not overflow, which no composition has to.
            totals = [terms.sum() for terms in compositions]
            expected = next((total for total in totals if total.isfinite()), totals[0])
            if any(differs(terms, expected, rounding) for terms in compositions[1:]):
                return (
                    f"second derivatives, forward over forward ({_sum(forward)}), reverse over "
                    f"forward ({_sum(mixed)}), forward over reverse ({_sum(hessian)}) and reverse "
                    f"over reverse ({_sum(second)}),"
                )
    return None


PROBES = 3
"""Random directions along which derivatives by different modes are compared."""


def differs(terms: Tensor, expected: Tensor, rounding: float = 0.0) -> bool:
    """Whether the sum of terms is another number, for all that rounding can do."""
    scale = torch.linalg.vector_norm(terms) + expected.abs()
    return not bool((terms.sum() - expected).abs() <= tolerance(terms) * scale + rounding)


def _sum(terms: Tensor) -> str:
    return f"{terms.sum():.4g}"


class _Recorder(Interception):
    """Keeps every operation with its arguments, also those within scripted functions."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        detached = tree_map_only(Tensor, lambda t: t.detach().clone(), (args, kwargs or {}))
        self.calls.append((func, *detached))
        return func(*args, **(kwargs or {}))


def _low_precision(f: Callable[[Tensor], Tensor], x: Tensor) -> str | None:
    """The name of a type below single precision in which f computes."""
    with _Recorder() as recorder:
        f(x)
    kinds = {
        leaf.dtype for call in recorder.calls for leaf in tree_leaves(call[1:]) if _is_number(leaf)
    }
    low = kinds & {torch.bfloat16, torch.float16}
    return str(low.pop()).removeprefix("torch.") if low else None


def _culprit(f: Callable[[Tensor], Tensor], x: Tensor, twice: bool) -> str | None:
    """The first operation that is differentiated wrong on its own, at the numbers it was given."""
    with _Recorder() as recorder:
        f(x)
    for func, args, kwargs in recorder.calls:
        leaves, structure = tree_flatten(args)
        for place, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor) and leaf.is_floating_point():
                given = functools.partial(_called, func, leaves, structure, kwargs, place)
                with contextlib.suppress(Exception):  # one that cannot be called so is none
                    if _disagreement(given, leaf, twice):
                        return str(func)
    return None


def _called(func: Any, leaves: Any, structure: Any, kwargs: Any, place: int, x: Tensor) -> Tensor:
    """All numbers that an operation makes with one of its arguments exchanged, as a vector."""
    arguments = tree_unflatten([*leaves[:place], x, *leaves[place + 1 :]], structure)
    parts = [part for part in tree_leaves(func(*arguments, **kwargs)) if _is_number(part)]
    return torch.cat([real(part).flatten() for part in parts])


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())


def largest(tensor: Tensor) -> Tensor:
    return torch.linalg.vector_norm(tensor, torch.inf)


def draw(like: Tensor, stream: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=stream, device=stream.device, dtype=like.dtype).to(
        like.device
    )


def tolerance(x: Tensor) -> float:
    return float(torch.finfo(x.dtype).eps ** (1 / 3))


def real(value: Tensor) -> Tensor:
    return torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
