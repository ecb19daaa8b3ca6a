"""Write docs/claims_table.md, and the tables of other pages, from reference/.

``python docs/claims_table.py`` writes them anew; tests/test_readme.py fails where they drift. A
reference of another run, as in reference/paper, adds the claims that it alone has. Where a page
says ``<!-- NAME: ARGUMENTS -->``, the table that ``WRITERS`` has by that name comes after it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kahlervae.figures.sources import primary
from kahlervae.judge.check import label_runs, run_of, tolerance
from kahlervae.judge.entries import read_claims, read_yaml
from kahlervae.storage import read_table

ROOT = Path(__file__).parents[1]
README, FINDINGS = ROOT / "README.md", ROOT / "docs/claims.md"
PAGES = (
    *(README, FINDINGS, ROOT / "comparison/README.md"),
    *(ROOT / f"docs/{name}.md" for name in ("running", "distances", "cost")),
)
"""Pages that hold tables which are written here."""
PAGE = ROOT / "docs/claims_table.md"
BLOCK = re.compile(r"(<!-- (\w+)(?:: ([^>]*?))? -->\n)(.*?)(?=<!-- /\2 -->)", re.DOTALL)
SHOWN = ("digits", "mnist", "spoken_digits")
"""Data sets that README.md has a column of."""


class Run(NamedTuple):
    """A run whose results are kept: where, the command that makes them, and where that writes."""

    reference: Path
    command: str
    target: str
    results: str
    figures: str


RUNS = [
    Run(ROOT / "reference", "make reproduce", "snakemake --cores all", "results", "figures"),
    *(
        Run(
            ROOT / f"reference/{name}",
            f"make {name}",
            f"snakemake --cores all --configfile {files}",
            f"results/{name}",
            f"results/{name}/figures",
        )
        for name, files in {
            "paper": "config/paper.yaml",
            "speech": "config/speech.yaml",
            "mnist_8": "config/paper.yaml config/mnist_8.yaml",
            "kspace": "config/paper.yaml config/mnist_8.yaml config/kspace.yaml",
            "ablations": "config/ablations.yaml",
        }.items()
    ),
]


class Evidence(NamedTuple):
    """What shows a claim: its figure, if any, the table, and the rules that lead there."""

    figure: str | None
    table: str
    rules: tuple[str, ...]


MODELS = ("data", "train", "potential")
SCORES = (*MODELS, "oracle", "sample", "score", "table")
EVIDENCE = {
    "identities": Evidence(None, "identities", (*MODELS, "agreement", "table")),
    "flatness": Evidence(None, "flatness", SCORES),
    "distances": Evidence(None, "distances", (*MODELS, "distances", "table")),
    "agreement": Evidence(
        "agreement_summary", "agreement", (*MODELS, "agreement", "table", "figure")
    ),
    "paths": Evidence("smoothness", "paths", (*SCORES, "figure")),
    "samples": Evidence("pareto", "samples", (*SCORES, "figure")),
    "pareto": Evidence("pareto", "chosen", (*SCORES, "pareto", "figure")),
    "reconstruction": Evidence("reconstructions", "reconstruction", (*SCORES, "figure")),
    "geodesics": Evidence("geodesics", "geodesics", (*SCORES, "geodesics", "figure")),
}


CLAIMS_FILE = ROOT / "workflow/claims.yaml"
CLAIMS = {claim.id: claim for claim in read_claims(CLAIMS_FILE)}
METRICS = read_yaml(CLAIMS_FILE)["metrics"]


def evidence(name: str) -> Evidence:
    """Where a claim is to be seen."""
    claim = CLAIMS.get(name) or CLAIMS[name.rpartition("_")[0]]  # of one oracle
    return EVIDENCE["pareto" if claim.at else claim.read.table]


def groups() -> Iterator[tuple[Run, str, pd.DataFrame]]:
    """Run, data set and its claims, with the column ``expected``; no claim twice."""
    seen: set[tuple[str, str]] = set()
    for run in RUNS:
        if not (run.reference / "claims.csv").exists():
            continue
        labels = label_runs(run.reference)
        claims = read_table(run.reference / "claims.csv", ["claim", "dataset", "metric", "role"])
        for label, rows in claims.groupby("dataset", sort=False):
            dataset, seeds = run_of(str(label), labels)
            keys = [(dataset, claim) for claim in rows["claim"]]
            rows = rows[[key not in seen for key in keys]]
            seen.update(keys)
            if len(rows):
                expected = [_expected(row, seeds) for row in rows.to_dict("records")]
                yield run, dataset, rows.assign(expected=expected)


def _expected(row: dict, seeds: int) -> str:
    """Estimate and tolerance, or the bound of the rule where there is no interval."""
    within = tolerance(row["ci_low"], row["ci_high"], seeds, seeds)
    if pd.notna(within):
        return f"{row['estimate']:.3g} ± {within:.2g}"
    bound = re.search(r"at (?:most|least) [-+.\de]+", row["rule"])
    value = "–" if pd.isna(row["estimate"]) else f"{row['estimate']:.3g}"
    return f"{value} ({bound[0]})" if bound else value


def _cost(run: Run, rules: tuple[str, ...] | None = None) -> tuple[float, float]:
    """Minutes and the memory (GB) of the largest job: of the run, or on one core of some rules."""
    table = read_table(run.reference / "tables/runtime.csv", ["rule"])
    if rules is not None:
        table = table[table["rule"].isin(rules)]
        seconds = table["wall_seconds_total"].sum()
    else:
        seconds = read_table(run.reference / "tables/efficiency.csv")["busy_seconds"].iloc[0]
    return seconds / 60, table["peak_memory_mb"].max() / 1024


def short_table() -> str:
    """The paper's sentences and what came out of the claims that ask for them, for README.md.

    One column a data set; at most twelve rows, links to the figures.
    """
    columns: dict[str, pd.DataFrame] = {}
    for run, dataset, rows in groups():
        chosen = primary(run.reference / "claims.csv")
        held = chosen[chosen["claim"].isin(rows["claim"]) & chosen["dataset"].isin(rows["dataset"])]
        name = dataset.partition("/")[0]
        if len(held) and name in SHOWN and name not in columns:
            seen = [_seen(run, dataset, claim) for claim in held["claim"]]
            columns[name] = held.assign(link=seen)
    if not columns:
        return ""
    rows = []
    for paper in dict.fromkeys(paper for held in columns.values() for paper in held["paper"]):
        cells = [
            _cell(held[held["paper"] == paper], first=name == next(iter(columns)))
            for name, held in columns.items()
        ]
        rows.append([paper, *cells])
    return _markdown(["the paper's words", *columns], rows)


def _cell(claims: pd.DataFrame, first: bool) -> str:
    """Verdicts, corrected for their number, with effects: a line a claim, linked to its figure.

    Controls are the same for all data sets, and named once; so is what is measured, if it is one.
    """
    lines = []
    for row in claims.itertuples():
        control = row.claim.partition("_vs_")[2].replace("_", " ")
        what = f"{row.metric} against {control}" if control and first else row.metric
        told = f"[{what}]({row.link}): {row.adjusted} {row.told}"
        if not first and len(claims) == 1:
            told = f"[{row.adjusted}]({row.link}) {row.told}"
        lines.append(told.strip())
    return "<br>".join(lines)


def _seen(run: Run, dataset: str, claim: str) -> str:
    """The figure of a claim, or its table where no figure is kept."""
    figure, table, _ = evidence(claim)
    folder = run.reference.relative_to(ROOT).as_posix()
    path = f"{folder}/figures/{dataset}/{figure}.png"
    return path if (ROOT / path).exists() else f"{folder}/tables/{table}.csv"


COLUMNS = {
    "ELBO": "elbo",
    "active latents": "active_latents",
    "norm of latents": "latent_norm",
    "speed variation": "speed_variation",
    "turning": "turning",
    "acceleration": "acceleration",
    "sharpness": "sharpness",
    "sd of log det": "logdet_sd",
    "outliers by distance": "knn_outliers",
    "by entropy": "entropy_outliers",
    "recall": "recall",
    "Vendi": "vendi",
}
"""What is said of the models of a variant: metrics of the claims, read where those are."""


def variants_table(dataset: str) -> str:
    """The variants on a data set, ``NAME/REPRESENTATION``: means over seeds and oracles."""
    folders = [run.reference for run, label, _ in groups() if label == dataset]
    if not folders:
        return f"No run of {dataset} is kept.\n"
    columns = {}
    for title, metric in COLUMNS.items():
        known = METRICS[metric]
        table = read_table(folders[0] / f"tables/{known['table']}.csv")
        where = dict(zip(("dataset", "representation"), dataset.split("/"), strict=True))
        for key, value in (where | known.get("where", {})).items():
            table = table[table[key] == value]
        columns[title] = table.groupby("variant", sort=False)[metric].mean()
    frame = pd.DataFrame(columns)
    rows = []
    for variant, row in frame.iterrows():
        cells = ["–" if np.isnan(value) else _figures(value) for value in row]
        rows.append([f"`{variant}`", *cells])
    return _markdown(["", *frame], rows)


def effects_table(*names: str) -> str:
    """Claims, by id, on every data set: estimates with 95 % intervals.

    **Bold**: supported after Holm's correction; *italic*: not supported; neither: inconclusive; in
    brackets: without a verdict, since not every seed compares.
    """
    columns: dict[str, pd.DataFrame] = {}
    for _, dataset, rows in groups():  # several runs may hold claims on one data set
        held = rows[rows["claim"].isin(names)].set_index("claim")
        if len(held):
            columns[dataset] = pd.concat([columns.get(dataset, held[:0]), held])
    rows = []
    for name in names:
        cells = [_effect(held.loc[name]) if name in held.index else "" for held in columns.values()]
        rows.append([f"`{name}`", *cells])
    return _markdown(["", *columns], rows)


def _effect(row: pd.Series) -> str:
    mark = {"supported": "**", "not supported": "*"}.get(row["adjusted"], "")
    estimate, *ends = (_figures(row[key]) for key in ("estimate", "ci_low", "ci_high"))
    if pd.isna(row["estimate"]):
        return "–"
    if pd.isna(row["ci_low"]):
        return f"{mark}{estimate}{mark}"
    if pd.isna(row["p_value"]):
        return f"({estimate})"
    return f"{mark}{estimate}{mark} [{', '.join(ends)}]"


def _markdown(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = [*titles]
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _figures(value: float) -> str:
    """Three significant figures, and no exponent where none is needed."""
    digits = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return digits.replace("-", "−")


def times_table() -> str:
    """What the kept runs took."""
    rows = []
    for run in RUNS:
        if (run.reference / "tables/efficiency.csv").exists():
            minutes, memory = _cost(run)
            table = read_table(run.reference / "tables/efficiency.csv")
            hours = table["cpu_seconds"].iloc[0] / 3600
            rows.append([f"`{run.command}`", f"{minutes:.0f}", f"{hours:.1f}", f"{memory:.1f} GB"])
    return _markdown(["run", "minutes", "CPU hours", "memory of the largest job"], rows)


DISTANCES = {
    "fisher": "exact (two Jacobian-vector products a step)",
    "fitted": "fitted potential",
    "constant": "constant",
    "posterior": "posterior potential",
    "euclidean": "Euclidean",
}
"""Metrics of distances, as they are said."""


def distances_table(folder: str) -> str:
    """What distances of `complex` are worth in a kept run: means over seeds."""
    table = read_table(ROOT / folder / "tables/distances.csv", ["variant", "metric"])
    means = table[table["variant"] == "complex"].groupby("metric").mean(numeric_only=True)
    rows = []
    for name, said in DISTANCES.items():
        row = means.loc[name]
        labels = ", ".join(f"{row[f'accuracy_{count}']:.2f}" for count in (1, 3, 10))
        ranks = f"{row['spearman']:.3g}", f"{row['seeds_spearman']:.3f}"
        rows.append([said, *ranks, labels, _figures(row["microseconds_per_pair"])])
    accuracy = "accuracy with 1, 3, 10 labels a class"
    titles = ["metric", "ranks as exact lengths", "as the other seeds'", accuracy, "µs a pair"]
    return _markdown(titles, rows)


def steps_table() -> str:
    """Times of a training step of `reference/bench`, in those of a plain one."""
    table = read_table(ROOT / "reference/bench/steps.csv", ["size", "variant", "part"])
    table = table[table["part"] == "step"]
    plain = table[table["variant"] == "complex"].set_index("size")["milliseconds"]
    rows = []
    for size, held in table.groupby("size", sort=False):
        times = held.set_index("variant")
        cells = [f"`{size}`", f"{plain[size]:.1f} ms"]
        for variant in ("kahler", "fisher"):
            middle, low, high = times.loc[
                variant, ["milliseconds", "milliseconds_q25", "milliseconds_q75"]
            ] / float(plain[size])
            cells.append(f"{middle:.2f} [{low:.2f}, {high:.2f}]")
        rows.append(cells)
    titles = ["a step of", "plain", "regularised by the potential", "by the exact metric"]
    return _markdown(titles, rows)


def peers_table() -> str:
    """Models and samplers of `make peers`, scores by both oracles in the mean."""
    models = read_table(ROOT / "reference/peers/reconstruction.csv", ["software", "model"])
    keys = ["software", "model", "sampler", "setting"]
    samples = read_table(ROOT / "reference/peers/samplers.csv", keys)
    means = samples.groupby(keys, sort=False).mean(numeric_only=True).reset_index()
    columns = {
        "outliers by distance": "knn_outliers",
        "by entropy": "entropy_outliers",
        "recall": "recall",
        "Vendi": "vendi",
        "s a 1,000": "seconds_per_1000",
    }
    rows = []
    for model in models.to_dict("records"):
        own = (means["software"] == model["software"]) & (means["model"] == model["model"])
        for row in means[own].to_dict("records"):
            name = row["sampler"] + f" {row['setting']}".replace(" default", "")
            fit = [f"{model['elbo']:.0f}", _figures(model["mse"])]
            scores = [_figures(row[column]) for column in columns.values()]
            rows.append([model["software"], f"`{model['model']}`", *fit, name, *scores])
    return _markdown(["", "model", "ELBO", "MSE", "sampler", *columns], rows)


def curves_table() -> str:
    """Curves of `make peers` between latents, in the straight lines' lengths."""
    table = read_table(ROOT / "reference/peers/geodesics.csv", ["method"])
    rows = []
    for row in table.itertuples():
        lengths = f"{row.decoded_length:.3f}", f"{row.hermitian_length:.3f}"
        rows.append([row.method, *lengths, f"{row.milliseconds:.2g}"])
    return _markdown(["way", "decoded", "Hermitian", "ms a pair"], rows)


