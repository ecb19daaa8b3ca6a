"""The claims of the paper, each with an estimate, an interval, a rule and a verdict.

Claims about identities hold or fail by a tolerance at every probe of every model. Claims about
samples are differences paired by seed, averaged over the oracles before pairing, and judged by
whether their interval excludes zero. They speak of test rows; the settings of samplers were chosen
on validation rows. Claims have numbers, which a claim keeps when others are left out: a claim whose
variants or samplers a run does not have gets no row. Where samples have no labels there are no
oracles, and claims that need one are left out, in words.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from kahlervae.evaluate import UNJUDGED
from kahlervae.judge.pareto import SCORES
from kahlervae.judge.statistics import bootstrap_interval, holm, student_p, verdict
from kahlervae.storage import read_table, write_table

__all__ = ["COLUMNS", "LEFT_OUT", "TABLES", "judge", "make_claims"]

RUN = ["dataset", "representation"]
TABLES = {
    "agreement": (
        [*RUN, "variant", "probe_set", "potential"],
        ["seed", "relative_error_median", "logdet_spearman"],
    ),
    "identities": ([*RUN, "identity_name"], ["value", "tolerance"]),
    "samples": (
        [*RUN, "variant", "oracle", "split", "sampler", "setting"],
        ["seed", *SCORES, "recall", "vendi"],
    ),
    "paths": (
        [*RUN, "variant", "oracle", "endpoints"],
        [
            *("seed", "acceleration", "speed_variation", "turning"),
            *("feature_acceleration", "feature_speed_variation", "feature_turning", "sharpness"),
            *("midpoint_outliers", "midpoint_entropy_outliers"),
        ],
    ),
    "reconstruction": ([*RUN, "variant"], ["seed", "elbo", "nll", "mse", "latent_norm"]),
    "pareto": (
        [*RUN, "variant", "oracle", "split", "family", "setting", "score", "variation", "control"],
        ["seed", "control_outliers", "difference"],
    ),
    "chosen": ([*RUN, "variant", "family", "setting", "control"], ["difference", "best"]),
    "geodesics": (
        [*RUN, "variant", "oracle", "curve"],
        ["seed", "acceleration", "midpoint_outliers"],
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
    "p_value",
    "adjusted",
    "topic",
    "bound",
    "control",
]
"""Columns of the claims; ``control`` is the mean of what a difference is taken from."""


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

CONSTRUCTION = {
    "construction_closedness": Identity(
        "The Fisher metric of a decoder with pluriharmonic natural parameters is closed, hence "
        "Kähler, on real data.",
        "largest closedness defect",
        "at most",
    ),
    "construction_potential": Identity(
        "The Fisher metric of a decoder with pluriharmonic natural parameters has its "
        "log-partition function as global potential.",
        "largest relative error",
        "at most",
    ),
}
"""Identities of decoders that are Kähler by construction; numbered last."""


class Effect(NamedTuple):
    """What is said of a metric that gets smaller, and the table that has it."""

    metric: str
    words: str
    table: Literal["samples", "paths", "reconstruction"] = "samples"


LEFT_OUT = "left out"
"""The verdict on a claim that needs an oracle where there is none."""

KNN, ENTROPY, MAHALANOBIS, ENERGY = (
    Effect(score, f"fewer semantic outliers by {name}")
    for score, name in zip(
        SCORES, ("kNN distance", "entropy", "Mahalanobis distance", "energy"), strict=True
    )
)
SMOOTHER = Effect("acceleration", "smoother paths between test images", "paths")
BLURRED = Effect("sharpness", "less sharp images on the paths between test images", "paths")
MIDPOINTS = Effect(
    "midpoint_outliers", "fewer outliers among the midpoints of paths between test images", "paths"
)
EVEN = Effect("speed_variation", "a more even speed of paths between test images", "paths")
STRAIGHT = Effect("turning", "straighter paths between test images", "paths")
FEATURES, EVEN_FEATURES, STRAIGHT_FEATURES = (
    Effect(f"feature_{metric}", f"{words} in features of oracles", "paths")
    for metric, words, _ in (SMOOTHER, EVEN, STRAIGHT)
)
AMBIGUOUS = Effect(
    "midpoint_entropy_outliers",
    "fewer outliers by entropy among the midpoints of paths between test images",
    "paths",
)
RECALL = Effect("recall", "less variation by recall")
VENDI = Effect("vendi", "less variation by Vendi score")
NORM = Effect(
    "latent_norm", "smaller latents (hence gains nothing by inflating them)", "reconstruction"
)
ELBO = Effect("elbo", "a smaller evidence lower bound", "reconstruction")
NLL = Effect("nll", "a smaller negative log-likelihood", "reconstruction")
MSE = Effect("mse", "a smaller error of reconstructions", "reconstruction")

IMAGES = ("pixels", "kspace")
"""Representations of images; claims about others speak of data."""
ABLATION_EFFECTS, ABLATION_CONTROLS = (SMOOTHER, KNN), ("kahler", "complex")
ABLATED = len(ABLATION_EFFECTS) * len(ABLATION_CONTROLS)
"""Numbers that the claims of ablations take."""
UNAIDED = {effect.metric for effect in (SMOOTHER, EVEN, STRAIGHT, BLURRED, NORM, ELBO, NLL, MSE)}
"""What is measured without an oracle."""
NAMED = (
    *("real", "complex", "beta", "kahler", "fisher", "holomorphic"),
    *("pluriharmonic", "unconstrained", "unconstrained_beta"),
)
"""Variants that claims speak of by name; any other one is an ablation."""
MATCHED = ("beta", "unconstrained_beta")
"""Controls at matched reconstruction."""
PLAIN = "volume:base=prior,weight=global,metric=fitted"
"""The family of samplers that the paper describes."""


def make_claims(tables: Path | str, settings: Mapping[str, Any], out: Path | str) -> None:
    """Judge all claims by the tables of a folder and write ``claims.csv``.

    Args:
        tables: The folder of the files named in :data:`TABLES`; ``geodesics`` may be absent.
        settings: See :func:`judge`.
        out: Where to write.

    Raises:
        InputError: a table is missing or damaged.
    """
    frames = {
        name: read_table(Path(tables) / f"{name}.csv", texts, numbers)
        for name, (texts, numbers) in TABLES.items()
        if name != "geodesics" or (Path(tables) / f"{name}.csv").exists()
    }
    write_table(out, judge(frames, settings))


def judge(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> pd.DataFrame:
    """The claims table.

    ``p_value`` is that of Student's t test of the paired differences, two-sided, for the claims
    that can have a verdict over seeds. ``adjusted`` is the verdict after Holm's correction over
    all of them on the same data: it stands if the adjusted p-value is at most 1 − ``confidence``,
    and is ``inconclusive`` otherwise.

    Args:
        tables: Data frames by the names of :data:`TABLES`; ``geodesics`` may be absent.
        settings: ``confidence``, ``resamples`` and ``seed`` of the intervals; ``minimum_seeds``
            below which no verdict is given; ``error_ratio`` and ``spearman`` of the claim that the
            potential tracks the Fisher metric; ``matched_reconstruction``, the relative difference
            in test MSE up to which a control is a matched one.
    """
    parts = []
    runs = tables["reconstruction"][RUN].drop_duplicates()
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
        part = pd.DataFrame(run.numbered(), columns=COLUMNS).assign(dataset=label)
        if representation not in IMAGES:
            part["statement"] = part["statement"].str.replace("images", "data")
        parts.append(_adjusted(part, 1 - settings["confidence"]))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def _adjusted(claims: pd.DataFrame, level: float) -> pd.DataFrame:
    """The claims of one data set with their verdicts after Holm's correction."""
    stands = (claims["topic"] == "identities") | (holm(claims["p_value"]) <= level)
    stands |= claims["verdict"] == LEFT_OUT
    return claims.assign(adjusted=claims["verdict"].where(stands, "inconclusive"))


