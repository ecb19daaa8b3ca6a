import pytest
import torch

from kahlervae.data import SPLITS, load_split, prepare
from kahlervae.data.representations import REPRESENTATIONS
from kahlervae.errors import InputError
from kahlervae.storage import write_tensors

SPLIT = {"oracle": 500, "validation": 200, "test": 297, "seed": 0}


def test_digits_are_split_into_disjoint_parts_of_all_images():
    tensors, record = prepare("digits", SPLIT)
    images = torch.cat([tensors[f"{name}_images"] for name in SPLITS])
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
    first, _ = prepare("digits", SPLIT)
    again, _ = prepare("digits", SPLIT)
    other, _ = prepare("digits", SPLIT | {"seed": 1})
    assert torch.equal(first["train_images"], again["train_images"])
    assert not torch.equal(first["train_images"], other["train_images"])


def test_wrong_requests_are_refused_in_a_sentence():
    with pytest.raises(InputError, match="unknown data set 'letters': choose one of digits"):
        prepare("letters", SPLIT)
    with pytest.raises(InputError, match=r"no image for training.*lower oracle"):
        prepare("digits", SPLIT | {"oracle": 1300})


def test_loading_checks_the_file(tmp_path):
    path = tmp_path / "data.safetensors"
    images, labels = torch.zeros(2, 8, 8), torch.zeros(2, dtype=torch.int64)
    write_tensors(path, {"train_images": images, "train_labels": labels})
    assert torch.equal(load_split(path, "train").images, images)
    with pytest.raises(InputError, match="holds no split 'test'"):
        load_split(path, "test")
    write_tensors(path, {"train_images": images / 0, "train_labels": labels})
    with pytest.raises(InputError, match="not finite"):
        load_split(path, "train")


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_representations_are_bijections(name):
    images = torch.rand(3, 4, 6)
    representation = REPRESENTATIONS[name]
    assert representation.encode(images).shape == (3, 24)
    decoded = representation.decode(representation.encode(images), (4, 6))
    torch.testing.assert_close(decoded, images)
