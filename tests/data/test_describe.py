"""What `kahlervae describe` prints is a configuration that passes every check and loads."""

import gzip
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from scipy.io import wavfile
from typer.testing import CliRunner

from kahlervae.cli import app
from kahlervae.config.check import check_config
from kahlervae.config.filling import drop_absent, fill_in
from kahlervae.config.registry import data_sources
from kahlervae.data import prepare
from kahlervae.data.describe import _Dumper, describe
from kahlervae.data.examples import make_example
from kahlervae.data.recordings import label_of
from kahlervae.data.representations import represent
from kahlervae.errors import InputError
from kahlervae.places import paths_of

ROOT = Path(__file__).parents[2]
RANDOM = np.random.default_rng(0)


def merge(base, overlay):
    result = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if both else value
    return result


def accepted(text: str) -> dict:
    """The whole configuration, as the workflow takes it."""
    config = merge(yaml.safe_load((ROOT / "config.yaml").read_text()), yaml.safe_load(text))
    fill_in(config)
    drop_absent(config)
    check_config(config, ROOT / "workflow/schemas/config.schema.yaml")
    return config


FILES = {
    "images": {"images": RANDOM.integers(0, 256, (500, 12, 10), dtype=np.uint8)},
    "with labels": {
        "x": RANDOM.integers(0, 256, (800, 8, 8), dtype=np.uint8),
        "y": np.arange(800) % 7,
        "other": np.zeros(3),
    },
    "colours": make_example("colours", 400, 0),
    "channels first": {"x": RANDOM.integers(0, 256, (300, 3, 16, 16), dtype=np.uint8)},
    "waves": make_example("waves", 300, 0),
    "complex pictures": {
        "x": RANDOM.normal(size=(200, 6, 6)) + 1j * RANDOM.normal(size=(200, 6, 6))
    },
    "vectors": {"x": RANDOM.normal(size=(5000, 3))},
    "large": {"x": RANDOM.normal(size=(40000, 2, 2)).astype("f2")},
    "volumes": {"x": RANDOM.normal(size=(150, 4, 5, 6, 2))},
    "useless labels": {"x": RANDOM.normal(size=(200, 9)), "y": RANDOM.normal(size=200)},
    "strips": {"x": RANDOM.integers(0, 256, (300, 2, 40, 3), dtype=np.uint8)},
    "few": {"x": RANDOM.normal(size=(120, 9)), "y": np.arange(120) % 3},
    "digits": {"x": RANDOM.normal(size=(200, 9))},
}
LABELLED = ("with labels", "colours", "few")


@pytest.mark.parametrize("case", FILES)
def test_the_printed_entry_passes_the_checks_and_loads(case, tmp_path):
    path = tmp_path / f"{case}.npz"
    np.savez(path, **FILES[case])
    config = accepted(describe([path]))
    (dataset,) = config["datasets"]
    options = config["datasets"][dataset]
    tensors, form, record = prepare(dataset, data_sources(config)[dataset], options["split"])
    (name,) = options["representations"]
    assert represent(name, form).dimension >= options["model"]["latent_dim"]
    labelled = case in LABELLED
    assert (record["classes"] is not None) == labelled == ("oracle" in options)
    assert form.is_complex == (name == "native") == (case in ("waves", "complex pictures"))
    # Sizes are sensible: most of the data train, for some thousand steps.
    train, training = len(tensors["train_samples"]), options["training"]
    assert train >= 0.45 * record["split"]["train"] + 1
    assert 100 <= training["epochs"] * train / training["batch_size"] <= 10_000


def entry(path: Path, **arrays: np.ndarray) -> tuple[str, dict, dict]:
    """What describe prints of arrays, and the entries of the registry and of the data sets."""
    np.savez(path, **arrays)
    text = describe([path])
    config = yaml.safe_load(text)
    ((name, source),) = config["registry"].items()
    return text, source, config["datasets"][name]


