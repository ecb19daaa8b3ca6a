"""Random damage to sound configurations: accepted, or refused in words that name the key."""

import copy
import datetime
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kahlervae.config.check import check_config, check_writable
from kahlervae.config.filling import fill_in
from kahlervae.config.registry import data_sources
from kahlervae.config.sentences import check_repetitions
from kahlervae.errors import InputError

from .stages import ROOT, SCHEMA, TINY, run_stages

DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
fill_in(DEFAULT)
EXAMPLES = 700

Path_ = tuple[str | int, ...]


def places(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Where something is in a configuration."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else ()
    for key, item in enumerate(value) if isinstance(value, list) else items:
        yield from places(item, (*path, key))


def deep(levels: int) -> Any:
    nested: Any = []
    for _ in range(levels):
        nested = [nested]
    return nested


JUNK = [
    None, True, False, 0, 1, -1, -7, 2, 3, 10**6, 10**30, -(10**400), 0.0, -0.0, 0.5, -0.25, 2.0,
    1e-12, 1e-300, 1e300, math.nan, math.inf, -math.inf, "", "0", "1e-3", "nan", "ä", "日本", "a b",
    "\x00", "a\nb", "\ud800", "{x}", "<results>", "../x", "-rf", "~", "x" * 5000,
    [], {}, [[]], [{}], {"a": {"b": [None]}}, [1, 1], [0.5, 0.5], [math.nan], ["a", 1, None, {}],
    {"": 1}, {1: 2}, {None: None}, {"ä": 1}, b"\xff", {1, 2}, datetime.date(2026, 1, 1), 1j,
    deep(30), deep(900), list(range(3000)), dict.fromkeys(range(3000)), 1 << 20_000,
]  # fmt: skip
NUMBERS = [-1, 0.0, 0.1, 0.5, 0.999, 1.001, 2, 10, 1000, 1e6, 1e12]


@st.composite
def damaged(draw: st.DrawFn) -> tuple[dict[str, Any], list[Path_]]:
    """A configuration with one to three places changed, and these places."""
    config = copy.deepcopy(draw(st.sampled_from([DEFAULT, TINY])))
    changed: list[Path_] = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        path = draw(st.sampled_from(list(places(config))))
        *parents, key = path
        block = config
        for parent in parents:
            block = block[parent]
        value = block[key]
        kinds = ["junk", "delete", "graft"]
        scalable = type(value) in (int, float) and abs(value) < 1e100
        kinds += ["scale", "scale"] if scalable else []
        kinds += ["rename", "unknown"] if isinstance(block, dict) else []
        kinds += ["repeat"] if isinstance(value, list) and value else []
        match draw(st.sampled_from(kinds)):
            case "junk":
                block[key] = copy.deepcopy(draw(st.sampled_from(JUNK)))
            case "delete":
                del block[key]
            case "graft":
                other: Any = DEFAULT
                for step in draw(st.sampled_from(list(places(DEFAULT)))):
                    other = other[step]
                block[key] = copy.deepcopy(other)
            case "scale":
                scaled = value * draw(st.sampled_from(NUMBERS))
                whole = isinstance(value, int) and draw(st.booleans())
                block[key] = int(scaled) if whole else scaled
            case "rename":
                del block[key]
                key = draw(st.sampled_from([f"{key}s", str(key)[:-1], "ä", "", "x\ny"]))
                block[key] = value
                changed.append((*parents, key))
            case "unknown":
                key = draw(st.sampled_from(["unknown", "Ä b", "x" * 300, "3"]))
                block[key] = 1
                changed.append((*parents, key))
            case "repeat":
                value.append(value[0])
        changed.append(path)
        if not list(places(config)):
            break
    return config, changed


def names(path: Path_) -> list[str]:
    """The last two keys of a place, or an only one, as sentences show them."""
    keys = [key for key in path if isinstance(key, str)][-2:]
    return [json.dumps(key, ensure_ascii=False)[1:60].rstrip('"') for key in keys]


def test_damaged_configurations_are_accepted_or_refused_in_words() -> None:
    outcomes = {"accepted": 0, "refused": 0}

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged())
    def check(case: tuple[dict[str, Any], list[Path_]]) -> None:
        config, changed = case
        try:
            check_config(config, SCHEMA)
        except InputError as error:
            refusal = str(error)
        else:
            assert_sound(config)
            outcomes["accepted"] += 1
            return
        assert all(s.startswith("config: ") and s.endswith(".") for s in refusal.split("\n"))
        assert len(refusal) < 20_000
        # Every place may be hidden by a fault further up, but not all of them.
        assert any(name in refusal for path in changed for name in names(path)), refusal
        outcomes["refused"] += 1

    check()
    assert sum(outcomes.values()) >= 500
    assert min(outcomes.values()) >= 50, outcomes


