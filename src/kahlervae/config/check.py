"""Checks of the configuration, whose failures are sentences for people."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kahlervae.config.contradictions import contradictions
from kahlervae.config.registry import data_sources, unknown_datasets
from kahlervae.config.sentences import (
    Validator,
    load_yaml,
    not_finite,
    plain,
    refuse,
    schema_faults,
)
from kahlervae.errors import InputError
from kahlervae.judge.entries import Claim, read_claims

__all__ = ["check_claims", "check_config", "check_prefixed", "check_writable"]


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
    # Names first: of a block under a misspelt one everything would be missing.
    faults = list(unknown_datasets(document)) or schema_faults(validator, document)
    if not faults:
        sources = data_sources(document)
        # Rules that span keys can rely on all keys being there.
        faults = list(not_finite(document, ""))
        faults = faults or list(contradictions(document, sources, load_yaml(schema)))
    refuse(faults, "config")


def check_claims(
    file: Path | str, config: Mapping[str, Any], config_schema: Path | str
) -> list[Claim]:
    """Refuse a file of claims that is none, or that asks for what no run has.

    Claims may name variants that this run does not train: they get no row.

    Args:
        file: the claims, in YAML.
        config: the configuration, whose variants are known as well.
        config_schema: its JSON schema in YAML, which knows the others.

    Returns:
        The claims.

    Raises:
        InputError: a sentence for each fault.
    """
    known = load_yaml(config_schema)
    datasets = known["properties"]["datasets"]["additionalProperties"]["properties"]
    variants = dict.fromkeys(datasets["variants"]["properties"])
    for options in config["datasets"].values():
        variants |= dict.fromkeys(options["variants"])
    return read_claims(file, variants)


def check_writable(folder: Path | str) -> None:
    """Refuse a folder that cannot be written to, or cannot be made.

    Raises:
        InputError: names the folder and what stands in its way.
    """
    places = (Path(folder), *Path(folder).parents)
    try:
        existing = next(path for path in places if path.exists() or path.is_symlink())
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror}.") from error
    if not existing.exists():
        raise InputError(
            f"{folder} cannot be written to: {existing} is a link to nothing; make the folder that "
            "it leads to, or remove it."
        )
    if not existing.is_dir():
        raise InputError(f"{folder} cannot be written to: {existing} is a file, not a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(
            f"{folder} cannot be written to: there is no permission to write in {existing}; "
            "change that, name another folder in the configuration, or run Snakemake in another "
            "one (--directory)."
        )


def check_prefixed(config: Mapping[str, Any], **moved: str) -> None:
    """Refuse an absolute folder in a module with a prefix, which would be put below another one.

    Args:
        config: with the folders as they are written.
        moved: with the prefix, by their keys.

    Raises:
        InputError: names the folder.

    Example:
        >>> check_prefixed({"results": "/scratch/r"}, results="kahlervae//scratch/r")
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: results is /scratch/r, an absolute path, to which the prefix \
of a module cannot be added: give a relative one, or the module no prefix.
    """
    for key, folder in moved.items():
        if Path(config[key]).is_absolute() and folder != config[key]:
            raise InputError(
                f"{key} is {config[key]}, an absolute path, to which the prefix of a module cannot "
                "be added: give a relative one, or the module no prefix."
            )
