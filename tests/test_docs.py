"""The pages name what exists and say what is so, and GitHub can set their formulas."""

import ast
import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest
from docutils import nodes
from geometry.decoders import points
from geometry.test_information import FAMILIES, decoder_of

from kahlervae import geometry, sample
from kahlervae.geometry import fit
from kahlervae.geometry.exact import SUBSTITUTES
from kahlervae.geometry.information import information, registered, unwrapped

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/theory.md"
THEORY = PAGE.read_text()
SECTIONS = re.split(r"^## ", THEORY, flags=re.MULTILINE)[1:]


def names(section: str, kind: str) -> list[str]:
    (part,) = re.findall(rf"\*{kind}\*:(.*?\.)\n(?:\n|\*|$)", section + "\n", re.DOTALL)
    return re.findall(r"`([^`]+)`", part)


def source(name: str) -> Path:
    """The file of a function or of a test."""
    if "test_" in name:
        return Path("tests", name.partition("::")[0])
    return Path("src/kahlervae", *name.split(".")[:-1]).with_suffix(".py")


def linked(page: str) -> str:
    """The page with every function and test of its lists linked to its source."""
    text = re.sub(r"^\[`.*`\]: .*\n", "", page, flags=re.MULTILINE).rstrip() + "\n"
    lists = re.compile(r"^\*(?:Functions|Tests)\*:.*?\.$", re.DOTALL | re.MULTILINE)
    text = lists.sub(lambda part: re.sub(r"\[?(`[^`]+`)\]?", r"[\1]", part[0]), text)
    used = {name for part in lists.findall(text) for name in re.findall(r"`([^`]+)`", part)}
    return text + "\n" + "".join(f"[`{name}`]: ../{source(name)}\n" for name in sorted(used))


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.splitlines()[0])
def test_functions_and_tests_of_every_section_exist(section):
    functions, tests = names(section, "Functions"), names(section, "Tests")
    assert functions
    assert tests
    for name in functions:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(f"kahlervae.{module}"), attribute), name
        assert (ROOT / source(name)).exists(), name
    for name in tests:
        function = name.partition("::")[2]
        text = (ROOT / source(name)).read_text()
        assert not function or f"def {function}(" in text, name


def test_functions_and_tests_are_linked():
    assert linked(THEORY) == THEORY, "run `python tests/test_docs.py` to link them anew"


def troubles(page: str) -> list[str]:
    """What GitHub does not set as the formula that is meant.

    Only $`...`$ and blocks of ```math are safe: between plain dollars Markdown eats backslashes,
    underscores and asterisks (github/markup issues 1577, 1742, 1571).
    """
    found = []
    blocks = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
    formulas = [text for language, text in blocks.findall(page) if language == "math"]
    prose = blocks.sub("", page)
    inline = re.compile(r"\$`(.*?)`\$", re.DOTALL)
    for match in inline.finditer(prose):
        before, after = prose[: match.start()][-1:], prose[match.end() :][:1]
        if before not in ("", "(", " ", "\n"):
            found.append(f"{match[0]} is not set after {before}")
        if after.isalnum():
            found.append(f"{match[0]} is not set before {after}")
        if "\n" in match[1]:
            found.append(f"{match[0]} is broken across lines")
        formulas.append(match[1])
    rest = re.sub(r"`[^`]*`", "", inline.sub("", prose))
    found += [f"plain dollars: {line}" for line in rest.splitlines() if "$" in line]
    for formula in formulas:
        bare = re.sub(r"\\[{}]", "", formula)
        if bare.count("{") != bare.count("}"):
            found.append(f"{formula} has braces without their others")
        if forbidden := re.search(r"\\(operatorname|newcommand|def|label|href|bm)\b|\$|`", formula):
            found.append(f"{formula} holds {forbidden[0]}")
    return found


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_github_can_set_the_formulas(page):
    assert troubles(page.read_text()) == []


@pytest.mark.parametrize(
    "page",
    [
        "with $a_i$ in it",
        "$$a$$",
        "1$`a`$",
        "-$`a`$",
        "$`a`$th",
        "$`a\nb`$",
        "$`\\operatorname{tr} a`$",
        "```math\n\\frac{a}{b\n```",
    ],
)
def test_formulas_that_github_cannot_set_are_found(page):
    assert len(troubles(page)) == 1


