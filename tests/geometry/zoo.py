"""Layers and functions that people build decoders of, each inside a small smooth network."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, Normal
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

HIDDEN = 8


@dataclass(frozen=True)
class Layer:
    """One entry of the zoo.

    Attributes:
        shape: of the features that it takes, without the batch.
        make: builds it; its parameters are drawn from torch's global stream.
    """

    shape: tuple[int, ...]
    make: Callable[[], nn.Module]


class Function(nn.Module):
    """A function of features as a module."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x)


class Applied(nn.Module):
    """A function of a module and of features, as ``lambda m, x: m(x, x)``."""

    def __init__(self, module: nn.Module, f: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.module = module
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return self.f(self.module, x)


class Decoder(nn.Module):
    """C^d → tanh network → layers, with linear maps before each → parameters of a distribution.

    Args:
        layers: entries of the zoo.
        latent_dim: d.
        outputs: as many real numbers as the head takes.
        head: real numbers (n, outputs) to a distribution.
        seed: of all parameters.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        latent_dim: int = 2,
        outputs: int = 12,
        head: Callable[[Tensor], object] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            self.first = nn.Sequential(linear(2 * latent_dim, HIDDEN), nn.Tanh()).double()
            self.maps, self.layers = nn.ModuleList(), nn.ModuleList()
            self.shapes: list[tuple[int, ...]] = []
            probe = torch.randn(64, latent_dim, dtype=torch.complex128)
            for layer in layers:
                self.maps.append(standardised(self.features(probe), math.prod(layer.shape)))
                self.layers.append(layer.make().double().eval())
                self.shapes.append(layer.shape)
            self.last = standardised(self.features(probe), outputs)
        self.head = gaussian if head is None else head

    def features(self, z: Tensor) -> Tensor:
        x = self.first(torch.cat([z.real, z.imag], dim=-1))
        for linear, layer, shape in zip(self.maps, self.layers, self.shapes, strict=True):
            y = layer(linear(x).unflatten(-1, shape)).flatten(1)
            x = (torch.cat([y.real, y.imag], dim=-1) if y.is_complex() else y).to(x.dtype)
        return x

    def forward(self, z: Tensor) -> object:
        return self.head(self.last(self.features(z)))


def gaussian(x: Tensor) -> Distribution:
    """A normal distribution of images of shape (2, 3)."""
    mean, log_var = x.unflatten(-1, (-1, 2, 3)).unbind(1)
    return Normal(mean, torch.exp(0.3 * log_var))


def standardised(features: Tensor, outputs: int) -> nn.Linear:
    """A linear map of features to ones of unit size: all metrics and steps are alike then."""
    layer = linear(features.shape[1], outputs).double()
    layer.weight /= features.std(0).clamp(min=0.1)
    layer.bias -= layer.weight @ features.mean(0)
    return layer


def linear(inputs: int, outputs: int) -> nn.Linear:
    """With weights that keep the size of features."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    nn.init.normal_(layer.bias, std=0.5)
    return layer


def randomised(module: nn.Module) -> nn.Module:
    """With parameters and running statistics that are not those of a start."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, mean=0.8, std=0.3)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.3)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return module


NUMBERS = torch.randn(160, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def constant(*shape: int) -> Tensor:
    """The first of fixed numbers: random ones may not be drawn within a decoder."""
    return NUMBERS[: math.prod(shape)].reshape(shape)


def function(shape: tuple[int, ...], f: Callable[[Tensor], Tensor]) -> Layer:
    return Layer(shape, lambda: Function(f))


def applied(
    shape: tuple[int, ...], make: Callable[[], nn.Module], f: Callable[..., Tensor]
) -> Layer:
    return Layer(shape, lambda: Applied(make(), f))


def well_conditioned(x: Tensor) -> Tensor:
    """Matrices (n, 3, 3) with singular values apart from each other and from zero."""
    return torch.diag(torch.tensor([1.5, 2.5, 4.0], dtype=x.dtype)) + 0.3 * x


def positive(x: Tensor) -> Tensor:
    """Symmetric positive definite matrices (n, 3, 3) with eigenvalues apart from each other."""
    return well_conditioned(x) @ well_conditioned(x).mT


def hermitian(x: Tensor) -> Tensor:
    """Hermitian positive definite matrices (n, 3, 3)."""
    a = torch.complex(well_conditioned(x), 0.3 * x.flip(-1))
    return a @ a.mH


def as_complex(x: Tensor) -> Tensor:
    """(n, 2k) features as (n, k) complex ones."""
    return torch.complex(*x.chunk(2, dim=-1))


def in_place(x: Tensor) -> Tensor:
    y = x.clone()
    y.mul_(x).add_(1.0)
    y[:, 0] = x[:, 1].sin()
    y[:, 2:4] *= x[:, :2]
    return y.sigmoid_()


def masked_assignment(x: Tensor) -> Tensor:
    y = x.clone()
    y[x > 0] = 2 * x[x > 0].square()
    return y


def loop_over_rows(x: Tensor) -> Tensor:
    return torch.stack([row.sin() * row.sum() for row in x])


def runge_kutta(x: Tensor) -> Tensor:
    weight = constant(8, 8).to(x.dtype) / 4
    for _ in range(4):
        k1 = torch.tanh(x @ weight)
        k2 = torch.tanh((x + 0.25 * k1) @ weight)
        x = x + 0.25 * k2
    return x


def gradient_inside(x: Tensor) -> Tensor:
    """The gradient of an energy, as in an energy-based or Hamiltonian decoder."""
    return torch.func.grad(lambda x: (x.sin() * x.square()).sum())(x)


def vmap_inside(x: Tensor) -> Tensor:
    return torch.func.vmap(lambda row: torch.tanh(row.outer(row)).sum(0))(x)


def spline(x: Tensor) -> Tensor:
    """A smooth piecewise function by search and gathering, as in a flow."""
    knots = torch.linspace(-8, 8, 5, dtype=x.dtype)
    values, slopes = torch.sin(knots), torch.cos(knots)
    i = torch.bucketize(x.detach().contiguous(), knots).clamp(1, 4) - 1
    t = x - knots[i]
    return values[i] + slopes[i] * t - values[i] * t.square() / 2


def sinusoidal(x: Tensor) -> Tensor:
    """Positional encoding of a neural field."""
    angles = x.unsqueeze(-1) * torch.tensor([0.5, 1.0, 2.0], dtype=x.dtype)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def squeeze_excitation(x: Tensor) -> Tensor:
    gate = torch.sigmoid(x.mean((2, 3)) @ constant(2, 2).to(x.dtype))
    return x * gate[:, :, None, None]


def rotary(x: Tensor) -> Tensor:
    angle = torch.arange(4, dtype=x.dtype).unsqueeze(-1)
    turned = torch.view_as_complex(x.unflatten(-1, (2, 2)).contiguous()) * torch.polar(
        torch.ones_like(angle), angle
    )
    scores = torch.softmax((turned @ turned.mH).real, dim=-1)
    return scores @ x


class NoForwardMode(torch.autograd.Function):
    """exp by a function that has a backward only, in the old style."""

    @staticmethod
    def forward(ctx, x):
        result = x.exp()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx, grad):
        (result,) = ctx.saved_tensors
        return grad * result


class SetupContext(torch.autograd.Function):
    """The same in the new style, without a forward mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.exp()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, grad):
        (result,) = ctx.saved_tensors
        return grad * result


