"""What a release is made of: one version everywhere, and an archive that draws its own figures."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert paper["title"] == "Complex variational autoencoders admit Kähler structure"
    assert {"type": "other", "value": "arXiv:2511.15172"} in paper["identifiers"]


def test_zenodo_is_told_what_the_citation_tells():
    """Zenodo reads its own file in place of CITATION.cff where there is one."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    zenodo = json.loads((ROOT / ".zenodo.json").read_text())
    for key in ("title", "version", "license", "keywords"):
        assert zenodo[key] == citation[key], key
    assert zenodo["creators"] == citation["authors"]
    (paper,) = zenodo["related_identifiers"]
    (reference,) = citation["references"]
    assert paper["identifier"] in [held["value"] for held in reference["identifiers"]]
    assert [author["name"] for author in PROJECT["authors"]] == [
        author["name"] for author in citation["authors"]
    ]


def test_git_keeps_of_results_what_they_are_and_nothing_else():
    for folder in ("results", "figures"):
        page = ROOT / folder / "README.md"
        assert len(page.read_text().splitlines()) == 3
        ignored = ["git", "check-ignore", "--quiet", f"{folder}/a.csv"]
        if (ROOT / ".git").exists():
            assert subprocess.run(ignored, cwd=ROOT).returncode == 0
            ignored[-1] = str(page)
            assert subprocess.run(ignored, cwd=ROOT).returncode == 1


def test_hooks_have_the_versions_of_the_lock():
    lines = (ROOT / "requirements-dev.txt").read_text().splitlines()
    lock = dict(line.split("==") for line in lines)
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    held = {repo["repo"].rpartition("/")[2]: repo.get("rev") for repo in repositories}
    assert held["ruff-pre-commit"] == f"v{lock['ruff']}"
    assert held["snakefmt"] == f"v{lock['snakefmt']}"


def test_hooks_are_the_checks_of_make_lint():
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    checks = [line.strip() for line in recipe.splitlines()[1:]]
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook["id"] for repo in repositories for hook in repo["hooks"]]
    spoken = {
        "ruff check": "ruff-check",
        "ruff format --check": "ruff-format",
        "snakefmt --check Snakefile workflow": "snakefmt",
        "mypy": "mypy",
        "snakemake --lint": "snakemake-lint",
    }
    assert sorted(spoken[check] for check in checks) == sorted(hooks)


def test_catalog_entry_has_what_the_catalog_asks_for():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert set(usage["software-stack-deployment"]) <= {"conda", "apptainer", "apptainer+conda"}
    for needed in ("workflow/Snakefile", "config/README.md", "LICENSE"):
        assert (ROOT / needed).exists(), needed


def test_image_is_built_from_the_lock_and_of_a_python_that_will_do():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert lines[0] == "FROM python:3.11-slim"
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert {"requirements.txt", "pyproject.toml", "Makefile"} <= set(copied)
    assert all((ROOT / path).exists() for path in copied)


def test_github_runs_what_every_commit_must_pass():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = workflow["jobs"]["ci"]["steps"]
    assert steps[-1]["run"] == "bash .ci/run"


