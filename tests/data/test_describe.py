"""What `kahlervae describe` prints is a configuration that passes every check and loads."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from kahlervae.config import check_config, data_sources, drop_absent, fill_in
from kahlervae.data import prepare
from kahlervae.data.describe import describe
from kahlervae.data.examples import make_example
from kahlervae.data.representations import represent
from kahlervae.errors import InputError

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
}


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
    labelled = case in ("with labels", "colours")
    assert (record["classes"] is not None) == labelled == ("oracle" in options)
    assert form.is_complex == (name == "native") == (case in ("waves", "complex pictures"))
    # Sizes are sensible: most of the data train, for some thousand steps.
    train, training = len(tensors["train_samples"]), options["training"]
    assert train >= 0.45 * record["split"]["train"] + 1
    assert 100 <= training["epochs"] * train / training["batch_size"] <= 10_000


def test_it_says_what_files_hold(tmp_path):
    path = tmp_path / "my data.npz"
    np.savez(path, **FILES["with labels"])
    text = describe([path])
    assert "#   x: uint8 (800, 8, 8)" in text
    assert "# labels 'y': 7 classes (0, 1, 2, 3, 4, 5, 6), the rarest 114 times" in text
    assert "results: results/my_data" in text
    np.savez(path, **FILES["useless labels"])
    assert "labels: none that can be used" in describe([path])
    assert "registry:\n  other:" in describe([path], "other")


def test_what_cannot_be_described_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(5), names=np.array(["a"] * 5))
    with pytest.raises(InputError, match=r"holds no samples \(x \(5,\), names \(5,\)\)"):
        describe([tmp_path / "a.npz"])
    np.savez(tmp_path / "b.npz", x=RANDOM.normal(size=(40, 5)))
    with pytest.raises(InputError, match="holds 40 samples: at least 120"):
        describe([tmp_path / "b.npz"])
    with pytest.raises(InputError, match="is not a file"):
        describe([tmp_path / "c.npz"])
    with pytest.raises(InputError, match="is no folder, zip or tar archive"):
        describe([tmp_path / "sounds"])