class BothModes(SetupContext):
    """The same in the new style, with a forward mode."""

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def jvp(ctx, tangent):
        return tangent * ctx.saved_tensors[0]


class WrongForwardMode(BothModes):
    """A mistake of its author: the derivative of the forward mode is half of what is right."""

    @staticmethod
    def jvp(ctx, tangent):
        return 0.5 * tangent * ctx.saved_tensors[0]


class WrongBackward(BothModes):
    """The same mistake in the other mode."""

    @staticmethod
    def backward(ctx, grad):
        return 0.5 * grad * ctx.saved_tensors[0]


def scripted(module: nn.Module) -> nn.Module:
    return torch.jit.script(module.double().eval())


def traced(module: nn.Module, *shape: int) -> nn.Module:
    return torch.jit.trace(module.double().eval(), torch.zeros(1, *shape, dtype=torch.float64))


FLAT, CHANNELS, IMAGE, VOLUME = (8,), (4, 4), (2, 3, 3), (2, 2, 2, 2)
SEQUENCE = (4, 4)
MATRIX = (3, 3)

DENSE = {
    "identity": Layer(FLAT, nn.Identity),
    "linear": Layer(FLAT, partial(linear, 8, 5)),
    "bilinear": applied(FLAT, lambda: nn.Bilinear(8, 8, 6), lambda m, x: m(x, x.sin())),
    "einsum": function(CHANNELS, lambda x: torch.einsum("nij,nkj,njl->nikl", x, x, x)),
    "tensordot": function(
        CHANNELS, lambda x: torch.tensordot(x, constant(4, 4, 2).to(x), dims=([1, 2], [0, 1]))
    ),
    "bmm": function(CHANNELS, lambda x: torch.bmm(x, x.mT)),
    "baddbmm": function(CHANNELS, lambda x: torch.baddbmm(x, x, x, beta=0.5)),
    "outer product": function(FLAT, lambda x: x.unsqueeze(-1) * x.unsqueeze(-2)),
    "embedding by matrix": function(
        FLAT, lambda x: torch.softmax(x, -1) @ constant(8, 5).to(x.dtype)
    ),
    "embedding of nearest index": applied(
        FLAT, lambda: nn.Embedding(8, 8), lambda m, x: x.sin() + m(x.argmax(-1))
    ),
    "embedding bag": applied(
        FLAT,
        lambda: nn.EmbeddingBag(8, 8, mode="sum"),
        lambda m, x: m(torch.arange(8).expand(len(x), -1), per_sample_weights=x.sin()),
    ),
    "residual": applied(FLAT, lambda: linear(8, 8), lambda m, x: x + torch.tanh(m(x))),
    "weight norm": Layer(FLAT, lambda: parametrizations.weight_norm(linear(8, 5))),
    "spectral norm": Layer(FLAT, lambda: parametrizations.spectral_norm(linear(8, 5))),
    "orthogonal": Layer(FLAT, lambda: parametrizations.orthogonal(nn.Linear(8, 8))),
    "dropout": Layer(FLAT, nn.Dropout),
    "feature-wise affine": function(FLAT, lambda x: x[:, :4] * (1 + x[:, 4:].tanh())),
    "mixture of experts": function(
        FLAT,
        lambda x: torch.einsum(
            "ne,nek->nk", x[:, :4].softmax(-1), (x @ constant(4, 8, 3).to(x.dtype)).movedim(0, 1)
        ),
    ),
}