X, Y = RANDOM.normal(size=(200, 9)), np.arange(200) % 4
NO_LABELS = {
    "unknown name": ({"age": Y}, "not used: age; if these are the labels: --labels age"),
    "too short": ({"y": Y[1:]}, r"'y' are not the labels: .* one label for each"),
    "one-hot": ({"y": np.eye(4)[Y]}, r"one column for each class: save its argmax\(axis=1\)"),
    "fractions": ({"y": X[:, 0]}, "labels are whole numbers or texts"),
    "all differ": ({"y": np.arange(200)}, "has 200 classes, and 0 is that of 1 samples alone"),
    "rare": ({"y": (np.arange(200) == 7) * 1}, "has 2 classes, and 1 is that of 1 samples alone"),
    "objects": ({"y": np.array(["a", "b"], object)[Y % 2]}, "y: 'y' of .* holds Python objects"),
    "another part": ({"x_test": X[:50]}, "not used: x_test"),
}


@pytest.mark.parametrize("case", NO_LABELS)
def test_it_says_why_an_array_is_not_the_labels(case, tmp_path):
    arrays, sentence = NO_LABELS[case]
    text, source, options = entry(tmp_path / "a.npz", x=X, **arrays)
    assert re.search(f"# .*{sentence}", text)
    assert "labels" not in source
    assert "oracle" not in options
    _, source, _ = entry(tmp_path / "a.npz", x=X, **arrays, target=Y)
    assert source["labels"] == "target"


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("x_train", "x_test"), ("y_train", "y_test")),
        (
            ("train_images", "val_images", "test_images"),
            ("train_labels", "val_labels", "test_labels"),
        ),
        (("imagesTrain", "imagesTest"), ("labelsTrain", "labelsTest")),
        (("test", "train"), ()),
        (("train/image", "test/image"), ("train/label", "test/label")),
    ],
)
def test_parts_of_splits_belong_together(names, labels, tmp_path):
    stored = {key: Y[: 100 + 40 * k] for k, key in enumerate(labels)}
    held = {key: X[: 100 + 40 * k] for k, key in enumerate(names)}
    text, source, _ = entry(tmp_path / "a.npz", **dict(reversed(stored.items())), **held)
    assert source["samples"] == list(names)
    assert source.get("labels", []) == list(labels)
    assert source["count"] == sum(map(len, held.values()))
    assert "not used" not in text


def test_parts_without_labels_are_said_to_have_none(tmp_path):
    text, source, _ = entry(tmp_path / "a.npz", x_train=X, y_train=Y, x_test=X)
    assert "labels" not in source
    assert (
        "'y_train' are not the labels: each of 2 arrays of samples needs one of labels, and there "
        "is 'y_train' alone"
    ) in text


PART_X = {part: RANDOM.normal(size=(200, 5)) for part in ("test", "train", "all")}
PART_Y = {part: RANDOM.integers(0, 4, 200) for part in ("test", "train", "all")}


def pairs(samples: np.ndarray, labels: np.ndarray) -> set[tuple[float, ...]]:
    """Every sample, but for its scale, with its label."""
    scaled = (samples - samples.mean()) / samples.std()
    return {
        (*np.round(x, 3).tolist(), y)
        for x, y in zip(scaled.astype("f4"), labels.tolist(), strict=True)
    }


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
@pytest.mark.parametrize(
    ("keys", "wanted", "part"),
    [
        (("x_test", "y_test", "x_train", "y_train"), "x_train", "train"),
        (("x_test", "y_test", "x_train", "y_train", "y"), "x_test", "test"),
        (("y_test", "y_train", "x_train"), None, "train"),
        (("x_all", "y_train", "y_all"), "x_all", "all"),
        (("x_train", "y_train", "y_test", "y_trainval"), None, "train"),
    ],
)
def test_samples_of_a_part_get_the_labels_of_that_part(suffix, keys, wanted, part, tmp_path):
    held = {}
    for key in keys:
        name, _, its_part = key.partition("_")
        values = PART_X if name == "x" else PART_Y
        held[key] = values.get(its_part, values["all"])
    held = {key.removesuffix("_all"): array for key, array in held.items()}
    wanted = wanted and wanted.removesuffix("_all")
    path = tmp_path / f"mine.{suffix}"
    if suffix == "npz":
        np.savez(path, **held)
    else:
        save_file({key: torch.from_numpy(array) for key, array in held.items()}, path)
    config = accepted(describe([path], samples=wanted))
    split = config["datasets"]["mine"]["split"]
    tensors, _, record = prepare("mine", data_sources(config)["mine"], split)
    found = [
        np.concatenate([tensors[f"{name}_{what}"].numpy() for name in record["split"]])
        for what in ("samples", "labels")
    ]
    assert pairs(*found) == pairs(PART_X[part], PART_Y[part])


