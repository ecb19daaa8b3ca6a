"""Complex linear maps, their real ends, and a smooth activation.

Layers of a decoder carry a ``pushforward``: the real directional derivative in closed form, for
tangents with any leading axes, several times cheaper than forward-mode differentiation.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional

from kahlervae.nn.precision import OnePrecision
from kahlervae.options import check_count, check_sizes

__all__ = [
    "ComplexLinear",
    "HolomorphicNetwork",
    "HolomorphicQuadratic",
    "RealInput",
    "RealOutput",
    "SmoothCardioid",
    "hidden",
]


class ComplexLinear(OnePrecision):
    r"""Complex affine map.

    .. math:: z \mapsto W z + b, \qquad W_{ij} \sim CN(0, 2 / n_{\mathrm{in}}), \quad b = 0

    The variance is He's, for activations that halve the second moment.

    Example:
        >>> layer, z = ComplexLinear(3, 2), torch.ones(5, 3, dtype=torch.complex64)
        >>> torch.allclose(layer(1j * z), 1j * layer(z), atol=1e-6)  # linear over C
        True
    """

    def __init__(self, features_in: int, features_out: int) -> None:
        super().__init__()
        check_sizes("a layer", features_in=features_in, features_out=features_out)
        scale = math.sqrt(2 / features_in)
        self.weight = nn.Parameter(
            torch.empty(features_out, features_in, dtype=torch.complex64).normal_().mul_(scale)
        )
        self.bias = nn.Parameter(torch.zeros(features_out, dtype=torch.complex64))

    def forward(self, z: Complex[Tensor, "*batch n"]) -> Complex[Tensor, "*batch m"]:
        return functional.linear(z, self.weight, self.bias)

    def pushforward(self, z: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """The value at z and the derivatives along the tangents."""
        return self(z), functional.linear(tangent, self.weight)


class RealInput(nn.Module):
    r"""Complex affine map of a real vector: :math:`x \mapsto W x + b` with complex W and b.

    Example:
        >>> RealInput(3, 2)(torch.zeros(5, 3)).dtype
        torch.complex64
    """

    def __init__(self, features_in: int, features_out: int) -> None:
        super().__init__()
        check_sizes("a layer", features_in=features_in, features_out=features_out)
        self.linear = nn.Linear(features_in, 2 * features_out)

    def forward(self, x: Float[Tensor, "*batch n"]) -> Complex[Tensor, "*batch m"]:
        return torch.complex(*self.linear(x).chunk(2, dim=-1))


class RealOutput(nn.Module):
    r"""Real part of a complex affine map: :math:`z \mapsto \mathrm{Re}(W z + b)`.

    Example:
        >>> RealOutput(3, 2)(torch.zeros(5, 3, dtype=torch.complex64)).dtype
        torch.float32
    """

    def __init__(self, features_in: int, features_out: int) -> None:
        super().__init__()
        check_sizes("a layer", features_in=features_in, features_out=features_out)
        self.linear = nn.Linear(2 * features_in, features_out)

    def forward(self, z: Complex[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        return self.linear(torch.cat([z.real, z.imag], dim=-1))

    def pushforward(self, z: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """The value at z and the derivatives along the tangents."""
        flat = torch.cat([tangent.real, tangent.imag], dim=-1)
        return self(z), functional.linear(flat, self.linear.weight)


class SmoothCardioid(nn.Module):
    r"""Complex cardioid, smoothed at the origin.

    .. math:: z \mapsto \tfrac12 \Bigl(1 + \frac{\mathrm{Re}\, z}{\sqrt{|z|^2 + s^2}}\Bigr) z

    For s = 0 it is the cardioid of Virtue, Yu & Lustig (2017), which has no second derivative at
    the origin; with s > 0 it is smooth everywhere, so that curvature can be read off a decoder.

    Args:
        softness: s, in the units of z.

    Example:
        What points to the right passes, what points to the left is held back:

        >>> z = torch.tensor([1000 + 0j, 1000j, -1000 + 0j])
        >>> [round(abs(value)) for value in SmoothCardioid()(z).tolist()]
        [1000, 500, 0]
    """

    def __init__(self, softness: float = 1.0) -> None:
        super().__init__()
        self.softness = softness

    def forward(self, z: Complex[Tensor, "*shape"]) -> Complex[Tensor, "*shape"]:
        a, b = z.real, z.imag
        return z * (0.5 + 0.5 * a * torch.rsqrt(a * a + b * b + self.softness**2))

    def pushforward(self, z: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """The value at z and the derivatives along the tangents."""
        a, b = z.real, z.imag
        inverse = torch.rsqrt(a * a + b * b + self.softness**2)
        cosine = a * inverse
        gate = 0.5 + 0.5 * cosine
        # The derivative of the gate along v is ½ (Re v − cosine · Re(z̄v) / r) / r, r² = |z|² + s².
        along = 0.5 * inverse
        radial = along * cosine * inverse
        slope = (along - radial * a) * tangent.real - radial * b * tangent.imag
        return z * gate, gate * tangent + slope * z


class HolomorphicQuadratic(nn.Module):
    r"""Holomorphic activation :math:`z \mapsto (z + z^2/4) / \sqrt 2`.

    A polynomial, since every bounded holomorphic function on C is constant (Liouville), the
    exponential and its kin (sin, sinh) grow exponentially in some direction, and tanh has poles.
    Like the cardioid it about halves the second moment.

    Example:
        >>> round(abs(HolomorphicQuadratic()(torch.tensor(2 + 0j)).item()), 4)  # 3/√2
        2.1213
    """

    def forward(self, z: Complex[Tensor, "*shape"]) -> Complex[Tensor, "*shape"]:
        return z * (1 + 0.25 * z) / math.sqrt(2)

    def pushforward(self, z: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """The value at z and the derivatives along the tangents."""
        return self(z), (1 + 0.5 * z) / math.sqrt(2) * tangent


class HolomorphicNetwork(nn.Module):
    r"""Holomorphic features of z by products with affine functions of z.

    .. math:: f_1 = \frac{(A_1 z + a_1) \odot (1 + B_1 z + b_1)}{\sqrt 2}, \qquad
              f_{k+1} = \frac{(A_{k+1} f_k + a_{k+1}) \odot (1 + B_{k+1} z + b_{k+1})}{\sqrt 2}

    Polynomials of degree depth + 1, where compositions of quadratic layers have 2^depth: what
    limits a holomorphic network is that it cannot saturate (Liouville), so that a high degree grows
    without bound outside of the data, and the gradient with it. Multiplicative layers with a skip
    from the input are those of Π-nets (Chrysos et al. 2020), here over C.

    Args:
        features_in: d.
        width: number of features.
        depth: number of layers.

    Example:
        >>> network = HolomorphicNetwork(2, 8, depth=3)
        >>> z, v = torch.randn(2, 5, 2, dtype=torch.complex64).unbind()
        >>> _, along = network.pushforward(z, v)
        >>> _, turned = network.pushforward(z, 1j * v)
        >>> torch.allclose(turned, 1j * along, atol=1e-5)  # Cauchy–Riemann
        True
    """

    def __init__(self, features_in: int, width: int, depth: int) -> None:
        super().__init__()
        check_sizes("a network", features_in=features_in, width=width, depth=depth)
        sizes = [features_in, *[width] * (depth - 1)]
        self.factors = nn.ModuleList(ComplexLinear(size, width) for size in sizes)
        self.gates = nn.ModuleList(ComplexLinear(features_in, width) for _ in range(depth))

    def forward(self, z: Complex[Tensor, "*batch d"]) -> Complex[Tensor, "*batch width"]:
        features = z
        for factor, gate in zip(self.factors, self.gates, strict=True):
            features = factor(features) * (1 + gate(z)) / math.sqrt(2)
        return features

    def pushforward(self, z: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """The value at z and the derivatives along the tangents."""
        first: Any = self.factors[0]
        return self._multiplied(first.pushforward(z, tangent), z, tangent, 0)

    def jacobian(
        self, z: Complex[Tensor, "n d"]
    ) -> tuple[Complex[Tensor, "n width"], Complex[Tensor, "d n width"]]:
        r"""The value at z and all derivatives ∂_i, what :meth:`pushforward` gives along the axes.

        Since :math:`f_1` is quadratic, its derivatives are affine in z,

        .. math:: A_2\, \partial_i f_1(z) = A_2\, \partial_i f_1(0)
                  + \sum_j z_j\, A_2\, \partial_i \partial_j f_1,

        so that of many points the coefficients are multiplied by A_2, once, and not the derivatives
        at every one of them.
        """
        axes = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device).unsqueeze(1)
        if len(self.factors) == 1 or len(z) <= z.shape[-1]:
            features, change = self.pushforward(z, axes)
            return features, change.expand(-1, len(z), -1)
        layers: list[Any] = [self.factors[0], self.gates[0], self.factors[1]]
        first, gate, second = layers
        slope, turn = first.weight.mT, gate.weight.mT
        start = slope * (1 + gate.bias) + turn * first.bias
        bend = slope.unsqueeze(1) * turn + slope * turn.unsqueeze(1)
        weight = second.weight / math.sqrt(2)
        start, bend = functional.linear(start, weight), functional.linear(bend, weight)
        change = torch.baddbmm(start.unsqueeze(1), z.expand(len(axes), *z.shape), bend)
        value = second(first(z) * (1 + gate(z)) / math.sqrt(2))
        return self._multiplied((value, change), z, axes, 1)

    def _multiplied(
        self, left: tuple[Tensor, Tensor], z: Tensor, tangent: Tensor, layer: int
    ) -> tuple[Tensor, Tensor]:
        """The layers from that one on, of which the first factor and its derivatives are known."""
        value, change = left
        for k in range(layer, len(self.gates)):
            factor: Any = self.factors[k]
            gate: Any = self.gates[k]
            if k > layer:
                value, change = factor.pushforward(value, change)
            right, right_change = gate.pushforward(z, tangent)
            right = (1 + right) / math.sqrt(2)
            change = torch.addcmul(change * right, value, right_change / math.sqrt(2))
            value = value * right
        return value, change


def hidden(
    linear: Callable[[int, int], nn.Module],
    activation: Callable[[], nn.Module],
    width: int,
    count: int,
) -> list[nn.Module]:
    """So many pairs of a layer of that width and an activation.

    Example:
        >>> [type(layer).__name__ for layer in hidden(ComplexLinear, SmoothCardioid, 8, 2)]
        ['ComplexLinear', 'SmoothCardioid', 'ComplexLinear', 'SmoothCardioid']
    """
    check_count("count of hidden layers", count, least=0)
    return [layer for _ in range(count) for layer in (linear(width, width), activation())]
