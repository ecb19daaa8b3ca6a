import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kahlervae.data import Form, Split
from kahlervae.errors import InputError
from kahlervae.train import train
from kahlervae.train.loop import Progress, _batches

TRAINING = "kahlervae.train.loop"
REGULARISER = {
    "form": "volume",
    "strength": 0.1,
    "epsilon": 1e-3,
    "points": 9,  # beyond which potentials take tables
    "warmup_epochs": 2,
}
VARIANTS = {
    "real": {},
    "complex": {},
    "beta": {"beta": 3.0},
    "kahler": {
        "regulariser": REGULARISER | {"tie": 1.0, "groups": 2, "components": 3, "scale": 30.0}
    },
    "pluriharmonic": {"likelihood": "bernoulli"},
    "fisher": {"regulariser": REGULARISER, "prior": {"kind": "mixture", "components": 3}},
}


def splits():
    stream = torch.Generator().manual_seed(0)
    images = torch.rand(50, 4, 4, generator=stream)
    labels = torch.zeros(50, dtype=torch.int64)
    return {
        "train": Split(images[:40], labels[:40], Form(tuple(images.shape[1:]))),
        "validation": Split(images[40:], labels[40:], Form(tuple(images.shape[1:]))),
    }


def settings(variant, **training):
    options = {
        "epochs": 6,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "gradient_clip": 100.0,
        "kl_warmup_epochs": 2,
        "checkpoint_every": 2,
    }
    model = {"latent_dim": 2, "width": 8, "depth": 1, "likelihood_variance": "constant"}
    return {"model": model, "training": options | training, "variant": VARIANTS[variant]}


def identity(variant, seed=0):
    return {"dataset": "noise", "representation": "pixels", "variant": variant, "seed": seed}


def run(variant, path, seed=0, data=None, **training):
    data = data or splits()
    return train(data, identity(variant, seed), settings(variant, **training), path)


def same(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_no_component_of_a_learned_prior_dies(tmp_path):
    """What no posterior comes near has next to no mass, and next to all components are used."""
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images[:600] / 16).float()
    labels = torch.zeros(len(images), dtype=torch.int64)
    data = {
        name: Split(part, part_labels, Form((8, 8)))
        for name, part, part_labels in zip(
            ("train", "validation"), images.split(500), labels.split(500), strict=True
        )
    }
    components = 32
    options = settings("complex", epochs=40, learning_rate=5e-3, checkpoint_every=40)
    options["model"] |= {"width": 32, "latent_dim": 4}
    options["variant"] = {"prior": {"kind": "mixture", "components": components}}
    model, _ = train(data, identity("complex"), options, tmp_path / "a")
    stream = torch.Generator().manual_seed(0)
    posterior = model.encode(images[:500])
    z = torch.cat([posterior.sample(stream) for _ in range(4)])
    used = (model.prior.log_components(z) + model.prior.log_weights).softmax(-1).mean(0)
    weights, dead = model.prior.log_weights.exp(), used < 0.05 / components
    assert dead.sum() <= 2
    assert weights[dead].sum() < 0.02
    # The prior has become the aggregated posterior, as far as components tell.
    assert (used - weights).abs().sum() / 2 < 0.15


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_and_is_determined_by_its_seed(variant, tmp_path):
    model, history = run(variant, tmp_path / "a")
    again, _ = run(variant, tmp_path / "b")
    other, _ = run(variant, tmp_path / "c", seed=1)
    assert same(model, again)
    assert not same(model, other)
    assert list(history["epoch"]) == [1, 2, 3, 4, 5, 6]
    assert history[["loss", "log_likelihood", "kl", "validation_elbo"]].notna().all().all()
    assert history["regulariser"].notna().all() == (variant in ("kahler", "fisher"))


