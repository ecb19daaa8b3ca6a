"""What is wrong with a decoder, in words, before any number of its geometry is believed."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex
from torch import Tensor
from torch.func import jvp
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from kahlervae.errors import InputError
from kahlervae.geometry.curvature import log_det
from kahlervae.geometry.decoder import Decoder, ask
from kahlervae.geometry.derivatives import derivatives
from kahlervae.geometry.examination import examine
from kahlervae.geometry.fisher import fisher_form, fisher_metric, restricted_form
from kahlervae.geometry.information import information, unwrapped
from kahlervae.geometry.latents import check_latents
from kahlervae.geometry.relative_entropy import relative_entropy_form
from kahlervae.geometry.wirtinger import basis, has_pushforward

__all__ = ["Check", "DecoderReport", "check_decoder"]


class Check(NamedTuple):
    """One thing that was looked at.

    Attributes:
        name: of it.
        passed: whether it is as it has to be; None where it is only told.
        detail: what was found, and what to do about it.
    """

    name: str
    passed: bool | None
    detail: str


class DecoderReport(NamedTuple):
    """What :func:`check_decoder` found; prints as a table.

    Attributes:
        checks: one after the other; what follows one that makes it pointless is left out.
    """

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return all(check.passed is not False for check in self.checks)

    def raise_if_failed(self) -> None:
        """Refuse the decoder if anything is wrong with it.

        Raises:
            InputError: with all that is wrong.
        """
        if wrong := [check for check in self.checks if check.passed is False]:
            listed = "; ".join(f"{check.name}: {check.detail}" for check in wrong)
            raise InputError(
                f"the decoder fails {len(wrong)} of {len(self.checks)} checks: {listed}"
            )

    def __str__(self) -> str:
        width = max(len(check.name) for check in self.checks)
        words = {True: "ok", False: "WRONG", None: "-"}
        return "\n".join(
            f"{check.name:<{width}}  {words[check.passed]:<5}  {check.detail}"
            for check in self.checks
        )


def check_decoder(decoder: Decoder, z: Complex[Tensor, "n d"]) -> DecoderReport:
    """Look at a decoder at given latents: is it one, and can its geometry be believed?

    In this order: the latents; the distribution; whether rows depend on each other, on chance or on
    a state (before anything of it is changed); whether a derivative that the decoder brings is its
    own; parameters that are not finite; kinks; the metric against the Hessian of the relative
    entropy, and first and second derivatives against finite differences, at four latents; the
    metric's rank; and what a point costs.

    Args:
        decoder: what is to be a decoder, see :func:`~kahlervae.geometry.fisher.fisher_metric`.
        z: latents as it will be asked for, at least one.

    Example:
        >>> from torch.distributions import Normal
        >>> z = torch.tensor([[1 + 2j], [0.5 - 1j]], dtype=torch.complex128)
        >>> report = check_decoder(lambda z: Normal((z**2).real, 1.0), z)
        >>> report.passed
        True
        >>> print(str(check_decoder(lambda z: z.real, z)).splitlines()[1][:54])
        distribution  WRONG  the decoder returns a Tensor, not
    """
    checks: list[Check] = []
    try:
        z = check_latents(z, finite=True)
        if not len(z):
            raise InputError("there is no latent to ask the decoder for: give one at least.")
    except InputError as error:
        return DecoderReport((Check("latents", False, str(error)),))
    dtype = str(z.dtype).removeprefix("torch.")
    checks.append(Check("latents", True, f"{len(z)} in C^{z.shape[1]}, {dtype} on {z.device}"))
    try:
        if not has_pushforward(decoder):
            with torch.enable_grad():
                examine(decoder, z[:2].clone().requires_grad_())
        with torch.no_grad(), _Kinks() as kinks:
            likelihood = ask(decoder, z[:MANY])
    except InputError as error:
        return DecoderReport((*checks, Check("distribution", False, str(error))))
    checks.append(Check("distribution", True, _described(likelihood)))
    checks.append(Check("rows", True, "independent of each other, of chance and of a state"))
    checks.append(kinks.check())
    few = z[:FEW]
    looks = dict(LOOKS)
    if kinks.numbers and z.dtype == torch.complex64:
        # In single precision no difference is both small enough for kinks and exact enough.
        del looks["second derivatives"]
        checks.append(Check("second derivatives", None, "compared only in complex128, for kinks"))
    for name, look in looks.items():
        try:
            with torch.no_grad():
                found = look(decoder, z if name in ("rank", "cost") else few)
        except InputError as error:
            found = Check(name, False, str(error))
        if found is not None:
            checks.append(found)
    return DecoderReport(tuple(checks))


FEW = 4
"""Latents at which derivatives are compared."""
MANY = 256
"""Latents at most of which parameters are looked at."""


def _described(likelihood: Any) -> str:
    inner = unwrapped(likelihood)
    known = information(inner)
    route = "closed form" if known else "Hessian of the relative entropy"
    names = known.parameters if known else tuple(inner.arg_constraints)
    shapes = ", ".join(f"{name} {tuple(getattr(inner, name).shape)}" for name in names)
    return f"{type(inner).__name__} ({shapes}); Fisher information by {route}"


class _Kinks(TorchFunctionMode):
    """Counts outputs of functions that have no derivative somewhere."""

    KINKED: frozenset[Callable] = frozenset(
        {
            *(functional.relu, functional.relu6, functional.leaky_relu, functional.prelu),
            *(functional.hardtanh, functional.hardswish, functional.hardsigmoid),
            *(functional.threshold, functional.hardshrink, functional.softshrink),
            *(functional.max_pool1d, functional.max_pool2d, functional.max_pool3d),
            *(torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, torch.clamp, Tensor.clamp),
            *(torch.maximum, torch.minimum, torch.max, torch.min, Tensor.max, Tensor.min),
            *(torch.prelu, Tensor.prelu, torch.hardshrink, functional.rrelu),
        }
    )

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, int] = {}

    def __torch_function__(
        self, func: Callable, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in self.KINKED and isinstance(out, Tensor):
            name = func.__name__
            self.numbers[name] = self.numbers.get(name, 0) + out[0].numel()
        return out

    def check(self) -> Check:
        if not self.numbers:
            return Check("kinks", True, "none of the usual functions that have them")
        listed = ", ".join(f"{count:,} of {name}" for name, count in self.numbers.items())
        return Check(
            "kinks",
            None,
            f"{listed}: second derivatives are those between kinks, and do not see the kinks",
        )


def _finite(decoder: Decoder, z: Tensor) -> Check:
    fisher_form(decoder, z)  # is refused where it is not
    return Check("metric", True, f"finite at {len(z)} latents")


def _own_derivative(decoder: Decoder, z: Tensor) -> Check | None:
    if not has_pushforward(decoder):
        return None
    tangents = basis(z)
    own = derivatives(decoder, z, tangents)
    plain = derivatives(lambda z: decoder(z), z, tangents)
    first = next(iter(vars(plain.at)))
    error = _relative(getattr(own.d, first), getattr(plain.d, first))
    return _compared("pushforward", error, _tolerance(z, 2), "automatic differentiation")


def _entropy(decoder: Decoder, z: Tensor) -> Check:
    try:
        hessian = relative_entropy_form(decoder, z)
    except InputError as error:
        return Check("relative entropy", None, f"not compared: {error}")
    difference = _relative(fisher_form(decoder, z), hessian)
    return _compared("relative entropy", difference, _tolerance(z, 2), "its Hessian")


def _first_differences(decoder: Decoder, z: Tensor) -> Check:
    """The derivative along one direction, of the whitened parameters' own values."""
    likelihood = unwrapped(ask(decoder, z))
    known = information(likelihood)
    if known is None:
        return Check("first derivatives", None, "not compared: the distribution is not registered")
    v = _direction(z)

    def parameters(point: Tensor) -> Tensor:
        inner = unwrapped(ask(decoder, point))
        values = (getattr(inner, name) for name in known.parameters)
        joined = torch.cat([_real(value).reshape(len(point), -1) for value in values], dim=1)
        return joined.masked_fill(joined.isinf(), 0)  # such as logits of what never is

    exact = jvp(parameters, (z,), (v,))[1]
    errors = [_relative(_difference(parameters, z, v, h), exact) for h in _steps(z)]
    return _compared("first derivatives", min(errors), _tolerance(z, 3), "finite differences")


