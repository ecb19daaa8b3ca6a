"""Which samples the outlier scores flag, and how far the scores agree.

Scores that disagree cannot all say what people would: their agreement is measured, and samples are
shown by who flags them, so that a reader can judge by eye.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd
from jaxtyping import Bool, Float, Num
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.evaluate.outliers import cohen_kappa

__all__ = ["GROUPS", "flagged_images", "score_agreement", "shown_keys"]

GROUPS = {
    "knn": (True, False),
    "entropy": (False, True),
    "both": (True, True),
    "neither": (False, False),
}
"""Groups of samples: whether kNN distance flags them, and whether entropy does."""
SHOWN = 16
"""Images shown of each group, at most."""


def shown_keys(keys: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The sampler settings whose samples are compared: the first key that begins so, of each.

    Args:
        keys: ``sampler:setting`` of all samples.
        wanted: beginnings of keys, of one sampler or of a setting of it; those of samplers that
            this model has not are passed over.

    Raises:
        InputError: there is none.
    """
    found = [next((key for key in sorted(keys) if key.startswith(name)), None) for name in wanted]
    shown = list(dict.fromkeys(key for key in found if key is not None))
    if not shown:
        raise InputError(
            f"no samples are named like {', '.join(wanted)}: name some of {', '.join(keys)} in "
            "evaluation.flagged."
        )
    return shown


def score_agreement(
    scores: Mapping[tuple[str, str], Float[Tensor, " n"]],
    flags: Mapping[tuple[str, str], Bool[Tensor, " n"]],
) -> pd.DataFrame:
    """How far outlier scores of the same images agree, two and two.

    Args:
        scores: by oracle and name of the score.
        flags: of the same names, whether an image lies beyond the threshold.

    Returns:
        One row for two scores of one oracle, and for one score by two oracles: ``oracle``,
        ``score``, ``other_oracle``, ``other_score``; ``kappa``, Cohen's of the flags; ``spearman``
        of the scores; ``both``, the share that both flag.
    """
    frame = pd.DataFrame({name: values.cpu().numpy() for name, values in scores.items()})
    spearman = frame.corr("spearman").to_numpy()
    rows = []
    for (i, one), (j, other) in combinations(enumerate(scores), 2):
        if one[0] != other[0] and one[1] != other[1]:
            continue
        rows.append(
            dict(zip(("oracle", "score", "other_oracle", "other_score"), one + other, strict=True))
            | {
                "kappa": cohen_kappa(flags[one], flags[other]),
                "spearman": spearman[i, j],
                "both": (flags[one] & flags[other]).double().mean().item(),
            }
        )
    return pd.DataFrame(rows)


def flagged_images(
    images: Num[Tensor, "n *view"], flags: Mapping[str, Bool[Tensor, " n"]]
) -> dict[str, Tensor]:
    """The first images of every group of :data:`GROUPS`, and its share of all, by group.

    Returns:
        ``images/<group>`` (at most 16, *view) and ``share/<group>``, without dimension.
    """
    content = {}
    for group, (knn, entropy) in GROUPS.items():
        members = (flags["knn"] == knn) & (flags["entropy"] == entropy)
        content[f"images/{group}"] = images[members][:SHOWN]
        content[f"share/{group}"] = members.double().mean()
    return content
