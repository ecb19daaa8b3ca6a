"""Random small decoders of the zoo's layers with random likelihoods, against finite differences.

``KAHLERVAE_ARCHITECTURES=20000`` asks for as many of them; CI takes the first :data:`EXAMPLES`.
"""

import math
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from geometry import finite_differences
from geometry.finite_differences import Reference, disagreement, log_det_gradient
from geometry.test_zoo import REFUSED
from geometry.zoo import ZOO, Decoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch import distributions as dist

from kahlervae.geometry import (
    closedness_defect,
    fisher_metric,
    hermitian_defect,
    log_det,
)
from kahlervae.models.likelihoods import ComplexGaussian, DenseComplexGaussian, RealGaussian

EXAMPLES = int(os.environ.get("KAHLERVAE_ARCHITECTURES", 500))
TOLERANCE = 1e-6

STEPS = (0.02, 0.05, 0.01, 0.005)

LAYERS = sorted(set(ZOO) - set(REFUSED) - {"loop over rows"})
SHAPES = [(6,), (2, 4), (1, 2, 3)]
"""Of data, without the batch."""

REFUSALS = ("ill-defined", "to satisfy the constraint", "positive-definite", "finite")
"""Said of eigenvectors that have no derivative, of covariances that are none, and of NaN."""


class Features:
    """Real numbers (n, k), handed out in the shapes that are asked for."""

    def __init__(self, x: Tensor, spread: str) -> None:
        self.x = x
        self.spread = spread
        self.taken = 0

    def real(self, *shape: int) -> Tensor:
        count = math.prod(shape)
        part = self.x[:, self.taken : self.taken + count]
        self.taken += count
        return part.unflatten(-1, shape)

    def positive(self, *shape: int) -> Tensor:
        return F.softplus(self.real(*shape)) + 0.3

    def complex(self, *shape: int) -> Tensor:
        return torch.complex(self.real(*shape), self.real(*shape))

    def scale(self, *shape: int) -> Tensor:
        """Positive; one for all data, or for every latent, channel or entry."""
        if self.spread == "none":
            return torch.tensor(0.7, dtype=self.x.dtype)
        kept = {"row": 0, "channel": 1, "entry": len(shape)}[self.spread]
        return self.positive(*shape[:kept], *[1] * (len(shape) - kept))


def multivariate(kind: str, f: Features, *shape: int) -> dist.Distribution:
    mean = f.real(*shape)
    factor = 0.3 * f.real(*shape, shape[-1]).tril(-1) + torch.diag_embed(f.positive(*shape))
    matrix = factor if kind == "scale_tril" else factor @ factor.mT
    return dist.MultivariateNormal(mean, **{kind: matrix})


def dense_complex(f: Features, *shape: int) -> DenseComplexGaussian:
    count = math.prod(shape)
    mean, factor = f.complex(count), 0.3 * f.complex(count, 2)
    eye = torch.eye(count, dtype=mean.dtype)
    return DenseComplexGaussian(mean, eye + factor @ factor.mH)


LIKELIHOODS: dict[str, Callable[..., object]] = {
    "Normal": lambda f, *s: dist.Normal(f.real(*s), f.scale(*s)),
    "LogNormal": lambda f, *s: dist.LogNormal(f.real(*s), f.scale(*s)),
    "Laplace": lambda f, *s: dist.Laplace(f.real(*s), f.scale(*s)),
    "MultivariateNormal by scale_tril": partial(multivariate, "scale_tril"),
    "MultivariateNormal by covariance": partial(multivariate, "covariance_matrix"),
    "MultivariateNormal by precision": partial(multivariate, "precision_matrix"),
    "LowRankMultivariateNormal": lambda f, *s: dist.LowRankMultivariateNormal(
        f.real(*s), 0.5 * f.real(*s, 2), f.positive(*s)
    ),
    "Bernoulli by logits": lambda f, *s: dist.Bernoulli(logits=f.real(*s)),
    "Bernoulli by probs": lambda f, *s: dist.Bernoulli(probs=f.real(*s).sigmoid()),
    "ContinuousBernoulli by logits": lambda f, *s: dist.ContinuousBernoulli(
        logits=f.positive(*s) + 0.5
    ),
    "ContinuousBernoulli by probs": lambda f, *s: dist.ContinuousBernoulli(
        probs=(-f.positive(*s) - 0.5).sigmoid()
    ),
    "Categorical by logits": lambda f, *s: dist.Categorical(logits=f.real(*s, 3)),
    "Categorical by probs": lambda f, *s: dist.Categorical(probs=f.positive(*s, 3)),
    "OneHotCategorical": lambda f, *s: dist.OneHotCategorical(logits=f.real(*s, 4)),
    "Poisson": lambda f, *s: dist.Poisson(f.positive(*s)),
    "Exponential": lambda f, *s: dist.Exponential(f.positive(*s)),
    "Gamma": lambda f, *s: dist.Gamma(f.positive(*s), f.scale(*s)),
    "Beta": lambda f, *s: dist.Beta(f.positive(*s), f.scale(*s)),
    "Dirichlet": lambda f, *s: dist.Dirichlet(f.positive(*s, 3)),
    "RealGaussian": lambda f, *s: RealGaussian(f.real(*s), f.scale(*s).log()),
    "ComplexGaussian": lambda f, *s: ComplexGaussian(f.complex(*s), f.scale(*s).log()),
    "DenseComplexGaussian": dense_complex,
}


