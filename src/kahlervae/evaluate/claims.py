"""The claims of the paper, each with an estimate, an interval, a rule and a verdict.

Claims about identities hold or fail by a tolerance at every probe of every model. Claims about
samples are differences paired by seed, averaged over the oracles before pairing, and judged by
whether their interval excludes zero. A claim whose variants or samplers a run left out gets no row.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from kahlervae.errors import InputError
from kahlervae.evaluate.statistics import bootstrap_interval, verdict
from kahlervae.storage import read_table, write_table

__all__ = ["COLUMNS", "TABLES", "judge", "make_claims"]

RUN = ["dataset", "representation"]
TABLES = {
    "agreement": (
        [*RUN, "variant", "probe_set", "potential"],
        ["seed", "relative_error_median", "logdet_spearman"],
    ),
    "identities": ([*RUN, "identity_name"], ["value", "tolerance"]),
    "samples": (
        [*RUN, "variant", "oracle", "sampler", "setting"],
        ["seed", "knn_outliers", "entropy_outliers", "recall", "vendi"],
    ),
    "paths": ([*RUN, "variant", "oracle", "endpoints"], ["seed", "acceleration"]),
    "reconstruction": ([*RUN, "variant"], ["seed", "mse"]),
    "pareto": (
        [*RUN, "variant", "oracle", "sampler", "setting", "score", "variation"],
        ["seed", "difference"],
    ),
}
"""The tables that claims are read from, with the columns of texts and of numbers they need."""

COLUMNS = [
    "claim",
    "dataset",
    "statement",
    "metric",
    "estimate",
    "ci_low",
    "ci_high",
    "rule",
    "verdict",
]


class Identity(NamedTuple):
    """An identity that holds or fails by a tolerance."""

    statement: str
    metric: str
    side: Literal["at most", "at least"]


IDENTITIES = {
    "kl_hessian": Identity(
        "The Fisher metric of the decoder is the mixed complex Hessian of the relative entropy at "
        "its base point.",
        "largest relative error",
        "at most",
    ),
    "psh_certificate": Identity(
        "The mixture potential is plurisubharmonic: its metric has no negative eigenvalue.",
        "smallest eigenvalue",
        "at least",
    ),
    "closedness": Identity(
        "The metric of the mixture potential is closed, hence Kähler.",
        "largest closedness defect",
        "at most",
    ),
    "total_covariance": Identity(
        "The metric of the mixture potential is covariance within plus covariance between its "
        "components (law of total covariance).",
        "largest relative error",
        "at most",
    ),
    "missing_information": Identity(
        "The complete-data information of the mixture decoder is its Fisher information plus the "
        "missing information.",
        "largest deviation in standard errors",
        "at most",
    ),
    "holomorphic_hermitian": Identity(
        "The Fisher metric of a holomorphic decoder is Hermitian (positive control).",
        "largest Hermitian defect",
        "at most",
    ),
    "holomorphic_closedness": Identity(
        "The Fisher metric of a holomorphic decoder is closed, hence Kähler (positive control).",
        "largest closedness defect",
        "at most",
    ),
    "holomorphic_potential": Identity(
        "The Fisher metric of a holomorphic decoder has the global potential ‖μ(z)‖²/σ² (positive "
        "control).",
        "largest relative error",
        "at most",
    ),
}


class Effect(NamedTuple):
    """A consequence that the paper claims of a strategy: a metric gets smaller."""

    name: str
    words: str
    metric: str


EFFECTS = [
    Effect("smoother", "smoother representations", "acceleration"),
    Effect("fewer_outliers", "fewer semantic outliers by distance", "knn_outliers"),
    Effect("fewer_outliers", "fewer semantic outliers by entropy", "entropy_outliers"),
    Effect("less_variation", "less variation by recall", "recall"),
    Effect("less_variation", "less variation by Vendi score", "vendi"),
]


class Strategy(NamedTuple):
    """A variant with a sampler, and the controls (with prior sampling) it is held against."""

    name: str
    words: str
    variant: str
    sampler: Literal["prior", "volume"]
    controls: tuple[str, ...] = ("complex", "beta")


STRATEGIES = [
    Strategy("regulariser", "The potential-based regulariser", "kahler", "prior"),
    Strategy("volume_sampler", "Volume-weighted sampling", "complex", "volume"),
    Strategy("both", "Regulariser and volume-weighted sampling", "kahler", "volume"),
    Strategy(
        "exact_regulariser",
        "The regulariser on the exact Fisher metric",
        "fisher",
        "prior",
        ("complex",),
    ),
]


def make_claims(tables: Path | str, settings: Mapping[str, Any], out: Path | str) -> None:
    """Judge all claims by the tables of a folder and write ``claims.csv``.

    Args:
        tables: The folder of the files named in :data:`TABLES`.
        settings: See :func:`judge`.
        out: Where to write.

    Raises:
        InputError: a table is missing or damaged, or was sampled without the α of the claims.
    """
    frames = {
        name: read_table(Path(tables) / f"{name}.csv", texts, numbers)
        for name, (texts, numbers) in TABLES.items()
    }
    write_table(out, judge(frames, settings))


def judge(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> pd.DataFrame:
    """The claims table.

    Args:
        tables: Data frames by the names of :data:`TABLES`.
        settings: ``confidence``, ``resamples`` and ``seed`` of the intervals; ``minimum_seeds``
            below which no verdict is given; ``alpha`` of the volume sampler; ``error_ratio`` and
            ``spearman`` of the claim that the potential tracks the Fisher metric;
            ``matched_reconstruction``, the relative difference in test MSE up to which ``beta``
            is a matched control.

    Raises:
        InputError: volume samples were drawn, but none with the α of the claims.
    """
    rows: list[dict[str, Any]] = []
    runs = tables["reconstruction"][["dataset", "representation"]].drop_duplicates()
    for dataset, representation in runs.itertuples(index=False):
        run = _Run(
            {
                name: table[
                    (table["dataset"] == dataset) & (table["representation"] == representation)
                ]
                for name, table in tables.items()
            },
            settings,
        )
        several = (runs["dataset"] == dataset).sum() > 1
        label = f"{dataset}/{representation}" if several else dataset
        claims = [*run.identities(), *run.tracking(), *run.strategies(), *run.truncation()]
        rows += [claim | {"dataset": label} for claim in claims]
    return pd.DataFrame(rows, columns=COLUMNS)


class _Run:
    """The claims about one data set in one representation."""

    def __init__(self, tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> None:
        self.tables = tables
        self.settings = settings
        self.volume_setting = self._volume_setting()

    def _volume_setting(self) -> str | None:
        samples, alpha = self.tables["samples"], self.settings["alpha"]
        drawn = samples.loc[samples["sampler"] == "volume", "setting"].unique()
        for setting in map(str, drawn):
            with suppress(ValueError):
                if float(setting.removeprefix("alpha=")) == alpha:
                    return setting
        if len(drawn):
            raise InputError(
                f"claims.alpha = {alpha} was not sampled, only {', '.join(map(str, drawn))}: "
                "set it to one of sampling.volume.alphas."
            )
        return None

    def identities(self) -> Iterator[dict[str, Any]]:
        """Claims by tolerance, over all models."""
        for name, identity in IDENTITIES.items():
            rows = self.tables["identities"].query("identity_name == @name")
            if rows.empty:
                continue
            value, tolerance = rows["value"].to_numpy(), rows["tolerance"].to_numpy()
            at_most = identity.side == "at most"
            holds = bool(np.all(value <= tolerance if at_most else value >= tolerance))
            worst = value.max() if at_most else value.min()  # NaN if any is, and then fails
            yield {
                "claim": name,
                "statement": identity.statement,
                "metric": identity.metric,
                "estimate": worst,
                "rule": f"supported if {identity.side} {tolerance[0]:g} for each of "
                f"{len(rows)} models",
                "verdict": "supported" if holds else "not supported",
            }

    def tracking(self) -> Iterator[dict[str, Any]]:
        """Claims that the fitted potential tracks the Fisher metric of ``complex`` decoders."""
        rows = self.tables["agreement"].query("variant == 'complex' and probe_set == 'posterior'")
        by_potential = rows.set_index(["potential", "seed"])
        if not {"fitted", "constant"} <= set(rows["potential"]):
            return
        errors = by_potential["relative_error_median"]
        yield self._interval_claim(
            "potential_tracks_fisher_error",
            "The fitted potential approximates the Fisher metric better than any constant metric.",
            "relative_error_median, fitted / constant",
            errors["fitted"] / errors["constant"],
            "below",
            self.settings["error_ratio"],
        )
        yield self._interval_claim(
            "potential_tracks_fisher_volume",
            "The volume element of the fitted potential ranks points as the Fisher metric does.",
            "logdet_spearman",
            by_potential["logdet_spearman"]["fitted"],
            "above",
            self.settings["spearman"],
        )

    def strategies(self) -> Iterator[dict[str, Any]]:
        """Claims of every strategy against every control."""
        for strategy in STRATEGIES:
            for control in strategy.controls:
                matched, remark = (
                    self._matched(strategy.variant) if control == "beta" else (True, "")
                )
                for effect in EFFECTS:
                    ours, theirs = self._values(strategy, control, effect.metric)
                    if ours.empty or theirs.empty:
                        continue
                    at = " at matched reconstruction" if control == "beta" else ""
                    yield self._interval_claim(
                        f"{strategy.name}_{effect.name}_{effect.metric}_vs_{control}",
                        f"{strategy.words} ({strategy.variant}) gives {effect.words} than "
                        f"{control} with prior sampling{at}.",
                        effect.metric,
                        ours - theirs,
                        "below",
                        remark=remark,
                        valid=matched,
                    )

    def truncation(self) -> Iterator[dict[str, Any]]:
        """Claims of volume-weighted sampling against truncation at equal variation."""
        for variant in ("complex", "kahler"):
            volume = self.tables["pareto"].query(
                "variant == @variant and sampler == 'volume' and setting == @self.volume_setting"
            )
            for (score, variation), rows in volume.groupby(["score", "variation"], sort=False):
                yield self._interval_claim(
                    f"volume_sampler_{score}_vs_truncation_at_{variation}_{variant}",
                    f"Volume-weighted sampling of {variant} leaves fewer outliers than truncation "
                    f"of the prior at equal variation ({variation}).",
                    str(score),
                    _mean_over_oracles(rows, "difference"),
                    "below",
                )

    def _values(
        self, strategy: Strategy, control: str, metric: str
    ) -> tuple["pd.Series[float]", "pd.Series[float]"]:
        """The metric of strategy and control by seed."""
        volume = strategy.sampler == "volume"
        if metric == "acceleration":
            # A regulariser is judged between test posteriors, a sampler between its own samples.
            paths = self.tables["paths"]
            ours = f"volume:{self.volume_setting}" if volume else "posterior"
            theirs = "prior" if volume else "posterior"
            chosen = paths[(paths["variant"] == strategy.variant) & (paths["endpoints"] == ours)]
            reference = paths[(paths["variant"] == control) & (paths["endpoints"] == theirs)]
        else:
            samples = self.tables["samples"]
            setting = self.volume_setting if volume else "default"
            chosen = samples[
                (samples["variant"] == strategy.variant)
                & (samples["sampler"] == strategy.sampler)
                & (samples["setting"] == setting)
            ]
            reference = samples[(samples["variant"] == control) & (samples["sampler"] == "prior")]
        return _mean_over_oracles(chosen, metric), _mean_over_oracles(reference, metric)

    def _matched(self, variant: str) -> tuple[bool, str]:
        """Whether beta reconstructs as well as the variant, seed by seed, and a remark on it."""
        mse = self.tables["reconstruction"].set_index(["variant", "seed"])["mse"]
        if not {variant, "beta"} <= set(mse.index.get_level_values("variant")):
            return False, ""
        relative = mse["beta"] / mse[variant] - 1
        limit = self.settings["matched_reconstruction"]
        matched = bool((relative.abs() <= limit).all())
        return matched, (
            f"beta {'is' if matched else 'is not'} matched, its test MSE differs from that of "
            f"{variant} by {relative.min():+.1%} to {relative.max():+.1%} over the seeds "
            f"(limit {limit:.0%})"
        )

    def _interval_claim(
        self,
        claim: str,
        statement: str,
        metric: str,
        by_seed: "pd.Series[float]",
        side: Literal["below", "above"],
        bound: float = 0.0,
        remark: str = "",
        valid: bool = True,
    ) -> dict[str, Any]:
        """A claim judged by the interval of a mean over seeds; NaN marks a seed without value."""
        settings = self.settings
        values = by_seed.dropna()
        interval = bootstrap_interval(
            values, settings["confidence"], settings["resamples"], settings["seed"]
        )
        rule = (
            f"supported if the {settings['confidence']:.0%} bootstrap interval over "
            f"{len(by_seed)} paired seeds lies {side} {bound:g}"
        )
        remarks = [remark] if remark else []
        if len(values) < len(by_seed):
            remarks.append(f"defined for {len(values)} of {len(by_seed)} seeds only")
        if len(by_seed) < settings["minimum_seeds"]:
            remarks.append(f"{settings['minimum_seeds']} seeds are needed for a verdict")
        valid = valid and len(values) == len(by_seed) >= settings["minimum_seeds"]
        return {
            "claim": claim,
            "statement": statement,
            "metric": metric,
            "estimate": interval.estimate,
            "ci_low": interval.low,
            "ci_high": interval.high,
            "rule": "; ".join([rule, *remarks]),
            "verdict": verdict(interval, side, bound) if valid else "inconclusive",
        }


def _mean_over_oracles(rows: pd.DataFrame, column: str) -> "pd.Series[float]":
    """Means by seed; NaN where one oracle has no value, so that seeds stay comparable."""
    return rows.groupby("seed")[column].agg(lambda values: values.mean(skipna=False))
