"""The settings of a sweep, and the rules that choose among them."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from kahlervae.config.filling import merge
from kahlervae.config.sentences import Validator, schema_faults

__all__ = ["AGAINST", "Swept", "sweep_settings", "unruled"]

AGAINST = ("against", "match")
"""Keys of a rule of the sweep that name another variant."""


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
        block = merge(options["variants"][variant], own)
        model = merge(options["model"], changes.get("model", {}))
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
    known = schema["properties"]["datasets"]["additionalProperties"]["properties"]
    for swept in sweep_settings(options, rules).values():
        for name, value, part in (
            (f"sweep.{swept.variant}", swept.block, known["variants"]["properties"][swept.variant]),
            (f"sweep.{swept.variant}[].model", swept.model, known["model"]),
        ):
            yield from schema_faults(
                Validator({"$defs": schema["$defs"], **part}), value, f"{at}.{name}"
            )
