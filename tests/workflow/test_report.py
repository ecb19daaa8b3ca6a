"""The report in a browser: every item opens from one file, without errors and without network.

Commands are stood in for by one that writes reference figures and small pages.
"""

import shutil

import pytest
from browser import needs_chromium, opened

from .conftest import ROOT, Project

STAND_IN = f"""#!/bin/bash
write() {{
    case $1 in
        *.png) cp {ROOT}/reference/figures/digits/pixels/pareto.png "$1" ;;
        *.html) echo '<!doctype html><title>page</title><p id="written">written</p>' > "$1" ;;
        *) echo 'measured: 0.25' > "$1" ;;
    esac
}}
while [[ $# -gt 0 ]]; do
    case $1 in
        --settings) shift ;;
        --*=*.*) write "${{1#*=}}" ;;
        --*) [[ $2 == *.* && ! -e $2 ]] && write "$2" ;;
    esac
    shift
done
exit 0
"""


@pytest.fixture
def report(project: Project):
    command = project.folder / "bin" / "kahlervae"
    command.parent.mkdir()
    command.write_text(STAND_IN)
    command.chmod(0o755)
    project.environment["PATH"] = f"{command.parent}:{project.environment['PATH']}"
    shutil.copy2(ROOT / "tests/workflow/tiny.yaml", project.folder)
    tiny = ("--replace-workflow-config", "--configfile", "tiny.yaml")
    run = project.snakemake("--cores", "all", *tiny)
    assert run.returncode == 0, run.stdout
    run = project.snakemake("--report", "report.html", *tiny)
    assert run.returncode == 0, run.stdout
    return project.folder / "report.html"


@needs_chromium
def test_every_item_opens(report):
    width, height = 1280, 720  # a laptop's screen
    sections = [
        "1 Training",
        "2 Geometry",
        "3 Atlas",
        "4 Sampling",
        "5 Evaluation",
        "6 Claims",
        "7 Run",
    ]
    with opened(report, width, height) as page:
        heading = page.get_by_role("heading", name="How Kähler is")
        assert heading.bounding_box()["y"] >= 0, "cut off at the top"
        shown = {"figure": 0, "table": 0, "page": 0}
        for section in sections:
            page.reload()
            page.get_by_text(section, exact=True).last.click()
            rows = page.locator("tbody tr")
            for k in range(rows.count()):
                kind = rows.nth(k).inner_text().strip().partition(":")[0]
                rows.nth(k).locator("a[iconname=eye]").click()
                if kind == "figure":
                    image = page.locator("div.grow.h-screen img")
                    image.wait_for()
                    box = image.bounding_box()
                    assert image.evaluate("image => image.naturalWidth") == 1400
                    assert box["x"] + box["width"] <= width
                else:
                    page.frame_locator("iframe").locator("#written").wait_for()
                shown[kind] += 1
        page.reload()
        page.get_by_text("5 Evaluation", exact=True).last.click()
        row = page.locator("tbody tr", has_text="figure: pareto")
        row.locator("a[iconname=eye]").click()
        page.locator("div.grow.h-screen img").wait_for()
        row.locator("a[iconname=information-circle]").click()
        page.get_by_text("measured: 0.25").wait_for()
    assert shown["figure"] >= 11
    assert shown["table"] == 19
    assert shown["page"] == 3  # the atlas of two models, the summary
