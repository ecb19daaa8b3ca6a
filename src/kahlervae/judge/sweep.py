"""Strengths of the regulariser chosen by a rule, with validation data alone.

Every setting is trained once, with a seed that no claim rests on, and scored on the validation
split; the test split is never read.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from kahlervae.errors import InputError
from kahlervae.storage import read_table, write_table

__all__ = ["choose", "make_choice", "match_beta", "score_setting"]

GOALS = ("acceleration", "knn_outliers", "entropy_outliers", "midpoint_outliers")
"""What a setting is ranked by, all of them better when smaller."""

STRENGTHS = ("beta", "form", "strength", "tie")


def score_setting(
    data: Path | str,
    oracles: Sequence[Path | str],
    model: Path | str,
    settings: Mapping[str, Any],
) -> pd.DataFrame:
    """Score the model of one setting on the validation split.

    Args:
        data: what the data stage wrote.
        oracles: files of the oracles.
        model: what the training stage wrote.
        settings: ``variant``, the block with which it was trained; ``count`` of prior samples;
            ``neighbours``, ``quantile`` and ``paths`` of the evaluation.

    Returns:
        One row per oracle: identity, the strengths, then the scores of reconstruction, of lines
        between posteriors, and of prior samples.

    Raises:
        InputError: a file cannot be read.
    """
    # Imported here, for the choice itself reads tables alone.
    import torch

    from kahlervae.data import load_split
    from kahlervae.evaluate.reconstruction import reconstruction_scores
    from kahlervae.evaluate.score import load_references, score_paths
    from kahlervae.models import load_model
    from kahlervae.sample import prior_sampler
    from kahlervae.seeding import generator

    vae, validation = load_model(model), load_split(data, "validation").samples
    seed, keys = vae.identity["seed"], list(vae.identity)
    references = load_references(data, oracles, settings)
    reconstruction = reconstruction_scores(vae, validation, generator(seed, "reconstruction"))
    # Lengths of paths are in units of the test images, which have no say here.
    paths = score_paths(vae, {}, validation, references, settings["paths"])
    paths = paths.drop(columns=["endpoints", "path_length"])
    prior = prior_sampler(vae)
    draws = prior.sample(settings["count"], generator(seed, "sample", prior.key))
    with torch.no_grad():
        decoded = vae.decode(draws.latents)
    samples = pd.DataFrame(
        {"oracle": reference.name} | reference.image_scores(reference.see(decoded), "validation")
        for reference in references
    )
    table = paths.merge(samples, on="oracle")
    variant = settings["variant"]
    strengths = {**variant.get("regulariser", {}), "beta": variant.get("beta", 1.0)}
    columns = {key: strengths.get(key) for key in STRENGTHS} | reconstruction
    for position, (name, value) in enumerate(columns.items(), start=len(keys)):
        table.insert(position, name, value)
    return table


def choose(sweep: pd.DataFrame, mse_limit: float) -> pd.DataFrame:
    r"""The strengths of ``kahler`` and ``beta`` that the rule of the configuration selects.

    ``kahler``: of the settings whose validation MSE is at most ``mse_limit`` times that of
    ``complex``, the one with the smallest sum of ranks by relative acceleration, outliers among
    prior samples (by distance and by entropy) and outliers among midpoints of lines (means over
    oracles; ties go to the smaller MSE). ``beta``: by :func:`match_beta`, so that its validation
    MSE is that of the chosen setting; ``unconstrained_beta``: so that it is that of
    ``pluriharmonic``, where these were trained.

    Args:
        sweep: the gathered table of :func:`score_setting`, with a row of ``complex``.
        mse_limit: largest MSE relative to ``complex``.

    Returns:
        One row per setting of ``kahler`` and one of every control per data set: identity,
        strengths, ``mse_ratio``, :data:`GOALS`, ``rank_sum`` and ``chosen``.

    Raises:
        InputError: ``complex`` was not trained, or no setting is within the limit.
    """
    keys = ["dataset", "representation", "variant", "seed"]
    means = (
        sweep.groupby([*keys, *STRENGTHS], sort=False, dropna=False)[["mse", *GOALS]]
        .mean()
        .reset_index()
    )
    chosen = []
    for (dataset, _), run in means.groupby(keys[:2], sort=False):
        plain = run.loc[run["variant"] == "complex", "mse"]
        if plain.empty:
            raise InputError(f"the sweep on {dataset} lacks `complex`, which others are held to.")
        run = run.assign(mse_ratio=run["mse"] / plain.iloc[0])
        kahler = run[run["variant"] == "kahler"]
        allowed = kahler[kahler["mse_ratio"] <= mse_limit]
        if allowed.empty:
            raise InputError(
                f"no setting of the sweep on {dataset} has at most {mse_limit:g} times the MSE of "
                f"complex; the least has {kahler['mse_ratio'].min():.2f}: add weaker ones to its "
                "sweep, or raise sweep.mse."
            )
        ranks = allowed[list(GOALS)].rank().sum(axis=1)
        order = pd.DataFrame({"rank": ranks, "mse": allowed["mse"]}).sort_values(["rank", "mse"])
        best = order.index[0]
        chosen.append(kahler.assign(rank_sum=ranks, chosen=kahler.index == best))
        chosen.append(_matched(run, "beta", run.loc[best]))
        for _, constructed in run[run["variant"] == "pluriharmonic"].iterrows():
            chosen.append(_matched(run, "unconstrained_beta", constructed))
    columns = [*keys, *STRENGTHS, "mse", "mse_ratio", *GOALS, "rank_sum", "chosen"]
    return pd.concat(chosen, ignore_index=True).reindex(columns=columns)


def _matched(run: pd.DataFrame, control: str, target: "pd.Series[Any]") -> pd.DataFrame:
    """The row of a control at the β at which its error is that of another row."""
    controls = run[run["variant"] == control].sort_values("beta")
    betas, errors = (controls[column].to_numpy(float) for column in ("beta", "mse"))
    row = controls.iloc[:1].assign(
        beta=match_beta(betas, errors, float(target["mse"])),
        mse=target["mse"],
        mse_ratio=target["mse_ratio"],
        chosen=True,
    )
    row[[*GOALS]] = np.nan
    return row


def match_beta(
    betas: Float[np.ndarray, " n"], errors: Float[np.ndarray, " n"], error: float
) -> float:
    """The β of a β-VAE with a given error: log β is linear in log MSE between neighbours.

    Outside of the range of the errors it is that of the nearest one. Two significant digits, which
    is finer than seeds differ.

    Args:
        betas: in increasing order.
        errors: MSE of each, increasing with β.
        error: the MSE to match.
    """
    matched = np.exp(np.interp(np.log(error), np.log(errors), np.log(betas)))
    return float(f"{matched:.2g}")


def make_choice(sweep: Path | str, mse_limit: float, out: Path | str) -> None:
    """Apply :func:`choose` to a file and write its table.

    Raises:
        InputError: the table cannot be read, or nothing can be chosen by it.
    """
    texts = ["dataset", "representation", "variant"]
    table = read_table(sweep, texts, ["seed", "beta", "mse", *GOALS])
    write_table(out, choose(table, mse_limit))
