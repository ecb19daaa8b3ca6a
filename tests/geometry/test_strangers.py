"""Decoders that are not what they seem: the right number, or one sentence; never a wrong one."""

import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from geometry.decoders import points
from torch import distributions as dist
from torch import nn

from kahlervae.errors import InputError
from kahlervae.geometry import (
    MixturePotential,
    check_decoder,
    closedness_defect,
    complexify,
    estimate_closedness_defect,
    estimate_hermitian_defect,
    fisher_form,
    fisher_metric,
    fisher_norm,
    fit_potential,
    geodesics,
    hermitian_defect,
    kahler_residual,
    polish_potential,
    register_fisher,
    relative_entropy,
    relative_entropy_metric,
    ricci,
    scalar_curvature,
)
from kahlervae.geometry.information import _REGISTRY
from kahlervae.models.decoders import ComplexDecoder, HolomorphicDecoder, PluriharmonicDecoder
from kahlervae.models.likelihoods import DenseComplexGaussian
from kahlervae.nn import to_double

WEIGHT = torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Z = points(4, 2)


def hidden(z):
    return torch.cat([z.real, z.imag], dim=-1) @ WEIGHT.to(z.real.dtype)


def form_by_differences(decoder, z, h=1e-4):
    """JᵀJ of a decoder with unit variance, by central differences of the decoder alone."""
    x = torch.cat([z.real, z.imag], dim=-1)
    columns = []
    for step in h * torch.eye(x.shape[1], dtype=x.dtype):
        ends = [decoder(torch.complex(*(x + s * step).chunk(2, -1))).mean for s in (-2, -1, 1, 2)]
        columns.append((ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]).flatten(1) / (12 * h))
    jacobian = torch.stack(columns, dim=-1)
    return jacobian.mT @ jacobian


