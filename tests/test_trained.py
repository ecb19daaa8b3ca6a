"""Files that do not belong to a model are refused before a number is computed."""

import json

import pytest
import torch

from kahlervae.data.form import Form
from kahlervae.errors import InputError
from kahlervae.geometry import MixturePotential
from kahlervae.models import build_model, save_model
from kahlervae.storage import write_tensors
from kahlervae.train.potentials import POTENTIALS, save_potentials
from kahlervae.trained import Trained

IDENTITY = {"dataset": "mine", "representation": "pixels", "variant": "complex", "seed": 0}


def test_what_belongs_to_another_model_is_refused(tmp_path):
    model, data, potential = (tmp_path / f"{n}.safetensors" for n in ("model", "data", "potential"))
    save_model(model, build_model(IDENTITY, Form((4, 4)), "complex", 2, 3, 1))
    fitted = {name: MixturePotential.constant(torch.eye(2) + 0j) for name in POTENTIALS}
    for shape in ((4, 4), (16,), (4, 4, 3)):
        tensors = {f"{split}_samples": torch.rand(5, *shape) for split in ("train", "test")}
        write_tensors(data, tensors, {"form": json.dumps(Form(shape).dump())})
        trained = Trained(model, data)
        if shape == (4, 4):
            assert trained.samples("test").shape == (5, 4, 4)
            continue
        with pytest.raises(InputError, match=r"data\.safetensors holds other samples than .*model"):
            trained.samples("test")
    same = {"test_samples": torch.rand(5, 4, 4)}
    write_tensors(data, same, {"dataset": "other", "form": json.dumps(Form((4, 4)).dump())})
    with pytest.raises(InputError, match="holds samples of other: pass those of mine"):
        Trained(model, data).samples("test")
    save_potentials(potential, fitted, IDENTITY)
    assert set(Trained(model, potential=potential).potentials) == set(POTENTIALS)
    for change in ({"seed": 1}, {"variant": "kahler"}, {"dataset": "digits"}):
        save_potentials(potential, fitted, IDENTITY | change)
        with pytest.raises(InputError, match=r"not of mine/pixels/complex/0: pass those"):
            _ = Trained(model, potential=potential).potentials