WRITERS: dict[str, Callable[..., str]] = {
    "claims": short_table,
    "variants": variants_table,
    "effects": effects_table,
    "times": times_table,
    "peers": peers_table,
    "curves": curves_table,
    "distances": distances_table,
    "steps": steps_table,
}


def renewed(text: str) -> str:
    """A page with its tables written anew."""
    return BLOCK.sub(lambda held: held[1] + WRITERS[held[2]](*(held[3] or "").split()), text)


def page() -> str:
    """All claims, and what it takes to make them again: docs/claims_table.md."""
    text = (
        "# All claims\n\n"
        "Written by `python docs/claims_table.py` from `reference/`. An expected value is the mean "
        "over the seeds; ± is the half width of its 95 % prediction interval for as many seeds "
        "drawn anew, √2 times that of the confidence interval. Identities have the bound of their "
        "rule instead. Verdicts of primary claims are those after Holm's correction. `make check` "
        "compares a fresh run with all of them at once, by tolerances "
        "widened for their number (`kahlervae.judge.check`).\n"
    )
    held = list(groups())
    for position, (run, dataset, claims) in enumerate(held):
        if position == 0 or held[position - 1][0] != run:
            text += _commands(run, {name: rows for other, name, rows in held if other == run})
        text += (
            f"\n### {dataset}\n\n"
            "| claim | role | statement | figure, table | metric | expected | verdict |\n"
            "| --- | --- | --- | --- | --- | --- | --- |\n"
        )
        for row in claims.itertuples():
            figure, table, _ = evidence(row.claim)
            where = f"{figure}, {table}" if figure else table
            text += (
                f"| `{row.claim}` | {row.role} | {row.statement.rstrip('.')} | {where} "
                f"| {row.metric} | {row.expected} | {row.adjusted} |\n"
            )
    return text