IN_PLACE = {
    "silu": lambda h: F.silu(h, inplace=True),
    "mish": lambda h: F.mish(h, inplace=True),
    "hardsigmoid": lambda h: F.hardsigmoid(h, inplace=True),
    "rrelu": lambda h: F.rrelu(h, inplace=True),
    "SiLU": nn.SiLU(inplace=True),
    "leaky relu": lambda h: F.leaky_relu_(h),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_what_is_written_in_place_counts(name):
    def decoder(z):
        h = hidden(z)
        IN_PLACE[name](h)
        return dist.Normal(h, 1.0)

    torch.testing.assert_close(
        fisher_form(decoder, Z), form_by_differences(decoder, Z), rtol=1e-8, atol=1e-8
    )


def within_a_ball(z):
    """N(h(z), 4 − |z|²): torch factorises no such covariance outside the ball."""
    covariance = (4 - (z.abs() ** 2).sum(-1))[:, None, None] * torch.eye(8, dtype=z.real.dtype)
    return dist.MultivariateNormal(hidden(z), scale_tril=torch.linalg.cholesky(covariance))


def test_a_decoder_may_fail_where_nobody_asks():
    z = 1.8 * Z / Z.abs().square().sum(-1, keepdim=True).sqrt()
    torch.testing.assert_close(
        fisher_metric(within_a_ball, z), relative_entropy_metric(within_a_ball, z)
    )


def test_a_factorisation_that_fails_is_one_sentence():
    with pytest.raises(InputError, match=r"within_a_ball fails at latents of shape .*positive-def"):
        fisher_metric(within_a_ball, 3 + Z)


SQUARES = {
    "abs": lambda z: z.abs() ** 2,
    "operator": lambda z: abs(z) ** 2,
    "parts": lambda z: z.real.abs() ** 2 + z.imag.abs() ** 2,
    "norm": lambda z: z.unsqueeze(-1).norm(dim=-1) ** 2,
    "vector norm": lambda z: torch.linalg.vector_norm(z.unsqueeze(-1), dim=-1).square(),
    "matrix norm": lambda z: torch.linalg.matrix_norm(z[..., None, None]) ** 2,
    "Frobenius norm": lambda z: torch.frobenius_norm(z.unsqueeze(-1), dim=-1) ** 2,
    "distance": lambda z: F.pairwise_distance(z.unsqueeze(-1), 0 * z.unsqueeze(-1), eps=0.0) ** 2,
    "standard deviation": lambda z: sum(
        torch.stack([x, -x], -1).std(-1, False) ** 2 for x in (z.real, z.imag)
    ),
    "linalg norm": lambda z: torch.linalg.norm(torch.view_as_real(z), dim=-1) ** 2,
}


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("name", SQUARES)
def test_squares_of_moduli_are_smooth_at_the_origin(name, dtype):
    """The mean of the prior, where the modulus itself has a kink."""
    origin = torch.zeros(2, 2, dtype=dtype)

    def decoder(square):
        def decode(z):
            s = square(z)
            return dist.Normal(torch.cat([s + z.real, s[:, :1] * z.real + z.imag], dim=1), 1.0)

        return decode

    plain = decoder(lambda z: z.real**2 + z.imag**2)
    curved = decoder(SQUARES[name])
    for measure in (ricci, closedness_defect):
        found, right = (
            measure(lambda z, f=f: fisher_metric(f, z), origin) for f in (curved, plain)
        )
        torch.testing.assert_close(found, right)

    def logits(square):
        return lambda z: dist.Bernoulli(logits=square(z) + z.real)

    residual = kahler_residual(logits(SQUARES[name]), origin)
    right = kahler_residual(logits(lambda z: z.real**2 + z.imag**2), origin)
    torch.testing.assert_close(residual, right)

    def sphere(z):
        return ((1 + SQUARES[name](z)) ** -2).to(z.dtype).unsqueeze(-1)

    curvature = scalar_curvature(sphere, origin[:, :1])
    torch.testing.assert_close(curvature, torch.full_like(curvature, 2.0))


class Memo(nn.Module):
    """Keeps what it has computed, by shape."""

    def __init__(self):
        super().__init__()
        self.kept = {}

    def forward(self, z):
        if z.shape not in self.kept:
            self.kept[z.shape] = torch.tanh(hidden(z)).detach()
        return dist.Normal(self.kept[z.shape], 1.0)


def straight_through(z):
    h = hidden(z)
    return dist.Normal(h + (h.round() - h).detach(), 1.0)


@torch.no_grad()
def without_gradient(z):
    return dist.Normal(torch.tanh(hidden(z)), 1.0)


DETACHED = {
    "detach": lambda z: dist.Normal(hidden(z).detach(), 1.0),
    "data": lambda z: dist.Normal(hidden(z.data), 1.0),
    "a factor": lambda z: dist.Normal(hidden(z).tanh() * hidden(z).detach(), 1.0),
    "list": lambda z: dist.Normal(torch.tensor(z.real.tolist(), dtype=z.real.dtype), 1.0),
    "straight through": straight_through,
    "scale": lambda z: dist.Normal(hidden(z), hidden(z).exp().detach()),
    "memo": Memo(),
}


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("name", DETACHED)
def test_derivatives_that_are_not_slopes_are_refused(name, dtype):
    decoder = Memo() if name == "memo" else DETACHED[name]
    with pytest.raises(InputError, match=r"not the slope of its values|rows depend"):
        fisher_metric(decoder, Z.to(dtype))


def test_kinks_and_jumps_of_the_slope_are_no_reason_to_refuse():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 9)
    )
    net.requires_grad_(False)
    for seed in range(10):
        z = points(2, 2, seed).to(torch.complex64)
        decoder = lambda z: dist.Normal(net(torch.cat([z.real, z.imag], 1)), 1.0)  # noqa: E731
        assert fisher_metric(decoder, z).isfinite().all()


def batch_statistics(z):
    h = hidden(z)
    h = h - h.mean(0)
    return dist.Normal(h / torch.sqrt(h.var(0, unbiased=False) + 1e-5), 1.0)


def by_the_largest(z):
    h = hidden(z)
    return dist.Normal(h / h.abs().max(), 1.0)


def experts_of_limited_capacity(z, capacity=4):
    chosen = (hidden(z)[:, :4]).argmax(-1)
    rank = torch.zeros_like(chosen)
    for k in range(4):
        rank[chosen == k] = torch.arange(int((chosen == k).sum()))
    return dist.Normal(torch.tanh(hidden(z)) * (rank < capacity)[:, None], 1.0)


def by_position(z):
    table = torch.linspace(1, 2, 1000, dtype=z.real.dtype)
    return dist.Normal(hidden(z) * table[: len(z), None], 1.0)


@pytest.mark.parametrize(
    "decoder", [batch_statistics, by_the_largest, experts_of_limited_capacity, by_position]
)
@pytest.mark.parametrize("where", ["origin", "anywhere", "one large row"])
def test_rows_that_depend_on_each_other_are_refused(decoder, where):
    z = Z.clone()
    if where == "origin":
        z = torch.zeros_like(z)
    elif where == "one large row":
        z[0] *= 50
    with pytest.raises(InputError, match="rows depend on each other"):
        fisher_metric(lambda z: decoder(z), z)


def test_what_is_random_now_and_then_is_refused():
    class StochasticDepth(nn.Module):
        def forward(self, z):
            h = hidden(z)
            return dist.Normal(h if torch.rand(()) < 0.01 else h + torch.tanh(h), 1.0)

    def dropping(z):
        h = F.dropout2d(hidden(z).view(-1, 8, 1, 1), 0.01, training=True)
        return dist.Normal(h.flatten(1), 1.0)

    for seed in range(5):
        torch.manual_seed(seed)
        for decoder in (StochasticDepth(), lambda z: dropping(z)):
            with pytest.raises(InputError, match=r"draws random numbers|rows depend"):
                fisher_metric(decoder, Z)


