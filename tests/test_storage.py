import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from kahlervae import storage
from kahlervae.errors import InputError


def test_what_is_written_comes_back(tmp_path):
    tensors = {"z": torch.randn(3, dtype=torch.complex64), "n": torch.arange(3)}
    storage.write_tensors(tmp_path / "t.safetensors", tensors, {"seed": 1})
    loaded, metadata = storage.read_tensors(tmp_path / "t.safetensors")
    assert all(torch.equal(loaded[key], tensors[key]) for key in tensors)
    assert metadata == {"seed": "1"}
    table = pd.DataFrame({"a": [0.1 + 0.2, 1e-300], "b": ["x", "y"]})
    storage.write_table(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(storage.read_table(tmp_path / "t.csv"), table, check_exact=True)
    storage.write_json(tmp_path / "t.json", {"ä": [1]})
    assert storage.read_json(tmp_path / "t.json") == {"ä": [1]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "t.json", "t.safetensors"]


def test_arrays_are_the_tensors_without_torch(tmp_path):
    tensors = {"z": torch.randn(3, dtype=torch.complex64), "n": torch.arange(3)}
    storage.write_tensors(tmp_path / "t.safetensors", tensors, {"seed": 1})
    arrays, metadata = storage.read_arrays(tmp_path / "t.safetensors")
    for key, tensor in tensors.items():
        assert arrays[key].dtype == tensor.numpy().dtype
        assert (arrays[key] == tensor.numpy()).all()
    assert metadata == {"seed": "1"}


def test_equal_content_is_equal_bytes(tmp_path):
    """Across processes too: the format's own metadata has no fixed order."""
    code = (
        "import sys, torch; from kahlervae.storage import write_tensors;"
        "write_tensors(sys.argv[1], {'z': torch.ones(3)}, {c: c for c in 'abcdefgh'})"
    )
    for name in "ab":
        path = tmp_path / f"{name}.safetensors"
        subprocess.run([sys.executable, "-c", code, path], check=True)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "t.json"
    storage.write_json(path, "old")

    def fail():
        with storage.atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert json.loads(path.read_text()) == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("t.safetensors", storage.read_tensors),
        ("t.safetensors", storage.read_arrays),
        ("t.csv", storage.read_table),
        ("t.json", storage.read_json),
    ],
)
@pytest.mark.parametrize("content", [None, b"", b"\x00\xff\xfe garbage \x80", b"\xff" * 100])
def test_missing_and_damaged_files_are_refused_in_a_sentence(tmp_path, name, read, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        read(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_table_that_ends_within_a_row_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,45")
    with pytest.raises(InputError, match="it is cut off"):
        storage.read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("content", "fault"),
    {
        "a longer row": ("a,b\n0.1,2,\n", "its rows have more fields than its header"),
        "two fields more": ("a,b\n1,2,3,4\n", "its rows have more fields than its header"),
        "a name twice": ("a,b,b\n1,2,3\n", "it has two columns 'b'"),
        "a name twice, no row": ("a,a\n", "it has two columns 'a'"),
    }.values(),
)
def test_columns_are_those_of_the_header(tmp_path, content, fault):
    """pandas would shift the first, and rename the others."""
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match=rf"t\.csv is not a readable CSV file \({fault}\)"):
        storage.read_table(tmp_path / "t.csv")


