"""The theory page names functions and tests that exist."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

from kahlervae import geometry

ROOT = Path(__file__).parents[1]
THEORY = (ROOT / "docs/theory.md").read_text()
SECTIONS = re.split(r"^## ", THEORY, flags=re.MULTILINE)[1:]


def names(section: str, kind: str) -> list[str]:
    (part,) = re.findall(rf"\*{kind}\*:(.*?\.)\n(?:\n|\*|$)", section + "\n", re.DOTALL)
    return re.findall(r"`([^`]+)`", part)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.splitlines()[0])
def test_functions_and_tests_of_every_section_exist(section):
    functions, tests = names(section, "Functions"), names(section, "Tests")
    assert functions
    assert tests
    for name in functions:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(f"kahlervae.{module}"), attribute), name
    for name in tests:
        file, _, function = name.partition("::")
        assert (ROOT / "tests" / file).exists(), name
        if function:
            assert f"def {function}(" in (ROOT / "tests" / file).read_text(), name


def test_sections_that_the_code_cites_exist():
    numbers = {section.split(".")[0] for section in SECTIONS}
    for path in (ROOT / "src").rglob("*.py"):
        for number in re.findall(r"docs/theory\.md, section (\d+)", path.read_text()):
            assert number in numbers, path


PUBLIC = [(module.__name__, name) for module in (geometry, geometry.fit) for name in module.__all__]


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_every_public_name_of_the_geometry_has_an_example_that_runs(module, name):
    documented = getattr(importlib.import_module(module), name)
    finder = doctest.DocTestFinder(recurse=False)
    (examples,) = finder.find(documented, name)
    assert examples.examples, f"{name} has no example"
