"""Copies of the project to run workflows in, so that a test cannot touch anybody's results."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from .start import run_snakemake

ROOT = Path(__file__).parents[2]
PARTS = (
    "Snakefile",
    "config.yaml",
    "config",
    "environment.yml",
    "profiles",
    "requirements.txt",
    "src",
    "workflow",
)
TINY = ("--replace-workflow-config", "--configfile", "tiny.yaml")
# Snakemake's default: with the time of the profile, it ends later than its jobs.
PROMPT = ("--max-jobs-per-timespan", "100/1s")
# What measures time differs between any two runs, and what tells of it.
TIMES = (
    *("benchmarks", "logs", "cost", "steps", "sampler_speed", "sampler_cost"),
    "distances",
    *("tradeoff", "efficiency", "runtime", "provenance"),
)


STAND_IN = """#!/bin/bash
arguments="$*"
while [[ $# -gt 0 ]]; do
    case $1 in
        --out | --record | --history | --identities | --probes | --diagnostics | --sheet | \\
            --paths | --reconstruction | --flatness | --gallery | --curves | --efficiency | \\
            --speed | --mixtures | --agreement | --flagged | --hypervolume | \\
            --chosen | --choice) echo "$arguments" > "$2" ;;
        --out=* | --history=*) echo "$arguments" > "${1#*=}" ;;
    esac
    shift
done
"""
# The command itself, which notes what it loaded, and comes to harm at a function where the
# environment says so: FAULT="<command> <module>:<name> <how often it was called> <what happens>".
HARMED = f"""#!{sys.executable}
import importlib, os, signal, sys
from pathlib import Path
from kahlervae.cli import main

command, place, count, fault = os.environ.get("FAULT", "- - 0 -").split()
if command == sys.argv[1]:
    module, _, names = place.partition(":")
    *owners, name = names.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    function, calls = getattr(owner, name), []

    def harmed(*arguments, **options):
        calls.append(1)
        if len(calls) == int(count):
            if fault == "kill-all":
                os.killpg(0, signal.SIGKILL)
            elif fault == "kill-job":
                os.kill(os.getpid(), signal.SIGKILL)
            elif fault == "future":
                os.utime(sys.argv[2], (4e9, 4e9))
        return function(*arguments, **options)

    setattr(owner, name, harmed)
try:
    main()
finally:
    package = [name for name in sys.modules if name.startswith("kahlervae.")]
    note = Path(f"loaded/{{sys.argv[1]}}")
    note.parent.mkdir(exist_ok=True)
    note.write_text(" ".join(package))
"""


class Project:
    """A copy of the project in a folder of its own; one that lies there already is taken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / "tiny.yaml").exists():
            self.copy_sources()
        # The package is taken from the copy.
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "src"),
        }

    def copy_sources(self) -> None:
        skip = shutil.ignore_patterns("__pycache__")
        for part in PARTS:
            if (ROOT / part).is_file():
                shutil.copy2(ROOT / part, self.folder / part)
            else:
                shutil.copytree(ROOT / part, self.folder / part, symlinks=False, ignore=skip)
        shutil.copy2(ROOT / "tests/workflow/tiny.yaml", self.folder / "tiny.yaml")

    def adopt(self, folder: Path, *parts: str) -> None:
        """Take over the results of a run in another folder: what Snakemake would not make again."""
        for part in parts:
            shutil.copytree(folder / part, self.folder / part)

    def use(self, text: str) -> None:
        """Replace the command of the jobs."""
        command = self.folder / "bin" / "kahlervae"
        command.parent.mkdir(exist_ok=True)
        command.write_text(text)
        command.chmod(0o755)
        self.environment["PATH"] = f"{command.parent}:{self.environment['PATH']}"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", *PROMPT, *arguments]

    def snakemake(
        self, *arguments: str, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run snakemake, here unless told where; output and error are both in ``stdout``."""
        arguments = (*PROMPT, *arguments)
        with tempfile.NamedTemporaryFile("r") as log:
            code = run_snakemake(arguments, cwd or self.folder, self.environment, Path(log.name))
            return subprocess.CompletedProcess(arguments, code, stdout=log.read())

    def plan(self, *arguments: str, cwd: Path | None = None) -> Counter[str]:
        """What would be done: number of jobs by rule."""
        run = self.snakemake("--dry-run", *arguments, cwd=cwd)
        assert run.returncode == 0, run.stdout
        if "Nothing to be done" in run.stdout:
            return Counter()
        table = run.stdout.rpartition("Job stats:")[2].partition("total")[0]
        return Counter({rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.M)})

    def results(self, cwd: Path | None = None) -> dict[str, bytes]:
        """All that a run must reproduce: tables, records, models, samples, figures."""
        folder = cwd or self.folder
        files = [file for top in ("results", "figures") for file in (folder / top).rglob("*")]
        return {
            str(file.relative_to(folder)): file.read_bytes()
            for file in files
            if file.suffix in (".csv", ".json", ".safetensors", ".png", ".pdf")
            and not {*TIMES} & {*file.parts, file.stem}
        }


def wait_for_checkpoint(project: Project, run: subprocess.Popen) -> Path:
    """The first checkpoint of a training that is still under way."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and run.poll() is None:
        for checkpoint in project.folder.glob("results/digits/*/*/*/checkpoint.safetensors"):
            return checkpoint
        time.sleep(0.01)
    run.kill()
    raise AssertionError("no training wrote a checkpoint")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """A project whose whole tiny workflow has run, the same for all workers: tests only read it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "undisturbed"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        project = Project(folder)
        project.use(HARMED)
        if not (folder / "results/provenance.json").exists():  # which is made last
            run = project.snakemake("--cores", "all", *TINY, "--max-jobs-per-timespan", "100/10s")
            assert run.returncode == 0, run.stdout
    return project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose whole workflow has run, by a stand-in that writes its arguments."""
    project = Project(tmp_path_factory.mktemp("finished"))
    project.use(STAND_IN)
    run = project.snakemake("--cores", "all", *TINY)
    assert run.returncode == 0, run.stdout
    return project