def test_facts_do_not_outlive_what_they_are_of():
    class Switching(nn.Module):
        kind = dist.Normal

        def forward(self, z):
            return self.kind((z**2).real, torch.exp(z.imag))

    model = Switching()
    fisher_metric(model, Z)
    model.kind = dist.Laplace
    with pytest.raises(InputError, match="returns a Laplace where it returned a Normal"):
        fisher_metric(model, Z)

    class Noisy(nn.Module):
        def forward(self, z):
            mean = (z**2).real
            return dist.Normal(mean * (1 + torch.randn_like(mean)) if self.training else mean, 1.0)

    noisy = Noisy().eval()
    fisher_metric(noisy, Z)
    noisy.train()
    with pytest.raises(InputError, match="draws random numbers"):
        fisher_metric(noisy, Z)

    class Switched:
        noisy = False

        def __call__(self, z):
            mean = (z**2).real
            return dist.Normal(mean * (1 + torch.randn_like(mean)) if self.noisy else mean, 1.0)

    switched = Switched()
    fisher_metric(switched, Z)
    switched.noisy = True
    with pytest.raises(InputError, match="draws random numbers"):
        fisher_metric(switched, Z)

    hooked = Noisy().eval()
    fisher_metric(hooked, Z)
    hooked.register_forward_pre_hook(lambda _, inputs: (inputs[0] - inputs[0].mean(0),))
    with pytest.raises(InputError, match="rows depend"):
        fisher_metric(hooked, Z)

    def decorated(f):
        def wrapper(*arguments):
            return f(*arguments)

        return wrapper

    class Two:
        @decorated
        def first(self, z):
            return dist.Normal((z**2).real, torch.exp(z.imag))

        @decorated
        def second(self, z):
            return dist.Laplace((z**2).real, torch.exp(z.imag))

    two = Two()
    fisher_metric(two.first, Z)
    alone = fisher_metric(lambda z: dist.Laplace((z**2).real, torch.exp(z.imag)), Z)
    torch.testing.assert_close(fisher_metric(two.second, Z), alone)


def test_what_is_registered_again_is_taken_at_once():
    class Rayleigh(dist.Distribution):
        arg_constraints = {"scale": dist.constraints.positive}  # noqa: RUF012

        def __init__(self, scale):
            self.scale = scale
            super().__init__(scale.shape)

    try:
        register_fisher(Rayleigh, "scale")(lambda at, d: d.scale / at.scale)
        decoder = lambda z: Rayleigh(torch.exp(z.real))  # noqa: E731
        before = fisher_metric(decoder, Z)
        register_fisher(Rayleigh, "scale")(lambda at, d: 2 * d.scale / at.scale)
        torch.testing.assert_close(fisher_metric(decoder, Z), 4 * before)
    finally:
        del _REGISTRY[Rayleigh]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("unit", [1.0, 30.0, 255.0, 1e4])
def test_a_wrong_derivative_does_not_hide_behind_large_numbers(unit):
    """A traced layer norm in the variance, beside a mean of 0 to 255."""
    norm = torch.jit.trace(nn.LayerNorm(8), torch.zeros(1, 8))

    def decoder(z):
        h = hidden(z)
        return dist.Normal(unit * torch.sin(h), torch.exp(norm(torch.tanh(h))))

    with pytest.raises(InputError, match=r"second derivatives.*native_layer_norm"):
        closedness_defect(lambda z: fisher_metric(decoder, z), Z.to(torch.complex64))


def test_transforms_with_parameters_anywhere_are_not_taken_for_fixed():
    def shifted(z):
        return dist.transforms.AffineTransform(z.real.sum(1, keepdim=True), 2.0)

    def base(z):
        return dist.Normal(torch.zeros(len(z), 1, dtype=z.real.dtype), 1.0)

    def stacked(z):
        parts = [dist.transforms.AffineTransform(x[:, 0], 2.0) for x in (z.real, z.imag)]
        return dist.TransformedDistribution(
            dist.Normal(torch.zeros(len(z), 2, dtype=z.real.dtype), 1.0),
            [dist.transforms.StackTransform(parts, dim=1)],
        )

    for decoder in (
        lambda z: dist.TransformedDistribution(base(z), [shifted(z).inv]),
        lambda z: dist.TransformedDistribution(base(z), [shifted(z).inv.inv]),
        stacked,
    ):
        with pytest.raises(InputError, match="TransformedDistribution is known"):
            fisher_metric(decoder, Z)