def test_sections_that_the_code_cites_exist():
    numbers = {section.split(".")[0] for section in SECTIONS}
    for path in (ROOT / "src").rglob("*.py"):
        for number in re.findall(r"docs/theory\.md, section (\d+)", path.read_text()):
            assert number in numbers, path


@pytest.mark.parametrize(
    ("formula", "mathml"),
    [
        (r"`\tfrac12(a)`", "<mfrac><mn>1</mn><mn>2</mn></mfrac><mo>(</mo><mi>a</mi><mo>)</mo>"),
        (r"\bar z_i", "<msub><mover><mi>z</mi><mo>ˉ</mo></mover><mi>i</mi></msub>"),
        (r"\overline{ab}", "<mover><mrow><mi>a</mi><mi>b</mi></mrow><mo>‾</mo></mover>"),
        (r"\exp(a)", "<mi>exp</mi><mo>\u2061</mo><mo>(</mo><mi>a</mi><mo>)</mo>"),
        (r"\Bigl(a\Bigr)", "<mo>(</mo><mi>a</mi><mo>)</mo>"),
    ],
)
def test_pages_set_what_docutils_does_not(formula, mathml, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    page = importlib.import_module("mathml")
    text = page._mathml(nodes.math(formula, formula), block=False)
    bare = re.sub(r"(<\w+)[^>]*>", r"\1>", re.sub(r"\s+<", "<", text))
    assert bare == f"<math>{mathml}</math>"


def is_used(value):
    """Whether it is called by a user: neither a record nor a constant nor what others implement."""
    concrete = inspect.isclass(value) and not inspect.isabstract(value)
    record = concrete and (issubclass(value, tuple) or getattr(value, "_is_protocol", False))
    return inspect.isfunction(value) or (concrete and not record)


PUBLIC = [
    (module.__name__, name)
    for module in (geometry, fit, sample)
    for name in module.__all__
    if module is not sample or is_used(getattr(sample, name))
]


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_every_public_name_of_geometry_and_samplers_has_an_example_that_runs(module, name):
    documented = getattr(importlib.import_module(module), name)
    finder = doctest.DocTestFinder(recurse=False)
    (examples,) = finder.find(documented, name)
    assert examples.examples, f"{name} has no example"


DECODERS = (ROOT / "docs/decoders.md").read_text()


def rows(header: str) -> list[list[str]]:
    """The cells of the table under this header."""
    (table,) = re.findall(rf"^\| {header} \|.*\n\|[-|]+\n((?:\|.*\n)+)", DECODERS, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


def test_the_table_of_distributions_is_that_of_the_registry():
    theirs = ("kahlervae.", "torch.")  # tests register others
    known = {
        f"`{kind.__name__}`": ", ".join(known.parameters)
        for kind, known in registered().items()
        if kind.__module__.startswith(theirs)
    }
    assert {name: parameters for name, parameters, *_ in rows("distribution")} == known


def test_what_falls_back_on_the_relative_entropy_is_what_tests_hold():
    likelihoods = (unwrapped(decoder_of(name, 1)(points(1, 1))) for name in FAMILIES)
    held = {type(p).__name__ for p in likelihoods if information(p) is None}
    (listed,) = re.findall(r"held by tests: (.*?)\.\n", DECODERS, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) == held


def test_every_function_that_is_exchanged_is_in_the_table():
    def plain(function):
        if function.__name__ == "__get__":  # of an attribute of tensors
            return function.__self__.__name__
        return function.__name__.removeprefix("linalg_")

    named = {name for cell, _ in rows("exchanged") for name in re.findall(r"`(\w+)`", cell)}
    assert named == {plain(function) for function in SUBSTITUTES}


def test_refusals_have_the_words_of_the_code():
    texts = [
        node.value
        for path in (ROOT / "src/kahlervae/geometry").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    for _, words in rows("refused"):
        for part in words.strip("`").split("…"):
            assert any(part.strip() in text for text in texts), part


def test_the_example_of_a_registered_distribution_runs():
    (example,) = re.findall(r"```python\n(.*?)```", DECODERS, re.DOTALL)
    scope: dict = {}
    exec(example, scope)
    assert scope["metric"].item() == pytest.approx(0.25)


if __name__ == "__main__":
    PAGE.write_text(linked(THEORY))
