import pytest
from sample.conftest import Growing

from kahlervae.data import Form
from kahlervae.measure.sampler_cost import measure_samplers
from kahlervae.models import build_model

SETTINGS = {
    **{"chains": 4, "warmup": 20, "draws": 20, "leapfrog": 2, "candidates": 4, "rhat": 1.01},
    "epsilon": 1e-3,
}


def model(variant):
    identity = {"dataset": "digits", "representation": "pixels", "variant": variant, "seed": 0}
    return build_model(identity, Form((8, 8)), variant, latent_dim=2, width=16, depth=1)


def test_cost_compares_the_same_iterations():
    table = measure_samplers(model("complex"), Growing(), SETTINGS)
    assert list(table.metric) == ["fisher", "fitted", "fisher", "fitted", "fitted"]
    assert list(table.run) == ["short", "short", "wide", "wide", "configured"]
    assert list(table.chains) == [SETTINGS["chains"]] * 2 + [256] * 2 + [SETTINGS["chains"]]
    assert list(table.draws) == [60] * 4 + [SETTINGS["draws"]]
    assert (table.variant == "complex").all()
    assert (table["values"] > 0).all()
    rate = table.ess_per_second
    assert list(rate) == pytest.approx(list(table.ess_bulk / table.seconds))
    assert list(table.seconds_per_1000) == pytest.approx(list(1000 / rate))
    exact = rate[[0, 0, 2, 2, 0]]  # of as many chains
    assert list(table.relative) == pytest.approx(list(rate.array / exact.array))


def test_cost_of_a_decoder_with_its_own_potential():
    """It is the exact metric, that of automatic differentiation too, and not the fitted one."""
    table = measure_samplers(model("pluriharmonic"), Growing(), SETTINGS)
    assert list(table.metric) == [
        *("fisher", "fitted", "log_partition", "automatic"),
        *("fisher", "fitted", "log_partition"),
        *("fitted", "log_partition"),
    ]
    errors = table.groupby("metric")["log_det_error"].max()
    assert errors["fisher"] == 0
    assert errors[["log_partition", "automatic"]].max() < 1e-4 < errors["fitted"]
