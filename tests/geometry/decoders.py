"""Random smooth decoders in float64 for every likelihood."""

import torch
from torch import Tensor

from kahlervae.models.likelihoods import ComplexGaussian, DenseComplexGaussian, RealGaussian
from kahlervae.nn import ComplexLinear, SmoothCardioid, to_double

OUTPUT_DIM = 5


def points(count: int, latent_dim: int, seed: int = 0) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(count, latent_dim, generator=stream, dtype=torch.complex128)


def _network(latent_dim: int, features_out: int, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return to_double(
        torch.nn.Sequential(
            ComplexLinear(latent_dim, 7), SmoothCardioid(), ComplexLinear(7, features_out)
        )
    )


def real_gaussian(latent_dim: int, seed: int = 0):
    network = _network(latent_dim, 2 * OUTPUT_DIM, seed)

    def decoder(z: Tensor) -> RealGaussian:
        mean, log_var = network(z).real.chunk(2, dim=-1)
        return RealGaussian(mean, 0.3 * log_var)

    return decoder


def complex_gaussian(latent_dim: int, seed: int = 0):
    network = _network(latent_dim, 2 * OUTPUT_DIM, seed)

    def decoder(z: Tensor) -> ComplexGaussian:
        mean, log_var = network(z).chunk(2, dim=-1)
        return ComplexGaussian(mean, 0.3 * log_var.real)

    return decoder


def dense_complex_gaussian(latent_dim: int, seed: int = 0):
    network = _network(latent_dim, 4 * OUTPUT_DIM, seed)
    eye = torch.eye(OUTPUT_DIM, dtype=torch.complex128)

    def decoder(z: Tensor) -> DenseComplexGaussian:
        features = network(z)
        factor = 0.3 * features[..., OUTPUT_DIM:].unflatten(-1, (OUTPUT_DIM, 3))
        return DenseComplexGaussian(features[..., :OUTPUT_DIM], eye + factor @ factor.mH)

    return decoder


def holomorphic(latent_dim: int, seed: int = 0):
    """μ(z) polynomial in z, constant variance: the control in which the metric is Kähler."""
    stream = torch.Generator().manual_seed(seed)
    linear, square = torch.randn(
        2, latent_dim, OUTPUT_DIM, generator=stream, dtype=torch.complex128
    )
    log_var = torch.randn(OUTPUT_DIM, generator=stream, dtype=torch.float64)

    def decoder(z: Tensor) -> ComplexGaussian:
        mean = z @ linear + (z * z) @ square
        return ComplexGaussian(mean, log_var.expand(mean.shape))

    return decoder


DECODERS = {
    "real": real_gaussian,
    "complex": complex_gaussian,
    "dense complex": dense_complex_gaussian,
    "holomorphic": holomorphic,
}
