"""Checks of the configuration, whose failures are sentences for people."""

import difflib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from kahlervae.errors import InputError

__all__ = ["check_config", "check_writable"]

IMAGES = {"digits": 1797}
"""Size of each data set: what its splits may add up to."""

KINDS = {
    "array": "a list",
    "integer": "a whole number",
    "number": "a number",
    "object": "a mapping of keys to values",
    "string": "a text",
}


def check_config(config: Mapping[str, Any], schema: Path | str) -> None:
    """Refuse a configuration that is not one.

    Args:
        config: all of it, with overlays and overrides merged in.
        schema: the JSON schema in YAML.

    Raises:
        InputError: a sentence for each fault; it names the key by its path and what is allowed.
    """
    # Numbers and mappings may be of a loader's own types: only what JSON knows is compared.
    document = json.loads(json.dumps(config, default=str))
    validator = jsonschema.Draft202012Validator(
        yaml.safe_load(Path(schema).read_text(encoding="utf-8"))
    )
    errors = sorted(validator.iter_errors(document), key=lambda error: list(map(str, error.path)))
    faults = [sentence for error in errors for sentence in _sentences(error)]
    # Rules that span keys can rely on all keys being there.
    faults = faults or list(_not_finite(document, "")) or list(_contradictions(document))
    if faults:
        raise InputError("\n".join(f"config: {fault}" for fault in faults))


def check_writable(folder: Path | str) -> None:
    """Refuse a folder that cannot be written to, or cannot be made.

    Raises:
        InputError: names the folder and what stands in its way.
    """
    existing = next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{folder} cannot be written to: {existing} is a file, not a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(
            f"{folder} cannot be written to: there is no permission to write in {existing}; "
            "change that, or name another folder in the configuration."
        )


def _sentences(error: jsonschema.ValidationError) -> Iterator[str]:
    """One fault of the schema, in words."""
    path, rule, value = _path(error), error.validator_value, error.instance
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        for key in value:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                allowed = ", ".join(known) or "nothing"
                yield f"{_join(path, key)} is not a known key{hint}; allowed here: {allowed}."
        return
    if error.validator == "required":
        for key in rule:
            if key not in value:
                yield f"{_join(path, key)} is missing; needed here: {', '.join(rule)}."
        return
    shown = json.dumps(value, ensure_ascii=False)
    match error.validator:
        case "type":
            demand = KINDS[rule]
            if rule == "number" and isinstance(value, str) and _is_number(value):
                demand += f", and YAML takes this for a text: write {float(value)!r}"
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
        case "minItems" | "minProperties":
            demand = "not empty"
        case "minLength":
            demand = "a text that is not empty"
        case "not":
            demand = f"anything but {rule['const']}"
        case other:
            raise ValueError(f"the schema uses {other}, for which there are no words")
    yield f"{path or 'the configuration'} must be {demand}, not {shown}."


def _path(error: jsonschema.ValidationError) -> str:
    path = ""
    for key in error.absolute_path:
        path += f"[{key}]" if isinstance(key, int) else f".{key}"
    return path.lstrip(".")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


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


def _contradictions(config: Mapping[str, Any]) -> Iterator[str]:
    """Values that are allowed by themselves but not beside each other."""
    sampling, neighbours = config["sampling"], config["evaluation"]["neighbours"]
    alphas, alpha = sampling["volume"]["alphas"], config["claims"]["alpha"]
    if alpha not in alphas:
        allowed = ", ".join(map(str, alphas))
        yield f"claims.alpha must be one of sampling.volume.alphas ({allowed}), not {alpha}."
    kept = sampling["volume"]["chains"] * sampling["volume"]["draws"]
    if kept < sampling["count"]:
        yield (
            f"sampling.volume keeps chains × draws = {kept} states, fewer than "
            f"sampling.count = {sampling['count']}: raise sampling.volume.draws."
        )
    for dataset, options in config["datasets"].items():
        at = f"datasets.{dataset}"
        split, training = options["split"], options["training"]
        held_out = split["oracle"] + split["validation"] + split["test"]
        train = IMAGES[dataset] - held_out
        if train < training["batch_size"]:
            yield (
                f"{at}.split sets {held_out} of {IMAGES[dataset]} images aside, which leaves "
                f"{max(train, 0)} for training, fewer than one batch of "
                f"{at}.training.batch_size = {training['batch_size']}: lower one of them."
            )
        smallest = min(train, split["validation"], split["test"], sampling["count"])
        if 0 < smallest <= neighbours:
            yield (
                f"evaluation.neighbours = {neighbours} must be less than the smallest set of "
                f"images that is scored ({smallest})."
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
