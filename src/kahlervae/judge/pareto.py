"""Outliers at equal variation, hypervolumes, and the choice of settings on validation rows.

A sampler that concentrates always removes outliers. What counts is whether it removes more than
the simple ways do where they vary as much: the prior truncated by its temperature, and a Gaussian
mixture at a temperature of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from kahlervae.errors import InputError
from kahlervae.evaluate import UNJUDGED
from kahlervae.storage import read_table, write_table

__all__ = [
    "CHOSEN",
    "CONTROLS",
    "IDENTITY",
    "SCORES",
    "choose",
    "compare_to_controls",
    "curve_outliers",
    "envelope_outliers",
    "hypervolume",
    "hypervolumes",
    "make_pareto",
    "split_setting",
    "with_families",
]

VARIANT = ["dataset", "representation", "variant"]
IDENTITY = [*VARIANT, "seed"]
SCORES = ["knn_outliers", "entropy_outliers", "mahalanobis_outliers", "energy_outliers"]
VARIATIONS = ["recall", "coverage", "vendi", "novelty"]
SHARES = ["recall", "coverage"]
"""Measures of variation with the range [0, 1] whatever the data, of which a volume makes sense."""

KNOBS = {
    "truncated": "temperature",
    "gmm": "temperature",
    "riemannian": "temperature",
    "volume": "power",
}
"""What runs along the curve of a sampler; other samplers are single points."""
CONTROLS = {"truncated": ("prior", "truncated"), "gmm": ("gmm",)}
"""The simple ways to remove outliers, with the samplers on their curves."""

COLUMNS = [
    *IDENTITY,
    "oracle",
    "split",
    "family",
    "setting",
    "score",
    "variation",
    "outliers",
    "variation_value",
    "control",
    "control_outliers",
    "difference",
]
CHOSEN = [*VARIANT, "family", "setting", "control", "difference", "best"]
"""Columns of the table of chosen settings."""


def split_setting(sampler: str, setting: str) -> tuple[str, float]:
    """The family of a setting and its place on the family's curve.

    >>> split_setting("gmm", "components=10,temperature=0.85")
    ('gmm:components=10', 0.85)
    >>> split_setting("prior", "default")
    ('prior', nan)

    Args:
        sampler: Name of the sampler.
        setting: ``default``, or pairs ``name=value`` with commas between them.

    Returns:
        The sampler with its setting but for the knob, and the knob's value; NaN without one.

    Raises:
        ValueError: the value of the knob is not a number.
    """
    knob, rest = np.nan, []
    for pair in setting.split(","):
        name, _, value = pair.partition("=")
        if name == KNOBS.get(sampler):
            knob = float(value)
        elif pair != "default":
            rest.append(pair)
    return ":".join([sampler, ",".join(rest)] if rest else [sampler]), knob


def with_families(samples: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns ``family`` and ``knob``; the prior is truncation's temperature 1.

    Raises:
        ValueError: a setting has a knob that is not a number.
    """
    names = samples[["sampler", "setting"]].drop_duplicates()
    split = [split_setting(*pair) for pair in names.itertuples(index=False)]
    split = [("truncated", 1.0) if family == "prior" else (family, k) for family, k in split]
    names = names.assign(family=[family for family, _ in split], knob=[knob for _, knob in split])
    return samples.merge(names, how="left", on=["sampler", "setting"])


def curve_outliers(
    values: Float[np.ndarray, " n"],
    variation: Float[np.ndarray, " points"],
    outliers: Float[np.ndarray, " points"],
) -> Float[np.ndarray, " n"]:
    """Outliers of a control's curve at given variations.

    The curve joins neighbouring points by straight segments, so that it never leaves the range of
    the two. Where several segments pass through a value (variation need not fall with the
    temperature), the fewest outliers count: the best that the control can do there.

    Args:
        values: The variations at which to read the curve.
        variation: Variation of the control's samples, in the order of its knob.
        outliers: Their outlier shares.

    Returns:
        The outlier shares; NaN outside of the range of the curve, which is never extrapolated.
    """
    found = np.full(len(values), np.nan)
    for v0, v1, o0, o1 in zip(
        variation[:-1], variation[1:], outliers[:-1], outliers[1:], strict=True
    ):
        inside = (min(v0, v1) <= values) & (values <= max(v0, v1))
        read = (
            np.full(len(values), min(o0, o1))
            if v0 == v1
            else o0 + (o1 - o0) * (values - v0) / (v1 - v0)
        )
        found = np.where(inside, np.fmin(found, read), found)
    return found


