"""What a schema or a document has wrong, in sentences for people."""

import difflib
import functools
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from kahlervae.errors import InputError

__all__ = [
    "DEPTH",
    "FAULTS",
    "KINDS",
    "SHOWN",
    "VALUES",
    "Validator",
    "check_repetitions",
    "joined",
    "load_yaml",
    "not_finite",
    "plain",
    "quoted",
    "refuse",
    "schema_faults",
]

KINDS = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "a mapping of keys to values",
    "string": "a text",
}


VALUES, DEPTH, FAULTS, SHOWN = 5000, 20, 20, 80
"""Bounds: values of a document, levels of it; faults that are told, characters of a value."""


# A whole number is one without a point: 8.0 would reach the stages as it is.
Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def refuse(faults: list[str], what: str) -> None:
    """Raise what is wrong with a document, if anything is."""
    if faults:
        told = [f"{what}: {fault}" for fault in faults[:FAULTS]]
        more = [f"{what}: and {len(faults) - FAULTS} more."] if len(faults) > FAULTS else []
        raise InputError("\n".join(told + more))


@functools.cache
def load_yaml(path: Path | str) -> Any:
    text = Path(path).read_text(encoding="utf-8")
    return yaml.CSafeLoader(text).get_single_data()  # as safe_load, ten times as fast


def plain(document: Any, name: str = "config") -> Any:
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
                        f"{name}: the key {joined(path, str(key))} must be a text: write it in "
                        "quotation marks."
                    )
            return {key: plain(v, joined(path, key), depth + 1) for key, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
        if isinstance(value, int) and value.bit_length() > 64:
            raise InputError(
                f"{name}: {path} is a number of more than 64 bits: write a smaller one."
            )
        return value if value is None or isinstance(value, str | int | float) else str(value)

    return plain(document, "", 0)


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
                    f"{file}, line {key.start_mark.line + 1}: {joined('', key.value)} is set a "
                    "second time: keep one of them."
                )
            keys.add(key.value)
            stack.append(value)


def schema_faults(
    validator: jsonschema.Draft202012Validator, document: Any, below: str = ""
) -> list[str]:
    errors = sorted(validator.iter_errors(document), key=lambda error: list(map(str, error.path)))
    sentences = [sentence for error in errors for sentence in _sentences(error, below)]
    return list(dict.fromkeys(sentences))


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
                yield f"{joined(path, key)} is not a known key{hint}; allowed here: {allowed}."
        return
    if error.validator == "required":
        for key in rule:
            if key not in value:
                yield f"{joined(path, key)} is missing; needed here: {', '.join(rule)}."
        return
    if error.validator == "dependentRequired":
        for key, needed in rule.items():
            for other in needed if key in value else ():
                if other not in value:
                    yield f"{joined(path, other)} is missing; needed beside {key}."
        return
    shown = quoted(value)
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
        path = f"{path}[{key}]" if isinstance(key, int) else joined(path, key)
    return path


def joined(path: str, key: str) -> str:
    key = key if re.fullmatch(r"[\w-]{1,60}", key) else quoted(key)
    return f"{path}.{key}" if path else key


def quoted(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def not_finite(value: Any, path: str) -> Iterator[str]:
    """Infinities and NaN, which are numbers to the schema."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from not_finite(item, joined(path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from not_finite(item, f"{path}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{path} must be a finite number, not {value}."