def assert_sound(config: dict[str, Any]) -> None:
    """What the stages rely on, in other words than those of the schema."""
    sampling, choice = config["sampling"], config["claims"]["choice"]
    count, volume = sampling["count"], sampling["volume"]
    whole = [*config["seeds"], count, *(volume[k] for k in ("chains", "draws", "warmup"))]
    assert all(type(value) is int and 0 <= value < 2**63 for value in whole)
    assert len(set(config["seeds"])) == len(config["seeds"]) > 0
    settings = [f"{t:g}" for t in sampling["truncated"]["temperatures"]]
    for target in volume["targets"]:
        names = " ".join(target[key] for key in ("base", "weight", "metric"))
        assert not names.startswith("prior local")
        settings += [f"{names} {power:g}" for power in target["powers"]]
    assert len(set(settings)) == len(settings)
    assert "1" not in settings
    assert all(power for target in volume["targets"] for power in target["powers"])
    assert min(sampling["gmm"]["temperatures"]) > 0
    assert min(sampling["truncated"]["temperatures"]) > 0
    assert 1 <= len(set(choice["controls"])) == len(choice["controls"])
    least = min(count, sampling["validation_count"])
    assert least > config["evaluation"]["neighbours"] >= 1
    kept = (block["chains"] * block["draws"] for block in (volume, sampling["riemannian"]))
    assert min(kept) >= count + sampling["validation_count"]
    assert min(len(config["evaluation"]["oracles"]), len(sampling["samplers"])) >= 1
    assert config["evaluation"]["paths"]["steps"] % 2 == 0
    assert config["cost"]["base"]["components"] % 16 == 0
    sources = data_sources(config)
    for name, options in config["datasets"].items():
        split, training, model = (options[key] for key in ("split", "training", "model"))
        held_out = split.get("oracle", 0) + split["validation"] + split["test"]
        train = sources[name]["count"] - held_out
        smallest = min(train, split["validation"], split["test"])
        assert smallest > config["evaluation"]["neighbours"]
        assert 2 <= training["batch_size"] <= train
        assert config["geometry"]["potential"]["anchors"] <= train
        assert 1 <= model["latent_dim"] <= min(model["width"], 64)
        assert "complex" in options["variants"]
        for variant in ("kahler", "fisher"):
            weights = options["variants"].get(variant, {}).get("regulariser")
            assert weights is None or 0 < weights["epsilon"] < math.inf > weights["strength"] >= 0
        numbers = [value for value in leaves(config) if isinstance(value, float)]
        assert all(abs(value) <= 1e9 and math.isfinite(value) for value in numbers)


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    else:
        yield value


def variation(**changes: Any) -> dict[str, Any]:
    """The tiny configuration with values at ``a__b`` changed; ``digits`` stands for its block."""
    config = copy.deepcopy(TINY)
    for path, value in changes.items():
        *parents, key = path.split("__")
        block = config
        for parent in parents:
            block = block["datasets"]["digits"] if parent == "digits" else block[parent]
        block[key] = value
    check_config(config, SCHEMA)
    return config


ONE_TERM = {
    "candidates": {
        "one": {
            "kind": "mixture",
            "size": {"groups": 1, "components": 1},
            "steps": 2,
            "learning_rate": 1.0,
            "batch": 1,
        },
        "layer": {
            "kind": "holomorphic",
            "size": {"width": 1, "layers": 1},
            "steps": 2,
            "learning_rate": 1.0e-3,
            "batch": 1,
        },
    },
    "probes": 1,
    "trial": 0.01,
    "polish": 1,
    "anchors": 2,
}
CHAINS = {"chains": 2, "warmup": 1, "draws": 16, "leapfrog": 1, "candidates": 0, "rhat": 1.5}
PRIOR = {"base": "prior", "weight": "global", "metric": "fitted", "powers": [-0.5, 100]}
SMALLEST = {
    "count": 16,
    "validation_count": 16,
    "samplers": ["volume"],
    "truncated": {"temperatures": [0.001]},
    "gmm": {"components": [1], "samples_per_component": 1, "temperatures": [0.001]},
    "ratio": {"bases": ["prior"], "log_det": [True], "draws": 100, "pool": 2},
    "volume": CHAINS | {"targets": [PRIOR]},
    "riemannian": CHAINS | {"anchors": 2, "regularisation": 1e-9},
}
TRAINING = TINY["datasets"]["digits"]["training"]
REGULARISER = TINY["datasets"]["digits"]["variants"]["kahler"]["regulariser"]
EDGES = {
    # d = 1, one component, one seed, the least of everything
    "smallest": {
        "digits__model": TINY["datasets"]["digits"]["model"] | {"latent_dim": 1, "width": 1},
        "digits__split": {"oracle": 16, "validation": 2, "test": 16, "seed": 2**32 - 1},
        "digits__oracle": {"epochs": 1, "noise": 0, "minimum_accuracy": 0, "seed": 0},
        "digits__training": TRAINING | {"epochs": 1, "batch_size": 1700, "kl_warmup_epochs": 0},
        "digits__variants": {
            "complex": {},
            "kahler": {
                "beta": 1,
                "regulariser": REGULARISER
                | {"groups": 1, "components": 1, "form": "flatness", "warmup_epochs": 0},
            },
        },
        "geometry__probes": 8,
        "geometry__control": {"probes": 1, "width": 1, "steps": 2, "learning_rate": 1.0e-3},
        "geometry__potential": ONE_TERM,
        "geometry__slice": {"extent": 0.001, "resolution": 2, "images": 2},
        "sampling": SMALLEST,
        "evaluation": {
            "oracles": ["cnn"],
            "neighbours": 1,
            "quantile": 1e-9,
            "flagged": ["v"],
            "paths": {"count": 1, "steps": 2},
            "geodesics": {"count": 1, "points": 1, "steps": 2},
            "distances": {"pairs": 2, "steps": 1, "queries": 1, "shots": [1]},
            "states": dict.fromkeys(("pairs", "points", "angle", "tear", "defect"), 1)
            | {"count": 2, "steps": 2},
        },
        "claims__confidence": 1 - 1e-12,
    },
    # more dimensions than the data need, neither prior nor volume nor mixture
    "many dimensions": {
        "digits__model": TINY["datasets"]["digits"]["model"] | {"latent_dim": 12, "width": 24},
        "digits__variants": {"real": {}, "complex": {}},
        "sampling__samplers": ["truncated"],
        "evaluation__flagged": ["truncated:temperature=0.7"],
        "seeds": [0, 7],
    },
    # likelihoods of every kind
    "likelihoods": {
        "digits__variants": {
            "real": {"likelihood": "gaussian"},
            "complex": {"likelihood": "continuous_bernoulli"},
            "pluriharmonic": {"likelihood": "bernoulli"},
            "unconstrained": {"likelihood": "bernoulli"},
        },
    },
}