def interrupt(monkeypatch, training):
    """Start a training, and end it one epoch after its last checkpoint."""
    report = Progress.report

    def stop(self, rows):
        report(self, rows)
        if rows[0]["epoch"] == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "report", stop)
        with pytest.raises(KeyboardInterrupt):
            training()


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_interrupted_run_resumes_to_the_same_bits(variant, tmp_path, monkeypatch):
    undisturbed, history = run(variant, tmp_path / "a")
    interrupt(monkeypatch, lambda: run(variant, tmp_path / "b"))
    assert (tmp_path / "b").exists()
    resumed, resumed_history = run(variant, tmp_path / "b")
    assert same(undisturbed, resumed)
    assert history.equals(resumed_history)


def test_a_checkpoint_of_other_settings_data_or_code_is_passed_over(tmp_path, monkeypatch):
    run("complex", tmp_path / "a")
    expected, _ = run("complex", tmp_path / "b", learning_rate=2e-3)
    model, _ = run("complex", tmp_path / "a", learning_rate=2e-3)
    assert same(model, expected)
    monkeypatch.setattr("kahlervae.train.checkpoint._code_digest", lambda: "other")
    model, history = run("complex", tmp_path / "a", learning_rate=2e-3)
    assert same(model, expected)
    assert len(history) == 6
    data = splits()
    data["train"] = data["validation"]
    expected, _ = run("complex", tmp_path / "c", data=data, batch_size=5)
    run("complex", tmp_path / "d", batch_size=5)
    model, _ = run("complex", tmp_path / "d", data=data, batch_size=5)
    assert same(model, expected)


def test_a_checkpoint_is_bound_to_the_code_of_training_and_to_no_other():
    from kahlervae.sources import imported

    package = Path(__file__).parents[2] / "src"
    files = {str(path.relative_to(package / "kahlervae")) for path in imported([TRAINING], package)}
    assert {"train/loop.py", "nn/layers.py", "geometry/potential.py", "seeding.py"} <= files
    assert not {name for name in files if name.startswith(("figures", "evaluate", "sample"))}
    # All that is really loaded is among them.
    code = f"import sys, {TRAINING}; print(*(m for m in sys.modules if m.startswith('kahlervae')))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    names = {name.removeprefix("kahlervae").strip(".") for name in loaded.stdout.split()}
    assert names == {
        name.removesuffix(".py").removesuffix("__init__").strip("/").replace("/", ".")
        for name in files
    }


def test_a_damaged_checkpoint_is_refused(tmp_path):
    run("complex", tmp_path / "a")
    path = tmp_path / "a"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        run("complex", path)


def test_divergence_names_epoch_term_and_cause(tmp_path):
    data = splits()
    data["train"].samples[3, 0, 0] = float("nan")
    with pytest.raises(
        InputError, match=r"complex \(seed 0\) diverged in epoch 1: log_likelihood is nan; the"
    ):
        run("complex", tmp_path / "a", data=data)


def test_loss_is_the_weighted_sum_of_its_terms(tmp_path):
    _, history = run("kahler", tmp_path / "a")
    weights = [min(1, epoch / 2) for epoch in history["epoch"]]
    expected = (
        -history["log_likelihood"]
        + weights * history["kl"]
        + [0.1 * w for w in weights] * history["regulariser"]
        + history["tie"]
    )
    assert history["loss"].tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_the_log_is_readable(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run("complex", tmp_path / "a", epochs=20)
    assert len(caplog.messages) == 10
    assert caplog.messages[-1].startswith("noise/pixels/complex/0: epoch 20/20: loss ")


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [(9, 4, [4, 4]), (10, 4, [4, 4, 2]), (1, 4, [1]), (3, 1, [1] * 3)],
)
def test_no_batch_is_left_with_one_sample(count, size, expected):
    assert [len(batch) for batch in _batches(torch.arange(count), size)] == expected


def test_a_rest_of_one_sample_does_not_diverge(tmp_path):
    data = splits()
    data["train"] = Split(*(part[:33] for part in data["train"][:2]), data["train"].form)
    flat = VARIANTS["kahler"]["regulariser"] | {"form": "flatness"}
    options = settings("kahler", batch_size=16) | {"variant": {"regulariser": flat}}
    train(data, identity("kahler"), options, tmp_path / "a")
