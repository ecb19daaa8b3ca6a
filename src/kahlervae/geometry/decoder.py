"""Anyone's decoder: asked, differentiated, and refused in words where that cannot be right."""

import contextlib
import functools
import itertools
import math
import random
import re
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy
import torch
from jaxtyping import Complex
from torch import Tensor
from torch import distributions as dist
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.autograd import forward_ad
from torch.func import debug_unwrap, grad, jvp, vmap
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

from kahlervae.errors import InputError, out_of_memory
from kahlervae.geometry.exact import exact
from kahlervae.geometry.information import Information, information, kl, revision, unwrapped
from kahlervae.geometry.memory import MEMORY, allocated
from kahlervae.geometry.wirtinger import has_pushforward
from kahlervae.models.likelihoods import ComplexGaussian, DenseComplexGaussian, RealGaussian

__all__ = [
    "Decoder",
    "Derivatives",
    "Facts",
    "ask",
    "derivative_memory",
    "derivatives",
    "examine",
    "explained",
]

Decoder = Callable[[Tensor], Any]
"""Latents (n, d) to a distribution over data, row by row: one of
:mod:`kahlervae.models.likelihoods` or a ``torch.distributions.Distribution``, with data of any
shape."""


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


def ask(decoder: Decoder, z: Complex[Tensor, "n d"]) -> Any:
    """The decoder's distribution at z, with parameters of the package's Gaussians broadcast.

    Raises:
        InputError: the decoder fails, or does not return a distribution for every row.

    Example:
        >>> from kahlervae.models import RealGaussian
        >>> ask(lambda z: RealGaussian(z.real, torch.zeros(())), torch.tensor([[1 + 2j]])).log_var
        tensor([[0.]])
    """
    with explained(decoder, z), exact():
        return _broadcast(decoder(z), decoder, len(z))


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


_EXAMINED: weakref.WeakKeyDictionary[Any, dict[Any, Facts]] = weakref.WeakKeyDictionary()


def examine(decoder: Decoder, z: Complex[Tensor, "n d"]) -> Facts:
    """What has to be known of a decoder before a derivative of it is believed; once for each.

    At the first row: what it returns; whether rows depend on each other, on chance or on a state;
    whether forward differentiation agrees with finite differences and with reverse differentiation,
    and if z is being differentiated itself, whether second derivatives by forward over forward and
    by reverse over forward agree with those by reverse over reverse, the composition that torch
    holds against finite differences.

    Raises:
        InputError: one of these is wrong; names the operation where it is known.
    """
    plain, differentiated = _plain(z)
    row = plain.reshape(-1, z.shape[-1])[:1]
    owner = getattr(decoder, "__self__", decoder)
    kept: dict[Any, Facts] = {}
    with contextlib.suppress(TypeError):  # neither hashable nor weakly referable: examined anew
        kept = _EXAMINED.setdefault(owner, kept)
    # What the decoder is may have changed since: which method, its modules' modes, the registry.
    modules = owner.modules() if isinstance(owner, torch.nn.Module) else ()
    state = (getattr(decoder, "__func__", None), tuple(m.training for m in modules), revision())
    key = (*state, z.dtype, z.device, z.shape[-1])
    with temporarily_clear_interpreter_stack(), _disable_current_modes():
        if key not in kept:
            kept[key] = _examined(decoder, row)
        facts = kept[key]
        twice = differentiated or (torch.is_grad_enabled() and facts.learned)
        if twice and (*key, "twice") not in kept:
            _examine_twice(decoder, row, facts)
            kept[(*key, "twice")] = facts
    return facts


def _plain(z: Tensor) -> tuple[Tensor, bool]:
    """z without what differentiates or batches it, and whether anything differentiates it."""
    primal, tangent = forward_ad.unpack_dual(debug_unwrap(z))
    plain = debug_unwrap(primal)
    return plain.detach(), plain is not z or z.requires_grad or tangent is not None


