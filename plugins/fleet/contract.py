"""Whether the inputs of a host keep the roles' contract: argument specs, ranges, and no name that nothing reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator


def broken_specs(host: str, role: str, options: dict[str, Any], inputs: dict[str, Any]) -> Iterator[str]:
    """Sentences for inputs that the role's argument spec refuses: wrong type, wrong choice, missing."""
    given = {name: value for name, value in inputs.items() if name in options}
    result = ArgumentSpecValidator(options).validate(given, validate_role_argument_spec=True)
    for message in result.error_messages:
        yield f"{host}, role {role}: {message}. Edit the inventory (roles/{role}/meta/argument_specs.yml says what it takes)."


def out_of_range(host: str, ranges: dict[str, dict[str, Any]], inputs: dict[str, Any]) -> Iterator[str]:
    """Sentences for numbers outside ``ranges``: {input: {min: number, max: number, why: sentence}}, each key optional."""
    for name, bounds in ranges.items():
        value = inputs.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        low, high = bounds.get("min", value), bounds.get("max", value)
        if not low <= value <= high:
            limit = " and ".join(f"at {word} {bounds[key]}" for key, word in (("min", "least"), ("max", "most")) if key in bounds)
            yield f"{host}: {name} is {value}, but must be {limit}: {bounds['why']} Edit {name} in the inventory."


def unknown_inputs(host: str, names: Iterable[str], roles: Iterable[str], known: set[str]) -> Iterator[str]:
    """Sentences for variables that carry a role's prefix while no role reads them."""
    prefixes = tuple(f"{role}_" for role in roles)
    for name in sorted(names):
        if name.startswith(prefixes) and name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]}?" if close else "Take it out of the inventory."
            yield f"{host}: {name} is an input of no role, so it would do nothing. {hint}"
