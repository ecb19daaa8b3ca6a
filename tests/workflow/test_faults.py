"""What may go wrong outside of the program; the table of docs/reliability.md names these tests.

After every fault the next run completes, and ends at the bytes of an undisturbed one. Faults are
injected at one stage of a finished project that lacks the results of that stage.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import HARMED, ROOT, TINY, Project, wait_for_checkpoint

MODEL = "results/digits/pixels/complex/seed=0"
RESULTS = ("results", "figures", ".snakemake/metadata")


def revive(undisturbed: Project, folder: Path, *missing: str) -> Project:
    """A fresh copy of the sources beside a copy of the results, some of which are missing."""
    folder.mkdir(exist_ok=True)
    project = Project(folder)
    project.use(HARMED)
    project.adopt(undisturbed.folder, *RESULTS)
    for file in missing:
        (folder / file).unlink()
    return project


def start(
    project: Project, *targets: str, fault: str = "- - 0 -", prefix: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """A run in a process group of its own, as of a terminal."""
    return subprocess.Popen(
        [*prefix, *project.command("--cores", "all", *TINY, "--", *targets)],
        cwd=project.folder,
        env=project.environment | {"FAULT": fault},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def suffer(project: Project, *targets: str, **options) -> str:
    """What a run that fails says."""
    run = start(project, *targets, **options)
    said, _ = run.communicate(timeout=300)
    assert run.returncode != 0, said
    assert "Traceback" not in said
    return said


def assert_completes(project: Project, undisturbed: Project, *targets: str) -> None:
    """The next run ends where the undisturbed one ended, and leaves nothing else behind."""
    run = project.snakemake("--cores", "all", *TINY, "--", *targets)
    assert run.returncode == 0, run.stdout
    expected, found = undisturbed.results(), project.results()
    assert sorted(found) == sorted(expected)
    assert [name for name in found if found[name] != expected[name]] == []


WRITING = "kahlervae.storage:os.fsync"


@pytest.mark.parametrize(
    ("fault", "missing", "target"),
    [
        ("sample kahlervae.sample.run:generator 2", f"{MODEL}/samples.safetensors", "samples"),
        (f"table {WRITING} 1", "results/tables/samples.csv", "results/tables/samples.csv"),
        (f"figure {WRITING} 2", *["figures/digits/pixels/training.pdf"] * 2),
    ],
    ids=["sampling", "table", "figure"],
)
def test_sigkill(
    undisturbed: Project, tmp_path: Path, fault: str, missing: str, target: str
) -> None:
    """The whole run is killed; a table and the second file of a figure just before the rename.

    Sampling again takes another time, and what tells of it is all that is left to be made again.
    """
    project = revive(undisturbed, tmp_path, missing)
    run = start(project, target, fault=f"{fault} kill-all")
    run.communicate(timeout=300)
    assert run.returncode == -signal.SIGKILL
    assert not (project.folder / missing).exists()
    assert_completes(project, undisturbed, target)
    timed = {"table_sampler_speed", "runtime", "figure_runtime", "browse", "provenance", "all"}
    assert set(project.plan(*TINY)) == (timed if target == "samples" else set())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_and_terminate(
    undisturbed: Project, tmp_path: Path, number: signal.Signals
) -> None:
    """To the whole process group, as a terminal sends Ctrl-C and a system that shuts down."""
    project = revive(undisturbed, tmp_path, f"{MODEL}/model.safetensors")
    # A shell has what runs in its background ignore SIGINT, these tests and their children too.
    run = start(project, "models", prefix=("env", "--default-signal=INT"))
    wait_for_checkpoint(project, run)
    os.killpg(run.pid, number)
    said, _ = run.communicate(timeout=300)
    assert run.returncode != 0
    assert "Traceback" not in said
    assert re.search("Terminating processes on user request|Will exit after finishing", said)
    assert not (project.folder / MODEL / "model.safetensors").exists()
    assert_completes(project, undisturbed, "models")
    assert "resumed" in (project.folder / TRAINING_LOG).read_text()


TRAINING_LOG = "results/logs/train/digits/pixels/complex/seed=0.log"


def test_a_killed_job_is_said_to_have_been_killed(undisturbed: Project, tmp_path: Path) -> None:
    """As the system does when memory is short."""
    project = revive(undisturbed, tmp_path, f"{MODEL}/model.safetensors")
    said = suffer(project, "models", fault="train kahlervae.train.loop:_elbo 9 kill-job")
    assert "memory" in said
    assert_completes(project, undisturbed, "models")
    assert "resumed" in (project.folder / TRAINING_LOG).read_text()


def test_too_little_memory_is_named(undisturbed: Project, tmp_path: Path) -> None:
    project = revive(undisturbed, tmp_path, f"{MODEL}/model.safetensors")
    tiny = project.folder / "tiny.yaml"
    original = tiny.read_text()
    tiny.write_text(original.replace("width: 16, depth: 1", "width: 4096, depth: 3"))
    limit = ("bash", "-c", 'ulimit -v 2000000 && exec "$0" "$@"')
    said = suffer(project, f"{MODEL}/model.safetensors", prefix=limit)
    assert "error: out of memory" in said
    assert "run fewer jobs at once" in said
    tiny.write_text(original)
    assert_completes(project, undisturbed, "models")


def mounted(command: str) -> tuple[str, ...]:
    """Run in a name space of mounts of its own, which ends with the run."""
    prefix = ("unshare", "--mount", "--map-root-user", "bash", "-c")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounts need user name spaces, which this system does not allow")
    return (*prefix, f'{command} && exec "$0" "$@"')


def test_full_disk(undisturbed: Project, tmp_path: Path) -> None:
    data = ("results/digits/data.safetensors", "results/digits/data.json")
    project = revive(undisturbed, tmp_path, *data)
    small = mounted("mount -t tmpfs -o size=200k none results")
    said = suffer(project, "datasets", prefix=small)
    assert "data.safetensors cannot be written (No space left on device)" in said
    assert_completes(project, undisturbed, "datasets")


def test_full_disk_by_a_limit_of_size(undisturbed: Project, tmp_path: Path) -> None:
    """Where nothing can be mounted, the second best: no file may be larger than 200 kB."""
    project = revive(undisturbed, tmp_path, "results/digits/data.safetensors")
    limit = ("bash", "-c", 'ulimit -f 200 && exec "$0" "$@"')
    said = suffer(project, "datasets", prefix=limit)
    assert "data.safetensors cannot be written (File too large)" in said
    assert_completes(project, undisturbed, "datasets")


def test_read_only_results(undisturbed: Project, tmp_path: Path) -> None:
    project = revive(undisturbed, tmp_path, "results/claims.csv")
    locked = mounted("mount --bind results results && mount -o remount,bind,ro results")
    said = suffer(project, "results/claims.csv", prefix=locked)
    assert "results cannot be written to: there is no permission to write in results" in said
    assert_completes(project, undisturbed, "results/claims.csv")


def test_second_run_beside_the_first_is_refused(undisturbed: Project, tmp_path: Path) -> None:
    project = revive(undisturbed, tmp_path, f"{MODEL}/model.safetensors")
    first = start(project, "models")
    wait_for_checkpoint(project, first)
    first.send_signal(signal.SIGSTOP)  # lest it ends before the second has begun
    said = suffer(project, "models")
    assert "Another run is writing to results: wait until it has ended." in said
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=300)
    assert first.returncode == 0
    assert_completes(project, undisturbed, "models")


def test_clock_that_jumps_between_runs(undisturbed: Project, tmp_path: Path) -> None:
    """All files are of the future; what is edited then seems older than what was made from it."""
    project = revive(undisturbed, tmp_path)
    future = time.time() + 7200
    for part in ("results", "figures", "src"):
        for file in (project.folder / part).rglob("*"):
            os.utime(file, (future, future))
    assert not project.plan(*TINY)
    with (project.folder / "src/kahlervae/judge/claims.py").open("a") as file:
        file.write("\n# edited after the clock was set right\n")
    assert project.plan(*TINY)["claims"] == 1
    assert_completes(project, undisturbed, "results/claims.csv")
    assert not project.plan(*TINY, "--", "results/claims.csv")


def test_clock_that_jumps_during_a_run(undisturbed: Project, tmp_path: Path) -> None:
    table = "results/tables/samples.csv"
    project = revive(undisturbed, tmp_path, table)
    said = suffer(project, table, fault=f"table {WRITING} 1 future")
    assert "clock skew" in said
    assert_completes(project, undisturbed, table)


def test_moved_project(undisturbed: Project, tmp_path: Path) -> None:
    """Copied without dates, so that every file has a new one, in no order."""
    project = revive(undisturbed, tmp_path / "another place, ä")
    for file in sorted(project.folder.rglob("*"), key=lambda file: hash(file)):
        if file.is_file():
            file.touch()
    assert not project.plan(*TINY)


def test_fresh_clone_beside_old_results(undisturbed: Project, tmp_path: Path) -> None:
    project = revive(undisturbed, tmp_path)
    assert not project.plan(*TINY)
    # Without the records of how they were made, dates are all there is, and sources are newer.
    shutil.rmtree(project.folder / ".snakemake")
    for file in (project.folder / "src").rglob("*.py"):
        file.touch()
    assert project.plan(*TINY)["data"] == 1


def test_every_command_reads_the_code_that_its_rule_names(undisturbed: Project) -> None:
    """A module that a job loads and its rule does not name would leave stale results."""
    from .test_reruns import jobs

    for job in jobs(undisturbed):
        command = job["shellcmd"].split()[1]
        loaded = (undisturbed.folder / "loaded" / command).read_text().split()
        named = set(job["input-file(s)"].split(","))
        for module in {*loaded} - {"kahlervae.cli", "kahlervae.startup"}:
            path = f"src/{module.replace('.', '/')}"
            assert {f"{path}.py", f"{path}/__init__.py"} & named, (job["rule"], module)


def test_every_row_of_the_reliability_page_has_its_test() -> None:
    page = (ROOT / "docs/reliability.md").read_text().partition("## Measured")[0]
    page = re.sub(r"^## Messages$.*?(?=^## )", "", page, flags=re.DOTALL | re.MULTILINE)
    lines = page.splitlines()
    rows = [line for line in lines if line.startswith("|") and not line.startswith("| ---")]
    rows = [line for line in rows if not line.endswith("| test |")]
    assert len(rows) >= 16 + 6
    for row in rows:
        (name,) = re.findall(r"`([\w/]+\.py::\w+)` \|$", row)
        file, _, function = name.partition("::")
        assert f"def {function}(" in (ROOT / "tests" / file).read_text(), row
