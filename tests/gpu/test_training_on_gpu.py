"""Training on the GPU repeats itself bit for bit and follows the CPU but for rounding."""

import pytest
import torch
from train.test_loop import VARIANTS, run, same, splits

from kahlervae.models import load_model, save_model

pytestmark = pytest.mark.gpu

COMPARED = ["loss", "log_likelihood", "kl", "validation_elbo", "gradient_norm"]


@pytest.fixture
def on_gpu(cuda):
    return {name: split.to(cuda) for name, split in splits().items()}


def distance(first, second):
    """Between the parameters of two models, in units of their norm."""
    one, two = (
        torch.cat([torch.view_as_real(p + 0j).cpu().flatten() for p in model.parameters()])
        for model in (first, second)
    )
    return ((one - two).norm() / two.norm()).item()


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_repeats_itself_and_follows_the_cpu(variant, tmp_path, on_gpu):
    model, history = run(variant, tmp_path / "a", data=on_gpu)
    again, history_again = run(variant, tmp_path / "b", data=on_gpu)
    assert {p.device.type for p in model.parameters()} == {"cuda"}
    assert same(model, again), distance(model, again)
    assert history.equals(history_again)

    short, first = run(variant, tmp_path / "c", data=on_gpu, epochs=1)
    expected, first_expected = run(variant, tmp_path / "d", epochs=1)
    long, _ = run(variant, tmp_path / "e")
    assert distance(short, expected) < 1e-6
    assert distance(model, long) < 1e-6
    for column in COMPARED:
        assert first[column].item() == pytest.approx(first_expected[column].item(), rel=1e-5)


@pytest.mark.parametrize("variant", ["complex", "kahler"])
def test_an_interrupted_run_resumes_to_the_same_bits(variant, tmp_path, on_gpu, monkeypatch):
    undisturbed, history = run(variant, tmp_path / "a", data=on_gpu)
    from kahlervae.train.loop import Progress

    def interrupt(self, rows):
        if rows[0]["epoch"] == 5:  # one epoch after the last checkpoint
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "report", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(variant, tmp_path / "b", data=on_gpu)
    resumed, resumed_history = run(variant, tmp_path / "b", data=on_gpu)
    assert same(undisturbed, resumed)
    assert history.equals(resumed_history)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_of_the_gpu_is_read_on_the_cpu(variant, tmp_path, on_gpu, cuda):
    model, _ = run(variant, tmp_path / "checkpoint", data=on_gpu, epochs=1)
    save_model(tmp_path / "model.safetensors", model)
    here = load_model(tmp_path / "model.safetensors")
    images = splits()["validation"].samples
    posterior, expected = here.encode(images), model.encode(images.to(cuda))
    torch.testing.assert_close(posterior.mean, expected.mean.cpu())
    decoded = here.decode(posterior.mean)
    torch.testing.assert_close(decoded, model.decode(posterior.mean.to(cuda)).cpu())
