"""The package by itself: a wheel, of which the geometry needs its dependencies and nothing else."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Refuses what the distributions that are named do not bring.
BLOCK = """
import importlib.machinery, importlib.metadata, sys

allowed = {"kahlervae", *sys.argv[1].split(",")}
owners = importlib.metadata.packages_distributions()

class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        held = {owner.lower().replace("_", "-") for owner in owners.get(top, ())}
        if held and not held & allowed:
            return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name)

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Block())
"""
GEOMETRY = """
import torch
import kahlervae
from kahlervae.geometry import fisher_metric
print(kahlervae.__file__)
decoder = lambda z: torch.distributions.Normal(torch.stack([z.real, z.imag], -1).flatten(1), 1.0)
metric = fisher_metric(decoder, torch.zeros(1, 2, dtype=torch.complex128))
print(metric.real.diagonal(dim1=-2, dim2=-1).tolist())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([sys.executable, *build, "--wheel-dir", str(out), str(ROOT)], check=True)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    install = ["-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target"]
    subprocess.run([sys.executable, *install, str(folder), str(wheel)], check=True)
    return folder


STAGES = (
    {"data"},
    {"nn"},
    {"models", "geometry"},
    {"train", "sample"},
    {"evaluate"},
    {"judge", "measure"},
    {"figures"},
)
"""Folders of the package; each imports from its own stage and from those before it."""


def needed(demands: list[str]) -> set[str]:
    """Distributions that demands bring, directly or not."""
    found, waiting = set(), [Requirement(demand) for demand in demands]
    for demand in waiting:
        name = canonicalize_name(demand.name)
        if name not in found:
            found.add(name)
            further = map(Requirement, importlib.metadata.requires(name) or [])
            waiting += [x for x in further if x.marker is None or x.marker.evaluate({"extra": ""})]
    return found


def python(installed: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "HOME": str(installed)},
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )


def test_geometry_needs_the_dependencies_alone(installed: Path) -> None:
    allowed = needed(PROJECT["dependencies"])
    assert not {"pandas", "snakemake", "matplotlib", "typer"} & allowed
    run = python(installed, BLOCK + GEOMETRY, ",".join(sorted(allowed)))
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [f"{installed}/kahlervae/__init__.py", "[[0.5, 0.5]]"]


def test_data_flows_one_way() -> None:
    package = ROOT / "src/kahlervae"
    places = {folder: place for place, stage in enumerate(STAGES) for folder in stage}
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert folders == {*places, "config"}  # which stands beside the stages
    for folder, place in places.items():
        for file in (package / folder).glob("*.py"):
            others = set(re.findall(r"(?:from|import) kahlervae\.(\w+)", file.read_text()))
            before = {other for other in others if places.get(other, 0) <= place}
            assert others == before, file


def test_the_commands_say_what_they_lack(installed: Path) -> None:
    allowed = ",".join(needed(PROJECT["dependencies"]))
    run = python(installed, BLOCK + "import kahlervae.cli", allowed)
    assert run.returncode == 1
    assert run.stderr.strip().endswith("pip install 'kahlervae[workflow]'.")
    assert run.stderr.count("\n") == 1


def test_the_wheel_holds_what_the_commands_read(wheel: Path, installed: Path) -> None:
    held = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    source = ROOT / "src"
    read = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert {name for name in read if "__pycache__" not in name} <= held
    assert wheel.name == f"kahlervae-{PROJECT['version']}-py3-none-any.whl"
    run = python(
        installed, "from kahlervae.cli import main; main()", "example", "waves", "--out", "a.npz"
    )
    assert run.returncode == 0, run.stderr