def _second_differences(decoder: Decoder, z: Tensor) -> Check:
    """The change of the metric in two directions along a third."""
    tangents = torch.stack([_direction(z, 1), _direction(z, 2)])
    v = _direction(z)

    def form(point: Tensor) -> Tensor:
        return restricted_form(decoder, point, tangents)

    value, exact = jvp(form, (z,), (v,))  # type: ignore[misc]
    size = exact.norm() + _tolerance(z, 3) * value.norm()
    errors = [float((_difference(form, z, v, h) - exact).norm() / size) for h in _steps(z)]
    return _compared("second derivatives", min(errors), 10 * _tolerance(z, 3), "finite differences")


def _rank(decoder: Decoder, z: Tensor) -> Check:
    eigenvalues = torch.linalg.eigvalsh(fisher_metric(decoder, z[:MANY]))
    condition = (eigenvalues[:, -1] / eigenvalues[:, 0].clamp_min(0)).median()
    singular = int((~log_det(fisher_metric(decoder, z[:MANY])).isfinite()).sum())
    detail = f"condition number {condition:.3g} (median)"
    if singular:
        detail += (
            f", singular at {singular} of {len(eigenvalues)} latents: fewer latent dimensions are "
            "in use than there are"
        )
    return Check("rank", None if singular else True, detail)


