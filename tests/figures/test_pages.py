"""Tables that sort, captions that say the tables' numbers, and the summary on one page."""

import re

import pandas as pd
import pytest
from browser import needs_chromium, opened

from kahlervae.errors import InputError
from kahlervae.figures.captions import MEASURED, write_captions
from kahlervae.figures.pages import write_summary, write_table_page
from kahlervae.storage import write_table


def test_captions_say_the_means_of_the_tables(results, tmp_path):
    results = results()
    for name in ("reconstruction", "cost", "states", "samples", "paths", "geodesics", "claims"):
        results.table(name)
    models = results.frame("reconstruction")[["dataset", "representation", "variant"]]
    volumes = {"gmm:components=10": 0.8, "truncated": 0.4}
    test = pd.concat([models.assign(family=f, hypervolume=v) for f, v in volumes.items()])
    test = test.assign(split="test", score="knn_outliers", variation="recall")
    results.table("hypervolume", pd.concat([test, test.assign(split="validation", hypervolume=0)]))
    results.table("agreement", results.frame("agreement").assign(logdet_spearman=0.876))
    outputs = [tmp_path / f"{name}.rst" for name in (*MEASURED, "claims")]
    write_captions(results.root / "tables", results.root / "tables/claims.csv", outputs)
    said = {path.stem: path.read_text() for path in outputs}

    mse = results.frame("reconstruction").groupby("variant")["mse"].mean()
    assert f"complex {mse['complex']:.3g}, β-VAE {mse['beta']:.3g}" in said["reconstructions"]
    better, worse = "``gmm:components=10`` 0.800", "``truncated`` 0.400"
    assert said["pareto"].index(better) < said["pareto"].index(worse)
    counts = pd.read_csv(results.root / "tables/claims.csv")["verdict"].value_counts()
    assert f"{counts['supported']} supported" in said["claims"]
    assert "complex 0.88" in said["latent_slice"]
    assert "geodesics: complex 9.9, β-VAE 9.9" in said["geodesics"]
    assert "straight lines: complex 10, β-VAE 10" in said["geodesics"]
    assert not any("nan" in text for text in said.values())


def test_an_unknown_caption_is_refused(tmp_path):
    with pytest.raises(InputError, match="No caption 'map'"):
        write_captions(tmp_path, tmp_path / "claims.csv", [tmp_path / "map.rst"])


@needs_chromium
def test_table_sorts_by_a_click(tmp_path):
    frame = pd.DataFrame({"name": ["<b>", "a", "c"], "value": [10.0, float("nan"), 9.0]})
    write_table(tmp_path / "t.csv", frame)
    write_table_page(tmp_path / "t.csv", tmp_path / "t.html")
    with opened(tmp_path / "t.html") as page:
        names = "[...document.querySelectorAll('tbody tr')].map(row => row.cells[0].textContent)"
        assert page.evaluate(names) == ["<b>", "a", "c"]
        page.get_by_role("button", name="value").click()
        assert page.evaluate(names) == ["c", "<b>", "a"]
        page.get_by_role("button", name="value").click()
        assert page.evaluate(names) == ["<b>", "c", "a"]
        page.get_by_role("button", name="name").click()
        assert page.evaluate(names) == ["<b>", "a", "c"]


@needs_chromium
def test_summary_prints_on_one_page(pytestconfig, tmp_path):
    reference = pytestconfig.rootpath / "reference"
    names = ["pareto", "smoothness", "agreement_summary", "latent_slice"]
    figures = [reference / f"figures/{name}.png" for name in names]
    write_summary(reference / "claims.csv", figures, tmp_path / "summary.html")
    with opened(tmp_path / "summary.html") as page:
        widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert len(widths) == 4
        assert min(widths) > 500
        text = page.inner_text("body")
        pdf = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1
    counts = pd.read_csv(reference / "claims.csv")["verdict"].value_counts()
    assert f"{counts['supported']} supported" in text


def test_summary_of_several_data_sets_shows_the_worst_of_each_identity(pytestconfig, tmp_path):
    frame = pd.read_csv(pytestconfig.rootpath / "reference/claims.csv")
    metric = "largest closedness defect"
    other = frame[frame["metric"] == metric].assign(dataset="mnist", estimate=0.25)
    pd.concat([frame, other]).to_csv(tmp_path / "claims.csv", index=False)
    write_summary(tmp_path / "claims.csv", [], tmp_path / "summary.html")
    (row,) = re.findall(f"<td>{metric}</td>.*", (tmp_path / "summary.html").read_text())
    assert ">0.25<" in row


def test_summary_names_a_missing_figure(pytestconfig, tmp_path):
    with pytest.raises(InputError, match=r"none\.png does not exist"):
        write_summary(
            pytestconfig.rootpath / "reference/claims.csv", [tmp_path / "none.png"], tmp_path / "s"
        )
