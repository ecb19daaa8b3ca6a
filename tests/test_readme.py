"""The README keeps what it says: its example runs, its table of claims is the reference's."""

import re
import runpy
import shutil
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
TABLES = runpy.run_path(str(ROOT / "docs/claims_table.py"))
AGAIN = "run `python docs/claims_table.py` to write it anew"


def test_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    scope: dict = {}
    exec(example, scope)
    assert "certified: True" in capsys.readouterr().out
    error = scope["relative_error"](scope["potential"].metric(scope["z"]), scope["metric"])
    assert error.median() < 0.5


def test_claims_are_those_of_the_reference():
    (table,) = TABLES["BLOCK"].findall((ROOT / "README.md").read_text())
    assert table == TABLES["short_table"](), AGAIN
    assert TABLES["PAGE"].read_text() == TABLES["page"](), AGAIN


def test_every_claim_is_in_the_table_and_its_evidence_in_the_reference():
    page = TABLES["PAGE"].read_text()
    for folder in filter(Path.exists, (run.reference for run in TABLES["RUNS"])):
        rules = set(pd.read_csv(folder / "tables/runtime.csv")["rule"])
        for row in pd.read_csv(folder / "claims.csv").itertuples():
            assert f"| `{row.claim}` | {row.statement.rstrip('.')} |" in page
            figure, table, made_by = TABLES["evidence"](row.claim, row.metric)
            assert figure is None or (folder / f"figures/{figure}.png").exists(), row.claim
            assert (folder / f"tables/{table}.csv").exists(), row.claim
            assert set(made_by) <= rules, row.claim


def test_main_claims_are_few_and_of_every_kind():
    for _, _, claims in TABLES["groups"]():
        main = claims[claims["claim"].map(lambda name: bool(TABLES["MAIN"].fullmatch(name)))]
        assert len(main) <= 25
        assert {"acceleration", "knn_outliers", "recall"} <= set(main["metric"])


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
        pd.concat(more).to_csv(paper / name, index=False)
    runs = [TABLES["RUNS"][0], TABLES["RUNS"][1]._replace(reference=paper)]
    scope = TABLES["groups"].__globals__
    monkeypatch.setitem(scope, "RUNS", runs)
    monkeypatch.setitem(scope, "ROOT", tmp_path)
    runs[0] = runs[0]._replace(reference=tmp_path / "reference")
    shutil.copytree(ROOT / "reference", runs[0].reference)
    assert [dataset for _, dataset, _ in TABLES["groups"]()] == [
        "digits/pixels",
        "mnist/pixels",
        "mnist/kspace",
    ]
    page, short = TABLES["page"](), TABLES["short_table"]()
    assert page.count("## `make reproduce`") == page.count("## `make paper`") == 1
    assert "`snakemake --cores all --configfile config/paper.yaml -- results/paper/fig" in page
    assert "**mnist/kspace**, by `make paper`" in short
    assert "(paper/figures/smoothness.png)" in short


def test_links_lead_somewhere():
    targets = set(re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()))
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
