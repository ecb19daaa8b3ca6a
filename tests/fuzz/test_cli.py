"""Settings that are junk or lack a key: one sentence, exit code 1 or 2, no traceback."""

import copy
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kahlervae import cli
from kahlervae.config.registry import data_sources
from kahlervae.errors import InputError

from .stages import ROOT, TINY, run_stages

DIGITS = TINY["datasets"]["digits"]
GEOMETRY, EVALUATION = TINY["geometry"], TINY["evaluation"]
KAHLER = {key: DIGITS[key] for key in ("model", "training")}
KAHLER["variant"] = DIGITS["variants"]["kahler"]

# Command: its settings, and its arguments in a folder where the tiny configuration has run.
Arguments = Callable[[Path, Path], list[Any]]
COMMANDS: dict[str, tuple[dict[str, Any], Arguments]] = {
    "data": (
        {"split": DIGITS["split"], "source": data_sources({})["digits"]},
        lambda _, out: ["--dataset", "digits", "--out", out / "a", "--record", out / "b"],
    ),
    "oracle": (
        {
            "oracle": DIGITS["oracle"],
            "evaluation": {key: EVALUATION[key] for key in ("neighbours", "quantile")},
        },
        lambda run, out: [
            *("--dataset", "digits", "--architecture", "mlp", "--data", run / "data.safetensors"),
            *("--out", out / "a.safetensors", "--record", out / "b"),
        ],
    ),
    "train": (
        KAHLER,
        lambda run, out: [
            *("--dataset", "digits", "--representation", "pixels", "--variant", "kahler"),
            *("--seed", 0, "--data", run / "data.safetensors", "--checkpoint", out / "c"),
            *("--out", out / "a", "--history", out / "b"),
        ],
    ),
    "potential": (
        GEOMETRY["potential"],
        lambda run, out: [
            *("--data", run / "data.safetensors", "--model", run / "kahler0.safetensors"),
            *("--out", out / "a", "--choice", out / "b"),
        ],
    ),
    "slice": (
        GEOMETRY["slice"] | {"epsilon": GEOMETRY["epsilon"]},
        lambda run, out: [
            *("--data", run / "data.safetensors", "--model", run / "kahler0.safetensors"),
            *("--potential", run / "kahler0.potential.safetensors", "--out", out / "a"),
        ],
    ),
    "geodesics": (
        EVALUATION["geodesics"]
        | {key: EVALUATION[key] for key in ("neighbours", "quantile")}
        | {"epsilon": GEOMETRY["epsilon"]},
        lambda run, out: [
            *("--data", run / "data.safetensors", "--model", run / "kahler0.safetensors"),
            *("--potential", run / "kahler0.potential.safetensors"),
            *("--oracle", run / "mlp.safetensors", "--out", out / "a", "--curves", out / "b"),
        ],
    ),
    "distances": (
        EVALUATION["distances"],
        lambda run, out: [
            *("--data", run / "data.safetensors", "--model", run / "kahler0.safetensors"),
            *("--potential", run / "kahler0.potential.safetensors", "--out", out / "a"),
        ],
    ),
    "sample": (
        TINY["sampling"] | {"epsilon": GEOMETRY["epsilon"]},
        lambda run, out: [
            *("--data", run / "data.safetensors", "--model", run / "kahler0.safetensors"),
            *("--potential", run / "kahler0.potential.safetensors"),
            *("--out", out / "a", "--diagnostics", out / "b", "--speed", out / "c"),
            *("--mixtures", out / "d"),
        ],
    ),
    "score": (
        {
            key: value
            for key, value in EVALUATION.items()
            if key not in ("geodesics", "distances", "states")
        }
        | {"sampling": {key: TINY["sampling"][key] for key in ("validation_count", "count")}},
        lambda run, out: [
            *("--data", run / "data.safetensors", "--model", run / "kahler0.safetensors"),
            *("--samples", run / "kahler0.samples.safetensors"),
            *("--oracle", run / "mlp.safetensors", "--out", out / "a", "--sheet", out / "b"),
            *("--paths", out / "c", "--reconstruction", out / "d", "--gallery", out / "e"),
            *("--flatness", out / "h"),
            *("--agreement", out / "f", "--flagged", out / "g"),
        ],
    ),
    "pareto": (
        TINY["claims"]["choice"],
        lambda run, out: [
            *("--samples", run / "tables/samples.csv"),
            *("--diagnostics", run / "tables/sampler_diagnostics.csv"),
            *("--out", out / "a", "--hypervolume", out / "b", "--chosen", out / "c"),
        ],
    ),
    "claims": (
        {key: value for key, value in TINY["claims"].items() if key not in ("file", "choice")},
        lambda run, out: [
            *sorted((run / "tables").glob("*.csv")),
            *("--claims", ROOT / TINY["claims"]["file"], "--out", out / "a"),
        ],
    ),
    "cost": (
        TINY["cost"] | {"candidates": GEOMETRY["potential"]["candidates"]},
        lambda _, out: ["--out", out / "a"],
    ),
    "steps": (
        TINY["step_cost"]
        | {"sizes": dict.fromkeys(("a", "b"), TINY["step_cost"]["sizes"]["tiny"])},
        lambda _, out: ["--out", out / "a"],
    ),
}
CANDIDATES = {f"candidates.{name}" for name in GEOMETRY["potential"]["candidates"]}
CANDIDATES |= {f"candidates.holomorphic.size.{name}" for name in ("groups", "rank")}
# What a stage can do without: it is given more than it uses, or has a default.
OPTIONAL = {
    "train": {"variant.beta", "variant.regulariser", "variant.regulariser.tie"},
    "cost": {"sweeps.output_dim", "sweeps.batch"} | CANDIDATES,
    "potential": CANDIDATES,
    "steps": {"sizes.a", "sizes.b"},
    "score": {"oracles"},
    "data": {f"source.{key}" for key in ("image_shape", "count", "classes", "licence", "citation")}
    | {"split.oracle"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    variants = {"variants": {name: DIGITS["variants"][name] for name in ("complex", "kahler")}}
    run_stages(TINY | {"datasets": {"digits": DIGITS | variants}}, folder)
    return folder


def end(arguments: list[Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """With what the command ends."""
    monkeypatch.setattr(sys, "argv", ["kahlervae", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


JUNK = ["", "{", "nul", "[1]", "1", '"x"', "null", "{'a': 1}", "[" * 10_000, '{"a":' * 5000, "\x00"]


@pytest.mark.parametrize("command", COMMANDS)
def test_settings_that_are_none_are_refused(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, arguments = COMMANDS[command]
    for junk in JUNK:
        where = arguments(tmp_path, tmp_path)
        assert end([command, "--settings", junk, *where], monkeypatch) == 2
        captured = capsys.readouterr()
        assert "pass a part of" in captured.err
        assert "Traceback" not in captured.err + captured.out
    assert not list(tmp_path.iterdir())


def keys(block: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in block.items():
        yield f"{path}{key}"
        if isinstance(value, dict):
            yield from keys(value, f"{path}{key}.")


@pytest.mark.parametrize("command", COMMANDS)
def test_settings_that_lack_a_key_are_refused(
    command: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings, arguments = COMMANDS[command]
    for path in keys(settings):
        damaged = copy.deepcopy(settings)
        *parents, last = path.split(".")
        block = damaged
        for parent in parents:
            block = block[parent]
        del block[last]
        ending = end(
            [command, "--settings", json.dumps(damaged), *arguments(run, tmp_path)], monkeypatch
        )
        said = capsys.readouterr().err.splitlines()[-1:]
        if path in OPTIONAL.get(command, ()):
            assert ending == 0, path
        else:
            assert ending == 2, path
            assert said[0].startswith("error: "), path
            assert repr(last) in said[0], path


def test_the_settings_answer_for_missing_keys_at_every_level() -> None:
    parsed = cli._parse('{"a": {"b": 1}, "c": [{"d": 2}]}')
    assert parsed["a"]["b"] == 1
    for block in (parsed, parsed["a"], parsed["c"][0]):
        with pytest.raises(InputError, match="the settings lack the key 'x'"):
            block["x"]