def _cost(decoder: Decoder, z: Tensor) -> Check:
    fisher_metric(decoder, z[:1])
    points = z[:MANY]
    start = time.perf_counter()
    fisher_metric(decoder, points)
    each = (time.perf_counter() - start) / len(points)
    return Check("cost", None, f"{1e6 * each:,.0f} microseconds a point for the metric")


LOOKS: dict[str, Callable[[Decoder, Tensor], Check | None]] = {
    "metric": _finite,
    "pushforward": _own_derivative,
    "relative entropy": _entropy,
    "first derivatives": _first_differences,
    "second derivatives": _second_differences,
    "rank": _rank,
    "cost": _cost,
}


def _compared(name: str, error: float, tolerance: float, other: str) -> Check:
    if error <= tolerance:
        return Check(name, True, f"agree with {other} to {error:.1e}")
    return Check(
        name,
        False,
        f"differ from {other} by {error:.1e}: an operation is differentiated wrong, or has kinks",
    )


def _difference(f: Callable[[Tensor], Tensor], z: Tensor, v: Tensor, h: float) -> Tensor:
    return (f(z + h * v) - f(z - h * v)) / (2 * h)


def _steps(z: Tensor) -> list[float]:
    """Of central differences: the best for smooth functions, and some that fit between kinks."""
    best = float(torch.finfo(z.real.dtype).eps ** (1 / 3))
    return [best, best / 8, best / 64]


def _tolerance(z: Tensor, root: int) -> float:
    return float(torch.finfo(z.real.dtype).eps ** (1 / root))


def _direction(z: Tensor, seed: int = 0) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(z.shape, generator=stream, device=stream.device, dtype=torch.complex128).to(
        z
    )


def _real(value: Tensor) -> Tensor:
    return torch.view_as_real(value.resolve_conj()) if value.is_complex() else value


def _relative(found: Tensor, expected: Tensor) -> float:
    size = expected.norm()
    return float((found - expected).norm() / size) if size > 0 else float(found.norm())
