"""Claims as they are written: what an entry takes from elsewhere, and what is refused."""

import copy
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from kahlervae.config.check import check_claims
from kahlervae.errors import InputError
from kahlervae.evaluate.agreement import TOLERANCES
from kahlervae.judge.claims import make_claims
from kahlervae.judge.entries import FAMILIES, TABLES, VALUES, claims_of, needed, read_claims
from kahlervae.sample.run import SAMPLERS

ROOT = Path(__file__).parents[2]
FILE = ROOT / "workflow/claims.yaml"
SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
CLAIMS = {claim.id: claim for claim in read_claims(FILE)}
CONFIG = {"datasets": {"digits": {"variants": {"complex": {}, "mine": {}}}}}
INDEX = (ROOT / "docs/claims_index.md").read_text()


def check(file, config=CONFIG):
    return check_claims(file, config, SCHEMA)


def test_the_claims_that_come_along_are_well_formed():
    assert {claim.id for claim in check(FILE)} == set(CLAIMS)


def test_primary_claims_are_few_and_have_the_words_of_the_paper():
    primary = [claim for claim in CLAIMS.values() if claim.role == "primary"]
    assert 10 <= len(primary) <= 15
    assert all(claim.paper for claim in primary)
    assert {claim.part for claim in primary} >= {
        "smoother",
        "flatter",
        "fewer outliers",
        "variation",
    }


def test_paths_are_read_with_what_else_makes_them_smooth():
    told = {claim.id for claim in CLAIMS.values() if claim.part == "smoother"}
    for name in told:
        beside = {read.metric for read in CLAIMS[name].beside}
        assert beside == {"sharpness", "active_latents"}, name


def test_an_entry_takes_table_words_and_rows_from_its_metric():
    claim = CLAIMS["kahler_turning_vs_beta"]
    assert claim.read.table == "paths"
    assert claim.what == {"endpoints": "posterior", "variant": "kahler"}
    assert claim.against == {"endpoints": "posterior", "variant": "beta"}
    assert claim.statement == (
        "The method (kahler) gives straighter paths between test images than beta at matched "
        "reconstruction, read with sharpness and active latents."
    )
    ((read, limit),) = claim.matched
    assert (read.metric, read.table, limit) == ("mse", "reconstruction", 0.05)
    chosen = CLAIMS["volume_sampler_kahler_vendi_vs_prior_of_mixture"]
    assert chosen.sampler == {"family": "volume:base=prior,weight=global,metric=fitted"}
    assert chosen.what == {"split": "test", "variant": "kahler"}
    assert chosen.against["sampler"] == "prior"
    equal = CLAIMS["best_volume_sampler_complex_knn_outliers_vs_gmm_at_recall_and_vendi"]
    assert (equal.sampler, equal.control, equal.at) == ({"best": True}, "gmm", ("recall", "vendi"))


def test_former_numbers_have_names():
    """Every number of the claims that were code, and names that there are."""
    rows = re.findall(r"^\| C(\d+) \| `(\w+)` \| (?:`(\w+)`|–) \|$", INDEX, re.MULTILINE)
    assert {int(number) for number, _, _ in rows} == set(range(1, 101))
    named = [(then, now) for _, then, now in rows]
    assert {now for _, now in named if now} <= set(CLAIMS)
    assert {then for then, now in named if not now} == {
        f"kahler_beta1_{metric}_vs_{control}"
        for metric in ("acceleration", "knn_outliers")
        for control in ("kahler", "complex")
    }


def test_the_example_of_the_page_is_a_claim(tmp_path):
    _, example = re.findall(r"```yaml\n(.*?)```", INDEX, re.DOTALL)
    (tmp_path / "my_claims.yaml").write_text(example)
    (claim,) = check(tmp_path / "my_claims.yaml")
    assert claim.statement == "The tie alone gives straighter paths than mixture."


def test_tables_of_a_kept_run_have_the_columns_that_claims_may_read():
    for name, table in TABLES.items():
        file = ROOT / f"reference/tables/{name}.csv"
        if not file.exists():
            continue
        frame = pd.read_csv(file)
        columns = set(frame.columns)
        assert {"dataset", "representation", "seed", *table.keys} <= columns, name
        assert ("oracle" in columns) == table.judged
        told = {"dataset", "representation", "seed", "oracle", *table.keys}
        for column in {*frame.select_dtypes("number")} - told:
            assert re.fullmatch(table.numbers, column), (name, column)


