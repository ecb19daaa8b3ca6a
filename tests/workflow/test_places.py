"""The workflow where people run it: from other folders, from git, as a module of another workflow.

Wherever it runs, it plans what it plans at home, and what it computes is the same bytes.
"""

import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT, Project
from .test_faults import mounted

# The smallest data set that the workflow makes itself: two commands, of which one reads what the
# other has written.
TARGETS = ("results/colours/data.safetensors",)
OWN = ("--replace-workflow-config", "--configfile", "own.yaml")


def configure(folder: Path, **changes: str) -> None:
    """Put the tiny configuration with a made data set into a folder."""
    config = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text()) | changes
    digits = config["datasets"]["digits"]
    split = {"oracle": 150, "validation": 60, "test": 90, "seed": 0}
    config["datasets"] = {"colours": digits | {"split": split}}
    made = f"{config['results']}/examples/colours.npz"
    config["registry"] = {
        "colours": {
            **{"kind": "arrays", "files": [made], "samples": "x", "labels": "y"},
            **{"shape": [8, 8, 3], "count": 600},
        }
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))


@dataclass
class Home:
    """A project that ran where it lies: what it planned and what it made."""

    project: Project
    plan: Counter[str]
    results: dict[str, bytes]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Its folder has a name like those of people's folders."""
    folder = tmp_path_factory.mktemp("Kähler geometry 結果")
    project = Project(folder)
    configure(folder)
    plan = project.plan(*OWN)
    run = project.snakemake("--cores", "1", *OWN, "--", *TARGETS)
    assert run.returncode == 0, run.stdout
    results = project.results()
    assert {*TARGETS} <= {*results}
    shutil.rmtree(folder / "results")
    shutil.rmtree(folder / ".snakemake")
    commit(folder)
    return Home(project, plan, results)


@pytest.fixture
def away(tmp_path: Path) -> Path:
    folder = tmp_path / "somewhere else ü"
    folder.mkdir()
    configure(folder)
    return folder


