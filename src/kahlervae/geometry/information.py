r"""Fisher informations of distributions in their own parameters.

A registry, as :func:`torch.distributions.register_kl` is one: for every class of distributions the
names of its parameters θ, and a function that makes of their derivatives :math:`\dot\theta` real
vectors whose inner products are the Fisher information,

.. math:: \langle w(\dot\theta), w(\dot\theta') \rangle
          = E[(\dot\theta \cdot \nabla\log p)\,(\dot\theta' \cdot \nabla\log p)]

so that the metric of a decoder is a Gram matrix of such vectors, and positive semidefinite by
construction. All expectations are exact.
"""

import math
import weakref
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from numbers import Number
from types import FunctionType, SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch import distributions as dist
from torch.distributions.kl import _KL_REGISTRY
from torch.nn.functional import logsigmoid, softplus

from kahlervae.errors import InputError
from kahlervae.geometry.reach import reached
from kahlervae.models.families import Bernoulli, Categorical, ContinuousBernoulli, LogPoisson
from kahlervae.models.likelihoods import ComplexGaussian, DenseComplexGaussian, RealGaussian

__all__ = [
    "Information",
    "information",
    "kl",
    "nearest",
    "register_fisher",
    "registered",
    "unwrapped",
]

Features = Tensor | Sequence[Tensor]
Function = TypeVar("Function", bound=Callable[[Any, Any], Features])


class Information(NamedTuple):
    """How the Fisher information of a class of distributions is found.

    Attributes:
        parameters: the names of θ, attributes of a distribution.
        whiten: maps θ and its derivatives, as objects with these attributes, to the vectors w; the
            derivatives have one axis more, the first; so have the vectors, whose further axes are
            those of the data, in any shape.
    """

    parameters: tuple[str, ...]
    whiten: Callable[[Any, Any], Features]


_REGISTRY: dict[type, Information] = {}
_REVISIONS: list[type] = []
"""What was registered, in this order."""


def register_fisher(distribution: type, *parameters: str) -> Callable[[Function], Function]:
    r"""Register the Fisher information of a class of distributions and of what inherits from it.

    Args:
        distribution: the class.
        parameters: names of the attributes that the information is in, tensors (n, ...).

    Example:
        The Rayleigh distribution of scale σ has the information 4/σ²:

        >>> class Rayleigh(dist.Distribution):
        ...     arg_constraints = {"scale": dist.constraints.positive}
        ...     def __init__(self, scale):
        ...         self.scale = scale
        ...         super().__init__(scale.shape)
        >>> @register_fisher(Rayleigh, "scale")
        ... def _rayleigh(at, d):
        ...     return 2 * d.scale / at.scale
        >>> from kahlervae.geometry import fisher_form
        >>> fisher_form(lambda z: Rayleigh(z.real), torch.tensor([[2 + 1j]]))  # 4/2² along Re z
        tensor([[[1., 0.],
                 [0., 0.]]])
        >>> del _REGISTRY[Rayleigh]  # only for the sake of other examples
    """

    def register(whiten: Function) -> Function:
        _REGISTRY[distribution] = Information(parameters, whiten)
        _REVISIONS.append(distribution)
        return whiten

    return register


def registered() -> dict[type, Information]:
    """All that is registered, by class.

    Example:
        >>> registered()[dist.Poisson].parameters
        ('rate',)
    """
    return dict(_REGISTRY)


def revision() -> int:
    """Grows whenever something is registered."""
    return len(_REVISIONS)


def information(likelihood: Any) -> Information | None:
    """That of the nearest class which is registered; None where there is none.

    None, too, for a class that inherits from it with a density of its own.

    Example:
        >>> information(dist.Normal(0.0, 1.0)).parameters
        ('loc', 'scale')
        >>> information(dist.StudentT(3.0)) is None
        True
    """
    kind = nearest(type(likelihood), _REGISTRY)
    return None if kind is None else _REGISTRY[kind]