def envelope_outliers(
    values: Float[np.ndarray, " n"],
    curves: Iterable[tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]],
) -> Float[np.ndarray, " n"]:
    """Outliers of the lower envelope of several curves, see :func:`curve_outliers`.

    Args:
        values: The variations at which to read it.
        curves: Variation and outliers of each curve.

    Returns:
        The fewest outliers of any curve; NaN where none passes.
    """
    found = np.full(len(values), np.nan)
    for variation, outliers in curves:
        found = np.fmin(found, curve_outliers(values, variation, outliers))
    return found


def compare_to_controls(samples: pd.DataFrame) -> pd.DataFrame:
    """One row per model, oracle, split, setting, score, measure of variation and sampled control.

    Args:
        samples: The table of sample scores. The rows of :data:`CONTROLS` make the curves: of
            ``truncated``, with the prior as temperature 1, and of ``gmm``, the lower envelope over
            all numbers of components. All other samplers are held against them.

    Returns:
        ``outliers`` and ``variation_value`` of the setting, ``control_outliers`` of the control at
        that variation, and their ``difference``, negative where the sampler is better; the last
        two are empty outside of the range of the control. The rows of a ``family`` are its curve.

    Raises:
        ValueError: a setting has a knob that is not a number.
    """
    table = with_families(samples).reset_index(drop=True)
    controls = [name for names in CONTROLS.values() for name in names]
    parts = []  # per model and comparison: rows of the table, what was compared, the control there
    for _, model in table.groupby([*IDENTITY, "oracle", "split"], sort=False):
        held = model[~model["sampler"].isin(controls)]
        numbers = {name: held[name].to_numpy(float) for name in (*SCORES, *VARIATIONS)}
        for control, names in CONTROLS.items():
            on_curve = model[model["sampler"].isin(names)].sort_values("knob", kind="stable")
            if on_curve.empty:
                continue
            curves = [
                {name: curve[name].to_numpy(float) for name in numbers}
                for _, curve in on_curve.groupby("family")
            ]
            for score, variation in product(SCORES, VARIATIONS):
                values = numbers[variation]
                found = envelope_outliers(values, [(c[variation], c[score]) for c in curves])
                what = np.broadcast_to([score, variation, control], (len(held), 3))
                parts.append((held.index, what, numbers[score], values, found))
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    rows, what, outliers, values, found = map(np.concatenate, zip(*parts, strict=True))
    return (
        table.loc[rows, [*IDENTITY, "oracle", "split", "family", "setting"]]
        .reset_index(drop=True)
        .assign(
            **dict(zip(("score", "variation", "control"), what.T, strict=True)),
            outliers=outliers,
            variation_value=values,
            control_outliers=found,
            difference=outliers - found,
        )[COLUMNS]
    )


def hypervolume(points: Float[np.ndarray, "n 2"]) -> float:
    r"""Area that points dominate: of the union of the rectangles from the origin to each of them.

    .. math:: \left|\bigcup_i [0, x_i] \times [0, y_i]\right|

    exactly, by a sweep from the largest :math:`x` down.

    Args:
        points: Two objectives to be maximised, neither negative; points with NaN do not count.
    """
    points = points[np.isfinite(points).all(axis=1)]
    x, y = points[np.argsort(-points[:, 0], kind="stable")].T
    widths = x - np.append(x[1:], 0.0)
    return float((widths * np.maximum.accumulate(y)).sum()) if len(x) else 0.0


def hypervolumes(samples: pd.DataFrame) -> pd.DataFrame:
    """Hypervolume of every family of samplers, the controls among them.

    The objectives are the share of samples that are no outliers and a variation that is a share
    itself (:data:`SHARES`), against the reference point (0, 0): 1 is perfect. The Vendi score and
    novelty have no upper bound that all data share, and are left out.

    Args:
        samples: The table of sample scores.

    Raises:
        ValueError: a setting has a knob that is not a number.
    """
    keys = [*IDENTITY, "oracle", "split", "family"]
    rows = [
        dict(zip(keys, key, strict=True))
        | {
            "score": score,
            "variation": variation,
            "hypervolume": hypervolume(
                np.column_stack([1 - family[score], family[variation]]).astype(float)
            ),
        }
        for key, family in with_families(samples).groupby(keys, sort=False)
        for score in SCORES
        for variation in SHARES
    ]
    return pd.DataFrame(rows, columns=[*keys, "score", "variation", "hypervolume"])