def test_transforms_of_a_class_that_reaches_latents_are_not_taken_for_fixed():
    def decoder(z):
        scale = z.imag.exp()

        class Scale(dist.Transform):
            domain = codomain = dist.constraints.real
            bijective = True

            def _call(self, x):
                return x * scale

            def _inverse(self, y):
                return y / scale

            def log_abs_det_jacobian(self, x, y):
                return scale.log().expand_as(x)

        return dist.TransformedDistribution(dist.Normal(z.real, 1.0), [Scale()])

    with pytest.raises(InputError, match="TransformedDistribution is known"):
        fisher_metric(decoder, Z)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_supports_that_move_are_refused(dtype):
    one = torch.ones(())
    for decoder in (
        lambda z: dist.Uniform(z.real - 1, z.real + 1),
        lambda z: dist.Uniform(0 * z.real, 1e3 + z.real),
        lambda z: dist.Pareto(1e5 + z.real, one),
    ):
        with pytest.raises(InputError, match="support depends on the latent"):
            fisher_metric(decoder, Z.to(dtype))


def test_a_density_of_its_own_is_not_that_of_the_parent():
    class Heavy(dist.Normal):
        def log_prob(self, x):
            return dist.StudentT(1.0, self.loc, self.scale).log_prob(x)

    with pytest.raises(InputError, match="of Heavy is known"):
        fisher_metric(lambda z: Heavy(z.real, 1.0), Z)

    class Observed(dist.Independent):
        """Of the first number alone."""

        def log_prob(self, x):
            return self.base_dist.log_prob(x)[..., 0]

    class Shifted(dist.LogNormal):
        def log_prob(self, x):
            return super().log_prob(x - 1)

    for decoder in (
        lambda z: Observed(dist.Normal(z.real, 1.0), 1),
        lambda z: Shifted(z.real, 1.0),
    ):
        with pytest.raises(InputError, match=r"of (Observed|Shifted) is known"):
            fisher_metric(decoder, Z)

    class Named(dist.Normal):
        """Only a name."""

    torch.testing.assert_close(
        fisher_metric(lambda z: Named(z.real, 1.0), Z),
        fisher_metric(lambda z: dist.Normal(z.real, 1.0), Z),
    )


def test_shapes_that_do_not_go_together_are_refused():
    decoder = lambda z: dist.Normal(z.real, 1.0)  # noqa: E731
    with pytest.raises(InputError, match=r"base has the shape \(4, 2\) and z \(1, 2\)"):
        relative_entropy(decoder, Z, Z[:1])
    with pytest.raises(InputError, match=r"v has the shape \(1, 2\) and z \(4, 2\)"):
        fisher_norm(decoder, Z, Z[:1])
    assert relative_entropy(decoder, Z[:0], Z[:0]).shape == (0,)
    assert relative_entropy_metric(decoder, Z[:0]).shape == (0, 2, 2)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_determinants_of_singular_matrices_have_derivatives(size):
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(4, size * size, dtype=torch.float64, generator=generator)

    def decoder(z):
        x = torch.cat([z.real, z.imag], dim=1) @ table
        return dist.Normal(torch.linalg.det(x.unflatten(1, (size, size)))[:, None], 1.0)

    z = torch.cat([Z, torch.zeros(1, 2)])
    expected = form_by_differences(decoder, z, 1e-3)
    torch.testing.assert_close(fisher_form(decoder, z), expected, rtol=1e-7, atol=1e-9)


def test_one_number_a_latent_needs_no_axis_of_its_own():
    def flat(z):
        return dist.Bernoulli(logits=z.real[:, 0] ** 2 + z.imag[:, 1])

    def deep(z):
        return dist.Bernoulli(logits=flat(z).logits[:, None])

    for measure in (fisher_metric, hermitian_defect, kahler_residual, relative_entropy_metric):
        torch.testing.assert_close(measure(flat, Z), measure(deep, Z))
    assert check_decoder(flat, Z).passed


def test_categories_that_never_are_do_not_count():
    never = torch.tensor([False, False, True])

    def masked(z):
        logits = torch.cat([z.real, 0 * z.real[:, :1]], dim=1)
        return dist.Categorical(logits=logits.masked_fill(never, -torch.inf))

    def without(z):
        return dist.Categorical(logits=z.real)

    for measure in (fisher_metric, hermitian_defect, kahler_residual):
        torch.testing.assert_close(measure(masked, Z), measure(without, Z))


def test_a_constant_decoder_has_no_defect():
    def constant(z):
        return dist.Normal(0 * z.real, 1.0)

    for found in (
        hermitian_defect(constant, Z),
        kahler_residual(constant, Z),
        closedness_defect(lambda z: fisher_metric(constant, z), Z),
        *estimate_hermitian_defect(constant, Z),
        *estimate_closedness_defect(constant, Z),
    ):
        assert (found == 0).all()


