"""Bad configuration files through Snakemake, and folders with unusual names."""

from pathlib import Path

import pytest
import yaml

from .conftest import ROOT, STAND_IN, TINY, Project

LAUGHS = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
LAUGHS += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]

# File: its content, and what is said of it; "" where Snakemake alone speaks.
FILES = {
    "malformed": (b"seeds: [1, 2\n", "not valid JSON or YAML"),
    "tag": (b'!!python/object/apply:os.system ["touch pwned"]\n', "not valid JSON or YAML"),
    "empty": (b"", "with keys at top level"),
    "repeated": (b"seeds: [0]\nseeds: [1]\n", "line 2: seeds is set a second time"),
    "laughs": ("\n".join(LAUGHS).encode(), "goes beyond 5,000 values"),
    "braces": (b'results: "a{b}"\n', "config: results must be a plain path"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_bad_configuration_files_end_in_a_sentence(name: str, project: Project) -> None:
    content, sentence = FILES[name]
    (project.folder / "mine.yaml").write_bytes(content)
    run = project.snakemake("--dry-run", "--configfile", "mine.yaml")
    assert run.returncode == 1
    assert sentence in run.stdout
    assert "Traceback" not in run.stdout
    assert len(run.stdout.strip().splitlines()) <= 6
    assert not (project.folder / "pwned").exists()
    assert not (project.folder / "results").exists()


def test_a_binary_configuration_file_starts_nothing(project: Project) -> None:
    """Snakemake reads the file before any code of the project can, and shows its own traceback."""
    (project.folder / "mine.yaml").write_bytes(bytes(range(256)))
    run = project.snakemake("--dry-run", "--configfile", "mine.yaml")
    assert run.returncode == 1
    assert "UnicodeDecodeError" in run.stdout
    assert not (project.folder / "results").exists()


def test_folders_may_have_spaces_and_letters_of_any_alphabet(tmp_path: Path) -> None:
    """Every command gets its paths whole: the stand-in writes them, and finds its inputs."""
    folder = tmp_path / "Kähler geometry 結果"
    folder.mkdir()
    project = Project(folder)
    project.use(STAND_IN)
    config = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
    config |= {"results": "die Ergebnisse ä", "figures": "the figures folder"}
    (folder / "mine.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
    targets = ("tables", "claims", "the figures folder/claims.png")
    mine = (*targets, "--replace-workflow-config", "--configfile", "mine.yaml")
    run = project.snakemake("--cores", "2", *mine)
    assert run.returncode == 0, run.stdout
    assert not project.plan(*mine)
    assert (folder / "die Ergebnisse ä" / "claims.csv").exists()
    assert (folder / "the figures folder" / "claims.png").exists()
    # What a path is cut into by a missing quote would be written beside them.
    assert not {"die", "the", "Ergebnisse", "figures"} & {path.name for path in folder.iterdir()}


def test_a_checkout_in_a_folder_with_braces_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "a{b}"
    folder.mkdir()
    run = Project(folder).snakemake("--dry-run", *TINY)
    assert run.returncode == 1
    assert "a{b} holds braces, which Snakemake takes for a wildcard" in run.stdout
    assert "Traceback" not in run.stdout
    assert not (folder / "results").exists()