def test_labels_of_another_size_leave_those_of_the_part(tmp_path):
    for count in (150, 200):
        held = {"x_test": X[:count], "y_test": Y[:count], "x_train": X, "y_train": Y}
        np.savez(tmp_path / "a.npz", **held)
        text = describe([tmp_path / "a.npz"], samples="x_train")
        (source,) = yaml.safe_load(text)["registry"].values()
        assert source["labels"] == "y_train"
        assert "not used: y_test\n" in text


def test_further_names_are_tried_and_told(tmp_path):
    text, source, _ = entry(tmp_path / "a.npz", x=X, label=X[:, 0], y=Y, target=Y)
    assert source["labels"] == "y"
    assert "'label' are not the labels: 'label' of" in text
    assert "not used: target; if these are the labels: --labels target" in text


@pytest.mark.parametrize(
    ("others", "joined"),
    [
        ({"x_trainval": X}, ["x_train", "x_val", "x_test"]),
        ({"x_valid": X[150:170]}, ["x_train", "x_val", "x_test"]),
        ({"x_train_test": X}, ["x_train", "x_val", "x_test"]),
        ({"x_latest": X}, ["x_train", "x_val", "x_test"]),
        ({"x": np.r_[X, X + 1]}, ["x"]),
    ],
)
def test_every_part_is_joined_once(others, joined, tmp_path):
    parts = {"x_train": X[:150], "x_val": X[150:170], "x_test": X[170:]}
    labels = {
        key.replace("x", "y", 1): np.arange(len(array)) % 4
        for key, array in (parts | others).items()
    }
    text, source, _ = entry(tmp_path / "a.npz", **parts, **others, **labels)
    found = source["samples"]
    assert found == (joined if len(joined) > 1 else joined[0])
    named = [key.replace("x", "y", 1) for key in joined]
    assert source["labels"] == (named if len(named) > 1 else named[0])
    assert "are copies of" not in text
    for key in {*others} - {*joined}:
        assert f"not used: {key}" in text


def test_masks_are_no_samples(tmp_path):
    mask = RANDOM.random(X.shape) > 0.1
    for others in ({"x_valid": mask}, {"data": mask}, {"x_val": mask.astype(np.uint8)}):
        for name in ("x", "x_train"):
            for held in ({name: X} | others, others | {name: X}):
                _, source, _ = entry(tmp_path / "a.npz", **held)
                assert source["samples"] == name, held.keys()
    _, source, _ = entry(tmp_path / "a.npz", x_train=mask, x_test=~mask)
    assert source["samples"] == ["x_train", "x_test"]


def test_copies_are_told_with_their_number(tmp_path):
    text, _, _ = entry(tmp_path / "a.npz", x=np.r_[X, X[:50]])
    assert "50 of 250 samples are copies of others" in text
    assert "are copies of" not in entry(tmp_path / "a.npz", x=X)[0]


def test_parts_of_other_ranges_are_told(tmp_path):
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    pictures = np.arange(150 * 36).reshape(150, 6, 6) % 256
    np.savez(paths[0], x=pictures.astype(np.uint8))
    np.savez(paths[1], x=pictures / 255)
    told = f"one scale for all parts: 'x' of {paths[0]} goes from 0 to 255, and 'x' of {paths[1]} "
    assert f"{told}from 0 to 1; rescale one of them" in describe(paths)
    np.savez(paths[1], x=pictures)
    assert "one scale" not in describe(paths)


