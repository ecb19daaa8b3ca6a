"""Decoders: from latents to the likelihood.

Those with complex layers carry a ``pushforward``, the likelihood's derivative in closed form.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae.errors import InputError
from kahlervae.models.families import Bernoulli, Categorical, ContinuousBernoulli, LogPoisson
from kahlervae.models.likelihoods import ComplexGaussian, RealGaussian
from kahlervae.nn import (
    ComplexLinear,
    HolomorphicNetwork,
    HolomorphicQuadratic,
    RealInput,
    RealOutput,
    SmoothCardioid,
    hidden,
)
from kahlervae.options import check_choice, check_count, check_sizes

__all__ = [
    "LIKELIHOODS",
    "BornDecoder",
    "ComplexDecoder",
    "HolomorphicDecoder",
    "PluriharmonicDecoder",
    "RealDecoder",
    "choose_likelihood",
]

Likelihood = RealGaussian | ComplexGaussian | Bernoulli | ContinuousBernoulli

LIKELIHOODS: dict[str, type] = {
    "gaussian": RealGaussian,
    "complex_gaussian": ComplexGaussian,
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
}
"""Likelihoods of the models by the names that the configuration has for them."""

INITIAL_LOG_VAR = -2.0
LOG_FLOOR = math.log(1e-4)
"""Least log-variance of a likelihood whose variance depends on z: 0.01² in units of the data.

A pixel that is the same in all images would have the variance 0 and an infinite likelihood.
"""


class ConstantVariance(nn.Module):
    """One learned log σ² for all latents and all D entries of the data."""

    def __init__(self, output_dim: int) -> None:
        super().__init__()
        self.output_dim = output_dim
        self.value = nn.Parameter(torch.tensor(INITIAL_LOG_VAR))

    def forward(self, features: Tensor) -> Float[Tensor, "*batch D"]:
        return self.value.expand(*features.shape[:-1], self.output_dim)

    def pushforward(self, features: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """log σ² and its derivatives along the tangents, which are zero."""
        value = self(features)
        return value, value.new_zeros(*tangent.shape[:-1], self.output_dim)


class DiagonalVariance(nn.Module):
    r"""A log-variance for every latent and every entry of the data, bounded from below.

    .. math:: \log\sigma^2 = \log(e^{a(f)} + \sigma_{\min}^2)

    Args:
        head: the affine map a, from features to D real numbers.
    """

    def __init__(self, head: RealOutput | nn.Linear) -> None:
        super().__init__()
        self.head = head
        linear = head.linear if isinstance(head, RealOutput) else head
        nn.init.constant_(linear.bias, INITIAL_LOG_VAR)

    def forward(self, features: Tensor) -> Float[Tensor, "*batch D"]:
        free = self.head(features)
        return torch.logaddexp(free, torch.full_like(free, LOG_FLOOR))

    def pushforward(self, features: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """log σ² and its derivatives along the tangents."""
        assert isinstance(self.head, RealOutput)  # real layers are differentiated automatically
        free, change = self.head.pushforward(features, tangent)
        value = torch.logaddexp(free, torch.full_like(free, LOG_FLOOR))
        return value, torch.sigmoid(free - LOG_FLOOR) * change


def choose_likelihood(name: str | None, complex_data: bool) -> type:
    """The class of that name, or the Gaussian of the data if there is none.

    Raises:
        InputError: it is unknown, or not for such data.

    Example:
        >>> choose_likelihood(None, complex_data=True).__name__
        'ComplexGaussian'
    """
    if name is None:
        return ComplexGaussian if complex_data else RealGaussian
    if name not in LIKELIHOODS:
        raise InputError(
            f"the likelihood {name!r} is unknown: choose one of {', '.join(LIKELIHOODS)}."
        )
    kind = LIKELIHOODS[name]
    if complex_data != (kind is ComplexGaussian):
        known = "complex: use complex_gaussian" if complex_data else "real: use another one"
        raise InputError(f"the likelihood {name} is not for data that are {known}.")
    return kind


VARIANCES = ("constant", "diagonal")
"""How a Gaussian likelihood's variance may depend on z."""


def _log_variance(
    kind: str, head: type[RealOutput | nn.Linear], width: int, output_dim: int
) -> ConstantVariance | DiagonalVariance:
    check_choice("the variance of a likelihood", kind, VARIANCES)
    if kind == "constant":
        return ConstantVariance(output_dim)
    return DiagonalVariance(head(width, output_dim))


