"""What is planned."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT, TINY, Project

FIGURES = {
    f"figure_{name}"
    for name in (
        "training", "reconstructions", "latent_slice", "agreement", "agreement_summary", "cost",
        "sample_sheets", "flagged", "paths", "smoothness", "geodesics", "pareto", "claims",
        "runtime", "states",
    )
}  # fmt: skip


def test_default_plan(project: Project) -> None:
    plan = project.plan()
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    seeds, variants = len(config["seeds"]), len(config["datasets"]["digits"]["variants"])
    assert plan["sample"] == plan["score"] == seeds * variants
    # Every variant but `real` has a metric. The slice is drawn for the first seed.
    assert plan["agreement"] == plan["geodesics"] == seeds * (variants - 1)
    # Models of known geometry are trained and held against it, and no more.
    known = len(config["datasets"]["states"]["variants"])
    assert plan["states"] == plan["train_0"] == known
    # All seeds of a variant are one job.
    assert plan["train"] == variants
    assert plan["potential"] == plan["agreement"] + known
    assert plan["slice"] == plan["atlas"] == plan["page"] == plan["distances"] == variants - 1
    assert plan["oracle"] == 2
    assert plan["cost"] == plan["step_cost"] == plan["pareto"] == plan["claims"] == 1
    assert set(plan) > FIGURES


def test_cluster_is_not_flooded(project: Project) -> None:
    """Of the many short jobs, one submission is made for every model, and one for what remains."""
    run = project.snakemake("--dry-run", "--profile", "profiles/slurm")
    assert run.returncode == 0, run.stdout
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    variants = config["datasets"]["digits"]["variants"]
    models = len(config["seeds"]) * len(variants)
    # Where samples are of the prior alone, they meet the geometry in the atlas of one seed only.
    priors = [name for name, block in variants.items() if block.get("samplers") == ["prior"]]
    apart = (len(config["seeds"]) - 1) * len({*priors} - {"real"})
    groups = Counter(re.findall(r"Group job (\w+)", run.stdout))
    known = len(config["datasets"]["states"]["variants"])
    assert groups == {"model": models + known + apart, "gather": 1}
    alone = Counter(re.findall(r"^rule ([a-z_]+)(?:_\d+)?:", run.stdout, re.M))
    trained = {"data": 2, "oracle": 2, "train": models + known}
    assert alone == trained | {"cost": 1, "step_cost": 1, "all": 1}


def test_what_computes_on_a_gpu_asks_for_one(project: Project) -> None:
    run = project.snakemake("--dry-run", "--printshellcmds", "--config", "device=cuda")
    assert run.returncode == 0, run.stdout
    jobs = re.split(r"^(?:local)?rule ", run.stdout, flags=re.M)[1:]
    asks = {job.partition(":")[0]: "gpu=1" in job for job in jobs}
    computes = {job.partition(":")[0]: "--device cuda" in job for job in jobs}
    assert any(computes.values())
    assert asks == computes


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


def test_results_do_not_know_where_they_were_made(finished: Project) -> None:
    """What the commands were given holds no absolute path."""
    folder = str(Path(finished.folder).resolve())
    for file in (finished.folder / "results").rglob("*.*"):
        if file.is_file() and file.suffix != ".tsv":
            assert folder not in file.read_text(), file
