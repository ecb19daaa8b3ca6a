"""The README keeps what it says: its example runs, its table of claims is the reference's."""

import re
import runpy
import shutil
from pathlib import Path

import pandas as pd
import yaml

from kahlervae.geometry import relative_error

ROOT = Path(__file__).parents[1]
TABLES = runpy.run_path(str(ROOT / "docs/claims_table.py"))
AGAIN = "run `python docs/claims_table.py` to write it anew"


def test_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    scope: dict = {}
    exec(example, scope)
    assert "certified: True" in capsys.readouterr().out
    error = relative_error(scope["potential"].metric(scope["z"]), scope["metric"])
    assert error.median() < 0.5


def test_claims_are_those_of_the_reference():
    for file in TABLES["PAGES"]:
        text = file.read_text()
        assert TABLES["BLOCK"].search(text)
        assert TABLES["renewed"](text) == text, AGAIN
    assert TABLES["PAGE"].read_text() == TABLES["page"](), AGAIN


def test_every_claim_is_in_the_table_and_its_evidence_in_the_reference():
    page = TABLES["PAGE"].read_text()
    for folder in filter(Path.exists, (run.reference for run in TABLES["RUNS"])):
        rules = set(pd.read_csv(folder / "tables/runtime.csv")["rule"])
        for row in pd.read_csv(folder / "claims.csv").itertuples():
            assert f"| `{row.claim}` | {row.role} | {row.statement.rstrip('.')} |" in page
            _, table, made_by = TABLES["evidence"](row.claim)
            assert (folder / f"tables/{table}.csv").exists(), row.claim
            assert set(made_by) <= rules, row.claim


def test_the_primary_claims_are_shown_in_the_words_of_the_paper():
    shown = TABLES["short_table"]()
    assert shown.count("\n") - 2 <= 12
    told = TABLES["FINDINGS"].read_text()
    for _, dataset, claims in TABLES["groups"]():
        primary = claims[claims["role"] == "primary"]
        assert len(primary) <= 15
        for name in primary["claim"]:
            assert f"| `{name}` |" in told
        for row in primary.itertuples() if dataset.partition("/")[0] in TABLES["SHOWN"] else ():
            (line,) = [line for line in shown.splitlines() if line.startswith(f"| {row.paper} |")]
            assert row.adjusted in line


def test_it_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 1300


def test_expected_values_have_the_tolerance_of_the_seeds():
    row = {"estimate": -0.5, "ci_low": -0.6, "ci_high": -0.4, "rule": "supported if it is so"}
    assert TABLES["_expected"](row, 5) == "-0.5 ± 0.14"
    nothing = {"ci_low": float("nan"), "ci_high": float("nan")}
    bound = {"estimate": 2e-15, "rule": "supported if at most 1e-08 for each of 2 models"}
    assert TABLES["_expected"](bound | nothing, 5) == "2e-15 (at most 1e-08)"
    assert TABLES["_expected"]({"estimate": float("nan"), "rule": ""} | nothing, 5) == "–"


def test_a_reference_of_the_paper_adds_its_data_sets(tmp_path, monkeypatch):
    """As the default run once more, with MNIST in two representations beside the digits."""
    paper = tmp_path / "paper"
    shutil.copytree(ROOT / "reference", paper)
    for name in ("claims.csv", "tables/reconstruction.csv"):
        table = pd.read_csv(paper / name)
        more = [table]
        for representation in ("pixels", "kspace"):
            label = "mnist" if "tables" in name else f"mnist/{representation}"
            more.append(table.assign(dataset=label))
            if "tables" in name:
                more[-1]["representation"] = representation
        if name == "claims.csv":
            ablation = {"claim": "tie_acceleration_vs_kahler", "role": "secondary"}
            more.append(table[:1].assign(**ablation))
        pd.concat(more).to_csv(paper / name, index=False)
    runs = [TABLES["RUNS"][0], TABLES["RUNS"][1]._replace(reference=paper)]
    scope = TABLES["groups"].__globals__
    monkeypatch.setitem(scope, "RUNS", runs)
    monkeypatch.setitem(scope, "ROOT", tmp_path)
    runs[0] = runs[0]._replace(reference=tmp_path / "reference")
    shutil.copytree(ROOT / "reference", runs[0].reference)
    assert [dataset for _, dataset, _ in TABLES["groups"]()] == [
        "digits/pixels",
        "digits/pixels",
        "mnist/pixels",
        "mnist/kspace",
    ]
    page, short = TABLES["page"](), TABLES["short_table"]()
    assert page.count("## `make reproduce`") == page.count("## `make paper`") == 1
    assert "`snakemake --cores all --configfile config/paper.yaml -- results/paper/fig" in page
    assert page.count("| `tie_acceleration_vs_kahler` |") == 1
    assert page.count("| `closedness` |") == 3
    assert short.startswith("| the paper's words | digits | mnist |\n")
    assert "(paper/tables/samples.csv)" in short  # of which no figure is kept here


def test_messages_that_are_explained_are_those_of_the_program():
    page = (ROOT / "docs/reliability.md").read_text()
    table = page.partition("## Messages")[2].partition("\n## ")[0]
    messages = [
        message
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for message in re.findall(r"`([^`]+)`", row)
    ]
    assert len(messages) >= 10
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow").rglob("*.smk"), ROOT / "Makefile"]
    # A sentence that is split over lines is put together, and what is filled in is left open.
    source = re.sub(r'"\s*\n\s*f?"', "", "\n".join(file.read_text() for file in files))
    source = re.sub(r'\{[^{}\n]*\}|" \+ .*? \+ "', "…", source)
    for message in messages:
        pattern = ".{0,200}".join(re.escape(part.strip()) for part in message.split("…"))
        assert re.search(pattern, source), message


def test_how_to_cite_is_as_in_the_citation_file():
    readme = (ROOT / "README.md").read_text()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (entry,) = re.findall(r"^@\w+\{.*?^\}", readme, re.DOTALL | re.MULTILINE)
    fields = dict(re.findall(r"(\w+) += \{(.*)\}", entry))
    assert fields["title"].replace('{\\"a}', "ä") == citation["title"]
    assert fields["author"] == f"{{{citation['authors'][0]['name']}}}"
    assert fields["version"] == citation["version"]
    (paper,) = citation["references"]
    (author,) = paper["authors"]
    assert f"{author['family-names']} {paper['year']}" in readme
    assert paper["identifiers"][0]["value"].removeprefix("arXiv:") in readme


def test_commands_are_targets_of_make():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(
        r"(?m)(?:^|`)make (?:[A-Z]+=\S+ )?([a-z-]+)", (ROOT / "README.md").read_text()
    )
    assert set(named) >= {"smoke", "reproduce", "paper", "test", "check"}
    assert set(named) <= targets


def test_links_lead_somewhere():
    targets = set(re.findall(r"\]\((?!https:)([^)#]+)", (ROOT / "README.md").read_text()))
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