def _commands(run: Run, claims: dict[str, pd.DataFrame]) -> str:
    """What makes the figures and tables of a run, with time and memory."""
    minutes, memory = _cost(run)
    folder = run.reference.relative_to(ROOT).as_posix()
    text = (
        f"\n## `{run.command}`\n\n"
        f"Kept in `{folder}/figures` and `{folder}/tables`. Minutes are those of one core, all "
        "models and data sets of the run included; memory is that of the largest job.\n\n"
        "| figure, table | command | minutes | memory |\n| --- | --- | --- | --- |\n"
        f"| everything | `{run.command}` | {minutes:.0f} (all cores) | {memory:.1f} GB |\n"
    )
    shown = {evidence(name) for rows in claims.values() for name in rows["claim"]}
    for figure, table, rules in sorted(shown, key=lambda item: item.table):
        target = f"{run.results}/tables/{table}.csv"
        if figure:
            # A claim about several data sets at once has their figures.
            drawn = [f"{run.figures}/{name}/{figure}.png" for name in claims if " + " not in name]
            target = " ".join([*drawn, target])
        minutes, memory = _cost(run, rules)
        text += (
            f"| {figure + ', ' if figure else ''}{table} | `{run.target} -- {target}` "
            f"| {minutes:.0f} | {memory:.1f} GB |\n"
        )
    return text


if __name__ == "__main__":
    for file in PAGES:
        file.write_text(renewed(file.read_text()))
    PAGE.write_text(page())
