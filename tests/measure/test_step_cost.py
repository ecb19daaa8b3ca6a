import pytest

from kahlervae.measure.step_cost import measure_steps

SIZE = {
    "image": 4,
    "latent_dim": 2,
    "width": 8,
    "depth": 1,
    "batch": 8,
    "points": 4,
    "groups": 2,
    "components": 2,
    "seeds": 2,
}


@pytest.fixture(scope="module")
def table():
    return measure_steps({"sizes": {"tiny": SIZE}, "repetitions": 3})


def test_every_variant_and_part_has_a_time_between_its_quartiles(table):
    parts = table.groupby("variant")["part"].agg(set)
    assert parts["complex"] == parts["fisher"] == {"step", "forward", "backward", "optimiser"}
    assert parts["kahler"] - parts["complex"] == {"regulariser", "tie"}
    assert (table["milliseconds"] > 0).all()
    assert table["milliseconds"].between(table["milliseconds_q25"], table["milliseconds_q75"]).all()


def test_times_are_relative_to_the_variant_without_regulariser(table):
    assert (table.loc[table["variant"] == "complex", "relative"] == 1).all()
    alone = table["part"].isin(["regulariser", "tie"])
    assert table.loc[alone, "relative"].isna().all()
    assert table.loc[~alone, "relative"].notna().all()
