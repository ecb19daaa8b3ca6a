"""Anyone's decoder: a right number or one sentence, and nothing changed by asking."""

import pytest
import torch
from geometry.decoders import points
from torch import distributions as dist
from torch import nn
from torch.func import functional_call

from kahlervae.errors import InputError
from kahlervae.geometry import (
    closedness_defect,
    complexify,
    fisher_form,
    fisher_metric,
    fisher_norm,
    hermitian_defect,
    log_det,
    relative_entropy_metric,
    relative_error,
    ricci,
    scalar_curvature,
    to_complex,
    to_real,
)
from kahlervae.geometry.geodesic import christoffel, curve_energy, geodesics
from kahlervae.models import ComplexGaussian, RealGaussian
from kahlervae.models.decoders import ComplexDecoder


def reals(z):
    return torch.cat([z.real, z.imag], dim=-1)


def single(count=5, d=2):
    return points(count, d).to(torch.complex64)


def normal(layers):
    return lambda z: dist.Normal(layers(reals(z)), 1.0)


def test_layer_norm_has_the_second_derivatives_of_its_formula():
    """The numbers that a hand-written norm gives, and finite differences."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Linear(4, 32), nn.LayerNorm(32), nn.Tanh(), nn.Linear(32, 50)
    ).double()
    z = torch.randn(4, 2, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    defect = closedness_defect(lambda z: fisher_metric(normal(layers), z), z)
    expected = torch.tensor([0.2443, 0.5502, 0.7397, 0.5627], dtype=torch.float64)
    torch.testing.assert_close(defect, expected, atol=1e-4, rtol=0)


def test_one_log_variance_for_an_image_counts_for_all_its_entries():
    def decoder(z):
        return RealGaussian(torch.zeros(len(z), 100, dtype=torch.float64), z.real)

    metric = fisher_metric(decoder, points(3, 1))
    torch.testing.assert_close(metric, torch.full_like(metric, 12.5))
    torch.testing.assert_close(metric, relative_entropy_metric(decoder, points(3, 1)))


@pytest.mark.parametrize("shape", [(), (1,), (192,), (5, 1), (1, 192), (5, 192)])
def test_log_variance_is_broadcast(shape):
    weight, z = torch.randn(2, 192, generator=torch.Generator().manual_seed(0)), single()

    def decoder(z, shape=shape):
        rows = (len(z), *shape[1:]) if shape[:1] == (5,) else shape
        return RealGaussian(z.real @ weight, torch.full(rows, 0.3))

    expected = fisher_metric(
        lambda z: RealGaussian(z.real @ weight, torch.full((len(z), 192), 0.3)), z
    )
    torch.testing.assert_close(fisher_metric(decoder, z), expected)


def test_images_are_as_if_flattened():
    weight, z = torch.randn(2, 192, generator=torch.Generator().manual_seed(0)), single()
    flat = fisher_metric(lambda z: RealGaussian(z.real @ weight, (z.imag**2) @ weight), z)

    def decoder(z):
        shape = (3, 8, 8)
        return RealGaussian(
            (z.real @ weight).unflatten(1, shape), (z.imag**2 @ weight).unflatten(1, shape)
        )

    assert flat.shape == (5, 2, 2)
    torch.testing.assert_close(fisher_metric(decoder, z), flat)
    torch.testing.assert_close(relative_entropy_metric(decoder, z), flat, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "view",
    [
        lambda z: z.conj(),
        lambda z: z.mH.mT,
        lambda z: torch.view_as_complex(torch.view_as_real(z).neg()),
        lambda z: torch.stack([z, z], dim=-1)[..., 0],
        lambda z: z[:1].expand(5, -1),
        lambda z: z.mT.contiguous().mT,
        lambda z: torch.zeros(5, 4, dtype=z.dtype)[:, ::2] + z,
    ],
)
def test_lazy_views_have_the_value_of_what_they_stand_for(view):
    z, decoder = view(points(5, 2)), normal(nn.Linear(4, 3).double())
    plain = torch.tensor(z.tolist(), dtype=z.dtype)
    torch.testing.assert_close(fisher_metric(decoder, z), fisher_metric(decoder, plain))
    torch.testing.assert_close(
        closedness_defect(lambda z: fisher_metric(decoder, z**2), z),
        closedness_defect(lambda z: fisher_metric(decoder, z**2), plain),
    )


def test_lazy_conjugation_within_a_decoder():
    z = points(5, 2)
    found = fisher_metric(lambda z: dist.Normal(z.conj().imag.exp() + z.mH.mT.imag, 1.0), z)
    expected = fisher_metric(lambda z: dist.Normal((-z.imag).exp() - z.imag, 1.0), z)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_the_default_dtype_does_not_matter(default):
    torch.set_default_dtype(default)
    try:
        for z in (points(3, 2), single(3)):
            metric = fisher_metric(lambda z: dist.Normal(z.real**2, 1.0), z)
            assert metric.dtype == z.dtype
            assert relative_error(metric, torch.diag_embed(z.real**2) + 0j).max() < 1e-6
    finally:
        torch.set_default_dtype(torch.float32)


NOT_LATENTS = {
    "real": (torch.ones(3, 2), r"real \(float32\).*complexify"),
    "whole numbers": (torch.ones(3, 2, dtype=torch.int64), "real .int64.*complexify"),
    "half": (torch.empty(3, 2, dtype=torch.complex32), "complex32: give complex64"),
    "one latent": (torch.ones(2) + 0j, r"shape \(2,\).*z\[None\]"),
    "image": (torch.ones(3, 2, 2) + 0j, r"shape \(3, 2, 2\)"),
    "no dimension": (torch.ones(3, 0) + 0j, "d ≥ 1"),
    "array": (torch.ones(3, 2).numpy() + 0j, "ndarray, not a tensor"),
    "list": ([[1j]], "list, not a tensor"),
}


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("name", NOT_LATENTS)
def test_what_are_no_latents_is_said_in_one_sentence(name):
    z, words = NOT_LATENTS[name]
    decoder = normal(nn.Linear(4, 3))
    for function in (
        lambda: fisher_metric(decoder, z),
        lambda: hermitian_defect(decoder, z),
        lambda: relative_entropy_metric(decoder, z),
        lambda: fisher_norm(decoder, z, z),
        lambda: closedness_defect(lambda z: fisher_metric(decoder, z), z),
        lambda: ricci(lambda z: fisher_metric(decoder, z), z),
        lambda: geodesics(lambda z: fisher_metric(decoder, z), z, z, 4, 2),
    ):
        with pytest.raises(InputError, match=words):
            function()


BAD = {
    "tuple": (lambda z: (z.real, z.imag), "returns a tuple, not a distribution"),
    "tensor": (lambda z: z.real, "returns a Tensor, not a distribution"),
    "nothing": (lambda z: None, "returns a NoneType"),
    "no batch": (lambda z: dist.Independent(dist.Normal(z.real, 1.0), 2), r"batch shape \(\)"),
    "batch added up": (lambda z: dist.Normal(z.real.sum(0), 1.0), "batch shape"),
    "flat mean": (lambda z: RealGaussian(z.real.sum(1), torch.zeros(())), r"has to be \(n, ...\)"),
    "complex mean of a real Gaussian": (lambda z: RealGaussian(z, torch.zeros(())), "is complex64"),
    "real mean of a complex Gaussian": (
        lambda z: ComplexGaussian(z.real, torch.zeros(())),
        "is float32",
    ),
    "complex variance": (
        lambda z: RealGaussian(z.real, z),
        "log_var .* is complex64: make it real",
    ),
    "number as variance": (lambda z: RealGaussian(z.real, 0.0), "log_var .* is no tensor"),
    "one variance for each latent, without an axis": (
        lambda z: RealGaussian(z.real.repeat(1, 10), z.real[:, 0]),
        "does not go with that of the mean",
    ),
    "rows that depend on each other": (
        lambda z: dist.Normal(z.real - z.real.mean(0), 1.0),
        "rows depend on each other",
    ),
    "batch statistics": (
        normal(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False))),
        "rows depend on each other|more than 1 value per channel",
    ),
    "dropout": (
        normal(nn.Sequential(nn.Linear(4, 3), nn.Dropout())),
        "Dropout is in training mode",
    ),
    "functional dropout": (
        lambda z: dist.Normal(nn.functional.dropout(z.real), 1.0),
        "dropout, which is random",
    ),
    "noise": (lambda z: dist.Normal(z.real + torch.randn(z.shape), 1.0), "draws random numbers"),
    "other precision": (lambda z: dist.Normal(nn.Linear(4, 3).double()(reals(z)), 1.0), "dtype"),
    "wrong width": (normal(nn.Linear(6, 3)), "fails at latents of shape"),
    "an error of its own": (lambda z: {}["key"], "fails at latents of shape .* .*key"),
    "grid sampling": (
        lambda z: dist.Normal(
            nn.functional.grid_sample(
                z.real.reshape(-1, 1, 1, 2), torch.zeros(len(z), 1, 1, 2), align_corners=False
            ),
            1.0,
        ),
        "cannot differentiate grid_sampler_2d",
    ),
    "distances": (
        lambda z: dist.Normal(torch.cdist(reals(z).reshape(-1, 2, 2), torch.ones(1, 3, 2)), 1.0),
        "cannot differentiate _cdist_forward",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_decoder_is_said_in_one_sentence(name):
    decoder, words = BAD[name]
    for function in (
        lambda: fisher_metric(decoder, single()),
        lambda: closedness_defect(lambda z: fisher_metric(decoder, z), single()),
        lambda: relative_entropy_metric(decoder, single()),
    ):
        with pytest.raises(InputError, match=words) as raised:
            function()
        assert "\n" not in str(raised.value)


class Sine(torch.autograd.Function):
    """Without the forms that torch.func needs."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0].cos()


