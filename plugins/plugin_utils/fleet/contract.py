"""Checks a host's inputs against the roles' contract: argument specs, ranges, known names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

# Placeholders for secrets in templates.
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
        problem = plain(message, options, inputs)
        yield f"{host}: {problem}. Edit the inventory (roles/{role}/meta/argument_specs.yml lists the inputs of role {role})."


def plain(message: str, options: dict[str, Any], inputs: dict[str, Any]) -> str:
    """The validator's message; one about a type without Ansible's class names."""
    if not (match := CONVERSION.search(message)):
        return message
    name, wanted = match["name"], KINDS.get(match["kind"], match["kind"])
    if match["item"]:
        return f"an item of {name}{match['inside'] or ''} is of another type, but must be {wanted}"
    value = inputs.get(name)
    shown = isinstance(value, str | int | float) and not options.get(name, {}).get("no_log")
    return f"{name}{match['inside'] or ''} is {repr(value) if shown else 'of another type'}, but must be {wanted}"


def bent_types(host: str, options: dict[str, Any], inputs: dict[str, Any]) -> Iterator[str]:
    """Sentences for values that a module would convert to the declared type, but a template would use unconverted."""
    for name, option in options.items():
        value, wanted = inputs.get(name), option.get("type")
        if wanted == "list" and isinstance(value, str | int | float):
            yield (
                f"{host}: {name} is {value!r}, but must be a list. "
                f"Write each item of {name} on a separate line that begins with '- ', or all of them in [brackets]."
            )
        elif wanted == "list" and option.get("elements") == "list" and isinstance(value, list):
            yield from (
                f"{host}: {name}[{number}] is {item!r}, but must be a list of texts that is not empty. "
                f"Write the command's words as items, e.g. [python, -m, shop.migrate]."
                for number, item in enumerate(value)
                if not (isinstance(item, list) and item and all(isinstance(word, str | int | float) for word in item))
            )
        elif wanted == "dict" and isinstance(value, str):
            yield f"{host}: {name} is text, but must be a mapping. Write it as lines of 'key: value' under {name}."
        elif wanted in NUMBERS and isinstance(value, bool):
            yield f"{host}: {name} is {str(value).lower()}, but must be a number. Edit {name} in the inventory."


def numbers(options: dict[str, Any], inputs: dict[str, Any]) -> dict[str, int | float]:
    """Numbers that were given as text, on a command line or in an .ini file."""
    converted: dict[str, int | float] = {}
    for name, option in options.items():
        value = inputs.get(name)
        if option.get("type") in NUMBERS and isinstance(value, str):
            try:
                converted[name] = int(value) if option["type"] == "int" else float(value)
            except ValueError:
                continue  # the argument spec refuses it
    return converted


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
    """Sentences for placeholders and short passwords. They name the input and never show the secret."""
    for name in (name for name, option in options.items() if option.get("no_log")):
        value = inputs.get(name)
        for source, secret in ((f"{name}['{k}']", v) for k, v in value.items()) if isinstance(value, dict) else ((name, value),):
            if not isinstance(secret, str):
                continue
            if PLACEHOLDER.fullmatch(secret.strip()):
                problem = "is still a placeholder"
            elif "password" in name and len(secret) < SECRET_SHORTEST:
                problem = f"has {len(secret)} characters, but needs {SECRET_SHORTEST}"
            else:
                continue
            yield (
                f"{host}: {source} {problem}. Take the variable that it is bound to out of vault.yml (ansible-vault edit), "
                f"and let `make secrets` generate one."
            )


def unknown_inputs(host: str, names: Iterable[str], roles: Iterable[str], known: set[str]) -> Iterator[str]:
    """Sentences for variables with a role's prefix that no role reads."""
    prefixes = tuple(f"{role}_" for role in roles)
    for name in sorted(names):
        if name.startswith(prefixes) and name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]}?" if close else "Take it out of the inventory."
            yield f"{host}: {name} is not an input of any role, so it would do nothing. {hint}"
