"""Flatness of metrics against closed forms."""

import math

import pandas as pd
import pytest
import torch

from kahlervae.data import Form
from kahlervae.evaluate.flatness import flatness, score_flatness
from kahlervae.geometry import fisher_metric
from kahlervae.models import build_model

IDENTITY = {"dataset": "digits", "representation": "pixels", "variant": "complex", "seed": 3}


def random_metrics(dtype=torch.complex128):
    factor = torch.randn(9, 3, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return factor @ factor.mH + 0.1 * torch.eye(3)


def test_volume_and_condition_are_those_of_determinant_and_norms():
    metric = random_metrics()
    found = flatness(metric)
    log_dets = torch.linalg.slogdet(metric).logabsdet
    assert found["logdet_sd"] == pytest.approx(log_dets.std(correction=0).item())
    condition = torch.linalg.cond(metric).log()
    assert found["log_condition"] == pytest.approx(condition.median().item())


def test_neither_has_a_unit():
    metric = random_metrics()
    assert flatness(1e6 * metric) == pytest.approx(flatness(metric))


def test_a_constant_round_metric_is_flat():
    assert flatness(3 * torch.eye(4).expand(5, 4, 4) + 0j) == {"logdet_sd": 0, "log_condition": 0}


def test_a_latent_that_the_decoder_ignores_counts_as_rounding():
    metric = torch.diag(torch.tensor([2.0, 0.0])).expand(3, 2, 2).to(torch.complex64)
    found = flatness(metric)
    assert found["log_condition"] == pytest.approx(-math.log(torch.finfo(torch.float32).eps))
    assert found["logdet_sd"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_rows_are_of_posteriors_and_midpoints(kind):
    torch.manual_seed(0)
    model = build_model(IDENTITY, Form((8, 8)), kind, latent_dim=2, width=8, depth=2).eval()
    images = torch.rand(40, 8, 8, generator=torch.Generator().manual_seed(1))
    table = score_flatness(model, images, {"count": 30})
    assert table["points"].tolist() == ["posterior", "midpoint"]
    metric = fisher_metric(model.decoder, model.encode(images).mean[:30]).detach()
    assert table["logdet_sd"][0] == pytest.approx(flatness(metric)["logdet_sd"], rel=1e-5)
    assert (table[["logdet_sd", "log_condition"]] > 0).all(axis=None)
    pd.testing.assert_frame_equal(table, score_flatness(model, images, {"count": 30}))