class Cosine(torch.autograd.Function):
    """With a forward derivative that is wrong."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0].cos()

    @staticmethod
    def jvp(ctx, tangent):
        return tangent * ctx.saved_tensors[0].sin()


def test_functions_that_torch_cannot_differentiate_are_refused():
    for function, words in (
        (Sine, "autograd.Function"),
        (Cosine, "two different first derivatives.*custom or scripted"),
    ):
        with pytest.raises(InputError, match=words):
            fisher_metric(lambda z, f=function: dist.Normal(f.apply(z.real), 1.0), points(3, 2))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_second_derivatives_that_torch_gets_wrong_are_refused():
    layers = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6)).double().eval().requires_grad_(False)
    decoder = normal(torch.jit.script(layers))
    assert fisher_metric(decoder, points(3, 2)).isfinite().all()
    for function in (closedness_defect, ricci, scalar_curvature, christoffel):
        with pytest.raises(InputError, match=r"second derivatives.*native_layer_norm"):
            function(lambda z: fisher_metric(decoder, z), points(3, 2))
    with pytest.raises(InputError, match=r"second derivatives.*native_layer_norm"):
        geodesics(lambda z: fisher_metric(decoder, z), points(3, 2), points(3, 2, 1), 4, 2)
    z = points(3, 2).requires_grad_()
    with pytest.raises(InputError, match=r"second derivatives.*native_layer_norm"):
        log_det(fisher_metric(decoder, z))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_second_derivatives_are_not_taken_for_wrong_ones(dtype):
    """Logits of the probabilities of a network of ReLU and sigmoid: linear, but for rounding."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64)).to(dtype)
    z = points(3, 2).to(dtype.to_complex())

    def slope(decoder):
        return torch.func.grad(lambda z: log_det(fisher_metric(decoder, z)).sum())(z)

    expected = slope(lambda z: dist.Bernoulli(logits=layers(reals(z))))
    found = slope(lambda z: dist.Bernoulli(probs=layers(reals(z)).sigmoid()))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    closedness = closedness_defect(
        lambda z: fisher_metric(lambda z: dist.Bernoulli(probs=layers(reals(z)).sigmoid()), z), z
    )
    assert closedness.max() < 1e-5  # the metric is the Hessian of Σ log(1 + exp(logit))


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.layer = nn.Linear(4, 3)

    def forward(self, z):
        self.calls += 1
        return dist.Normal(self.layer(reals(z)), 1.0)


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
        nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, affine=False, momentum=None)),
        nn.Sequential(
            nn.Linear(4, 6), nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, track_running_stats=True)
        ),
        nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
        Counting(),
    ],
    ids=["batch norm", "cumulative batch norm", "instance norm", "spectral norm", "counter"],
)
def test_refused_before_anything_has_changed(module):
    before = {name: value.clone() for name, value in module.state_dict().items()}
    decoder = module if isinstance(module, Counting) else normal(module)
    for function in (
        lambda z: fisher_metric(decoder, z),
        lambda z: hermitian_defect(decoder, z),
        lambda z: relative_entropy_metric(decoder, z),
        lambda z: closedness_defect(lambda z: fisher_metric(decoder, z), z),
    ):
        with pytest.raises(InputError, match=r"\.eval\(\)"):
            function(single())
    after = module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_decoder_that_goes_back_to_training_mode_is_refused_again():
    layers = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval()
    decoder = normal(layers)
    fisher_metric(decoder, single())
    layers.train()
    before = layers[1].num_batches_tracked.clone()
    with pytest.raises(InputError, match="BatchNorm1d is in training mode"):
        fisher_metric(decoder, single())
    assert torch.equal(before, layers[1].num_batches_tracked)