class ComplexDecoder(nn.Module):
    """z in C^d to a likelihood of data in R^D or C^D, by complex layers.

    Args:
        output_dim: D.
        latent_dim: d.
        width: of the hidden layers.
        depth: number of hidden layers.
        complex_data: whether the data are complex.
        likelihood_variance: of a Gaussian: ``constant``, one learned σ² for all, or ``diagonal``,
            σ_a²(z).
        likelihood: a key of :data:`LIKELIHOODS`; N(μ(z), diag σ²(z)), or CN of complex data, if
            none is named. Of others the last layer gives the natural parameters.

    Raises:
        InputError: the likelihood or its variance is unknown, or not for such data, or a size is no
            whole number from 1 on.

    Example:
        >>> decoder = ComplexDecoder(output_dim=64, latent_dim=2, width=8, depth=1)
        >>> likelihood = decoder(torch.zeros(5, 2, dtype=torch.complex64))
        >>> type(likelihood).__name__, likelihood.mean.shape
        ('RealGaussian', torch.Size([5, 64]))
    """

    holomorphic: ClassVar[bool] = False
    activation: ClassVar[type[nn.Module]] = SmoothCardioid
    mean: ComplexLinear | RealOutput
    log_var: ConstantVariance | DiagonalVariance | None

    def __init__(
        self,
        output_dim: int,
        latent_dim: int,
        width: int,
        depth: int,
        complex_data: bool = False,
        likelihood_variance: str = "constant",
        likelihood: str | None = None,
    ) -> None:
        super().__init__()
        check_sizes("a decoder", **_sizes(output_dim, latent_dim, width, depth))
        self.body = nn.Sequential(
            ComplexLinear(latent_dim, width),
            self.activation(),
            *hidden(ComplexLinear, self.activation, width, depth - 1),
        )
        self.likelihood = choose_likelihood(likelihood, complex_data)
        self.mean = (ComplexLinear if complex_data else RealOutput)(width, output_dim)
        self.log_var = (
            _log_variance(likelihood_variance, RealOutput, width, output_dim)
            if _is_gaussian(self.likelihood)
            else None
        )

    def forward(self, z: Complex[Tensor, "*batch d"]) -> Likelihood:
        features = self.body(z)
        if self.log_var is None:
            return self.likelihood(self.mean(features))
        return self.likelihood(self.mean(features), self.log_var(features))

    def pushforward(
        self, z: Complex[Tensor, "n d"], tangent: Complex[Tensor, "*k n d"]
    ) -> tuple[Likelihood, Likelihood]:
        """The likelihood at z and its derivatives along the tangents."""
        layers: list[Any] = list(self.body)
        for layer in layers:
            z, tangent = layer.pushforward(z, tangent)
        mean, mean_change = self.mean.pushforward(z, tangent)
        if self.log_var is None:
            return self.likelihood(mean), self.likelihood(mean_change)
        log_var, log_var_change = self.log_var.pushforward(z, tangent)
        return self.likelihood(mean, log_var), self.likelihood(mean_change, log_var_change)


def _is_gaussian(likelihood: type) -> bool:
    return likelihood in (RealGaussian, ComplexGaussian)


def _coordinates(z: Tensor) -> Tensor:
    """The d coordinate directions at every one of n points, (d, n, d)."""
    eye = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    return eye.unsqueeze(1).expand(-1, *z.shape)


def _jacobian(body: Any, z: Tensor) -> tuple[Tensor, Tensor]:
    """A holomorphic network and its d derivatives, in its own way where it has one."""
    own = getattr(body, "jacobian", None)
    value, change = own(z) if own else body.pushforward(z, _coordinates(z))
    return value, change