def nearest(kind: type, known: Container[type]) -> type | None:
    """The nearest class above one that is known and has the same density."""
    for parent in kind.__mro__:
        if parent in known:
            return parent
        if "log_prob" in vars(parent):
            return None
    return None


def unwrapped(likelihood: Any) -> Any:
    """The distribution within Independent, and the base of one that is transformed for good.

    Axes of an event are added up as those of a batch are, and a bijection without parameters
    leaves both Fisher information and relative entropy. What is given by probabilities is given by
    logits: torch's own of them end where probabilities are as small as rounding.

    Example:
        >>> type(unwrapped(dist.Independent(dist.LogNormal(torch.zeros(3), 1.0), 1))).__name__
        'Normal'
    """
    kind = type(likelihood)
    if nearest(kind, {dist.Independent}) is not None:
        return unwrapped(likelihood.base_dist)
    if nearest(kind, _BY_LOGITS) is not None:
        return _by_logits(likelihood)
    transformed = nearest(kind, {dist.TransformedDistribution}) is not None
    if transformed and all(_is_fixed_bijection(t) for t in likelihood.transforms):
        return unwrapped(likelihood.base_dist)
    return likelihood


_BY_LOGITS: dict[type, Callable[[Tensor], Tensor]] = {
    dist.Bernoulli: lambda p: _log_odds(p),
    dist.Categorical: lambda p: _log(p),
    dist.OneHotCategorical: lambda p: _log(p),
}
"""Distributions that take probabilities as well, and the logits of these."""


def _by_logits(likelihood: Any) -> Any:
    kind = nearest(type(likelihood), _BY_LOGITS)
    assert kind is not None
    inner = getattr(likelihood, "_categorical", likelihood)
    if vars(inner).get("probs") is not inner._param:
        return likelihood
    return kind(logits=_BY_LOGITS[kind](inner._param), validate_args=False)


def _log_odds(p: Tensor) -> Tensor:
    return _log(p) - _log(1 - p)


def _log(p: Tensor) -> Tensor:
    """Finite, and constant, at 0."""
    return p.clamp_min(torch.finfo(p.dtype).tiny).log()


def _is_fixed_bijection(transform: dist.Transform) -> bool:
    return transform.bijective and all(isinstance(x, FIXED) for x in _held(transform, set()))


FIXED = (Number, str, type(None), torch.dtype, torch.device, dist.constraints.Constraint)
"""What depends on nothing. Whatever else a transform holds may reach the latents: a tensor, a
network, a function of either."""


def _held(thing: Any, seen: set[int]) -> Iterator[Any]:
    """All that transforms hold, in each other, in lists and in what they are the inverse of.

    And what classes of one's own reach.
    """
    thing = thing() if isinstance(thing, weakref.ref) else thing
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, dist.Transform):
        parts = list(vars(thing).values())
        parts += _reached_by_class(type(thing))
    elif isinstance(thing, list | tuple | set | frozenset):
        parts = list(thing)
    elif isinstance(thing, Mapping):
        parts = list(thing.values())
    else:
        yield thing
        return
    for part in parts:
        yield from _held(part, seen)


def _reached_by_class(kind: type) -> Iterator[Any]:
    """Tensors and networks that a class of one's own, or one above it, has or its methods use."""
    for parent in kind.__mro__:
        if parent.__module__.partition(".")[0] != "torch":
            for thing in vars(parent).values():
                inner = getattr(thing, "fget", None) or getattr(thing, "__func__", thing)
                if isinstance(inner, FunctionType | Tensor | torch.nn.Module):
                    yield from reached(inner)


