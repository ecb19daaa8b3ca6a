"""The settings of a sweep, and the rules that choose among them."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from kahlervae.config.filling import merge
from kahlervae.config.sentences import Validator, schema_faults

__all__ = ["AGAINST", "KINDS", "NAME", "Swept", "sweep_settings", "unruled"]

AGAINST = ("against", "match")
"""Keys of a rule of the sweep that name another variant."""


KINDS = ("most", "least", "match")
"""Keys of a rule of which it has one: by what it chooses."""

NAME = "[a-z0-9_=.+-]+"
"""Regular expression of the names of settings, which are those of their files."""


class Swept(NamedTuple):
    """One setting of a sweep.

    Attributes:
        variant: its name.
        setting: what is other than in the variant's own block, ``name=value`` with commas between;
            ``default`` where nothing is. A name is the last key, or, where the variant's settings
            change several keys that end in it, all of them with points between.
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
    others = [rules[variant][key] for variant in sweep for key in AGAINST if key in rules[variant]]
    found = {}
    # What rules hold settings against is trained as it is.
    plain = _named({other: [{}] for other in others})
    for variant, changes, pairs in (*_named(sweep), *plain):
        own = {key: value for key, value in changes.items() if key != "model"}
        block = merge(options["variants"][variant], own)
        model = merge(options["model"], changes.get("model", {}))
        setting = ",".join(pairs) or "default"
        found["_".join([variant, *pairs])] = Swept(variant, setting, block, model)
    return found


def _named(sweep: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], list[str]]]:
    """Variants, each with changes of a setting and these in words: ``name=value``."""
    for variant, listed in sweep.items():
        changed = {keys for changes in listed for keys, _ in _leaves(changes)}
        ends = Counter(keys[-1] for keys in changed)
        for changes in listed:
            named = sorted(
                (keys[-1] if ends[keys[-1]] == 1 else ".".join(keys), value)
                for keys, value in _leaves(changes)
            )
            yield variant, changes, [f"{name}={value}" for name, value in named]


def _leaves(block: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Values with the keys that lead to them."""
    for key, value in block.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def unruled(
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
    called = ["_".join([variant, *pairs]) for variant, _, pairs in _named(sweep)]
    for name, times in Counter(called).items():
        if times > 1:
            yield f"{at}.sweep holds {name} {times} times: keep it once."
        if not re.fullmatch(NAME, name):
            yield (
                f"{at}.sweep holds {name}, which names no file: change numbers and words in small "
                "letters alone."
            )
    known = schema["properties"]["datasets"]["additionalProperties"]["properties"]
    for swept in sweep_settings(options, rules).values():
        for name, value, part in (
            (f"sweep.{swept.variant}", swept.block, known["variants"]["properties"][swept.variant]),
            (f"sweep.{swept.variant}[].model", swept.model, known["model"]),
        ):
            yield from schema_faults(
                Validator({"$defs": schema["$defs"], **part}), value, f"{at}.{name}"
            )
