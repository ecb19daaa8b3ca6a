"""What a change makes again: what depends on it, and nothing else.

Commands are stood in for by one that writes its arguments to its outputs.
"""

import csv
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .conftest import TINY, Project

# What computes, as opposed to what draws.
COMPUTING = {
    "data", "oracle", "train", "potential", "agreement", "slice", "atlas", "sample", "score",
    "geodesics", "distances",
    "pareto", "claims", "cost", "step_cost",
}  # fmt: skip


@contextmanager
def changed(project: Project, file: str, old: str, new: str) -> Iterator[None]:
    """The project with one text of a file replaced; an empty ``old`` appends."""
    path = project.folder / file
    original = path.read_text()
    assert old in original
    path.write_text(original.replace(old, new) if old else original + new)
    try:
        yield
    finally:
        path.write_text(original)


def replan(project: Project) -> set[str]:
    return set(project.plan(*TINY)) - {"all"}


def jobs(project: Project) -> list[dict[str, str]]:
    """Output, rule and inputs of every job, as Snakemake knows them."""
    run = subprocess.run(
        project.command("--detailed-summary", *TINY),
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return list(csv.DictReader(run.stdout.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture(scope="module")
def table(finished: Project) -> list[dict[str, str]]:
    return jobs(finished)


def dependents(table: list[dict[str, str]], file: str) -> set[str]:
    """The rules that read a file, and all that come after them."""
    touched, rules = {file}, set()
    while True:
        hit = [job for job in table if touched & {*job["input-file(s)"].split(",")}]
        found = touched | {job["output_file"] for job in hit}
        rules = {job["rule"] for job in hit}
        if found == touched:
            return rules
        touched = found


def test_a_comment_in_code_of_figures_draws_again_and_computes_nothing(finished: Project) -> None:
    with changed(finished, "src/kahlervae/figures/style.py", "", "\n# a comment\n"):
        plan = replan(finished)
    assert not plan & COMPUTING
    assert not {rule for rule in plan if rule.startswith("table_")}
    assert {"figure_training", "figure_claims", "provenance"} <= plan


def test_the_same_content_with_a_new_time_is_no_change(finished: Project) -> None:
    for file in (finished.folder / "src").rglob("*.py"):
        file.touch()
    assert not replan(finished)


@pytest.mark.parametrize(
    ("module", "first", "spared"),
    [
        ("geometry/potential", {"train", "potential", "agreement"}, {"data", "oracle"}),
        ("train/loop", {"train", "step_cost"}, {"data", "oracle", "cost"}),
        ("sample/hmc", {"sample"}, {"data", "train", "potential", "agreement", "oracle"}),
        ("evaluate/oracle", {"oracle"}, {"data", "train", "potential", "sample"}),
        ("judge/claims", {"claims"}, COMPUTING - {"claims"}),
        ("judge/entries", {"claims"}, COMPUTING - {"claims"}),
        ("storage", {"data", "cost", "step_cost"}, set()),
        ("config/check", set(), COMPUTING),
        ("cli", set(), COMPUTING),
    ],
)
def test_a_change_of_code_makes_again_what_imports_it_and_what_follows(
    finished: Project, table: list[dict[str, str]], module: str, first: set[str], spared: set[str]
) -> None:
    file = f"src/kahlervae/{module}.py"
    with changed(finished, file, "", "\n# changed\n"):
        plan = replan(finished)
    assert plan == dependents(table, file)
    assert first <= plan
    assert not plan & spared


def test_strength_of_a_variant_trains_that_variant_again(finished: Project) -> None:
    with changed(finished, "tiny.yaml", "strength: 1.0", "strength: 2.0"):
        plan = finished.plan(*TINY)
        run = finished.snakemake("--dry-run", *TINY)
    assert plan["train"] == plan["potential"] == plan["sample"] == plan["score"] == 1
    assert not {"data", "oracle", "cost", "step_cost"} & set(plan)
    wildcards = {line for line in run.stdout.splitlines() if "variant=" in line and "wild" in line}
    assert wildcards
    assert all("variant=kahler" in line for line in wildcards)


def test_more_seeds_train_the_new_ones_alone(finished: Project) -> None:
    with changed(finished, "tiny.yaml", "seeds: [0]", "seeds: [0, 1, 2]"):
        plan = finished.plan(*TINY)
        assert plan["train_1_2"] == 2
        assert plan["sample"] == 4
        assert not {"train", "train_0", "data", "oracle", "cost"} & set(plan)
    with changed(finished, "tiny.yaml", "seeds_at_once: 5", "seeds_at_once: 1"):
        assert replan(finished) == {"provenance"}


def test_rule_of_the_claims_judges_again_and_computes_nothing(finished: Project) -> None:
    with changed(finished, "tiny.yaml", "confidence: 0.95", "confidence: 0.9"):
        plan = replan(finished)
    assert {"claims", "figure_claims", "provenance"} <= plan
    assert not plan & (COMPUTING - {"claims"})


def test_other_claims_are_judged_again_and_compute_nothing(finished: Project) -> None:
    with changed(finished, "workflow/claims.yaml", "bound: 0.8", "bound: 0.7"):
        plan = replan(finished)
    assert {"claims", "figure_claims", "provenance"} <= plan
    assert not plan & (COMPUTING - {"claims"})


def test_the_log_level_makes_nothing_again(
    finished: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(finished.environment, "KAHLERVAE_LOG", "DEBUG")
    assert not replan(finished)


def test_a_commit_makes_nothing_again(finished: Project) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        command = ["git", *identity, *arguments]
        subprocess.run(command, cwd=finished.folder, check=True, capture_output=True)

    git("init")
    git("add", "config.yaml", "src")
    git("commit", "-m", "first")
    assert not replan(finished)
    git("commit", "--allow-empty", "-m", "second")
    assert not replan(finished)


def test_provenance_is_made_last_and_nothing_waits_for_it(
    finished: Project, table: list[dict[str, str]]
) -> None:
    assert not dependents(table, "results/provenance.json")
    with changed(finished, "results/provenance.json", "", "changed"):
        assert not replan(finished)
