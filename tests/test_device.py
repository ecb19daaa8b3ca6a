"""Where tensors are computed: the choice of a device, and tensors that follow the model to it."""

import pytest
import torch

from kahlervae.device import resolve_device
from kahlervae.errors import InputError
from kahlervae.models import ComplexGaussian, ComplexPosterior, RealGaussian, RealPosterior
from kahlervae.sample import Prior, Truncated
from kahlervae.seeding import generator, standard_normal

META = torch.device("meta")


@pytest.mark.parametrize(
    ("name", "gpu", "device"),
    [
        ("cpu", False, "cpu"),
        ("cpu", True, "cpu"),
        ("auto", False, "cpu"),
        ("auto", True, "cuda"),
        ("cuda", True, "cuda"),
    ],
)
def test_device_by_name(monkeypatch, name, gpu, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert resolve_device(name) == torch.device(device)


def test_gpu_that_is_not_there_and_unknown_names_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="torch finds no GPU that it can use: choose device: cpu"):
        resolve_device("cuda")
    with pytest.raises(InputError, match="'tpu' is unknown: choose one of auto, cpu, cuda"):
        resolve_device("tpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_numbers_are_drawn_as_on_the_cpu_and_moved(dtype):
    like = torch.zeros(3, 4, dtype=dtype)
    drawn = standard_normal(like, generator(0, "test"))
    assert torch.equal(drawn, torch.randn(3, 4, dtype=dtype, generator=generator(0, "test")))
    stream = generator(0, "test")
    moved = standard_normal(like.to(META), stream)
    assert (moved.device, moved.dtype, moved.shape) == (META, dtype, like.shape)
    # The stream has moved on as if the numbers were used here.
    after = generator(0, "test")
    standard_normal(like, after)
    assert torch.equal(stream.get_state(), after.get_state())


def test_draws_are_on_the_device_of_the_model():
    real, log_var = torch.zeros(2, 4, device=META), torch.zeros(2, 4, device=META)
    complex_mean = torch.zeros(2, 4, dtype=torch.complex64, device=META)
    for distribution in (
        RealGaussian(real, log_var),
        ComplexGaussian(complex_mean, log_var),
        RealPosterior(real, log_var),
        ComplexPosterior(complex_mean, log_var),
    ):
        assert distribution.sample(generator(0)).device == META


def test_samplers_draw_to_their_device():
    for sampler in (Prior(2, device=META), Truncated(2, 0.5, device=META)):
        assert sampler.sample(3, generator(0)).latents.device == META
    assert Prior(2).sample(3, generator(0)).latents.device == torch.device("cpu")
