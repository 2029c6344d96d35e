"""Whether the inputs of a host keep the roles' contract: argument specs, ranges, and no name that nothing reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

# What stands in a template until somebody puts a secret there.
PLACEHOLDER = re.compile(r"(change|replace|insert|put|set|fix).?(me|this|it)|todo|xxx+|secret|password|<.*>", re.IGNORECASE)
SECRET_SHORTEST = 12
CONVERSION = re.compile(
    r"(?:argument|(?P<item>Elements value for option)) '(?P<name>\w+)'"
    r"(?: is of type \S+)?(?P<inside> found in '[^']+')?\.?(?: is of type \S+)? and we were unable to convert to (?P<kind>\w+)"
)
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "dict": "a mapping",
    "str": "text",
}
NUMBERS = ("int", "float")


def broken_specs(host: str, role: str, options: dict[str, Any], inputs: dict[str, Any]) -> Iterator[str]:
    """Sentences for inputs that the role's argument spec refuses: wrong type, wrong choice, missing."""
    given = {name: value for name, value in inputs.items() if name in options}
    result = ArgumentSpecValidator(options).validate(given, validate_role_argument_spec=True)
    for message in result.error_messages:
        wrong = plain(message, options, inputs)
        yield f"{host}: {wrong}. Edit the inventory (roles/{role}/meta/argument_specs.yml says what role {role} takes)."


def plain(message: str, options: dict[str, Any], inputs: dict[str, Any]) -> str:
    """What the validator says of a type, without the names of its classes; everything else as it says it."""
    if not (found := CONVERSION.search(message)):
        return message
    name, wanted = found["name"], KINDS.get(found["kind"], found["kind"])
    if found["item"]:
        return f"an item of {name}{found['inside'] or ''} is of another type, and must be {wanted}"
    value = inputs.get(name)
    shown = isinstance(value, str | int | float) and not options.get(name, {}).get("no_log")
    return f"{name}{found['inside'] or ''} is {repr(value) if shown else 'of another type'}, and must be {wanted}"


def bent_types(host: str, options: dict[str, Any], inputs: dict[str, Any]) -> Iterator[str]:
    """Sentences for values that a module would bend into the type, while a template takes them as they stand."""
    for name, option in options.items():
        value, wanted = inputs.get(name), option.get("type")
        if wanted == "list" and isinstance(value, str | int | float):
            yield (
                f"{host}: {name} is {value!r}, and must be a list. "
                f"Write each item of {name} on a line of its own that begins with '- ', or all of them in [brackets]."
            )
        elif wanted == "dict" and isinstance(value, str):
            yield f"{host}: {name} is text, and must be a mapping. Write it as lines of 'key: value' under {name}."
        elif wanted in NUMBERS and isinstance(value, bool):
            yield f"{host}: {name} is {str(value).lower()}, and must be a number. Edit {name} in the inventory."


def numbers(options: dict[str, Any], inputs: dict[str, Any]) -> dict[str, int | float]:
    """Numbers that came as text, from a command line or an .ini file, as what they are."""
    found: dict[str, int | float] = {}
    for name, option in options.items():
        value = inputs.get(name)
        if option.get("type") in NUMBERS and isinstance(value, str):
            try:
                found[name] = int(value) if option["type"] == "int" else float(value)
            except ValueError:
                continue  # the argument spec refuses it
    return found


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


def weak_secrets(host: str, options: dict[str, Any], inputs: dict[str, Any]) -> Iterator[str]:
    """Sentences for secrets that are none; they name where a secret stands and never what it is."""
    for name in (name for name, option in options.items() if option.get("no_log")):
        value = inputs.get(name)
        for place, secret in ((f"{name}['{k}']", v) for k, v in value.items()) if isinstance(value, dict) else ((name, value),):
            if not isinstance(secret, str):
                continue
            if PLACEHOLDER.fullmatch(secret.strip()):
                wrong = "is still a placeholder"
            elif "password" in name and len(secret) < SECRET_SHORTEST:
                wrong = f"has {len(secret)} characters, and must have {SECRET_SHORTEST}"
            else:
                continue
            yield (
                f"{host}: {place} {wrong}. Take the variable that it is bound to out of vault.yml (ansible-vault edit), "
                f"and let `make secrets` generate one."
            )


def unknown_inputs(host: str, names: Iterable[str], roles: Iterable[str], known: set[str]) -> Iterator[str]:
    """Sentences for variables that carry a role's prefix while no role reads them."""
    prefixes = tuple(f"{role}_" for role in roles)
    for name in sorted(names):
        if name.startswith(prefixes) and name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]}?" if close else "Take it out of the inventory."
            yield f"{host}: {name} is an input of no role, so it would do nothing. {hint}"
