"""How constant the exact metric of a decoder is on data that it was not trained on.

A regulariser sees its own proxy at points of training; what it has achieved shows in the decoder's
own Fisher metric at posteriors of test data and midway between two of them.
"""

from collections.abc import Mapping

import pandas as pd
import torch
from jaxtyping import Complex, Float, Num
from torch import Tensor

from kahlervae.evaluate.smoothness import pairs
from kahlervae.geometry.fisher import fisher_metric
from kahlervae.models import VAE
from kahlervae.seeding import generator

__all__ = ["flatness", "score_flatness"]


def flatness(metric: Complex[Tensor, "n d d"]) -> dict[str, float]:
    r"""How much Hermitian metrics at n points vary in volume, and how far they are from round.

    - ``logdet_sd``: standard deviation of log det g over the points, in nats;
    - ``log_condition``: median of :math:`\log(\lambda_{\max} / \lambda_{\min})`.

    Both do not change with the scale of the metric. Eigenvalues below the rounding of the largest
    one count as that rounding: a latent that the decoder ignores makes both large, not infinite.

    Example:
        >>> metric = torch.diag_embed(torch.tensor([[1.0, 4.0], [4.0, 16.0]])) + 0j
        >>> {name: round(value, 4) for name, value in flatness(metric).items()}  # log 16 apart
        {'logdet_sd': 1.3863, 'log_condition': 1.3863}
    """
    values = _eigenvalues(metric)
    return {
        "logdet_sd": values.log().sum(1).std(correction=0).item(),
        "log_condition": (values[:, -1] / values[:, 0]).log().quantile(0.5).item(),
    }


def _eigenvalues(metric: Complex[Tensor, "n d d"]) -> Float[Tensor, "n d"]:
    values = torch.linalg.eigvalsh(metric.to(torch.complex128))
    rounding = torch.finfo(metric.dtype).eps * values[:, -1:]
    return torch.maximum(values, rounding)


@torch.no_grad()
def score_flatness(
    model: VAE, test: Num[Tensor, "m *shape"], settings: Mapping[str, int]
) -> pd.DataFrame:
    """Two rows: ``posterior``, means of test posteriors, and ``midpoint``, midway between two.

    The pairs are those of :func:`~kahlervae.evaluate.score.score_paths`: variants of one seed join
    the same samples.

    Args:
        model: The model whose decoder has the metric.
        test: Samples of the test split.
        settings: ``count`` of the midpoints, and of the posteriors at most.
    """
    means = model.encode(test).mean
    first, second = pairs(len(means), settings["count"], generator(model.identity["seed"], "paths"))
    middle = (means[first] + means[second]) / 2
    points = {"posterior": means[: settings["count"]], "midpoint": middle}
    return pd.DataFrame(
        model.identity | {"points": name} | flatness(fisher_metric(model.decoder, z))
        for name, z in points.items()
    )
