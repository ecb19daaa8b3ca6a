import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from kahlervae.config.registry import COMPLEX_DATA, data_sources
from kahlervae.data import SPLITS, Form, load_split, prepare
from kahlervae.data.representations import REPRESENTATIONS, represent
from kahlervae.errors import InputError
from kahlervae.storage import write_tensors

DIGITS = data_sources({})["digits"]
SPLIT = {"oracle": 500, "validation": 200, "test": 297, "seed": 0}


def test_digits_are_split_into_disjoint_parts_of_all_images():
    tensors, _, record = prepare("digits", DIGITS, SPLIT)
    images = torch.cat([tensors[f"{name}_samples"] for name in SPLITS])
    assert images.shape == (1797, 8, 8)
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (0, 1)
    from sklearn.datasets import load_digits

    whole = torch.tensor(load_digits().images, dtype=torch.float32).flatten(1) / 16
    rows = sorted(map(tuple, images.flatten(1).tolist()))
    assert rows == sorted(map(tuple, whole.tolist()))
    assert record["split"] == {"oracle": 500, "train": 800, "validation": 200, "test": 297}
    assert record["classes"] == 10
    for name in SPLITS:
        assert len(tensors[f"{name}_labels"].unique()) == 10


def test_the_split_depends_on_its_seed_alone():
    first, *_ = prepare("digits", DIGITS, SPLIT)
    again, *_ = prepare("digits", DIGITS, SPLIT)
    other, *_ = prepare("digits", DIGITS, SPLIT | {"seed": 1})
    assert torch.equal(first["train_samples"], again["train_samples"])
    assert not torch.equal(first["train_samples"], other["train_samples"])


def test_wrong_requests_are_refused_in_a_sentence():
    with pytest.raises(InputError, match=r"no sample for training.*lower oracle"):
        prepare("digits", DIGITS, SPLIT | {"oracle": 1300})


@pytest.fixture
def idx_set(tmp_path, monkeypatch):
    """A set of two parts, 30 and 10 images, in files that are found through the environment."""
    monkeypatch.setenv("KAHLERVAE_DATA", str(tmp_path))
    (tmp_path / "tiny").mkdir()
    values, parts = np.random.default_rng(0), {}
    for part, count in {"train": 30, "test": 10}.items():
        parts[part] = {"count": count}
        arrays = {
            "images": values.integers(0, 256, (count, 3, 4), dtype=np.uint8),
            "labels": np.arange(count, dtype=np.uint8) % 5,
        }
        for kind, array in arrays.items():
            name = f"{part}-{kind}.gz"
            header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            content = gzip.compress(header + array.tobytes())
            (tmp_path / "tiny" / name).write_bytes(content)
            parts[part][kind] = {"name": name, "sha256": hashlib.sha256(content).hexdigest()}
    return {
        "kind": "idx",
        "image_shape": [3, 4],
        "classes": 5,
        "licence": "CC0",
        "citation": "nobody",
        "files": parts,
    }


def test_idx_files_of_a_user_are_split_without_code(idx_set):
    assert data_sources({"registry": {"tiny": idx_set}})["tiny"] == idx_set
    tensors, _, record = prepare(
        "tiny", idx_set, {"oracle": 8, "validation": 8, "test": 8, "seed": 0}
    )
    images = torch.cat([tensors[f"{name}_samples"] for name in SPLITS])
    assert images.shape == (40, 3, 4)
    assert len(images.flatten(1).unique(dim=0)) == 40
    assert 0 <= images.min() < 0.05 < 0.95 < images.max() <= 1
    torch.testing.assert_close(255 * images, (255 * images).round())
    labels = torch.cat([tensors[f"{name}_labels"] for name in SPLITS])
    assert labels.bincount().tolist() == [8] * 5
    assert record["licence"] == "CC0"
    assert record["split"]["train"] == 16


def test_idx_files_lie_in_the_folder_of_the_entry(idx_set, tmp_path):
    split = {"oracle": 8, "validation": 8, "test": 8, "seed": 0}
    expected, *_ = prepare("tiny", idx_set, split)
    (tmp_path / "tiny").rename(tmp_path / "shared")
    source = data_sources({"registry": {"tiny": idx_set | {"folder": "shared"}}})["tiny"]
    tensors, *_ = prepare("tiny", source, split)
    assert torch.equal(tensors["train_samples"], expected["train_samples"])
    with pytest.raises(InputError, match="tiny lacks 4 of its files"):
        prepare("tiny", idx_set, split)


def test_an_entry_like_another_reads_its_files(monkeypatch, tmp_path):
    monkeypatch.setenv("KAHLERVAE_DATA", str(tmp_path))
    source = data_sources({"registry": {"mine": {"like": "mnist"}}})["mine"]
    with pytest.raises(InputError, match=f"into {tmp_path / 'mnist'}"):
        prepare("mine", source | {"addresses": []}, SPLIT)


def test_labels_beyond_the_classes_are_refused(idx_set):
    with pytest.raises(InputError, match="class 4, but its classes are said to be 0 to 2"):
        prepare("tiny", idx_set | {"classes": 3}, SPLIT)


