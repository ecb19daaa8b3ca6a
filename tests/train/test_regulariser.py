import math
from functools import partial

import pytest
import torch
from torch.distributions import Independent, Normal

from kahlervae.errors import InputError
from kahlervae.geometry import MixturePotential, complexify, fisher_form, fisher_metric
from kahlervae.models import ComplexGaussian
from kahlervae.models.decoders import ComplexDecoder
from kahlervae.nn import to_double
from kahlervae.nn.optimiser import Adam
from kahlervae.train.regulariser import (
    FORMS,
    FisherRegulariser,
    PotentialRegulariser,
    build_regulariser,
    distortion,
    isometry,
)

EPSILON = 1e-2


def setting():
    torch.manual_seed(0)
    decoder = to_double(ComplexDecoder(9, 3, 8, 2))
    stream = torch.Generator().manual_seed(0)
    potential = to_double(MixturePotential.random(3, 2, 4, 5.0, stream))
    z = torch.randn(7, 3, generator=stream, dtype=torch.complex128)
    return decoder, potential, z


def directions(z):
    return torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=z.dtype)


@pytest.mark.parametrize("form", ["volume", "flatness"])
@pytest.mark.parametrize("exact", [True, False])
def test_regulariser_is_a_moment_of_the_log_determinant(form, exact):
    decoder, potential, z = setting()
    metric = fisher_metric(decoder, z) if exact else potential.metric(z)
    log_dets = torch.linalg.eigvalsh(metric + EPSILON * torch.eye(3)).log().sum(-1)
    expected = log_dets.mean() if form == "volume" else log_dets.var()
    regulariser = (
        FisherRegulariser(form, EPSILON)
        if exact
        else PotentialRegulariser(potential, form, EPSILON)
    )
    value, tie = regulariser(decoder, z, directions(z))
    torch.testing.assert_close(value, expected)
    assert (tie == 0) == exact


def test_flatness_does_not_change_with_the_scale_of_the_latents():
    """The same decoder in latents that are three times larger; volume changes by −2d log 3."""
    decoder, _, z = setting()
    values = {}
    for form in ("volume", "flatness"):
        regulariser = FisherRegulariser(form, 0.0)
        here = regulariser(decoder, z, directions(z)).regulariser
        there = regulariser(lambda w: decoder(w / 3), 3 * z, directions(z)).regulariser
        values[form] = (there - here).item()
    assert values["flatness"] == pytest.approx(0, abs=1e-9)
    assert values["volume"] == pytest.approx(-6 * math.log(3))


def random_metrics(n=6, d=3):
    stream = torch.Generator().manual_seed(3)
    factor = torch.randn(n, d, d, dtype=torch.complex128, generator=stream)
    return factor @ factor.mH + 0.1 * torch.eye(d)


