"""The geometry of a decoder from its values alone, by finite differences in float64.

No derivative of torch is used, and no closed form of a Fisher information: the metric is the
leading coefficient of torch's relative entropies between a decoder's distributions nearby,
everything else follows from differences of metrics. The stencils are of eighth order and their
steps are wide, so that truncation and rounding both stay near 1e-11 of the metric.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from kahlervae.models.likelihoods import ComplexGaussian, DenseComplexGaussian, RealGaussian

Decoder = Callable[[Tensor], Any]

STEP = 0.02
ORDER = torch.arange(1, 5, dtype=torch.float64)
FIRST = torch.tensor([4 / 5, -1 / 5, 4 / 105, -1 / 280], dtype=torch.float64)
"""f′ h = Σ_k FIRST_k (f(kh) − f(−kh)) + O(h⁹)."""
SECOND = torch.tensor([8 / 5, -1 / 5, 8 / 315, -1 / 560], dtype=torch.float64)
"""f″ h² = Σ_k SECOND_k (f(kh) − 2f(0) + f(−kh)) + O(h¹⁰)."""
EVEN = torch.tensor([8 / 5, -4 / 5, 8 / 35, -1 / 35], dtype=torch.float64)
"""f(0) = Σ_k EVEN_k f(kh) + O(h⁸) of an even function."""


class Reference:
    """What a decoder's geometry has to be.

    Args:
        decoder: complex128 latents (n, d) to a distribution of float64 parameters.
        step: h of the stencils.
    """

    def __init__(self, decoder: Decoder, step: float = STEP) -> None:
        self.decoder = decoder
        self.step = step

    def squares(self, z: Tensor, vectors: Tensor) -> Tensor:
        """F(v, v) of k vectors at every point, (k, n, d) or (k, 1, d) for the same ones, as (k, n).

        KL(p_{z−tv} ‖ p_{z+tv}) + KL(p_{z+tv} ‖ p_{z−tv}) = 4t² F(v, v) + O(t⁴), even in t.
        """
        shift = self.step * ORDER[:, None, None, None] * vectors
        forwards, backwards = ((z + sign * shift).flatten(0, 2) for sign in (1, -1))
        with torch.no_grad(), _unvalidated():
            p, q = self.decoder(forwards), self.decoder(backwards)
            entropy = relative_entropy(p, q) + relative_entropy(q, p)
        entropy = entropy.reshape(len(forwards), -1).sum(1).unflatten(0, (4, len(vectors), -1))
        return torch.einsum("k,kvn->vn", EVEN / (2 * self.step * ORDER) ** 2, entropy)

    def form(self, z: Tensor) -> Tensor:
        """Real Fisher form (n, 2d, 2d) in (a, b)."""
        return _polarised(lambda vectors: self.squares(z, vectors), z)

    def metric(self, z: Tensor) -> Tensor:
        """g_ij̄ = F(∂_i, ∂̄_j)."""
        return _wirtinger(z) @ self.form(z).to(z.dtype) @ _wirtinger(z).mH

    def relation(self, z: Tensor) -> Tensor:
        """g_ij = F(∂_i, ∂_j)."""
        return _wirtinger(z) @ self.form(z).to(z.dtype) @ _wirtinger(z).mT

    def norm(self, z: Tensor, v: Tensor) -> Tensor:
        """g(v, v) = ¼ [F(v, v) + F(iv, iv)]."""
        return self.squares(z, torch.stack([v, 1j * v])).sum(0) / 4

    def hermitian_defect(self, z: Tensor) -> Tensor:
        return size(self.relation(z)) / size(self.metric(z))

    def change(self, z: Tensor) -> Tensor:
        """[n, m, i, j], the derivatives of the metric along the 2d real axes."""
        axes = _axes(z)
        shift = self.step * torch.cat([ORDER, -ORDER])[:, None, None, None] * axes[:, None]
        values = self.metric((z + shift).flatten(0, 2)).unflatten(0, (2, 4, len(axes), len(z)))
        weights = (FIRST / self.step).to(z.dtype)
        return torch.einsum("k,kmnij->nmij", weights, values[0] - values[1])

    def closedness_defect(self, z: Tensor) -> Tensor:
        return closedness_defect(self.change(z))

    def christoffel(self, z: Tensor) -> Tensor:
        """[n, k, i, j] = g^{kl̄} ∂_i g_jl̄."""
        inverse, derivative = torch.linalg.inv(self.metric(z)), _holomorphic(self.change(z))
        return torch.einsum("nlk,nijl->nkij", inverse, derivative)

    def log_det(self, z: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(self.metric(z)).log().sum(-1)

    def log_det_gradient(self, z: Tensor) -> Tensor:
        return log_det_gradient(self.metric(z), self.change(z))

    def ricci(self, z: Tensor) -> Tensor:
        """−∂_i ∂̄_j log det g."""
        step = 1.5 * self.step

        def second_derivatives(vectors: Tensor) -> Tensor:
            shift = step * torch.cat([ORDER, -ORDER])[:, None, None, None] * vectors
            shifted = self.log_det((z + shift).flatten(0, 2))
            change = shifted.unflatten(0, (2, 4, -1, len(z))).sum(0) - 2 * self.log_det(z)
            return torch.einsum("k,kvn->vn", SECOND / step**2, change)

        hessian = _polarised(second_derivatives, z).to(z.dtype)
        return -_wirtinger(z) @ hessian @ _wirtinger(z).mH

    def scalar_curvature(self, z: Tensor) -> Tensor:
        """tr(G⁻¹ R)."""
        return torch.einsum("nji,nij->n", torch.linalg.inv(self.metric(z)), self.ricci(z)).real

    def curve_energy(self, curves: Tensor) -> Tensor:
        """T/2 Σ_t g(Δ_t, Δ_t) at the midpoints of T steps."""
        change, middle = curves.diff(dim=1), (curves[:, 1:] + curves[:, :-1]) / 2
        squares = self.norm(middle.flatten(0, 1), change.flatten(0, 1))
        return change.shape[1] / 2 * squares.unflatten(0, middle.shape[:2]).sum(1)


def closedness_defect(change: Tensor) -> Tensor:
    """‖∂_k g_ij̄ − ∂_i g_kj̄‖ / ‖∂_k g_ij̄‖ from the derivatives along the real axes."""
    derivative = _holomorphic(change)
    return size(derivative - derivative.transpose(1, 2)) / size(derivative)


def log_det_gradient(metric: Tensor, change: Tensor) -> Tensor:
    """∂_a + i∂_b of log det g, torch's convention, by Jacobi's tr(g⁻¹ Dg)."""
    inverse = torch.linalg.inv_ex(metric).inverse  # without an error where it is singular
    slopes = torch.einsum("nji,nmij->nm", inverse, change).real
    return torch.complex(*slopes.chunk(2, dim=1))


def along(f: Callable[[float], Tensor], step: float = STEP / 16) -> Tensor:
    """f′(0) of a function of one real number, which may be steep."""
    changes = [f(k * step) - f(-k * step) for k in ORDER.tolist()]
    return torch.einsum("k,k...->...", FIRST / step, torch.stack(changes))


@contextmanager
def moved(parameters: list[Tensor], direction: list[Tensor], t: float) -> Iterator[None]:
    """Parameters moved by t along a direction, and back."""
    values = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, value, change in zip(parameters, values, direction, strict=True):
            parameter.copy_(value + t * change)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, values, strict=True):
                parameter.copy_(value)


def converged(decoder: Decoder, z: Tensor, count: int) -> Tensor:
    """The first of the rows where these differences do not depend on their step.

    There is no kink near them then. First by the form alone, with a step that reaches as far as all
    stencils together; then by the Ricci curvature, which asks most of differences, and may be off
    by a tenth of what is allowed to others.
    """
    near, far, farther = (Reference(decoder, factor * STEP) for factor in (1, 4 / 3, 2))
    found = z[:0]
    for part in z.split(4 * count):
        part = part[disagreement(farther.form(part), near.form(part)) <= 1e-6][:count]
        if len(part):
            found = torch.cat(
                [found, part[disagreement(far.ricci(part), near.ricci(part)) <= 1e-6]]
            )
        if len(found) >= count:
            break
    return found[:count]


def size(tensor: Tensor) -> Tensor:
    """Norms of the rows."""
    return tensor.reshape(len(tensor), -1).norm(dim=1)


def disagreement(value: Tensor, expected: Tensor) -> Tensor:
    """Relative errors of the rows; infinite where they are no numbers."""
    return (size(value - expected) / size(expected)).nan_to_num(torch.inf)


def _polarised(squares: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """The symmetric form (n, 2d, 2d) on the real axes of which the squares are given."""
    axes = _axes(z)
    i, j = torch.triu_indices(len(axes), len(axes), 1)
    vectors = torch.cat([axes, axes[i] + axes[j]]).unsqueeze(1)
    diagonal, sums = squares(vectors).mT.split([len(axes), len(i)], dim=1)
    result = torch.diag_embed(diagonal)
    result[:, i, j] = result[:, j, i] = (sums - diagonal[:, i] - diagonal[:, j]) / 2
    return result


def _axes(z: Tensor) -> Tensor:
    """e_i and ie_i, (2d, d)."""
    eye = torch.eye(z.shape[1], dtype=z.dtype)
    return torch.cat([eye, 1j * eye])


def _wirtinger(z: Tensor) -> Tensor:
    """∂_i = ½ (∂_a − i∂_b) in the real axes, (d, 2d)."""
    eye = torch.eye(z.shape[1], dtype=z.dtype)
    return torch.cat([eye, -1j * eye], dim=1) / 2


def _holomorphic(change: Tensor) -> Tensor:
    """[n, k, i, j] = ∂_k g_ij̄ from the derivatives along the real axes."""
    real, imaginary = change.chunk(2, dim=1)
    return (real - 1j * imaginary) / 2


@contextmanager
def _unvalidated() -> Iterator[None]:
    """Where a decoder is not defined nearby, its values are no numbers and raise no error."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def relative_entropy(p: Any, q: Any) -> Tensor:
    """KL(p ‖ q) by torch, or what has the same second derivatives at p = q and is smooth."""
    if isinstance(p, Independent):
        return relative_entropy(p.base_dist, q.base_dist)
    if isinstance(p, Laplace):
        # Its own has a third derivative that jumps. Fisher: (dμ² + db²)/b², half that of a Normal.
        return kl_divergence(Normal(2**0.5 * p.loc, p.scale), Normal(2**0.5 * q.loc, q.scale)) / 2
    return kl_divergence(_standard(p), _standard(q))


def _standard(p: Any) -> Distribution:
    """One of torch's: CN(μ, Σ) is a normal distribution of the real and imaginary parts."""
    if isinstance(p, RealGaussian):
        return Normal(p.mean, (p.log_var / 2).exp())
    if isinstance(p, ComplexGaussian):
        scale = (p.log_var / 2).exp() / 2**0.5
        return Independent(
            Normal(torch.view_as_real(p.mean.resolve_conj()), scale.unsqueeze(-1)), 1
        )
    if isinstance(p, DenseComplexGaussian):
        real, imaginary = p.covariance.real, p.covariance.imag
        rows = [torch.cat([real, -imaginary], dim=-1), torch.cat([imaginary, real], dim=-1)]
        mean = torch.cat([p.mean.real, p.mean.imag], dim=-1)
        return MultivariateNormal(mean, torch.cat(rows, dim=-2) / 2)
    return p
