"""The smoke run through a real Slurm gives the bytes of a local run, also when a node is lost."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from slurm.cluster import NODES, Cluster, Unavailable, install
from workflow.conftest import ROOT, Project

pytestmark = pytest.mark.slurm

SMOKE = ("--configfile", "config/smoke.yaml")
# As a user would, but for a cluster without accounts, with small nodes and impatient people.
SLURM = (
    "--profile", "profiles/slurm", "--cores", "2", "--slurm-no-account", "--latency-wait", "10",
    "--seconds-between-status-checks", "2", "--slurm-init-seconds-before-status-checks", "2",
)  # fmt: skip
TIMEOUT = 1800


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    try:
        install()
        with Cluster() as running:
            yield running
    except Unavailable as reason:
        pytest.skip(f"NOTHING TESTED, NO SLURM: {reason}")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The smoke run without Slurm: that of `make smoke`, where there is one that is not stale."""
    project = Project(tmp_path_factory.mktemp("local"))
    if (ROOT / "results/smoke").is_dir():
        project.adopt(ROOT, "results/smoke", ".snakemake/metadata")
    run = project.snakemake("--cores", "all", *SMOKE)
    assert run.returncode == 0, run.stdout
    return project


@contextmanager
def through_slurm(project: Project, cluster: Cluster) -> Iterator[subprocess.Popen[bytes]]:
    """The smoke run, under way; what it says goes into ``snakemake.log``."""
    with (project.folder / "snakemake.log").open("w") as log:
        run = subprocess.Popen(
            project.command(*SMOKE, *SLURM),
            cwd=project.folder,
            env=project.environment | cluster.environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield run
    finally:
        run.kill()
        run.wait()


def assert_equal_results(project: Project, local: Project) -> None:
    found, expected = project.results(), local.results()
    assert "results/smoke/claims.csv" in expected
    assert "results/smoke/tables/samples.csv" in expected
    assert set(found) == set(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.long
def test_run_equals_a_local_one(cluster: Cluster, local: Project, tmp_path: Path) -> None:
    project = Project(tmp_path)
    jobs = sum(project.plan(*SMOKE).values())
    with through_slurm(project, cluster) as run:
        code = run.wait(TIMEOUT)
    output = (project.folder / "snakemake.log").read_text()
    assert code == 0, output
    assert_equal_results(project, local)
    submissions = output.count("has been submitted with SLURM jobid")
    assert 0 < submissions < jobs / 3, "short jobs are grouped"
    assert not project.plan(*SMOKE), "a local run has nothing left to do"


def test_run_survives_the_loss_of_a_node(cluster: Cluster, local: Project, tmp_path: Path) -> None:
    project = Project(tmp_path)
    with through_slurm(project, cluster) as run:
        node = cluster.wait(
            "a training under way",
            lambda: run.poll() is not None or node_of_a_training(project, cluster),
            TIMEOUT,
        )
        if node in NODES:
            cluster.kill_node(node)
        code = run.wait(TIMEOUT)
    output = (project.folder / "snakemake.log").read_text()
    assert node in NODES, output
    assert code == 0, output
    assert "failed due to a node failure" in output
    assert_equal_results(project, local)


def node_of_a_training(project: Project, cluster: Cluster) -> str | None:
    """Where a training runs that has written a checkpoint."""
    for checkpoint in project.folder.glob("results/smoke/*/*/*/*/checkpoint.safetensors"):
        variant = checkpoint.parents[1].name
        jobs = cluster.slurm("squeue", "--noheader", "--states=running", "--format=%N %k")
        for node, comment in (job.split() for job in jobs.splitlines()):
            if comment.startswith("rule_train_") and f"_{variant}_" in f"{comment}_":
                return node
    return None
