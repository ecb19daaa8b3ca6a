"""Settings of variants chosen by rules, with validation data alone.

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

__all__ = ["SCORES", "choose", "make_choice", "match_beta", "score_setting"]

SCORES = (
    *("elbo", "mse", "active_latents"),
    *("speed_variation", "turning", "acceleration", "sharpness"),
    *("knn_outliers", "entropy_outliers", "midpoint_outliers"),
)
"""What a table of choices tells of every setting."""

IDENTITY = ["dataset", "representation", "variant", "seed"]


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
        settings: ``setting``, its name; ``count`` of prior samples; ``neighbours``, ``quantile``
            and ``paths`` of the evaluation.

    Returns:
        One row per oracle: identity, setting, then the scores of reconstruction, of lines between
        posteriors, and of prior samples.

    Raises:
        InputError: a file cannot be read.
    """
    # Imported here, for the choice itself reads tables alone.
    import torch

    from kahlervae.evaluate.reconstruction import reconstruction_scores
    from kahlervae.evaluate.score import load_references, score_paths
    from kahlervae.sample import prior_sampler
    from kahlervae.seeding import generator
    from kahlervae.trained import Trained

    trained = Trained(model, data)
    vae, validation = trained.vae, trained.samples("validation")
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
    columns = {"setting": settings["setting"]} | reconstruction
    for position, (name, value) in enumerate(columns.items(), start=len(keys)):
        table.insert(position, name, value)
    return table


def choose(sweep: pd.DataFrame, rules: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    r"""The setting of every variant that its rule selects, by means over oracles.

    - ``most: elbo``: that with the largest one.
    - ``least: score, against: variant, margin: nats``: of the settings whose ELBO is at least that
      of the other variant less the margin, the one with the least score; if none reaches that, the
      one with the largest ELBO.
    - ``match: variant``: the β at which the MSE is that of the other variant
      (:func:`match_beta`); of that one the setting that its own rule selects, if it has one.

    Settings whose training failed, so that a score that the rule reads is not finite, do not count;
    nor do those that lack it, or the row, of an oracle that others have.

    Args:
        sweep: the gathered table of :func:`score_setting`.
        rules: by variant, see above; those of variants that were not swept say nothing.

    Returns:
        One row per setting: identity, setting, :data:`SCORES` and ``chosen``. Of variants with the
        rule ``match`` there is the one row of what was read off.

    Raises:
        InputError: a variant that others are held against was not trained, no setting of a variant
            counts, or errors do not rise with β.
    """
    keys = [*IDENTITY, "setting"]
    settings = sweep.groupby(keys, sort=False)
    oracles = settings.size().groupby(IDENTITY[:2]).transform("max")
    scores = settings[[*SCORES]]
    table = scores.mean().where(scores.count().eq(oracles, axis=0)).reset_index()
    chosen = []
    for key, run in table.groupby(IDENTITY[:2], sort=False):
        dataset = str(key[0])
        found: dict[str, pd.DataFrame] = {}
        swept = [name for name in rules if (run["variant"] == name).any()]
        # Matched variants come last, for the others' choices decide.
        for variant in sorted(swept, key=lambda name: "match" in rules[name]):
            rule, held = rules[variant], run[run["variant"] == variant]
            if "match" in rule:
                other = rule["match"]
                target = (
                    found[other][found[other]["chosen"]]
                    if other in found
                    else _plain(run, other, dataset)
                )
                (error,) = _finite(target, ["mse"], dataset)["mse"]
                found[variant] = _matched(_finite(held, ["mse"], dataset), error, dataset)
                continue
            score = rule.get("least", "elbo")
            allowed = counted = _finite(held, ["elbo", score], dataset)
            if "against" in rule:
                plain = _finite(_plain(run, rule["against"], dataset), ["elbo"], dataset)
                allowed = counted[counted["elbo"] >= plain["elbo"].iloc[0] - rule["margin"]]
                if allowed.empty:  # the least price that there is
                    allowed = counted.nlargest(1, "elbo")
            best = allowed[score].idxmin() if "least" in rule else allowed["elbo"].idxmax()
            found[variant] = held.assign(chosen=held.index == best)
        chosen += [found[variant] for variant in swept]
    columns = [*keys, *SCORES, "chosen"]
    return (
        pd.concat(chosen, ignore_index=True)[columns] if chosen else pd.DataFrame(columns=columns)
    )


def _plain(run: pd.DataFrame, variant: str, dataset: str) -> pd.DataFrame:
    """The row of a variant as it is, without changes."""
    rows = run[(run["variant"] == variant) & (run["setting"] == "default")]
    if rows.empty:
        raise InputError(f"the sweep on {dataset} lacks {variant}, which others are held to.")
    return rows


def _finite(rows: pd.DataFrame, scores: list[str], dataset: str) -> pd.DataFrame:
    """The settings of a variant whose scores are numbers."""
    counted = rows[np.isfinite(rows[scores].to_numpy(float)).all(axis=1)]
    if counted.empty:
        raise InputError(
            f"the sweep on {dataset} has no setting of {rows['variant'].iloc[0]} with "
            f"{' and '.join(dict.fromkeys(scores))}: change its settings and train them again."
        )
    return counted


def _matched(held: pd.DataFrame, error: float, dataset: str) -> pd.DataFrame:
    """The row of a control at the β at which its error is that of another variant."""
    betas = held["setting"].str.removeprefix("beta=").astype(float)
    order = betas.sort_values().index
    try:
        beta = match_beta(betas[order].to_numpy(), held.loc[order, "mse"].to_numpy(float), error)
    except InputError as refusal:
        variant = held["variant"].iloc[0]
        raise InputError(f"the sweep of {variant} on {dataset}: {refusal}") from refusal
    row = held.iloc[:1].assign(setting=f"beta={beta:g}", chosen=True)
    row[[*SCORES]] = np.nan
    return row.assign(mse=error)


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

    Raises:
        InputError: the errors are none, or do not rise, so that β is not a function of them.
    """
    if not (np.isfinite(error) and np.isfinite(errors).all() and (np.diff(errors) > 0).all()):
        told = ", ".join(f"{value:g}" for value in errors)
        raise InputError(
            f"MSEs must rise with β for {error:g} to be matched, and are {told}: take values of β "
            "that are further apart."
        )
    matched = np.exp(np.interp(np.log(error), np.log(errors), np.log(betas)))
    return float(f"{matched:.2g}")


def make_choice(sweep: Path | str, rules: Mapping[str, Mapping[str, Any]], out: Path | str) -> None:
    """Apply :func:`choose` to a file and write its table.

    Raises:
        InputError: the table cannot be read, or nothing can be chosen by it.
    """
    texts = ["dataset", "representation", "variant", "setting"]
    write_table(out, choose(read_table(sweep, texts, ["seed", *SCORES]), rules))