def commit(folder: Path) -> None:
    for arguments in (
        ("init", "--initial-branch", "main"),
        ("add", "."),
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--message", "all"),
        ("tag", "v0"),
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def assert_same(
    home: Home,
    away: Path,
    *options: str,
    cwd: Path | None = None,
    prefix: str = "",
    rules: str = "",
) -> None:
    """Plan all and compute a little in a folder; ``prefix`` is of files, ``rules`` of rules."""
    assert home.project.plan(*options, "--", f"{rules}all", cwd=cwd or away) == Counter(
        {rules + rule: count for rule, count in home.plan.items()}
    )
    targets = [prefix + target for target in TARGETS]
    run = home.project.snakemake("--cores", "1", *options, "--", *targets, cwd=cwd or away)
    assert run.returncode == 0, run.stdout
    assert home.project.results(away / prefix) == home.results
    assert not (home.project.folder / "results").exists()


def test_directory_elsewhere(home: Home, away: Path) -> None:
    options = ("--directory", str(away), "--replace-workflow-config", "--configfile")
    assert_same(home, away, *options, str(away / "own.yaml"), cwd=home.project.folder)


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_snakefile_of_another_folder(home: Home, away: Path, snakefile: str) -> None:
    assert_same(home, away, "--snakefile", str(home.project.folder / snakefile), *OWN)


def test_the_default_configuration_comes_along(home: Home, away: Path) -> None:
    snakefile = ("--snakefile", str(home.project.folder / "Snakefile"))
    assert home.project.plan(*snakefile, cwd=away) == home.project.plan()


def test_results_and_figures_elsewhere(home: Home, away: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a disk for größere files"
    results, figures = elsewhere / "results", elsewhere / "figures"
    configure(away, results=str(results), figures=str(figures))
    snakefile = ("--snakefile", str(home.project.folder / "Snakefile"))
    targets = (str(results / "colours/data.json"), str(figures / "colours/pixels/training.png"))
    plan = home.project.plan(*snakefile, *OWN, "--", *targets, cwd=away)
    assert plan["figure_training"] == plan["data"] == 1
    run = home.project.snakemake("--cores", "1", *snakefile, *OWN, "--", targets[0], cwd=away)
    assert run.returncode == 0, run.stdout
    assert home.project.results(elsewhere) == home.results
    assert not (away / "results").exists()


# What stands in the file of somebody's own workflow, the options for it, the prefixes of its files
# and of its rules.
MODULES = {
    "renamed": (
        """
        module kahlervae:
            snakefile: "{home}/Snakefile"
            config: config
        use rule * from kahlervae as kahler_*
        """,
        OWN,
        ("", "kahler_"),
    ),
    "prefixed": (
        """
        module kahlervae:
            snakefile: "{home}/workflow/Snakefile"
            config: config
            prefix: "kahler"
        use rule * from kahlervae
        """,
        OWN,
        ("kahler/", ""),
    ),
    "beside rules": (
        """
        rule mine:
            input: "kahler/figures/digits/pixels/training.png"
            output: "mine/{{sample}}.txt"
            benchmark: "benchmarks/{{sample}}.tsv"
            shell: "touch {{output}}"
        rule all:
            default_target: True
            input: "kahler/results/provenance.json"
        configfile: "own.yaml"
        module kahlervae:
            snakefile: "{home}/Snakefile"
            config: config
            prefix: "kahler"
        use rule * from kahlervae as kahler_*
        """,
        (),
        ("kahler/", "kahler_"),
    ),
    # As snakedeploy writes it.
    "deployed": (
        """
        configfile: "own.yaml"
        module kahlervae:
            snakefile: github("somebody/kahlervae", path="workflow/Snakefile", tag="v0")
            config: config
        use rule * from kahlervae
        """,
        (),
        ("", ""),
    ),
    "of a repository": (
        """
        module kahlervae:
            snakefile: gitfile("{home}", path="workflow/Snakefile", tag="v0")
        use rule * from kahlervae
        """,
        OWN,
        ("", ""),
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_module(home: Home, away: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, options, (prefix, rules) = MODULES[name]
    (away / "workflow").mkdir()
    (away / "workflow/Snakefile").write_text(unindented(text.format(home=home.project.folder)))
    # What Snakemake has cloned from a host it takes from there.
    cache = away / "cache/snakemake/snakemake/source-cache/snakemake-git-cache"
    clone = [str(home.project.folder), f"{cache}/github.com/somebody/kahlervae"]
    subprocess.run(["git", "clone", "--bare", *clone], check=True, capture_output=True)
    monkeypatch.setitem(home.project.environment, "XDG_CACHE_HOME", str(away / "cache"))
    if name == "beside rules":
        plan = home.project.plan(cwd=away)
        assert plan["all"] == plan["kahler_provenance"] == 1
        assert "kahler_all" not in plan
    assert_same(home, away, *options, prefix=prefix, rules=rules)


def unindented(text: str) -> str:
    return "\n".join(line.removeprefix(" " * 8) for line in text.splitlines())


def test_a_checkout_that_cannot_be_written_to(home: Home, away: Path) -> None:
    folder = home.project.folder
    locked = mounted(f"mount --bind '{folder}' '{folder}' && mount -o remount,bind,ro '{folder}'")

    def snakemake(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*locked, "bash", "-c", f'cd "{cwd}" && exec "$0" "$@"']
        command += home.project.command("--cores", "1", *arguments)
        return subprocess.run(
            command, env=home.project.environment, capture_output=True, text=True, check=False
        )

    run = snakemake(folder, *OWN)
    assert run.returncode == 1
    sentence = "results cannot be written to: there is no permission to write in ."
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr
    run = snakemake(away, "--snakefile", str(folder / "Snakefile"), *OWN, "--", *TARGETS)
    assert run.returncode == 0, run.stderr
    assert home.project.results(away) == home.results


def test_a_snakemake_without_the_package_says_so(
    home: Home, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (away / "kahlervae.py").write_text("raise ModuleNotFoundError('No module named kahlervae')")
    monkeypatch.setitem(home.project.environment, "PYTHONPATH", str(away))
    snakefile = ("--snakefile", str(home.project.folder / "Snakefile"))
    run = home.project.snakemake("--dry-run", *snakefile, cwd=away)
    assert run.returncode == 1
    assert "has no package kahlervae: install it there" in run.stdout
    assert "Traceback" not in run.stdout


@pytest.mark.long
def test_the_smoke_run_as_a_module_of_a_repository(home: Home, away: Path) -> None:
    """The whole of it, from files that git holds, with a prefix; its report, too."""
    smoke = ("--configfile", str(home.project.folder / "config/smoke.yaml"))
    run = home.project.snakemake("--cores", "all", *smoke)
    assert run.returncode == 0, run.stdout
    (away / "Snakefile").write_text(
        unindented(f"""
        module kahlervae:
            snakefile: gitfile("{home.project.folder}", path="workflow/Snakefile", tag="v0")
            prefix: "kahler"
        use rule * from kahlervae as kahler_*
        """)
    )
    run = home.project.snakemake("--cores", "all", *smoke, cwd=away)
    assert run.returncode == 0, run.stdout
    assert home.project.results(away / "kahler") == home.project.results()
    assert not home.project.plan(*smoke, cwd=away)
    run = home.project.snakemake("--report", "report.html", *smoke, cwd=away)
    assert run.returncode == 0, run.stdout
    shutil.rmtree(home.project.folder / "results")
