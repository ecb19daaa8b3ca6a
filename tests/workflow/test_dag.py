"""What is planned, and what a change makes again: commands are stood in for by one that writes
its arguments to its outputs."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT, Project

# One worker, for the finished project is made once a worker.
pytestmark = pytest.mark.xdist_group("dag")

STAND_IN = """#!/bin/bash
arguments="$*"
while [[ $# -gt 0 ]]; do
    case $1 in
        --out | --record | --history | --identities | --probes | --diagnostics | --sheet | \\
            --paths | --reconstruction | --gallery | --efficiency) echo "$arguments" > "$2" ;;
    esac
    shift
done
"""
TINY = ("--replace-workflow-config", "--configfile", "tiny.yaml")
FIGURES = {
    f"figure_{name}"
    for name in (
        "training", "reconstructions", "latent_slice", "agreement", "agreement_summary", "cost",
        "sample_sheets", "paths", "smoothness", "pareto", "claims", "runtime",
    )
}  # fmt: skip

# What a run took is gathered when all else is done.
LAST = {"runtime", "figure_runtime"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose whole workflow has run, by the stand-in."""
    project = Project(tmp_path_factory.mktemp("finished"))
    command = project.folder / "bin" / "kahlervae"
    command.parent.mkdir()
    command.write_text(STAND_IN)
    command.chmod(0o755)
    project.environment["PATH"] = f"{command.parent}:{project.environment['PATH']}"
    (project.folder / "tiny.yaml").write_text((ROOT / "tests/workflow/tiny.yaml").read_text())
    run = project.snakemake("--cores", "all", *TINY)
    assert run.returncode == 0, run.stdout
    return project


def without_targets(plan: Counter[str]) -> set[str]:
    return set(plan) - {"all"}


def test_default_plan(project: Project) -> None:
    plan = project.plan()
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    seeds, variants = len(config["seeds"]), len(config["datasets"]["digits"]["variants"])
    assert plan["train"] == plan["sample"] == plan["score"] == seeds * variants
    # Every variant but `real` has a metric; the slice is drawn for the first seed.
    assert plan["potential"] == plan["agreement"] == seeds * (variants - 1)
    assert plan["slice"] == plan["atlas"] == plan["page"] == variants - 1
    assert plan["oracle"] == 2
    assert plan["cost"] == plan["pareto"] == plan["claims"] == 1
    assert set(plan) > FIGURES


def test_cluster_is_not_flooded(project: Project) -> None:
    """Of the many short jobs, one submission is made for every model, and one for what remains."""
    run = project.snakemake("--dry-run", "--profile", "profiles/slurm")
    assert run.returncode == 0, run.stdout
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    models = len(config["seeds"]) * len(config["datasets"]["digits"]["variants"])
    groups = Counter(re.findall(r"Group job (\w+)", run.stdout))
    assert groups == {"model": models, "gather": 1}
    alone = Counter(re.findall(r"^rule (\w+):", run.stdout, re.M))
    assert alone == {"data": 1, "oracle": 2, "train": models, "cost": 1, "all": 1}


@pytest.mark.parametrize(
    ("target", "last"),
    [
        ("datasets", "data"),
        ("models", "train"),
        ("geometry", "slice"),
        ("samples", "sample"),
        ("tables", "pareto"),
        ("claims", "claims"),
        ("figures", "figure_claims"),
        ("figures", "page"),
    ],
)
def test_stages_are_targets(project: Project, target: str, last: str) -> None:
    assert project.plan(target)[last] >= 1


def test_smoke_run_leaves_other_results_alone(project: Project) -> None:
    run = project.snakemake("--dry-run", "--configfile", "config/smoke.yaml", "--quiet", "reason")
    files = [
        file.strip()
        for line in run.stdout.splitlines()
        if line.strip().startswith(("output: ", "log: ", "benchmark: "))
        for file in line.partition(": ")[2].split(",")
    ]
    assert files
    assert all(file.startswith("results/smoke/") for file in files)


def test_second_run_has_nothing_to_do(finished: Project) -> None:
    assert not finished.plan(*TINY)


def test_real_models_get_no_potential(project: Project) -> None:
    run = project.snakemake(
        "--dry-run", "--printshellcmds", "results/digits/pixels/real/seed=0/samples.safetensors"
    )
    (command,) = (line for line in run.stdout.splitlines() if "kahlervae sample" in line)
    assert "volume" not in command
    assert "potential" not in command


CODE = [
    ("figures/style.py", FIGURES | {"page"} | LAST),
    ("evaluate/claims.py", {"claims", "figure_claims"} | LAST),
    ("cli.py", set()),
    ("config.py", set()),
]


@pytest.mark.parametrize(("file", "expected"), CODE)
def test_code_makes_again_what_depends_on_it(
    finished: Project, file: str, expected: set[str]
) -> None:
    path = finished.folder / "src/kahlervae" / file
    original = path.read_text()
    path.write_text(original + "\n# changed\n")
    try:
        assert without_targets(finished.plan(*TINY)) == expected
        path.write_text(original)
        assert not finished.plan(*TINY), "the same content with a new time is no change"
    finally:
        path.write_text(original)


@pytest.mark.parametrize(
    ("file", "stage", "spared"),
    [
        ("evaluate/oracle.py", "oracle", {"data", "train", "potential", "sample"}),
        ("sample/hmc.py", "sample", {"data", "train", "potential", "agreement", "oracle"}),
        ("geometry/potential.py", "train", {"data", "oracle"}),
        ("train/loop.py", "train", {"data", "oracle", "cost"}),
        ("storage.py", "data", set()),
    ],
)
def test_code_spares_what_does_not_depend_on_it(
    finished: Project, file: str, stage: str, spared: set[str]
) -> None:
    path = finished.folder / "src/kahlervae" / file
    original = path.read_text()
    path.write_text(original + "\n# changed\n")
    try:
        plan = finished.plan(*TINY)
    finally:
        path.write_text(original)
    assert plan[stage]
    assert not spared & set(plan)


def test_setting_of_a_variant_trains_that_variant_again(finished: Project) -> None:
    path = finished.folder / "tiny.yaml"
    original = path.read_text()
    path.write_text(original.replace("strength: 1.0", "strength: 2.0"))
    try:
        plan = finished.plan(*TINY)
    finally:
        path.write_text(original)
    assert plan["train"] == plan["potential"] == plan["sample"] == plan["score"] == 1
    assert not {"data", "oracle", "cost"} & set(plan)


def test_rule_of_the_claims_judges_again_and_computes_nothing(finished: Project) -> None:
    path = finished.folder / "tiny.yaml"
    original = path.read_text()
    path.write_text(original.replace("confidence: 0.95", "confidence: 0.9"))
    try:
        assert without_targets(finished.plan(*TINY)) == {"claims", "figure_claims"} | LAST
    finally:
        path.write_text(original)


def test_results_do_not_know_where_they_were_made(finished: Project) -> None:
    """What the commands were given holds no absolute path."""
    folder = str(Path(finished.folder).resolve())
    for file in (finished.folder / "results").rglob("*.*"):
        if file.is_file() and file.suffix != ".tsv":
            assert folder not in file.read_text(), file