def test_what_inherits_from_a_decoder_of_ours_is_differentiated_as_it_is():
    class Squared(ComplexDecoder):
        def forward(self, z):
            likelihood = super().forward(z)
            return RealGaussian(likelihood.mean**2, likelihood.log_var)

    torch.manual_seed(0)
    decoder, z = Squared(20, 2, 4, 1), single()
    expected = fisher_metric(lambda z: decoder(z), z)
    torch.testing.assert_close(fisher_metric(decoder, z), expected)
    assert relative_error(expected, fisher_metric(super(Squared, decoder).forward, z)).min() > 0.1


def test_unfrozen_parameters_get_their_gradient_and_no_gradient_is_no_matter():
    layers = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.SiLU(), nn.Linear(6, 5)).double()
    decoder, z = normal(layers), points(3, 2)

    def loss(parameters):
        def called(z):
            return dist.Normal(functional_call(layers, parameters, (reals(z),)), 1.0)

        return log_det(fisher_metric(called, z), 1e-3).sum()

    parameters = dict(layers.named_parameters())
    log_det(fisher_metric(decoder, z), 1e-3).sum().backward()
    detached = {name: p.detach() for name, p in parameters.items()}
    gradients = torch.func.grad(loss)(detached)
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad)
            h, step = 1e-6, torch.randn_like(parameter)
            up, down = (detached | {name: detached[name] + s * h * step} for s in (1, -1))
            slope = (loss(up) - loss(down)) / (2 * h)
            torch.testing.assert_close((parameter.grad * step).sum(), slope, rtol=1e-6, atol=1e-8)
    curved = closedness_defect(lambda z: fisher_metric(decoder, z), z).detach()
    with torch.no_grad():
        torch.testing.assert_close(
            closedness_defect(lambda z: fisher_metric(decoder, z), z), curved
        )


