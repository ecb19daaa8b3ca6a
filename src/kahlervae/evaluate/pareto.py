"""Outliers at equal variation: samplers against the truncation curve of their own model.

A sampler that concentrates always removes outliers. What counts is whether it removes more than
plain truncation of the prior does where truncation varies as much.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from kahlervae.errors import InputError
from kahlervae.storage import read_table, write_table

__all__ = ["IDENTITY", "compare_to_truncation", "make_pareto", "truncated_outliers"]

IDENTITY = ["dataset", "representation", "variant", "seed"]
SCORES = ["knn_outliers", "entropy_outliers"]
VARIATIONS = ["recall", "coverage", "vendi"]
COLUMNS = [
    *IDENTITY,
    "oracle",
    "sampler",
    "setting",
    "score",
    "variation",
    "outliers",
    "variation_value",
    "truncated_outliers",
    "difference",
]


def truncated_outliers(
    value: float,
    variation: Float[np.ndarray, " temperatures"],
    outliers: Float[np.ndarray, " temperatures"],
) -> float:
    """Outliers of the truncation curve at a given variation.

    The curve joins neighbouring temperatures by straight segments, so that it never leaves the
    range of the two. Where several segments pass through the value (variation need not fall with
    the temperature), the fewest outliers count: the best that truncation can do there.

    Args:
        value: The variation at which to read the curve.
        variation: Variation of the truncated samples, in the order of the temperatures.
        outliers: Their outlier shares.

    Returns:
        The outlier share; NaN outside of the range of the curve, which is never extrapolated.
    """
    found = []
    for (v0, v1), (o0, o1) in zip(
        np.lib.stride_tricks.sliding_window_view(variation, 2),
        np.lib.stride_tricks.sliding_window_view(outliers, 2),
        strict=True,
    ):
        if min(v0, v1) <= value <= max(v0, v1):
            found.append(min(o0, o1) if v0 == v1 else o0 + (o1 - o0) * (value - v0) / (v1 - v0))
    return float(min(found, default=np.nan))


def compare_to_truncation(samples: pd.DataFrame) -> pd.DataFrame:
    """One row per model, oracle, sampler setting, outlier score and measure of variation.

    Args:
        samples: The table of sample scores; ``truncated`` rows and the ``prior`` (temperature 1)
            make the curve, all other samplers are held against it.

    Returns:
        ``outliers`` and ``variation_value`` of the sampler, ``truncated_outliers`` of the curve at
        that variation, and their ``difference``, negative where the sampler is better; the last
        two are empty outside of the range of the curve.
    """
    rows = []
    for _, model in samples.groupby([*IDENTITY, "oracle"], sort=False):
        on_curve = model["sampler"].isin(["prior", "truncated"])
        curve = model[on_curve]
        temperature = curve["setting"].str.extract(r"temperature=(.+)")[0].astype(float).fillna(1.0)
        curve = curve.loc[temperature.sort_values().index]
        for _, row in model[~on_curve].iterrows():
            for score in SCORES:
                for variation in VARIATIONS:
                    control = (
                        truncated_outliers(
                            row[variation], curve[variation].to_numpy(), curve[score].to_numpy()
                        )
                        if len(curve) > 1
                        else np.nan
                    )
                    rows.append(
                        {
                            **row[[*IDENTITY, "oracle", "sampler", "setting"]],
                            "score": score,
                            "variation": variation,
                            "outliers": row[score],
                            "variation_value": row[variation],
                            "truncated_outliers": control,
                            "difference": row[score] - control,
                        }
                    )
    return pd.DataFrame(rows, columns=COLUMNS)


def make_pareto(samples: Path | str, out: Path | str) -> None:
    """Hold the samplers of ``samples.csv`` against truncation and write ``pareto.csv``.

    Raises:
        InputError: the table cannot be read, lacks a column or holds an unknown setting.
    """
    texts = [*(key for key in IDENTITY if key != "seed"), "oracle", "sampler", "setting"]
    table = read_table(samples, texts, ["seed", *SCORES, *VARIATIONS])
    try:
        write_table(out, compare_to_truncation(table))
    except ValueError as error:
        raise InputError(f"{samples} holds a setting that is none ({error}).") from error