def kl(p: Any, q: Any) -> Float[Tensor, " n *shape"]:
    """Relative entropy of p from q, nats, by their method ``kl`` or by torch, twice differentiable.

    Raises:
        InputError: it is not known.

    Example:
        >>> kl(dist.Poisson(torch.ones(1)), dist.Poisson(torch.full((1,), torch.e)))  # e − 2
        tensor([0.7183])
    """
    if hasattr(p, "kl"):
        return p.kl(q)
    p, q = unwrapped(p), unwrapped(q)
    kind = type(p)
    if (known := nearest(kind, _OWN_KL)) is not None:
        return _OWN_KL[known](p, q)
    # What torch knows of all transformed distributions takes their transforms for constants.
    if isinstance(p, dist.TransformedDistribution) and (
        kind is dist.TransformedDistribution or (kind, kind) not in _KL_REGISTRY
    ):
        raise InputError(_unknown(kind))
    if nearest(kind, {first for first, _ in _KL_REGISTRY}) is None:
        raise InputError(_unknown(kind))
    try:
        return dist.kl_divergence(p, q)
    except NotImplementedError:
        raise InputError(_unknown(kind)) from None


def _unknown(kind: type) -> str:
    cure = (
        "register the former with kahlervae.geometry.register_fisher, or the latter with "
        "torch.distributions.kl.register_kl."
    )
    if kind is dist.TransformedDistribution:
        cure = (
            "of its transforms it cannot be told whether the tensors that they hold depend on the "
            "latents. If they do not, return base_dist, or give them numbers, since a fixed "
            "bijection changes neither."
        )
    return (
        f"neither the Fisher information nor the relative entropy of {kind.__name__} is known: "
        f"{cure}"
    )


def _laplace_kl(p: dist.Laplace, q: dist.Laplace) -> Tensor:
    """The same value as torch's, which has no second derivative where the locations are equal."""
    ratio = p.scale / q.scale
    t = (q.loc - p.loc) / p.scale
    near = t.abs() < 1e-2
    small, large = torch.where(near, t, 0.0), torch.where(near, 1.0, t).abs()
    # |t| + exp(−|t|) − 1, by its series where |t| is small.
    size, square = small.abs(), small.square()
    series = square * (1 / 2 - size / 6 + square / 24 - square * size / 120)
    excess = torch.where(near, series, large + torch.expm1(-large))
    return ratio * excess + ratio - 1 - ratio.log()


def _bernoulli_kl(p: dist.Bernoulli | dist.Binomial, q: dist.Bernoulli | dist.Binomial) -> Tensor:
    """By logits; torch's is infinite where a probability rounds to 1."""
    at, moved = _logits(p), _logits(q)
    one = torch.sigmoid(at) * (_softplus(-moved) - _softplus(-at))
    return one + torch.sigmoid(-at) * (_softplus(moved) - _softplus(at))


def _continuous_bernoulli_kl(p: dist.ContinuousBernoulli, q: dist.ContinuousBernoulli) -> Tensor:
    """By logits; torch keeps probabilities away from 0 and 1."""
    at, moved = (ContinuousBernoulli(_logits(x).unsqueeze(-1)) for x in (p, q))
    return at.kl(moved)


def _categorical_kl(p: Any, q: Any) -> Tensor:
    """By logits; torch's is infinite where a probability is none of the precision."""
    at, moved = (Categorical(x.logits.unsqueeze(-2)) for x in (p, q))
    return at.kl(moved)


def _binomial_kl(p: dist.Binomial, q: dist.Binomial) -> Tensor:
    """By logits; infinite where the numbers of trials differ, which no latent may change."""
    each = _bernoulli_kl(p, q)
    return torch.where(p.total_count == q.total_count, p.total_count * each, math.inf)


def _geometric_kl(p: dist.Geometric, q: dist.Geometric) -> Tensor:
    """By logits η of a success; of failures there are exp(−η) in the mean."""
    at, moved = _logits(p), _logits(q)
    successes = _softplus(-moved) - _softplus(-at)
    return successes + torch.exp(-at) * (_softplus(moved) - _softplus(at))


def _poisson_kl(p: dist.Poisson, q: dist.Poisson) -> Tensor:
    """The same value as torch's, and one where the rate of p is 0."""
    none = p.rate == 0
    ratio = torch.where(none, 1, p.rate) / torch.where(none, 1, q.rate)
    return p.rate * ratio.log() - p.rate + q.rate


