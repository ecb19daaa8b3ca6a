"""What has to be known of anyone's decoder before a derivative of it is believed."""

import contextlib
import functools
import itertools
import random
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy
import torch
from jaxtyping import Complex
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.autograd import forward_ad
from torch.func import debug_unwrap, grad, jvp
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from kahlervae.errors import InputError
from kahlervae.geometry.decoder import Decoder, ask, ask_plainly, explained
from kahlervae.geometry.exact import exact
from kahlervae.geometry.information import Information, information, kl, revision, unwrapped
from kahlervae.geometry.interception import Interception
from kahlervae.geometry.latents import COMPLEX
from kahlervae.geometry.memory import MEMORY, allocated
from kahlervae.geometry.modes import check_modes, differs, draw, largest, real, tolerance
from kahlervae.geometry.reach import reached
from kahlervae.models.likelihoods import ComplexGaussian, DenseComplexGaussian

__all__ = ["Facts", "examine"]


class Facts(NamedTuple):
    """What a few rows tell of a decoder.

    Attributes:
        kind: the class of its distribution.
        information: how the Fisher information of its distribution is found; None if it is not
            registered.
        parameters: the names of its parameters that may depend on latents.
        memory: bytes that the derivative of one row along one tangent takes, at most.
        learned: whether they depend on what is being differentiated besides latents.
    """

    kind: type
    information: Information | None
    parameters: tuple[str, ...]
    memory: int
    learned: bool


_EXAMINED: weakref.WeakKeyDictionary[Any, dict[Any, Facts]] = weakref.WeakKeyDictionary()


def examine(
    decoder: Decoder, z: Complex[Tensor, "n d"], twice: bool = False, entropy: bool = False
) -> Facts:
    """What has to be known of a decoder before a derivative of it is believed; once for each.

    At the first row: what it returns; whether rows depend on each other, on chance or on a state;
    whether forward differentiation agrees with finite differences and with reverse differentiation,
    if z is being differentiated itself, whether second derivatives by all compositions agree with
    those by reverse over reverse, the one that torch holds against finite differences; and where
    the Fisher information is the Hessian of the relative entropy, whether that is one.

    Args:
        decoder: what is to be one.
        z: latents, of which the first row is taken.
        twice: whether second derivatives are needed, whether or not z is being differentiated.
        entropy: whether the Hessian of the relative entropy is needed, whatever else is known.

    Raises:
        InputError: one of these is wrong; names the operation where it is known.
    """
    plain, differentiated = _plain(z)
    row = plain.reshape(-1, z.shape[-1])[:1]
    owner = getattr(decoder, "__self__", decoder)
    kept: dict[Any, Facts] = {}
    with contextlib.suppress(TypeError):  # neither hashable nor weakly referable: examined anew
        kept = _EXAMINED.setdefault(owner, kept)
    # What the decoder is may have changed since: which method, its modules, the registry.
    state = (getattr(decoder, "__func__", None), *_state(decoder), revision())
    key = (*state, z.dtype, z.device, z.shape[-1])
    if key not in kept:
        with _undisturbed():
            kept[key] = _examined(decoder, row)
    facts = kept[key]
    twice = twice or differentiated or (torch.is_grad_enabled() and facts.learned)
    entropy = entropy or facts.information is None
    for look, wanted in ((_examine_twice, twice), (_examine_entropy, entropy)):
        if wanted and (*key, look) not in kept:
            with _undisturbed():
                look(decoder, row, facts)
            kept[(*key, look)] = facts
    return facts


def _state(decoder: Decoder) -> tuple[tuple[Any, ...], bool]:
    """What it uses, with modes, switches and hooks, and whether anything of that is learned."""
    parts, learned = [_switches(getattr(decoder, "__self__", decoder))], False
    for thing in reached(decoder):
        if isinstance(thing, Tensor):
            learned |= thing.requires_grad
        else:
            parts.append((id(thing), *_switches(thing)))
    return tuple(parts), learned


def _switches(thing: Any) -> tuple[Any, ...]:
    """Attributes that are true, false or a word, and hooks; numbers may count the calls."""
    own = getattr(thing, "__dict__", {})  # a frozen script has none
    plain = tuple((name, value) for name, value in own.items() if isinstance(value, bool | str))
    hooks = (own.get(name) or {} for name in ("_forward_pre_hooks", "_forward_hooks"))
    return (plain, *(tuple(map(id, kept.values())) for kept in hooks))


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Outside of all that differentiates, batches or watches the caller's own numbers."""
    with temporarily_clear_interpreter_stack(), _disable_current_modes():
        yield