@pytest.mark.parametrize("name", ["identities", "agreement", "distances", "paths", "flatness"])
def test_values_are_those_of_the_tables(name):
    for file in ROOT.glob(f"reference/**/tables/{name}.csv"):
        frame = pd.read_csv(file)
        for key in set(TABLES[name].keys) & set(VALUES):
            assert set(frame[key]) <= set(VALUES[key]), file


def test_values_are_those_of_the_stages():
    samplers = yaml.safe_load(SCHEMA.read_text())["$defs"]["samplers"]["items"]["enum"]
    assert VALUES["sampler"] == SAMPLERS == tuple(samplers)
    assert set(VALUES["identity_name"]) == set(TOLERANCES)


@pytest.mark.parametrize("file", [*ROOT.glob("reference/**/tables/chosen.csv")], ids=str)
def test_families_are_those_that_are_chosen(file):
    for family in set(pd.read_csv(file)["family"]):
        assert re.fullmatch(FAMILIES, family), family


def test_needed_columns_are_those_of_the_claims():
    document = yaml.safe_load(FILE.read_text())
    document["claims"] = [e for e in document["claims"] if "at" in e][:1]
    del document["primary"]
    columns = needed(claims_of(document))
    assert set(columns) == {"samples", "chosen", "pareto", "reconstruction"}
    assert columns["pareto"][1] == ["control_outliers", "difference", "seed"]
    assert columns["samples"][1] == ["knn_outliers", "seed"]


SETTINGS = {"confidence": 0.95, "resamples": 99, "minimum_seeds": 5, "seed": 0}
ENTRY = {
    "metrics": {
        "turning": {"table": "paths", "where": {"endpoints": "posterior"}, "words": "straighter"},
        "recall": {"table": "samples", "where": {"split": "test", "sampler": "prior"}},
        "knn_outliers": {"table": "samples", "where": {"split": "test"}},
    },
    "samplers": {
        "paper": {"family": "volume:base=prior,weight=global,metric=fitted"},
        "cold": {"control": "truncated"},
    },
    "primary": {"mine": "as the paper says"},
    "claims": [
        {
            "id": "mine",
            "part": "p",
            "statement": "{words}",
            "metric": "turning",
            "what": {"variant": "mine"},
            "against": {"variant": "complex"},
            "direction": "below",
        }
    ],
}


