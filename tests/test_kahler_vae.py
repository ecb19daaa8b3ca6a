"""The page on Kähler VAEs of one's own runs, and what it says is so."""

import re
from pathlib import Path

import torch

PAGE = Path(__file__).parents[1] / "docs/kahler_vae.md"


def test_a_plain_vae_becomes_kahler_by_its_decoder(capsys):
    first, second = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    scope: dict = {}
    exec(first, scope)
    exec(second, scope)
    said = capsys.readouterr().out
    assert "certified: True" in said
    assert scope["error"] < 1e-5
    assert scope["defect"] < 1e-4  # in single precision
    assert scope["ratio"] < 1 + 1e-3
    assert scope["drawn"].latents.shape == (200, 4)
    assert torch.isfinite(scope["drawn"].latents).all()
    assert scope["loss"] < 32  # nats; it starts near 50
