import json
import re
import socket
import subprocess
from pathlib import Path

import pytest
import torch

from kahlervae.errors import InputError
from kahlervae.provenance import collect, revision

ROOT = Path(__file__).parents[1]


@pytest.fixture
def results(tmp_path):
    """Results in a folder, figures beside it, and pins of which one is not installed."""
    for name in ("results/tables/a.csv", "figures/a.png"):
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.write_text("abc")
    (tmp_path / "requirements.txt").write_text("torch==0.0\nno-such-package==1.0\n")
    return tmp_path


def record(folder, config=None):
    files = [folder / "results/tables/a.csv", folder / "figures/a.png"]
    return collect(files, folder / "results", folder / "requirements.txt", config or {})


def test_files_are_named_by_their_place_in_the_results(results):
    # SHA-256 of "abc", from FIPS 180-2.
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert record(results)["sha256"] == {"tables/a.csv": digest, "figures/a.png": digest}


def test_versions_are_the_installed_ones(results):
    packages = record(results)["packages"]
    assert packages == {"torch": torch.__version__, "no-such-package": None}


def test_record_says_nothing_of_time_host_and_place(results):
    text = json.dumps(record(results))
    assert text == json.dumps(record(results))
    assert str(results) not in text
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text)
    assert not re.search(r"(?<![\w.])/\w", text)
    assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d", text)


def test_settings_have_a_digest_that_does_not_depend_on_their_order(results):
    first, second, other = (
        record(results, config)["config_sha256"]
        for config in ({"a": 1, "b": {"c": 2.5}}, {"b": {"c": 2.5}, "a": 1}, {"a": 1, "b": {}})
    )
    assert first == second != other


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_pins_that_cannot_be_read_are_named(results, content):
    pins = results / "requirements.txt"
    pins.unlink() if content is None else pins.write_bytes(content)
    with pytest.raises(InputError, match="is no readable list of packages"):
        record(results)


def test_published_record_has_the_form_of_a_run(results):
    def form(value):
        return {key: form(item) for key, item in value.items()} if isinstance(value, dict) else None

    published = json.loads((ROOT / "reference/provenance.json").read_text())
    new = record(results)
    open_ended = ("packages", "sha256", "revision")
    assert {k: form(v) for k, v in published.items() if k not in open_ended} == {
        k: form(v) for k, v in new.items() if k not in open_ended
    }
    assert set(published) == set(new)


def test_missing_result_is_named(results):
    (results / "figures/a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png does not exist"):
        record(results)


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


def test_revision_is_that_of_the_commit_and_tells_changes(tmp_path):
    git(tmp_path, "init")
    assert revision(tmp_path) is None, "no commit yet"
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "first")
    clean = revision(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", clean["commit"])
    assert not clean["dirty"]
    (tmp_path / "file").write_text("2")
    assert revision(tmp_path) == clean | {"dirty": True}


def test_there_is_no_revision_without_a_repository_of_its_own(tmp_path, monkeypatch):
    assert revision(tmp_path) is None
    git(tmp_path, "init")
    (tmp_path / "unpacked").mkdir()
    assert revision(tmp_path / "unpacked") is None
    monkeypatch.setenv("PATH", "")
    assert revision(tmp_path) is None, "git is not installed"