def test_isometry_is_the_distance_from_the_mean_in_its_own_units():
    metric = random_metrics()
    # With the square root of the mean in the place of its Cholesky factor.
    values, vectors = torch.linalg.eigh(metric.mean(0))
    root = vectors @ torch.diag(values**-0.5).to(vectors) @ vectors.mH
    off = root @ metric @ root - torch.eye(3)
    torch.testing.assert_close(isometry(metric), (off @ off).diagonal(0, 1, 2).real.mean())
    change = torch.randn(3, 3, dtype=torch.complex128, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(isometry(change @ metric @ change.mH), isometry(metric))
    assert isometry(metric[:1].expand(5, 3, 3)).item() == pytest.approx(0, abs=1e-20)
    assert isometry(-metric).isnan()


def test_distortion_is_least_for_one_multiple_of_the_identity():
    metric = random_metrics()
    values = torch.linalg.eigvalsh(metric)
    expected = 3 * values.square().sum(1).mean() / values.sum(1).mean() ** 2 - 1
    torch.testing.assert_close(distortion(metric), expected)
    torch.testing.assert_close(distortion(7 * metric), expected)
    assert distortion(2.5 * torch.eye(3).expand(4, 3, 3) + 0j).item() == pytest.approx(0, abs=1e-6)
    # Constant, but not a multiple of the identity: isometric to no flat space as it is.
    constant = torch.diag(torch.tensor([1.0, 3.0])).expand(4, 2, 2) + 0j
    assert isometry(constant).item() == pytest.approx(0, abs=1e-6)
    assert distortion(constant).item() == pytest.approx(2 * 10 / 16 - 1)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_every_form_regularises_both_metrics_by_their_gradients(form):
    decoder, potential, z = setting()
    for regulariser in (
        FisherRegulariser(form, EPSILON),
        PotentialRegulariser(potential, form, EPSILON),
    ):
        z = z.clone().requires_grad_()
        value = regulariser(decoder, z, directions(z)).regulariser
        (gradient,) = torch.autograd.grad(value, z)
        step = torch.zeros_like(z)
        step[2, 1] = 1e-5j
        with torch.no_grad():
            ends = [
                regulariser(decoder, z + sign * step, directions(z)).regulariser for sign in (1, -1)
            ]
        slope = (ends[0] - ends[1]).item() / 2e-5
        assert gradient[2, 1].imag.item() == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_the_full_tie_compares_with_the_real_fisher_form():
    decoder, potential, z = setting()
    regulariser = PotentialRegulariser(potential, "volume", EPSILON, full=True)
    tie = regulariser(decoder, z, directions(z)).tie
    v = directions(z)
    u = torch.cat([v.real, v.imag], dim=1)
    ours = torch.einsum("ni,nij,nj->n", v, potential.metric(z), v.conj()).real
    theirs = torch.einsum("ni,nij,nj->n", u, fisher_form(decoder, z), u) / 2
    torch.testing.assert_close(tie, (ours.log() - theirs.log()).square().mean())


def test_tie_compares_squared_lengths_of_one_random_vector():
    decoder, potential, z = setting()
    _, tie = PotentialRegulariser(potential, "volume", EPSILON)(decoder, z, directions(z))
    v = directions(z)
    lengths = [
        torch.einsum("ni,nij,nj->n", v, metric, v.conj()).real
        for metric in (potential.metric(z), fisher_metric(decoder, z))
    ]
    torch.testing.assert_close(tie, (lengths[0].log() - lengths[1].log()).square().mean())


def test_gradient_of_the_tie_reaches_decoder_potential_and_latents():
    decoder, potential, z = setting()
    z.requires_grad_()
    regulariser = PotentialRegulariser(potential, "volume", EPSILON)

    def tie():
        return regulariser(decoder, z, directions(z)).tie

    tie().backward()
    for parameter in (decoder.body[0].weight, potential.slope, z):
        assert parameter.grad.abs().max() > 0
    # One entry of the decoder against a finite difference: a second derivative of the network.
    weight, h = decoder.body[0].weight, 1e-6
    with torch.no_grad():
        weight[0, 0] += h
        above = tie()
        weight[0, 0] -= 2 * h
        below = tie()
    slope = ((above - below) / (2 * h)).item()
    assert weight.grad[0, 0].real.item() == pytest.approx(slope, rel=1e-5)


def test_a_tie_chooses_the_metric_of_a_potential():
    settings = {"form": "volume", "epsilon": EPSILON}
    stream = torch.Generator().manual_seed(0)
    assert isinstance(build_regulariser(settings, 3, stream), FisherRegulariser)
    settings |= {"tie": 0.0, "groups": 2, "components": 4, "scale": 10.0}
    learned = build_regulariser(settings, 3, stream)
    assert isinstance(learned, PotentialRegulariser)
    assert learned.potential.certificate().valid
    assert not learned.full
    assert build_regulariser(settings | {"tie_to": "full"}, 3, stream).full


def test_one_component_is_a_constant_metric():
    settings = {"form": "isometry", "epsilon": EPSILON, "tie": 1.0}
    settings |= {"groups": 1, "components": 1, "scale": 10.0}
    learned = build_regulariser(settings, 3, torch.Generator().manual_seed(0))
    z = 10 * torch.randn(5, 3, dtype=torch.complex64)
    metric = learned.potential.metric(z)
    torch.testing.assert_close(metric, metric[:1].expand_as(metric))


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("mixture", {"groups": 2, "components": 4, "rank": 1}),
        ("holomorphic", {"width": 6, "layers": 2, "groups": 2, "rank": 3}),
    ],
)
def test_a_potential_of_any_class_is_tied_to_the_decoder(kind, size):
    """Steps on the tie alone bring it nearer to the metric, by gradients of all parameters."""
    decoder, _, z = setting()
    settings = {"form": "flatness", "epsilon": EPSILON, "tie": 1.0, "scale": 10.0, "kind": kind}
    stream = torch.Generator().manual_seed(0)
    learned = to_double(build_regulariser(settings | size, 3, stream))
    optimiser = Adam(learned.parameters(), lr=0.02)
    ties = []
    for _ in range(60):
        optimiser.zero_grad()
        tie = learned(decoder, z, directions(z)).tie
        tie.backward()
        optimiser.step()
        ties.append(tie.item())
    assert all(parameter.grad is not None for parameter in learned.parameters())
    assert ties[-1] < 0.5 * ties[0]
    assert learned.potential.certificate().valid
    with pytest.raises(InputError, match="size of a mixture potential"):
        build_regulariser(settings | {"kind": "mixture", "width": 6}, 3, stream)


