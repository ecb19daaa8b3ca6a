"""Every layer of the zoo through every function of the geometry, against finite differences."""

import copy
from collections.abc import Callable, Iterable
from functools import cache, partial

import pytest
import torch
from geometry.finite_differences import Reference, along, converged, disagreement, moved
from geometry.zoo import ZOO, Decoder
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.geometry import (
    MixturePotential,
    closedness_defect,
    fisher_metric,
    fisher_norm,
    fisher_relation,
    hermitian_defect,
    log_det,
    ricci,
    scalar_curvature,
)
from kahlervae.geometry.geodesic import christoffel, curve_energy
from kahlervae.nn import to_double
from kahlervae.seeding import standard_normal
from kahlervae.train.regulariser import FisherRegulariser, PotentialRegulariser

COUNT = 2
EPSILON = 1e-2

Quantity = Callable[[Decoder, Tensor], Tensor]


@cache
def decoder_and_points(name: str) -> tuple[Decoder, Tensor]:
    """A decoder, of several, and points around which finite differences can be believed."""
    stream = torch.Generator().manual_seed(1)
    candidates = torch.randn(160, 2, generator=stream, dtype=torch.complex128)
    for seed in range(12):
        decoder = Decoder([ZOO[name]], seed=seed)
        z = converged(decoder, candidates, COUNT)
        if len(z) == COUNT:
            return decoder, z
    raise AssertionError("finite differences converge nowhere")


def vectors(z: Tensor) -> Tensor:
    return standard_normal(z, torch.Generator().manual_seed(2))


def curves(z: Tensor) -> Tensor:
    """One of two steps around every point, with midpoints close to it."""
    return z.unsqueeze(1) + 0.01 * standard_normal(
        torch.empty(len(z), 3, z.shape[1], dtype=z.dtype), torch.Generator().manual_seed(3)
    )


def directions(like: list[Tensor], count: int = 3) -> list[list[Tensor]]:
    """Random ones of unit length in the space of several tensors."""
    stream = torch.Generator().manual_seed(4)
    drawn = [[standard_normal(t, stream) for t in like] for _ in range(count)]
    sizes = [sum(t.abs().square().sum() for t in direction) ** 0.5 for direction in drawn]
    return [[t / size for t in direction] for direction, size in zip(drawn, sizes, strict=True)]


def product(gradients: list[Tensor | None], direction: list[Tensor]) -> Tensor:
    """Of a gradient in torch's convention with a direction: the derivative along it."""
    terms = [
        (g.conj() * v).real.sum()
        for g, v in zip(gradients, direction, strict=True)
        if g is not None
    ]
    return torch.stack(terms).sum()


def metric_of(decoder: Decoder) -> Callable[[Tensor], Tensor]:
    return partial(fisher_metric, decoder)


def log_det_gradient(decoder: Decoder, z: Tensor) -> Tensor:
    z = z.clone().requires_grad_()
    return torch.autograd.grad(log_det(fisher_metric(decoder, z)).sum(), z)[0]


def curve_energy_gradient(decoder: Decoder, z: Tensor) -> Tensor:
    c = curves(z).requires_grad_()
    gradient = torch.autograd.grad(curve_energy(metric_of(decoder), c).sum(), c)[0]
    return torch.stack([product([gradient], v) for v in directions([c.detach()])])


def expected_curve_energy_gradient(decoder: Decoder, z: Tensor) -> Tensor:
    c = curves(z)
    energy = Reference(decoder).curve_energy
    slopes = [along(lambda t, v=v: energy(c + t * v).sum()) for (v,) in directions([c])]
    return torch.stack(slopes)


@cache
def potential() -> MixturePotential:
    stream = torch.Generator().manual_seed(0)
    return to_double(MixturePotential.random(2, 2, 3, 1.0, stream)).requires_grad_(False)


def regulariser(decoder: Decoder, z: Tensor) -> Tensor:
    terms = FisherRegulariser("flatness", EPSILON)(decoder, z, vectors(z))
    return terms.regulariser


def expected_regulariser(decoder: Decoder, z: Tensor) -> Tensor:
    metric = Reference(decoder).metric(z)
    return torch.linalg.eigvalsh(metric).add(EPSILON).log().sum(-1).var()


def tie(decoder: Decoder, z: Tensor) -> Tensor:
    terms = PotentialRegulariser(potential(), "flatness", EPSILON)
    return terms(decoder, z, vectors(z)).tie


def expected_tie(decoder: Decoder, z: Tensor) -> Tensor:
    v = vectors(z)
    proxy = torch.einsum("ni,nij,nj->n", v, potential().metric(z), v.conj()).real
    return (proxy.log() - Reference(decoder).norm(z, v).log()).square().mean()


def parameter_gradient(f: Quantity) -> Quantity:
    def gradient(decoder: Decoder, z: Tensor) -> Tensor:
        parameters = list(decoder.parameters())
        gradients = torch.autograd.grad(f(decoder, z), parameters, allow_unused=True)
        along = directions([p.detach() for p in parameters])
        return torch.stack([product(list(gradients), v) for v in along])

    return gradient


def expected_parameter_gradient(f: Quantity) -> Quantity:
    def gradient(decoder: Decoder, z: Tensor) -> Tensor:
        parameters = list(decoder.parameters())

        def value(t: float, v: list[Tensor]) -> Tensor:
            with moved(parameters, v, t):
                return f(decoder, z)

        lines = directions([p.detach() for p in parameters])
        return torch.stack([along(partial(value, v=v)) for v in lines])

    return gradient


def reference(method: Callable[..., Tensor]) -> Quantity:
    return lambda decoder, z: method(Reference(decoder), z)


def of_metric(f: Callable[..., Tensor]) -> Quantity:
    return lambda decoder, z: f(metric_of(decoder), z)


