"""Claims as they are written, in ``workflow/claims.yaml``: read, spelt out, and what they ask for.

The keys of an entry are described in ``claims.schema.yaml`` beside this file. Nothing here reads a
table, so that claims can be checked before there is any.
"""

import itertools
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from kahlervae.config.sentences import (
    Validator,
    check_repetitions,
    load_yaml,
    not_finite,
    plain,
    quoted,
    refuse,
    schema_faults,
)
from kahlervae.errors import InputError

__all__ = [
    "OPTIONAL",
    "RUN",
    "TABLES",
    "VALUES",
    "Claim",
    "Read",
    "Table",
    "claims_of",
    "faults",
    "needed",
    "read_claims",
    "read_yaml",
]

SCHEMA = Path(__file__).with_name("claims.schema.yaml")

RUN = ["dataset", "representation"]


class Table(NamedTuple):
    """The columns of a table that claims can read.

    Attributes:
        keys: columns whose values say what a row is of, beside data set, representation and seed.
        numbers: regular expression of the columns with numbers.
        judged: whether there is a row for every oracle.
    """

    keys: tuple[str, ...]
    numbers: str
    judged: bool = False


SCORES = "(knn|entropy|mahalanobis|energy)_outliers"
SMOOTHNESS = "(feature_)?(acceleration|speed_variation|turning)"
MIDPOINTS = "midpoint(_entropy|_mahalanobis)?_outliers|label_flips|path_length|sharpness"
TABLES = {
    "identities": Table(("variant", "identity_name"), "value|tolerance"),
    "agreement": Table(
        ("variant", "probe_set", "potential"),
        "relative_error_median|airm_median|logdet_spearman|within_share|min_eigenvalue"
        "|hermitian_defect|closedness_defect|kahler_residual|covariance_share",
    ),
    "reconstruction": Table(
        ("variant",), "elbo|log_likelihood|kl|mse|latent_norm|active_latents|sigma|parameters|nll"
    ),
    "flatness": Table(("variant", "points"), "logdet_sd|log_condition"),
    "samples": Table(
        ("variant", "split", "sampler", "setting"),
        f"{SCORES}|density|recall|coverage|vendi|mean_distance|class_entropy|novelty",
        judged=True,
    ),
    "paths": Table(("variant", "endpoints"), f"{SMOOTHNESS}|{MIDPOINTS}", judged=True),
    "geodesics": Table(
        ("variant", "curve"),
        f"energy|length|fisher_energy|fisher_length|{SMOOTHNESS}|{MIDPOINTS}",
        judged=True,
    ),
    "distances": Table(
        ("variant", "metric"), r"spearman|seeds_spearman|accuracy_\d+|microseconds_per_pair"
    ),
}
"""The tables of a run that claims can be read from."""

OPTIONAL = re.compile("accuracy_")
"""Columns that are up to the configuration: a run that lacks one has no claims about it."""

VALUES = {
    "identity_name": (
        *("kl_hessian", "psh_certificate", "closedness", "total_covariance", "missing_information"),
        *("holomorphic_hermitian", "holomorphic_closedness", "holomorphic_potential"),
        *("construction_closedness", "construction_potential"),
    ),
    "potential": (
        *("fisher", "fitted", "posterior", "constant"),
        *("hermitian", "anchors", "log_partition"),
    ),
    "metric": ("fisher", "fitted", "posterior", "constant", "euclidean"),
    "sampler": (
        *("prior", "truncated", "posterior_mixture", "gmm", "ratio", "volume", "riemannian"),
    ),
    "endpoints": ("posterior", "prior"),
    "probe_set": ("posterior", "prior"),
    "points": ("posterior", "midpoint"),
    "split": ("validation", "test"),
    "curve": ("geodesic", "straight"),
}
"""The values of keys that have no others."""

VARIATIONS = ("recall", "coverage", "vendi", "novelty")