CONVOLUTIONS = {
    "conv1d": Layer(CHANNELS, lambda: nn.Conv1d(4, 3, 3, padding=1)),
    "conv1d circular": Layer(
        CHANNELS, lambda: nn.Conv1d(4, 3, 3, padding=1, padding_mode="circular")
    ),
    "conv1d dilated": Layer(CHANNELS, lambda: nn.Conv1d(4, 3, 2, dilation=2, stride=2)),
    "conv2d": Layer(IMAGE, lambda: nn.Conv2d(2, 3, 2)),
    "conv2d depthwise": Layer(IMAGE, lambda: nn.Conv2d(2, 4, 3, padding="same", groups=2)),
    "conv2d reflect": Layer(IMAGE, lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")),
    "conv3d": Layer(VOLUME, lambda: nn.Conv3d(2, 3, 2)),
    "transposed conv1d": Layer(CHANNELS, lambda: nn.ConvTranspose1d(4, 2, 3, stride=2)),
    "transposed conv2d": Layer(
        IMAGE, lambda: nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1, output_padding=1)
    ),
    "transposed conv3d": Layer(VOLUME, lambda: nn.ConvTranspose3d(2, 1, 2)),
    "conv2d of feature weights": function(
        IMAGE, lambda x: F.conv2d(x, constant(3, 2, 2, 2).to(x.dtype), padding=1)
    ),
}

NORMS = {
    "batch norm 1d": Layer(FLAT, lambda: randomised(nn.BatchNorm1d(8))),
    "batch norm 1d of channels": Layer(CHANNELS, lambda: randomised(nn.BatchNorm1d(4))),
    "batch norm 2d": Layer(IMAGE, lambda: randomised(nn.BatchNorm2d(2))),
    "batch norm 3d": Layer(VOLUME, lambda: randomised(nn.BatchNorm3d(2))),
    "batch norm without affine": Layer(FLAT, lambda: randomised(nn.BatchNorm1d(8, affine=False))),
    "layer norm": Layer(FLAT, lambda: randomised(nn.LayerNorm(8))),
    "layer norm without affine": Layer(FLAT, lambda: nn.LayerNorm(8, elementwise_affine=False)),
    "layer norm without bias": Layer(FLAT, lambda: randomised(nn.LayerNorm(8, bias=False))),
    "layer norm of images": Layer(IMAGE, lambda: randomised(nn.LayerNorm([2, 3, 3]))),
    "functional layer norm": function(CHANNELS, lambda x: F.layer_norm(x, x.shape[-1:], eps=1e-2)),
    "torch.layer_norm": function(FLAT, lambda x: torch.layer_norm(x, [8])),
    "native_layer_norm": function(
        FLAT, lambda x: torch.native_layer_norm(x, [8], None, None, 1e-5)[0]
    ),
    "aten layer_norm": function(FLAT, lambda x: torch.ops.aten.layer_norm(x, [8])),
    "group norm": Layer(CHANNELS, lambda: randomised(nn.GroupNorm(2, 4))),
    "group norm of images": Layer(IMAGE, lambda: randomised(nn.GroupNorm(1, 2))),
    "instance norm 1d": Layer(CHANNELS, lambda: nn.InstanceNorm1d(4)),
    "instance norm 2d": Layer(IMAGE, lambda: randomised(nn.InstanceNorm2d(2, affine=True))),
    "instance norm 3d": Layer(VOLUME, lambda: nn.InstanceNorm3d(2)),
    "instance norm with statistics": Layer(
        CHANNELS,
        lambda: randomised(nn.InstanceNorm1d(4, affine=True, track_running_stats=True)),
    ),
    "instance norm 2d with statistics": Layer(
        IMAGE, lambda: randomised(nn.InstanceNorm2d(2, track_running_stats=True))
    ),
    "rms norm": Layer(FLAT, lambda: randomised(nn.RMSNorm(8))),
    "local response norm": Layer(CHANNELS, lambda: nn.LocalResponseNorm(2, alpha=0.5)),
    "standardised": function(
        FLAT, lambda x: (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)
    ),
    "normalize": function(FLAT, lambda x: F.normalize(x, dim=-1)),
    "vector norm": function(FLAT, lambda x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)),
    "norm of order 3": function(CHANNELS, lambda x: x.norm(p=3, dim=-1)),
    "pixel norm": function(
        IMAGE, lambda x: x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-4)
    ),
}