@dataclass(frozen=True)
class Architecture:
    """All that a random decoder is made from."""

    latent_dim: int
    layers: tuple[str, ...]
    likelihood: str
    shape: tuple[int, ...]
    spread: str
    independent: bool
    seed: int

    def head(self, x: Tensor) -> object:
        return self.distribution(Features(x, self.spread))

    def distribution(self, features: Features) -> object:
        p = LIKELIHOODS[self.likelihood](features, *self.shape)
        if self.independent and isinstance(p, dist.Distribution):
            return dist.Independent(p, len(p.batch_shape) - 1)
        return p

    def decoder(self) -> Decoder:
        features = Features(torch.ones(1, 1000, dtype=torch.float64), self.spread)
        self.distribution(features)
        layers = [ZOO[name] for name in self.layers]
        return Decoder(layers, self.latent_dim, features.taken, self.head, self.seed)

    def latents(self, decoder: Decoder) -> Tensor:
        """Of random ones those where finite differences are best: far from kinks, far from rank."""
        stream = torch.Generator().manual_seed(self.seed)
        z = torch.randn(16, self.latent_dim, generator=stream, dtype=torch.complex128)
        near, far = (Reference(decoder, step).metric(z) for step in STEPS[:2])
        doubt = disagreement(far, near).clamp(min=1e-9) * condition(near)
        return z[doubt.argsort()[: 1 + (self.latent_dim < 3)]]


def condition(metric: Tensor) -> Tensor:
    values = torch.linalg.eigvalsh(metric.nan_to_num())
    return values[:, -1] / values[:, 0].clamp(min=1e-12)


def choose(seed: int) -> Architecture:
    """One of all, each as likely as any other: hypothesis itself would favour the simplest."""
    stream = random.Random(seed)
    return Architecture(
        latent_dim=stream.choice([1, 2, 2, 2, 3, 4]),
        layers=tuple(stream.choices(LAYERS, k=stream.randint(1, 4))),
        likelihood=stream.choice(sorted(LIKELIHOODS)),
        shape=stream.choice(SHAPES),
        spread=stream.choice(["none", "row", "channel", "entry"]),
        independent=stream.random() < 0.5,
        seed=seed,
    )


architectures = st.integers(0, 2**32).map(choose)


def ours(decoder: Decoder, z: Tensor) -> dict[str, Tensor]:
    metric = partial(fisher_metric, decoder)
    x = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(log_det(metric(x)).sum(), x)
    return {
        "metric": metric(z),
        "hermitian defect": hermitian_defect(decoder, z),
        "closedness defect": closedness_defect(metric, z),
        "gradient of log det": gradient,
    }


def expected(decoder: Decoder, z: Tensor, step: float) -> dict[str, Tensor]:
    reference = Reference(decoder, step)
    metric, change = reference.metric(z), reference.change(z)
    return {
        "metric": metric,
        "hermitian defect": reference.hermitian_defect(z),
        "closedness defect": finite_differences.closedness_defect(change),
        "gradient of log det": log_det_gradient(metric, change),
    }


def errors(found: dict[str, Tensor], reference: dict[str, Tensor]) -> dict[str, float]:
    """The worst row of each quantity: relative to its size, but for defects, which are relative."""
    worst = {}
    for name, value in found.items():
        other = reference[name]
        off = (value - other).abs() if "defect" in name else disagreement(value, other)
        worst[name] = float(off.nan_to_num(torch.inf).max())
    return worst


def outcomes(architecture: Architecture) -> dict[str, str]:
    """Each quantity: right, off by how much, or unclear where finite differences are.

    They are where a smaller step gives something else: at a kink, or where a metric is singular.
    An architecture may be refused as a whole, if what it is refused for is named.
    """
    try:
        return compare(architecture)
    except (RuntimeError, ValueError) as error:
        if not any(reason in str(error) for reason in REFUSALS):
            raise
        return {"decoder": "refused"}


def compare(architecture: Architecture) -> dict[str, str]:
    decoder = architecture.decoder()
    z = architecture.latents(decoder)
    found = {name: value.detach() for name, value in ours(decoder, z).items()}
    result: dict[str, str] = dict.fromkeys(found, "unclear")
    before: dict[str, Tensor] | None = None
    for step in STEPS:
        reference = expected(decoder, z, step)
        off = errors(found, reference)
        moved = errors(before, reference) if before else dict.fromkeys(found, math.inf)
        for name in found:
            if off[name] <= TOLERANCE:
                result[name] = "right"
            elif result[name] != "right" and moved[name] <= TOLERANCE / 2:
                result[name] = f"off by {off[name]:.1e}"
        if set(result.values()) == {"right"}:
            break
        before = reference
    return result


def test_random_architectures_are_right() -> None:
    seen: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(architectures)
    def check(architecture: Architecture) -> None:
        result = outcomes(architecture)
        seen.update(result.values())
        assert set(result.values()) <= {"right", "unclear", "refused"}, result

    check()
    assert seen["unclear"] < 0.1 * seen.total()
    assert seen["refused"] < 0.01 * seen.total()