def test_a_table_without_rows_is_one(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n")
    assert list(storage.read_table(tmp_path / "t.csv", ["a"], ["b"])) == ["a", "b"]


def test_a_blank_text_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\nx,1\n,2\n")
    with pytest.raises(InputError, match=r"t\.csv has blanks in 'a': delete it and run again"):
        storage.read_table(tmp_path / "t.csv", ["a"], ["b"])
    assert len(storage.read_table(tmp_path / "t.csv", [], ["b"])) == 2


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        storage.write_json(tmp_path / "file" / "t.json", 1)


def test_a_link_leads_to_what_is_written(tmp_path):
    (tmp_path / "store").mkdir()
    for name, target in (("a.json", "b.json"), ("b.json", "store/c"), ("d.png", "store/e")):
        (tmp_path / name).symlink_to(target)
    storage.write_json(tmp_path / "a.json", "new")
    assert storage.read_json(tmp_path / "store/c") == "new"
    storage.write_figure(tmp_path / "d.png", Figure())
    assert (tmp_path / "store/e").read_bytes().startswith(b"\x89PNG")
    assert all((tmp_path / name).is_symlink() for name in ("a.json", "b.json", "d.png"))
    assert {path.name for path in (tmp_path / "store").iterdir()} == {"c", "e"}


@pytest.mark.parametrize("name", ["pipe", "link", "circle", "folder", "", ".", "..", "/"])
def test_what_is_no_file_is_not_replaced(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("link").symlink_to("pipe")
    Path("circle").symlink_to("circle")
    with pytest.raises(InputError, match=r"cannot be written .*: give the name of a file"):
        storage.write_json(name, 1)
    assert Path("pipe").is_fifo()
    assert len(list(tmp_path.iterdir())) == 4


def test_a_png_shows_what_is_drawn_in_256_colours(tmp_path):
    figure = Figure(figsize=(3, 2), dpi=150)
    axes = figure.subplots(1, 2)
    axes[0].imshow(np.random.default_rng(0).uniform(size=(20, 20)), cmap="viridis")
    axes[1].plot([0, 1], color="#D55E00", linewidth=1)  # few pixels among many of the heat map
    storage.write_figure(tmp_path / "f.png", figure)
    figure.savefig(tmp_path / "all.png")
    few, all_colours = (Image.open(tmp_path / name) for name in ("f.png", "all.png"))
    assert few.mode == "P"
    assert few.size == (450, 300)
    assert few.info["dpi"] == pytest.approx((150, 150), abs=0.1)
    assert set(few.info) <= {"dpi", "transparency"}  # nothing of when or by what
    off = np.abs(np.subtract(few.convert("RGB"), all_colours.convert("RGB"), dtype=float))
    assert off.max() < 24
    assert off.mean() < 0.5
    sizes = [(tmp_path / name).stat().st_size for name in ("f.png", "all.png")]
    assert sizes[0] < 0.7 * sizes[1]


@pytest.mark.parametrize("name", ["f", "f.", "f.svg", ".png"])
def test_a_figure_says_its_format(tmp_path, name):
    with pytest.raises(InputError, match=r"let it end in \.pdf or \.png"):
        storage.write_figure(tmp_path / name, Figure())
    assert not list(tmp_path.iterdir())


def test_identity_comes_first():
    table = storage.identified(pd.DataFrame({"a": [1, 2]}), {"variant": "beta", "seed": 3})
    assert list(table.columns) == ["variant", "seed", "a"]
    assert list(table["seed"]) == [3, 3]


def write_and_be_killed(path):
    """Write in another process, which is killed when the temporary file is there."""
    code = (
        "import os, signal, sys; from kahlervae.storage import atomic\n"
        "with atomic(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert run.returncode == -signal.SIGKILL


@pytest.mark.parametrize("name", ["t.json", "a.b [c].csv", "plain"])
def test_what_a_killed_writer_left_is_no_result_and_goes_with_the_next_write(tmp_path, name):
    path = tmp_path / name
    path.write_text("old")
    other = tmp_path / ".t2.99.json"
    other.write_text("another file's")
    write_and_be_killed(path)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 3
    storage.write_json(path, "new")
    assert storage.read_json(path) == "new"
    assert sorted(tmp_path.iterdir()) == sorted([path, other])


def test_a_writer_that_lives_keeps_its_temporary_file(tmp_path):
    """However it is numbered: on another machine as a process here, or as none."""
    path = tmp_path / "t.json"
    with storage.atomic(path) as temporary:
        living = temporary.rename(tmp_path / ".t.1.json")
        storage.write_json(path, 1)
        assert living.exists()
        living.rename(temporary)
        temporary.write_text("2")
    assert storage.read_json(path) == 2


def test_what_is_left_goes_though_its_number_is_that_of_a_living_process(tmp_path):
    """Numbers come again, and one that was killed has its own until somebody has waited for it."""
    left = tmp_path / f".t.{os.getppid()}.json"
    left.write_text("half")
    storage.write_json(tmp_path / "t.json", 1)
    assert not left.exists()


FULL = "/dev/full"


@pytest.mark.skipif(not Path(FULL).exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("t.safetensors", lambda path: storage.write_tensors(path, {"z": torch.randn(9999)})),
        ("t.csv", lambda path: storage.write_table(path, pd.DataFrame({"a": [1]}))),
        ("t.json", lambda path: storage.write_json(path, 1)),
        ("t.png", lambda path: storage.write_figure(path, Figure())),
        ("t.pdf", lambda path: storage.write_figure(path, Figure())),
    ],
)
def test_a_full_disk_is_said_in_a_sentence(tmp_path, name, write):
    """The temporary file leads to a device that is always full."""
    path = tmp_path / name
    path.write_text("old")
    (tmp_path / f".{path.stem}.{os.getpid()}{path.suffix}").symlink_to(FULL)
    with pytest.raises(InputError, match="No space left on device"):
        write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_checksum_is_that_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    # SHA-256 of nothing.
    assert storage.checksum(tmp_path / "a").startswith("e3b0c44298fc1c149afbf4c8996fb924")
    with pytest.raises(InputError, match="does not exist"):
        storage.checksum(tmp_path / "b")


def test_too_little_memory_is_not_taken_for_a_damaged_file(tmp_path, monkeypatch):
    def fail(path, **options):
        raise MemoryError

    monkeypatch.setattr("pandas.read_csv", fail)
    (tmp_path / "t.csv").write_text("a\n1\n")
    with pytest.raises(MemoryError):
        storage.read_table(tmp_path / "t.csv")
