import torch

from kahlervae.seeding import generator


def draw(*arguments):
    return torch.randn(20_000, generator=generator(*arguments))


def test_streams_repeat_and_differ_by_seed_and_name():
    assert torch.equal(draw(0, "a", "b"), draw(0, "a", "b"))
    streams = [draw(0, "a"), draw(1, "a"), draw(0, "b"), draw(0, "a", "b"), draw(0)]
    correlation = torch.corrcoef(torch.stack(streams)) - torch.eye(5)
    assert correlation.abs().max() < 5 / 20_000**0.5