class HolomorphicDecoder(ComplexDecoder):
    r"""z in C^d to CN(μ(z), σ²I) in C^D with holomorphic μ and constant σ²: the positive control.

    Its Fisher metric is Kähler, with the global potential :math:`\|\mu(z)\|^2/\sigma^2`
    (docs/theory.md, section 7). The layers are complex affine maps and quadratic polynomials, so
    that μ is a polynomial of degree 2^depth.

    Args: see :class:`ComplexDecoder`.

    Example:
        >>> from kahlervae.geometry import hermitian_defect
        >>> decoder = HolomorphicDecoder(output_dim=64, latent_dim=2, width=8, depth=1)
        >>> bool(hermitian_defect(decoder, torch.tensor([[1 + 2j, 0.5 - 1j]])) < 1e-5)
        True
    """

    holomorphic: ClassVar[bool] = True
    activation: ClassVar[type[nn.Module]] = HolomorphicQuadratic

    def __init__(self, output_dim: int, latent_dim: int, width: int, depth: int) -> None:
        super().__init__(output_dim, latent_dim, width, depth, complex_data=True)
        self.settings = _sizes(output_dim, latent_dim, width, depth)

    def log_partition(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        r""":math:`\|\mu(z)\|^2/\sigma^2`, the Kähler potential of the Fisher metric."""
        mean, log_var = self(z)
        return (_square_modulus(mean) * torch.exp(-log_var)).sum(-1)

    def holomorphic_factor(self, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n D d"]:
        r"""S = ∂μ/σ, with :math:`S^T \bar S` the Fisher metric."""
        at, change = self.pushforward(z, _coordinates(z))
        return (change.mean * torch.exp(-0.5 * at.log_var)).movedim(0, -1)


def _sizes(output_dim: int, latent_dim: int, width: int, depth: int) -> dict[str, Any]:
    """What makes a decoder of the same sizes again."""
    return {"output_dim": output_dim, "latent_dim": latent_dim, "width": width, "depth": depth}


class _Natural(NamedTuple):
    """How a pluriharmonic decoder makes a likelihood of real numbers.

    Attributes:
        make: natural parameters, or means of Gaussians, (..., m D), and log σ² to a likelihood.
        whiten: a likelihood and complex derivatives of these numbers to vectors whose Hermitian
            inner products are those of their Fisher information.
        numbers: m, how many there are for every entry of the data.
    """

    make: Callable[[Tensor, Any], Any]
    whiten: Callable[[Any, Tensor], Tensor]
    numbers: int = 1


def _whiten(at: Any, change: Tensor) -> Tensor:
    return at.whiten(change)


NATURAL: dict[str, _Natural] = {
    "gaussian": _Natural(
        lambda mean, log_var: RealGaussian(mean, log_var),
        lambda at, change: change * torch.exp(-0.5 * at.log_var),
    ),
    "complex_gaussian": _Natural(
        lambda mean, log_var: ComplexGaussian(torch.complex(*mean.chunk(2, dim=-1)), log_var),
        lambda at, change: math.sqrt(2) * change * torch.exp(-0.5 * at.log_var).repeat(1, 2),
        numbers=2,
    ),
    "bernoulli": _Natural(lambda eta, _: Bernoulli(eta), _whiten),
    "continuous_bernoulli": _Natural(lambda eta, _: ContinuousBernoulli(eta), _whiten),
    "poisson": _Natural(lambda eta, _: LogPoisson(eta), _whiten),
}
"""Likelihoods whose natural parameters may be any real numbers."""

HALF_LINES = {
    "exponential": ("the rate", "gaussian, of the logarithm of the data"),
    "gamma": ("the rate", "gaussian, of the logarithm of the data"),
    "geometric": ("minus the natural parameter", "poisson, for counts"),
    "gaussian of a variance that depends on z": (
        "the inverse of the variance",
        "likelihood_variance: constant",
    ),
}
"""Natural parameters that are bounded on one side, and what works in their place."""


def refuse_half_line(name: str) -> None:
    """Say why there is no pluriharmonic decoder with that likelihood.

    Raises:
        InputError: its natural parameters are bounded on one side.
    """
    if name in HALF_LINES:
        parameter, instead = HALF_LINES[name]
        raise InputError(
            f"no pluriharmonic decoder exists for {name}: {parameter} is positive, and a "
            "pluriharmonic function on C^d that is bounded on one side is constant (Liouville): "
            f"use {instead}."
        )


class PluriharmonicDecoder(nn.Module):
    r"""z in C^d to an exponential family with pluriharmonic natural parameters.

    .. math:: \eta(z) = \mathrm{Re}(W f(z) + b), \qquad f \text{ holomorphic}

    Real data, and a Fisher metric that is Kähler by construction: with A the log-partition function
    and :math:`\partial\bar\partial\eta = 0`,

    .. math:: g_{i\bar j} = \partial_i \bar\partial_j\, (A \circ \eta)
              = \tfrac14 \sum_{ab} \mathrm{Cov}(T)_{ab}\,
                (W \partial_i f)_a \overline{(W \partial_j f)_b}

    with one global plurisubharmonic potential, by d holomorphic tangents (docs/theory.md, section
    15). Of Gaussians, η is the mean over the learned constant σ²; of complex ones, the real and the
    imaginary part of the mean have rows of W of their own (:math:`\mu = Vf + U\bar f`).

    Args:
        output_dim: D.
        latent_dim: d.
        width: of the hidden layers.
        depth: number of hidden layers.
        likelihood: ``gaussian``, ``complex_gaussian``, ``bernoulli``, ``continuous_bernoulli``,
            ``poisson``, or ``categorical``.
        categories: K, where it is categorical.

    Raises:
        InputError: the likelihood is unknown, or its natural parameters are bounded on one side, or
            a size is no whole number from 1 on.

    Example:
        >>> from kahlervae.geometry import fisher_metric, mixed_hessian
        >>> from kahlervae.nn import to_double
        >>> decoder = to_double(PluriharmonicDecoder(64, 2, 8, 1, "bernoulli"))
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]], dtype=torch.complex128)
        >>> torch.allclose(fisher_metric(decoder, z), mixed_hessian(decoder.log_partition, z))
        True
    """

    def __init__(
        self,
        output_dim: int,
        latent_dim: int,
        width: int,
        depth: int,
        likelihood: str = "gaussian",
        categories: int | None = None,
    ) -> None:
        super().__init__()
        sizes = _sizes(output_dim, latent_dim, width, depth)
        check_sizes("a decoder", **sizes)
        self.settings = sizes | {"likelihood": likelihood, "categories": categories}
        self.body = HolomorphicNetwork(latent_dim, width, depth)
        self.natural = RealOutput(width, self.kind.numbers * output_dim)
        gaussian = likelihood in ("gaussian", "complex_gaussian")
        self.log_var = ConstantVariance(output_dim) if gaussian else None

    @property
    def kind(self) -> "_Natural":
        """Asked for anew: what is kept in a module is pickled with it, and functions cannot be."""
        return _natural(self.settings["likelihood"], self.settings["categories"])

    def forward(self, z: Complex[Tensor, "*batch d"]) -> Any:
        features = self.body(z)
        log_var = None if self.log_var is None else self.log_var(features)
        return self.kind.make(self.natural(features), log_var)

    def pushforward(
        self, z: Complex[Tensor, "n d"], tangent: Complex[Tensor, "*k n d"]
    ) -> tuple[Any, Any]:
        """The likelihood at z and its derivatives along the tangents."""
        z, tangent = self.body.pushforward(z, tangent)
        natural, change = self.natural.pushforward(z, tangent)
        if self.log_var is None:
            return self.kind.make(natural, None), self.kind.make(change, None)
        log_var, log_var_change = self.log_var.pushforward(z, tangent)
        return self.kind.make(natural, log_var), self.kind.make(change, log_var_change)

    def log_partition(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """A(η(z)), the Kähler potential of the Fisher metric; of Gaussians without log σ²."""
        at = self(z)
        if self.log_var is None:
            return at.log_partition()
        is_complex = at.mean.is_complex()
        squares = _square_modulus(at.mean) if is_complex else 0.5 * at.mean.square()
        return (squares * torch.exp(-at.log_var)).sum(-1)

    def holomorphic_factor(self, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n m d"]:
        r"""S, with :math:`S^T \bar S` the Fisher metric: whitened ½ W∂f, by d tangents."""
        features, tangents = _jacobian(self.body, z)
        log_var = None if self.log_var is None else self.log_var(features)
        at = self.kind.make(self.natural(features), log_var)
        left, right = (0.5 * self.natural.linear.weight).chunk(2, dim=1)
        change = torch.nn.functional.linear(tangents, torch.complex(left, -right))
        factor = self.kind.whiten(at, change)
        return factor.flatten(2).movedim(0, -1)


def _natural(likelihood: str, categories: int | None) -> _Natural:
    refuse_half_line(likelihood)
    if likelihood == "categorical":
        if categories is None:
            raise InputError("a categorical likelihood needs categories: at least 2 of them.")
        check_count("categories, the number of choices,", categories, least=2)
        shape = (-1, categories)
        return _Natural(
            lambda eta, _: Categorical(eta.unflatten(-1, shape)),
            lambda at, change: at.whiten(change.unflatten(-1, shape)),
            numbers=categories,
        )
    if likelihood not in NATURAL:
        raise InputError(
            f"the likelihood {likelihood!r} is unknown: choose one of "
            f"{', '.join([*NATURAL, 'categorical'])}."
        )
    return NATURAL[likelihood]


class BornDecoder(nn.Module):
    r"""z in C^d to D choices among K by the Born rule, of holomorphic amplitudes.

    .. math:: p(x_a = k \mid z) = \frac{|f_{ak}(z)|^2}{\|f_a(z)\|^2}, \qquad
              g = \sum_a \partial\bar\partial \log \|f_a(z)\|^2

    A categorical family with the natural parameters :math:`\log |f|^2`, which are pluriharmonic
    where f is not 0; its potential, and with it the metric (Fubini–Study, pulled back by f), has no
    singularity there (docs/theory.md, section 15). For grey levels, labels or tokens.

    Args:
        output_dim: D.
        latent_dim: d.
        width: of the hidden layers.
        depth: number of hidden layers.
        categories: K.

    Raises:
        InputError: a size is no whole number from 1 on.

    Example:
        >>> decoder = BornDecoder(output_dim=1, latent_dim=2, width=8, depth=1, categories=10)
        >>> likelihood = decoder(torch.zeros(5, 2, dtype=torch.complex64))
        >>> torch.allclose(likelihood.mean.sum(-1), torch.ones(5, 1))
        True
    """

    def __init__(
        self, output_dim: int, latent_dim: int, width: int, depth: int, categories: int
    ) -> None:
        super().__init__()
        self.settings = _sizes(output_dim, latent_dim, width, depth) | {"categories": categories}
        check_sizes("a decoder", **self.settings)
        self.shape = (output_dim, categories)
        self.body = HolomorphicNetwork(latent_dim, width, depth)
        self.amplitudes = ComplexLinear(width, output_dim * categories)
        # Without it all amplitudes of an entry could be 0 at once, as they would be at z = 0.
        nn.init.ones_(self.amplitudes.bias)

    def forward(self, z: Complex[Tensor, "*batch d"]) -> Categorical:
        amplitudes = self.amplitudes(self.body(z)).unflatten(-1, self.shape)
        return Categorical(_square_modulus(amplitudes).log())

    def pushforward(
        self, z: Complex[Tensor, "n d"], tangent: Complex[Tensor, "*k n d"]
    ) -> tuple[Categorical, Categorical]:
        """The likelihood at z and its derivatives along the tangents."""
        value, change = self._amplitudes(*self.body.pushforward(z, tangent))
        return (
            Categorical(_square_modulus(value).log()),
            Categorical(2 * (change / value).real),
        )

    def log_partition(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """log ‖f‖², summed over the entries: the Kähler potential of the Fisher metric."""
        amplitudes = self.amplitudes(self.body(z)).unflatten(-1, self.shape)
        return _square_modulus(amplitudes).sum(-1).log().sum(-1)

    def holomorphic_factor(self, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n m d"]:
        r"""S, with :math:`S^T \bar S` the Fisher metric: the part of ∂f/‖f‖ orthogonal to f."""
        value, change = self._amplitudes(*_jacobian(self.body, z))
        unit = value * torch.rsqrt(_square_modulus(value).sum(-1, keepdim=True))
        change = change * torch.rsqrt(_square_modulus(value).sum(-1, keepdim=True))
        along = (unit.conj() * change).sum(-1, keepdim=True)
        return (change - along * unit).flatten(2).movedim(0, -1)

    def _amplitudes(self, features: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        value, change = self.amplitudes.pushforward(features, change)
        return value.unflatten(-1, self.shape), change.unflatten(-1, self.shape)


def _square_modulus(z: Tensor) -> Tensor:
    """|z|² with a second derivative at 0, which ``abs()**2`` lacks."""
    return z.real.square() + z.imag.square()


class RealDecoder(nn.Module):
    """u = √2 (Re z, Im z) in R^{2d} to the likelihood, by real layers.

    Args and errors: see :class:`ComplexDecoder`.

    Example:
        >>> decoder = RealDecoder(output_dim=64, latent_dim=2, width=8, depth=1)
        >>> decoder(torch.zeros(5, 2, dtype=torch.complex64)).mean.shape
        torch.Size([5, 64])
    """

    def __init__(
        self,
        output_dim: int,
        latent_dim: int,
        width: int,
        depth: int,
        complex_data: bool = False,
        likelihood_variance: str = "constant",
        likelihood: str | None = None,
    ) -> None:
        super().__init__()
        check_sizes("a decoder", **_sizes(output_dim, latent_dim, width, depth))
        self.body = nn.Sequential(
            nn.Linear(2 * latent_dim, width),
            nn.SiLU(),
            *hidden(nn.Linear, nn.SiLU, width, depth - 1),
        )
        self.likelihood = choose_likelihood(likelihood, complex_data)
        self.mean: nn.Module = (RealInput if complex_data else nn.Linear)(width, output_dim)
        self.log_var = (
            _log_variance(likelihood_variance, nn.Linear, width, output_dim)
            if _is_gaussian(self.likelihood)
            else None
        )

    def forward(self, z: Complex[Tensor, "*batch d"]) -> Likelihood:
        features = self.body(math.sqrt(2) * torch.cat([z.real, z.imag], dim=-1))
        if self.log_var is None:
            return self.likelihood(self.mean(features))
        return self.likelihood(self.mean(features), self.log_var(features))
