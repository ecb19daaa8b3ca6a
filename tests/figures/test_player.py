"""A model of recordings is heard: what it says, and the page that plays it."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from kahlervae.data import Form
from kahlervae.errors import InputError
from kahlervae.evaluate.sounds import make_sounds
from kahlervae.figures.player import wav_bytes, write_player
from kahlervae.models import build_model
from kahlervae.storage import write_tensors

IDENTITY = {"dataset": "tones", "representation": "stft", "variant": "complex", "seed": 0}
STFT = {"window": 64, "hop": 32, "lowest": 1, "highest": 32}
SOUNDS = torch.randn(12, 800, generator=torch.Generator().manual_seed(0))
LATENTS = {
    key: torch.randn(9, 2, dtype=torch.complex64)
    for key in ("prior:default", "truncated:temperature=0.5", "truncated:temperature=0.7")
}


def make_model(form: Form, representation: str = "stft"):
    torch.manual_seed(0)
    identity = IDENTITY | {"representation": representation}
    return build_model(identity, form, "complex", 2, 8, 1, "diagonal").requires_grad_(False)


@pytest.fixture(scope="module")
def content():
    return make_sounds(make_model(Form((800,), False, False, STFT)), SOUNDS, LATENTS)


def test_sounds_are_of_recordings_reconstructions_lines_and_samples(content):
    names = {name.partition("/")[2] for name in content}
    lines = {f"line {k}" for k in (1, 2, 3)}
    assert names >= {"recordings", "reconstructions", "prior:default"} | lines
    assert len(names) == 7  # and one setting of the truncated prior
    assert content["sounds/line 1"].shape == (8, 800)
    assert torch.equal(content["sounds/recordings"], SOUNDS[:8])
    assert all(value.isfinite().all() for value in content.values())
    assert content["views/reconstructions"].shape == (8, 32, 26)


def test_what_is_said_has_the_power_that_is_seen():
    """A draw's power, in the mean over many, is that of mean and variance."""
    model = make_model(Form((800,), False, False, STFT | {"lowest": 0}))
    z = torch.zeros(200, 2, dtype=torch.complex64)
    likelihood = model.decoder(z)
    power = likelihood.mean.abs().square() + likelihood.log_var.exp()
    draws = likelihood.sample(torch.Generator().manual_seed(0))
    assert draws.abs().square().mean().item() == pytest.approx(power.mean().item(), rel=0.01)


def test_a_model_of_images_says_nothing():
    with pytest.raises(InputError, match="has no block `stft`: it cannot be heard"):
        make_sounds(make_model(Form((8, 8)), "pixels"), torch.rand(4, 8, 8), LATENTS)


def test_the_page_holds_its_sounds(content, tmp_path):
    write_tensors(tmp_path / "sounds.safetensors", content, IDENTITY)
    write_player(tmp_path / "sounds.safetensors", 8000, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "https:" not in page
    assert "http:" not in page
    titles = re.findall(r"<h2>(.*?) <", page)
    assert titles[:2] == ["test recordings", "their reconstructions, in the same order"]
    assert titles[2:5] == [f"line {k} between two of them" for k in (1, 2, 3)]
    assert titles[5].startswith("samples: prior")
    sounds = re.findall(r"data:audio/wav;base64,([^\"]+)", page)
    assert len(sounds) == sum(len(v) for k, v in content.items() if k.startswith("sounds/"))
    rate, values = wavfile.read(io.BytesIO(base64.b64decode(sounds[0])))
    assert (rate, values.dtype) == (8000, np.int16)
    correlation = np.corrcoef(values, SOUNDS[0])[0, 1]
    assert correlation > 0.999
    again = tmp_path / "again.html"
    write_player(tmp_path / "sounds.safetensors", 8000, again)
    assert again.read_text() == page


def test_silence_stays_silent():
    _, values = wavfile.read(io.BytesIO(wav_bytes(np.zeros(100), 8000)))
    assert (values == 0).all()


def test_a_file_without_sounds_is_refused(tmp_path):
    write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)}, IDENTITY)
    with pytest.raises(InputError, match="holds no sounds"):
        write_player(tmp_path / "a.safetensors", 8000, tmp_path / "page.html")