FAMILIES = (
    r"posterior_mixture|riemannian|ratio:base=(prior|gmm),inputs=latent(\+log_det)?"
    "|volume:base=(prior|gmm|posterior_mixture),weight=(global|local)"
    ",metric=(fitted|posterior|fisher)"
)
"""Regular expression of the samplers, with their settings but for the power, that are chosen."""

DEFAULTS: dict[str, Any] = {
    "against": None,
    "at": (),
    "effect": "difference",
    "over": "seeds",
    "bound": 0.0,
    "tolerance": "",
    "margin": 0.0,
    "matched": {},
    "beside": (),
    "oracles": "averaged",
    "pooled": False,
}
"""What an entry says that does not say it."""


class Exclusion(NamedTuple):
    """Keys that would be read of no claim of a kind.

    Attributes:
        holds: of an entry with :data:`DEFAULTS`, whether it is of that kind.
        kind: in words.
        keys: that it may not set.
    """

    holds: Callable[[Mapping[str, Any]], bool]
    kind: str
    keys: tuple[str, ...]


EXCLUSIONS = (
    Exclusion(
        lambda entry: entry["over"] == "rows",
        "is judged at every row by itself",
        ("against", "at", "effect", "matched", "beside", "oracles", "pooled", "margin"),
    ),
    Exclusion(
        lambda entry: entry["over"] == "seeds",
        "is judged by its mean over seeds",
        ("tolerance",),
    ),
    Exclusion(
        lambda entry: bool(entry["tolerance"]),
        "has the bound of every row from a column",
        ("bound",),
    ),
    Exclusion(
        lambda entry: entry["direction"] != "within",
        "has its bound on one side",
        ("margin",),
    ),
    Exclusion(
        lambda entry: bool(entry["at"]),
        "compares the same model at equal variation, by differences",
        ("effect", "matched", "beside"),
    ),
    Exclusion(
        lambda entry: entry["pooled"],
        "is about a mean over data sets, each with oracles of its own",
        ("oracles",),
    ),
)
COMPARED = ["family", "setting", "score", "variation", "control"]


class Read(NamedTuple):
    """A metric of a table."""

    metric: str
    table: str
    where: dict[str, Any]


class Claim(NamedTuple):
    """One claim, spelt out: with everything that an entry takes from elsewhere.

    Attributes:
        id: name of the claim.
        part: of the argument.
        paper: the paper's words, of a primary claim; empty for a secondary one.
        statement: what is claimed.
        read: what is measured.
        what: values of the table's keys: of whom.
        against: the same of what it is held against; None for a value by itself.
        sampler: in place of a sampler's setting, values of the row of ``chosen.csv`` that has it;
            None otherwise.
        at: measures of variation at which samplers compare, ``control`` with what; empty otherwise.
        control: see ``at``.
        effect: of the two, how they compare.
        over: ``seeds``: their mean, by its interval. ``rows``: every row by itself.
        direction: on which side of the bound it has to lie.
        bound: of the interval, or of every row.
        tolerance: the column that has the bound of every row; empty if ``bound`` is it.
        margin: of ``within``: how far from the bound at most.
        label: the metric, in words.
        matched: metrics whose relative difference has a limit; beyond it there is no verdict.
        beside: metrics whose relative difference is told.
        by_oracle: whether every oracle has a claim of its own, in place of their mean.
        pooled: whether it is about the mean over data sets.
    """

    id: str
    part: str
    paper: str
    statement: str
    read: Read
    what: dict[str, Any]
    against: dict[str, Any] | None
    sampler: dict[str, Any] | None
    at: tuple[str, ...]
    control: str
    effect: Literal["difference", "ratio"]
    over: Literal["seeds", "rows"]
    direction: Literal["below", "above", "within"]
    bound: float
    tolerance: str
    margin: float
    label: str
    matched: tuple[tuple[Read, float], ...]
    beside: tuple[Read, ...]
    by_oracle: bool
    pooled: bool

    @property
    def role(self) -> str:
        """``primary`` or ``secondary``."""
        return "primary" if self.paper else "secondary"


