"""Weighted draws from a pool of independent ones, whatever the weight."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.options import check_count

__all__ = ["Pool", "effective_size", "rake"]

RAKES = 20
"""Steps in which components get their shares back, nearly always to many digits."""
MOST_RAKES = 10_000
"""Steps where they do not by then, as with components that hardly differ."""
MISSED = 1e-3
"""By how much the shares may be missed, all together."""


class Pool(NamedTuple):
    """Independent draws, by the noise with which some of them are chosen.

    Attributes:
        noise: standard Gumbel, one for each; with the same noise, weights that are close draw much
            the same.

    Example:
        >>> import torch
        >>> pool = Pool.draw(1000, torch.Generator().manual_seed(0))
        >>> tilt = torch.arange(1000) / 100  # the weight grows by a factor e every hundred
        >>> index = pool.resample(tilt.double(), 50)
        >>> bool(index.double().mean() > 800)
        True
    """

    noise: Float[Tensor, " n"]

    @classmethod
    def draw(cls, count: int, generator: torch.Generator) -> "Pool":
        """The noise of so many draws."""
        uniform = torch.rand(count, generator=generator, dtype=torch.float64)
        return cls(-uniform.log().neg().log())

    def resample(self, log_weight: Float[Tensor, " n"], count: int) -> Int[Tensor, " count"]:
        """Which are drawn: ``count`` without replacement, one after the other by their weights.

        By the Gumbel-top-k trick: Kool et al. 2019, *Stochastic beams and where to find them*. In
        the order of the pool, which says nothing of the weights.

        Raises:
            InputError: a log weight is NaN or ∞, or fewer weights than ``count`` are above 0.
        """
        check_count("the number of draws from a pool", count)
        if wrong := int((log_weight.isnan() | log_weight.isposinf()).sum()):
            raise InputError(
                f"{wrong} of {len(log_weight)} log weights of a pool are NaN or ∞: find what made "
                "them diverge, or give −∞ to what is not to be drawn."
            )
        if (positive := int(log_weight.isfinite().sum())) < count:
            raise InputError(
                f"{count} draws without replacement from a pool of {positive} weights above 0 are "
                "too many: take fewer, or a larger pool."
            )
        return (log_weight.cpu() + self.noise).topk(count).indices.sort().values


def effective_size(log_weight: Float[Tensor, " n"]) -> float:
    r"""Kish's effective sample size of a weighted pool, :math:`(\sum w)^2 / \sum w^2`.

    Raises:
        InputError: there are no weights, or not one for each draw.

    Example:
        >>> import torch
        >>> effective_size(torch.tensor([0.0, 0.0, -100.0]))
        2.0
    """
    if log_weight.dim() != 1:
        raise InputError(
            f"log weights have the shape {tuple(log_weight.shape)}: give one for each draw, (n,)."
        )
    if not len(log_weight):
        raise InputError("there are no weights: an effective size is that of one draw at least.")
    # Squares of small weights are 0 in half precision.
    precision = torch.promote_types(log_weight.dtype, torch.float32)
    return 1 / log_weight.to(precision).softmax(0).square().sum().item()


def rake(
    log_weight: Float[Tensor, " n"], responsibilities: Float[Tensor, "n K"]
) -> Float[Tensor, " n"]:
    r"""A weight less what leaves the components of a mixture their shares.

    .. math:: \log w(z_n) - \sum_k r_k(z_n)\, b_k, \qquad
              \frac{\sum_n w(z_n)\, r_k(z_n)}{\sum_n w(z_n)} = \frac1N \sum_n r_k(z_n)

    with responsibilities r and the b of this equation, by raking: no weight wins by dropping
    components, and with them classes. At most a thousandth of the weight is in the wrong one, and
    nearly always none to many digits; what has no share is left out.

    Raises:
        InputError: a log weight is NaN or ∞, all are −∞ where a component is, or raking does not
            reach the shares.

    Example:
        >>> import torch
        >>> one = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> raked = rake(torch.tensor([2.0, 1.0, 0.0, 0.0]), one)
        >>> raked.softmax(0) @ one
        tensor([0.5000, 0.5000])
    """
    shares = responsibilities.mean(0)
    for step in range(MOST_RAKES):
        found = log_weight.softmax(0) @ responsibilities
        excess = (found / shares).log()
        if not excess.isfinite().all():  # what is found is too small a number, or has no share
            terms = log_weight.log_softmax(0).unsqueeze(1) + responsibilities.log()
            excess = (terms.logsumexp(0) - shares.log()).masked_fill(shares == 0, 0)
        if not excess.isfinite().all():
            break
        if step >= RAKES and (found - shares).abs().sum() <= MISSED:
            return log_weight
        log_weight = log_weight - responsibilities @ excess
    raise InputError(
        "raking does not give the components of a mixture their shares back: give log weights that "
        "are neither NaN nor ∞, above −∞ at a draw of every component, and responsibilities that "
        "sum to 1."
    )
