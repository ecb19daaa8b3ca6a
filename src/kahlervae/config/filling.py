"""What files say in short, written out: `like`, `null`, and what fits together."""

import copy
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from kahlervae.config.registry import COMPLEX_DATA, GREY, IMAGES, TABLE, is_labelled, resolved
from kahlervae.config.sentences import load_yaml, quoted
from kahlervae.errors import InputError

__all__ = ["drop_absent", "fill_in", "merge"]


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
        name: merge(written.get(name, {}), options)
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
    entries = load_yaml(TABLE) | (resolved(registry) if isinstance(registry, Mapping) else {})
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
                f"{quoted(like)}{hint}."
            )
        changes = {key: value for key, value in block.items() if key != "like"}
        blocks[name] = merge(settings, changes)


def _written(files: Iterable[Path | str]) -> dict[str, Any]:
    """Data sets with their variants as files have them, whatever later ones switch off."""
    written: dict[str, Any] = {}
    for file in files:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8-sig"))
        datasets = content.get("datasets") if isinstance(content, dict) else None
        if isinstance(datasets, dict):
            written = merge(written, _without_nulls(datasets))
    return written


def _without_nulls(block: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value
        for key, value in block.items()
        if value is not None
    }


def merge(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the settings with the changes made in it, block by block."""
    merged = copy.deepcopy(dict(settings))
    for key, value in changes.items():
        blocks = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if blocks else value
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