def test_behind_complexify_all_is_seen_as_well():
    with pytest.raises(InputError, match="derivative is not the slope"):
        fisher_metric(complexify(lambda u: dist.Normal(u.detach(), 1.0)), Z)


def test_a_recurrent_decoder_in_single_precision_needs_no_gradients():
    torch.manual_seed(0)
    lstm = nn.LSTM(4, 5, batch_first=True).requires_grad_(False)

    def decoder(z, lstm=lstm):
        return dist.Normal(lstm(torch.cat([z.real, z.imag], 1)[:, None])[0], 1.0)

    double = nn.LSTM(4, 5, batch_first=True).double()
    double.load_state_dict(lstm.state_dict())
    expected = fisher_metric(lambda z: decoder(z, double), Z)
    found = fisher_metric(decoder, Z.to(torch.complex64))
    torch.testing.assert_close(found, expected.detach().to(found.dtype), rtol=1e-4, atol=1e-5)


def test_places_that_nobody_asks_for_need_no_value():
    """A decoder of the unit ball, and one whose weights grow exponentially."""

    def ball(z):
        rest = 1 - (z.real**2 + z.imag**2).sum(1, keepdim=True)
        return dist.Normal(z.real, rest.log().neg().rsqrt())

    def steep(z):
        return dist.Normal(hidden(z), torch.exp(8 * hidden(z)))

    inside = 0.9 * Z / Z.norm(dim=1, keepdim=True)
    assert fisher_metric(ball, inside).isfinite().all()
    assert fisher_metric(steep, Z.to(torch.complex64)).isfinite().all()


