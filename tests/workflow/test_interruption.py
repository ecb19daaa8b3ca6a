"""A run that was killed is completed by the next one, to the same numbers as an undisturbed run."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import ROOT, Project

TINY = ("--replace-workflow-config", "--configfile", "tests/workflow/tiny.yaml")
# What measures time differs between any two runs.
TIMES = ("benchmarks", "logs", "cost.csv", "runtime.csv", "efficiency.csv")


def results(project: Project) -> dict[str, bytes]:
    """All that a run must reproduce: tables, records, models, samples."""
    return {
        str(path.relative_to(project.folder)): path.read_bytes()
        for path in (project.folder / "results").rglob("*")
        if path.suffix in (".csv", ".json", ".safetensors") and not {*TIMES} & {*path.parts}
    }


def prepare(folder: Path) -> Project:
    project = Project(folder)
    tiny = project.folder / "tests/workflow/tiny.yaml"
    tiny.parent.mkdir(parents=True)
    tiny.write_text((ROOT / "tests/workflow/tiny.yaml").read_text())
    return project


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = prepare(tmp_path_factory.mktemp("undisturbed"))
    run = project.snakemake("--cores", "all", *TINY)
    assert run.returncode == 0, run.stdout
    return project


@pytest.mark.xdist_group("interruption")
class TestWorkflow:
    def test_whole_run_writes_everything_and_ends(self, undisturbed: Project) -> None:
        assert (undisturbed.folder / "results/claims.csv").exists()
        assert (undisturbed.folder / "figures/claims.png").exists()
        assert (undisturbed.folder / "figures/claims.pdf").exists()
        assert not list(undisturbed.folder.rglob("checkpoint.safetensors"))
        assert not undisturbed.plan(*TINY)

    def test_report_is_made(self, undisturbed: Project) -> None:
        run = undisturbed.snakemake(*TINY, "--report", "results/report.html")
        assert run.returncode == 0, run.stdout
        report = (undisturbed.folder / "results/report.html").read_text()
        for section in ("Training", "Geometry", "Sampling", "Evaluation", "Claims"):
            assert f'"{section}"' in report

    def test_number_of_cores_changes_no_byte(self, undisturbed: Project, tmp_path: Path) -> None:
        project = prepare(tmp_path)
        run = project.snakemake("--cores", "1", *TINY, "--", "tables", "claims")
        assert run.returncode == 0, run.stdout
        expected, found = results(undisturbed), results(project)
        assert {"results/claims.csv", "results/tables/samples.csv"} <= set(found)
        assert [name for name in found if found[name] != expected[name]] == []

    def test_killed_run_ends_at_the_same_numbers(
        self, undisturbed: Project, tmp_path: Path
    ) -> None:
        project = prepare(tmp_path)
        run = subprocess.Popen(
            project.command("--cores", "all", *TINY),
            cwd=project.folder,
            env=project.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        checkpoint = wait_for_checkpoint(project, run)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        assert checkpoint.exists()
        assert not checkpoint.with_name("model.safetensors").exists()

        completion = project.snakemake("--cores", "all", *TINY, "--", "tables", "claims")
        assert completion.returncode == 0, completion.stdout
        log = Path("results/logs/train", *checkpoint.parts[-5:-1]).with_suffix(".log")
        assert "resumed" in (project.folder / log).read_text()
        expected, found = results(undisturbed), results(project)
        assert "results/claims.csv" in found
        assert [name for name in found if found[name] != expected[name]] == []


def wait_for_checkpoint(project: Project, run: subprocess.Popen[bytes]) -> Path:
    """The first checkpoint of a training that is still under way."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and run.poll() is None:
        for checkpoint in project.folder.glob("results/digits/*/*/*/checkpoint.safetensors"):
            return checkpoint
        time.sleep(0.01)
    run.kill()
    raise AssertionError("no training wrote a checkpoint")


def test_second_run_beside_the_first_is_refused(tmp_path: Path) -> None:
    import fcntl

    project = prepare(tmp_path)
    (project.folder / "results").mkdir()
    with (project.folder / "results/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = project.snakemake("--cores", "1", *TINY)
    assert run.returncode == 1
    assert "Another run is writing to results" in run.stdout
    assert "Traceback" not in run.stdout