ACTIVATIONS = {
    name: Layer(FLAT, make)
    for name, make in {
        "celu": partial(nn.CELU, 0.7),
        "elu": nn.ELU,
        "gelu": nn.GELU,
        "gelu by tanh": partial(nn.GELU, "tanh"),
        "glu": nn.GLU,
        "hardshrink": nn.Hardshrink,
        "hardsigmoid": nn.Hardsigmoid,
        "hardswish": nn.Hardswish,
        "hardtanh": nn.Hardtanh,
        "leaky relu": nn.LeakyReLU,
        "log sigmoid": nn.LogSigmoid,
        "log softmax": partial(nn.LogSoftmax, -1),
        "mish": nn.Mish,
        "prelu": nn.PReLU,
        "prelu of channels": partial(nn.PReLU, 8),
        "relu": nn.ReLU,
        "relu6": nn.ReLU6,
        "rrelu": nn.RReLU,
        "selu": nn.SELU,
        "sigmoid": nn.Sigmoid,
        "silu": nn.SiLU,
        "silu in place": partial(nn.SiLU, inplace=True),
        "softmax": partial(nn.Softmax, -1),
        "softmin": partial(nn.Softmin, -1),
        "softplus": nn.Softplus,
        "softplus sharp": partial(nn.Softplus, 5, 30),
        "softshrink": partial(nn.Softshrink, 0.3),
        "softsign": nn.Softsign,
        "tanh": nn.Tanh,
        "tanhshrink": nn.Tanhshrink,
        "threshold": partial(nn.Threshold, 0.1, 0.2),
    }.items()
} | {
    "softmax of images": Layer(IMAGE, nn.Softmax2d),
    "glu of channels": Layer(CHANNELS, partial(nn.GLU, 1)),
    "swiglu": function(FLAT, lambda x: F.silu(x[:, :4]) * x[:, 4:]),
    "snake": function(FLAT, lambda x: x + x.sin().square()),
    "maxout": function(FLAT, lambda x: x.unflatten(-1, (4, 2)).amax(-1)),
}

POOLING = {
    "average pool 1d": Layer(CHANNELS, lambda: nn.AvgPool1d(2)),
    "average pool 2d": Layer(IMAGE, lambda: nn.AvgPool2d(2, 1)),
    "average pool 3d": Layer(VOLUME, lambda: nn.AvgPool3d(2)),
    "adaptive average pool 1d": Layer(CHANNELS, lambda: nn.AdaptiveAvgPool1d(3)),
    "adaptive average pool 2d": Layer(IMAGE, lambda: nn.AdaptiveAvgPool2d(2)),
    "adaptive average pool 3d": Layer((2, 3, 3, 3), lambda: nn.AdaptiveAvgPool3d(2)),
    "max pool 1d": Layer(CHANNELS, lambda: nn.MaxPool1d(2)),
    "max pool 2d": Layer(IMAGE, lambda: nn.MaxPool2d(2, 1)),
    "max pool 3d": Layer(VOLUME, lambda: nn.MaxPool3d((2, 1, 1))),
    "adaptive max pool 2d": Layer(IMAGE, lambda: nn.AdaptiveMaxPool2d(2)),
    "lp pool 1d": function(CHANNELS, lambda x: F.lp_pool1d(x.square() + 0.1, 3, 2)),
    "lp pool 2d": function(IMAGE, lambda x: F.lp_pool2d(x.square() + 0.1, 2, 2, 1)),
    "max unpool": function(
        CHANNELS, lambda x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), 2)
    ),
}

UPSAMPLING = {
    "nearest": Layer(IMAGE, lambda: nn.Upsample(scale_factor=2)),
    "nearest exact": Layer(IMAGE, lambda: nn.Upsample(5, mode="nearest-exact")),
    "linear upsampling": Layer(CHANNELS, lambda: nn.Upsample(7, mode="linear")),
    "bilinear upsampling": Layer(IMAGE, lambda: nn.Upsample(scale_factor=2, mode="bilinear")),
    "bilinear, corners aligned": Layer(
        IMAGE, lambda: nn.Upsample(5, mode="bilinear", align_corners=True)
    ),
    "bilinear, antialiased": function(
        IMAGE, lambda x: F.interpolate(x, 2, mode="bilinear", antialias=True)
    ),
    "bicubic": Layer(IMAGE, lambda: nn.Upsample(5, mode="bicubic")),
    "trilinear": Layer(VOLUME, lambda: nn.Upsample(3, mode="trilinear")),
    "pixel shuffle": Layer((4, 2, 2), lambda: nn.PixelShuffle(2)),
    "pixel unshuffle": Layer((1, 4, 2), lambda: nn.PixelUnshuffle(2)),
    "channel shuffle": Layer((4, 2, 2), lambda: nn.ChannelShuffle(2)),
    "grid_sample": function(
        IMAGE,
        lambda x: F.grid_sample(
            x, (0.3 * constant(1, 3, 3, 2)).to(x.dtype).expand(len(x), -1, -1, -1),
            align_corners=False,
        ),
    ),
    "affine warp": function(
        (6,),
        lambda x: F.grid_sample(
            constant(1, 1, 5, 5).to(x.dtype).expand(len(x), -1, -1, -1),
            F.affine_grid(0.05 * x.unflatten(1, (2, 3)), [len(x), 1, 3, 3], align_corners=False),
            align_corners=False,
        ),
    ),
}  # fmt: skip


