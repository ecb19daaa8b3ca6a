"""Checks of the configuration, whose failures are sentences for people."""

import copy
import difflib
import functools
import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import yaml

from kahlervae.errors import InputError
from kahlervae.judge.entries import Claim, faults, read_claims, read_yaml
from kahlervae.places import label_file

__all__ = [
    "check_claims",
    "check_config",
    "check_repetitions",
    "check_writable",
    "data_sources",
    "drop_absent",
    "fill_in",
    "is_labelled",
    "sweep_settings",
]

TABLE = Path(__file__).parent / "data/datasets.yaml"
"""The data sets that come with the package, and beside it the schema of such tables."""

COMPLEX_DATA = {"kspace", "native", "stft"}
"""Representations in which samples are complex vectors."""

IMAGES, GREY = {"bundled", "idx"}, {"bernoulli", "continuous_bernoulli"}
"""Kinds of data sets whose values lie in [0, 1], and the likelihoods that are of such values."""

REPRESENTED = {
    "bundled": ("pixels", "kspace"),
    "idx": ("pixels", "kspace"),
    "arrays": ("pixels", "kspace", "native"),
    "wav": ("pixels", "stft"),
    "states": ("pixels",),
}
"""Representations that data sets of a kind can have."""

KINDS = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "a mapping of keys to values",
    "string": "a text",
}

AGAINST = ("against", "match")
"""Keys of a rule of the sweep that name another variant."""

VALUES, DEPTH, FAULTS, SHOWN = 5000, 20, 20, 80
"""Bounds: values of a document, levels of it; faults that are told, characters of a value."""

# A whole number is one without a point: 8.0 would reach the stages as it is.
Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def check_config(config: Mapping[str, Any], schema: Path | str) -> None:
    """Refuse a configuration that is not one.

    Args:
        config: all of it, with overlays and overrides merged in.
        schema: the JSON schema in YAML.

    Raises:
        InputError: a sentence for each fault; it names the key by its path and what is allowed.
    """
    document = _document(config)
    validator = Validator(_load(schema))
    faults = _faults(validator, document)
    if not faults:
        sources = data_sources(document)
        # Rules that span keys can rely on all keys being there.
        faults = list(_not_finite(document, ""))
        faults = faults or list(_contradictions(document, sources, _load(schema)))
    _refuse(faults, "config")


def check_claims(
    file: Path | str, schema: Path | str, config: Mapping[str, Any], config_schema: Path | str
) -> list[Claim]:
    """Refuse a file of claims that is none, or that asks for what no run has.

    Claims may name variants that this run does not train: they get no row.

    Args:
        file: the claims, in YAML.
        schema: the JSON schema of such a file, in YAML.
        config: the configuration, whose variants are known as well.
        config_schema: that of the configuration, which knows the others, and the samplers.

    Returns:
        The claims.

    Raises:
        InputError: a sentence for each fault.
    """
    document = _document(read_yaml(file), str(file))
    check_repetitions(file)
    found = _faults(Validator(_load(schema)), document) or list(_not_finite(document, ""))
    claims = [] if found else read_claims(file)
    known = _load(config_schema)
    datasets = known["properties"]["datasets"]["additionalProperties"]["properties"]
    variants = dict.fromkeys(datasets["variants"]["properties"])
    for options in config["datasets"].values():
        variants |= dict.fromkeys(options["variants"])
    samplers = known["$defs"]["samplers"]["items"]["enum"]
    _refuse(found or list(faults(claims, variants, samplers)), str(file))
    return claims


def _refuse(faults: list[str], what: str) -> None:
    """Raise what is wrong with a document, if anything is."""
    if faults:
        told = [f"{what}: {fault}" for fault in faults[:FAULTS]]
        more = [f"{what}: and {len(faults) - FAULTS} more."] if len(faults) > FAULTS else []
        raise InputError("\n".join(told + more))


def check_repetitions(file: Path | str) -> None:
    """Refuse a configuration file with a repeated key, of which YAML keeps the last in silence.

    Args:
        file: readable YAML or JSON; anything else has been refused by its reader.

    Raises:
        InputError: names the file, the line and the key.
    """
    stack = [yaml.compose(Path(file).read_text(encoding="utf-8-sig"), yaml.SafeLoader)]
    seen = set()  # aliases make a graph of the tree, possibly an endless one
    while stack:
        node = stack.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            stack += node.value
            continue
        keys = set()
        for key, value in node.value:
            if key.value in keys:
                raise InputError(
                    f"{file}, line {key.start_mark.line + 1}: {_join('', key.value)} is set a "
                    "second time: keep one of them."
                )
            keys.add(key.value)
            stack.append(value)


