"""Wrong configurations are refused with a sentence that names the key and what is allowed."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kahlervae.config.check import check_config, check_writable
from kahlervae.config.filling import drop_absent, fill_in
from kahlervae.config.registry import COMPLEX_DATA, REPRESENTED, TABLE, data_sources
from kahlervae.config.sentences import KINDS
from kahlervae.config.sweep import NAME, sweep_settings
from kahlervae.data.representations import REPRESENTATIONS
from kahlervae.errors import InputError

from .conftest import Project

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
fill_in(DEFAULT)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The default configuration with one value set; a value of None deletes the key."""
    config = copy.deepcopy(DEFAULT)
    if path.startswith("registry/k"):
        config["registry"] = {"k": copy.deepcopy(KMNIST)}
    *parents, key = path.split("/")
    block = config
    for parent in parents:
        block = block[int(parent) if isinstance(block, list) else parent]
    if value is None:
        del block[key]
    else:
        block[key] = copy.deepcopy(value)
    return config


def merge(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if both else value
    return result


def overlaid(*names: str | Path) -> dict[str, Any]:
    """The default configuration under files, or some of config/, as the workflow takes it."""
    overlays = (ROOT / f"config/{name}.yaml" if isinstance(name, str) else name for name in names)
    files = [ROOT / "config.yaml", *overlays]
    config: dict[str, Any] = {}
    for file in files:
        config = merge(config, yaml.safe_load(file.read_text()))
    fill_in(config, files)
    drop_absent(config)
    return config


def test_shipped_configurations_are_sound() -> None:
    check_config(DEFAULT, SCHEMA)
    for overlay in ("smoke", "bench", "speech", "paper", "ablations"):
        check_config(overlaid(overlay), SCHEMA)
    assert list(overlaid("paper")["datasets"]) == ["mnist"]
    check_config(yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text()), SCHEMA)


def test_overlays_of_the_paper_are_sound() -> None:
    paper = overlaid("paper")
    reduced, fashion, mnist_8, sweep = (
        overlaid("paper", overlay) for overlay in ("reduced", "fashion", "mnist_8", "sweep")
    )
    kspace = overlaid("paper", "mnist_8", "kspace")
    for config in (reduced, fashion, mnist_8, kspace, sweep):
        check_config(config, SCHEMA)
    assert fashion["datasets"]["fashion_mnist"] == paper["datasets"]["mnist"]
    assert fashion["results"] == paper["results"]
    assert len({config["results"] for config in (paper, reduced, mnist_8, kspace, sweep)}) == 5
    assert len(reduced["seeds"]) >= reduced["claims"]["minimum_seeds"]
    # What is left out would be missing when the claims are compared.
    for name, options in reduced["datasets"].items():
        assert options["training"]["epochs"] < paper["datasets"][name]["training"]["epochs"]
        for key in ("split", "variants"):
            assert options[key] == paper["datasets"][name][key]
    assert list(mnist_8["datasets"]) == list(kspace["datasets"]) == ["mnist_8"]
    assert "holomorphic" in kspace["datasets"]["mnist_8"]["variants"]
    # What is chosen among settings is what the runs have.
    for name, options in sweep["datasets"].items():
        assert options.pop("sweep")
        run = (paper["datasets"] | mnist_8["datasets"])[name]
        assert [options[key] for key in ("model", "training")] == [run["model"], run["training"]]
    assert sweep["datasets"]["mnist"] == paper["datasets"]["mnist"]