@pytest.mark.parametrize("edge", EDGES)
def test_edges_of_what_is_accepted_run_to_the_end(edge: str, tmp_path: Path) -> None:
    run_stages(variation(**EDGES[edge]), tmp_path)
    assert (tmp_path / "claims.csv").stat().st_size > 0


def test_files_that_repeat_a_key_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    for text in ("seeds: [0]\nresults: r\nseeds: [1]", "cost: {width: 1,\n x: 1, width: 2}"):
        file.write_text(text)
        with pytest.raises(InputError, match="is set a second time: keep one of them"):
            check_repetitions(file)
    file.write_bytes(b"\xef\xbb\xbfa: &a {x: 1}\nb: [*a, *a, {x: 1}]\nc: &c [*c]\n")
    check_repetitions(file)  # neither aliases nor a byte order mark are repetitions
    check_repetitions(ROOT / "config.yaml")


def test_aliases_that_multiply_are_refused_quickly() -> None:
    """A billion laughs: ten levels of ten references each."""
    nested: Any = "ha"
    for _ in range(10):
        nested = [nested] * 10
    with pytest.raises(InputError, match=r"config: seeds\[0\].* goes beyond 5,000 values"):
        check_config({"seeds": nested}, SCHEMA)
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InputError, match=r"config: seeds\[0\].* or 20 levels"):
        check_config({"seeds": endless}, SCHEMA)


FOLDERS = {
    True: ["results", "my results", "Ergebnisse ä", "/tmp/x", "../x", "a.b/c-d_e+f,g=h@i", "結果"],
    False: ["", " ", "a ", " a", "-a", "~", "~/a", "a/", "a//b", "a\nb", "a{b}", "<a>", "a:b", "a*",
            "a?", "a|b", 'a"b', "a'b", "a`b`", "$a", "a\\b", "\x00", "\x85", "\u2028", "x" * 201],
}  # fmt: skip


@pytest.mark.parametrize(
    ("sound", "folder"), [(sound, f) for sound, folders in FOLDERS.items() for f in folders]
)
def test_folders(sound: bool, folder: str) -> None:
    config = TINY | {"results": folder}
    if sound:
        check_config(config, SCHEMA)
    else:
        with pytest.raises(InputError, match="results must be a plain path"):
            check_config(config, SCHEMA)


def test_a_name_too_long_for_the_file_system_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be written to: File name too long"):
        check_writable("結" * 200)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"sampling__count": 64.0}, "sampling.count must be a whole number, written without a point"),
    ({"sampling__gmm__temperatures": [0.5, 1 / 3]}, "must have six significant digits at most"),
    ({"sampling__truncated__temperatures": [1.0000001]}, "must have six significant digits"),
    ({"sampling__samplers": ["volume"]}, "variants.real: it has no potential"),
    ({"digits__model__latent_dim": 17}, "latent_dim = 17 must be at most datasets.digits.model"),
    ({"geometry__potential__anchors": 1098}, "must be at most the 1097 training samples"),
    ({"digits__split__validation": 5}, "datasets.digits.split.validation = 5"),
    ({"digits__variants__pluriharmonic": {"likelihood": "complex_gaussian"}}, "which are real, "),
    ({"digits__variants__kahler__likelihood": "poisson"}, "must be one of gaussian, complex_gauss"),
    (
        {
            "digits__variants__pluriharmonic": {},
            "digits__model__likelihood_variance": "diagonal",
        },
        "bounded on one side is constant (Liouville)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "sentence"), WRONG)
def test_what_would_break_a_later_stage_is_refused_at_the_start(
    changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError) as refusal:
        variation(**changes)
    assert sentence in str(refusal.value)
