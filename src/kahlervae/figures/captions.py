"""What the captions of the report say was measured: one sentence a figure, from its table."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from kahlervae.errors import InputError
from kahlervae.figures.looks import LEFT_OUT, SAMPLERS, VARIANTS
from kahlervae.figures.sources import GROUP, primary, table
from kahlervae.storage import atomic

__all__ = ["MEASURED", "write_captions"]


def _by(frame: pd.DataFrame, column: str, value: str, form: str = "{:.3g}") -> str:
    """``complex 0.21, Kähler 0.15``: means of a column by category, in the order of the figures."""
    looks = {"variant": VARIANTS, "sampler": SAMPLERS}[column]
    means = frame.groupby(column)[value].mean()
    # Ablations and further samplers have no look, and come last under their own names.
    names = [
        *(name for name in looks if name in means),
        *(n for n in means.index if n not in looks),
    ]
    if means.isna().all():
        return LEFT_OUT
    return ", ".join(
        f"{looks[name].label if name in looks else name} {form.format(means[name])}"
        for name in names
    )


def _reconstruction(frame: pd.DataFrame) -> str:
    return f"Mean squared error per value on test data: {_by(frame, 'variant', 'mse')}."


def _correlation(frame: pd.DataFrame) -> str:
    tracked = frame[frame["potential"].isin(["fitted", "posterior"])]
    return " ".join(
        f"Rank correlation of log det with the Fisher metric, {potential} potential: "
        f"{_by(part, 'variant', 'logdet_spearman', '{:.2f}')}."
        for potential, part in tracked.groupby("potential")
    )


def _error(frame: pd.DataFrame) -> str:
    errors = frame.groupby("potential")["relative_error_median"].mean().dropna().sort_values()
    listed = ", ".join(f"{name} {value:.2f}" for name, value in errors.items())
    fisher = frame[frame["potential"] == "fisher"]
    return (
        f"Relative error, mean over the models: {listed}. Hermitian defect of the Fisher metric: "
        f"{_by(fisher, 'variant', 'hermitian_defect', '{:.2f}')}; closedness defect: "
        f"{_by(fisher, 'variant', 'closedness_defect', '{:.2f}')}.{_covariance(fisher)}"
    )


def _covariance(fisher: pd.DataFrame) -> str:
    """What share of the metric is due to the variance, where that depends on the latent."""
    if "covariance_share" not in fisher or not fisher["covariance_share"].any():
        return ""
    shares = _by(fisher, "variant", "covariance_share", "{:.3f}")
    return f" Share of the covariance term in the trace of the Fisher metric: {shares}."


def _cost(frame: pd.DataFrame) -> str:
    frame = frame[
        ~frame["sweep"].isin(("classes", "construction")) & (frame["quantity"] == "metric")
    ]
    exact = frame[frame["method"] == "fisher"]
    times = exact.set_index("output_dim")["relative"]
    low, high = times.index.min(), times.index.max()
    return (
        f"The exact Fisher metric takes {times[[low]].median():.2g} times as long as the "
        f"potential's with {low} outputs and {times[[high]].median():.2g} times with {high} "
        "(medians over the other sizes)."
    )


def _acceleration(frame: pd.DataFrame) -> str:
    between = frame[frame["endpoints"] == "posterior"]
    return (
        f"Between test data, relative acceleration: {_by(between, 'variant', 'acceleration')}; "
        f"outliers among midpoints: {_by(between, 'variant', 'midpoint_outliers', '{:.2f}')}; "
        f"sharpness: {_by(between, 'variant', 'sharpness', '{:.2f}')}."
    )


def _geodesics(frame: pd.DataFrame) -> str:
    measured = ["fisher_length", "acceleration", "midpoint_outliers"]
    means = frame.groupby(["variant", "curve"], as_index=False)[measured].mean()
    geodesic, straight = (means[means["curve"] == name] for name in ("geodesic", "straight"))
    return (
        f"Length in the Fisher metric, geodesics: {_by(geodesic, 'variant', 'fisher_length')}; "
        f"straight lines: {_by(straight, 'variant', 'fisher_length')}. Relative acceleration, "
        f"geodesics: {_by(geodesic, 'variant', 'acceleration')}; straight lines: "
        f"{_by(straight, 'variant', 'acceleration')}. Outliers among midpoints, geodesics: "
        f"{_by(geodesic, 'variant', 'midpoint_outliers', '{:.2f}')}; straight lines: "
        f"{_by(straight, 'variant', 'midpoint_outliers', '{:.2f}')}."
    )


def _hypervolume(frame: pd.DataFrame) -> str:
    rows = frame.query("split == 'test' and score == 'knn_outliers' and variation == 'recall'")
    means = rows.groupby("family")["hypervolume"].mean().sort_values(ascending=False)
    listed = ", ".join(f"``{family}`` {value:.3f}" for family, value in means.items())
    return f"Hypervolume of recall and kNN outliers, mean over the models: {listed}."


def _samplers(frame: pd.DataFrame) -> str:
    frame = frame[frame["split"] == "test"]
    return (
        "Mean over the models and settings of a sampler, kNN outliers: "
        f"{_by(frame, 'sampler', 'knn_outliers', '{:.2f}')}; "
        f"recall: {_by(frame, 'sampler', 'recall', '{:.2f}')}."
    )


def _states(frame: pd.DataFrame) -> str:
    parts = {
        "whole Fisher form": frame[frame["metric"] == "real"],
        "its Hermitian part": frame[frame["metric"] == "fisher"],
        "fitted potential": frame[frame["metric"] == "fitted"],
    }
    errors = "; ".join(
        f"{name}: {_by(part, 'variant', 'distance_error', '{:.1%}')}"
        for name, part in parts.items()
    )
    own = parts["whole Fisher form"]
    return (
        f"Error of geodesic distances, {errors}. Hermitian defect of the decoder: "
        f"{_by(own, 'variant', 'hermitian_defect', '{:.2f}')}; of the chart: "
        f"{_by(own, 'variant', 'chart_defect', '{:.2f}')}. ELBO: "
        f"{_by(own, 'variant', 'elbo', '{:.2f}')}."
    )


MEASURED: dict[str, tuple[str, Sequence[str], Callable[[pd.DataFrame], str]]] = {
    "reconstructions": ("reconstruction", ["variant", "mse"], _reconstruction),
    "latent_slice": ("agreement", ["variant", "potential", "logdet_spearman"], _correlation),
    "agreement": ("agreement", ["variant", "potential", "logdet_spearman"], _correlation),
    "agreement_summary": (
        "agreement",
        ["variant", "potential", "relative_error_median", "hermitian_defect", "closedness_defect"],
        _error,
    ),
    "cost": ("cost", ["sweep", "method", "quantity", "output_dim", "relative"], _cost),
    "sample_sheets": ("samples", ["sampler", "split", "knn_outliers", "recall"], _samplers),
    "smoothness": (
        "paths",
        ["variant", "endpoints", "acceleration", "midpoint_outliers", "sharpness"],
        _acceleration,
    ),
    "geodesics": (
        "geodesics",
        ["variant", "curve", "fisher_length", "acceleration", "midpoint_outliers"],
        _geodesics,
    ),
    "states": (
        "states",
        ["variant", "metric", "distance_error", "hermitian_defect", "chart_defect", "elbo"],
        _states,
    ),
    "pareto": (
        "hypervolume",
        ["split", "family", "score", "variation", "hypervolume"],
        _hypervolume,
    ),
}
"""Figure: (table, columns that it needs, sentence)."""


def write_captions(tables: Path, claims: Path, outputs: Sequence[Path]) -> None:
    """Write what was measured, as the captions of the report include it.

    Args:
        tables: folder of the gathered tables.
        claims: the claims, whose primary ones are the text of ``claims``.
        outputs: files to write, each named after its figure.

    Raises:
        InputError: nothing is measured for a figure, or a table is missing or lacks a column.
    """
    for path in outputs:
        text = _claims(claims) if path.stem == "claims" else _measured(path.stem, tables)
        with atomic(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def _measured(name: str, tables: Path) -> str:
    if name not in MEASURED:
        raise InputError(f"No caption {name!r}: choose from {', '.join([*MEASURED, 'claims'])}.")
    source, columns, sentence = MEASURED[name]
    frame = table(tables / f"{source}.csv", columns)
    if not set(GROUP) <= set(frame.columns):
        return f"**Measured.** {sentence(frame)}"
    groups = list(frame.groupby(GROUP, sort=False))
    where = [f" on {', '.join(map(str, key))}" if len(groups) > 1 else "" for key, _ in groups]
    return "\n\n".join(
        f"**Measured{place}.** {sentence(part)}"
        for place, (_, part) in zip(where, groups, strict=True)
    )


def _claims(claims: Path) -> str:
    """The primary claims: the paper's words, and below them what was asked and what came out."""
    parts = []
    for paper, asked in primary(claims).groupby("paper", sort=False):
        parts.append(f"*{paper}*")
        for statement, held in asked.groupby("statement", sort=False):
            told = [f"{row.dataset} **{row.adjusted}** {row.told}" for row in held.itertuples()]
            parts.append(f"- {str(statement).rstrip('.')}: {'; '.join(map(str.strip, told))}.")
    return "\n\n".join(parts)