EQUAL = {
    "at": ["recall"], "what": {"variant": "mine", "sampler": "paper"},
    "against": {"sampler": "cold"}, "metric": "knn_outliers", "statement": "s",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "Mine!"}, r"claims\[0\]\.id must be letters, digits, underscores"),
        ({"direction": "lower"}, r"claims\[0\]\.direction must be one of below, above, within"),
        ({"versus": {}}, r"claims\[0\]\.versus is not a known key"),
        ({"metric": "bending"}, "mine reads bending, which `metrics` does not explain"),
        ({"statement": "{name}"}, r"mine has \{name\}, which `for` does not name"),
        ({"id": "other"}, "primary names mine, which is not the id of a claim"),
        ({"for": {"metric": ["turning", "turning"]}}, "holds mine twice"),
        ({"table": "travel"}, "mine reads travel, which is no table of claims: take one of ident"),
        ({"table": "paths", "metric": "x"}, "mine has {words}, and `metrics` has none for x"),
        ({"table": "flatness"}, "mine reads turning, which is no column of numbers of flatness"),
        ({"what": {"variant": "kahlr"}}, "mine names the variant kahlr, which there is not: take"),
        ({"what": {"variante": "mine"}}, "mine selects by variante, and paths has variant, endp"),
        ({"where": {"endpoints": "ends"}}, "mine names the endpoints ends, which there is not"),
        ({"what": {}}, "mine does not say which variant of paths it is about: select one"),
        ({"metric": "recall", "statement": "s"}, "does not say which setting of samples"),
        (
            {"metric": "recall", "statement": "s", "where": {"sampler": "gms", "setting": "x"}},
            "mine names the sampler gms, which there is not: take one of prior, truncated",
        ),
        ({"at": ["recall"]}, "mine compares at equal recall: let `against` be a sampler"),
        (
            {"at": ["recall"], "against": {"sampler": "cold"}},
            "mine compares at equal recall: let `what` be a sampler of `samplers` that has a",
        ),
        ({"what": {"sampler": "cold"}}, "mine is about cold, which is a control"),
        (
            {
                "at": ["recall"], "against": {"sampler": "cold"}, "metric": "recall",
                "what": {"variant": "mine", "sampler": "paper"}, "statement": "s",
            },
            "mine compares recall at equal recall, and tables/pareto.csv has scores of outliers",
        ),
        ({"metric": None}, r"claims\[0\]\.metric must be a text"),
        ({"for": {"a": ["b"]}, "metric": ""}, r"claims\[0\]\.metric must be a text that is not"),
        (
            {"table": "reconstruction", "metric": "mse", "statement": "s", "oracles": "each"},
            "mine is about each oracle, and none judges reconstruction",
        ),
        ({"statement": "{b"}, r'mine has braces in "{b" that are no name \(expected \'}\' before'),
        ({"statement": "{words:d}"}, r'mine has braces in "{words:d}" that are no name'),
        *(
            ({"over": "rows", "against": None} | ignored,
             f"mine is judged at every row by itself, which does not read `{key}`: drop it")
            for key, ignored in {
                "against": {"against": {"variant": "complex"}},
                "effect": {"effect": "ratio"},
                "matched": {"matched": {"turning": 0.05}},
                "beside": {"beside": ["turning"]},
                "oracles": {"oracles": "each"},
                "pooled": {"pooled": True},
                "at": {"at": ["recall"]},
                "margin": {"direction": "within", "margin": 0.1},
            }.items()
        ),
        ({"margin": 0.1}, "mine has its bound on one side, which does not read `margin`"),
        ({"tolerance": "turning"}, "mine is judged by its mean over seeds, which does not r"),
        (
            {"over": "rows", "against": None, "tolerance": "turning", "bound": 1},
            "mine has the bound of every row from a column, which does not read `bound`",
        ),
        (
            {"pooled": True, "oracles": "each"},
            "mine is about a mean over data sets, each with oracles of its own, which does not",
        ),
        *(
            (EQUAL | ignored, f"mine compares .* at equal [a-z, ]+ which does not read `{key}`")
            for key, ignored in {
                "effect": {"effect": "ratio"},
                "matched": {"matched": {"recall": 0.05}},
                "beside": {"beside": ["recall"]},
            }.items()
        ),
        (
            EQUAL | {"against": {"sampler": "cold", "variant": "complex"}},
            "mine compares test draws of one model at equal recall, which does not read `variant`",
        ),
        (
            EQUAL | {"where": {"split": "validation"}},
            "mine compares test draws of one model at equal recall, which does not read `split`",
        ),
        (EQUAL | {"at": ["recal"]}, "mine compares at equal recal, which is no measure of var"),
        (
            {"what": {"variant": "mine", "sampler": "paper", "setting": "x"}, "metric": "recall",
             "statement": "s"},
            "mine is about paper, whose setting a table says: drop `setting`",
        ),
        (
            {"what": {"variant": "mine", "sampler": "paper"}, "metric": "recall",
             "statement": "s", "over": "rows", "against": None},
            "mine is about paper, whose setting a table says: drop `setting`, and let it be over",
        ),
        *(
            (
                {"table": table, "metric": metric, "statement": "s", "where": {key: "x"}},
                f"mine names the {key} x, which there is not: take one of [a-z_]+, ",
            )
            for table, metric, key in (
                ("identities", "value", "identity_name"),
                ("agreement", "airm_median", "potential"),
                ("distances", "spearman", "metric"),
            )
        ),
        ({"direction": "within"}, "mine lies within a margin, of an interval over seeds: add"),
        ({"beside": ["blur"]}, "mine reads blur, which `metrics` does not explain"),
        ({"beside": ["recall"]}, "mine does not say which setting of samples it is about"),
    ],
)  # fmt: skip
def test_a_claim_that_is_none_is_refused_in_one_sentence(changes, said, tmp_path):
    document = copy.deepcopy(ENTRY)
    document["claims"][0] |= changes
    if document["claims"][0]["against"] is None:
        del document["claims"][0]["against"]
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump(document))
    with pytest.raises(InputError) as refusal:
        check(file)
    sentence = str(refusal.value).splitlines()[0]
    assert sentence.startswith(f"{file}: ")
    assert re.search(said.replace("{words}", r"\{words\}"), sentence), sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("samplers", "said"),
    [
        (
            {"volume": {"family": "posterior_mixture"}},
            r"samplers\.volume has the name of a sampler",
        ),
        (
            {"paper": {"family": "volume:base=prior,weight=globl,metric=fitted"}},
            "mine is about the family volume:base=prior,weight=globl,metric=fitted, of which no",
        ),
    ],
)
def test_a_sampler_that_none_is_meant_by_is_refused(samplers, said, tmp_path):
    document = copy.deepcopy(ENTRY)
    document["samplers"] |= samplers
    document["claims"][0] |= EQUAL
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(InputError, match=said):
        check(tmp_path / "claims.yaml")