def test_no_test_falls_between_every_commit_and_every_release():
    """Whatever its marks, a test is run by exactly one of the targets that the two call."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    (default,) = (option for option in options["addopts"] if option.startswith("-m="))
    selections = []
    for script in (".ci/run", ".ci/verify"):
        for target in re.findall(r"make (test\S*)", (ROOT / script).read_text()):
            recipe = (ROOT / "Makefile").read_text().partition(f"\n{target}:")[2]
            for line in recipe.partition("\n\n")[0].splitlines()[1:]:
                given = re.search("-m '(.*?)'", line)
                expression = given[1] if given else default.removeprefix("-m=")
                terms = expression.split(" and ")
                selections.append({term.split()[-1]: "not" not in term.split() for term in terms})
    marks = {mark.partition(":")[0] for mark in options["markers"]} - {"gpu"}
    for held in product((False, True), repeat=len(marks)):
        worn = dict(zip(marks, held, strict=True)) | {"gpu": False}
        assert sum(selection.items() <= worn.items() for selection in selections) == 1, worn


def test_reference_is_small():
    assert sum(path.stat().st_size for path in (ROOT / "reference").rglob("*")) < 20e6


def test_the_smoke_run_judges_what_the_default_run_judges():
    """So that holding a run against it misses no claim, and no identity that fails passes."""
    smoke, default = (
        pd.read_csv(ROOT / "reference" / name).set_index("claim")
        for name in ("smoke/claims.csv", "claims.csv")
    )
    # Few draws seldom vary as much as others: what is compared at equal variation may be missing.
    missing = set(default.index) - set(smoke.index)
    assert all("_at_" in claim for claim in missing)
    identities = smoke["part"] == "identities"
    assert set(smoke.loc[identities, "verdict"]) == {"supported"}
    # No oracle judges signals without labels.
    left_out = smoke["verdict"] == "left out"
    assert set(smoke.loc[left_out, "dataset"]) == {"waves"}
    over_seeds = ~smoke["rule"].str.contains("for each of")
    assert set(smoke.loc[over_seeds & ~left_out, "verdict"]) == {"inconclusive"}


def test_the_last_runs_are_kept_as_reference(tmp_path):
    """Those that there are: here that of the paper, and not that of `make reproduce`."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    run, kept = tmp_path / "results/paper", tmp_path / "reference/paper"
    for name in (
        *("claims.csv", "provenance.json", "report.html", "figures/claims.png"),
        *("figures/digits/pixels/pareto.png", "figures/claims.pdf"),
        *("tables/paths.csv", "tables/history.csv", "tables/probes.csv"),
        *("../../reference/claims.csv", "../../reference/paper/tables/of_an_older_run.csv"),
    ):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/claims_table.py").write_text("print('tables written')")
    for name in ("requirements.txt", "pyproject.toml", ".venv/.installed"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    make = ["make", "--silent", "reference"]
    out = subprocess.run(make, cwd=tmp_path, env={"PATH": path}, check=True, capture_output=True)
    assert out.stdout == b"tables written\n"
    files = {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}
    assert files == {
        *("claims.csv", "provenance.json", "tables/paths.csv"),
        *("figures/claims.png", "figures/digits/pixels/pareto.png"),
    }
    assert (kept / "claims.csv").read_text() == "claims.csv"
    others = [path.name for path in kept.parent.iterdir()]
    assert sorted(others) == ["claims.csv", "paper"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The unpacked archive of the last commit."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    folder = tmp_path_factory.mktemp("release")
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "clone")], check=True)
    subprocess.run(["make", "--silent", "archive"], cwd=folder / "clone", check=True)
    (packed,) = (folder / "clone/dist").iterdir()
    assert packed.name == f"kahlervae-{PROJECT['version']}.tar.gz"
    with tarfile.open(packed) as tar:
        tar.extractall(folder, filter="data")
    return folder / packed.name.removesuffix(".tar.gz")


def test_checksums_cover_every_file(archive):
    sums = dict(
        reversed(line.split("  ")) for line in (archive / "SHA256SUMS").read_text().splitlines()
    )
    files = {str(path.relative_to(archive)) for path in archive.rglob("*") if path.is_file()}
    assert set(sums) == files - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((archive / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize(
    ("figure", "tables"),
    [
        ("agreement_summary", ["tables/agreement.csv"]),
        ("pareto", ["tables/samples.csv", "tables/chosen.csv", "tables/reference.csv"]),
    ],
)
def test_archive_draws_its_figures_from_its_tables(archive, figure, tables):
    run = "digits/pixels"
    out = archive / f"drawn/{run}/{figure}.png"
    inputs = [str(archive / "reference" / table) for table in tables]
    subprocess.run(
        [
            *(sys.executable, "-m", "kahlervae.cli", "figure", figure, *inputs),
            *("--of", run, "--out", str(out)),
        ],
        cwd=archive,
        env={"PYTHONPATH": str(archive / "src"), "PATH": "/usr/bin:/bin"},
        check=True,
    )
    drawn, kept = (
        np.asarray(Image.open(path).convert("L").resize((140, 100)), dtype=float)
        for path in (out, archive / f"reference/figures/{run}/{figure}.png")
    )
    assert np.corrcoef(drawn.ravel(), kept.ravel())[0, 1] > 0.9