def read_claims(file: Path | str, variants: Iterable[str] | None = None) -> list[Claim]:
    """The claims of a file, in its order.

    Args:
        file: YAML of the form of ``claims.schema.yaml`` beside this module.
        variants: all that there are; without, claims may be about variants of any name.

    Raises:
        InputError: it cannot be read or is not of that form, a name in it is not explained in it,
            or a claim asks for what no run has; a sentence for each fault.
    """
    document = plain(read_yaml(file), str(file))
    check_repetitions(file)
    found = schema_faults(Validator(load_yaml(SCHEMA)), document)
    refuse(found or list(not_finite(document, "")), str(file))
    try:
        claims = claims_of(document)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    refuse(list(dict.fromkeys(faults(claims, variants))), str(file))
    return claims


def read_yaml(file: Path | str) -> Any:
    """What a file of claims holds, whatever that is.

    Raises:
        InputError: the file cannot be read, or is not YAML.
    """
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
        return yaml.CSafeLoader(text).get_single_data()  # as safe_load, ten times as fast
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or str(error).replace("\n", " ")
        raise InputError(f"{file} cannot be read as claims: {reason}.") from error


def claims_of(document: Mapping[str, Any]) -> list[Claim]:
    """The claims of a document, see :func:`read_claims`.

    Example:
        >>> entry = {"id": "{m}_of_a", "part": "p", "statement": "{words}", "metric": "{m}"}
        >>> entry |= {"for": {"m": ["mse"]}, "what": {"variant": "a"}, "direction": "below"}
        >>> metrics = {"mse": {"table": "reconstruction", "words": "a smaller error"}}
        >>> (claim,) = claims_of({"metrics": metrics, "claims": [entry]})
        >>> claim.id, claim.statement, claim.what, claim.role
        ('mse_of_a', 'a smaller error', {'variant': 'a'}, 'secondary')
    """
    primary = document.get("primary", {})
    for alias in document.get("samplers", {}):
        if alias in VALUES["sampler"]:
            raise InputError(f"samplers.{alias} has the name of a sampler: give it one of its own.")
    claims = [
        _claim(spelt_out, document, primary)
        for entry in document["claims"]
        for spelt_out in _spell_out(entry)
    ]
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise InputError(f"claims holds {claim.id} twice: give one of them another id.")
        seen.add(claim.id)
    if missing := [name for name in primary if name not in seen]:
        raise InputError(
            f"primary names {missing[0]}, which is not the id of a claim: correct it, or write one."
        )
    return claims


def _spell_out(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """An entry for every combination of the values of ``for``, which stand in its texts."""
    axes = entry.get("for", {})
    rest = {key: value for key, value in entry.items() if key != "for"}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        implied = {"metric": chosen["metric"]} if "metric" in chosen else {}
        yield _filled(implied | rest, chosen, entry["id"])


def _filled(value: Any, chosen: Mapping[str, Any], name: str) -> Any:
    """A value of an entry with ``{name}`` replaced; ``{words}`` stays."""
    if isinstance(value, Mapping):
        return {key: _filled(item, chosen, name) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, chosen, name) for item in value]
    if not isinstance(value, str):
        return value
    try:
        for _, field, _, _ in string.Formatter().parse(value):
            if field is not None and field not in {*chosen, "words"}:
                raise InputError(
                    f"{name} has {{{field}}}, which `for` does not name: add it there."
                )
        return value.format(**({"words": "{words}"} | dict(chosen)))
    except ValueError as error:
        raise InputError(
            f"{name} has braces in {quoted(value)} that are no name ({error}): write {{{{ and }}}} "
            "for braces themselves."
        ) from error


def _read(metric: str, document: Mapping[str, Any], name: str) -> Read:
    """A metric as ``metrics`` explains it."""
    known = document.get("metrics", {}).get(metric)
    if known is None:
        raise InputError(
            f"{name} reads {metric}, which `metrics` does not explain: add it there, or "
            "give the claim a table."
        )
    return Read(metric, known["table"], dict(known.get("where", {})))


