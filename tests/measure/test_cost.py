import pytest
import torch

from kahlervae.geometry import fisher_metric
from kahlervae.measure import cost
from kahlervae.measure.cost import jacfwd_metric, jacrev_metric, jvp_loop_metric, run_cost
from kahlervae.models.decoders import ComplexDecoder
from kahlervae.nn import to_double

SETTINGS = {
    "base": {"output_dim": 8, "latent_dim": 2, "width": 4, "batch": 8, "components": 16},
    "sweeps": {"output_dim": [8, 16], "batch": [1]},
    "more": [{"latent_dim": 3, "width": 5}],
    "classes": {"probes": 256, "share": 0.5},
    "candidates": {
        "mixture": {
            "kind": "mixture",
            "size": {"groups": 2, "components": 4},
            "steps": 300,
            "learning_rate": 0.05,
            "batch": 16,
        },
        "holomorphic": {
            "kind": "holomorphic",
            "size": {"width": 4, "layers": 1},
            "steps": 300,
            "learning_rate": 0.02,
            "batch": 16,
        },
    },
    "threads": 1,
    "repetitions": 2,
}
PLAIN = {"jacfwd", "jacrev", "jvp_loop"}


@pytest.mark.parametrize("route", [jacfwd_metric, jacrev_metric, jvp_loop_metric])
@pytest.mark.parametrize("width", [4, 30])
def test_all_that_is_compared_is_the_same_metric(route, width):
    torch.manual_seed(0)
    decoder = to_double(ComplexDecoder(40, 3, width, 2))
    z = torch.randn(12, 3, dtype=torch.complex128)
    torch.testing.assert_close(route(decoder, z), fisher_metric(decoder, z))


def test_table_has_every_size_and_method_once():
    table = run_cost(SETTINGS)
    keys = ["sweep", "output_dim", "latent_dim", "width", "batch", "components", "quantity"]
    assert not table.duplicated([*keys, "method"]).any()
    sweeps = ["base", "output_dim", "batch", "more", "classes", "construction"]
    assert table["sweep"].unique().tolist() == sweeps
    classes = table[table["sweep"] == "classes"].set_index("method")
    assert list(classes.index) == ["constant", "mixture", "holomorphic", "fisher"]
    assert classes.loc["fisher", "relative_error"] < 1e-6
    assert (classes["relative_error"].iloc[1:3] < classes.loc["constant", "relative_error"]).all()
    assert classes.loc["fisher", "relative"] == 1
    own = table[table["sweep"] == "construction"].set_index("method")
    assert list(own.index) == ["log_partition", "pushforward", "automatic"]
    assert own["relative_error"].max() < 1e-5
    assert own.loc["pushforward", "relative"] == 1
    table = table[~table["sweep"].isin(("classes", "construction"))]
    assert table["relative_error"].isna().all()
    metric = table[table["quantity"] == "metric"].groupby("sweep", sort=False)["method"].agg(set)
    assert metric["base"] == {"decoder", "potential", "fisher", *PLAIN}
    assert metric["batch"] == metric["base"] - PLAIN
    for quantity in ("log_det", "log_det_gradient"):
        rows = table[table["quantity"] == quantity]
        assert set(rows["method"]) == {"potential", "fisher"}
    assert (table["microseconds_per_point"] > 0).all()
    assert (table["microseconds_q25"] <= table["microseconds_q75"]).all()
    potential = table[table["method"] == "potential"]
    assert (potential["relative"] == 1).all()
    assert (table["threads"] == 1).all()
    assert (table["device"] == "cpu").all()


def test_threads_are_those_of_before_afterwards():
    before = torch.get_num_threads()
    run_cost(SETTINGS | {"threads": before + 1, "sweeps": {}, "more": []})
    assert torch.get_num_threads() == before


def test_slow_methods_get_fewer_points_and_the_slowest_are_left_out(monkeypatch):
    passes = 8 * (4 * (2 + 4) * 4 + 2 * 4 * 8)  # operations of the four directions at one point
    monkeypatch.setattr(cost, "WORK", 3 * passes)
    monkeypatch.setattr(cost, "LIMIT", 1.5 * passes)
    table = run_cost(SETTINGS | {"sweeps": {}, "more": []})
    table = table[table["sweep"] == "base"].set_index(["quantity", "method"])
    assert table.loc[("metric", "fisher"), "batch"] == 3
    assert table.loc[("metric", "potential"), "batch"] == 8
    assert ("metric", "jacrev") not in table.index
    assert ("log_det_gradient", "fisher") not in table.index


def test_peak_memory_counts_what_is_held_at_once():
    mebibyte = 2**20

    def call():
        first = torch.empty(4 * mebibyte, dtype=torch.uint8)
        del first
        return torch.empty(3 * mebibyte, dtype=torch.uint8).clone()

    peak = cost._peak_memory(call, torch.device("cpu"))
    assert 6 * mebibyte <= peak < 6.1 * mebibyte


@pytest.mark.parametrize("components", [4, 8, 16, 32, 64, 128, 256, 512, 1024])
def test_groups_divide_the_components(components):
    groups = cost._groups(components)
    assert components % groups == 0
    assert groups <= components // groups <= 2 * groups