def multihead(**options: bool) -> Callable[[nn.Module, Tensor], Tensor]:
    return lambda m, x: torch.cat([y for y in m(x, x, x, **options) if y is not None], dim=-1)


def attend(x: Tensor, **options: object) -> Tensor:
    q, k, v = x.unsqueeze(1), x.flip(-1).unsqueeze(1), x.sin().unsqueeze(1)
    return F.scaled_dot_product_attention(q, k, v, **options)


ATTENTION = {
    "scaled dot product attention": function(SEQUENCE, attend),
    "causal attention": function(SEQUENCE, partial(attend, is_causal=True)),
    "attention with a mask": function(
        SEQUENCE, lambda x: attend(x, attn_mask=constant(4, 4).to(x.dtype))
    ),
    "multi-head attention": applied(
        SEQUENCE, lambda: nn.MultiheadAttention(4, 2, batch_first=True), multihead()
    ),
    "multi-head attention without weights": applied(
        SEQUENCE,
        lambda: nn.MultiheadAttention(4, 2, batch_first=True),
        multihead(need_weights=False),
    ),
    "cross attention": applied(
        SEQUENCE,
        lambda: nn.MultiheadAttention(4, 2, batch_first=True),
        lambda m, x: m(constant(3, 4).to(x.dtype).expand(len(x), -1, -1), x, x)[0],
    ),
    "transformer encoder layer": Layer(
        SEQUENCE, lambda: nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
    ),
    "transformer encoder layer, norm first": Layer(
        SEQUENCE,
        lambda: nn.TransformerEncoderLayer(
            4, 2, 6, activation="gelu", batch_first=True, norm_first=True
        ),
    ),
    "transformer encoder": Layer(
        SEQUENCE,
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(4, 2, 6, activation="gelu", batch_first=True), 2
        ),
    ),
    "transformer decoder layer": applied(
        SEQUENCE,
        lambda: nn.TransformerDecoderLayer(4, 1, 6, activation="gelu", batch_first=True),
        lambda m, x: m(x, x.sin()),
    ),
    "rotary attention": function(SEQUENCE, rotary),
}

RECURRENT = {
    "gru": applied(SEQUENCE, lambda: nn.GRU(4, 3, batch_first=True), lambda m, x: m(x)[0]),
    "gru cell": applied(FLAT, lambda: nn.GRUCell(4, 4), lambda m, x: m(x[:, :4], x[:, 4:])),
    "lstm": applied(SEQUENCE, lambda: nn.LSTM(4, 3, batch_first=True), lambda m, x: m(x)[0]),
    "lstm, bidirectional": applied(
        SEQUENCE,
        lambda: nn.LSTM(4, 2, num_layers=2, bidirectional=True, batch_first=True),
        lambda m, x: m(x)[1][1].movedim(1, 0),
    ),
    "lstm cell": applied(
        FLAT, lambda: nn.LSTMCell(4, 4), lambda m, x: torch.cat(m(x[:, :4]), dim=-1)
    ),
    "rnn": applied(SEQUENCE, lambda: nn.RNN(4, 3, batch_first=True), lambda m, x: m(x)[0]),
}

FOURIER = {
    "fft": function(FLAT, torch.fft.fft),
    "fft2": function(IMAGE, lambda x: torch.fft.fft2(x).abs().square()),
    "ifft": function(FLAT, lambda x: torch.fft.ifft(as_complex(x))),
    "rfft": function(FLAT, lambda x: torch.fft.rfft(x).abs()),
    "irfft": function(FLAT, lambda x: torch.fft.irfft(as_complex(x))),
    "spectral convolution": function(
        FLAT,
        lambda x: torch.fft.irfft(torch.fft.rfft(x) * as_complex(constant(10).to(x.dtype)), n=8),
    ),
    "stft": function(
        FLAT,
        lambda x: torch.stft(
            x, 4, 2, window=torch.hann_window(4, dtype=x.dtype), return_complex=True
        ),
    ),
}

COMPLEX = {
    "modulus": function(FLAT, lambda x: as_complex(x).abs()),
    "angle": function(FLAT, lambda x: (as_complex(x) + 4).angle()),
    "polar": function(FLAT, lambda x: torch.polar(x[:, :4].exp(), x[:, 4:])),
    "polar of a negative modulus": function(FLAT, lambda x: torch.polar(x[:, :4], x[:, 4:])),
    "conj": function(FLAT, lambda x: as_complex(x).conj() * as_complex(x).exp()),
    "imag of conj": function(FLAT, lambda x: as_complex(x).conj().imag),
    "imag of conj, twice": function(FLAT, lambda x: as_complex(x).conj().imag.sin().exp()),
    "real view": function(FLAT, lambda x: torch.view_as_real(as_complex(x).exp())),
    "real view of a conj": function(
        FLAT, lambda x: torch.view_as_real(as_complex(x).conj().resolve_conj())
    ),
    "complex view": function(FLAT, lambda x: torch.view_as_complex(x.unflatten(-1, (4, 2))).sin()),
    "adjoint": function(SEQUENCE, lambda x: as_complex(x) @ as_complex(x).mH),
    "sgn": function(FLAT, lambda x: torch.sgn(as_complex(x) + 2)),
    "complex tanh": function(FLAT, lambda x: torch.tanh(0.5 * as_complex(x))),
    "complex square root": function(FLAT, lambda x: torch.sqrt(as_complex(x) + 3)),
    "modrelu": function(
        FLAT, lambda x: as_complex(x) * F.softplus(as_complex(x).abs()) / as_complex(x).abs()
    ),
    "cardioid": function(
        FLAT, lambda x: as_complex(x) * (1 + as_complex(x).real / as_complex(x).abs()) / 2
    ),
    "complex linear": applied(
        FLAT,
        lambda: nn.Linear(4, 3).to(torch.complex128),
        lambda m, x: m(as_complex(x).to(m.weight.dtype)).tanh(),
    ),
}