def test_no_latents_have_empty_results():
    z, decoder = single()[:0], normal(nn.Linear(4, 3))

    def metric(z):
        return fisher_metric(decoder, z)

    assert metric(z).shape == (0, 2, 2)
    assert fisher_form(decoder, z).shape == (0, 4, 4)
    assert fisher_norm(decoder, z, z).shape == (0,)
    assert hermitian_defect(decoder, z).shape == closedness_defect(metric, z).shape == (0,)
    assert ricci(metric, z).shape == (0, 2, 2)
    assert scalar_curvature(metric, z).shape == (0,)
    assert christoffel(metric, z).shape == (0, 2, 2, 2)
    assert geodesics(metric, z, z, 4, 2).shape == (0, 5, 2)


@pytest.mark.parametrize("memory", [1, 20_000, 1 << 30])
def test_chunks_change_no_number(memory):
    layers = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 40)).double()
    decoder, z = normal(layers.requires_grad_(False)), points(7, 3)

    def metric(z):
        return fisher_metric(decoder, z)

    def agree(found, expected):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)

    agree(fisher_metric(decoder, z, memory), metric(z))
    agree(hermitian_defect(decoder, z, memory), hermitian_defect(decoder, z))
    agree(closedness_defect(metric, z, memory), closedness_defect(metric, z))
    agree(ricci(metric, z, memory), ricci(metric, z))
    agree(christoffel(metric, z, memory), christoffel(metric, z))
    ends = z[:3], z[3:6]
    curves = geodesics(metric, *ends, steps=4, points=2, memory=memory)
    expected = curve_energy(metric, geodesics(metric, *ends, steps=4, points=2))
    torch.testing.assert_close(curve_energy(metric, curves), expected, rtol=1e-6, atol=0)


class TestRealLatents:
    def test_metric_is_the_hermitian_part_of_the_real_one(self):
        layers = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 20)).double()
        u = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        jacobian = torch.func.vmap(torch.func.jacrev(layers))(u)
        form = 2 * jacobian.mT @ jacobian  # in Re z and Im z, u = √2 (Re z, Im z)
        decoder = complexify(lambda u: dist.Normal(layers(u), 1.0))
        torch.testing.assert_close(fisher_form(decoder, to_complex(u)), form)

    def test_maps_are_inverse_and_keep_the_prior(self):
        u = torch.randn(20_000, 6, generator=torch.Generator().manual_seed(0))
        z = to_complex(u)
        torch.testing.assert_close(to_real(z), u)
        assert (z.abs().square().mean() - 1).abs() < 0.02

    def test_odd_dimensions_are_explained(self):
        with pytest.raises(InputError, match=r"odd dimension 5.*train with an even"):
            to_complex(torch.ones(3, 5))

    @pytest.mark.parametrize(
        "u",
        [
            [1.0],
            torch.tensor(1.0),
            torch.ones(3, 2).long(),
            torch.ones(3, 2) + 0j,
            torch.ones(3, 2).half(),
            torch.ones(3, 2).bfloat16(),
        ],
    )
    def test_other_things_are_refused(self, u):
        with pytest.raises(InputError, match="tensor of float32 or float64 numbers"):
            to_complex(u)

    @pytest.mark.parametrize("z", [[1j], torch.tensor(1j), torch.ones(3, 2)])
    def test_the_way_back_is_that_of_complex_vectors(self, z):
        with pytest.raises(InputError, match="tensor of complex numbers"):
            to_real(z)