DIGITS = "datasets/digits"
KMNIST = {
    "kind": "idx",
    "image_shape": [28, 28],
    "classes": 10,
    "licence": "CC BY-SA 4.0",
    "citation": "T. Clanuwat et al., 2018",
    "addresses": ["https://codh.rois.ac.jp/kmnist/dataset/kmnist/"],
    "files": {
        "train": {
            "count": 60000,
            "images": {"name": "train-images.gz", "sha256": 64 * "0"},
            "labels": {"name": "train-labels.gz", "sha256": 64 * "0"},
        }
    },
}
WRONG = [
    # unknown keys, with what is allowed there
    ("sed", 1, "sed is not a known key (did you mean seeds?)"),
    ("sampling/cuont", 1, "sampling.cuont is not a known key (did you mean count?)"),
    ("datasets/mnist", {}, "datasets.mnist.representations is missing; needed here"),
    ("datasets/mnits", DEFAULT["datasets"]["digits"], "not a known data set (did you mean mnist?)"),
    (
        f"{DIGITS}/variants/kahlr",
        {},
        "unconstrained, unconstrained_beta, kahler_beta, volume, tie, constant, isometric.",
    ),
    (f"{DIGITS}/variants/fisher/regulariser/tie", 1, "regulariser.tie is not a known key"),
    (f"{DIGITS}/variants/complex", {"beta": 2}, "variants.complex.beta is not a known key"),
    # the table of data sets
    ("registry/a b", KMNIST, "registry must be a name of letters, digits, dashes and underscores"),
    (
        "registry/k/kind",
        "zip",
        'registry.k.kind must be one of idx, arrays, wav, bundled, states, not "zip".',
    ),
    ("registry/k/files", None, "registry.k.files is missing"),
    ("registry/k/licence", None, "registry.k.licence is missing"),
    ("registry/k/size", 1, "registry.k.size is not a known key"),
    ("registry/k/image_shape", [28], "registry.k.image_shape must be a list of at least 2"),
    ("registry/k/image_shape", [28] * 3, "registry.k.image_shape must be a list of at most 2"),
    ("registry/k/addresses", ["http://a.org/"], "addresses[0] must be the https:// address of a"),
    ("registry/k/files/train/images/name", "../x", "images.name must be a file name of letters"),
    ("registry/k/files/train/labels/sha256", "0", "must be the 64 hexadecimal digits"),
    # missing keys
    ("seeds", None, "seeds is missing"),
    (f"{DIGITS}/variants/complex", None, "datasets.digits.variants.complex is missing"),
    ("claims/confidence", None, "claims.confidence is missing"),
    # types
    ("seeds", 3, "seeds must be a list, not 3."),
    ("sampling/count", "many", 'sampling.count must be a whole number, not "many".'),
    ("sampling/count", 2000.5, "sampling.count must be a whole number, not 2000.5."),
    ("sampling/count", True, "sampling.count must be a whole number, not true."),
    (f"{DIGITS}/training/learning_rate", "1e-3", "YAML takes this for a text: write 0.001"),
    (f"{DIGITS}/variants/real", 0, "variants.real must be a mapping of keys to values, not 0."),
    # values
    (
        "sampling/samplers",
        ["prior", "volum"],
        "one of prior, truncated, posterior_mixture, gmm, rat",
    ),
    ("evaluation/oracles", ["vgg"], "evaluation.oracles[0] must be one of cnn, mlp, not"),
    ("claims/choice/controls", [], "claims.choice.controls must be not empty, not []."),
    (
        "claims/choice/controls",
        ["prior"],
        "claims.choice.controls[0] must be one of truncated, gmm",
    ),
    ("claims/choice/score", "density", "claims.choice.score must be one of knn_outliers, entropy_"),
    (f"{DIGITS}/representations", ["fourier"], "representations[0] must be one of pixels, kspace,"),
    (f"{DIGITS}/model/likelihood_variance", 1, "must be one of constant, diagonal, not 1."),
    (
        f"{DIGITS}/variants/kahler/regulariser/form",
        "area",
        "must be one of volume, flatness, isometry, distortion, not",
    ),
    (
        f"{DIGITS}/variants/kahler/regulariser/kind",
        "holomorphic",
        "kahler.regulariser.width is missing; needed here: width, layers.",
    ),
    (
        f"{DIGITS}/variants/kahler/regulariser/layers",
        2,
        "kahler.regulariser.layers is not a known key",
    ),
    (f"{DIGITS}/variants/beta/beta", 1, "variants.beta.beta must be greater than 1, not 1."),
    (f"{DIGITS}/training/learning_rate", float("nan"), "learning_rate must be a finite number"),
    (f"{DIGITS}/oracle/minimum_accuracy", 95, "minimum_accuracy must be at most 1, not 95."),
    ("evaluation/quantile", 1, "evaluation.quantile must be less than 1, not 1."),
    ("evaluation/paths/steps", 15, "evaluation.paths.steps must be a multiple of 2, not 15."),
    ("evaluation/geodesics/steps", 15, "evaluation.geodesics.steps must be a multiple of 2, not"),
    ("evaluation/geodesics/points", 16, "points = 16 must be less than evaluation.geodesics.steps"),
    ("sampling/volume/targets/0/powers", [0], "targets[0].powers[0] must be anything but 0, not"),
    ("sampling/volume/targets/1/weight", "both", "targets[1].weight must be one of global, local"),
    ("sampling/gmm/temperatures", [0], "sampling.gmm.temperatures[0] must be at least 0.001"),
    ("seeds", [0, 0], "seeds must be a list without repetitions, not [0, 0]."),
    ("seeds", [], "seeds must be not empty, not []."),
    ("seeds", [-1], "seeds[0] must be at least 0, not -1."),
    ("results", "", "results must be a plain path"),
    # contradictions between keys
    (
        f"{DIGITS}/variants/holomorphic",
        {},
        "digits.variants.holomorphic is for complex data and pixels are real: set its "
        "representations to one of kspace, native, stft.",
    ),
    (
        f"{DIGITS}/variants/real",
        {"representations": ["kspace"]},
        "real.representations holds kspace, which datasets.digits.representations does not (pixels",
    ),
    ("sampling/volume/draws", 4, "chains × draws = 128 states, fewer than sampling.validation_c"),
    ("sampling/riemannian/draws", 4, "sampling.riemannian keeps chains × draws = 128 states"),
    ("sampling/volume/targets/0/weight", "local", "must be global, not local, for the base prior"),
    ("sampling/volume/targets/2/weight", "local", "sampling.volume.targets[2] is there already"),
    (
        f"{DIGITS}/variants/real/samplers",
        ["volume"],
        "datasets.digits.variants.real.samplers must hold more than volume",
    ),
    (
        DIGITS,
        DEFAULT["datasets"]["digits"]
        | {"samplers": {"pixels": ["gmm"]}, "variants": {"complex": {"samplers": ["prior"]}}},
        "samplers.pixels leaves none of the samplers of datasets.digits.variants.complex: let it",
    ),
    (
        "evaluation/flagged",
        ["volume"],
        "evaluation.flagged names no sampler of datasets.digits.variants.real: let it hold one of",
    ),
    (f"{DIGITS}/split/oracle", 1797, "of 1797 samples aside, which leaves 0 for training"),
    (f"{DIGITS}/training/batch_size", 1797, "for training, fewer than one batch of"),
    (f"{DIGITS}/training/epochs", 1, "training.kl_warmup_epochs = 30 is longer than"),
    (
        "datasets/states/model/latent_dim",
        3,
        "latent_dim must be 2, the dimension of the states",
    ),
    ("datasets/states/model/likelihood_variance", "diagonal", "must be constant, as the noise of"),
    ("datasets/digits", None, "datasets must hold more than states, whose models are not sampled"),
    ("evaluation/states/points", 12, "evaluation.states.points = 12 must be less than"),
    ("evaluation/neighbours", 200, "evaluation.neighbours = 200 must be less than the smallest"),
]