LINEAR_ALGEBRA = {
    name: function(MATRIX, f)
    for name, f in {
        "det": lambda x: torch.linalg.det(well_conditioned(x))[:, None] * x[:, 0],
        "torch.det": lambda x: torch.det(well_conditioned(x))[:, None] * x[:, 0],
        "method det": lambda x: well_conditioned(x).det()[:, None] * x[:, 0],
        "complex det": lambda x: torch.linalg.det(hermitian(x) + 1j * x)[:, None],
        "slogdet": lambda x: torch.linalg.slogdet(well_conditioned(x)).logabsdet[:, None] * x[:, 0],
        "logdet": lambda x: torch.logdet(well_conditioned(x))[:, None] * x[:, 0],
        "solve": lambda x: torch.linalg.solve(well_conditioned(x), x),
        "solve, vector": lambda x: torch.linalg.solve(well_conditioned(x), x[:, 0]),
        "solve from the right": lambda x: torch.linalg.solve(well_conditioned(x), x, left=False),
        "complex solve": lambda x: torch.linalg.solve(hermitian(x), x.to(hermitian(x).dtype)),
        "solve_ex": lambda x: torch.linalg.solve_ex(well_conditioned(x), x)[0],
        "inv": lambda x: torch.linalg.inv(well_conditioned(x)),
        "inv_ex": lambda x: torch.linalg.inv_ex(well_conditioned(x))[0],
        "method inverse": lambda x: well_conditioned(x).inverse(),
        "complex inv": lambda x: torch.linalg.inv(hermitian(x)),
        "cholesky": lambda x: torch.linalg.cholesky(positive(x)),
        "complex cholesky": lambda x: torch.linalg.cholesky(hermitian(x)),
        "torch.cholesky": lambda x: torch.cholesky(positive(x)),
        "cholesky_solve": lambda x: torch.cholesky_solve(x, torch.linalg.cholesky(positive(x))),
        "cholesky_inverse": lambda x: torch.cholesky_inverse(torch.linalg.cholesky(positive(x))),
        "solve_triangular": lambda x: torch.linalg.solve_triangular(
            well_conditioned(x).tril(), x, upper=False
        ),
        "lu": lambda x: torch.cat(torch.linalg.lu(well_conditioned(x))[1:], dim=-1),
        "lu_solve": lambda x: torch.linalg.lu_solve(
            *torch.linalg.lu_factor(well_conditioned(x)), x
        ),
        "qr": lambda x: torch.cat(torch.linalg.qr(well_conditioned(x)), dim=-1),
        "eigvalsh": lambda x: torch.linalg.eigvalsh(positive(x)),
        "eigh, a function": lambda x: spectral(positive(x), torch.log),
        "complex eigvalsh": lambda x: torch.linalg.eigvalsh(hermitian(x)),
        "eigvals": lambda x: torch.linalg.eigvals(well_conditioned(x)).abs().sort(-1).values,
        "svdvals": lambda x: torch.linalg.svdvals(well_conditioned(x)),
        "svd, a polar factor": lambda x: polar_factor(well_conditioned(x)),
        "pinv": lambda x: torch.linalg.pinv(well_conditioned(x)[:, :, :2]),
        "lstsq": lambda x: torch.linalg.lstsq(well_conditioned(x)[:, :, :2], x).solution,
        "matrix_exp": lambda x: torch.linalg.matrix_exp(0.5 * x),
        "matrix_power": lambda x: torch.linalg.matrix_power(x, 3),
        "matrix_power, inverse": lambda x: torch.linalg.matrix_power(well_conditioned(x), -2),
        "nuclear norm": lambda x: x[:, 0] * torch.linalg.matrix_norm(
            well_conditioned(x), "nuc"
        )[:, None],
        "spectral norm of features": lambda x: x[:, 0] * torch.linalg.matrix_norm(
            well_conditioned(x), 2
        )[:, None],
        "householder_product": lambda x: torch.linalg.householder_product(
            well_conditioned(x), x[:, 0].sigmoid()
        ),
        "cross": lambda x: torch.linalg.cross(x[:, 0], x[:, 1]),
        "trace": lambda x: torch.einsum("nii->n", x @ x)[:, None] * x[:, 0],
        "kron": lambda x: torch.einsum("nij,nkl->nikjl", x[:, :2, :2], x[:, 1:, 1:]),
    }.items()
}  # fmt: skip