def _examined(decoder: Decoder, row: Tensor) -> Facts:
    x, beside = _places(row)
    with torch.enable_grad(), explained(decoder, row):
        with _Stateless(x), _without_chance():
            likelihood = unwrapped(ask(decoder, torch.complex(*x.chunk(2, dim=-1))))
        known = information(likelihood)
        if known is None:
            kl(likelihood, likelihood)  # refused if that is not known, either
        names = known.parameters if known else _differentiable(likelihood)
        separate = functools.partial(_separate, decoder, names)

        def parameters(x: Tensor) -> Tensor:
            return torch.cat(separate(x), dim=1)

        memory = allocated(lambda: jvp(parameters, (x,), (torch.ones_like(x),)))
        alone = parameters(x)
        learned = alone.requires_grad or debug_unwrap(alone) is not alone
        count = min(COMPANY, max(2, MEMORY // memory))
        _check_rows(parameters, x, count)
        elsewhere = x + _draw(x, torch.Generator().manual_seed(5))
        _check_rows(parameters, elsewhere, count + 1)  # nothing kept by shape serves both
        _check_derivatives(_in_equal_units(separate, beside), beside, twice=False)
        _check_values(separate, beside)
        if known is None:
            _check_minimum(decoder, x)
    return Facts(type(likelihood), known, names, memory, learned)


def _examine_twice(decoder: Decoder, row: Tensor, facts: Facts) -> None:
    _, beside = _places(row)
    with torch.enable_grad(), explained(decoder, row):
        separate = functools.partial(_separate, decoder, facts.parameters)
        _check_derivatives(_in_equal_units(separate, beside), beside, twice=True)


def _places(row: Tensor) -> tuple[Tensor, Tensor]:
    """Real coordinates of a row, and next to it, for at 0 a function may be as nowhere else."""
    row = torch.where(row.isfinite(), row, 0)
    x = torch.cat([row.real, row.imag], dim=-1)
    return x, x + 1e-3 * _draw(x, torch.Generator().manual_seed(1)) * (1 + x.abs())


def _separate(
    decoder: Decoder,
    names: tuple[str, ...],
    x: Tensor,
    asked: Callable[[Decoder, Tensor], Any] = ask,
) -> list[Tensor]:
    """Every parameter of rows as real vectors, of real coordinates."""
    inner = unwrapped(asked(decoder, torch.complex(*x.chunk(2, dim=-1))))
    return [_real(getattr(inner, name)).reshape(len(x), -1) for name in names]


def _if_defined(f: Callable[[Tensor], Any], x: Tensor) -> Any:
    """f(x); None where the decoder has no value, at a place that nobody but us has asked for."""
    try:
        return f(x)
    except InputError:
        return None


def _real(value: Tensor) -> Tensor:
    return torch.view_as_real(value.resolve_conj()) if value.is_complex() else value


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


class _Stateless(TorchDispatchMode):
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


def _differentiable(likelihood: Any) -> tuple[str, ...]:
    values = {name: getattr(likelihood, name) for name in likelihood.arg_constraints}
    return tuple(name for name, value in values.items() if value.is_floating_point())


COMPANY = 32
"""Rows among which one is looked for."""


def _check_rows(parameters: Callable[[Tensor], Tensor], x: Tensor, count: int) -> None:
    alone = _if_defined(parameters, x)
    if alone is None or not alone.isfinite().all():
        return
    scale = _largest(alone).clamp_min(torch.finfo(x.dtype).tiny)
    rounding = torch.finfo(x.dtype).eps ** 0.5  # some operations differ in the last digits
    if not _largest(alone - parameters(x)) <= rounding * scale:
        raise InputError(
            "the decoder gives another distribution when it is asked again, so that it draws "
            "random numbers or keeps a state: call .eval() on it, and return the distribution "
            "instead of a draw."
        )
    # Behind rows like it, which take its place, and before rows unlike it, which shift statistics.
    stream = torch.Generator().manual_seed(2)
    like = x + 1e-3 * torch.cat([_draw(x, stream) for _ in range(count // 2)])
    unlike = 1.5 * (x + torch.cat([_draw(x, stream) for _ in range(count - count // 2)]))
    companies = (torch.cat(parts) for parts in ([like, x, unlike], [like, x]))
    batches = (_if_defined(parameters, company) for company in companies)
    together = next((batch[len(like)] for batch in batches if batch is not None), alone)
    if not _largest(alone - together) <= _tolerance(x) * scale:
        raise InputError(
            "the decoder's rows depend on each other: a latent gets another distribution in other "
            "company, as by batch statistics; make it a function of each row alone."
        )


def _check_minimum(decoder: Decoder, x: Tensor) -> None:
    """The relative entropy of a regular family is stationary at its base point."""

    def entropy(x: Tensor) -> Tensor:
        z = torch.complex(*x.chunk(2, dim=-1))
        return kl(likelihood, ask(decoder, z)).sum()

    likelihood = ask(decoder, torch.complex(*x.chunk(2, dim=-1)))
    slope = grad(entropy)(x)
    curvature = jvp(grad(entropy), (x,), (torch.ones_like(x),))[1]
    v = _draw(x, torch.Generator().manual_seed(4)) * (1 + x.abs())
    around = [_if_defined(entropy, x + h * v) for h in (-0.1, -1e-3, 1e-3, 0.1)]
    infinite = any(value is not None and value.isinf() for value in around)
    sizes = _largest(slope), _largest(curvature)
    if infinite or not sizes[0] ** 2 <= _tolerance(x) * (sizes[1] + sizes[0]):
        raise InputError(
            f"the relative entropy of {type(unwrapped(likelihood)).__name__} has no minimum at "
            "its base point, since its support depends on the latent: it has no Fisher information."
        )


def _check_values(separate: Callable[..., list[Tensor]], x: Tensor) -> None:
    """What is differentiated has the decoder's own values, and the slope of these values."""
    for ours, own in zip(
        separate(x), separate(x, lambda f, z: _broadcast(f(z), f, len(z))), strict=True
    ):
        scale = _largest(own)
        if own.isfinite().all() and not _largest(ours - own) <= _tolerance(x) * scale:
            raise InputError(
                "the decoder has other values where fused functions of torch are written out: "
                "write its norms, activations and determinants in elementary operations, and "
                "without results that go into given tensors."
            )
    v = _draw(x, torch.Generator().manual_seed(3))
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
    unit = float((1 + _largest(x)) / _largest(v))
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
    size = torch.linalg.vector_norm
    eps = torch.finfo(value.dtype).eps
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
    sizes = [float(torch.linalg.vector_norm(slope.detach())) for slope in slopes]
    units = [size if 0 < size < math.inf else 1.0 for size in sizes]

    def parameters(x: Tensor) -> Tensor:
        parts = zip(separate(x), units, strict=True)
        return torch.cat([part / unit for part, unit in parts], dim=1)

    return parameters


def _check_derivatives(parameters: Callable[[Tensor], Tensor], x: Tensor, twice: bool) -> None:
    if found := _disagreement(parameters, x, twice):
        name = _culprit(parameters, x, twice) or "a custom or scripted function"
        raise InputError(
            f"torch gives two different {found} of the decoder, since it differentiates {name} "
            "wrong: write that out in elementary operations."
        )


def _disagreement(f: Callable[[Tensor], Tensor], x: Tensor, twice: bool) -> str | None:
    """What differs between modes along random directions; None if they agree."""
    stream = torch.Generator().manual_seed(0)
    value = f(x)
    for _ in range(PROBES):
        v, w, c = _draw(x, stream), _draw(x, stream), _draw(value, stream)

        def along(x: Tensor, v: Tensor = v) -> Tensor:
            return jvp(f, (x,), (v,))[1]

        def gradient(x: Tensor, c: Tensor = c) -> Tensor:
            return grad(lambda x: (f(x) * c).sum())(x)

        first, change = gradient(x), c * along(x)
        if _differs(change, (first * v).sum()):
            sums = _sum(change), _sum(first * v)
            return f"first derivatives, forward ({sums[0]}) and reverse ({sums[1]}),"
        if twice:
            second = grad(lambda x, v=v: (gradient(x) * v).sum())(x) * w
            forward = c * jvp(along, (x,), (w,))[1]
            mixed = grad(lambda x, c=c: (along(x) * c).sum())(x) * w
            # Of a linear f, written as a curve and its inverse, all that is left is rounding.
            rounding = torch.finfo(x.dtype).eps ** 0.5 * float(change.detach().norm())
            if any(_differs(terms, second.sum(), rounding) for terms in (forward, mixed)):
                return (
                    f"second derivatives, forward over forward ({_sum(forward)}), reverse over "
                    f"forward ({_sum(mixed)}) and reverse over reverse ({_sum(second)}),"
                )
    return None


PROBES = 3
"""Random directions along which derivatives by different modes are compared."""


def _largest(tensor: Tensor) -> Tensor:
    return torch.linalg.vector_norm(tensor, torch.inf)


def _draw(like: Tensor, stream: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=stream, dtype=like.dtype).to(like.device)


def _differs(terms: Tensor, expected: Tensor, rounding: float = 0.0) -> bool:
    scale = torch.linalg.vector_norm(terms) + expected.abs()
    return not bool((terms.sum() - expected).abs() <= _tolerance(terms) * scale + rounding)


def _sum(terms: Tensor) -> str:
    return f"{terms.sum():.4g}"


class _Recorder(TorchDispatchMode):
    """Keeps every operation with its arguments, also those within scripted functions."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        detached = tree_map_only(Tensor, lambda t: t.detach().clone(), (args, kwargs or {}))
        self.calls.append((func, *detached))
        return func(*args, **(kwargs or {}))


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
    return torch.cat([_real(part).flatten() for part in parts])


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())


def _tolerance(x: Tensor) -> float:
    return float(torch.finfo(x.dtype).eps ** (1 / 3))


def _broadcast(likelihood: Any, decoder: Decoder, count: int) -> Any:
    """What the decoder returned, if it is a distribution for every one of so many rows."""
    if isinstance(likelihood, dist.Distribution):
        if likelihood.batch_shape[:1] != (count,):
            raise InputError(
                "the decoder returns a distribution of batch shape "
                f"{tuple(likelihood.batch_shape)} for {count} latents: its first axis has to be "
                "that of the latents."
            )
        return likelihood
    if isinstance(likelihood, RealGaussian | ComplexGaussian):
        return _checked_gaussian(likelihood, count)
    if isinstance(likelihood, DenseComplexGaussian) or information(likelihood) is not None:
        return likelihood
    raise InputError(
        f"the decoder returns a {type(likelihood).__name__}, not a distribution: return one, such "
        "as torch's Independent(Normal(mean, scale), 1) or Bernoulli(logits=...), or "
        "RealGaussian(mean, log_var) of kahlervae.models."
    )


def _checked_gaussian(
    likelihood: RealGaussian | ComplexGaussian, count: int
) -> RealGaussian | ComplexGaussian:
    kind = type(likelihood).__name__
    mean, log_var = likelihood
    for name, part in likelihood._asdict().items():
        if not isinstance(part, Tensor):
            raise InputError(f"the {name} of the decoder's {kind} is no tensor: make it one.")
    if mean.is_complex() != isinstance(likelihood, ComplexGaussian) or not (
        mean.is_complex() or mean.is_floating_point()
    ):
        raise InputError(
            f"the mean of the decoder's {kind} is {_dtype(mean)}: real data are a RealGaussian, "
            "complex data a ComplexGaussian."
        )
    if not log_var.is_floating_point():
        raise InputError(f"the log_var of the decoder's {kind} is {_dtype(log_var)}: make it real.")
    if mean.dim() < 2 or len(mean) != count:
        raise InputError(
            f"the mean of the decoder's {kind} has the shape {tuple(mean.shape)} for {count} "
            "latents: its shape has to be (n, ...), a row of data for every latent."
        )
    misfit = (
        f"the log_var of the decoder's {kind} has the shape {tuple(log_var.shape)}, which does not "
        f"go with that of the mean, {tuple(mean.shape)}: one number for every latent has the shape "
        f"{(count, *[1] * (mean.dim() - 1))}."
    )
    try:
        return likelihood._replace(log_var=log_var.expand(mean.shape))
    except RuntimeError:
        raise InputError(misfit) from None


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


@contextlib.contextmanager
def explained(decoder: Decoder, z: Tensor) -> Iterator[None]:
    """Errors of torch, or of the decoder, in one sentence.

    Example:
        >>> with explained(abs, torch.zeros(1, 1) + 0j):
        ...     raise RuntimeError("derivative for aten::cube is not implemented\\n  at ...")
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: torch cannot differentiate aten::cube, which the decoder \
uses, in the way that is needed here: write it out in elementary operations.
    """
    try:
        yield
    except (InputError, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise InputError(_sentence(error, decoder, z)) from error


CANNOT = re.compile(
    r"forward AD with (?:the )?(\S+) that does not support"
    r"|derivative for '?([\w:]+)'? is not implemented"
)


def _sentence(error: Exception, decoder: Decoder, z: Tensor) -> str:
    text = str(error).strip() or type(error).__name__
    first = text.partition("\n")[0]
    if found := CANNOT.search(text):
        operation = found[1] or found[2]
    elif "autograd.Function" in text:
        operation = "a custom autograd.Function"
    else:
        name = getattr(decoder, "__name__", type(decoder).__name__)
        hint = ""
        parameters = getattr(decoder, "parameters", None)
        if parameters is not None and any(
            torch.finfo(p.dtype).bits != torch.finfo(z.real.dtype).bits
            for p in parameters()
            if p.is_floating_point() or p.is_complex()
        ):
            hint = ": give latents and decoder the same precision, as by decoder.double()"
        return (
            f"the decoder {name} fails at latents of shape {tuple(z.shape)} and type {_dtype(z)} "
            f"({first}){hint}."
        )
    return (
        f"torch cannot differentiate {operation}, which the decoder uses, in the way that is "
        "needed here: write it out in elementary operations."
    )