def test_mnist():
    """The original files, where they lie."""
    folder = Path(os.environ.get("KAHLERVAE_DATA", "../shared/data").split(os.pathsep)[-1])
    if not (folder / "mnist").is_dir():
        pytest.skip(f"the MNIST files are not in {folder / 'mnist'}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAHLERVAE_DATA", str(folder))
        split = {"oracle": 10000, "validation": 2000, "test": 5000, "seed": 0}
        tensors, _, record = prepare("mnist", data_sources({})["mnist"], split)
    assert record["split"]["train"] == 53000
    assert record["shape"] == [28, 28]
    assert tensors["test_samples"].shape == (5000, 28, 28)
    assert record["range"] == [0, 1]
    # The mean that everybody normalises with is that of the 60,000 training images alone.
    assert tensors["train_samples"].mean().item() == pytest.approx(0.131, abs=0.001)
    counts = sum(tensors[f"{name}_labels"].bincount() for name in SPLITS)
    assert counts.tolist() == [6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958]


def test_loading_checks_the_file(tmp_path):
    path = tmp_path / "data.safetensors"
    images, labels = torch.zeros(2, 8, 8), torch.zeros(2, dtype=torch.int64)
    write_tensors(path, {"train_samples": images, "train_labels": labels})
    assert torch.equal(load_split(path, "train").samples, images)
    with pytest.raises(InputError, match="holds no split 'test'"):
        load_split(path, "test")
    write_tensors(path, {"train_samples": images / 0, "train_labels": labels})
    with pytest.raises(InputError, match="not finite"):
        load_split(path, "train")
    write_tensors(path, {"train_samples": images, "train_labels": labels}, {"dataset": "digits"})
    assert load_split(path, "train", "digits").samples.shape == images.shape
    with pytest.raises(InputError, match="holds samples of digits: pass those of mnist"):
        load_split(path, "train", "mnist")


SHAPES = {
    "pixels": [(7,), (4, 6), (5, 7), (3, 4, 3), (2, 3, 4, 2)],
    "kspace": [(4, 6), (5, 4), (5, 7), (8, 8)],
    "native": [(7,), (4, 6), (3, 4, 2)],
    "stft": [(480,), (500,)],
}


@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, shape) for name in REPRESENTATIONS for shape in SHAPES[name]],
    ids=str,
)
def test_representations_are_isometries(name, shape):
    """Onto all vectors, but for one real number where k-space has an odd number of pixels.

    A short-time Fourier transform has more numbers than the recording, and is onto its own image.
    """
    stream = torch.Generator().manual_seed(0)
    stft = {"window": 64, "hop": 16, "lowest": 0, "highest": 32} if name == "stft" else None
    form = Form(shape, name == "native", False, stft)
    dtype = torch.complex128 if form.is_complex else torch.float64
    samples = torch.randn(3, *shape, generator=stream, dtype=dtype)
    representation = represent(name, form)
    x = representation.encode(samples)
    assert x.shape == (3, representation.dimension)
    assert x.is_complex() == representation.is_complex == (name in COMPLEX_DATA)
    assert representation.observe(x).is_complex() == representation.observes_complex
    torch.testing.assert_close(representation.decode(x), samples)
    distance = (x[0] - x[1]).abs().square().sum()
    torch.testing.assert_close(distance, (samples[0] - samples[1]).abs().square().sum())
    if name == "stft":
        return
    other = torch.randn(3, x.shape[1], generator=stream, dtype=x.dtype)
    again = representation.encode(representation.decode(other))
    alone = name == "kspace" and shape[0] * shape[1] % 2
    torch.testing.assert_close(again[:, : -1 if alone else None], other[:, : -1 if alone else None])
    torch.testing.assert_close(again.real, other.real)


@pytest.mark.parametrize(
    ("name", "form", "sentence"),
    [
        ("pixels", Form((8,), True, False), "pixels are real and these samples are complex"),
        ("native", Form((8,)), "native is for complex samples and these are real"),
        (
            "kspace",
            Form((8, 8, 3)),
            r"these are real of shape \(8, 8, 3\): use pixels",
        ),
        ("kspace", Form((8, 8), True, False), "these are complex .* use native"),
        ("stft", Form((800,)), "whose data set has a block `stft`"),
        ("waves", Form((8,)), "'waves' is unknown: choose one of pixels, kspace, native, stft"),
    ],
)
def test_representations_that_do_not_fit_are_refused(name, form, sentence):
    with pytest.raises(InputError, match=sentence):
        represent(name, form)


def test_kspace_is_half_of_the_orthonormal_fourier_transform():
    images = torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = represent("kspace", Form((4, 6))).encode(images)
    n, m = torch.arange(4.0).double(), torch.arange(6.0).double()
    for index, (u, v) in {0: (0, 1), 1: (0, 2), 2: (1, 0), -1: (0, 0)}.items():
        wave = torch.exp(-2j * torch.pi * (u * n[:, None] / 4 + v * m / 6)) / 24**0.5
        coefficient = (images * wave).sum((1, 2))
        if index == -1:  # real, and beside it the one of the highest vertical frequency
            assert x[:, -2].real.tolist() == pytest.approx(coefficient.real.tolist())
        else:
            torch.testing.assert_close(x[:, index], 2**0.5 * coefficient)
