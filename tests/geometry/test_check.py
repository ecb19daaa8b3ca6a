import pytest
import torch
from geometry.decoders import DECODERS, points
from geometry.test_decoder import BAD, Cosine, normal, single
from torch import distributions as dist
from torch import nn

from kahlervae.errors import InputError
from kahlervae.geometry import check_decoder
from kahlervae.models.decoders import ComplexDecoder, HolomorphicDecoder, RealDecoder


def found(report, name):
    return next(check for check in report.checks if check.name == name)


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_right_passes(name):
    report = check_decoder(DECODERS[name](3), points(8, 3))
    assert report.passed, str(report)
    report.raise_if_failed()
    for looked in ("relative entropy", "first derivatives", "second derivatives"):
        assert found(report, looked).passed


@pytest.mark.parametrize("kind", [ComplexDecoder, HolomorphicDecoder, RealDecoder])
def test_decoders_of_ours_pass_in_single_precision(kind):
    torch.manual_seed(0)
    report = check_decoder(kind(12, 3, 8, 2), single(8, 3))
    assert report.passed, str(report)


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_fails_with_its_sentence(name):
    decoder, words = BAD[name]
    report = check_decoder(decoder, single())
    assert not report.passed
    with pytest.raises(InputError, match=words):
        report.raise_if_failed()


def test_latents_come_first():
    report = check_decoder(normal(nn.Linear(4, 3)), torch.ones(3, 2))
    assert [check.name for check in report.checks] == ["latents"]
    assert not check_decoder(normal(nn.Linear(4, 3)), single()[:0]).passed
    assert "not finite in 1 of 5" in str(check_decoder(None, spoiled(single())))


def spoiled(z):
    z[2, 1] = torch.nan
    return z


def test_batch_norm_in_training_mode_is_named_and_left_as_it_was():
    layers = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    report = check_decoder(normal(layers), single())
    assert "BatchNorm1d is in training mode" in str(report)
    assert layers[1].num_batches_tracked == 0


def test_a_derivative_that_is_not_the_decoders_own_is_found():
    class Wrong(ComplexDecoder):
        def pushforward(self, z, tangent):
            likelihood, change = super().pushforward(z, tangent)
            return likelihood, type(change)(1.1 * change.mean, change.log_var)

    torch.manual_seed(0)
    report = check_decoder(Wrong(12, 3, 8, 2), single(8, 3))
    assert found(report, "pushforward").passed is False


def test_a_derivative_that_torch_is_told_wrong_is_found():
    class Halved(torch.autograd.Function):
        generate_vmap_rule = True
        forward = staticmethod(lambda x: x.sin())

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx, gradient):
            return 0.5 * gradient * ctx.saved_tensors[0].cos()

        @staticmethod
        def jvp(ctx, tangent):
            return 0.5 * tangent * ctx.saved_tensors[0].cos()

    both = check_decoder(lambda z: dist.Normal(Halved.apply(z.real), 1.0), points(4, 2))
    assert not both.passed
    assert not check_decoder(lambda z: dist.Normal(Cosine.apply(z.real), 1.0), points(4, 2)).passed


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_kinks_are_told_and_are_no_fault(dtype):
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.LeakyReLU(), nn.Linear(32, 9)
    )
    layers = layers.to(dtype.to_real())
    report = check_decoder(normal(layers), points(8, 3).to(dtype))
    assert report.passed, str(report)
    assert found(report, "kinks").passed is None
    assert "32 of relu" in found(report, "kinks").detail


def test_unused_latents_are_told():
    report = check_decoder(lambda z: dist.Normal(z.real[:, :1], 1.0), points(8, 2))
    assert report.passed
    assert "singular at 8 of 8" in found(report, "rank").detail


def test_report_prints_one_line_for_each_check():
    report = check_decoder(DECODERS["real"](2), points(8, 2))
    assert len(str(report).splitlines()) == len(report.checks)