class _Run:
    """The claims about one data set in one representation.

    A claim that its tables say nothing of is None, so that those after it keep their numbers.
    """

    def __init__(self, tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> None:
        self.tables = tables
        self.settings = settings
        oracles = set(tables["paths"]["oracle"])
        self.judged = oracles != {UNJUDGED}

    def numbered(self) -> list[dict[str, Any]]:
        """All claims, with their numbers as the first part of their names."""
        groups = {
            "identities": self.identities,
            "tracking": self.tracking,
            "regulariser": self.regulariser,
            "exact metric": self.exact_metric,
            "volume sampling": self.volume_sampling,
            "at equal variation": self.equal_variation,
            "geodesics": self.geodesics,
        }
        claims = [(topic, claim) for topic, group in groups.items() for claim in group()]
        numbered = [
            claim | {"claim": f"C{number}_{claim['claim']}", "topic": topic}
            for number, (topic, claim) in enumerate(claims, 1)
            if claim
        ]
        # The ablations come last and share their numbers, since a run may have any of them.
        for variant in self._ablations():
            numbered += [
                claim | {"claim": f"C{number}_{claim['claim']}", "topic": "ablation"}
                for number, claim in enumerate(self.ablation(variant), len(claims) + 1)
                if claim
            ]
        # Behind them, so that what came before keeps its numbers.
        late = [("identities", claim) for claim in self._identities(CONSTRUCTION)]
        late += [("construction", claim) for claim in self.construction()]
        return numbered + [
            claim | {"claim": f"C{number}_{claim['claim']}", "topic": topic}
            for number, (topic, claim) in enumerate(late, len(claims) + ABLATED + 1)
            if claim
        ]

    def identities(self) -> Iterator[dict[str, Any] | None]:
        """Claims by tolerance, over all models."""
        return self._identities(IDENTITIES)

    def _identities(self, known: Mapping[str, Identity]) -> Iterator[dict[str, Any] | None]:
        for name, identity in known.items():
            rows = _where(self.tables["identities"], identity_name=name)
            if rows.empty:
                yield None
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
                "bound": tolerance[0],
            }

    def tracking(self) -> Iterator[dict[str, Any] | None]:
        """Claims that the fitted potential tracks the Fisher metric of ``complex`` decoders."""
        rows = _where(self.tables["agreement"], variant="complex", probe_set="posterior")
        by_potential = rows.set_index(["potential", "seed"])
        if not {"fitted", "constant"} <= set(rows["potential"]):
            yield from (None, None)
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

    def regulariser(self) -> Iterator[dict[str, Any] | None]:
        """The regularised variant against the plain one and against β at matched reconstruction."""
        words = "The potential-based regulariser (kahler) gives"
        for effect in (SMOOTHER, BLURRED, MIDPOINTS, KNN, ENTROPY, RECALL, VENDI):
            for control in ("complex", "beta"):
                yield self._against("regulariser", words, effect, "kahler", control)
        yield self._against("regulariser", words, NORM, "kahler", "complex")

    def exact_metric(self) -> Iterator[dict[str, Any] | None]:
        """The same regulariser on the metric that the potential replaces."""
        words = "The regulariser on the exact Fisher metric (fisher) gives"
        for effect in (SMOOTHER, MIDPOINTS, KNN, RECALL):
            yield self._against("exact_metric", words, effect, "fisher", "kahler")

    def construction(self) -> Iterator[dict[str, Any] | None]:
        """Decoders that are Kähler by construction against the same networks unconstrained."""
        words = "A decoder that is Kähler by construction (pluriharmonic) gives"
        effects = (
            *(SMOOTHER, BLURRED, MIDPOINTS, KNN, ENTROPY, RECALL, VENDI),
            *(FEATURES, EVEN, STRAIGHT, EVEN_FEATURES, STRAIGHT_FEATURES, AMBIGUOUS),
        )
        for effect in (*effects, ELBO, NLL, MSE):
            yield self._against("construction", words, effect, "pluriharmonic", "unconstrained")
        for effect in effects:  # blur is smooth, too
            yield self._against(
                "construction", words, effect, "pluriharmonic", "unconstrained_beta"
            )

    def ablation(self, variant: str) -> Iterator[dict[str, Any] | None]:
        """A further variant against the full regulariser and against none."""
        for effect in ABLATION_EFFECTS:
            for control in ABLATION_CONTROLS:
                yield self._against(
                    variant, f"The variant {variant} gives", effect, variant, control
                )

    def volume_sampling(self) -> Iterator[dict[str, Any] | None]:
        """The paper's sampler against prior sampling: of the same model, and both means at once."""
        for variant, control in (
            ("complex", "complex"),
            ("kahler", "kahler"),
            ("kahler", "complex"),
        ):
            chosen = self._chosen(variant, PLAIN)
            for effect in (KNN, ENTROPY, RECALL, VENDI):
                claim = f"volume_sampler_{variant}_{effect.metric}_vs_prior_of_{control}"
                statement = (
                    f"Volume-weighted sampling of {variant} gives {effect.words} than prior "
                    f"sampling of {control}."
                )
                if chosen is None:
                    unjudged = not self.judged and self._samples_by_volume(variant)
                    yield _left_out(claim, statement, effect.metric) if unjudged else None
                    continue
                yield self._difference(
                    claim,
                    statement,
                    effect.metric,
                    self._samples(variant, "volume", chosen, effect.metric),
                    self._samples(control, "prior", "default", effect.metric),
                    remark=_setting(chosen),
                )

    def equal_variation(self) -> Iterator[dict[str, Any] | None]:
        """The paper's sampler and the best volume sampler against the simple ways."""
        for variant in ("complex", "kahler"):
            for effect, control, variation in (
                (KNN, "truncated", "recall"),
                (KNN, "truncated", "coverage"),
                (KNN, "truncated", "vendi"),
                (KNN, "gmm", "recall"),
            ):
                yield self._matched_claim("volume_sampler", variant, effect, control, variation)
            for effect, control, variation in (
                (KNN, "truncated", "recall"),
                (KNN, "gmm", "recall"),
                (KNN, "gmm", "novelty"),
                (ENTROPY, "gmm", "recall"),
                (MAHALANOBIS, "gmm", "recall"),
                (ENERGY, "gmm", "recall"),
            ):
                yield self._matched_claim(
                    "best_volume_sampler", variant, effect, control, variation
                )

    def geodesics(self) -> Iterator[dict[str, Any] | None]:
        """Paths along the potential's metric against straight lines with the same ends."""
        table = self.tables.get("geodesics")
        for variant in ("complex", "kahler"):
            for effect in (SMOOTHER, MIDPOINTS):
                if table is None:
                    yield None
                    continue
                ours, theirs = (
                    _by_seed(_where(table, variant=variant, curve=curve), effect.metric)
                    for curve in ("geodesic", "straight")
                )
                yield self._difference(
                    f"geodesics_{variant}_{effect.metric}_vs_straight",
                    f"Geodesics of the fitted potential of {variant} give {effect.words} than "
                    "straight lines.",
                    effect.metric,
                    ours,
                    theirs,
                )

    def _ablations(self) -> list[str]:
        variants = self.tables["reconstruction"]["variant"]
        return [name for name in variants.unique() if name not in NAMED]

    def _against(
        self, name: str, words: str, effect: Effect, variant: str, control: str
    ) -> dict[str, Any] | None:
        """A variant against another one: by its prior samples, its paths or its latents."""
        at, (matched, remark) = "", (True, "")
        if control in MATCHED:
            at, (matched, remark) = " at matched reconstruction", self._matched(variant, control)
        return self._difference(
            f"{name}_{effect.metric}_vs_{control}",
            f"{words} {effect.words} than {control}{at}.",
            effect.metric,
            self._of_variant(variant, effect),
            self._of_variant(control, effect),
            remark=remark,
            valid=matched,
        )

    def _of_variant(self, variant: str, effect: Effect) -> "pd.Series[float]":
        if effect.table == "samples":
            return self._samples(variant, "prior", "default", effect.metric)
        ends = {"endpoints": "posterior"} if effect.table == "paths" else {}
        return _by_seed(_where(self.tables[effect.table], variant=variant, **ends), effect.metric)

    def _samples(self, variant: str, sampler: str, setting: str, metric: str) -> "pd.Series[float]":
        """A score of the test draws of one sampler."""
        what = {"split": "test", "variant": variant, "sampler": sampler, "setting": setting}
        return _by_seed(_where(self.tables["samples"], **what), metric)

    def _samples_by_volume(self, variant: str) -> bool:
        return not _where(self.tables["samples"], variant=variant, sampler="volume").empty

    def _chosen(self, variant: str, family: str) -> str | None:
        """The setting of a family that was chosen on validation rows, if there is one."""
        rows = _where(self.tables["chosen"], variant=variant, family=family)
        return str(rows["setting"].iloc[0]) if len(rows) else None

    def _best(self, variant: str) -> str | None:
        """The best family of volume samplers on validation rows, if there is one."""
        rows = _where(self.tables["chosen"], variant=variant, best=True)
        return str(rows["family"].iloc[0]) if len(rows) else None

    def _matched_claim(
        self, name: str, variant: str, effect: Effect, control: str, variation: str
    ) -> dict[str, Any] | None:
        """A chosen setting against a control at equal variation, on test rows."""
        best = name.startswith("best")
        family = self._best(variant) if best else PLAIN
        setting = self._chosen(variant, family) if family else None
        rows = _where(
            self.tables["pareto"],
            split="test",
            variant=variant,
            control=control,
            variation=variation,
            score=effect.metric,
            setting=setting,
            family=family,
        )
        if rows.empty and (self.judged or not self._samples_by_volume(variant)):
            return None
        ours = "The best volume sampler" if best else "Volume-weighted sampling"
        theirs = {
            "truncated": "truncation of the prior",
            "gmm": "the best Gaussian mixture at the best temperature",
        }[control]
        claim = f"{name}_{variant}_{effect.metric}_vs_{control}_at_{variation}"
        statement = f"{ours} of {variant} gives {effect.words} than {theirs} at equal {variation}."
        if rows.empty:
            return _left_out(claim, statement, effect.metric)
        row = self._interval_claim(
            claim,
            statement,
            effect.metric,
            _by_seed(rows, "difference"),
            "below",
            remark=_setting(f"{family} {setting}" if best else str(setting)),
        )
        return row | {"control": _by_seed(rows, "control_outliers").mean()}

    def _matched(self, variant: str, control: str) -> tuple[bool, str]:
        """Whether a control reconstructs as well as the variant, in the mean, with a remark."""
        mse = self.tables["reconstruction"].set_index(["variant", "seed"])["mse"]
        if not {variant, control} <= set(mse.index.get_level_values("variant")):
            return False, ""
        relative = mse[control] / mse[variant] - 1
        limit = self.settings["matched_reconstruction"]
        matched = bool(abs(relative.mean()) <= limit)
        return matched, (
            f"{control} {'is' if matched else 'is not'} matched, its test MSE differs from that of "
            f"{variant} by {relative.mean():+.1%} in the mean over the seeds (limit {limit:.0%}), "
            f"by {relative.min():+.1%} to {relative.max():+.1%} in each"
        )

    def _difference(
        self,
        claim: str,
        statement: str,
        metric: str,
        ours: "pd.Series[float]",
        theirs: "pd.Series[float]",
        remark: str = "",
        valid: bool = True,
    ) -> dict[str, Any] | None:
        """A claim that a metric is smaller than that of a control, paired by seed."""
        if ours.empty or theirs.empty:
            return None
        if not self.judged and metric not in UNAIDED:
            return _left_out(claim, statement, metric)
        row = self._interval_claim(
            claim, statement, metric, ours - theirs, "below", remark=remark, valid=valid
        )
        return row | {"control": theirs.mean()}

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
            "p_value": student_p(values, bound) if valid else np.nan,
            "bound": bound,
        }


def _left_out(claim: str, statement: str, metric: str) -> dict[str, Any]:
    return {
        "claim": claim,
        "statement": statement,
        "metric": metric,
        "rule": "left out: it needs an oracle, and the samples have no labels to train one",
        "verdict": LEFT_OUT,
    }


def _setting(setting: str) -> str:
    return f"setting {setting}, chosen on validation draws"


def _where(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The rows with those values."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def _by_seed(rows: pd.DataFrame, column: str) -> "pd.Series[float]":
    """Means over oracles by seed; NaN where one has no value, so that seeds stay comparable."""
    return rows.groupby("seed")[column].agg(lambda values: values.mean(skipna=False))
