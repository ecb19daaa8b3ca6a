"""Tables that sort, captions that say the tables' numbers, and the summary on one page."""

import re
from html import unescape

import numpy as np
import pandas as pd
import pytest
from browser import needs_chromium, opened
from docutils.core import publish_parts
from PIL import Image

from kahlervae.errors import InputError
from kahlervae.figures import draw
from kahlervae.figures.captions import MEASURED, write_captions
from kahlervae.figures.pages import write_summary, write_table_page
from kahlervae.figures.single_file import LARGEST
from kahlervae.figures.sources import primary
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
    for claim in results.frame("claims").query("role == 'primary'").itertuples():
        assert claim.statement.rstrip(".") in said["claims"]
    strict = {"halt_level": 2}  # a warning is an error
    assert "<li>" in publish_parts(said["claims"], writer="html", settings_overrides=strict)["body"]
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


def test_sentences_stand_behind_what_is_read_first(tmp_path):
    sentence = "The volume element varies less at held-out points."
    key = "base=posterior_mixture,weight=local,metric=fitted,power=-4"
    frame = pd.DataFrame({"claim": ["a"], "said": [sentence], "setting": [key], "estimate": [0.5]})
    write_table(tmp_path / "t.csv", frame)
    write_table_page(tmp_path / "t.csv", tmp_path / "t.html")
    page = (tmp_path / "t.html").read_text()
    names = re.findall("<button>(.*)</button>", page)
    assert names == ["claim", "estimate", "setting", "said"]
    assert re.findall("<td class=(.*?)>", page) == ["words", "number", "key", "sentence"]


def test_claims_show_their_verdicts_first_and_what_all_rows_share_above(tmp_path):
    frame = pd.DataFrame(
        {
            "claim": ["a", "b"],
            "dataset": ["digits", "digits"],
            "metric": ["mse", "kl"],
            "estimate": [0.5, 0.5],
            "verdict": ["supported", "not supported"],
            "control": [None, None],
        }
    )
    write_table(tmp_path / "t.csv", frame)
    write_table_page(tmp_path / "t.csv", tmp_path / "t.html")
    page = (tmp_path / "t.html").read_text()
    names = re.findall("<button>(.*)</button>", page)
    assert names[:4] == ["claim", "estimate", "verdict", "metric"]
    assert "In all of them\ndataset is <b>digits</b>" in page


def test_table_without_rows_has_its_columns(tmp_path):
    write_table(tmp_path / "t.csv", pd.DataFrame({"name": [], "value": []}))
    write_table_page(tmp_path / "t.csv", tmp_path / "t.html")
    page = (tmp_path / "t.html").read_text()
    assert "0 rows; this run has nothing of the kind." in page
    assert "<button>value</button>" in page


FIGURES = ("smoothness", "pareto", "agreement_summary", "latent_slice")


@pytest.fixture
def summary(results, tmp_path):
    """The claims of two data sets, and a page of them with the four figures."""
    results = results(variants=("complex", "kahler"))
    frame = results.frame("claims")
    claims = results.table("claims", pd.concat([frame, frame.assign(dataset="mnist")]))
    figures = [tmp_path / f"{name}.png" for name in FIGURES]
    for name, path in zip(FIGURES, figures, strict=True):
        draw(name, results.inputs(name), [path])
    write_summary(claims, figures, tmp_path / "summary.html")
    return frame, tmp_path / "summary.html"


@needs_chromium
def test_summary_is_legible_on_a_laptop_and_prints_on_one_page(summary):
    _, path = summary
    with opened(path, width=1366) as page:
        widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert len(widths) == 4
        assert min(widths) > 500
        assert page.evaluate("document.documentElement.scrollWidth") <= 1366
        pdf = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1


def test_summary_opens_out_of_the_report_whatever_its_figures_show(results, tmp_path):
    claims = results().table("claims")
    noise = np.random.default_rng(0).integers(0, 256, (500, 700, 3), dtype=np.uint8)
    figures = [tmp_path / f"{name}.png" for name in FIGURES]
    for path in figures:
        Image.fromarray(noise).save(path)
    write_summary(claims, figures, tmp_path / "summary.html")
    assert (tmp_path / "summary.html").stat().st_size < LARGEST


def test_summary_tells_the_primary_claims_with_verdict_and_effect(summary):
    frame, path = summary
    text = unescape(path.read_text())
    for claim in frame.to_dict("records"):
        assert (claim["statement"] in text) == (claim["role"] == "primary")
    for paper in frame.loc[frame["role"] == "primary", "paper"].unique():
        assert text.count(f">{paper}<") == 1
    row = frame[(frame["role"] == "primary") & (frame["control"] == 0.3)].iloc[0]
    assert f"{100 * row['estimate'] / 0.3:+.0f} % [".replace("-", "−") in text
    for left, width, middle in re.findall(r'x="(.+)" width="(.+)" y="-3".*\n<rect x="(.+?)"', text):
        assert -100 <= float(left) <= float(middle) + 1.5 <= float(left) + float(width) <= 100


def test_an_effect_without_a_verdict_is_in_brackets(results):
    results = results(variants=("complex", "kahler"))
    frame = results.frame("claims")
    at = frame["control"] == 0.3
    told = [
        primary(results.table("claims", frame.assign(p_value=frame["p_value"].mask(lost))))
        .query("control == 0.3")["told"]
        .iloc[0]
        for lost in (~at, at)
    ]
    compared, lost = told
    assert re.fullmatch(r"[+−]\d+ % \[[+−]\d+, [+−]\d+\]", compared)
    assert lost == f"({compared.partition(' [')[0]})"


def test_what_has_no_control_is_told_by_its_bound(results):
    results = results(variants=("complex", "kahler"))
    frame = results.frame("claims")
    at = (frame["role"] == "primary") & frame["ci_low"].notna()
    (row,) = frame[at].head(1).to_dict("records")
    claims = results.table("claims", frame[at].head(1).assign(control=float("nan")))
    told = primary(claims)["told"].iloc[0].replace("−", "-")
    assert told == "{estimate:.3g} [{ci_low:.3g}, {ci_high:.3g}], bound {bound:g}".format(**row)


def test_summary_names_a_missing_figure(results, tmp_path):
    claims = results().table("claims")
    with pytest.raises(InputError, match=r"none\.png does not exist"):
        write_summary(claims, [tmp_path / "none.png"], tmp_path / "summary.html")
