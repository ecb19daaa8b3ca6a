"""The atlas against direct evaluation: fields point by point, projections, outliers."""

import pytest
import torch
from sklearn.datasets import load_digits

from kahlervae.data import Form, Split
from kahlervae.evaluate.atlas import map_latents, middle_settings
from kahlervae.evaluate.latent_slice import principal_plane
from kahlervae.evaluate.oracle import Oracle
from kahlervae.evaluate.reference import Reference
from kahlervae.geometry import fisher_metric, log_det, mixed_hessian
from kahlervae.geometry.fit import fit_potential
from kahlervae.models import build_model

IDENTITY = {"dataset": "digits", "representation": "pixels", "variant": "complex", "seed": 3}
SETTINGS = {"extent": 2.0, "resolution": 5, "samples": 40, "epsilon": 1e-3}


@pytest.fixture(scope="module")
def everything():
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32)
    model = build_model(IDENTITY, Form((8, 8)), "complex", latent_dim=2, width=8, depth=2)
    model = model.eval().requires_grad_(False)
    order = torch.randperm(len(images))
    parts, labels = order.split([1200, 300, 297]), torch.tensor(digits.target)
    names = ("train", "validation", "test")
    real = {
        n: Split(images[part], labels[part], Form((8, 8)))
        for n, part in zip(names, parts, strict=True)
    }
    splits = [split.samples for split in real.values()]
    settings = {"neighbours": 5, "quantile": 0.95}
    references = [Reference(Oracle(name, (8, 8), 10), real, settings) for name in ("mlp", "cnn")]
    random = torch.Generator().manual_seed(0)
    z = torch.randn(256, 2, dtype=torch.complex64, generator=random)
    potential = fit_potential(
        z, fisher_metric(model.decoder, z), "mixture", {"groups": 2, "components": 4}, steps=50,
        learning_rate=0.1, generator=random,
    )  # fmt: skip
    sweep = {f"truncated:temperature={t}": t * z for t in (0.5, 0.7, 0.9)}
    samples = {"prior:default": z, **sweep}
    content = map_latents(model, potential, splits[2], samples, references, SETTINGS)
    return model, potential, splits, references, samples, content


def test_fields_are_those_of_the_latents_at_the_axis(everything):
    model, potential, (*_, test), _, _, content = everything
    plane = principal_plane(model.encode(test).mean)
    origin, *directions = torch.view_as_complex(
        torch.cat([plane.origin[None], plane.directions]).unflatten(1, (2, 2)).contiguous()
    )
    for row, column in ((0, 0), (1, 3), (4, 2)):
        x, y = content["axis"][column], content["axis"][row]
        z = (origin + x * directions[0] + y * directions[1])[None]
        fisher = log_det(fisher_metric(model.decoder, z), 1e-3)
        assert content["log_det_fisher"][row, column] == pytest.approx(fisher.item(), abs=1e-4)
        metric = potential.metric(z)
        fitted = log_det(metric, 1e-3).item()
        assert content["log_det_fitted"][row, column] == pytest.approx(fitted, abs=1e-4)
        ricci = -mixed_hessian(lambda z: potential.log_det(z), z)
        scalar = torch.trace((torch.linalg.inv(metric) @ ricci)[0]).real.item()
        assert content["ricci_scalar"][row, column] == pytest.approx(scalar, rel=1e-2, abs=1e-3)
        image = model.decode(z)[0]
        torch.testing.assert_close(content["images"][row, column], image)


def test_points_are_orthogonal_projections(everything):
    model, _, (*_, test), _, samples, content = everything
    points, distances = content["points/prior:default"], content["distances/prior:default"]
    assert len(points) == SETTINGS["samples"]
    off = samples["prior:default"][:40] - model.encode(test).mean.mean(0)
    lengths = torch.view_as_real(off).square().sum((1, 2))
    torch.testing.assert_close(points.square().sum(1) + distances.square(), lengths)


def test_one_setting_of_every_family_is_shown(everything):
    content = everything[-1]
    shown = {name.partition("/")[2] for name in content if name.startswith("points/")}
    assert shown == {"posterior_mean:default", "prior:default", "truncated:temperature=0.7"}


def test_settings_of_one_sampler_with_different_bases_are_families_of_their_own():
    keys = [f"volume:base={b},power={p}" for b in ("prior", "gmm") for p in (-4, -2, 2)]
    assert middle_settings(keys) == ["volume:base=prior,power=-2", "volume:base=gmm,power=-2"]


def test_plane_is_that_of_the_largest_spread(everything):
    model, _, (*_, test), _, _, content = everything
    means = model.encode(test).mean
    real = torch.view_as_real(means).flatten(1)
    spread = torch.linalg.eigvalsh(len(real) * real.T.cov(correction=0))[-2:].sum()
    projected = principal_plane(means).project(means)
    torch.testing.assert_close(projected.square().sum(), spread, rtol=1e-4, atol=0)
    torch.testing.assert_close(content["points/posterior_mean:default"], projected[:40])


def test_outliers_are_counted_over_the_oracles(everything):
    model, _, _, references, samples, content = everything
    counts = content["outliers/prior:default"]
    images = model.decode(samples["prior:default"][:40])
    shares = [
        reference.image_scores(reference.see(images), "test")["knn_outliers"]
        for reference in references
    ]
    assert counts.sum().item() == pytest.approx(40 * sum(shares))
    assert content["oracles"] == 2


def test_few_real_images_are_outliers(everything):
    *_, (_, _, test), references, _, _ = everything
    for reference in references:
        flags = reference.flags(reference.see(test))["knn"]
        assert flags.float().mean() == pytest.approx(0.05, abs=0.04)