def test_one_layout_of_channels_is_for_all_files(tmp_path):
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    np.savez(paths[0], x=RANDOM.random((150, 3, 8, 8)))
    np.savez(paths[1], x=RANDOM.random((150, 8, 8, 3)))
    with pytest.raises(InputError, match=r"shapes \(3, 8, 8\) and \(8, 8, 3\), with channels in"):
        describe(paths)


def test_arrays_need_names(tmp_path):
    np.savez(tmp_path / "a.npz", **{"": X, "z": X, "y": Y})
    text = describe([tmp_path / "a.npz"])
    assert "an array of" in text
    assert "has no name: save it under one" in text
    (source,) = yaml.safe_load(text)["registry"].values()
    assert source["samples"] == "z"


def test_keys_that_end_like_files_name_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, **{"y.npy": Y})
    text = describe([tmp_path / "a.npz"], labels="y.npy")
    config = accepted(text)
    source = data_sources(config)["a"]
    assert source["labels"] == ["y.npy"]
    _, _, record = prepare("a", source, config["datasets"]["a"]["split"])
    assert record["classes"] == 4


def test_what_loses_its_spread_is_not_offered(tmp_path):
    with pytest.raises(InputError, match="subtract what they have in common"):
        entry(tmp_path / "a.npz", x=1e9 + X * (1 + 1j))