def choose(
    pareto: pd.DataFrame, diagnostics: pd.DataFrame, settings: Mapping[str, Any]
) -> pd.DataFrame:
    """The setting of every family of samplers, chosen on validation rows.

    Of each family of each variant the setting is chosen whose ``score`` lies furthest below that
    of a control at equal variation, in the mean over seeds and oracles; of several ``variations``
    the one counts at which it lies least below. The control is the first of ``controls`` with
    which any setting of the family can be compared, and only settings count that can be compared
    with it for every seed, oracle and measure of variation. Settings whose chains were flagged for
    more than half of the seeds are not eligible. Nothing of this looks at test rows.

    Args:
        pareto: What :func:`compare_to_controls` returns.
        diagnostics: The diagnostics of the chains, with a column ``flagged``.
        settings: ``score``, ``variations`` and ``controls``, the strongest first.

    Returns:
        One row a family for which there is a choice, with the mean validation ``difference`` by
        which it was made; ``best`` marks the best of the volume samplers of a variant: that with
        the strongest control, and among those the smallest difference.
    """
    key = [*VARIANT, "family", "setting"]
    rows = pareto[
        (pareto["split"] == "validation")
        & (pareto["score"] == settings["score"])
        & pareto["variation"].isin(settings["variations"])
    ]
    share = with_families(diagnostics).groupby(key)["flagged"].mean()
    rows = rows[~pd.MultiIndex.from_frame(rows[key]).isin(share.index[share > 0.5])]
    # Empty where any value is: such a setting is not comparable.
    held = [*key, "control"]
    means = rows.groupby([*held, "variation"], sort=False)["difference"].agg(
        lambda values: values.mean(skipna=False)
    )
    worst = means.groupby(held, sort=False).agg(lambda values: values.max(skipna=False))
    worst = worst.dropna().reset_index()
    chosen = list(_first_comparable(worst, key[:-1], settings["controls"]))
    table = pd.DataFrame(chosen, columns=CHOSEN[:-1])
    strongest = table[table["family"].str.startswith("volume:")]
    best = [
        row["index"]
        for row in _first_comparable(strongest.reset_index(), VARIANT, settings["controls"])
    ]
    return table.assign(best=table.index.isin(best))


def _first_comparable(
    table: pd.DataFrame, by: Sequence[str], controls: Sequence[str]
) -> Iterator[dict[Any, Any]]:
    """Of every group the row with the smallest difference to the first control that has any."""
    for _, group in table.groupby(list(by), sort=False):
        for control in controls:
            rows = group[group["control"] == control]
            if len(rows):
                yield rows.iloc[int(rows["difference"].argmin())].to_dict()
                break


def make_pareto(
    samples: Path | str,
    diagnostics: Path | str,
    settings: Mapping[str, Any],
    out: Path | str,
    hypervolume_out: Path | str,
    chosen: Path | str,
) -> None:
    """Hold the samplers of ``samples.csv`` against the controls and choose their settings.

    Args:
        samples: Gathered scores.
        diagnostics: Gathered diagnostics of the chains.
        settings: See :func:`choose`.
        out: Where the table of :func:`compare_to_controls` is written.
        hypervolume_out: Where that of :func:`hypervolumes` is written.
        chosen: Where that of :func:`choose` is written.

    Raises:
        InputError: a table cannot be read, lacks a column or holds an unknown setting.
    """
    texts = [*VARIANT, "sampler", "setting"]
    scores = read_table(samples, [*texts, "oracle", "split"], ["seed", *SCORES, *VARIATIONS])
    # Without oracles there is nothing to compare.
    scores = scores[scores["oracle"] != UNJUDGED]
    chains = read_table(diagnostics, texts, ["seed", "flagged"])
    try:
        pareto, volumes = compare_to_controls(scores), hypervolumes(scores)
        choice = choose(pareto, chains, settings)
    except ValueError as error:
        raise InputError(
            f"{samples} or {diagnostics} holds a setting that is none ({error}): "
            "delete both and run again."
        ) from error
    write_table(out, pareto)
    write_table(hypervolume_out, volumes)
    write_table(chosen, choice)