FUNCTIONS: dict[str, tuple[Quantity, Quantity, float]] = {
    "metric": (fisher_metric, reference(Reference.metric), 1e-6),
    "relation": (fisher_relation, reference(Reference.relation), 1e-6),
    "norm": (
        lambda decoder, z: fisher_norm(decoder, z, vectors(z)),
        lambda decoder, z: Reference(decoder).norm(z, vectors(z)),
        1e-6,
    ),
    "hermitian defect": (hermitian_defect, reference(Reference.hermitian_defect), 1e-6),
    "closedness defect": (
        of_metric(closedness_defect),
        reference(Reference.closedness_defect),
        1e-6,
    ),
    "Christoffel symbols": (of_metric(christoffel), reference(Reference.christoffel), 1e-6),
    "gradient of log det": (log_det_gradient, reference(Reference.log_det_gradient), 1e-6),
    "Ricci": (of_metric(ricci), reference(Reference.ricci), 1e-5),
    "scalar curvature": (
        of_metric(scalar_curvature),
        reference(Reference.scalar_curvature),
        1e-5,
    ),
    "curve energy": (
        lambda decoder, z: curve_energy(metric_of(decoder), curves(z)),
        lambda decoder, z: Reference(decoder).curve_energy(curves(z)),
        1e-6,
    ),
    "gradient of the curve energy": (curve_energy_gradient, expected_curve_energy_gradient, 1e-6),
    "gradient of the regulariser": (
        parameter_gradient(regulariser),
        expected_parameter_gradient(expected_regulariser),
        1e-6,
    ),
    "gradient of the tie": (
        parameter_gradient(tie),
        expected_parameter_gradient(expected_tie),
        1e-6,
    ),
}
"""Ours, what it has to be, and the relative error that is allowed."""

EACH_MODE = (
    "metric",  # forward
    "closedness defect",  # forward over forward
    "gradient of log det",  # reverse over forward
    "Ricci",  # forward over reverse over forward
    "gradient of the regulariser",  # reverse over forward, in the parameters
)
"""Of these all others are made; every commit is held to them, a release to all."""

REFUSED = {
    # No forward mode.
    "embedding bag": "embedding_bag",
    "grid_sample": "grid_sampler_2d",
    "affine warp": "grid_sampler_2d",
    "cdist": "cdist",
    "cdist of order 1": "cdist",
    "index_reduce": "index_reduce",
    "function without forward mode": "custom autograd.Function",
    "function with a context": "custom autograd.Function",
    "numpy": "data pointer",
    # Wrong first derivatives, by torch or by their author.
    "scatter_reduce, prod": "aten.scatter_reduce",
    "function with a wrong forward mode": "custom or scripted function",
    "function with a wrong backward": "custom or scripted function",
    # Wrong second derivatives, by one mode over another.
    "native_layer_norm": "aten.native_layer_norm",
    "aten layer_norm": "aten.native_layer_norm",
    "scripted layer norm": "aten.native_layer_norm",
    "traced layer norm": "aten.native_layer_norm",
    "eigh, a function": "aten._linalg_eigh",
    "function with both modes": "custom or scripted function",
}
"""What torch cannot do right, and what the sentence has to name. All functions refuse it."""


def outcome(name: str, function: str) -> str:
    """``right``, ``refused``, or what went wrong in words."""
    decoder, z = decoder_and_points(name)
    ours, expected, tolerance = FUNCTIONS[function]
    try:
        value = ours(decoder, z).detach()
    except InputError as error:
        message = str(error)
        one_sentence = message.endswith(".") and "\n" not in message
        named = one_sentence and REFUSED.get(name, message + ".") in message
        return "refused" if named else f"refused: {message}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    off = relative_error(value, expected(decoder, z))
    return "right" if off <= tolerance else f"off by {off:.1e}"


def relative_error(value: Tensor, expected: Tensor) -> float:
    """The worst of all points; of a vector of slopes as a whole."""
    if value.shape != expected.shape:
        return float("inf")
    if value.dim() == 1:
        value, expected = value[None], expected[None]
    return float(disagreement(value, expected).max())


def outcomes(name: str, functions: Iterable[str]) -> dict[str, str]:
    return {function: outcome(name, function) for function in functions}


@pytest.mark.parametrize("name", ZOO)
def test_layer_is_right_in_each_mode_or_refused_by_name(name: str) -> None:
    expected = "refused" if name in REFUSED else "right"
    assert outcomes(name, EACH_MODE) == dict.fromkeys(EACH_MODE, expected)


@pytest.mark.long
@pytest.mark.parametrize("name", ZOO)
def test_layer_is_right_in_every_function_or_refused_by_name(name: str) -> None:
    expected = "refused" if name in REFUSED else "right"
    assert outcomes(name, FUNCTIONS) == dict.fromkeys(FUNCTIONS, expected)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(set(ZOO) - set(REFUSED)))
def test_single_precision_is_close_to_double(name: str) -> None:
    decoder, z = decoder_and_points(name)
    single = copy.deepcopy(decoder).float()
    for function in ("metric", "closedness defect", "gradient of log det"):
        ours = FUNCTIONS[function][0]
        value = ours(single, z.to(torch.complex64)).detach()
        expected = ours(decoder, z).detach()
        assert relative_error(value.to(expected.dtype), expected) < 1e-2, function


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(set(ZOO) - set(REFUSED)))
def test_values_are_the_same_without_gradients(name: str) -> None:
    decoder, z = decoder_and_points(name)
    for function in ("metric", "closedness defect", "Ricci"):
        ours = FUNCTIONS[function][0]
        expected = ours(decoder, z).detach()
        with torch.no_grad():
            assert relative_error(ours(decoder, z), expected) < 1e-10, function
