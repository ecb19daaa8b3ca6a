"""The GPU computes the geometry that the CPU does, in float64 but for rounding."""

import pytest
import torch
from geometry.test_mixture import POTENTIALS
from torch import Tensor

from kahlervae.geometry import (
    MixturePotential,
    closedness_defect,
    fisher_metric,
    fisher_norm,
    hermitian_defect,
    log_det,
    relative_entropy_metric,
    ricci,
    scalar_curvature,
    smallest_eigenvalue,
)
from kahlervae.geometry.geodesic import curve_energy
from kahlervae.models.decoders import ComplexDecoder, HolomorphicDecoder, RealDecoder
from kahlervae.nn import to_double
from kahlervae.seeding import generator, standard_normal
from kahlervae.train.regulariser import FisherRegulariser, PotentialRegulariser

pytestmark = pytest.mark.gpu

EPSILON, DIMENSION, POINTS = 1e-2, 3, 9
ROUNDING = 1e-12
"""Of the largest entry: some thousand times the rounding of float64."""
DECODERS = {
    "complex": lambda: ComplexDecoder(24, DIMENSION, 16, 2),
    "complex data": lambda: ComplexDecoder(24, DIMENSION, 16, 2, complex_data=True),
    "diagonal": lambda: ComplexDecoder(24, DIMENSION, 16, 2, likelihood_variance="diagonal"),
    "real": lambda: RealDecoder(24, DIMENSION, 16, 2),
    "holomorphic": lambda: HolomorphicDecoder(24, DIMENSION, 8, 1),
}


def latents(seed: int = 0) -> Tensor:
    return torch.randn(POINTS, DIMENSION, generator=generator(seed), dtype=torch.complex128)


def assert_equal_on_both(compute, cuda: torch.device) -> None:
    """The tensors that ``compute`` gives for a device are on it, and equal but for rounding."""
    here, there = compute(torch.device("cpu")), compute(cuda)
    assert here.keys() == there.keys()
    for name, expected in here.items():
        found = there[name]
        assert found.device.type == "cuda", name
        assert found.dtype in (torch.float64, torch.complex128), name
        error = (found.cpu() - expected).abs().max() / expected.abs().max().clamp(min=1e-300)
        assert error < ROUNDING, f"{name} differs by {error:.1e}"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", DECODERS)
def test_metric_of_a_decoder(name, seed, cuda):
    torch.manual_seed(seed)
    decoder = to_double(DECODERS[name]()).requires_grad_(False)

    def compute(device: torch.device) -> dict[str, Tensor]:
        on = decoder.to(device)
        z = latents(seed).to(device)

        def metric(z: Tensor) -> Tensor:
            return fisher_metric(on, z)

        moving = z.clone().requires_grad_()
        value = log_det(metric(moving), EPSILON)
        quantities = {
            "fisher_metric": metric(z),
            "fisher_norm": fisher_norm(on, z, z.roll(1, 0)),
            "relative_entropy_metric": relative_entropy_metric(on, z),
            "smallest_eigenvalue": smallest_eigenvalue(metric(z)),
            "log_det": value.detach(),
            "gradient of log_det": torch.autograd.grad(value.sum(), moving)[0],
            "ricci": ricci(metric, z),
            "scalar_curvature": scalar_curvature(metric, z),
        }
        if name != "holomorphic":  # where both are rounding alone
            quantities["hermitian_defect"] = hermitian_defect(on, z)
            quantities["closedness_defect"] = closedness_defect(metric, z)
        return quantities

    assert_equal_on_both(compute, cuda)


@pytest.mark.parametrize("name", POTENTIALS)
def test_potential(name, cuda):
    potential = POTENTIALS[name](DIMENSION)

    def compute(device: torch.device) -> dict[str, Tensor]:
        on, z = potential.to(device), latents().to(device)
        value, gradient = on.log_det_and_gradient(z, EPSILON)
        return {
            "potential": on.potential(z),
            "metric": on.metric(z),
            "log_det": on.log_det(z, EPSILON),
            "log_det of both": value,
            "gradient of log_det": gradient,
            "ricci": ricci(on.metric, z),
            "curve_energy": curve_energy(on.metric, z.unflatten(0, (3, 3))),
        }

    assert_equal_on_both(compute, cuda)


@pytest.mark.parametrize("form", ["volume", "flatness"])
@pytest.mark.parametrize("exact", [True, False])
def test_regulariser_and_its_gradients(form, exact, cuda):
    torch.manual_seed(0)
    decoder = to_double(ComplexDecoder(24, DIMENSION, 16, 2))
    potential = to_double(MixturePotential.random(DIMENSION, 2, 4, 5.0, generator(0)))
    regulariser = (
        FisherRegulariser(form, EPSILON)
        if exact
        else PotentialRegulariser(potential, form, EPSILON)
    )

    def compute(device: torch.device) -> dict[str, Tensor]:
        modules = torch.nn.ModuleList([decoder, regulariser]).to(device)
        modules.zero_grad()
        z = latents().to(device).requires_grad_()
        terms = regulariser(decoder, z, standard_normal(z, generator(1)))
        (terms.regulariser + 0.5 * terms.tie).backward()
        # Copies, for gradients follow their module to its next device.
        gradients = {
            f"gradient of {name}": parameter.grad.clone()
            for name, parameter in modules.named_parameters()
            if parameter.grad is not None
        }
        values = {name: term.detach() for name, term in terms._asdict().items()}
        return {**values, **gradients, "gradient of z": z.grad}

    assert_equal_on_both(compute, cuda)