def fill_in(config: dict[str, Any], files: Iterable[Path | str] = ()) -> None:
    """Give data sets, and variants, that are ``like`` another one its settings but for changes.

    Variants whose likelihood is of grey values are not lent to data that have none, nor are samples
    set aside for oracles, and a sweep, to data without labels.

    Args:
        config: filled in.
        files: those that it was put together from, in their order: where a later one switches off
            what is ``like`` something, its settings stand in an earlier one.

    Raises:
        InputError: the other one is unknown, or has no settings of its own.
    """
    datasets = config.get("datasets")
    if not isinstance(datasets, dict):
        return
    written = _written(files)
    lent = written | {
        name: options for name, options in datasets.items() if isinstance(options, dict)
    }
    donors = {
        name: options.get("like", name)
        for name, options in datasets.items()
        if isinstance(options, dict)
    }
    own = {
        name: _merge(written.get(name, {}), options)
        for name, options in datasets.items()
        if isinstance(options, dict)
    }
    _liken(datasets, lent, "datasets", "a data set", "under datasets (mnist's: config/paper.yaml)")
    for name, donor in donors.items():
        if donor != name:
            _keep_what_fits(config, name, own[name])
        variants = datasets[name].get("variants")
        if isinstance(variants, dict):
            off = _blocks(lent.get(donor)) | _blocks(written.get(name)) | _blocks(lent.get(name))
            on = {key: block for key, block in variants.items() if block is not None}
            _liken(variants, off | on, f"datasets.{name}.variants", "a variant", "beside it")


def _keep_what_fits(config: Mapping[str, Any], name: str, own: Mapping[str, Any]) -> None:
    """Take out of a data set what was lent, is none of its own, and is not for its data."""
    registry = config.get("registry")
    entries = _load(TABLE) | (_resolved(registry) if isinstance(registry, Mapping) else {})
    entry, options = entries.get(name), config["datasets"][name]
    kind = entry.get("kind") if isinstance(entry, Mapping) else None
    if isinstance(kind, str) and not is_labelled(entry):
        for block, key in ((options, "sweep"), (options.get("split"), "oracle")):
            kept = own if block is options else own.get("split") or {}
            if isinstance(block, dict) and key not in kept:
                block.pop(key, None)
    variants = options.get("variants")
    said = _blocks(own)
    for variant, block in list(variants.items()) if isinstance(variants, dict) else ():
        if variant in said or not isinstance(block, dict) or block.get("likelihood") not in GREY:
            continue
        chosen = block.get("representations", options.get("representations"))
        complex_data = isinstance(chosen, list) and any(other in chosen for other in COMPLEX_DATA)
        if complex_data or (kind is not None and kind not in IMAGES):
            del variants[variant]


def _blocks(options: Any) -> dict[str, Any]:
    """The variants of a data set that are not switched off."""
    variants = options.get("variants") if isinstance(options, dict) else None
    return _without_nulls(variants) if isinstance(variants, dict) else {}


def _liken(
    blocks: dict[str, Any], lent: Mapping[str, Any], path: str, what: str, where: str
) -> None:
    """Replace each block that is ``like`` another one by that one's settings and its changes."""
    for name, block in blocks.items():
        if not isinstance(block, dict) or "like" not in block:
            continue
        like = block["like"]
        settings = lent.get(like) if isinstance(like, str) else None
        if not isinstance(settings, dict) or "like" in settings:
            known = [other for other in lent if other != name and isinstance(other, str)]
            near = difflib.get_close_matches(like, known, 1) if isinstance(like, str) else []
            hint = f" (did you mean {near[0]}?)" if near and near[0] != like else ""
            raise InputError(
                f"config: {path}.{name}.like must be {what} with settings of its own {where}, not "
                f"{_shown(like)}{hint}."
            )
        changes = {key: value for key, value in block.items() if key != "like"}
        blocks[name] = _merge(settings, changes)


