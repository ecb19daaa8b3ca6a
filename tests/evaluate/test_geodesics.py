"""Geodesics against straight lines on small models: what the rows mean, bad input."""

import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

from kahlervae.data import Form, Split
from kahlervae.errors import InputError
from kahlervae.evaluate.geodesics import compare_curves, join_posteriors
from kahlervae.evaluate.oracle import Oracle
from kahlervae.evaluate.reference import Reference
from kahlervae.evaluate.score import score_paths
from kahlervae.geometry import MixturePotential
from kahlervae.geometry.fisher import fisher_norm
from kahlervae.models import build_model

IDENTITY = {"dataset": "digits", "representation": "pixels", "variant": "complex", "seed": 3}
SETTINGS = {"epsilon": 1e-3, "count": 9, "points": 4, "steps": 6}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = build_model(IDENTITY, Form((8, 8)), "complex", latent_dim=2, width=8, depth=2)
    for parameter in model.parameters():
        parameter.data *= 1.5  # so that posterior means lie apart
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def potential():
    stream = torch.Generator().manual_seed(0)
    return MixturePotential.random(2, 3, 8, 30.0, stream).requires_grad_(False)


@pytest.fixture(scope="module")
def splits():
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).split([1200, 300, 297])
    labels = torch.tensor(digits.target).split([1200, 300, 297])
    names = ("train", "validation", "test")
    return {
        name: Split(*pair, Form((8, 8))) for name, *pair in zip(names, images, labels, strict=True)
    }


@pytest.fixture(scope="module")
def references(splits):
    torch.manual_seed(0)
    settings = {"neighbours": 5, "quantile": 0.95}
    return [Reference(Oracle(name, (8, 8), 10), splits, settings) for name in ("mlp", "cnn")]


def test_rows(model, potential, splits, references):
    table, decoded = compare_curves(model, potential, splits["test"].samples, references, SETTINGS)
    assert table["curve"].tolist() == ["straight"] * 2 + ["geodesic"] * 2
    assert table["oracle"].tolist() == ["mlp", "cnn"] * 2
    metrics = ["energy", "length", "fisher_energy", "fisher_length"]
    scores = ["acceleration", "speed_variation", "turning"]
    scores += [*references[0].path_scores(decoded["straight"]), "sharpness"]
    assert table.columns.tolist() == [*IDENTITY, "potential", "curve", "oracle", *metrics, *scores]
    assert (table["potential"] == "fitted").all()
    assert table[metrics + scores].notna().all(axis=None)
    assert {name: tuple(paths.shape) for name, paths in decoded.items()} == {
        "straight": (2, 7, 8, 8),
        "geodesic": (2, 7, 8, 8),
    }
    again, _ = compare_curves(model, potential, splits["test"].samples, references, SETTINGS)
    pd.testing.assert_frame_equal(table, again)
    straight, geodesic = (table[table["curve"] == name] for name in ("straight", "geodesic"))
    assert geodesic["energy"].mean() < straight["energy"].mean()


def test_straight_lines_are_those_of_the_paths(model, potential, splits, references):
    table, _ = compare_curves(model, potential, splits["test"].samples, references, SETTINGS)
    paths = score_paths(model, {}, splits["test"].samples, references, SETTINGS)
    shared = [column for column in paths.columns if column in table.columns]
    assert {"acceleration", "midpoint_outliers", "sharpness"} < set(shared)
    straight = table[table["curve"] == "straight"].reset_index(drop=True)
    pd.testing.assert_frame_equal(straight[shared], paths[shared])


def test_lengths_in_the_exact_metric(model, potential, splits, references):
    """By Jacobian-vector products along every step instead of metrics."""
    table, _ = compare_curves(model, potential, splits["test"].samples, references, SETTINGS)
    curves = join_posteriors(model, potential, splits["test"].samples, SETTINGS)
    for name, curve in curves.items():
        squares = torch.stack(
            [
                fisher_norm(model.decoder, (z + w) / 2, w - z)
                for z, w in zip(curve.unbind(1)[:-1], curve.unbind(1)[1:], strict=True)
            ]
        )
        row = table[table["curve"] == name].iloc[0]
        assert row["fisher_length"] == pytest.approx(squares.sqrt().sum(0).mean().item(), rel=1e-4)
        energy = 0.5 * SETTINGS["steps"] * squares.sum(0).mean().item()
        assert row["fisher_energy"] == pytest.approx(energy, rel=1e-4)


def test_curves_join_the_same_images_and_straight_ones_are_straight(model, potential, splits):
    curves = join_posteriors(model, potential, splits["test"].samples, SETTINGS)
    straight, geodesic = curves["straight"], curves["geodesic"]
    torch.testing.assert_close(geodesic[:, [0, -1]], straight[:, [0, -1]])
    assert straight.diff(dim=1).diff(dim=1).abs().max() < 1e-5
    distance = (straight[:, -1] - straight[:, 0]).norm(dim=1)
    assert ((geodesic - straight).norm(dim=2).amax(1) / distance).max() > 1e-3


def test_geodesics_of_a_constant_metric_are_the_straight_lines(model, splits):
    constant = MixturePotential.constant(torch.diag(torch.tensor([2.0, 5.0])).to(torch.complex64))
    curves = join_posteriors(model, constant, splits["test"].samples, SETTINGS)
    torch.testing.assert_close(curves["geodesic"], curves["straight"])


def test_bad_input(model, potential, splits):
    with pytest.raises(InputError, match="joins two samples, but there are 1"):
        join_posteriors(model, potential, splits["test"].samples[:1], SETTINGS)
    broken = MixturePotential.constant(torch.eye(2, dtype=torch.complex64))
    broken.background.mul_(torch.nan)
    with pytest.raises(InputError, match=r"of complex \(seed 3\) is not finite"):
        join_posteriors(model, broken, splits["test"].samples, SETTINGS)