def loop(regulariser, sizes, constant):
    """A plain training loop, whose decoder may start as a constant; the losses and all weights."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.SiLU(), torch.nn.Linear(8, 6, bias=False)
    )
    if constant:
        torch.nn.init.zeros_(network[-1].weight)
    decoder = complexify(lambda u: Independent(Normal(network(u), 0.3), 1))
    weights = [*network.parameters(), *regulariser.parameters()]
    optimiser, losses = Adam(weights, lr=1e-3), []
    for size in sizes:
        z, v = torch.randn(2, size, 2, dtype=torch.complex64)
        terms = regulariser(decoder, z, v)
        target = torch.ones(size, 6)
        loss = terms.regulariser + terms.tie - decoder(z).log_prob(target).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses, weights


def both(form):
    potential = MixturePotential.random(2, 2, 4, 30.0, torch.Generator().manual_seed(0))
    return FisherRegulariser(form, EPSILON), PotentialRegulariser(potential, form, EPSILON)


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("sizes", [(5, 1, 5), (1, 1)])
@pytest.mark.parametrize("constant", [False, True])
def test_one_latent_and_a_constant_decoder_leave_the_weights_finite(form, sizes, constant):
    for regulariser in both(form):
        losses, weights = loop(regulariser, sizes, constant)
        assert all(math.isfinite(loss) for loss in losses)
        assert all(weight.isfinite().all() for weight in weights)


@pytest.mark.parametrize("form", ["flatness", "isometry"])
def test_one_latent_does_not_vary(form):
    decoder, potential, z = setting()
    z = z[:1].requires_grad_()
    for regulariser in (
        FisherRegulariser(form, EPSILON),
        PotentialRegulariser(potential, form, EPSILON),
    ):
        value = regulariser(decoder, z, directions(z)).regulariser
        (gradient,) = torch.autograd.grad(value, z)
        assert value.item() == pytest.approx(0, abs=1e-20)
        assert gradient.abs().max().item() == pytest.approx(0, abs=1e-9)


def test_a_tie_to_a_metric_that_vanishes_pulls_at_the_potential_alone():
    _, potential, z = setting()
    weight = torch.zeros(3, 9, dtype=torch.complex128, requires_grad=True)

    def decoder(z):
        return ComplexGaussian(z @ weight, torch.zeros(len(z), 9, dtype=torch.float64))

    tie = PotentialRegulariser(potential, "volume", EPSILON)(decoder, z, directions(z)).tie
    tie.backward()
    v = directions(z)
    ours = torch.einsum("ni,nij,nj->n", v, potential.metric(z), v.conj()).real.log()
    floor = 0.5 * math.log(torch.finfo(torch.float64).tiny)
    torch.testing.assert_close(tie, (ours - floor).square().mean())
    assert weight.grad.abs().max() == 0
    assert 0 < potential.slope.grad.abs().max() < math.inf


def test_options_of_a_regulariser_are_looked_at():
    _, potential, _ = setting()
    for build in (FisherRegulariser, partial(PotentialRegulariser, potential)):
        with pytest.raises(InputError, match="'Flatness' is unknown: choose one of volume, flat"):
            build("Flatness", EPSILON)
        for epsilon in (-1.0, math.nan, math.inf):
            with pytest.raises(InputError, match=r"epsilon of a regulariser is .* at least 0"):
                build("flatness", epsilon)
    settings = {"form": "volume", "epsilon": EPSILON, "tie": 1.0, "tie_to": "Full"}
    settings |= {"groups": 1, "components": 2, "scale": 1.0}
    with pytest.raises(InputError, match="'Full' is unknown: choose one of hermitian, full"):
        build_regulariser(settings, 3, torch.Generator())


def test_no_latents_are_refused():
    decoder, potential, z = setting()
    for regulariser in (
        FisherRegulariser("volume", EPSILON),
        PotentialRegulariser(potential, "volume", EPSILON),
    ):
        with pytest.raises(InputError, match="there are no latents to regularise at"):
            regulariser(decoder, z[:0], z[:0])
