"""One set of versions: pyproject.toml demands, the two locks pin, environment.yml repeats."""

import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from snakemake.profiles import ProfileConfigFileParser

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return {
        canonicalize_name(name): version for name, _, version in (x.partition("==") for x in lines)
    }


RUN, DEVELOPMENT = pins("requirements.txt"), pins("requirements-dev.txt")


@pytest.mark.parametrize("lock", [RUN, DEVELOPMENT], ids=["run", "development"])
def test_lock_pins_everything_to_public_versions(lock: dict[str, str]) -> None:
    assert all(lock.values())
    assert not [version for version in lock.values() if "+" in version]
    assert "kahlervae" not in lock


def test_locks_satisfy_pyproject() -> None:
    """That of a run all that a run needs, and the other one what development needs besides."""
    run = [*PROJECT["dependencies"], *EXTRAS["workflow"], *EXTRAS["figures"]]
    for texts, lock in ((run, RUN), (EXTRAS["dev"], RUN | DEVELOPMENT)):
        for demand in map(Requirement, texts):
            if demand.name != "kahlervae":
                assert lock[canonicalize_name(demand.name)] in demand.specifier, demand
    assert not RUN.keys() & DEVELOPMENT.keys()


def test_development_brings_the_other_extras() -> None:
    (own,) = (demand for demand in map(Requirement, EXTRAS["dev"]) if demand.name == "kahlervae")
    assert own.extras == EXTRAS.keys() - {"dev"}


def test_conda_environment_has_the_pins_of_a_run() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = (part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    assert pip == (ROOT / "requirements.txt").read_text().splitlines()


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_are_for_terminals(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with (ROOT / "profiles/default/config.yaml").open() as file:
        options = ProfileConfigFileParser().parse(file)
    bars = terminal and find_spec("snakemake_logger_plugin_rich") is not None
    assert options.get("logger", []) == (["rich"] if bars else [])
    assert Path(options["report-stylesheet"]).exists()
