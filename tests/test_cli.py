"""The command line: stages in a row on a tiny model, and bad input that ends in one sentence."""

import builtins
import json
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr
from io import StringIO
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
import torch

from kahlervae import storage
from kahlervae.cli import main
from kahlervae.config.registry import data_sources
from kahlervae.train.loop import HISTORY

ROOT = Path(__file__).parents[1]
TRAINING = {
    "model": {"latent_dim": 1, "width": 4, "depth": 1, "likelihood_variance": "constant"},
    "training": {
        "epochs": 2,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "gradient_clip": 100.0,
        "kl_warmup_epochs": 1,
        "checkpoint_every": 1,
    },
    "variant": {},
}


def kahlervae(*arguments, cwd, **streams):
    """A command as a process of its own."""
    command = [sys.executable, "-m", "kahlervae.cli", *map(str, arguments)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run(command, cwd=cwd, text=True, check=False, **streams)


def called(*arguments, cwd):
    """The same in this process, which has loaded everything; but for what is logged."""
    said, code = StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["kahlervae", *map(str, arguments)]),
        mock.patch("builtins.__import__", builtins.__import__),  # where the start is timed
        chdir(cwd),
        redirect_stderr(said),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return subprocess.CompletedProcess(arguments, code, stderr=said.getvalue())


def make_data(cwd, **split):
    sizes = {"oracle": 500, "validation": 200, "test": 297, "seed": 0} | split
    settings = {"split": sizes, "source": data_sources({})["digits"]}
    return called(
        *("data", "--dataset", "digits", "--settings", json.dumps(settings)),
        *("--out", "data.safetensors", "--record", "data.json"),
        cwd=cwd,
    )


