"""What a metric costs: potential in closed form, exact Fisher metric by several routes."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.func import jacfwd, jacrev, jvp, vmap
from torch.profiler import ProfilerActivity, profile

from kahlervae.geometry import (
    LogPartitionPotential,
    MixturePotential,
    Potential,
    best_constant_metric,
    fisher_metric,
    fit_potential,
    log_det,
    relative_error,
)
from kahlervae.geometry.wirtinger import basis
from kahlervae.models.decoders import ComplexDecoder, PluriharmonicDecoder
from kahlervae.seeding import generator

__all__ = ["jacfwd_metric", "jacrev_metric", "jvp_loop_metric", "run_cost"]

Metric = Callable[[ComplexDecoder, Tensor], Tensor]

CPU = torch.device("cpu")
EPSILON = 1e-3
WORK = 2e10
"""Floating-point operations of one call: a method that needs more gets fewer points."""
LIMIT = 1e11
"""A method that needs more operations than this for a single point is left out."""
SHORTEST = 0.02
"""Seconds: a call that takes less is repeated until so much has passed."""


class Size(NamedTuple):
    """One point of the grid."""

    output_dim: int
    latent_dim: int
    width: int
    batch: int
    components: int


class Method(NamedTuple):
    """One way to one quantity, at so many points."""

    quantity: str
    name: str
    batch: int
    call: Callable[[], object]


def run_cost(settings: Mapping[str, Any], device: torch.device = CPU) -> pd.DataFrame:
    """Time and memory per point on random decoders, by size, quantity and method.

    Quantities: ``metric``; ``log_det``, the metric and its log det; ``log_det_gradient``, both
    with the gradient in z. Methods: ``potential`` (closed form), ``fisher`` (the exact metric by
    :func:`~kahlervae.geometry.fisher.fisher_metric`), ``jacfwd``, ``jacrev`` and ``jvp_loop`` (the
    exact metric by the routes below), ``decoder`` (one forward pass, the floor of all that
    differentiate it). Sizes are the base, one factor varied at a time, and some more.

    Every repetition calls all methods of a size in turn, so that a drift of the machine's speed
    meets them alike, and ratios are taken within a repetition. The first call of each, which warms
    up, measures memory.

    What a class of potentials gives for its time is told by the rows of the sweep ``classes``: at
    the base size every candidate of the configuration, after a share of its steps of Adam, beside
    the best constant metric and the exact one, all with their error at fresh points. The sweep
    ``construction`` is of a decoder of that size that is Kähler by construction: its metric as that
    of its own potential (``log_partition``), by the decoder's derivatives in 2d real directions
    (``pushforward``) and by automatic differentiation as of any decoder (``automatic``).

    Args:
        settings: ``base`` (a size), ``sweeps`` (values by factor), ``more`` (sizes, as changes of
            the base), ``repetitions``, ``threads``; ``candidates`` as in ``geometry.potential`` and
            ``classes``, the ``probes`` and the ``share`` of the steps of their fits.
        device: where decoder, potential and points are.

    Returns:
        One row per size, quantity and method. ``sweep`` is the factor that was varied, ``base``,
        ``more``, ``classes`` or ``construction``; ``relative_error`` the median relative error of
        the metric, of the last two; ``batch`` the number of points of a call;
        ``microseconds_per_point`` the median over repetitions, between the quartiles
        ``microseconds_q25`` and ``microseconds_q75``; ``peak_memory_mb`` what a call held at most
        beyond its arguments, by PyTorch's account of its allocations (that of the profiler on a
        CPU), temporary buffers of BLAS not included.
        ``relative`` is the time in units of that of the method ``relative_to`` for the same size
        and quantity, median over repetitions, with quartiles; the decoder alone is measured
        against the metric.
    """
    with _threads(settings["threads"]):
        rows = [
            {"sweep": sweep, **row}
            for sweep, size in _sizes(settings)
            for row in _measure(
                size, _methods(size, sweep not in ("components", "batch"), device), settings, device
            )
        ]
        rows += _measure_classes(settings, device)
        rows += _measure_construction(settings, device)
    return pd.DataFrame(rows)


def _sizes(settings: Mapping[str, Any]) -> Iterator[tuple[str, Size]]:
    base = Size(**{factor: settings["base"][factor] for factor in Size._fields})
    yield "base", base
    for factor, values in settings["sweeps"].items():
        for value in values:
            size = base._replace(**{factor: value})
            if size != base:
                yield factor, size
    for changes in settings["more"]:
        yield "more", base._replace(**changes)


def _measure_classes(settings: Mapping[str, Any], device: torch.device) -> list[dict[str, Any]]:
    """Error and time of every class of potentials on one random decoder."""
    size = Size(**settings["base"])
    decoder, stream = _decoder(size, device), generator(0, "classes")
    count = settings["classes"]["probes"]
    shape = (count + size.batch, size.latent_dim)
    z = torch.randn(shape, generator=stream, dtype=torch.complex64).to(device)
    exact = fisher_metric(decoder, z)
    probes, fresh = (z[:count], exact[:count]), (z[count:], exact[count:])
    potentials: dict[str, Potential] = {
        "constant": MixturePotential.constant(best_constant_metric(probes[1])).to(device)
    }
    for name, candidate in settings["candidates"].items():
        steps = max(2, round(settings["classes"]["share"] * candidate["steps"]))
        kind, sizes, rate = (candidate[key] for key in ("kind", "size", "learning_rate"))
        batch = candidate["batch"]
        potentials[name] = fit_potential(*probes, kind, sizes, steps, rate, stream, batch)
    metrics: dict[str, Callable[[Tensor], Tensor]] = {
        name: potential.metric for name, potential in potentials.items()
    }
    metrics["fisher"] = lambda z: fisher_metric(decoder, z)
    rows = _measure_errors(size, metrics, *fresh, settings, reference="fisher")
    return [{"sweep": "classes", **row} for row in rows]


def _measure_construction(
    settings: Mapping[str, Any], device: torch.device
) -> list[dict[str, Any]]:
    """Three ways to the metric of one random decoder that is Kähler by construction."""
    size = Size(**settings["base"])
    torch.manual_seed(0)
    sizes = (size.output_dim, size.latent_dim, size.width)
    decoder = PluriharmonicDecoder(*sizes, depth=2, likelihood="bernoulli")
    decoder = decoder.to(device).requires_grad_(False)

    def foreign(z: Tensor) -> Any:
        return decoder(z)

    def pushed(z: Tensor) -> Any:
        return decoder(z)

    pushed.pushforward = decoder.pushforward  # type: ignore[attr-defined]
    shape = (size.batch, size.latent_dim)
    z = torch.randn(shape, generator=generator(0, "construction"), dtype=torch.complex64).to(device)
    metrics: dict[str, Callable[[Tensor], Tensor]] = {
        "log_partition": LogPartitionPotential(decoder).metric,
        "pushforward": partial(fisher_metric, pushed),
        "automatic": partial(fisher_metric, foreign),
    }
    exact = metrics["automatic"](z)
    rows = _measure_errors(size, metrics, z, exact, settings, reference="pushforward")
    return [{"sweep": "construction", **row} for row in rows]


def _measure_errors(
    size: Size,
    metrics: Mapping[str, Callable[[Tensor], Tensor]],
    z: Complex[Tensor, "n d"],
    exact: Complex[Tensor, "n d d"],
    settings: Mapping[str, Any],
    reference: str,
) -> list[dict[str, Any]]:
    """Time of every metric at the same points, and its error."""
    methods = [
        Method("metric", name, len(z), partial(metric, z)) for name, metric in metrics.items()
    ]
    rows = _measure(size, methods, settings, z.device, reference)
    errors = [relative_error(metric(z), exact).median().item() for metric in metrics.values()]
    return [row | {"relative_error": error} for row, error in zip(rows, errors, strict=True)]


def _measure(
    size: Size,
    methods: list[Method],
    settings: Mapping[str, Any],
    device: torch.device,
    reference: str = "potential",
) -> list[dict[str, Any]]:
    memory = [_peak_memory(method.call, device) for method in methods]
    times = np.array(
        [
            [1e6 * _seconds(method.call, device) / method.batch for method in methods]
            for _ in range(settings["repetitions"])
        ]
    )
    rows = []
    for i, method in enumerate(methods):
        (unit,) = (
            k
            for k, other in enumerate(methods)
            if other.name == reference and other.quantity == method.quantity
        )
        q25, median, q75 = np.quantile(times[:, i], [0.25, 0.5, 0.75])
        low, ratio, high = np.quantile(times[:, i] / times[:, unit], [0.25, 0.5, 0.75])
        rows.append(
            {
                **size._asdict(),
                "batch": method.batch,
                "quantity": method.quantity,
                "method": method.name,
                "threads": settings["threads"],
                "device": _name(device),
                "microseconds_per_point": median,
                "microseconds_q25": q25,
                "microseconds_q75": q75,
                "peak_memory_mb": memory[i] / 1e6,
                "relative_to": reference,
                "relative": ratio,
                "relative_q25": low,
                "relative_q75": high,
            }
        )
    return rows


def _methods(size: Size, plain: bool, device: torch.device) -> list[Method]:
    """All ways to all quantities; ``plain``: also those by plain differentiation."""
    stream, decoder = generator(0, "cost"), _decoder(size, device)
    groups = _groups(size.components)
    potential = MixturePotential.random(
        size.latent_dim, groups, size.components // groups, 1.0, stream
    )
    potential = potential.to(device).requires_grad_(False)
    shape = (size.batch, size.latent_dim)
    z = torch.randn(shape, generator=stream, dtype=torch.complex64).to(device)

    # Operations of one pass: a complex product has four real ones, and one addition goes with each.
    layers = 4 * (size.latent_dim + size.width) * size.width + 2 * size.width * size.output_dim
    directions = 2 * size.latent_dim

    def exact(quantity: str, name: str, passes: int, call: Callable[[Tensor], object]) -> None:
        operations = 2 * passes * layers
        if operations <= LIMIT:
            part = z[: max(1, int(WORK / operations))]
            methods.append(Method(quantity, name, len(part), lambda: call(part)))

    def closed(quantity: str, call: Callable[[Tensor], object]) -> None:
        methods.append(Method(quantity, "potential", len(z), lambda: call(z)))

    methods: list[Method] = []
    exact("metric", "decoder", 1, lambda z: decoder(z).mean)
    closed("metric", potential.metric)
    exact("metric", "fisher", directions, lambda z: fisher_metric(decoder, z))
    if plain:
        exact("metric", "jacfwd", directions, lambda z: jacfwd_metric(decoder, z))
        exact("metric", "jvp_loop", directions, lambda z: jvp_loop_metric(decoder, z))
        exact("metric", "jacrev", size.output_dim, lambda z: jacrev_metric(decoder, z))
    closed("log_det", lambda z: potential.log_det(z, EPSILON))
    exact("log_det", "fisher", directions, lambda z: log_det(fisher_metric(decoder, z), EPSILON))
    closed("log_det_gradient", lambda z: potential.log_det_and_gradient(z, EPSILON))
    exact("log_det_gradient", "fisher", 3 * directions, lambda z: _fisher_gradient(decoder, z))
    return methods


def _decoder(size: Size, device: torch.device) -> ComplexDecoder:
    torch.manual_seed(0)
    decoder = ComplexDecoder(size.output_dim, size.latent_dim, size.width, depth=2)
    return decoder.to(device).requires_grad_(False)


def _groups(components: int) -> int:
    """As many groups as components in each, or half as many."""
    return 1 << (components.bit_length() - 1) // 2


def jacfwd_metric(decoder: ComplexDecoder, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
    """The textbook route: a Jacobian per point by forward differentiation, constant variance."""
    return _metric_of(decoder, vmap(jacfwd(_mean_of(decoder)))(_coordinates(z)))


def jacrev_metric(decoder: ComplexDecoder, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
    """A Jacobian per point by reverse differentiation, one pass for every output."""
    return _metric_of(decoder, vmap(jacrev(_mean_of(decoder)))(_coordinates(z)))


def jvp_loop_metric(decoder: ComplexDecoder, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
    """One Jacobian-vector product after the other, each for all points."""
    columns = [jvp(lambda z: decoder(z).mean, (z,), (v,))[1] for v in basis(z)]
    return _metric_of(decoder, torch.stack(columns, dim=-1))


def _coordinates(z: Tensor) -> Tensor:
    return torch.cat([z.real, z.imag], dim=-1)


def _mean_of(decoder: ComplexDecoder) -> Callable[[Tensor], Tensor]:
    def mean(x: Tensor) -> Tensor:
        return decoder(torch.complex(*x.chunk(2)).unsqueeze(0)).mean.squeeze(0)

    return mean


def _metric_of(decoder: ComplexDecoder, jacobian: Float[Tensor, "n D 2*d"]) -> Tensor:
    real, imaginary = jacobian.chunk(2, dim=-1)
    derivative = 0.5 * torch.complex(real, -imaginary)
    d = derivative.shape[-1]
    log_var = decoder(derivative.new_zeros(1, d)).log_var[0, 0]
    return (derivative.mT @ derivative.conj()) * torch.exp(-log_var)


def _fisher_gradient(decoder: ComplexDecoder, z: Tensor) -> Tensor:
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        return torch.autograd.grad(log_det(fisher_metric(decoder, z), EPSILON).sum(), z)[0]


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, the mean of several where it is short."""
    calls, start = 0, time.perf_counter()
    while True:
        call()
        calls += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        passed = time.perf_counter() - start
        if passed > SHORTEST:
            return passed / calls


def _peak_memory(call: Callable[[], object], device: torch.device) -> int:
    """Bytes that a call holds at most beyond what was there before."""
    if device.type == "cuda":
        call()  # libraries allocate their workspaces once
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    events = recorded.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return int(np.cumsum([0, *(size for _, size in changes)]).max())


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