def spectral(matrix: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """f of a symmetric matrix; it does not depend on the signs of the eigenvectors."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * f(values).unsqueeze(-2) @ vectors.mT


def polar_factor(matrix: Tensor) -> Tensor:
    u, _, v = torch.linalg.svd(matrix)
    return u @ v


DISTANCES = {
    "cosine similarity": function(
        FLAT, lambda x: F.cosine_similarity(x[:, None], constant(5, 8).to(x.dtype), dim=-1)
    ),
    "pairwise distance": function(FLAT, lambda x: F.pairwise_distance(x, x.flip(-1))[:, None] * x),
    "cdist": function(CHANNELS, lambda x: torch.cdist(x, constant(3, 4).to(x.dtype))),
    "cdist of order 1": function(
        CHANNELS, lambda x: torch.cdist(x[:, :2], constant(2, 4).to(x.dtype), p=1.0)
    ),
    "radial basis": function(
        FLAT, lambda x: (-(x[:, None] - constant(5, 8).to(x.dtype)).square().sum(-1) / 8).exp()
    ),
}

REDUCTIONS = {
    name: function(FLAT, f)
    for name, f in {
        "cumprod": lambda x: torch.cumprod(1 + x, -1),
        "cumsum": lambda x: torch.cumsum(x.sin(), -1),
        "cummax": lambda x: torch.cummax(x, -1).values,
        "logcumsumexp": lambda x: torch.logcumsumexp(x, -1),
        "logsumexp": lambda x: x * torch.logsumexp(x, -1, keepdim=True),
        "prod": lambda x: x * x[:, :3].prod(-1, keepdim=True),
        "std": lambda x: x.unflatten(-1, (2, 4)).std(-1),
        "var_mean": lambda x: torch.cat(torch.var_mean(x.unflatten(-1, (2, 4)), -1), -1),
        "median": lambda x: x.median(-1, keepdim=True).values * x,
        "sort": lambda x: x[:, :4].sort(-1).values,
        "topk": lambda x: x.topk(4, -1).values,
        "kthvalue": lambda x: x.kthvalue(3, -1, keepdim=True).values * x,
        "quantile": lambda x: x.quantile(0.3, dim=-1, keepdim=True) * x,
        "amax": lambda x: x.amax(-1, keepdim=True) * x,
        "aminmax": lambda x: torch.stack(torch.aminmax(x, dim=-1), -1),
        "trapezoid": lambda x: torch.cumulative_trapezoid(x.exp(), dim=-1),
        "diff": lambda x: x.square().diff(dim=-1),
    }.items()
}

INDEXING = {
    "reflection pad": Layer(IMAGE, lambda: nn.ReflectionPad2d(1)),
    "replication pad": Layer(CHANNELS, lambda: nn.ReplicationPad1d(2)),
    "replication pad 3d": Layer(VOLUME, lambda: nn.ReplicationPad3d(1)),
    "circular pad": function(CHANNELS, lambda x: F.pad(x, (1, 1), "circular")),
    "constant pad": Layer(IMAGE, lambda: nn.ConstantPad2d(1, 0.5)),
    "unfold": Layer(IMAGE, lambda: nn.Unfold(2)),
    "fold": function((4, 4), lambda x: F.fold(x, (3, 3), 2)),
    "sliding windows": function(FLAT, lambda x: x.unfold(1, 3, 2).prod(-1)),
    "gather": function(
        FLAT, lambda x: x.gather(1, torch.tensor([[1, 1, 5, 2]]).expand(len(x), -1))
    ),
    "gather where largest": function(FLAT, lambda x: x.gather(1, x.argsort(-1)[:, :3])),
    "index": function(FLAT, lambda x: x[:, [0, 3, 3, 1]] * x[..., ::2]),
    "index_select": function(FLAT, lambda x: x.index_select(1, torch.tensor([4, 4, 1]))),
    "index_add": function(FLAT, lambda x: x.index_add(1, torch.tensor([0, 0, 3]), x[:, 3:6].sin())),
    "scatter_add": function(
        FLAT,
        lambda x: x.exp().scatter_add(1, torch.tensor([[0, 0, 2, 5]]).expand(len(x), -1), x[:, 4:]),
    ),
    "scatter_reduce, prod": function(
        FLAT,
        lambda x: x.scatter_reduce(
            1, torch.tensor([[0, 0, 2, 5]]).expand(len(x), -1), x[:, 4:], "prod"
        ),
    ),
    "scatter_reduce, amax": function(
        FLAT,
        lambda x: x.scatter_reduce(
            1, torch.tensor([[0, 0, 2, 5]]).expand(len(x), -1), x[:, 4:], "amax"
        ),
    ),
    "index_reduce": function(
        FLAT, lambda x: x.index_reduce(1, torch.tensor([0, 0, 3]), x[:, 3:6], "prod")
    ),
    "where": function(FLAT, lambda x: torch.where(x > 0, x.square(), x.sin())),
    "masked_fill": function(FLAT, lambda x: x.square().masked_fill(x > 0.5, 1.0)),
    "clamp": function(FLAT, lambda x: x.clamp(-0.5, 1.0)),
    "tril": function(MATRIX, lambda x: x.tril() @ x.triu().mT),
    "diag_embed": function(MATRIX, lambda x: torch.diag_embed(x[:, 0].exp()) @ x),
    "roll and flip": function(FLAT, lambda x: x * x.roll(1, -1) * x.flip(-1)),
    "stack and split": function(FLAT, lambda x: torch.stack(x.split(2, dim=-1), dim=1).sin()),
    "expand": function(FLAT, lambda x: x[:, :, None].expand(-1, -1, 3) * x[:, None, :3]),
    "repeat_interleave": function(
        FLAT, lambda x: (0.3 * x.repeat_interleave(2, dim=-1).cumsum(-1)).sin()
    ),
    "as_strided": function(FLAT, lambda x: x.contiguous().as_strided((len(x), 4), (8, 2))),
}

ELEMENTWISE = {
    name: function(FLAT, f)
    for name, f in {
        "abs": torch.abs,
        "addcdiv": lambda x: torch.addcdiv(x, x.sin(), x.square() + 1),
        "atan2": lambda x: torch.atan2(x, x.flip(-1).square() + 1),
        "bessel": lambda x: torch.special.i0e(x) + torch.special.i1(x),
        "digamma": lambda x: torch.digamma(x.square() + 1),
        "erf": torch.erf,
        "erfinv": lambda x: torch.erfinv(x.tanh() / 2),
        "expm1": torch.expm1,
        "float_power": lambda x: torch.float_power(x.square() + 1, 1.3).to(x.dtype),
        "hypot": lambda x: torch.hypot(x, 1 + x.flip(-1)),
        "lerp": lambda x: torch.lerp(x, x.exp(), x.sigmoid()),
        "lgamma": lambda x: torch.lgamma(x.square() + 1),
        "log1p": lambda x: torch.log1p(x.square()),
        "log_ndtr": torch.special.log_ndtr,
        "logaddexp": lambda x: torch.logaddexp(x, x.flip(-1).sin()),
        "logit": lambda x: torch.logit(x.sigmoid() * 0.5),
        "maximum": lambda x: torch.maximum(x, x.flip(-1)),
        "ndtr": torch.special.ndtr,
        "ndtri": lambda x: torch.special.ndtri(x.sigmoid()),
        "pow": lambda x: x.pow(3) + (x.square() + 1).pow(1.5),
        "pow of pow": lambda x: (x.square() + 1) ** x.sin(),
        "remainder": lambda x: torch.remainder(x, 1.7),
        "rsqrt": lambda x: torch.rsqrt(x.square() + 1),
        "sinc": torch.sinc,
        "sinh": lambda x: torch.sinh(x) - torch.asinh(x),
        "xlogy": lambda x: torch.xlogy(x, x.square() + 1),
        "straight line": lambda x: 2 * x + 1,
    }.items()
}

CONTROL = {
    "in-place": function(FLAT, in_place),
    "masked assignment": function(FLAT, masked_assignment),
    "loop over rows": function(FLAT, loop_over_rows),
    "Runge-Kutta": function(FLAT, runge_kutta),
    "gradient inside": function(FLAT, gradient_inside),
    "vmap inside": function(FLAT, vmap_inside),
    "spline": function(FLAT, spline),
    "positional encoding": function(FLAT, sinusoidal),
    "squeeze and excitation": function(IMAGE, squeeze_excitation),
    "checkpoint": applied(
        FLAT,
        lambda: linear(8, 8),
        lambda m, x: checkpoint(lambda x: m(x).tanh(), x, use_reentrant=False),
    ),
    "checkpoint, reentrant": applied(
        FLAT,
        lambda: linear(8, 8),
        lambda m, x: checkpoint(lambda x: m(x).tanh(), x, use_reentrant=True),
    ),
    "scripted layer norm": Layer(
        FLAT, lambda: scripted(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.Tanh()))
    ),
    "scripted network": Layer(
        FLAT, lambda: scripted(nn.Sequential(nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 8)))
    ),
    "traced layer norm": Layer(FLAT, lambda: traced(nn.Sequential(nn.LayerNorm(8), nn.Tanh()), 8)),
    "traced network": Layer(FLAT, lambda: traced(nn.Sequential(nn.Linear(8, 8), nn.Tanh()), 8)),
    "function without forward mode": function(FLAT, lambda x: NoForwardMode.apply(0.5 * x)),
    "function with a context": function(FLAT, lambda x: SetupContext.apply(0.5 * x)),
    "function with both modes": function(FLAT, lambda x: BothModes.apply(0.5 * x)),
    "function with a wrong forward mode": function(
        FLAT, lambda x: WrongForwardMode.apply(0.5 * x)
    ),
    "function with a wrong backward": function(FLAT, lambda x: WrongBackward.apply(0.5 * x)),
    "numpy": function(FLAT, lambda x: torch.from_numpy(x.detach().numpy()).sin() + x),
}  # fmt: skip

ZOO: dict[str, Layer] = {
    **DENSE,
    **CONVOLUTIONS,
    **NORMS,
    **ACTIVATIONS,
    **POOLING,
    **UPSAMPLING,
    **ATTENTION,
    **RECURRENT,
    **FOURIER,
    **COMPLEX,
    **LINEAR_ALGEBRA,
    **DISTANCES,
    **REDUCTIONS,
    **INDEXING,
    **ELEMENTWISE,
    **CONTROL,
}