class Cube(torch.autograd.Function):
    """Keeps its argument beside what torch is told to save, so that it is taken for a constant."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.x = inputs[0].detach()
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def backward(ctx, gradient):
        return 3 * gradient * ctx.x**2

    @staticmethod
    def jvp(ctx, tangent):
        return 3 * tangent * ctx.saved_tensors[0] ** 2


def test_residuals_of_wrong_second_derivatives_are_refused():
    """Of a decoder without parameters, where nothing else asks for second derivatives: 0 before."""
    assert (kahler_residual(lambda z: dist.Bernoulli(logits=hidden(z) ** 3), Z) > 0.1).all()
    with pytest.raises(InputError, match="two different second derivatives"):
        kahler_residual(lambda z: dist.Bernoulli(logits=Cube.apply(hidden(z))), Z)


def test_the_relative_entropy_has_the_hessian_of_its_values():
    """Its gradient is 0, where the backward of logcumsumexp is not linear."""

    def by_hand(z):
        parts = [hidden(z)[:, : k + 1].logsumexp(1) for k in range(8)]
        return dist.Gumbel(torch.stack(parts, dim=1), 1.0)

    def fused(z):
        return dist.Gumbel(hidden(z).logcumsumexp(1), 1.0)

    for measure in (fisher_metric, relative_entropy_metric, hermitian_defect):
        torch.testing.assert_close(measure(fused, Z), measure(by_hand, Z))
    for kind in (dist.Gumbel, dist.Normal):
        aten = lambda z, kind=kind: kind(torch.ops.aten.logcumsumexp(hidden(z), 1), 1.0)  # noqa: E731
        with pytest.raises(InputError, match="two different Hessians"):
            relative_entropy_metric(aten, Z)


def test_a_decoder_may_write_into_its_latents():
    def doubling(z):
        z *= 2
        return dist.Normal(hidden(z).sin(), 1.0)

    z = Z.clone()
    for measure in (fisher_metric, relative_entropy_metric):
        found = measure(doubling, z)
        expected = measure(lambda z: dist.Normal(hidden(2 * z).sin(), 1.0), Z)
        torch.testing.assert_close(found, expected)
    assert check_decoder(doubling, z).passed
    assert torch.equal(z, Z)


def test_logits_of_probabilities_need_no_graph():
    decoder = lambda z: dist.Normal(torch.logit(hidden(z).sigmoid()), 1.0)  # noqa: E731
    with torch.no_grad():
        found = closedness_defect(lambda z: fisher_metric(decoder, z), Z)
    torch.testing.assert_close(found, torch.zeros_like(found))


def test_what_goes_by_gradients_takes_them_where_it_can():
    metric = lambda z: fisher_metric(_through_real, z)  # noqa: E731
    values = torch.eye(2).to(Z.dtype).expand(4, 2, 2)
    size = {"groups": 1, "components": 2}

    def fit():
        stream = torch.Generator().manual_seed(0)
        start = fit_potential(Z, values, "mixture", size, 2, 0.1, stream)
        return polish_potential(start, Z, values, 2).metric(Z)

    expected = fit()
    with torch.no_grad():
        torch.testing.assert_close(fit(), expected)
    with torch.inference_mode():
        for call in (fit, lambda: geodesics(metric, Z, Z.flip(0), 4, 3)):
            with pytest.raises(InputError, match="outside of it"):
                call()


def test_sparse_latents_are_refused():
    with pytest.raises(InputError, match="z is sparse"):
        fisher_metric(_through_real, Z.to_sparse())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_frozen_scripts_are_decoders():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh()).double().eval()
    frozen = torch.jit.freeze(torch.jit.script(net))
    found, expected = (
        fisher_metric(lambda z, f=f: dist.Normal(f(torch.cat([z.real, z.imag], 1)), 1.0), Z)
        for f in (frozen, net)
    )
    torch.testing.assert_close(found, expected.detach())


class _Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, u):
        return dist.Normal(self.layer(u), 1.0)


def _standardised(z):
    h = hidden(z)
    return dist.Normal(h / h.std(0), 1.0)


def _through_real(z):
    return dist.Normal(z.real, 1.0)


def _through_numpy(z):
    return dist.Normal(torch.from_numpy(z.real.numpy()), 1.0)


def _hooked(z):
    layer = nn.Tanh()
    layer.register_full_backward_hook(lambda *_: None)
    return dist.Normal(layer(hidden(z)), 1.0)


@torch.inference_mode()
def _for_inference(z):
    return dist.Normal(hidden(z), 1.0)


def _sparse(z):
    x = torch.cat([z.real, z.imag], dim=1)
    return dist.Normal((WEIGHT.T.to_sparse_csr() @ x.T).T, 1.0)


SENTENCES = {
    "a backward hook": (_hooked, "a backward hook of a module is one, too"),
    "inference mode": (_for_inference, "inference_mode have no derivative"),
    "sparse matrices": (_sparse, "on dense tensors"),
    "complex scale": (lambda z: dist.Normal(z.real, z), "are float32 or float64"),
    "complex parameters": (
        lambda z: dist.Normal(z**2, torch.ones(len(z), 2).double()),
        "loc .* is complex128: return",
    ),
    "half precision": (lambda z: dist.Normal(z.real.half(), 1.0), "loc .* is float16: return"),
    "coarse inside": (
        lambda z: dist.Normal(hidden(z).bfloat16().tanh().double(), 1.0),
        "computes in bfloat16",
    ),
    "a dense Gaussian of real data": (
        lambda z: DenseComplexGaussian(z.real, torch.eye(2).expand(len(z), 2, 2)),
        "DenseComplexGaussian is real",
    ),
    "one row has no statistics": (_standardised, "single latent and not at several"),
    "weights of another precision": (complexify(_Linear()), r"decoder\.double"),
    "another library": (_through_numpy, "numpy, sparse tensors"),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_what_is_wrong_is_said_in_one_sentence(name):
    decoder, words = SENTENCES[name]
    with pytest.raises(InputError, match=words) as refused:
        fisher_metric(decoder, Z)
    assert "\n" not in str(refused.value)


def test_precisions_are_brought_together_by_the_side_that_is_behind():
    with pytest.raises(InputError, match=r"as by decoder\.float\(\), or z\.to\(torch.complex128\)"):
        fisher_metric(complexify(_Linear().double()), Z.to(torch.complex64))
    with pytest.raises(InputError, match=r"as by decoder\.double\(\)\."):
        fisher_metric(complexify(_Linear().float()), Z)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_latents_that_are_not_finite_are_named_where_a_distribution_refuses_them(bad):
    z = Z.clone()
    z[1, 0] = bad
    with pytest.raises(InputError, match=f"z is not finite in 1 of {len(Z)} rows, where the"):
        fisher_metric(lambda z: dist.Normal(z.real.sin(), 1.0), z)


def test_batches_and_not_vmap():
    with pytest.raises(InputError, match="in place of vmap"):
        torch.func.vmap(lambda z: fisher_metric(_through_real, z[None])[0])(Z)


def test_bytes_may_be_a_decimal_number():
    decoder = lambda z: dist.Normal(hidden(z), 1.0)  # noqa: E731
    assert torch.equal(fisher_metric(decoder, Z, memory=1e9), fisher_metric(decoder, Z))


def test_another_default_device_changes_nothing():
    """As set_default_device("cuda") would, for latents and generators of the CPU."""

    def decoder(z):
        return dist.Normal(hidden(z), torch.ones((), device="cpu"))

    size = {"groups": 2, "components": 2}

    def everything():
        stream = torch.Generator(device="cpu").manual_seed(0)
        metric = fisher_metric(decoder, Z)
        potential = fit_potential(Z, metric, "mixture", size, 3, 0.1, stream)
        return metric, potential.metric(Z), estimate_hermitian_defect(decoder, Z).value

    expected = everything()
    with torch.device("meta"):
        found = everything()
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)


def test_parts_of_sums_of_columns_have_second_derivatives():
    def decoder(part):
        def likelihood(z):
            first, second = part(z[:, 0] + 2 * z[:, 1])
            more = torch.stack([torch.sinh(first), second, z.real[:, 1], z.imag[:, 1]], 1)
            return dist.Independent(dist.Normal(more, 0.5), 1)

        return likelihood

    z = points(3, 2)
    metrics = [
        partial(fisher_metric, decoder(part))
        for part in (
            lambda w: (w.real, w.imag),
            lambda w: (torch.real(w), torch.imag(w)),
            lambda w: torch.view_as_real(w).unbind(-1),
            lambda w: (w.clone().real, w.clone().imag),
        )
    ]
    expected = ricci(metrics[-1], z)
    for metric in metrics:
        torch.testing.assert_close(ricci(metric, z), expected)
        assert closedness_defect(metric, z).isfinite().all()


def test_overflow_is_not_taken_for_a_fault_of_torch():
    def decoder(z):
        return dist.Independent(dist.Normal(torch.exp(z.real**2), 1.0), 1)

    with pytest.raises(InputError, match="not finite at the first of these latents"):
        fisher_metric(decoder, 20 + points(3, 2).to(torch.complex64))


def test_half_precision_of_autocast_is_refused():
    z = points(3, 2).to(torch.complex64)
    potential = MixturePotential.constant(torch.eye(2, dtype=torch.complex64))
    for compute in (potential.metric, lambda z: fisher_metric(complexify(normal), z)):
        compute(z)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with pytest.raises(
                InputError, match=r"within torch\.autocast\(device, enabled=False\)"
            ):
                compute(z)
            with torch.autocast("cpu", enabled=False):
                compute(z)


def normal(u):
    return dist.Independent(dist.Normal(3 * u, 1.0), 1)


def test_complexified_decoders_are_pickled():
    z = points(3, 2)
    again = pickle.loads(pickle.dumps(complexify(normal)))
    torch.testing.assert_close(fisher_metric(again, z), fisher_metric(complexify(normal), z))


@pytest.mark.parametrize("kind", [ComplexDecoder, HolomorphicDecoder, PluriharmonicDecoder])
def test_our_own_decoders_change_precision_as_any_module(kind):
    decoder, z = kind(6, 2, 4, 1), points(3, 2)
    with pytest.raises(InputError, match=r"the same precision, as by decoder\.double\(\)"):
        fisher_metric(decoder, z)
    expected = fisher_metric(to_double(decoder), z)
    torch.testing.assert_close(fisher_metric(decoder.double(), z), expected)


class Scale(dist.Transform):
    """x ↦ s x, of a positive s that is asked for at every call."""

    bijective = True
    sign = 1
    domain = codomain = dist.constraints.real

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def _call(self, x):
        return x * self.scale()

    def _inverse(self, y):
        return y / self.scale()

    def log_abs_det_jacobian(self, x, y):
        return self.scale().log().expand(x.shape)


class Namespace:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self):
        return self.scale


REACHES = {
    "lambda": lambda s: lambda: s,
    "partial": lambda s: partial(torch.mul, s, 1),
    "object": Namespace,
}


@pytest.mark.parametrize("name", REACHES)
def test_a_transform_that_may_reach_the_latents_is_no_fixed_bijection(name):
    def decoder(z):
        scale = REACHES[name](hidden(z).exp())
        return dist.TransformedDistribution(dist.Normal(hidden(z), 1.0), [Scale(scale)])

    with pytest.raises(InputError, match="whether the tensors that they hold"):
        fisher_metric(decoder, Z)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout()

    def forward(self, z):
        return dist.Normal(self.dropout(hidden(z)), 1.0)

    def decode(self, z):
        return self(z)


NOISY = Noisy()
REACHED = {
    "closure": lambda m: lambda z: m(z),
    "method": lambda m: lambda z: m.decode(z),
    "global": lambda _: lambda z: NOISY(z),
    "partial": lambda m: partial(lambda model, z: model(z), m),
    "complexify": lambda m: complexify(lambda u: m(torch.complex(u[:, ::2], u[:, 1::2]))),
    "list": lambda m: (lambda models: lambda z: models[0](z))([m]),
    "helper": lambda m: (lambda f: lambda z: f(z))(lambda z: m(z)),
}


@pytest.mark.parametrize("name", REACHED)
def test_what_a_function_uses_may_not_go_back_to_training(name):
    model = NOISY.eval()
    decoder = REACHED[name](model)
    fisher_metric(decoder, Z)
    model.train()
    with pytest.raises(InputError, match=r"call \.eval\(\) on it"):
        fisher_metric(decoder, Z)
    model.eval()


def test_parameters_that_are_unfrozen_later_are_examined_again():
    """Of a scripted norm torch's second derivatives are wrong."""

    @torch.jit.script
    def norm(x):
        return torch.layer_norm(x, [4])

    layer = nn.Linear(4, 4).double().requires_grad_(False)

    def decoder(z):
        real = torch.cat([z.real, z.imag], dim=1)
        return dist.Normal(norm(torch.tanh(layer(real))).cumsum(-1), 1.0)

    fisher_metric(decoder, Z)
    layer.requires_grad_(True)
    with pytest.raises(InputError, match="two different second derivatives"):
        fisher_metric(decoder, Z)