def train(cwd, run=called, device="auto", **training):
    settings = TRAINING | {"training": TRAINING["training"] | training}
    return run(
        *("train", "--data", "data.safetensors", "--dataset", "digits"),
        *("--representation", "pixels", "--variant", "complex", "--seed", 0),
        *("--settings", json.dumps(settings), "--checkpoint", "checkpoint.safetensors"),
        *("--out", "model.safetensors", "--history", "history.csv", "--device", device),
        cwd=cwd,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("with spaces and ä")
    assert make_data(cwd).returncode == 0
    return cwd


def files(cwd):
    return {path.name for path in cwd.iterdir()}


def assert_refused(result, *words):
    """One sentence on standard error, and no traceback."""
    assert result.returncode == 2
    (sentence,) = result.stderr.strip().splitlines()[-1:]
    assert sentence.startswith("error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in sentence


def test_training_writes_whole_files_and_removes_its_checkpoint(folder):
    result = train(folder, kahlervae)
    assert result.returncode == 0, result.stderr
    assert files(folder) == {
        "data.safetensors",
        "data.json",
        "model.safetensors",
        "history.csv",
    }
    assert "digits/pixels/complex/0: epoch 2/2" in result.stderr


@pytest.mark.parametrize(
    ("device", "words"), [("cuda", "torch finds no GPU"), ("tpu", "choose one of auto, cpu, cuda")]
)
def test_a_device_that_is_not_there_is_refused(folder, monkeypatch, device, words):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert_refused(train(folder, device=device), words)


def test_divergence_is_one_sentence_and_writes_nothing(folder, tmp_path):
    (tmp_path / "data.safetensors").write_bytes((folder / "data.safetensors").read_bytes())
    result = train(tmp_path, learning_rate=1e12, epochs=5, checkpoint_every=5)
    assert_refused(result, "diverged in epoch", "learning rate is too high")
    assert files(tmp_path) == {"data.safetensors"}


def test_missing_and_truncated_inputs_are_named(folder, tmp_path):
    assert_refused(train(tmp_path, kahlervae), "data.safetensors does not exist")
    (tmp_path / "data.safetensors").write_bytes((folder / "data.safetensors").read_bytes()[:5000])
    assert_refused(train(tmp_path), "data.safetensors is not a readable safetensors file")


def test_a_split_too_large_is_refused(tmp_path):
    assert_refused(make_data(tmp_path, oracle=1500), "leaves no sample for training")
    assert files(tmp_path) == set()


def test_an_unwritable_output_is_named(folder, tmp_path):
    (tmp_path / "data.safetensors").write_bytes((folder / "data.safetensors").read_bytes())
    (tmp_path / "model.safetensors").mkdir()
    assert_refused(train(tmp_path), "model.safetensors cannot be written")


def test_settings_that_are_not_json_are_refused(tmp_path):
    result = called("cost", "--settings", "{", "--out", "cost.csv", cwd=tmp_path)
    assert result.returncode == 2
    assert "not JSON" in result.stderr
    assert "Traceback" not in result.stderr


LOADED = """
import sys
from kahlervae.cli import main
try:
    main()
finally:
    print(*sorted({"torch", "scipy.stats", "matplotlib", "pandas"} & set(sys.modules)))
"""


def loaded(*arguments, cwd):
    """Which of the slow libraries a command has loaded."""
    command = [sys.executable, "-c", LOADED, *map(str, arguments)]
    run = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    return set(run.stdout.split("\n")[-2].split())


def test_commands_that_compute_no_geometry_do_not_load_torch(tmp_path):
    identity = {"dataset": "digits", "representation": "pixels", "variant": "complex", "seed": 0}
    history = {"epoch": [1, 2]} | {key: [2.0, 1.0] for key in HISTORY[1:]}
    storage.write_table(tmp_path / "a.csv", pd.DataFrame(history).assign(**identity))
    sheets = {"prior:default": torch.rand(64, 8, 8)}
    storage.write_tensors(tmp_path / "s.safetensors", sheets, identity)
    assert loaded("--help", cwd=tmp_path) == set()
    assert loaded("table", "a.csv", "--out", "b.csv", cwd=tmp_path) == {"pandas"}
    drawing = {"matplotlib", "pandas", "scipy.stats"}  # the last one with seaborn
    assert loaded("figure", "training", "a.csv", "--out", "t.png", cwd=tmp_path) == drawing
    sheet = ("figure", "sample_sheets", "s.safetensors", "--out", "s.png")
    assert loaded(*sheet, cwd=tmp_path) == drawing
    assert {path.name for path in tmp_path.iterdir()} > {"b.csv", "t.png", "s.png"}


@pytest.mark.parametrize("module", ["claims", "pareto", "statistics"])
def test_judging_loads_neither_torch_nor_scipy_stats(module, tmp_path):
    code = (
        f"import sys, kahlervae.judge.{module};"
        "print({'torch', 'scipy.stats', 'matplotlib'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"


def test_log_level_is_taken_from_the_environment(folder, monkeypatch):
    assert "epoch 2/2" in train(folder, kahlervae).stderr
    monkeypatch.setenv("KAHLERVAE_LOG", "WARNING")
    assert "epoch" not in train(folder, kahlervae).stderr
    monkeypatch.setenv("KAHLERVAE_LOG", "loud")
    assert_refused(train(folder), "KAHLERVAE_LOG", "WARNING", "loud")


ENCODINGS = {
    "none": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"LC_ALL": "en_US.ISO-8859-1", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"},
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_said_can_be_printed_anywhere(encoding, folder, monkeypatch):
    """Tables, help and sentences have letters that terminals may not have."""
    for name, value in ENCODINGS[encoding].items():
        monkeypatch.setenv(name, value)
    for name in ("LANG", "PYTHONIOENCODING", "PYTHONUTF8"):
        if name not in ENCODINGS[encoding]:
            monkeypatch.delenv(name, raising=False)
    text = {"capture_output": True, "check": False, "encoding": "latin-1"}
    check = [sys.executable, "-m", "kahlervae.cli", "check", "--reference", str(ROOT / "reference")]
    run = subprocess.run([*check, "--results", str(ROOT / "reference")], **text)
    assert run.returncode == 0, run.stderr
    assert "supported" in run.stdout
    run = subprocess.run([*check, "--results", "Ergebnisse für κ"], **text)
    assert run.returncode == 2
    assert run.stderr.startswith("error: Ergebnisse f")
    assert run.stderr.count("\n") == 1


def test_the_code_of_a_check_is_no_other_ending_of_it(folder, capsys):
    """1 is a run that is not as the reference; whatever keeps from telling is 2."""
    same = ("check", "--reference", ROOT / "reference", "--results", ROOT / "reference")
    assert called(*same, cwd=folder).returncode == 0
    found = pd.DataFrame({"status": ["flipped"]})
    module = "kahlervae.judge.check"
    with mock.patch(f"{module}.compare_claims", return_value=found):
        with mock.patch(f"{module}.print_comparison"):
            assert called(*same, cwd=folder).returncode == 1
        with mock.patch(f"{module}.print_comparison", side_effect=UnicodeError("a letter")):
            assert called(*same, cwd=folder).returncode == 2


@pytest.fixture
def closed():
    """A pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


CHECK = ("check", "--reference", ROOT / "reference", "--results", ROOT / "reference")


@pytest.mark.parametrize("arguments", [("--help",), ("describe", "w.npz"), CHECK])
def test_what_cannot_be_said_is_not_done(arguments, tmp_path, closed):
    """The code 1 would be that of a run that is not as the reference."""
    assert (
        called("example", "waves", "--out", "w.npz", "--count", 200, cwd=tmp_path).returncode == 0
    )
    assert_refused(kahlervae(*arguments, cwd=tmp_path, stdout=closed), "Broken pipe")
    if Path("/dev/full").exists():
        with Path("/dev/full").open("w") as full:
            result = kahlervae(*arguments, cwd=tmp_path, stdout=full)
        assert_refused(result, "No space left on device")


@pytest.mark.parametrize("arguments", [("--nonsense",), ("describe", "none.npz"), CHECK])
def test_the_code_tells_where_nobody_reads(arguments, tmp_path, closed):
    run = kahlervae(*arguments, cwd=tmp_path, stdout=closed, stderr=closed)
    assert run.returncode == 2


def test_what_says_nothing_needs_no_output(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    command = f"'{sys.executable}' -m kahlervae.cli {{}} >&-"
    shell = {"shell": True, "cwd": tmp_path, "capture_output": True, "text": True, "check": False}
    assert subprocess.run(command.format("table t.csv --out u.csv"), **shell).returncode == 0
    assert_refused(subprocess.run(command.format("--help"), **shell), "not writable")


COUNTS = {
    "train": (
        *("--dataset", "digits", "--representation", "pixels", "--variant", "complex"),
        *("--data", "d", "--settings", "{}", "--checkpoint", "c"),
        *("--seed", 0, "--seed", 1, "--out", "a", "--history", "b"),
    ),
    "sampler-cost": (
        *("--model", "m", "--model", "m", "--potential", "p", "--settings", "{}", "--out", "a"),
    ),
    "distances": (
        *("--data", "d", "--model", "m", "--potential", "p", "--potential", "p"),
        *("--settings", "{}", "--out", "a"),
    ),
    "browse": ("t.csv", "t.csv", "--out", "a"),
}


@pytest.mark.parametrize("command", COUNTS)
def test_what_belongs_together_is_given_equally_often(command, tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    result = called(command, *COUNTS[command], cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "Invalid value: give one --" in result.stderr
    assert files(tmp_path) == {"t.csv"}


def test_figures_need_no_window(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "no-such-window")
    tables = [ROOT / f"reference/tables/{name}.csv" for name in ("runtime", "efficiency")]
    result = kahlervae("figure", "runtime", *tables, "--out", "f.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert files(tmp_path) == {"f.png"}


def test_names_cannot_break_a_sentence(tmp_path):
    for name in ("a\nb.npz", "a\x1b[31m.npz", "a" * 5000 + ".npz"):
        result = called("describe", name, cwd=tmp_path)
        assert_refused(result)
        (line,) = result.stderr.strip().splitlines()
        assert len(line) < 1100
        assert line.isprintable()
