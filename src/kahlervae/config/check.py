"""Checks of the configuration, whose failures are sentences for people."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kahlervae.config.contradictions import contradictions
from kahlervae.config.registry import data_sources
from kahlervae.config.sentences import (
    Validator,
    joined,
    load_yaml,
    not_finite,
    plain,
    refuse,
    schema_faults,
)
from kahlervae.errors import InputError
from kahlervae.judge.entries import Claim, faults, read_claims, read_yaml

__all__ = ["check_claims", "check_config", "check_repetitions", "check_writable"]


def check_config(config: Mapping[str, Any], schema: Path | str) -> None:
    """Refuse a configuration that is not one.

    Args:
        config: all of it, with overlays and overrides merged in.
        schema: the JSON schema in YAML.

    Raises:
        InputError: a sentence for each fault; it names the key by its path and what is allowed.
    """
    document = plain(config)
    validator = Validator(load_yaml(schema))
    faults = schema_faults(validator, document)
    if not faults:
        sources = data_sources(document)
        # Rules that span keys can rely on all keys being there.
        faults = list(not_finite(document, ""))
        faults = faults or list(contradictions(document, sources, load_yaml(schema)))
    refuse(faults, "config")


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
    document = plain(read_yaml(file), str(file))
    check_repetitions(file)
    found = schema_faults(Validator(load_yaml(schema)), document) or list(not_finite(document, ""))
    claims = [] if found else read_claims(file)
    known = load_yaml(config_schema)
    datasets = known["properties"]["datasets"]["additionalProperties"]["properties"]
    variants = dict.fromkeys(datasets["variants"]["properties"])
    for options in config["datasets"].values():
        variants |= dict.fromkeys(options["variants"])
    samplers = known["$defs"]["samplers"]["items"]["enum"]
    refuse(found or list(faults(claims, variants, samplers)), str(file))
    return claims


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