def _claim(
    entry: Mapping[str, Any], document: Mapping[str, Any], primary: Mapping[str, str]
) -> Claim:
    entry = DEFAULTS | dict(entry)
    name, metric = entry["id"], entry.get("metric")
    for exclusion in EXCLUSIONS:
        for key in exclusion.keys if exclusion.holds(entry) else ():
            if entry[key] != DEFAULTS[key]:
                raise InputError(f"{name} {exclusion.kind}, which does not read `{key}`: drop it.")
    if metric is None:
        raise InputError(f"{name} has no metric: add one, or let `for` name some.")
    if "table" in entry:
        read = Read(metric, entry["table"], dict(entry.get("where", {})))
    else:
        read = _read(metric, document, name)
        read = read._replace(where=read.where | entry.get("where", {}))
    words = document.get("metrics", {}).get(metric, {}).get("words")
    if "{words}" in entry["statement"] and words is None:
        raise InputError(f"{name} has {{words}}, and `metrics` has none for {metric}: add them.")
    aliases = document.get("samplers", {})
    against, control, at = entry["against"], "", tuple(entry["at"])
    own = entry.get("where", {}) | entry["what"]
    if at:
        control = aliases.get((against or {}).get("sampler"), {}).get("control", "")
        if not control:
            raise InputError(
                f"{name} compares at equal {at[0]}: let `against` be a sampler of "
                "`samplers` that has a `control`."
            )
        if other := [*(against.keys() - {"sampler"}), *(own.keys() - {"variant", "sampler"})]:
            raise InputError(
                f"{name} compares test draws of one model at equal {at[0]}, which does not read "
                f"`{other[0]}`: drop it."
            )
        against = None
    what, sampler = read.where | entry["what"], None
    if (alias := aliases.get(what.get("sampler"))) is not None:
        if "control" in alias:
            raise InputError(
                f"{name} is about {what['sampler']}, which is a control: that is for "
                "`against`, beside `at`."
            )
        if "setting" in own or entry["over"] == "rows":
            raise InputError(
                f"{name} is about {what['sampler']}, whose setting a table says: drop `setting`, "
                "and let it be over seeds."
            )
        sampler = dict(alias)
        what = {key: value for key, value in what.items() if key not in ("sampler", "setting")}
    if at and sampler is None:
        raise InputError(
            f"{name} compares at equal {at[0]}: let `what` be a sampler of `samplers` that "
            "has a `family`, or is the `best`."
        )
    return Claim(
        id=name,
        part=entry["part"],
        paper=primary.get(name, ""),
        statement=entry["statement"].replace("{words}", str(words)),
        read=read,
        what=what,
        against=None if against is None else read.where | against,
        sampler=sampler,
        at=at,
        control=control,
        effect=entry["effect"],
        over=entry["over"],
        direction=entry["direction"],
        bound=entry["bound"],
        tolerance=entry["tolerance"],
        margin=entry["margin"],
        label=entry.get("label", metric),
        matched=tuple(
            (_read(other, document, name), limit) for other, limit in entry["matched"].items()
        ),
        beside=tuple(_read(other, document, name) for other in entry["beside"]),
        by_oracle=entry["oracles"] == "each",
        pooled=entry["pooled"],
    )


def needed(claims: Iterable[Claim]) -> dict[str, tuple[list[str], list[str]]]:
    """The tables that claims are read from, with their columns of texts and of numbers.

    Those of ``reconstruction`` say which models there are.
    """
    texts: dict[str, list[str]] = {}
    numbers: dict[str, set[str]] = {"reconstruction": {"seed"}}
    for claim in claims:
        reads = [claim.read, *claim.beside, *(read for read, _ in claim.matched)]
        for read in reads:
            numbers.setdefault(read.table, {"seed"}).add(read.metric)
        if claim.tolerance:
            numbers[claim.read.table].add(claim.tolerance)
        if claim.sampler is not None:
            numbers.setdefault("chosen", set()).add("best")
        if claim.at:
            numbers.setdefault("pareto", {"seed"}).update(("control_outliers", "difference"))
    for name in numbers:
        if name == "chosen":
            texts[name] = [*RUN, "variant", "family", "setting"]
        elif name == "pareto":
            texts[name] = [*RUN, "variant", "oracle", "split", *COMPARED]
        else:
            table = TABLES[name]
            texts[name] = [*RUN, *table.keys, *(["oracle"] if table.judged else [])]
    return {name: (texts[name], sorted(numbers[name])) for name in numbers}