MASK = torch.tensor([0, 0, 1, 0, 1, 0, 0, 0], dtype=torch.bool)
MISLEADING = {
    "detached": (lambda h: h * h.detach(), "not the slope of its values"),
    "of a batch": (lambda h: h - h.mean(0), "depend on each other"),
    "drawn": (lambda h: h + torch.randn_like(h), "draws random numbers"),
}


@pytest.mark.parametrize("name", MISLEADING)
def test_masked_logits_hide_nothing(name):
    f, words = MISLEADING[name]
    with pytest.raises(InputError, match=words):
        fisher_metric(
            lambda z: dist.Categorical(logits=f(hidden(z)).masked_fill(MASK, -torch.inf)), Z
        )


def test_masked_logits_are_as_if_there_were_none():
    def masked(z):
        return dist.Categorical(logits=hidden(z).masked_fill(MASK, -torch.inf))

    def left(z):
        return dist.Categorical(logits=hidden(z)[:, ~MASK])

    torch.testing.assert_close(fisher_metric(masked, Z), fisher_metric(left, Z))
    check_decoder(masked, Z).raise_if_failed()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_sure_binomials_and_geometrics_keep_their_digits(dtype):
    z = torch.tensor([[-1.0], [0.1], [0.6], [0.75], [1.0]]).to(dtype)
    p = torch.sigmoid(20 * z.real.double())
    q = torch.sigmoid(-20 * z.real.double())
    expected = {
        lambda z: dist.Binomial(3, logits=20 * z.real): 400 * 3 * p * q,
        lambda z: dist.Geometric(logits=20 * z.real): 400 * q,
    }
    for decoder, information in expected.items():
        found = fisher_form(decoder, z)[:, 0, 0].double()
        torch.testing.assert_close(found, information[:, 0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", [dist.Binomial, dist.Geometric])
def test_probabilities_and_logits_say_the_same(kind):
    trials = (5,) if kind is dist.Binomial else ()
    by_logits = fisher_form(lambda z: kind(*trials, logits=hidden(z)), Z)
    by_probs = fisher_form(lambda z: kind(*trials, probs=hidden(z).sigmoid()), Z)
    torch.testing.assert_close(by_probs, by_logits)


def test_trials_may_not_depend_on_latents():
    with pytest.raises(InputError, match="its support depends on the latent"):
        fisher_metric(
            lambda z: dist.Binomial(hidden(z).exp(), logits=hidden(z), validate_args=False), Z
        )


def test_what_never_comes_says_nothing():
    def masked(z):
        return dist.Poisson(hidden(z).exp() * ~MASK)

    def left(z):
        return dist.Poisson(hidden(z)[:, ~MASK].exp())

    torch.testing.assert_close(fisher_metric(masked, Z), fisher_metric(left, Z))
    torch.testing.assert_close(relative_entropy_metric(masked, Z), fisher_metric(left, Z))
    check_decoder(masked, Z).raise_if_failed()


class Rayleigh(dist.Distribution):
    def __init__(self, scale):
        self.scale = scale
        super().__init__(scale.shape, validate_args=False)


WRONG = {
    "complex": (lambda at, d: 2j * d.scale / at.scale, "complex128"),
    "nothing": (lambda at, d: None, "a NoneType"),
    "misspelt": (lambda at, d: d.scalee, "has no attribute 'scalee'"),
    "summed": (lambda at, d: (d.scale / at.scale).sum(0), r"shape \(4, 8\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_registered_has_to_give_real_vectors(name):
    function, words = WRONG[name]
    register_fisher(Rayleigh, "scale")(function)
    try:
        with pytest.raises(InputError, match=f"of a Fisher information .*{words}"):
            fisher_metric(lambda z: Rayleigh(hidden(z).exp()), Z)
    finally:
        del _REGISTRY[Rayleigh]