def test_what_is_said_anyway_may_be_written():
    """An entry cannot take out what it merges from another one, but for setting it back."""
    document = copy.deepcopy(ENTRY)
    document["claims"][0] |= EQUAL | {"effect": "difference", "oracles": "averaged"}
    document["claims"][0]["statement"] = "{{braces}} and {name}"
    document["claims"][0]["for"] = {"name": ["names"]}
    (claim,) = claims_of(document)
    assert claim.statement == "{braces} and names"


def test_what_is_judged_is_checked_as_before_a_run(tmp_path):
    """Variants may have any name, for none is known; all else is held against the same rules."""
    document = copy.deepcopy(ENTRY)
    file = tmp_path / "claims.yaml"
    for change, said in (
        (
            {"agaisnt": {}},
            r"claims\.yaml: claims\[0\]\.agaisnt is not a known key \(did you mean",
        ),
        ({"margin": 1.0}, "mine has its bound on one side"),
        ({"where": {"endpoints": "ends"}}, "mine names the endpoints ends, which there is not"),
    ):
        document["claims"][0] = ENTRY["claims"][0] | change
        file.write_text(yaml.safe_dump(document))
        with pytest.raises(InputError, match=said):
            make_claims([], file, SETTINGS, tmp_path / "out.csv")
    document["claims"][0] = ENTRY["claims"][0] | {"what": {"variant": "kahlr"}}
    file.write_text(yaml.safe_dump(document))
    assert read_claims(file)[0].what["variant"] == "kahlr"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"against": {"variant": "mine"}}, "mine compares something with itself"),
        ({"effect": "ratio"}, "mine is about a quotient, and its bound is 0: say a positive"),
        ({"effect": "ratio", "bound": -1}, "its bound is -1: say a positive"),
    ],
)
def test_comparisons_that_say_nothing_are_refused(changes, said, tmp_path):
    document = copy.deepcopy(ENTRY)
    document["claims"][0] |= changes
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(InputError, match=said):
        check(tmp_path / "claims.yaml")


@pytest.mark.parametrize(
    ("lacking", "changes", "said"),
    [
        ("against", {"effect": "ratio"}, "mine compares, and has nothing to compare with: add"),
        ("metric", {}, "mine has no metric: add one, or let `for` name some"),
    ],
)
def test_what_an_entry_lacks_is_said(lacking, changes, said, tmp_path):
    document = copy.deepcopy(ENTRY)
    document["claims"][0] |= changes
    del document["claims"][0][lacking]
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(InputError, match=said):
        check(tmp_path / "claims.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("claims: [", "cannot be read as claims"),
        ("claims: []\nclaims: []", "claims is set a second time"),
        ("- a", "all of it must be a mapping"),
        ("claims: []", "claims must be not empty"),
        ("&a [*a]", "goes beyond"),
    ],
)
def test_a_file_that_holds_no_claims_is_refused(text, said, tmp_path):
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        check(tmp_path / "claims.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml cannot be read as claims: No such file"):
        check(tmp_path / "none.yaml")


def test_more_than_fifteen_primary_claims_are_refused(tmp_path):
    document = copy.deepcopy(ENTRY)
    document["primary"] = {f"claim_{i}": "words" for i in range(16)}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(InputError, match="primary must be a mapping of at most 15"):
        check(tmp_path / "claims.yaml")