def faults(claims: Iterable[Claim], variants: Iterable[str] | None = None) -> Iterator[str]:
    """What claims ask for that no run has, in one sentence each.

    Args:
        claims: as :func:`claims_of` returns them.
        variants: all that there are; without, those of any name are accepted.
    """
    known = VALUES | ({} if variants is None else {"variant": tuple(variants)})
    for claim in claims:
        sides = [claim.what] if claim.against is None else [claim.what, claim.against]
        asked = [(claim.read, side) for side in sides]
        if claim.tolerance:
            asked.append((claim.read._replace(metric=claim.tolerance), claim.what))
        for read in (*claim.beside, *(read for read, _ in claim.matched)):
            asked.append((read, read.where | {"variant": claim.what.get("variant")}))
        for read, side in asked:
            if claim.sampler is not None and side is claim.what:
                side = side | {"sampler": None, "setting": None}
            for fault in _unknown(read, side, known, several=claim.over == "rows"):
                yield f"{claim.id} {fault}"
        compares = claim.beside or claim.matched or claim.effect == "ratio"
        if compares and claim.against is None:
            yield f"{claim.id} compares, and has nothing to compare with: add `against`."
        if claim.sampler is None and claim.what == claim.against:
            yield f"{claim.id} compares something with itself: change `what` or `against`."
        if claim.effect == "ratio" and claim.bound <= 0:
            yield (
                f"{claim.id} is about a quotient, and its bound is {claim.bound:g}: say a positive "
                "`bound`, 1 where both are to be the same."
            )
        if claim.direction == "within" and (claim.over == "rows" or not claim.margin):
            yield f"{claim.id} lies within a margin, of an interval over seeds: add `margin`."
        if claim.by_oracle and not (claim.read.table in TABLES and TABLES[claim.read.table].judged):
            yield f"{claim.id} is about each oracle, and none judges {claim.read.table}: average."
        for variation in set(claim.at) - set(VARIATIONS):
            yield (
                f"{claim.id} compares at equal {variation}, which is no measure of variation: take "
                f"one of {', '.join(VARIATIONS)}."
            )
        family = (claim.sampler or {}).get("family")
        if family is not None and not re.fullmatch(FAMILIES, family):
            yield (
                f"{claim.id} is about the family {family}, of which no setting is chosen: take one "
                "of tables/chosen.csv, as volume:base=prior,weight=global,metric=fitted."
            )
        if claim.at and not re.fullmatch(SCORES, claim.read.metric):
            yield (
                f"{claim.id} compares {claim.read.metric} at equal {claim.at[0]}, and "
                "tables/pareto.csv has scores of outliers only: take one of them."
            )


def _unknown(
    read: Read, side: Mapping[str, Any], known: Mapping[str, Iterable[str]], several: bool
) -> Iterator[str]:
    """What a table does not have; unless there may be several rows, every key needs a value."""
    if read.table not in TABLES:
        yield f"reads {read.table}, which is no table of claims: take one of {', '.join(TABLES)}."
        return
    table = TABLES[read.table]
    if not re.fullmatch(table.numbers, read.metric):
        yield f"reads {read.metric}, which is no column of numbers of {read.table}."
    for key, value in side.items():
        if key not in table.keys:
            yield f"selects by {key}, and {read.table} has {', '.join(table.keys)}: take one."
        elif value is not None and value not in known.get(key, (value,)):
            allowed = ", ".join(known[key])
            yield f"names the {key} {value}, which there is not: take one of {allowed}."
    missing = [key for key in table.keys if key not in side]
    if missing and not several:
        yield f"does not say which {missing[0]} of {read.table} it is about: select one."