def test_more_files_than_a_command_takes_are_refused(tmp_path):
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    paths = [folder / f"{k:03}.npy" for k in range(100_000 // len(str(folder)))]
    for path in paths:
        np.save(path, RANDOM.normal(size=(2, 3)))
    describe(paths[: len(paths) // 2])
    with pytest.raises(InputError, match="characters, and a command takes 100,000: join its files"):
        describe(paths)


def test_names_are_no_homes_and_no_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("~y.npy", Y)
    for name in ("~back.npz", "~nobody.npz", "-m.npz"):
        np.savez(name, x=X)
        text = describe([Path(name)], "mine", labels="~y.npy")
        config = accepted(text)
        source = data_sources(config)["mine"]
        assert source["files"] == [f"./{name}"]
        assert source["labels"] == "./~y.npy"
        _, _, record = prepare("mine", source, config["datasets"]["mine"]["split"])
        assert record["classes"] == 4
        (command,) = re.findall(r"#   (kahlervae describe .*) > ", text)
        arguments = shlex.split(command)[2:]
        again = CliRunner().invoke(app, ["describe", *arguments])
        assert again.output == text


def test_a_home_that_is_none_is_a_name():
    (path, below) = paths_of("~nobody-of-that-name/x.npy", [Path("data")])
    assert path == Path("~nobody-of-that-name/x.npy")
    assert below == Path("data/~nobody-of-that-name/x.npy")
    assert paths_of("~/x.npy", []) == [Path.home() / "x.npy"]
    assert paths_of("./~/x.npy", []) == [Path("~/x.npy")]


@pytest.mark.filterwarnings("error")
def test_labels_in_half_precision_are_read(tmp_path):
    assert entry(tmp_path / "a.npz", x=X, y=Y.astype("f2"))[1]["labels"] == "y"


def test_samples_are_known_by_name_and_can_be_named(tmp_path):
    arrays = {"mask": np.ones((200, 40), np.int64), "x": X, "z": X + 1, "age": Y}
    _, source, _ = entry(tmp_path / "a.npz", **arrays)
    assert source["samples"] == "x"
    text = describe([tmp_path / "a.npz"], samples="z", labels="age")
    (source,) = yaml.safe_load(text)["registry"].values()
    assert (source["samples"], source["labels"]) == ("z", "age")
    assert "a.npz --samples z --labels age > a.yaml" in text
    with pytest.raises(InputError, match="holds no array 'none'"):
        describe([tmp_path / "a.npz"], labels="none")


def test_labels_may_lie_in_a_file_of_their_own(tmp_path):
    for name, array in (("x", X), ("x2", X + 1), ("y", np.r_[Y, Y])):
        np.save(tmp_path / f"{name}.npy", array)
    samples = [tmp_path / "x.npy", tmp_path / "x2.npy"]
    text = describe(samples, labels=str(tmp_path / "y.npy"))
    config = accepted(text)
    assert "y.npy: 4 classes (0, 1, 2, 3), the rarest 100 times" in text
    _, _, record = prepare("x", data_sources(config)["x"], config["datasets"]["x"]["split"])
    assert record["classes"] == 4
    with pytest.raises(InputError, match=r"y\.npy has the shape \(400,\) for 200 samples"):
        describe(samples[:1], labels=str(tmp_path / "y.npy"))
    with pytest.raises(InputError, match=r"^/.*y\.npy has the shape \(400,\): samples are stacked"):
        describe([tmp_path / "x.npy", tmp_path / "y.npy"])
    np.save(tmp_path / "y.npy", Y)
    with pytest.raises(InputError, match=r"y\.npy holds one value for each .* --labels /.*y\.npy"):
        describe([tmp_path / "x.npy", tmp_path / "y.npy"])


def test_of_pictures_and_the_same_as_vectors_the_pictures_are_taken(tmp_path):
    pictures = RANDOM.random((200, 6, 5))
    _, source, _ = entry(tmp_path / "a.npz", data=pictures.reshape(200, 30), images=pictures)
    assert source["samples"] == "images"


SCALES = {
    "bytes": (RANDOM.integers(0, 256, (200, 6, 5), dtype=np.uint8), "unit", 0.1),
    "from -1 to 1": (RANDOM.uniform(-1, 1, (200, 6, 5)), "unit", 0.1),
    "a signal of several channels": (RANDOM.normal(size=(200, 2, 50)), "standard", 0.1),
    "small ones": (1e-5 * RANDOM.normal(size=(200, 9, 50)), "standard", 0.1),
    "mostly dark": (RANDOM.exponential(size=(200, 6, 5)) ** 4, "unit", 0.01),
}


@pytest.mark.parametrize("case", SCALES)
def test_scale_and_noise_follow_from_the_values(case, tmp_path):
    values, scale, most = SCALES[case]
    _, source, options = entry(tmp_path / "a.npz", x=values, y=Y)
    assert source["scale"] == scale
    assert 0 < options["oracle"]["noise"] <= most


DOUBTS = {
    "save x[..., 0] + 1j * x[..., 1]": RANDOM.normal(size=(200, 6, 5, 2)),
    "save x[:, 0] + 1j * x[:, 1]": RANDOM.normal(size=(200, 2, 50)),
    "all imaginary parts are 0": X + 0j,
    "outliers: the furthest value lies": np.where((np.arange(200) == 7)[:, None], 1e6, X),
}


@pytest.mark.parametrize("told", DOUBTS)
def test_what_is_seldom_meant_is_told(told, tmp_path):
    assert f"{told}" in entry(tmp_path / "a.npz", x=DOUBTS[told])[0]
    assert told not in entry(tmp_path / "a.npz", x=X)[0]


def test_it_says_why_recordings_have_no_labels(tmp_path):
    for k in range(125):
        folder = tmp_path / "spoken" / ("noise" if k == 0 else f"word{k % 2}")
        folder.mkdir(parents=True, exist_ok=True)
        tone = np.sin(np.arange(900) / (5 + k)) * (0 if k == 1 else 1)
        wavfile.write(folder / f"{k}.wav", 8000, tone.astype(np.float32))
    text = describe([tmp_path / "spoken"])
    assert "there are 3 of these, and 'noise' is that of 1 recordings alone" in text
    assert "without labels" in text
    for file in (tmp_path / "spoken").rglob("*.wav"):
        wavfile.write(file, 8000, np.zeros(900, np.float32))
    with pytest.raises(InputError, match="are silent"):
        describe([tmp_path / "spoken"])


def record(folder: Path, *names: str) -> None:
    """Short recordings, no two alike."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(folder / name, 8000, RANDOM.normal(size=900).astype(np.float32))


LABELLED_NAMES = {
    "folders of a split": (
        [f"{p}/{w}_{k}.wav" for p in ("train", "test") for w in ("yes", "no") for k in range(32)],
        "2 classes (no, yes), the rarest 64 times",
    ),
    "one folder above": (
        [f"my-set_v1/{k % 4}_{k}.wav" for k in range(128)],
        "4 classes (0, 1, 2, 3), the rarest 32 times",
    ),
    "folders": ([f"{k % 2}/{k}.wav" for k in range(128)], "2 classes (0, 1), the rarest 64 times"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("case", LABELLED_NAMES)
def test_the_classes_of_recordings_are_told(case, packed, tmp_path):
    names, told = LABELLED_NAMES[case]
    record(tmp_path / "sounds", *names)
    path = tmp_path / "sounds"
    if packed:
        path = Path(shutil.make_archive(str(path), "zip", path))
    text = describe([path])
    assert f"# labels by their names: {told}, as in {min(names)}" in text
    (source,) = accepted(text)["registry"].values()
    assert {label_of(name, re.compile(source["label"])) for name in names} == {
        word.strip("(),") for word in told.split("(")[1].split(")")[0].split()
    }


@pytest.mark.parametrize(
    ("pattern", "reasons"),
    [
        ("train/{}.wav", ["folder of their names: these are parts of a split, train", "have none"]),
        ("a/{}.wav", ["folder of their names: all have the same, 'a'", "130 of 130 have none"]),
        ("a_{}.wav", ["130 of 130 have none", "first part of their names: all have the same, 'a'"]),
    ],
)
def test_a_reason_is_given_whenever_recordings_have_no_labels(pattern, reasons, tmp_path):
    record(tmp_path / "sounds", *(pattern.format(k) for k in range(130)))
    text = describe([tmp_path / "sounds"])
    for reason in reasons:
        assert re.search(f"# no labels by the .*{reason}", text)


@pytest.mark.parametrize("shape", [(3, 8, 9), (2, 40, 3)])
def test_it_says_which_axis_it_takes_for_channels(shape, tmp_path):
    text, source, _ = entry(tmp_path / "a.npz", x=RANDOM.normal(size=(200, *shape)))
    expected = "first" if shape[0] == 3 else "last"
    assert source["channels"] == expected
    assert f"# channels of {shape}: taken to be {expected}" in text


def test_one_column_that_outweighs_the_others_is_told(tmp_path):
    text, _, _ = entry(tmp_path / "a.npz", x=X * np.array([1.0] * 8 + [100]))
    assert "column 8 spreads" in text
    assert "spreads" not in entry(tmp_path / "a.npz", x=X)[0]
    text, _, _ = entry(tmp_path / "a.npz", x=X * np.array([1.0] * 3 + [0] * 6))
    assert "6 of 9 columns are constant" in text
    assert "spreads" not in text


def test_oracles_are_held_against_the_largest_class(tmp_path):
    for labels, gate in ((Y % 2, 0.6), (np.repeat([0, 1], (160, 40)), 0.84), (Y, 0.4)):
        assert entry(tmp_path / "a.npz", x=X, y=labels)[2]["oracle"]["minimum_accuracy"] == gate


@pytest.mark.parametrize("others", [10, 60, 99, 4000])
def test_the_gate_of_oracles_lies_between_the_largest_class_and_no_error(others, tmp_path):
    count = 20_000
    labels = (np.arange(count) < others).astype(int)
    text, _, options = entry(tmp_path / "a.npz", x=RANDOM.normal(size=(count, 2)), y=labels)
    assert 1 - others / count < options["oracle"]["minimum_accuracy"] < 1
    assert ("the rarest class is expected" in text) == (others < 60)


def test_float_settings_keep_their_digits():
    values = [0.999999992, 1e-05, 30.0, 0.002, 1.5e-7]
    assert yaml.safe_load(yaml.dump(values, Dumper=_Dumper)) == values


@pytest.mark.parametrize("values", [X * 1e-300, X * 1e300])
def test_what_the_data_stage_refuses_is_not_offered(values, tmp_path):
    with pytest.raises(InputError, match="for double precision"):
        entry(tmp_path / "a.npz", x=values)


TOP = ("results", "figures", "seeds", "registry", "datasets", "geometry", "claims")
FOREIGN = ["z\ndevice: cuda #", "a\u2028b: c", "a\x1b[31m", "a\rseeds: [7]", "bad\udcff"]


@pytest.mark.parametrize("text", FOREIGN)
@pytest.mark.parametrize("where", ["file", "key", "label"])
def test_names_cannot_leave_the_comments(text, where, tmp_path):
    plain = entry(tmp_path / "a.npz", x=X, y=np.array(["a", "b"])[Y % 2])[1]
    if where == "file":
        path = tmp_path / f"{text.replace('/', '')}.npz"
        with path.open("wb") as file:
            np.savez(file, x=X, y=np.array(["a", "b"])[Y % 2])
        printed = describe([path], "a")
    elif where == "key":
        if "\udcff" in text:
            pytest.skip("numpy cannot write it")
        printed, *_ = entry(tmp_path / "a.npz", x=X, y=np.array(["a", "b"])[Y % 2], **{text: Y})
    else:
        printed, *_ = entry(tmp_path / "a.npz", x=X, y=np.array([text, "b"])[Y % 2])
    printed.encode()
    config = yaml.safe_load(printed)
    assert set(config) == {*TOP}
    (source,) = config["registry"].values()
    assert {**source, "files": []} == {**plain, "files": []}


def test_it_says_what_files_hold(tmp_path):
    path = tmp_path / "my data.npz"
    np.savez(path, **FILES["with labels"])
    text = describe([path])
    assert "#   x: uint8 (800, 8, 8)" in text
    assert "# labels 'y': 7 classes (0, 1, 2, 3, 4, 5, 6), the rarest 114 times" in text
    assert "results: results/my_data" in text
    np.savez(path, **FILES["useless labels"])
    assert "'y' are not the labels" in describe([path])
    assert "registry:\n  other:" in describe([path], "other")


def test_what_cannot_be_described_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(5), names=np.array(["a"] * 5))
    with pytest.raises(InputError, match=r"holds no samples \(x \(5,\), names \(5,\)\)"):
        describe([tmp_path / "a.npz"])
    np.savez(tmp_path / "o.npz", x=np.array([[1, 2]] * 200, object))
    with pytest.raises(InputError, match=r"^'x' of .*holds Python objects"):
        describe([tmp_path / "o.npz"])
    torn = {"x": torch.zeros(200, 5, dtype=torch.bfloat16), "y": torch.zeros(200)}
    save_file(torn, tmp_path / "b.safetensors")
    with pytest.raises(InputError, match=r"^'x' of .* is of type BF16: save it as F32"):
        describe([tmp_path / "b.safetensors"])
    for foreign in ("a.csv", "a.mat", "a.pt", "a.h5"):
        (tmp_path / foreign).write_bytes(bytes(2000))
        with pytest.raises(
            InputError, match=r"neither a file of arrays .* nor a folder or archive"
        ):
            describe([tmp_path / foreign])
    idx = bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3])
    for name, content in (("i-ubyte", idx), ("i.gz", gzip.compress(idx))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"is an IDX file: .* kind: idx"):
            describe([tmp_path / name])
    (tmp_path / "torn.gz").write_bytes(gzip.compress(idx)[:12])
    with pytest.raises(InputError, match=r"torn\.gz cannot be read"):
        describe([tmp_path / "torn.gz"])
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder/a.npy", X)
    with pytest.raises(InputError, match="or name the files themselves if they hold arrays"):
        describe([tmp_path / "folder"])
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match="name the folder that the recordings lie in"):
        describe([tmp_path / "a.wav"])
    np.savez(tmp_path / "b.npz", x=RANDOM.normal(size=(40, 5)))
    with pytest.raises(InputError, match=r"holds 40 samples of shape \(5,\): at least 120"):
        describe([tmp_path / "b.npz"])
    np.savez(tmp_path / "{b}.npz", x=X)
    with pytest.raises(InputError, match="holds braces"):
        describe([tmp_path / "{b}.npz"])
    with pytest.raises(InputError, match="named twice"):
        describe([tmp_path / "b.npz", tmp_path / "." / "b.npz"])
    with pytest.raises(InputError, match="is not a file"):
        describe([tmp_path / "c.npz"])
    with pytest.raises(InputError, match="is not there"):
        describe([tmp_path / "sounds"])
