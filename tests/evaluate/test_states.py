"""Models of states against the truth: an oracle that is the true map, and ones that are not."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kahlervae.data import Form, Split
from kahlervae.data.states import density_coordinates, make_states
from kahlervae.errors import InputError
from kahlervae.evaluate.states import compare_with_truth, measure_states, true_form
from kahlervae.geometry import fisher_form, hermitian_part, relative_error
from kahlervae.geometry.fubini_study import fubini_study_metric
from kahlervae.models import RealGaussian, build_model

SETTINGS = {"pairs": 60, "steps": 16, "points": 5, "angle": 45, "tear": 5, "defect": 0.1}
IDENTITY = {"dataset": "states", "representation": "pixels", "variant": "complex", "seed": 0}
NOISE = 0.03


class Oracle(nn.Module):
    """Encoder and decoder are the affine chart, after a map of C² that may not be holomorphic.

    Latents are u = z + shear·z̄ for affine coordinates z.
    """

    def __init__(self, shear=0.0, sigma=NOISE):
        super().__init__()
        self.identity, self.shear, self.sigma = IDENTITY, shear, sigma

    def encode(self, x):
        z = torch.complex(x[:, 3:5], -x[:, 6:8]) / math.sqrt(2) / x[:, :1]
        return SimpleNamespace(mean=z + self.shear * z.conj())

    def decoder(self, u):
        z = (u - self.shear * u.conj()) / (1 - self.shear**2)
        psi = torch.cat([torch.ones_like(z[..., :1]), z], dim=-1)
        psi = psi / (psi.real.square() + psi.imag.square()).sum(-1, keepdim=True).sqrt()
        mean = density_coordinates(psi)
        return RealGaussian(mean, torch.full_like(mean, 2 * math.log(self.sigma)))


class Exact(nn.Module):
    """The potential of the truth in the affine chart."""

    def metric(self, z):
        return fubini_study_metric(z) / NOISE**2


class Flat(nn.Module):
    def metric(self, z):
        return torch.eye(2, dtype=z.dtype).expand(len(z), 2, 2) / NOISE**2


@pytest.fixture(scope="module")
def states():
    """Those of which the affine chart is far from its cut."""
    _, states = make_states(3, 300, NOISE, seed=0)
    return states[states[:, 0].abs() > 0.4]


def test_the_true_map_has_no_errors(states):
    table = compare_with_truth(Oracle(), {"exact": Exact()}, states, NOISE, SETTINGS)
    table = table.set_index("metric")
    assert list(table.index) == ["real", "fisher", "exact"]
    # Of the midpoint rule with 16 steps.
    assert (table[["length_error", "distance_error"]] < 1e-3).all(axis=None)
    assert (table["distance_spearman"] > 0.999).all()
    assert (table[["metric_error", "volume_error"]] < 1e-9).all(axis=None)
    assert (table["states_kept"] == 1).all()
    assert (table[["hermitian_defect", "chart_defect"]] < 1e-9).all(axis=None)
    assert (table.loc[["fisher", "exact"], "curvature"] - 6).abs().max() < 1e-6
    assert table["curvature"].isna()["real"]
    assert (table["pairs_kept"] > 10).all()


def test_a_chart_that_is_not_holomorphic_spares_the_whole_form_alone(states):
    table = compare_with_truth(Oracle(shear=0.3), {}, states, NOISE, SETTINGS)
    table = table.set_index("metric")
    assert (table.loc["real", ["length_error", "distance_error"]] < 1e-3).all()
    assert table.loc["real", "metric_error"] < 1e-9
    assert table.loc["real", "volume_error"] < 1e-9
    assert (table.loc["fisher", ["length_error", "distance_error"]] > 0.05).all()
    # The Hermitian part is that of the truth, yet has more volume than the form that it is part of.
    assert table.loc["fisher", "metric_error"] < 1e-9
    assert table.loc["fisher", "volume_error"] > 0.1
    assert table.loc["real", "chart_defect"] > 0.3
    assert abs(table.loc["real", "hermitian_defect"] - table.loc["real", "chart_defect"]) < 1e-9
    assert table["curvature"].isna().all()
    assert (table["curvature_points"] == 0).all()


def test_a_wrong_sigma_is_told_apart_from_a_wrong_geometry(states):
    table = compare_with_truth(Oracle(sigma=2 * NOISE), {}, states, NOISE, SETTINGS)
    assert (table["sigma"] - 2 * NOISE).abs().max() < 1e-9
    assert (table[["length_error", "distance_error"]] < 1e-3).all(axis=None)


def test_a_wrong_potential_is_seen(states):
    table = compare_with_truth(Oracle(), {"flat": Flat()}, states, NOISE, SETTINGS)
    flat = table.set_index("metric").loc["flat"]
    assert flat["length_error"] > 0.1
    assert flat["metric_error"] > 0.1
    assert flat["volume_error"] > 0.3
    assert abs(flat["curvature"]) < 1e-9


def test_the_truth_by_the_encoder_is_that_of_the_decoder_for_inverse_maps(states):
    oracle, states = Oracle(shear=0.2), states[:20].to(torch.complex128)
    states = states / torch.linalg.vector_norm(states, dim=1, keepdim=True)
    z = oracle.encode(density_coordinates(states)).mean
    form = true_form(lambda x: oracle.encode(x).mean, states)
    torch.testing.assert_close(form, NOISE**2 * fisher_form(oracle.decoder, z))
    plain = true_form(lambda x: Oracle().encode(x).mean, states)
    affine = states[:, 1:] / states[:, :1]
    assert relative_error(hermitian_part(plain), fubini_study_metric(affine)).max() < 1e-9


def test_an_untrained_model_has_no_pair_away_from_the_tear(states):
    torch.manual_seed(0)
    model = build_model(IDENTITY, Form((9,), bounded=False), "complex", 2, 8, 1)
    model = model.eval().requires_grad_(False)
    settings = SETTINGS | {"count": 50, "noise": NOISE}
    samples = density_coordinates(states)
    with pytest.raises(InputError, match=r"train longer, or raise evaluation\.states\.tear"):
        measure_states(model, {}, Split(samples, None, model.form, states), settings)
    with pytest.raises(InputError, match="no states that its samples were made from"):
        measure_states(model, {}, Split(samples, None, model.form), settings)
    table = measure_states(
        model, {}, Split(samples, None, model.form, states), settings | {"tear": 90, "angle": 90}
    )
    assert table["elbo"].nunique() == table["mse"].nunique() == 1
    assert table["mse"].gt(0).all()
