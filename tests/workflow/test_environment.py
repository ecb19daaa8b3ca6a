"""One set of versions: pyproject.toml demands, requirements.txt pins, environment.yml repeats."""

import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return {
        canonicalize_name(name): version for name, _, version in (x.partition("==") for x in lines)
    }


def test_lock_pins_everything_to_public_versions(pins: dict[str, str]) -> None:
    assert all(pins.values())
    assert not [version for version in pins.values() if "+" in version]
    assert "kahlervae" not in pins


def test_lock_satisfies_pyproject(pins: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in project["dependencies"] + project["optional-dependencies"]["dev"]:
        demand = Requirement(text)
        assert pins[canonicalize_name(demand.name)] in demand.specifier


def test_conda_environment_has_the_pins_of_the_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = (part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    assert pip == (ROOT / "requirements.txt").read_text().splitlines()
