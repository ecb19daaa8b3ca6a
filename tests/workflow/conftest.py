"""A copy of the project to run workflows in, so that a test cannot touch anybody's results."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "config.yaml", "config", "environment.yml", "profiles", "src", "workflow")


class Project:
    """A copy of the project in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        skip = shutil.ignore_patterns("__pycache__")
        for part in PARTS:
            if (ROOT / part).is_file():
                shutil.copy2(ROOT / part, folder / part)
            else:
                shutil.copytree(ROOT / part, folder / part, symlinks=False, ignore=skip)
        # The package is taken from the copy.
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "src"),
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", *arguments]

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run snakemake; standard output and error are both in ``stdout``."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def plan(self, *arguments: str) -> Counter[str]:
        """What would be done: number of jobs by rule."""
        run = self.snakemake("--dry-run", *arguments)
        assert run.returncode == 0, run.stdout
        if "Nothing to be done" in run.stdout:
            return Counter()
        table = run.stdout.rpartition("Job stats:")[2].partition("total")[0]
        return Counter({rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.M)})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)
