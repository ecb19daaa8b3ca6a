"""A run that was killed is completed by the next one, to the same numbers as an undisturbed run."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from .conftest import TINY, Project, wait_for_checkpoint


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
        for section in ("1 Training", "2 Geometry", "4 Sampling", "5 Evaluation", "6 Claims"):
            assert f'"{section}"' in report

    @pytest.mark.long
    def test_number_of_cores_changes_no_byte(self, undisturbed: Project, tmp_path: Path) -> None:
        project = Project(tmp_path)
        run = project.snakemake("--cores", "1", *TINY, "--", "tables", "claims")
        assert run.returncode == 0, run.stdout
        expected, found = undisturbed.results(), project.results()
        assert {"results/claims.csv", "results/tables/samples.csv"} <= set(found)
        assert [name for name in found if found[name] != expected[name]] == []

    @pytest.mark.long
    def test_killed_run_ends_at_the_same_numbers(
        self, undisturbed: Project, tmp_path: Path
    ) -> None:
        project = Project(tmp_path)
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
        expected, found = undisturbed.results(), project.results()
        assert "results/claims.csv" in found
        assert [name for name in found if found[name] != expected[name]] == []