_OWN_KL: dict[type, Callable[[Any, Any], Tensor]] = {
    dist.Laplace: _laplace_kl,
    dist.Bernoulli: _bernoulli_kl,
    dist.ContinuousBernoulli: _continuous_bernoulli_kl,
    dist.Categorical: _categorical_kl,
    dist.OneHotCategorical: _categorical_kl,
    dist.Binomial: _binomial_kl,
    dist.Geometric: _geometric_kl,
    dist.Poisson: _poisson_kl,
}
"""Relative entropies of which torch's own lack digits, a value or a second derivative somewhere."""


def _logits(likelihood: Any) -> Tensor:
    given = next(name for name in vars(likelihood) if name in ("probs", "logits"))
    return likelihood.logits if given == "logits" else _log_odds(likelihood.probs)


def _softplus(x: Tensor) -> Tensor:
    """log(1 + eˣ), with all digits of its second derivative on either side."""
    return torch.where(x < 0, softplus(x), -logsigmoid(-x))


def _reals(z: Tensor) -> Tensor:
    return torch.view_as_real(z).flatten(-2)


@register_fisher(RealGaussian, "mean", "log_var")
def _real_gaussian(at: Any, d: Any) -> Features:
    return d.mean * torch.exp(-0.5 * at.log_var), math.sqrt(0.5) * d.log_var


@register_fisher(ComplexGaussian, "mean", "log_var")
def _complex_gaussian(at: Any, d: Any) -> Features:
    mean = d.mean * torch.exp(-0.5 * at.log_var)
    return _reals(math.sqrt(2) * mean), d.log_var


@register_fisher(DenseComplexGaussian, "mean", "covariance")
def _dense_complex_gaussian(at: Any, d: Any) -> Features:
    factor = torch.linalg.cholesky(at.covariance)
    mean = torch.linalg.solve_triangular(factor, d.mean.unsqueeze(-1), upper=False)
    half = torch.linalg.solve_triangular(factor, d.covariance, upper=False)
    covariance = torch.linalg.solve_triangular(factor, half.mH, upper=False)
    return _reals(math.sqrt(2) * mean.squeeze(-1)), _reals(covariance.flatten(-2))


@register_fisher(dist.Normal, "loc", "scale")
def _normal(at: Any, d: Any) -> Features:
    return d.loc / at.scale, math.sqrt(2) * d.scale / at.scale


@register_fisher(dist.Laplace, "loc", "scale")
def _laplace(at: Any, d: Any) -> Features:
    return d.loc / at.scale, d.scale / at.scale


@register_fisher(dist.MultivariateNormal, "loc", "scale_tril")
def _multivariate_normal(at: Any, d: Any) -> Features:
    factor = at.scale_tril
    loc = torch.linalg.solve_triangular(factor, d.loc.unsqueeze(-1), upper=False)
    half = torch.linalg.solve_triangular(factor, d.scale_tril, upper=False)
    return loc.squeeze(-1), (half + half.mT) / math.sqrt(2)


@register_fisher(dist.LowRankMultivariateNormal, "loc", "cov_factor", "cov_diag")
def _low_rank_multivariate_normal(at: Any, d: Any) -> Features:
    low_rank, change = at.cov_factor, d.cov_factor @ at.cov_factor.mT
    factor = torch.linalg.cholesky(low_rank @ low_rank.mT + torch.diag_embed(at.cov_diag))
    loc = torch.linalg.solve_triangular(factor, d.loc.unsqueeze(-1), upper=False)
    covariance = change + change.mT + torch.diag_embed(d.cov_diag)
    half = torch.linalg.solve_triangular(factor, covariance, upper=False)
    whole = torch.linalg.solve_triangular(factor, half.mT, upper=False)
    return loc.squeeze(-1), math.sqrt(0.5) * whole


@register_fisher(Bernoulli, "logits")
@register_fisher(dist.Bernoulli, "logits")
def _bernoulli(at: Any, d: Any) -> Features:
    return Bernoulli(at.logits).whiten(d.logits)


@register_fisher(ContinuousBernoulli, "logits")
@register_fisher(dist.ContinuousBernoulli, "logits")
def _continuous_bernoulli(at: Any, d: Any) -> Features:
    return ContinuousBernoulli(at.logits).whiten(d.logits)


