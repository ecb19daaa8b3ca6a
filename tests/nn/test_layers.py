import pytest
import torch

from kahlervae.errors import InputError
from kahlervae.geometry import wirtinger
from kahlervae.nn import (
    ComplexLinear,
    HolomorphicNetwork,
    HolomorphicQuadratic,
    RealInput,
    RealOutput,
    SmoothCardioid,
    hidden,
    to_double,
)


def complex_normal(*shape):
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))


def test_complex_linear_is_holomorphic_with_its_weight_as_derivative():
    torch.manual_seed(0)
    layer = to_double(ComplexLinear(3, 5))
    _, d, d_bar = wirtinger(layer, complex_normal(4, 3))
    torch.testing.assert_close(d, layer.weight.expand(4, 5, 3))
    assert d_bar.abs().max() < 1e-15


def test_complex_linear_keeps_the_variance_that_halving_activations_need():
    torch.manual_seed(0)
    layer, z = ComplexLinear(400, 400), torch.randn(500, 400, dtype=torch.complex64)
    assert layer(z).abs().square().mean().item() == pytest.approx(2, rel=0.05)


def test_real_ends_are_complex_linear_maps():
    torch.manual_seed(0)
    into, out = to_double(RealInput(3, 5)), to_double(RealOutput(5, 2))
    x, z = torch.randn(4, 3, dtype=torch.float64), complex_normal(4, 5)
    torch.testing.assert_close(into(2 * x) - into(x), into(x) - into(0 * x))
    weight = torch.complex(out.linear.weight[:, :5], -out.linear.weight[:, 5:])
    torch.testing.assert_close(out(z), (z @ weight.mT).real + out.linear.bias)


@pytest.mark.parametrize("softness", [0.1, 1.0])
def test_cardioid_against_its_formula(softness):
    z = complex_normal(100)
    expected = 0.5 * (1 + z.real / torch.sqrt(z.abs() ** 2 + softness**2)) * z
    torch.testing.assert_close(SmoothCardioid(softness)(z), expected)


def test_cardioid_is_smooth_at_the_origin():
    """Its Wirtinger derivatives at 0 are ½ and 0, and change in proportion to the distance."""
    activation, h = SmoothCardioid(), 1e-4
    origin = torch.zeros(1, 1, dtype=torch.complex128)
    _, d, d_bar = wirtinger(activation, origin)
    assert abs(d.item() - 0.5) < 1e-15
    assert abs(d_bar.item()) < 1e-15
    for direction in (1, 1j):
        _, forward, _ = wirtinger(activation, origin + h * direction)
        _, backward, _ = wirtinger(activation, origin - h * direction)
        assert abs((forward + backward - 2 * d).item()) < 10 * h**2


def test_quadratic_activation_is_holomorphic_and_halves_the_second_moment():
    activation, z = HolomorphicQuadratic(), complex_normal(1000, 4)
    _, d, d_bar = wirtinger(activation, z[:5])
    torch.testing.assert_close(d.diagonal(dim1=1, dim2=2), (1 + z[:5] / 2) / 2**0.5)
    assert d_bar.abs().max() < 1e-15
    assert activation(z).abs().square().mean().item() == pytest.approx(0.5 + 2 / 32, rel=0.1)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_holomorphic_network_is_a_polynomial_of_degree_depth_plus_one(depth):
    torch.manual_seed(0)
    network = to_double(HolomorphicNetwork(3, 5, depth))
    z, v = complex_normal(4, 3), complex_normal(4, 3).flip(0)
    _, _, d_bar = wirtinger(lambda z: network(z), z)
    assert d_bar.abs().max() < 1e-14
    # Differences of order degree + 1 along a line vanish, those of order degree do not.
    values = torch.stack([network(z + k * v) for k in range(depth + 3)])
    for _ in range(depth + 1):
        values = values.diff(dim=0)
    size = network(z).abs().max()
    assert values[0].abs().max() > 1e-3 * size
    assert values.diff(dim=0).abs().max() < 1e-10 * values.abs().max()


@pytest.mark.parametrize("depth", [1, 3])
def test_pushforward_of_a_holomorphic_network_is_its_derivative(depth):
    torch.manual_seed(0)
    network = to_double(HolomorphicNetwork(3, 5, depth))
    z, v = complex_normal(4, 3), complex_normal(2, 4, 3)
    value, change = network.pushforward(z, v)
    torch.testing.assert_close(value, network(z))
    for k in range(2):
        torch.testing.assert_close(change[k], torch.func.jvp(network, (z,), (v[k],))[1])


@pytest.mark.parametrize("count", [2, 9])  # fewer points than directions, and more
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_jacobian_of_a_holomorphic_network_is_its_derivatives_along_the_axes(depth, count):
    torch.manual_seed(0)
    network = to_double(HolomorphicNetwork(3, 5, depth))
    with torch.no_grad():
        for bias in (layer.bias for layer in [*network.factors, *network.gates]):
            bias.copy_(complex_normal(5))
    z = complex_normal(count, 3)
    axes = torch.eye(3, dtype=z.dtype).unsqueeze(1).expand(3, count, 3)
    for ours, theirs in zip(network.jacobian(z), network.pushforward(z, axes), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_holomorphic_network_keeps_the_size_of_features():
    torch.manual_seed(0)
    z = torch.randn(500, 8, dtype=torch.complex64)
    for depth in (1, 3, 5):
        size = HolomorphicNetwork(8, 256, depth)(z).abs().square().mean().item()
        assert 0.5 < size / 3**depth < 3  # E|A f|² · E|1 + B z|² / 2 = 2 · 3 / 2 a layer


def test_to_double_copies():
    layer = ComplexLinear(2, 2)
    double = to_double(layer)
    assert double.weight.dtype == torch.complex128
    assert layer.weight.dtype == torch.complex64
    torch.testing.assert_close(double.weight.to(torch.complex64), layer.weight)


@pytest.mark.parametrize("size", [0, -1, 2.0])
def test_sizes_of_layers_are_whole_numbers(size):
    for layer in (ComplexLinear, RealInput, RealOutput):
        for sizes in ((size, 3), (3, size)):
            with pytest.raises(InputError, match=f"of a layer is {size}: give a whole number"):
                layer(*sizes)
    for name in ("features_in", "width", "depth"):
        with pytest.raises(InputError, match=f"{name} of a network is {size}: give a whole number"):
            HolomorphicNetwork(**{"features_in": 2, "width": 4, "depth": 1} | {name: size})
    with pytest.raises(InputError, match="count of hidden layers is -1: give a whole number"):
        hidden(ComplexLinear, SmoothCardioid, 4, -1)
