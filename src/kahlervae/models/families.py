r"""Exponential families whose natural parameters may be any real numbers.

.. math:: p(x \mid \eta) = h(x)\, \exp(\eta \cdot T(x) - A(\eta)), \qquad \eta \in R^m

They are what a decoder that is Kähler by construction can have for a likelihood (docs/theory.md,
section 15). Named tuples of one tensor, the natural parameters, like the Gaussians of
:mod:`kahlervae.models.likelihoods`; sums are taken over the last axis, that of the data.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float, Int64
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from kahlervae.errors import InputError
from kahlervae.seeding import standard_normal, uniform

__all__ = [
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "LogPoisson",
    "check_support",
    "continuous_bernoulli_log_partition",
    "continuous_bernoulli_mean",
    "continuous_bernoulli_variance",
]

Change = Float[Tensor, "*batch D"] | Complex[Tensor, "*batch D"]


class Bernoulli(NamedTuple):
    r"""Independent binary values, :math:`p(x_a = 1) = 1 / (1 + e^{-\eta_a})`.

    .. math:: A(\eta) = \sum_a \log(1 + e^{\eta_a}), \qquad T(x) = x

    Attributes:
        logits: η.

    Example:
        >>> p = Bernoulli(torch.zeros(3))
        >>> round(p.log_prob(torch.tensor([0.0, 1.0, 1.0])).exp().item(), 4)  # ½ · ½ · ½
        0.125
        >>> p.kl(p), p.mean
        (tensor(0.), tensor([0.5000, 0.5000, 0.5000]))
    """

    logits: Float[Tensor, "*batch D"]

    @property
    def mean(self) -> Float[Tensor, "*batch D"]:
        """The probabilities of 1."""
        return torch.sigmoid(self.logits)

    @property
    def log_var(self) -> Float[Tensor, "*batch D"]:
        """log p (1 − p), without differences of numbers next to 1."""
        return logsigmoid(self.logits) - softplus(self.logits)

    def log_partition(self) -> Float[Tensor, "*batch"]:
        """A."""
        return softplus(self.logits).sum(-1)

    def log_prob(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """η·x − A, nats; of values between 0 and 1 the mean over binary values of that mean."""
        return (self.logits * x).sum(-1) - self.log_partition()

    def kl(self, other: "Bernoulli") -> Float[Tensor, "*batch"]:
        """Relative entropy of ``self`` from ``other``, nats."""
        change = (self.mean * (self.logits - other.logits)).sum(-1)
        return change - self.log_partition() + other.log_partition()

    def whiten(self, change: Change) -> Change:
        r""":math:`\sqrt{A''}\,\dot\eta`, whose squared norm is the Fisher information."""
        return torch.exp(0.5 * self.log_var) * change

    def sample(self, generator: torch.Generator) -> Float[Tensor, "*batch D"]:
        """One draw for every entry of the batch."""
        return (uniform(self.logits, generator) < self.mean).to(self.logits.dtype)

    @staticmethod
    def outside(x: Tensor) -> Bool[Tensor, "*shape"]:
        """Where x is no possible value."""
        return (x != 0) & (x != 1)


class ContinuousBernoulli(NamedTuple):
    r"""Independent values in [0, 1] of density proportional to :math:`e^{\eta_a x_a}`.

    .. math:: A(\eta) = \sum_a \log \frac{e^{\eta_a} - 1}{\eta_a}, \qquad T(x) = x

    (Loaiza-Ganem & Cunningham 2019): what a Bernoulli likelihood of grey values lacks to be one is
    this normaliser, which is stable at η = 0.

    Attributes:
        logits: η.

    Example:
        At η = 0 it is uniform:

        >>> p = ContinuousBernoulli(torch.zeros(2))
        >>> p.log_prob(torch.tensor([0.1, 0.7])), p.mean
        (tensor(0.), tensor([0.5000, 0.5000]))
    """

    logits: Float[Tensor, "*batch D"]

    @property
    def mean(self) -> Float[Tensor, "*batch D"]:
        """E x = A'(η)."""
        return continuous_bernoulli_mean(self.logits)

    @property
    def log_var(self) -> Float[Tensor, "*batch D"]:
        """log Var x = log A''(η)."""
        return continuous_bernoulli_variance(self.logits).log()

    def log_partition(self) -> Float[Tensor, "*batch"]:
        """A."""
        return continuous_bernoulli_log_partition(self.logits).sum(-1)

    def log_prob(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """η·x − A, nats."""
        return (self.logits * x).sum(-1) - self.log_partition()

    def kl(self, other: "ContinuousBernoulli") -> Float[Tensor, "*batch"]:
        """Relative entropy of ``self`` from ``other``, nats."""
        change = (self.mean * (self.logits - other.logits)).sum(-1)
        return change - self.log_partition() + other.log_partition()

    def whiten(self, change: Change) -> Change:
        r""":math:`\sqrt{A''}\,\dot\eta`, whose squared norm is the Fisher information."""
        return continuous_bernoulli_variance(self.logits).sqrt() * change

    def sample(self, generator: torch.Generator) -> Float[Tensor, "*batch D"]:
        r"""One draw :math:`\log(1 + u (e^\eta - 1)) / \eta` of uniform u for every entry."""
        u = uniform(self.logits, generator)
        # By symmetry x → 1 − x, η → −η, such that exponentials do not overflow.
        size = self.logits.abs()
        safe = size.clamp_min(1e-3)
        drawn = -torch.log1p(u * torch.expm1(-safe)) / safe
        drawn = torch.where(size < 1e-3, u, drawn)
        return torch.where(self.logits > 0, 1 - drawn, drawn)

    @staticmethod
    def outside(x: Tensor) -> Bool[Tensor, "*shape"]:
        """Where x is no possible value."""
        return ~((x >= 0) & (x <= 1))


MANY = 1e10
"""Rates above which a count is drawn as a normal number: its skewness is one by 10⁵, where torch's
own draws lose digits, and overflow at 2⁶³."""


class LogPoisson(NamedTuple):
    r"""Independent counts of rates :math:`e^{\eta_a}`.

    .. math:: A(\eta) = \sum_a e^{\eta_a}, \qquad T(x) = x

    Attributes:
        log_rate: η.

    Example:
        >>> p = LogPoisson(torch.zeros(1))
        >>> p.log_prob(torch.tensor([0.0])), p.mean
        (tensor(-1.), tensor([1.]))
    """

    log_rate: Float[Tensor, "*batch D"]

    @property
    def mean(self) -> Float[Tensor, "*batch D"]:
        """The rates."""
        return torch.exp(self.log_rate)

    @property
    def log_var(self) -> Float[Tensor, "*batch D"]:
        """The variance is the rate."""
        return self.log_rate

    def log_partition(self) -> Float[Tensor, "*batch"]:
        """A."""
        return torch.exp(self.log_rate).sum(-1)

    def log_prob(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """η·x − A − Σ log x!, nats."""
        return (self.log_rate * x - torch.lgamma(x + 1)).sum(-1) - self.log_partition()

    def kl(self, other: "LogPoisson") -> Float[Tensor, "*batch"]:
        """Relative entropy of ``self`` from ``other``, nats."""
        change = (self.mean * (self.log_rate - other.log_rate)).sum(-1)
        return change - self.log_partition() + other.log_partition()

    def whiten(self, change: Change) -> Change:
        r""":math:`\sqrt{A''}\,\dot\eta`, whose squared norm is the Fisher information."""
        return torch.exp(0.5 * self.log_rate) * change

    def sample(self, generator: torch.Generator) -> Float[Tensor, "*batch D"]:
        """One draw for every entry of the batch, drawn on the CPU.

        Raises:
            InputError: a rate is not finite.
        """
        rate = self.mean.cpu()
        if wrong := int((~rate.isfinite()).sum()):
            raise InputError(
                f"{wrong} of {rate.numel()} rates are not finite: lower the log rates (those of "
                "counts are hardly above 20), or take double precision."
            )
        drawn = torch.poisson(rate.clamp_max(MANY), generator=generator)
        large = rate > MANY
        if large.any():  # numbers are drawn for them alone
            normal = rate + rate.sqrt() * standard_normal(rate, generator)
            drawn = torch.where(large, normal.round(), drawn)
        return drawn.to(self.log_rate.device)

    @staticmethod
    def outside(x: Tensor) -> Bool[Tensor, "*shape"]:
        """Where x is no possible value."""
        return ~((x >= 0) & (x == x.floor()) & x.isfinite())


class Categorical(NamedTuple):
    r"""Independent choices among K, :math:`p(x_a = k) = e^{\eta_{ak}} / \sum_l e^{\eta_{al}}`.

    .. math:: A(\eta) = \sum_a \log \sum_k e^{\eta_{ak}}, \qquad T(x)_{ak} = [x_a = k]

    Attributes:
        logits: η.

    Example:
        >>> p = Categorical(torch.zeros(3, 10))  # three digits
        >>> round(p.log_prob(torch.tensor([3, 1, 4])).exp().item(), 6)
        0.001
    """

    logits: Float[Tensor, "*batch D K"]

    @property
    def mean(self) -> Float[Tensor, "*batch D K"]:
        """The probabilities."""
        return self.logits.softmax(-1)

    def log_partition(self) -> Float[Tensor, "*batch"]:
        """A."""
        return self.logits.logsumexp(-1).sum(-1)

    def log_prob(self, x: Int64[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """Log-probability of the choices, nats."""
        chosen = x.long().expand(self.logits.shape[:-1]).unsqueeze(-1)
        return self.logits.log_softmax(-1).gather(-1, chosen).squeeze(-1).sum(-1)

    def kl(self, other: "Categorical") -> Float[Tensor, "*batch"]:
        """Relative entropy of ``self`` from ``other``, nats."""
        log_p, log_q = self.logits.log_softmax(-1), other.logits.log_softmax(-1)
        p = log_p.exp()
        # Of what has no probability nothing is lost, however little the other gives to it.
        return (p * torch.where(p > 0, log_p - log_q, 0)).sum((-1, -2))

    def whiten(self, change: Tensor) -> Tensor:
        r""":math:`\sqrt{p}\,(\dot\eta - E_p \dot\eta)`, whose squared norm is the information."""
        log_p = self.logits.log_softmax(-1)
        mean = (log_p.exp() * change).sum(-1, keepdim=True)
        return torch.exp(0.5 * log_p) * (change - mean)

    def sample(self, generator: torch.Generator) -> Int64[Tensor, "*batch D"]:
        """One draw for every entry of the batch."""
        # A choice is the largest of the logits with Gumbel noise.
        noise = -torch.log(-torch.log(uniform(self.logits, generator).clamp_min(1e-20)))
        return (self.logits + noise).argmax(-1)

    def outside(self, x: Tensor) -> Bool[Tensor, "*shape"]:
        """Where x is no possible value."""
        return ~((x >= 0) & (x < self.logits.shape[-1]) & (x == x.floor()))


SUPPORTS: dict[type, tuple[Callable[[Tensor], Tensor], str]] = {
    Bernoulli: (Bernoulli.outside, "0 or 1"),
    ContinuousBernoulli: (ContinuousBernoulli.outside, "within [0, 1]"),
    LogPoisson: (LogPoisson.outside, "whole numbers from 0 on"),
}
"""Where data are impossible, and what they have to be."""


def check_support(likelihood: type, x: Tensor, name: str | None = None) -> None:
    """Refuse data that have no density under a class of likelihoods.

    Args:
        likelihood: one of this module's but Categorical, or any other class, which is not checked.
        x: the data.
        name: that people know the likelihood by; its class has one, too.

    Raises:
        InputError: so many of them lie outside of its support.

    Example:
        >>> check_support(Bernoulli, torch.tensor([0.0, 1.0]))
        >>> check_support(Bernoulli, torch.tensor([0.0, 0.3]))
        Traceback (most recent call last):
            ...
        kahlervae.errors.InputError: 1 of 2 values of the data are not 0 or 1, as a Bernoulli ...
    """
    if likelihood not in SUPPORTS:
        return
    outside, words = SUPPORTS[likelihood]
    if count := int(outside(x).sum()):
        raise InputError(
            f"{count} of {x.numel()} values of the data are not {words}, as a "
            f"{name or likelihood.__name__} likelihood needs them: choose another "
            "likelihood (continuous_bernoulli for grey values), or bring the data to that form."
        )


ZETA = torch.special.zeta(torch.arange(2, 40, 2, dtype=torch.float64), 1).tolist()
SERIES = [(-1) ** k * 2 * zeta / (2 * math.pi) ** (2 * k + 2) for k, zeta in enumerate(ZETA)]
"""B_{2k} / (2k)! = (−1)^{k+1} 2 ζ(2k) / (2π)^{2k}."""


def continuous_bernoulli_log_partition(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""The log-partition function of a continuous Bernoulli variable, in the logit η.

    .. math:: A(\eta) = \log\frac{e^\eta - 1}{\eta}
              = \frac\eta2 + \sum_{k \ge 1} \frac{B_{2k}}{2k\,(2k)!}\, \eta^{2k}

    by the series for :math:`|\eta| < 2`, and without overflow elsewhere. Twice differentiable by
    torch.

    Example:
        >>> continuous_bernoulli_log_partition(torch.tensor([0.0, 1.0, 200.0]))
        tensor([  0.0000,   0.5413, 194.7017])
    """
    near = logits.abs() < 2
    small = torch.where(near, logits, 0.0)
    series = 0.5 * small + small.square() * _series(small, lambda k: 1 / (2 * k))
    large = torch.where(near, 2.0, logits)
    size = large.abs()
    exact = large.clamp_min(0) + torch.log1p(-torch.exp(-size)) - size.log()
    return torch.where(near, series, exact)


def continuous_bernoulli_mean(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""The mean of a continuous Bernoulli variable.

    .. math:: A'(\eta) = \frac{1}{1 - e^{-\eta}} - \frac1\eta
              = \frac12 + \sum_{k \ge 1} \frac{B_{2k}}{(2k)!}\, \eta^{2k-1}

    Example:
        >>> continuous_bernoulli_mean(torch.tensor([-200.0, 0.0, 200.0]))
        tensor([0.0050, 0.5000, 0.9950])
    """
    near = logits.abs() < 2
    small = torch.where(near, logits, 0.0)
    series = 0.5 + small * _series(small, lambda k: 1.0)
    large = torch.where(near, 2.0, logits)
    size = large.abs()
    upper = -torch.expm1(-size).reciprocal() - size.reciprocal()
    # 1 − upper, in which the ones are left out: next to 0 they would take the digits.
    lower = size.reciprocal() + torch.exp(-size) / torch.expm1(-size)
    return torch.where(near, series, torch.where(large > 0, upper, lower))


def continuous_bernoulli_variance(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""The variance of a continuous Bernoulli variable, its information in the logit η.

    .. math:: A''(\eta) = \frac1{\eta^2} - \frac1{4 \sinh^2 (\eta/2)}
              = \sum_{k \ge 1} B_{2k} \frac{2k - 1}{(2k)!}\, \eta^{2k-2}

    by the series for :math:`|\eta| < 2`, where the difference would lose digits (it is 1/12 at
    η = 0), and with exponentials that do not overflow elsewhere.

    Example:
        >>> variance = continuous_bernoulli_variance(torch.tensor([0.0, 1.0, 200.0]))
        >>> [round(v, 6) for v in variance.tolist()]
        [0.083333, 0.079326, 2.5e-05]
    """
    near = logits.abs() < 2
    series = _series(torch.where(near, logits, 0.0), lambda k: 2 * k - 1)
    large = torch.where(near, 2.0, logits).abs()
    decay = torch.exp(-large)
    exact = large.square().reciprocal() - decay / torch.expm1(-large).square()
    return torch.where(near, series, exact)


def _series(x: Tensor, factor: Callable[[int], float]) -> Tensor:
    r""":math:`\sum_k \mathrm{factor}(k)\, \frac{B_{2k}}{(2k)!}\, x^{2k-2}`, by Horner's rule."""
    square, total = x.square(), torch.zeros_like(x)
    for k in range(len(SERIES), 0, -1):
        total = total * square + factor(k) * SERIES[k - 1]
    return total