def _written(files: Iterable[Path | str]) -> dict[str, Any]:
    """Data sets with their variants as files have them, whatever later ones switch off."""
    written: dict[str, Any] = {}
    for file in files:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8-sig"))
        datasets = content.get("datasets") if isinstance(content, dict) else None
        if isinstance(datasets, dict):
            written = _merge(written, _without_nulls(datasets))
    return written


def _without_nulls(block: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value
        for key, value in block.items()
        if value is not None
    }


def _merge(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the settings with the changes made in it, block by block."""
    merged = copy.deepcopy(dict(settings))
    for key, value in changes.items():
        blocks = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if blocks else value
    return merged


def drop_absent(config: dict[str, Any]) -> None:
    """Take out what is set to null: data sets, variants with their sweep, candidates."""

    def drop(block: Any) -> None:
        if isinstance(block, dict):
            for key in [key for key, value in block.items() if value is None]:
                del block[key]

    datasets = config.get("datasets")
    drop(datasets)
    for options in datasets.values() if isinstance(datasets, dict) else ():
        drop(options)
        variants, sweep = (
            options.get(key) if isinstance(options, dict) else None for key in ("variants", "sweep")
        )
        if isinstance(variants, dict) and isinstance(sweep, dict):
            sweep.update({name: None for name in sweep if variants.get(name, 0) is None})
        drop(variants)
        drop(sweep)
        if sweep == {}:
            del options["sweep"]
    block: Any = config
    for key in ("geometry", "potential", "candidates"):
        block = block.get(key) if isinstance(block, dict) else None
    drop(block)


def data_sources(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The table of data sets: those of the package and those of the key ``registry``.

    Args:
        config: of which ``registry`` is read; an entry of a known name replaces the package's.

    Returns:
        For every name what src/kahlervae/data/datasets.schema.yaml describes.

    Raises:
        InputError: an entry is not one.
    """
    validator = Validator(_load(TABLE.with_suffix(".schema.yaml")))
    added = _resolved(_document(config.get("registry", {})))
    faults = _faults(validator, added, "registry")
    if faults := faults or [
        *_wrong_patterns(added),
        *_wrong_parts(added),
        *_wrong_checksums(added),
    ]:
        raise InputError("\n".join(f"config: {fault}" for fault in faults))
    return _load(TABLE) | added


def _resolved(registry: Mapping[str, Any]) -> dict[str, Any]:
    """The entries; one that is ``like`` one of the package's is that one, from its files.

    Raises:
        InputError: there is no such entry, or there is more beside it.
    """
    known, resolved = _load(TABLE), dict(registry)
    for name, entry in registry.items():
        if not isinstance(entry, Mapping) or "like" not in entry:
            continue
        like = entry["like"]
        if list(entry) != ["like"] or not isinstance(like, str) or like not in known:
            raise InputError(
                f"config: registry.{name} must be `like: NAME` and no more, with one of "
                f"{', '.join(known)}, or an entry of its own, not {_shown(entry)}."
            )
        folder = {"folder": like} if "files" in known[like] else {}
        resolved[name] = folder | known[like]
    return resolved


def _wrong_patterns(registry: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Regular expressions that are none, or have no group where one is asked for."""
    for name, source in registry.items():
        for key in ("label", "test"):
            if key not in source:
                continue
            path = f"registry.{name}.{key}"
            try:
                groups = re.compile(source[key]).groups
            except re.error as error:
                shown = _shown(source[key])
                yield f"{path} must be a regular expression of Python, not {shown}: {error}."
            else:
                if key == "label" and groups < 1:
                    yield (
                        f"{path} must have a group, as in '^(\\d)_', which is the label, not "
                        f"{_shown(source[key])}."
                    )


def _wrong_parts(registry: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Parts of arrays whose labels are not as many."""
    for name, source in registry.items():
        if source["kind"] != "arrays" or "labels" not in source or label_file(source):
            continue
        samples, labels = (source.get(key) for key in ("samples", "labels"))
        parts = [len(keys) if isinstance(keys, list) else 1 for keys in (samples, labels)]
        if parts[0] != parts[1]:
            yield (
                f"registry.{name}.labels must name as many keys as samples does ({parts[0]}), not "
                f"{_shown(labels)}."
            )


def _wrong_checksums(registry: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Checksums of arrays that are of no file, and files to be downloaded without any."""
    for name, source in registry.items():
        if source["kind"] != "arrays":
            continue
        at, sha256 = f"registry.{name}", source.get("sha256", {})
        for other in sorted(sha256.keys() - {*source["files"], label_file(source)}):
            yield f"{at}.sha256 names {_shown(other)}, which is not among its files: correct it."
        for file in source["files"] if "addresses" in source else ():
            if file not in sha256:
                yield f"{at}.sha256 lacks {_shown(file)}: what is downloaded needs a checksum."


@functools.cache
def _load(path: Path | str) -> Any:
    text = Path(path).read_text(encoding="utf-8")
    return yaml.CSafeLoader(text).get_single_data()  # as safe_load, ten times as fast


def _faults(
    validator: jsonschema.Draft202012Validator, document: Any, below: str = ""
) -> list[str]:
    errors = sorted(validator.iter_errors(document), key=lambda error: list(map(str, error.path)))
    sentences = [sentence for error in errors for sentence in _sentences(error, below)]
    return list(dict.fromkeys(sentences))


def check_writable(folder: Path | str) -> None:
    """Refuse a folder that cannot be written to, or cannot be made.

    Raises:
        InputError: names the folder and what stands in its way.
    """
    try:
        existing = next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror}.") from error
    if not existing.is_dir():
        raise InputError(f"{folder} cannot be written to: {existing} is a file, not a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(
            f"{folder} cannot be written to: there is no permission to write in {existing}; "
            "change that, name another folder in the configuration, or run Snakemake in another "
            "one (--directory)."
        )


def _document(document: Any, name: str = "config") -> Any:
    """A document in JSON's own types, since loaders have theirs.

    Bounded, since aliases of YAML make an enormous or endless structure of a small file.
    """
    values = itertools.count(1)

    def plain(value: Any, path: str, depth: int) -> Any:
        if next(values) > VALUES or depth > DEPTH:
            raise InputError(
                f"{name}: {path} goes beyond {VALUES:,} values or {DEPTH} levels in all: "
                "nothing that this workflow reads is that large."
            )
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise InputError(
                        f"{name}: the key {_join(path, str(key))} must be a text: write it in "
                        "quotation marks."
                    )
            return {key: plain(v, _join(path, key), depth + 1) for key, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
        if isinstance(value, int) and value.bit_length() > 64:
            raise InputError(
                f"{name}: {path} is a number of more than 64 bits: write a smaller one."
            )
        return value if value is None or isinstance(value, str | int | float) else str(value)

    return plain(document, "", 0)


def _sentences(error: jsonschema.ValidationError, below: str) -> Iterator[str]:
    """One fault of the schema, in words; the document is below that key of the configuration."""
    path, rule, value = _path(error, below), error.validator_value, error.instance
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        for key in value:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1, cutoff=0.7)
                hint = f" (did you mean {near[0]}?)" if near else ""
                allowed = ", ".join(known) or "nothing"
                yield f"{_join(path, key)} is not a known key{hint}; allowed here: {allowed}."
        return
    if error.validator == "required":
        for key in rule:
            if key not in value:
                yield f"{_join(path, key)} is missing; needed here: {', '.join(rule)}."
        return
    if error.validator == "dependentRequired":
        for key, needed in rule.items():
            for other in needed if key in value else ():
                if other not in value:
                    yield f"{_join(path, other)} is missing; needed beside {key}."
        return
    shown = _shown(value)
    match error.validator:
        case "type":
            demand = " or ".join(
                KINDS[kind] for kind in ([rule] if isinstance(rule, str) else rule)
            )
            if rule == "number" and isinstance(value, str) and _is_number(value):
                demand += f", and YAML takes this for a text: write {float(value)!r}"
            if rule == "integer" and isinstance(value, float) and value.is_integer():
                demand += f", written without a point: {value:.0f}"
        case "enum":
            demand = f"one of {', '.join(map(str, rule))}"
            near = difflib.get_close_matches(str(value), list(map(str, rule)), 1)
            demand += f" (did you mean {near[0]}?)" if near else ""
        case "minimum":
            demand = f"at least {rule}"
        case "maximum":
            demand = f"at most {rule}"
        case "exclusiveMinimum":
            demand = f"greater than {rule}"
        case "exclusiveMaximum":
            demand = f"less than {rule}"
        case "multipleOf":
            demand = f"a multiple of {rule}"
        case "uniqueItems":
            demand = "a list without repetitions"
        case "minItems" if rule > 1:
            demand = f"a list of at least {rule}"
        case "minItems" | "minProperties":
            demand = "not empty"
        case "maxProperties":
            demand = f"a mapping of at most {rule}"
        case "maxItems":
            demand = f"a list of at most {rule}"
        case "minLength":
            demand = "a text that is not empty"
        case "pattern":
            demand = error.schema["description"]
        case "not":
            demand = f"anything but {rule['const']}"
        case other:
            raise ValueError(f"the schema uses {other}, for which there are no words")
    yield f"{path or 'all of it'} must be {demand}, not {shown}."


def _path(error: jsonschema.ValidationError, below: str) -> str:
    path = below
    for key in error.absolute_path:
        path = f"{path}[{key}]" if isinstance(key, int) else _join(path, key)
    return path


def _join(path: str, key: str) -> str:
    key = key if re.fullmatch(r"[\w-]{1,60}", key) else _shown(key)
    return f"{path}.{key}" if path else key


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _not_finite(value: Any, path: str) -> Iterator[str]:
    """Infinities and NaN, which are numbers to the schema."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_finite(item, _join(path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _not_finite(item, f"{path}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{path} must be a finite number, not {value}."


def _contradictions(
    config: Mapping[str, Any], sources: Mapping[str, Mapping[str, Any]], schema: Any
) -> Iterator[str]:
    """Values that are allowed by themselves but not beside each other."""
    sampling, neighbours = config["sampling"], config["evaluation"]["neighbours"]
    targets = sampling["volume"]["targets"]
    count = sampling["validation_count"] + sampling["count"]
    for name in ("volume", "riemannian"):
        kept = sampling[name]["chains"] * sampling[name]["draws"]
        if kept < count:
            yield (
                f"sampling.{name} keeps chains × draws = {kept} states, fewer than "
                f"sampling.validation_count + sampling.count = {count}: raise "
                f"sampling.{name}.draws."
            )
    for i, target in enumerate(targets):
        at = f"sampling.volume.targets[{i}]"
        if target["base"] == "prior" and target["weight"] == "local":
            yield (
                f"{at}.weight must be global, not local, for the base prior: a local weight "
                "compares the components of a mixture, and the prior has a single one."
            )
        names = ("base", "weight", "metric")
        if any(all(target[n] == other[n] for n in names) for other in targets[:i]):
            yield f"{at} is there already: add its powers to those of the first."
    for key, values in (
        ("truncated.temperatures", sampling["truncated"]["temperatures"]),
        ("gmm.temperatures", sampling["gmm"]["temperatures"]),
        *((f"volume.targets[{i}].powers", target["powers"]) for i, target in enumerate(targets)),
    ):
        # They name their samples in files and tables, where :g writes them.
        if long := [value for value in values if float(f"{value:g}") != value]:
            yield f"sampling.{key} must have six significant digits at most, not {long[0]!r}."
    for key in ("geodesics", "states"):
        curves = config["evaluation"][key]
        if curves["points"] >= curves["steps"]:
            yield (
                f"evaluation.{key}.points = {curves['points']} must be less than "
                f"evaluation.{key}.steps = {curves['steps']}: lower the one or raise the other."
            )
    kinds = [sources[name]["kind"] for name in config["datasets"] if name in sources]
    if set(kinds) == {"states"}:
        yield (
            "datasets must hold more than states, whose models are not sampled or judged: add "
            "another data set."
        )
    shown = tuple(key.partition(":")[0] for key in config["evaluation"]["flagged"])
    for dataset, options in config["datasets"].items():
        at = _join("datasets", dataset)
        if dataset not in sources:
            near = difflib.get_close_matches(dataset, sources, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            yield (
                f"{at} is not a known data set{hint}; known are {', '.join(sources)}, "
                "and those that `registry` adds."
            )
            continue
        source = sources[dataset]
        if source["kind"] == "states":
            yield from _unknown_geometry(at, options, source)
        count, labelled = _count(source), is_labelled(source)
        yield from _misrepresented(at, options, source)
        yield from _unlabelled(at, options, labelled)
        yield from _unruled(at, options, config["sweep"]["rules"], schema)
        for variant, block in options["variants"].items():
            chosen = block.get("representations", options["representations"])
            if other := [name for name in chosen if name not in options["representations"]]:
                yield (
                    f"{at}.variants.{variant}.representations holds {other[0]}, which "
                    f"{at}.representations does not ({', '.join(options['representations'])})."
                )
            samplers = block.get("samplers", sampling["samplers"])
            if other := [name for name in samplers if name not in sampling["samplers"]]:
                yield (
                    f"{at}.variants.{variant}.samplers holds {other[0]}, which "
                    f"sampling.samplers does not ({', '.join(sampling['samplers'])})."
                )
            if variant == "real" and samplers == ["volume"]:
                key = f"{at}.variants.real." if "samplers" in block else "sampling."
                yield (
                    f"{key}samplers must hold more than volume, which is not for {at}.variants."
                    "real: it has no potential."
                )
            for representation in chosen:
                restricted = options.get("samplers", {}).get(representation, samplers)
                if not set(samplers) & set(restricted):
                    yield (
                        f"{at}.samplers.{representation} leaves none of the samplers of "
                        f"{at}.variants.{variant}: let it hold one of {', '.join(samplers)}."
                    )
                left = [
                    name
                    for name in samplers
                    if name in restricted and (name != "volume" or variant != "real")
                ]
                if left and not any(name.startswith(shown) for name in left):
                    yield (
                        f"evaluation.flagged names no sampler of {at}.variants.{variant}: let it "
                        f"hold one of {', '.join(left)}, or sampling.samplers one of it."
                    )
            yield from _unlikely(f"{at}.variants.{variant}", block, chosen, options, source)
            if variant == "holomorphic" and set(chosen) - COMPLEX_DATA:
                yield (
                    f"{at}.variants.holomorphic is for complex data and {chosen[0]} are real: set "
                    f"its representations to one of {', '.join(sorted(COMPLEX_DATA))}."
                )
        split, training = options["split"], options["training"]
        held_out = split.get("oracle", 0) + split["validation"] + split["test"]
        # Known once the files are read, where the entry does not say.
        train = math.inf if count is None else count - held_out
        if train < training["batch_size"]:
            yield (
                f"{at}.split sets {held_out} of {count} samples aside, which leaves "
                f"{max(train, 0)} for training, fewer than one batch of "
                f"{at}.training.batch_size = {training['batch_size']}: lower one of them."
            )
        anchors = config["geometry"]["potential"]["anchors"]
        if anchors > train > 0:
            yield (
                f"geometry.potential.anchors = {anchors} must be at most the {train} training "
                f"samples that {at}.split leaves."
            )
        model, values = options["model"], _values(source)
        if model["latent_dim"] > min(model["width"], values):
            # The metric has at most that rank, and no volume element.
            bound = f" and the values of a sample ({values})" if values < math.inf else ""
            yield (
                f"{at}.model.latent_dim = {model['latent_dim']} must be at most "
                f"{at}.model.width ({model['width']}){bound}."
            )
        scored = {f"{at}.split.{name}": split[name] for name in ("validation", "test")}
        scored |= {f"the rest of {at}.split": train}
        scored |= {f"sampling.{key}": sampling[key] for key in ("count", "validation_count")}
        smallest = min(scored, key=scored.__getitem__)
        if 0 < scored[smallest] <= neighbours:
            yield (
                f"evaluation.neighbours = {neighbours} must be less than the smallest set of "
                f"samples that is scored ({smallest} = {scored[smallest]})."
            )
        warmups = {"training.kl_warmup_epochs": training["kl_warmup_epochs"]}
        for variant, weights in options["variants"].items():
            if "regulariser" in weights:
                key = f"variants.{variant}.regulariser.warmup_epochs"
                warmups[key] = weights["regulariser"]["warmup_epochs"]
        for key, epochs in warmups.items():
            if epochs > training["epochs"]:
                yield (
                    f"{at}.{key} = {epochs} is longer than the training "
                    f"({at}.training.epochs = {training['epochs']})."
                )


def _unknown_geometry(
    at: str, options: Mapping[str, Any], source: Mapping[str, Any]
) -> Iterator[str]:
    """Models of states that cannot be held against the known geometry."""
    model, d = options["model"], source["levels"] - 1
    if model["latent_dim"] != d:
        yield (
            f"{at}.model.latent_dim must be {d}, the dimension of the states of "
            f"{source['levels']} levels, not {model['latent_dim']}."
        )
    if model["likelihood_variance"] != "constant":
        yield (
            f"{at}.model.likelihood_variance must be constant, as the noise of states is, not "
            f"{model['likelihood_variance']}."
        )


def _unlikely(
    at: str,
    block: Mapping[str, Any],
    chosen: Iterable[str],
    options: Mapping[str, Any],
    source: Mapping[str, Any],
) -> Iterator[str]:
    """Likelihoods that are not for the data, or not for the networks."""
    likelihood = block.get("likelihood")
    scale = source.get("scale", "unit") if source["kind"] == "arrays" else None
    if likelihood in GREY and scale != "unit" and source["kind"] not in IMAGES:
        yield (
            f"{at}.likelihood must be gaussian, not {likelihood}, since the values do not lie in "
            "[0, 1]."
        )
    for name in chosen if likelihood else ():
        if (likelihood == "complex_gaussian") != (name in COMPLEX_DATA):
            kind, known = (
                ("complex", "complex_gaussian")
                if name in COMPLEX_DATA
                else ("real", "gaussian, bernoulli or continuous_bernoulli")
            )
            yield (
                f"{at}.likelihood must be {known} for {name}, which are {kind}, not {likelihood}; "
                "or set the variant to null."
            )
    if (
        at.endswith(".pluriharmonic")
        and likelihood in (None, "gaussian", "complex_gaussian")
        and options["model"]["likelihood_variance"] == "diagonal"
    ):
        yield (
            f"{at} needs model.likelihood_variance = constant: the inverse of a variance is "
            "positive, and a pluriharmonic function that is bounded on one side is constant "
            "(Liouville)."
        )


def _count(source: Mapping[str, Any]) -> int | None:
    """Number of samples of an entry of the table of data sets, if it says."""
    if source["kind"] != "idx":
        return source.get("count")
    return sum(part["count"] for part in source["files"].values())


def _values(source: Mapping[str, Any]) -> float:
    """Values of a sample of an entry of the table of data sets; no bound if it does not say."""
    if source["kind"] == "states":
        return int(source["levels"]) ** 2
    shape = source.get("image_shape") or source.get("shape")
    return math.prod(shape) if shape else source.get("length", math.inf)


def is_labelled(source: Mapping[str, Any]) -> bool:
    """Whether an entry of the table of data sets has labels.

    Example:
        >>> is_labelled({"kind": "arrays", "files": ["signals.npz"]})
        False
    """
    needed = {"arrays": "labels", "wav": "label", "states": "labels"}  # states have none
    return needed.get(source["kind"], "kind") in source


def _misrepresented(
    at: str, options: Mapping[str, Any], source: Mapping[str, Any]
) -> Iterator[str]:
    """Representations that data of the kind do not have."""
    representations, kinds = options["representations"], REPRESENTED[source["kind"]]
    for name in representations:
        if name not in kinds:
            yield (
                f"{at}.representations must hold some of {', '.join(kinds)} for data of kind "
                f"{source['kind']}, not {name}."
            )
    shape = source.get("shape", (1, 1))
    if "kspace" in kinds and "kspace" in representations and len(shape) != 2:
        yield (
            f"{at}.representations must not hold kspace, which is for samples of two axes, and "
            f"these are of shape {shape}: use pixels."
        )
    if "native" in representations and len(representations) > 1:
        yield f"{at}.representations must hold native alone: others are not for complex data."
    if ("stft" in options) != ("stft" in representations):
        yield (
            f"{at}.stft is missing, the window of {at}.representations = [stft]."
            if "stft" in representations
            else f"{at}.stft is for {at}.representations = [stft]: take it out, or set that."
        )
    if "stft" in options and "length" in source:
        stft, length = options["stft"], source["length"]
        half = stft["window"] // 2
        if (
            stft["window"] % 2
            or stft["window"] > length
            or stft["hop"] > half
            or not stft["lowest"] <= stft["highest"] <= half
        ):
            yield (
                f"{at}.stft must have an even window, no longer than a recording ({length}), and a "
                f"hop and a highest bin of at most half of it, not {_shown(stft)}."
            )
    if "stft" in representations and len(representations) > 1:
        yield f"{at}.representations must hold stft alone: recordings are judged in one of them."


class Swept(NamedTuple):
    """One setting of a sweep.

    Attributes:
        variant: its name.
        setting: what is other than in the variant's own block, ``name=value`` with commas between;
            ``default`` where nothing is.
        block: of the variant, with the changes.
        model: the networks of the data set, with the changes.
    """

    variant: str
    setting: str
    block: dict[str, Any]
    model: dict[str, Any]


def sweep_settings(
    options: Mapping[str, Any], rules: Mapping[str, Mapping[str, Any]]
) -> dict[str, Swept]:
    """What the sweep of a data set trains, by names for its files.

    Variants that are swept are changed as the items of their lists say; those that a rule holds
    them against are trained as they are.

    Args:
        options: the data set's, of which ``sweep``, ``variants`` and ``model`` are read.
        rules: ``sweep.rules`` of the configuration.

    Example:
        >>> sweep = {"kahler": [{"regulariser": {"strength": 3.0}}, {"model": {"latent_dim": 8}}]}
        >>> variants = {"kahler": {"regulariser": {"strength": 1.0}}, "mixture": {}}
        >>> options = {"sweep": sweep, "variants": variants, "model": {"latent_dim": 4}}
        >>> rules = {"kahler": {"least": "speed_variation", "against": "mixture", "margin": 1.0}}
        >>> settings = sweep_settings(options, rules)
        >>> list(settings)
        ['kahler_strength=3.0', 'kahler_latent_dim=8', 'mixture']
        >>> settings["kahler_strength=3.0"].block
        {'regulariser': {'strength': 3.0}}
    """
    sweep = options.get("sweep", {})
    items = [(variant, changes) for variant, listed in sweep.items() for changes in listed]
    others = [rules[variant][key] for variant in sweep for key in AGAINST if key in rules[variant]]
    found = {}
    for variant, changes in [*items, *((other, {}) for other in dict.fromkeys(others))]:
        own = {key: value for key, value in changes.items() if key != "model"}
        block = _merge(options["variants"][variant], own)
        model = _merge(options["model"], changes.get("model", {}))
        pairs = [f"{key}={value}" for key, value in sorted(_leaves(changes))]
        name = "_".join([variant, *pairs])
        found[name] = Swept(variant, ",".join(pairs) or "default", block, model)
    return found


def _leaves(block: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in block.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield key, value


def _unruled(
    at: str, options: Mapping[str, Any], rules: Mapping[str, Mapping[str, Any]], schema: Any
) -> Iterator[str]:
    """Sweeps of what is not there, of what no rule is for, or by changes that are none."""
    sweep, variants = options.get("sweep", {}), options["variants"]
    for variant, items in sweep.items():
        key = f"{at}.sweep.{variant}"
        if variant not in variants or variant not in rules:
            where = f"{at}.variants" if variant not in variants else "sweep.rules"
            yield f"{key} needs {where}.{variant}: add it, or take the key out."
            continue
        for name in AGAINST:
            if (other := rules[variant].get(name, variant)) not in variants:
                yield (
                    f"{key} needs {at}.variants.{other}, against which sweep.rules.{variant} holds "
                    "it: add it, or take the key out."
                )
                return
        if "match" in rules[variant] and any(list(changes) != ["beta"] for changes in items):
            yield f"{key} must change beta alone, between whose values sweep.rules.{variant} reads."
    if any(variant not in variants or variant not in rules for variant in sweep):
        return
    known = schema["properties"]["datasets"]["additionalProperties"]["properties"]
    for swept in sweep_settings(options, rules).values():
        for name, value, part in (
            (f"sweep.{swept.variant}", swept.block, known["variants"]["properties"][swept.variant]),
            (f"sweep.{swept.variant}[].model", swept.model, known["model"]),
        ):
            yield from _faults(Validator({"$defs": schema["$defs"], **part}), value, f"{at}.{name}")


def _unlabelled(at: str, options: Mapping[str, Any], labelled: bool) -> Iterator[str]:
    """What needs labels where there are none, and the other way round."""
    if labelled:
        if options["split"].get("oracle", 0) < 16:
            yield f"{at}.split.oracle must be at least 16: samples with labels train the oracles."
        if "oracle" not in options:
            yield f"{at}.oracle is missing; samples with labels train the oracles."
        return
    if "sweep" in options:
        yield f"{at}.sweep needs oracles, and its samples have no labels: take it out."
    if set_aside := options["split"].get("oracle", 0):
        yield (
            f"{at}.split.oracle sets {set_aside} samples aside for oracles, and they have no "
            "labels: take it out, or set it to 0."
        )