def _plain(z: Tensor) -> tuple[Tensor, bool]:
    """z without what differentiates or batches it, and whether anything differentiates it."""
    primal, tangent = forward_ad.unpack_dual(debug_unwrap(z))
    plain = debug_unwrap(primal)
    return plain.detach(), plain is not z or z.requires_grad or tangent is not None


def _examined(decoder: Decoder, row: Tensor) -> Facts:
    x, beside = _places(row)
    with torch.enable_grad(), explained(decoder, row):
        with _Stateless(x), _without_chance():
            likelihood = unwrapped(_alone(decoder, torch.complex(*x.chunk(2, dim=-1))))
        known = information(likelihood)
        if known is None:
            kl(likelihood, likelihood)  # refused if that is not known, either
        names = known.parameters if known else _differentiable(likelihood)
        _check_precision(likelihood, names)
        separate = functools.partial(_separate, decoder, names)

        def parameters(x: Tensor) -> Tensor:
            return torch.cat(separate(x), dim=1)

        memory = allocated(lambda: jvp(parameters, (x,), (torch.ones_like(x),)))
        alone = parameters(x)
        learned = alone.requires_grad or debug_unwrap(alone) is not alone
        count = min(COMPANY, max(2, MEMORY // memory))
        _check_rows(parameters, x, count)
        elsewhere = x + draw(x, torch.Generator().manual_seed(5))
        _check_rows(parameters, elsewhere, count + 1)  # nothing kept by shape serves both
        check_modes(_in_equal_units(separate, beside), beside, twice=False)
        _check_values(separate, beside)
    return Facts(type(likelihood), known, names, memory, learned)


def _alone(decoder: Decoder, row: Tensor) -> Any:
    """The distribution of one row; refused where only rows together have one."""
    try:
        return ask(decoder, row)
    except InputError:
        several = torch.cat([row, row + 1, row - 1])
        if _if_defined(lambda rows: ask(decoder, rows), several) is None:
            raise
    raise InputError(
        "the decoder fails at a single latent and not at several, as by batch statistics or a "
        "squeezed axis: make it a function of each row alone."
    )


def _examine_twice(decoder: Decoder, row: Tensor, facts: Facts) -> None:
    _, beside = _places(row)
    with torch.enable_grad(), explained(decoder, row):
        separate = functools.partial(_separate, decoder, facts.parameters)
        check_modes(_in_equal_units(separate, beside), beside, twice=True)


def _examine_entropy(decoder: Decoder, row: Tensor, facts: Facts) -> None:
    x, beside = _places(row)
    with torch.enable_grad(), explained(decoder, row), exact():
        _check_minimum(_entropy_from(decoder, x), x, facts.kind)
        entropy, v = _entropy_from(decoder, beside), torch.ones_like(beside)
        # A gradient of 0, as that of the entropy is here, hides what a backward makes of others.
        change = jvp(grad(entropy), (beside,), (v,))[1] * v
        expected = jvp(lambda x: jvp(entropy, (x,), (v,))[1], (beside,), (v,))[1]
    if differs(change, expected):  # by torch's own functions, some of which are others at 0 above
        raise InputError(
            "torch gives two different Hessians of the decoder's relative entropy, forward over "
            f"reverse ({change.sum():.4g}) and forward over forward ({expected:.4g}): write "
            "scripted and custom functions out in elementary operations."
        )


def _entropy_from(decoder: Decoder, x: Tensor) -> Callable[[Tensor], Tensor]:
    """The relative entropy from the distribution at x, as a function of real coordinates.

    Which is asked for anew, since distributions keep what they compute, of whatever level.
    """

    def at(x: Tensor) -> Any:
        return ask(decoder, torch.complex(*x.chunk(2, dim=-1)))

    return lambda moved: kl(at(x), at(moved)).sum()


def _places(row: Tensor) -> tuple[Tensor, Tensor]:
    """Real coordinates of a row, and next to it, for at 0 a function may be as nowhere else."""
    row = torch.where(row.isfinite(), row, 0)
    x = torch.cat([row.real, row.imag], dim=-1)
    return x, x + 1e-3 * draw(x, torch.Generator().manual_seed(1)) * (1 + x.abs())


def _separate(
    decoder: Decoder,
    names: tuple[str, ...],
    x: Tensor,
    asked: Callable[[Decoder, Tensor], Any] = ask,
) -> list[Tensor]:
    """Every parameter of rows as real vectors, of real coordinates."""
    inner = unwrapped(asked(decoder, torch.complex(*x.chunk(2, dim=-1))))
    return [real(getattr(inner, name)).reshape(len(x), -1) for name in names]


def _if_defined(f: Callable[[Tensor], Any], x: Tensor) -> Any:
    """f(x); None where the decoder has no value, at a place that nobody but us has asked for."""
    try:
        return f(x)
    except InputError:
        return None


@contextlib.contextmanager
def _without_chance() -> Iterator[None]:
    """Refuses what draws from a generator that all share, be it on one of many calls."""

    def states() -> list[Any]:
        shared = [torch.get_rng_state().numpy().tobytes(), random.getstate()]
        shared.append(repr(numpy.random.get_state()))  # noqa: NPY002 - what others draw from
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            shared += [state.cpu().numpy().tobytes() for state in torch.cuda.get_rng_state_all()]
        return shared

    before = states()
    yield
    if before != states():
        raise InputError(
            "the decoder draws random numbers: call .eval() on it, return the distribution in the "
            "place of a draw, and let constants come from a torch.Generator of their own."
        )


class _Stateless(Interception):
    """Refuses what would change a tensor that was there before, and so outlives the call."""

    def __init__(self, *own: Tensor) -> None:
        super().__init__()
        self.own = {tensor.untyped_storage()._cdata for tensor in own}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            names = [argument.name for argument in func._schema.arguments]
            given = dict(zip(names, args, strict=False)) | kwargs
            written = [
                a.name for a in func._schema.arguments if a.alias_info and a.alias_info.is_write
            ]
            for tensor in tree_leaves([given.get(name) for name in written]):
                if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self.own:
                    raise InputError(
                        f"the decoder changes a tensor that outlives the call, by {func}: call "
                        ".eval() on it, or take out what it counts or averages."
                    )
        out = func(*args, **kwargs)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.own.add(leaf.untyped_storage()._cdata)
        return out


def _check_precision(likelihood: Any, names: tuple[str, ...]) -> None:
    """Parameters are float32 or float64; complex in the package's complex Gaussians alone."""
    wanted: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
    if isinstance(likelihood, ComplexGaussian | DenseComplexGaussian):
        wanted += COMPLEX
    for name in names:
        dtype = getattr(likelihood, name).dtype
        if dtype not in wanted:
            raise InputError(
                f"the {name} of the decoder's {type(likelihood).__name__} is "
                f"{str(dtype).removeprefix('torch.')}: return float32 or float64, such as the real "
                "and imaginary parts of what is complex."
            )


def _differentiable(likelihood: Any) -> tuple[str, ...]:
    values = {name: getattr(likelihood, name) for name in likelihood.arg_constraints}
    return tuple(name for name, value in values.items() if value.is_floating_point())


COMPANY = 32
"""Rows among which one is looked for."""


def _check_rows(parameters: Callable[[Tensor], Tensor], x: Tensor, count: int) -> None:
    alone = _if_defined(parameters, x)
    if alone is None:
        return
    scale = largest(alone[alone.isfinite()]).clamp_min(torch.finfo(x.dtype).tiny)
    rounding = torch.finfo(x.dtype).eps ** 0.5  # some operations differ in the last digits
    if not _apart(alone, parameters(x)) <= rounding * scale:
        raise InputError(
            "the decoder gives another distribution when it is asked again, so that it draws "
            "random numbers or keeps a state: call .eval() on it, and return the distribution "
            "instead of a draw."
        )
    # Behind rows like it, which take its place, and before rows unlike it, which shift statistics.
    stream = torch.Generator().manual_seed(2)
    like = x + 1e-3 * torch.cat([draw(x, stream) for _ in range(count // 2)])
    unlike = 1.5 * (x + torch.cat([draw(x, stream) for _ in range(count - count // 2)]))
    companies = (torch.cat(parts) for parts in ([like, x, unlike], [like, x]))
    batches = (_if_defined(parameters, company) for company in companies)
    together = next((batch[len(like)] for batch in batches if batch is not None), alone)
    if not _apart(alone, together) <= tolerance(x) * scale:
        raise InputError(
            "the decoder's rows depend on each other: a latent gets another distribution in other "
            "company, as by batch statistics; make it a function of each row alone."
        )


def _apart(first: Tensor, second: Tensor) -> Tensor:
    """The largest difference of finite entries: others, such as logits of −∞, tell nothing."""
    difference = first - second
    return largest(difference[difference.isfinite()])


def _check_minimum(entropy: Callable[[Tensor], Tensor], x: Tensor, kind: type) -> None:
    """The relative entropy of a regular family is stationary at its base point."""
    slope = grad(entropy)(x)
    curvature = jvp(grad(entropy), (x,), (torch.ones_like(x),))[1]
    v = draw(x, torch.Generator().manual_seed(4)) * (1 + x.abs())
    around = [_if_defined(entropy, x + h * v) for h in (-0.1, -1e-3, 1e-3, 0.1)]
    infinite = any(value is not None and value.isinf() for value in around)
    sizes = largest(slope), largest(curvature)
    if infinite or not sizes[0] ** 2 <= tolerance(x) * (sizes[1] + sizes[0]):
        raise InputError(
            f"the relative entropy of {kind.__name__} has no minimum at "
            "its base point, since its support depends on the latent: it has no Fisher information."
        )


def _check_values(separate: Callable[..., list[Tensor]], x: Tensor) -> None:
    """What is differentiated has the decoder's own values, and the slope of these values."""
    for ours, own in zip(separate(x), separate(x, ask_plainly), strict=True):
        if not _apart(ours, own) <= tolerance(x) * largest(own[own.isfinite()]):
            raise InputError(
                "the decoder has other values where fused functions of torch are written out: "
                "write its norms, activations and determinants in elementary operations, and "
                "without results that go into given tensors."
            )
    v = draw(x, torch.Generator().manual_seed(3))
    slopes = jvp(lambda x: tuple(separate(x)), (x,), (v,))[1]
    tried = {h: _difference(separate, x, v, h) for h in _steps(x, v)}
    steps = {h: difference for h, difference in tried.items() if difference is not None}
    for k, (slope, value) in enumerate(zip(slopes, separate(x), strict=True)):
        if _contradicted(slope, value, {h: steps[h][k] for h in steps}):
            raise InputError(
                "the decoder's derivative is not the slope of its values: a part of it is "
                "detached, computed without gradients or outside of torch, kept from an earlier "
                "call, or rounded with a gradient of its own; let every step be differentiable."
            )


def _steps(x: Tensor, v: Tensor) -> list[float]:
    """Of central differences, from where their own error is small to where rounding is not yet."""
    eps = torch.finfo(x.dtype).eps
    unit = float((1 + largest(x)) / largest(v))
    return [unit * eps**power for power in (1 / 4, 1 / 3, 2 / 5, 1 / 2)]


def _difference(
    separate: Callable[[Tensor], list[Tensor]], x: Tensor, v: Tensor, h: float
) -> list[Tensor] | None:
    above, below = (_if_defined(separate, x + step * v) for step in (h, -h))
    if above is None or below is None:
        return None
    return [((a - b) / (2 * h)).detach() for a, b in zip(above, below, strict=True)]


def _contradicted(slope: Tensor, value: Tensor, differences: dict[float, Tensor]) -> bool:
    """Whether differences, by their steps, tell, and tell of another slope.

    At kinks two steps give two slopes, and a short one gives rounding errors.
    """
    eps = torch.finfo(value.dtype).eps
    finite = torch.stack([value, slope, *differences.values()]).isfinite().all(0)

    def size(change: Tensor) -> Tensor:
        return torch.linalg.vector_norm(change[finite])

    for (_, far), (h, near) in itertools.pairwise(differences.items()):
        total = size(slope) + size(near)
        certain = size(far - near) <= 0.02 * total and eps * size(value) / h <= 0.02 * total
        if certain and not size(slope - near) <= 0.1 * total:
            return True
    return False


def _in_equal_units(
    separate: Callable[[Tensor], list[Tensor]], x: Tensor
) -> Callable[[Tensor], Tensor]:
    """The parameters as one vector, each by its own size and slope, so that none hides another."""
    slopes = jvp(lambda x: tuple(separate(x)), (x,), (torch.ones_like(x),))[1]
    finite = [slope.detach()[slope.isfinite()] for slope in slopes]
    units = [float(torch.linalg.vector_norm(slope)) or 1.0 for slope in finite]

    def parameters(x: Tensor) -> Tensor:
        parts = zip(separate(x), units, strict=True)
        return torch.cat([part / unit for part, unit in parts], dim=1)

    return parameters
