"""The README keeps what it says: its example runs, its table of claims is the reference's."""

import re
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
TABLE = re.compile(r"(?<=<!-- claims -->\n).*?(?=<!-- /claims -->)", re.DOTALL)


def claims_table() -> str:
    """The rows of the reference's claims in Markdown."""
    lines = ["| claim | estimate [95 % interval] | verdict |", "| --- | --- | --- |"]
    for row in pd.read_csv(ROOT / "reference/claims.csv").itertuples():
        statement = row.statement.rstrip(".")
        estimate = f"{row.metric} {row.estimate:.3g}"
        if pd.notna(row.ci_low):
            estimate += f" [{row.ci_low:.3g}, {row.ci_high:.3g}]"
        lines.append(f"| {statement} | {estimate} | {row.verdict} |")
    return "\n".join(lines) + "\n"


def test_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    scope: dict = {}
    exec(example, scope)
    assert "certified: True" in capsys.readouterr().out
    error = scope["relative_error"](scope["potential"].metric(scope["z"]), scope["metric"])
    assert error.median() < 0.5


def test_claims_are_those_of_the_reference():
    (table,) = TABLE.findall((ROOT / "README.md").read_text())
    assert table == claims_table(), "run `python tests/test_readme.py` to write it anew"


def test_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(TABLE.sub(lambda _: claims_table(), readme.read_text()))