@register_fisher(Categorical, "logits")
@register_fisher(dist.Categorical, "logits")
@register_fisher(dist.OneHotCategorical, "logits")
def _categorical(at: Any, d: Any) -> Features:
    return Categorical(at.logits).whiten(d.logits)


@register_fisher(LogPoisson, "log_rate")
def _poisson_of_logarithm(at: Any, d: Any) -> Features:
    return LogPoisson(at.log_rate).whiten(d.log_rate)


@register_fisher(dist.Poisson, "rate")
def _poisson(at: Any, d: Any) -> Features:
    fixed = (at.rate == 0) & (d.rate == 0)  # what is masked, or never comes, says nothing
    return torch.where(fixed, 0, d.rate * torch.where(fixed, 1, at.rate).rsqrt())


@register_fisher(dist.Exponential, "rate")
def _exponential(at: Any, d: Any) -> Features:
    return d.rate / at.rate


@register_fisher(dist.Gamma, "concentration", "rate")
def _gamma(at: Any, d: Any) -> Features:
    # Concentration and mean are orthogonal: (a²ψ₁(a) − a) (d log a)² + a (d log a/b)².
    change = d.concentration / at.concentration
    mean = at.concentration.sqrt() * (change - d.rate / at.rate)
    return mean, _excess(at.concentration).sqrt() * change


@register_fisher(dist.Beta, "concentration1", "concentration0")
def _beta(at: Any, d: Any) -> Features:
    pair = (torch.stack([x.concentration1, x.concentration0], dim=-1) for x in (at, d))
    return _dirichlet(*(SimpleNamespace(concentration=x) for x in pair))


@register_fisher(dist.Dirichlet, "concentration")
def _dirichlet(at: Any, d: Any) -> Features:
    r"""diag ψ₁(α) − ψ₁(s) 11ᵀ, s = Σα, in terms of :math:`l = d \log α`, as two sums of squares.

    With the mean shares p = α/s, their mean :math:`\bar l = \sum p_k l_k`, and
    :math:`h(α) = α^2 ψ_1(α) - α`, in which nothing cancels however large α is,

    .. math:: \sum_k (α_k + h(s)\, p_k) (l_k - \bar l)^2 + \sum_k (h(α_k) - h(s)\, p_k)\, l_k^2.
    """
    total = at.concentration.sum(-1, keepdim=True)
    share, change = at.concentration / total, d.concentration / at.concentration
    mean = d.concentration.sum(-1, keepdim=True) / total
    whole = _excess(total) * share
    own = _excess(at.concentration) - whole
    # Of one category that has all, nothing: there the root has no derivative.
    some = own > 0
    own = torch.where(some, torch.where(some, own, 1.0).sqrt(), 0.0)
    return (at.concentration + whole).sqrt() * (change - mean), own * change


def _excess(a: Tensor) -> Tensor:
    """a²ψ₁(a) − a, from 1 at 0 down to ½ at infinity; torch's ψ₁ has ten digits, this has all."""
    a, dtype = a.double(), a.dtype
    far = a > SHIFT
    near = torch.where(far, 1.0, a)
    x = near + SHIFT
    # ψ₁(a) = Σ_k (a + k)⁻² + ψ₁(a + n)
    steps = sum((near / (near + k)).square() for k in range(1, SHIFT))
    value = 1 - near + steps + (near / x).square() * (x + _tail(x))
    return torch.where(far, _tail(torch.where(far, a, x)), value).to(dtype)


SHIFT = 20
"""From where on the series of :func:`_tail` has all digits."""


def _tail(x: Tensor) -> Tensor:
    """x²ψ₁(x) − x of large x, by Bernoulli's numbers."""
    inverse = 1 / x
    square, value = inverse.square(), torch.zeros_like(x)
    for number in (-691 / 2730, 5 / 66, -1 / 30, 1 / 42, -1 / 30, 1 / 6):
        value = value * square + number
    return 0.5 + value * inverse
