import pytest
import torch
from geometry.decoders import complex_gaussian, points

from kahlervae.errors import InputError
from kahlervae.geometry import (
    hermitian_part,
    holomorphic_part,
    mixed_hessian,
    real_hessian,
    wirtinger,
)


def test_derivatives_of_a_polynomial():
    z = points(6, 2)
    _, d, d_bar = wirtinger(lambda z: z[:, 0] ** 2 * z[:, 1].conj() + 3 * z[:, 1], z)
    a, b = z.unbind(-1)
    torch.testing.assert_close(d, torch.stack([2 * a * b.conj(), torch.full_like(a, 3)], -1))
    torch.testing.assert_close(d_bar, torch.stack([torch.zeros_like(a), a**2], -1))


def test_derivatives_of_a_network_against_finite_differences():
    decoder, z, h = complex_gaussian(3), points(4, 3), 1e-6
    _, d, d_bar = wirtinger(lambda z: decoder(z).mean, z)
    for i in range(3):
        step = torch.zeros_like(z)
        step[:, i] = h
        real = (decoder(z + step).mean - decoder(z - step).mean) / (2 * h)
        imaginary = (decoder(z + 1j * step).mean - decoder(z - 1j * step).mean) / (2 * h)
        torch.testing.assert_close(d[..., i], (real - 1j * imaginary) / 2, atol=1e-8, rtol=1e-7)
        torch.testing.assert_close(d_bar[..., i], (real + 1j * imaginary) / 2, atol=1e-8, rtol=1e-7)


def test_holomorphic_functions_have_no_antiholomorphic_derivative():
    _, _, d_bar = wirtinger(lambda z: torch.exp(z) * z.sum(-1, keepdim=True), points(5, 3))
    assert d_bar.abs().max() < 1e-14


def test_parts_of_a_quadratic_form():
    """f = z†Hz + Re(zᵀSz) has ∂∂̄f = Hᵀ and ∂∂f = S."""
    stream = torch.Generator().manual_seed(1)
    h, s = torch.randn(2, 3, 3, generator=stream, dtype=torch.complex128)
    h, s = h + h.mH, s + s.mT

    def f(z):
        hermitian = torch.einsum("ni,ij,nj->n", z.conj(), h, z).real
        return hermitian + torch.einsum("ni,ij,nj->n", z, s, z).real

    z = points(4, 3)
    hessian = real_hessian(f, z)
    torch.testing.assert_close(hermitian_part(hessian), h.mT.expand(4, 3, 3))
    torch.testing.assert_close(holomorphic_part(hessian), s.expand(4, 3, 3))


@pytest.mark.parametrize("d", [1, 2, 4])
def test_mixed_hessian_against_finite_differences(d):
    z, h = points(3, d, seed=2), 1e-4
    decoder = complex_gaussian(d)

    def f(z):
        return decoder(z).log_var.exp().sum(-1)

    expected = torch.zeros(3, d, d, dtype=torch.complex128)
    for i in range(d):
        for j in range(d):
            for u, weight_u in ((1, 1), (1j, -1j)):  # ∂_i = ½(∂_a − i∂_b)
                for v, weight_v in ((1, 1), (1j, 1j)):  # ∂̄_j = ½(∂_a + i∂_b)
                    p, q = torch.zeros_like(z), torch.zeros_like(z)
                    p[:, i], q[:, j] = h * u, h * v
                    second = f(z + p + q) - f(z + p - q) - f(z - p + q) + f(z - p - q)
                    expected[:, i, j] += weight_u * weight_v * second / (16 * h * h)
    torch.testing.assert_close(mixed_hessian(f, z), expected, atol=1e-6, rtol=1e-6)


def test_functions_of_complex_values_have_no_hessian():
    for of in (mixed_hessian, real_hessian):
        with pytest.raises(InputError, match="does not return real numbers"):
            of(lambda z: (z * z.conj()).sum(1), torch.tensor([[3.0 + 1j]]))


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4,), (5, 1, 1)])
def test_forms_that_have_no_halves_are_refused(shape):
    for part in (hermitian_part, holomorphic_part):
        with pytest.raises(InputError, match="its last two axes have to be 2d"):
            part(torch.zeros(shape))


def test_latents_are_complex_and_may_be_conjugated_lazily():
    for of in (wirtinger, mixed_hessian, real_hessian):
        with pytest.raises(InputError, match="z is real"):
            of(lambda z: z**2, torch.tensor([[3.0]]))
    z = torch.tensor([[1 + 2j]]).conj()
    _, derivative, conjugate = wirtinger(lambda z: z**2 * z.conj(), z)
    torch.testing.assert_close(derivative[..., 0], 2 * z * z.conj())
    torch.testing.assert_close(conjugate[..., 0], (z**2).resolve_conj())