@pytest.mark.parametrize(("path", "value", "sentence"), WRONG)
def test_wrong_configuration_is_refused(path: str, value: Any, sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        check_config(changed(path, value), SCHEMA)
    assert sentence in str(refusal.value)


def test_a_misspelt_data_set_is_all_that_is_said() -> None:
    """An overlay for it has none of the keys that a data set needs."""
    with pytest.raises(InputError) as refusal:
        check_config(changed("datasets/digts", {"training": {"epochs": 10}}), SCHEMA)
    (sentence,) = str(refusal.value).splitlines()
    assert sentence.startswith(
        "config: datasets.digts is not a known data set (did you mean digits?); known are digits, "
    )


def test_every_rule_of_the_schema_has_words() -> None:
    """A keyword without words would end in a ValueError instead of a sentence."""
    worded = {
        "additionalProperties", "required", "type", "enum", "minimum", "maximum", "not",
        "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "uniqueItems", "minItems",
        "minProperties", "minLength", "maxItems", "pattern", "dependentRequired",
    }  # fmt: skip
    silent = {
        "$schema", "$ref", "$defs", "title", "description", "properties", "items", "propertyNames",
        "if", "then", "else", "allOf",
    }  # fmt: skip

    def keywords(schema: dict[str, Any]) -> set[str]:
        found = set(schema)
        children = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
        children += [schema.get(key) for key in ("items", "additionalProperties", "then", "else")]
        for child in [*children, *schema.get("allOf", []), schema.get("propertyNames")]:
            found |= keywords(child) if isinstance(child, dict) else set()
        return found

    for schema in (SCHEMA, TABLE.with_suffix(".schema.yaml")):
        assert keywords(yaml.safe_load(schema.read_text())) <= worded | silent
        types = re.findall(r"\btype: (?:\[(.*?)\]|(\w+))", schema.read_text())
        assert {name for found in types for name in re.findall(r"\w+", " ".join(found))} <= set(
            KINDS
        )


def test_the_table_of_data_sets_is_sound() -> None:
    check_config(changed("registry", yaml.safe_load(TABLE.read_text())), SCHEMA)


def test_complex_data_are_those_of_the_representations() -> None:
    assert {name for kinds in REPRESENTED.values() for name in kinds} == set(REPRESENTATIONS)
    assert set(REPRESENTATIONS) > COMPLEX_DATA  # held to what they are in tests/data
    config = changed(f"{DIGITS}/representations", ["pixels", "kspace"])
    for variant in ("pluriharmonic", "unconstrained"):  # of grey values
        config["datasets"]["digits"]["variants"][variant]["representations"] = ["pixels"]
    config["datasets"]["digits"]["variants"]["holomorphic"] = {"representations": ["kspace"]}
    check_config(config, SCHEMA)


def test_null_switches_a_data_set_or_a_variant_off() -> None:
    config = changed("datasets/mnist", DEFAULT["datasets"]["digits"])
    config["datasets"]["digits"] = None
    config["datasets"]["mnist"]["variants"]["fisher"] = None
    drop_absent(config)
    check_config(config, SCHEMA)
    assert list(config["datasets"]) == ["states", "mnist"]
    left = [name for name in DEFAULT["datasets"]["digits"]["variants"] if name != "fisher"]
    assert list(config["datasets"]["mnist"]["variants"]) == left
    for wrong in ({}, {"datasets": 1}, {"datasets": {"a": 1, "b": {"variants": 1}}}):
        before = copy.deepcopy(wrong)
        drop_absent(wrong)
        assert wrong == before


def test_a_data_set_like_another_one_has_its_settings_but_for_its_own() -> None:
    digits = DEFAULT["datasets"]["digits"]
    changes = {
        "training": {"epochs": 7},
        "variants": {"fisher": None},
        "representations": ["kspace"],
    }
    config = changed("datasets/mnist", {"like": "digits"} | changes)
    fill_in(config)
    mnist = config["datasets"]["mnist"]
    assert mnist["training"] == digits["training"] | {"epochs": 7}
    assert mnist["representations"] == ["kspace"]
    grey = ("pluriharmonic", "unconstrained")  # whose likelihood is not for kspace
    lent = {name: block for name, block in digits["variants"].items() if name not in grey}
    assert mnist["variants"] == lent | {"fisher": None}
    assert mnist["split"] == digits["split"]
    assert config["datasets"]["digits"] == digits
    mnist["oracle"]["epochs"] = 1
    assert config["datasets"]["digits"] == digits
    for wrong in ({}, {"datasets": 1}, {"datasets": {"a": 1, "b": None}}):
        before = copy.deepcopy(wrong)
        fill_in(wrong)
        assert wrong == before


def test_what_is_off_lends_its_settings(tmp_path: Path) -> None:
    """A data set, or a variant, that a later file switches off stands in an earlier one."""
    off = tmp_path / "off.yaml"
    off.write_text("datasets: {mnist: null, fashion_mnist: {like: mnist}}")
    ablated = tmp_path / "ablated.yaml"
    ablated.write_text(
        "datasets: {digits: {variants: {kahler: null, tie: {like: kahler, beta: 3.0}}}}"
    )
    config = overlaid("paper", off)
    check_config(config, SCHEMA)
    assert "mnist" not in config["datasets"]
    mnist = overlaid("paper")["datasets"]["mnist"]
    assert config["datasets"]["fashion_mnist"]["variants"] == mnist["variants"]
    config = overlaid("ablations", ablated)
    check_config(config, SCHEMA)
    kahler = overlaid("ablations")["datasets"]["digits"]["variants"]["kahler"]
    variants = config["datasets"]["digits"]["variants"]
    assert "kahler" not in variants
    assert variants["tie"] == kahler | {
        "beta": 3.0,
        "samplers": ["prior"],
        "regulariser": kahler["regulariser"] | {"strength": 0.0},
    }


def test_a_set_of_ones_own_runs_alone_as_its_page_says(tmp_path: Path) -> None:
    page = (ROOT / "docs/data.md").read_text()
    (block,) = re.findall(r"```yaml\n(registry:\n.*?)```", page, re.DOTALL)
    (alone,) = re.findall(r"with `(mnist: null.*?)`\s+it runs alone", page)
    mine = tmp_path / "mine.yaml"
    block = block.replace("<64 hexadecimal digits>", "a" * 64)
    for nulls, run in (("", {"mnist", "kmnist"}), (alone, {"kmnist"})):
        mine.write_text(block + "".join(f"  {line}\n" for line in nulls.split(", ")))
        config = overlaid("paper", mine)
        check_config(config, SCHEMA)
        assert {*config["datasets"]} == run


def test_a_variant_like_none_is_refused() -> None:
    config = changed(f"{DIGITS}/variants/tie", {"like": "khaler"})
    with pytest.raises(InputError, match=r"digits\.variants\.tie\.like must be a variant with"):
        fill_in(config)


SIGNALS = {"kind": "arrays", "files": ["a.npz"], "samples": "x"}
SOUNDS = {"kind": "wav", "files": ["sounds"], "rate": 8000, "length": 4096}
OWN: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (SIGNALS | {"labels": "y"}, {"split": {"oracle": 0}}, "split.oracle must be at least 16"),
    (SIGNALS, {"representations": ["native", "pixels"]}, "must hold native alone"),
    (SIGNALS, {"representations": ["stft"]}, "must hold some of pixels, kspace, native for data"),
    (SIGNALS, {"sweep": {"kahler": [{}]}}, "its samples have no labels"),
    (SIGNALS | {"count": 450}, {}, "which leaves 3 for training, fewer than one batch"),
    (SIGNALS | {"shape": [3]}, {}, "latent_dim = 4 must be at most .* the values of a sample"),
    (SIGNALS | {"scale": "log"}, {}, "scale must be one of unit, standard, none"),
    (SIGNALS | {"image_shape": [2, 2]}, {}, "registry.own.image_shape is not a known key"),
    (SIGNALS | {"files": []}, {}, "registry.own.files must be not empty"),
    (SIGNALS | {"addresses": ["https://a/"]}, {}, "own.sha256 is missing; needed beside addresses"),
    (SOUNDS, {"representations": ["stft"]}, "own.stft is missing"),
    (SOUNDS | {"label": "^."}, {}, "registry.own.label must have a group"),
    (SOUNDS | {"test": "("}, {}, "registry.own.test must be a regular expression of Python"),
    (SOUNDS | {"length": None}, {}, "registry.own.length must be a whole number"),
    ({"kind": "arrays"}, {}, "registry.own.files is missing; needed here: kind, files"),
    ({"files": ["a.npz"]}, {}, "registry.own.kind is missing"),
    (SIGNALS | {"classes": 3}, {}, "registry.own.classes is not a known key; allowed here"),
    (
        {"kind": "arrays", "files": ["a.npy", "b.npy"], "labels": ["c.npy", "d.npy"]},
        {},
        "own.labels must be one file with the labels of all samples together, as in `labels: y",
    ),
    (
        {"kind": "arrays", "files": ["a.npy"], "labels": ["c.npy"]},
        {},
        r"all samples together, as in `labels: y.npy`, or keys of arrays, not \[\"c.npy\"\]",
    ),
    (
        {"kind": "arrays", "files": ["a.npy"], "samples": "x", "labels": ["b", "c"]},
        {},
        r"own.labels must name as many keys as samples does \(1\)",
    ),
    (
        SIGNALS | {"files": [f"{'x' * 80}/{k:05}.npz" for k in range(1_200)]},
        {},
        "registry.own has 1[0-9]{2},[0-9]{3} characters, and a command takes 100,000: join",
    ),
    (SIGNALS | {"files": ["'" * 30_000]}, {}, "registry.own has 150,[0-9]{3} characters"),
    (SOUNDS | {"files": ["é" * 20_000]}, {}, "registry.own has 120,[0-9]{3} characters"),
]


