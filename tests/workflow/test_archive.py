"""From the models and samples of a run that is kept, everything else is made without training."""

import os
import shutil
import subprocess
from pathlib import Path

from .conftest import ROOT, STAND_IN, TINY, Project


def test_an_archive_needs_no_training(finished: Project, tmp_path: Path) -> None:
    """What `make archive` packs is all that `make from-archive` does not make again."""
    kept, fresh = (tmp_path / name for name in ("kept", "fresh"))
    shutil.copytree(finished.folder / "results", kept / "results")
    (kept / "results/SHA256SUMS").unlink(missing_ok=True)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / name, kept)
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    for arguments in (("init",), ("add", "Makefile"), (*identity, "commit", "-m", "first")):
        subprocess.run(["git", *arguments], cwd=kept, check=True, capture_output=True)
    subprocess.run(["make", "--silent", "archive"], cwd=kept, check=True)
    (packed,) = (kept / "dist").glob("*-models.tar.gz")

    fresh.mkdir()
    project = Project(fresh)
    project.use(STAND_IN)
    subprocess.run(["tar", "--extract", "--gzip", "--file", packed], cwd=fresh, check=True)
    sums = ["sha256sum", "--check", "--quiet", "results/SHA256SUMS"]
    subprocess.run(sums, cwd=fresh, check=True)
    for file in (fresh / "results").rglob("*"):
        os.utime(file, (1, 1))  # the date of a commit, before that of all sources
    run = project.snakemake("--cores", "1", "--touch", *TINY, "--", "kept")
    assert run.returncode == 0, run.stdout
    plan = project.plan(*TINY)
    assert not {"data", "oracle", "train", "potential", "sample", "cost", "step_cost"} & {*plan}
    everything = project.plan("--forceall", *TINY)
    made = {"score", "agreement", "atlas", "figure_training", "table_potentials", "claims"}
    assert made <= plan.keys()
    assert all(plan[rule] == everything[rule] for rule in plan)
