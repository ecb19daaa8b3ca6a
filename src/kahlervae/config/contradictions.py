"""What no schema sees: keys that contradict each other, or the data."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kahlervae.config.registry import COMPLEX_DATA, GREY, IMAGES, REPRESENTED, is_labelled
from kahlervae.config.sentences import joined, quoted
from kahlervae.config.sweep import KINDS, sweep_settings, unruled

__all__ = ["contradictions"]


def contradictions(
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
    rules, seed = config["sweep"]["rules"], config["sweep"]["seed"]
    yield from _unruly(rules)
    swept = any("sweep" in options for options in config["datasets"].values())
    if swept and seed in config["seeds"]:
        yield (
            f"sweep.seed = {seed} must be none of seeds: no claim may rest on the models by which "
            "settings are chosen."
        )
    if {sources[name]["kind"] for name in config["datasets"]} == {"states"}:
        yield (
            "datasets must hold more than states, whose models are not sampled or judged: add "
            "another data set."
        )
    shown = tuple(key.partition(":")[0] for key in config["evaluation"]["flagged"])
    for dataset, options in config["datasets"].items():
        at = joined("datasets", dataset)
        source = sources[dataset]
        if source["kind"] == "states":
            yield from _unknown_geometry(at, options, source)
        count, labelled = _count(source), is_labelled(source)
        yield from _misrepresented(at, options, source)
        yield from _unlabelled(at, options, labelled)
        if faults := list(unruled(at, options, rules, schema)):
            yield from faults
        else:
            yield from _unlikely_sweeps(at, options, rules, source)
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
        yield from _degenerate(at, options["model"], source)
        scored = {f"{at}.split.{name}": split[name] for name in ("validation", "test")}
        scored |= {f"the rest of {at}.split": train}
        scored |= {f"sampling.{key}": sampling[key] for key in ("count", "validation_count")}
        smallest = min(scored, key=scored.__getitem__)
        if 0 < scored[smallest] <= neighbours:
            yield (
                f"evaluation.neighbours = {neighbours} must be less than the smallest set of "
                f"samples that is scored ({smallest} = {scored[smallest]})."
            )
        yield from _long(at, "training.kl_warmup_epochs", training["kl_warmup_epochs"], training)
        for variant, block in options["variants"].items():
            yield from _long_warmup(at, f"variants.{variant}", block, training)


def _unruly(rules: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Rules of a sweep that choose in several ways, or by each other."""
    for variant, rule in rules.items():
        kinds = [key for key in KINDS if key in rule]
        if len(kinds) > 1:
            yield (
                f"sweep.rules.{variant} must have one of {', '.join(KINDS)}, not "
                f"{' and '.join(kinds)}."
            )
        other = rule.get("match", "")
        if "match" in rules.get(other, {}):
            yield (
                f"sweep.rules.{variant}.match must name a variant that is not matched to another "
                f"one itself, not {other}."
            )


def _unlikely_sweeps(
    at: str,
    options: Mapping[str, Any],
    rules: Mapping[str, Mapping[str, Any]],
    source: Mapping[str, Any],
) -> Iterator[str]:
    """Settings of a sweep that a variant of the data set could not have."""
    for swept in sweep_settings(options, rules).values():
        if swept.setting == "default":
            continue
        key = f"sweep.{swept.variant}"
        chosen, changed = options["representations"][:1], {**options, "model": swept.model}
        yield from _unlikely(f"{at}.{key}", swept.block, chosen, changed, source)
        yield from _degenerate(f"{at}.{key}[]", swept.model, source)
        yield from _long_warmup(at, f"{key}[]", swept.block, options["training"])


def _degenerate(at: str, model: Mapping[str, Any], source: Mapping[str, Any]) -> Iterator[str]:
    """Latents of more dimensions than the rank of the metric, which has no volume element then."""
    values = _values(source)
    if model["latent_dim"] > min(model["width"], values):
        bound = f" and the values of a sample ({values})" if values < math.inf else ""
        yield (
            f"{at}.model.latent_dim = {model['latent_dim']} must be at most "
            f"{at}.model.width ({model['width']}){bound}."
        )


def _long_warmup(
    at: str, variant: str, block: Mapping[str, Any], training: Mapping[str, Any]
) -> Iterator[str]:
    """A regulariser that is not there in full before the training ends."""
    if "regulariser" in block:
        key = f"{variant}.regulariser.warmup_epochs"
        yield from _long(at, key, block["regulariser"]["warmup_epochs"], training)


def _long(at: str, key: str, epochs: int, training: Mapping[str, Any]) -> Iterator[str]:
    """A rise over more epochs than there are."""
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
                f"hop and a highest bin of at most half of it, not {quoted(stft)}."
            )
    if "stft" in representations and len(representations) > 1:
        yield f"{at}.representations must hold stft alone: recordings are judged in one of them."


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