@pytest.mark.parametrize(("source", "changes", "sentence"), OWN)
def test_wrong_entries_of_ones_own_data_are_refused(
    source: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        check_config(own(source, changes), SCHEMA)


def own(source: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    config = changed("registry", {"own": source})
    config["datasets"]["own"] = {"like": "digits"} | changes
    fill_in(config)
    return config


def test_entries_of_ones_own_data_are_accepted() -> None:
    stft = {"window": 256, "hop": 128, "lowest": 1, "highest": 128}
    check_config(own(SIGNALS, {"representations": ["native"], "split": {"oracle": 0}}), SCHEMA)
    check_config(own(SIGNALS | {"labels": "y"}, {}), SCHEMA)
    check_config(own(SOUNDS, {"representations": ["stft"], "stft": stft}), SCHEMA)
    without = own(SIGNALS, {})
    del without["datasets"]["own"]["oracle"]
    check_config(without, SCHEMA)


WRONG_SWEEPS: list[tuple[dict[str, Any], str]] = [
    ({"fisher": [{}]}, r"sweep\.fisher needs sweep\.rules\.fisher: add it"),
    ({"isometric": [{}]}, r"sweep\.isometric needs datasets\.digits\.variants\.isometric: add it"),
    ({"beta": [{"beta": 2.0, "prior": {}}]}, r"sweep\.beta must change beta alone"),
    (
        {"kahler": [{"regulariser": {"strenght": 3.0}}]},
        r"digits\.sweep\.kahler\.regulariser\.strenght is not a known key \(did you mean strength",
    ),
    (
        {"mixture": [{"model": {"latent_dim": 0}}]},
        r"digits\.sweep\.mixture\[\]\.model\.latent_dim must be at least 1",
    ),
]


WRONG_SWEEPS += [
    ({"kahler": 2 * [{"regulariser": {"tie": 3.0}}]}, r"sweep holds kahler_tie=3\.0 2 times: keep"),
    ({"kahler": [{}, {}]}, r"sweep holds kahler 2 times: keep it once"),
    (
        {"mixture": [{"samplers": ["prior"]}]},
        r"sweep holds mixture_samplers=\['prior'\], which names",
    ),
    (
        {"mixture": [{"model": {"latent_dim": 65}}]},
        r"sweep\.mixture\[\]\.model\.latent_dim = 65 must be",
    ),
    (
        {"complex": [{"model": {"width": 3}}]},
        r"sweep\.complex\[\]\.model\.width \(3\) and the values",
    ),
    (
        {"kahler": [{"regulariser": {"warmup_epochs": 151}}]},
        r"digits\.sweep\.kahler\[\]\.regulariser\.warmup_epochs = 151 is longer than the training",
    ),
    (
        {"complex": [{"likelihood": "complex_gaussian"}]},
        r"digits\.sweep\.complex\.likelihood must be gaussian, bernoulli or continuous_b",
    ),
]


@pytest.mark.parametrize(("sweep", "sentence"), WRONG_SWEEPS)
def test_wrong_sweeps_are_refused(sweep: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check_config(changed(f"{DIGITS}/sweep", sweep), SCHEMA)


def test_a_sweep_has_a_seed_of_its_own() -> None:
    config = changed("sweep/seed", DEFAULT["seeds"][0])
    check_config(config, SCHEMA)  # where nothing is swept
    config["datasets"]["digits"]["sweep"] = {"kahler": [{}]}
    with pytest.raises(InputError, match=r"sweep\.seed = 0 must be none of seeds: no claim may"):
        check_config(config, SCHEMA)


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        (
            {"beta": {"most": "elbo", "match": "kahler"}},
            "beta must have one of most, least, match, not",
        ),
        (
            {"beta": DEFAULT["sweep"]["rules"]["kahler"] | {"most": "elbo"}},
            r"sweep\.rules\.beta must have one of most, least, match, not most and least",
        ),
        (
            {"beta": {"match": "beta"}},
            r"sweep\.rules\.beta\.match must name a variant that is not mat",
        ),
        (
            {"beta": {"match": "kahler_beta"}, "kahler_beta": {"match": "beta"}},
            "kahler_beta.match must name a variant that is not matched to another one itself",
        ),
    ],
)
def test_rules_choose_in_one_way_and_not_by_each_other(rules: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check_config(changed("sweep/rules", rules), SCHEMA)


def test_settings_that_differ_have_names_that_do_and_are_those_of_files() -> None:
    """Of two keys that end alike a setting has the whole; small numbers have an exponent."""
    sweep = {
        "kahler": [
            {"prior": {"components": 8}},
            {"regulariser": {"components": 8}},
            {"regulariser": {"epsilon": 1e-5}},
        ],
        "constant": [{"regulariser": {"components": 2}}],
    }
    config = changed(f"{DIGITS}/sweep", sweep)
    check_config(config, SCHEMA)
    names = list(sweep_settings(config["datasets"]["digits"], config["sweep"]["rules"]))
    assert names == [
        "kahler_prior.components=8",
        "kahler_regulariser.components=8",
        "kahler_epsilon=1e-05",
        "constant_components=2",
        "mixture",
    ]
    assert all(re.fullmatch(NAME, name) for name in names)


def test_a_sweep_needs_what_its_variant_is_held_against() -> None:
    config = changed(f"{DIGITS}/sweep", {"beta": [{"beta": 2.0}, {"beta": 4.0}]})
    check_config(config, SCHEMA)
    del config["datasets"]["digits"]["variants"]["kahler_beta"]
    with pytest.raises(InputError, match=r"needs datasets\.digits\.variants\.kahler_beta, against"):
        check_config(config, SCHEMA)


def test_a_sweep_trains_its_changes_and_what_they_are_held_against() -> None:
    options, rules = overlaid("ablations")["datasets"]["digits"], DEFAULT["sweep"]["rules"]
    settings = sweep_settings(options, rules)
    assert len(settings) == 1 + sum(map(len, options["sweep"].values()))
    plain = settings["mixture"]
    assert plain.setting == "default"
    assert (plain.block, plain.model) == (options["variants"]["mixture"], options["model"])
    wide = settings["mixture_latent_dim=8"]
    assert wide.setting == "latent_dim=8"
    assert (wide.block, wide.model) == (plain.block, plain.model | {"latent_dim": 8})
    weak = settings["kahler_form=isometry_strength=30.0_tie=10.0"].block
    changes = {"form": "isometry", "strength": 30.0, "tie": 10.0}
    block = options["variants"]["kahler"]
    assert weak == block | {"regulariser": block["regulariser"] | changes}


def test_a_data_set_like_another_one_has_its_files() -> None:
    sources = data_sources({"registry": {"mnist_8": {"like": "mnist"}, "d": {"like": "digits"}}})
    assert sources["mnist_8"] == sources["mnist"] | {"folder": "mnist"}
    assert sources["d"] == sources["digits"]
    for entry in ({"like": "mnits"}, {"like": "mnist", "classes": 3}):
        with pytest.raises(InputError, match=r"registry\.k must be `like: NAME` and no more, with"):
            data_sources({"registry": {"k": entry}})


def test_samples_for_oracles_are_not_lent_to_data_without_labels() -> None:
    config = own(SIGNALS, {"representations": ["native"]})
    assert "oracle" not in config["datasets"]["own"]["split"]
    check_config(config, SCHEMA)
    said = own(SIGNALS, {"representations": ["native"], "split": {"oracle": 100}})
    with pytest.raises(InputError, match=r"own\.split\.oracle sets 100 samples aside for oracles"):
        check_config(said, SCHEMA)
    labelled = own(SIGNALS | {"labels": "y"}, {})
    assert labelled["datasets"]["own"]["split"]["oracle"] == 450


WAV = {"kind": "wav", "files": ["a"], "rate": 8000, "length": 128, "label": "(a)"}
WINDOW = {"window": 64, "hop": 32, "lowest": 1, "highest": 32}
ARRAYS = {"kind": "arrays", "files": ["a.npz"], "labels": "y"}


@pytest.mark.parametrize(
    ("entry", "options", "sentence"),
    [
        (
            ARRAYS | {"scale": "standard"},
            {"variants": {"complex": {"likelihood": "bernoulli"}}},
            "likelihood must be gaussian, not bernoulli, since the values do not lie in",
        ),
        (
            WAV,
            {"variants": {"complex": {"likelihood": "continuous_bernoulli"}}},
            "likelihood must be gaussian, not continuous_bernoulli",
        ),
        (ARRAYS | {"shape": [9]}, {"representations": ["kspace"]}, "these are of shape [9]"),
        (ARRAYS | {"shape": [8, 8, 3]}, {"representations": ["kspace"]}, "shape [8, 8, 3]"),
        *(
            (WAV, {"representations": ["stft"], "stft": WINDOW | change}, "no longer than a")
            for change in ({"window": 256}, {"highest": 33}, {"hop": 40}, {"lowest": 33})
        ),
    ],
)
def test_what_the_entry_says_is_held_against_the_settings(
    entry: dict[str, Any], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_config(own(entry, options), SCHEMA)
    assert sentence in str(caught.value)


def test_grey_values_may_have_their_likelihoods() -> None:
    check_config(own(ARRAYS, {"variants": {"complex": {"likelihood": "bernoulli"}}}), SCHEMA)


def test_keys_that_are_no_texts_are_refused() -> None:
    config = changed("datasets", {5: DEFAULT["datasets"]["digits"]})
    with pytest.raises(InputError, match=r"config: the key datasets\.5 must be a text: write"):
        check_config(config, SCHEMA)


def test_a_data_set_like_a_misspelt_one_gets_a_hint() -> None:
    with pytest.raises(InputError, match=r'not "digit" \(did you mean digits\?\)'):
        own(SIGNALS, {"like": "digit"})


def test_likelihoods_of_grey_values_are_lent_to_images_only() -> None:
    grey = {"pluriharmonic", "unconstrained"}
    native = {"representations": ["native"], "split": {"oracle": 0}}
    assert not grey & set(own(SIGNALS, native)["datasets"]["own"]["variants"])
    assert not grey & set(own(SIGNALS | {"labels": "y"}, {})["datasets"]["own"]["variants"])
    said = {"variants": {"pluriharmonic": {"likelihood": "gaussian"}}}
    kept = own(SIGNALS | {"labels": "y"}, said)["datasets"]["own"]["variants"]
    assert grey & set(kept) == {"pluriharmonic"}
    images = changed("datasets/mnist", {"like": "digits"})
    fill_in(images)
    assert grey <= set(images["datasets"]["mnist"]["variants"])
    kspace = changed("datasets/mnist", {"like": "digits", "representations": ["kspace"]})
    fill_in(kspace)
    assert not grey & set(kspace["datasets"]["mnist"]["variants"])


@pytest.mark.parametrize("like", ["digitz", "k", "off", None, ["digits"], {}])
def test_a_data_set_like_none_is_refused(like: Any) -> None:
    config = changed("datasets/k", {"like": like})
    config["datasets"]["off"] = None
    with pytest.raises(
        InputError, match=r"config: datasets\.k\.like must be a data set with settings"
    ):
        fill_in(config)


def test_a_data_set_of_a_user_is_known() -> None:
    config = changed("datasets/k", DEFAULT["datasets"]["digits"])
    config["registry"] = {"k": KMNIST}
    check_config(config, SCHEMA)
    config["datasets"]["k"]["split"]["oracle"] = 59_999
    with pytest.raises(InputError, match="of 60000 samples aside"):
        check_config(config, SCHEMA)


def test_snakemake_prints_the_sentence_and_nothing_else(project: Project) -> None:
    run = project.snakemake("--cores", "1", "--config", "sampling={samplers: [priro]}")
    assert run.returncode == 1
    sentences = [line for line in run.stdout.splitlines() if line.startswith("config: ")]
    assert sentences == [
        "config: sampling.samplers[0] must be one of prior, truncated, posterior_mixture, gmm, "
        'ratio, volume, riemannian (did you mean prior?), not "priro".'
    ]
    assert "Traceback" not in run.stdout
    assert "File " not in run.stdout
    assert not (project.folder / "results").exists()


MINE = """
claims:
  - id: mine
    part: mine
    statement: Mine is smaller.
    table: reconstruction
    metric: mse
    what: {variant: NAME}
    direction: below
    bound: 1
"""


def test_claims_of_a_user_are_checked_and_are_what_is_judged(project: Project) -> None:
    mine = project.folder / "my_claims.yaml"
    arguments = ("--configfile", "tiny.yaml", "mine.yaml", "--", "results/claims.csv")
    (project.folder / "mine.yaml").write_text("claims: {file: my_claims.yaml}")
    mine.write_text(MINE.replace("NAME", "kahlr"))
    run = project.snakemake("--dry-run", "--replace-workflow-config", *arguments)
    assert run.returncode == 1
    (sentence,) = [line for line in run.stdout.splitlines() if line.startswith("my_claims.yaml")]
    assert "mine names the variant kahlr, which there is not: take one of real, c" in sentence
    mine.write_text(MINE.replace("NAME", "kahler"))
    run = project.snakemake("--dry-run", "--replace-workflow-config", *arguments)
    assert run.returncode == 0, run.stdout
    (inputs,) = re.findall(r"rule claims:\n +input: (.*)\n", run.stdout)
    files = [name for name in inputs.split(", ") if not name.endswith(".py")]
    assert files == ["results/tables/reconstruction.csv", "my_claims.yaml"]


def test_folder_behind_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(InputError, match=r"results/smoke cannot be written to: .* is a file"):
        check_writable(tmp_path / "results" / "smoke")


def test_folder_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The check is faked, since the superuser may write everywhere.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(InputError, match="no permission to write in"):
        check_writable(tmp_path / "results")


def test_a_folder_that_is_a_link_to_nothing_is_refused(tmp_path):
    (tmp_path / "results").symlink_to(tmp_path / "purged")
    for folder in ("results", "results/smoke"):
        with pytest.raises(InputError, match="results is a link to nothing"):
            check_writable(tmp_path / folder)
    (tmp_path / "purged").mkdir()
    check_writable(tmp_path / "results")
