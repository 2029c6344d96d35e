"""Write the README of each role from its argument specs, ranges and defaults, and from the example inventory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import yaml

from lab.machine import REPOSITORY

ROLES = sorted(path.name for path in (REPOSITORY / "roles").iterdir() if path.is_dir())
EXAMPLE = REPOSITORY / "inventories/example"
TEMPLATE = Path(__file__).with_name("readme.md.j2")

# The description of a number begins with its unit.
UNITS = {
    "Seconds": "seconds",
    "Days": "days",
    "Milliseconds": "milliseconds",
    "Bytes": "bytes",
    "Number": "a count",
    "TCP port": "TCP port",
    "Ratio": "a ratio",
    "Multiple": "a multiple",
}
# An input, an upstream key or a variable: words joined by underscores, also host_journal_* and __<role>_packages.
NAME = re.compile(r"(?<![\w.])(_*[A-Za-z<>]+(?:_[A-Za-z0-9<>]*)+\*?)")
KINDS = {"int": "whole number", "float": "number", "str": "text", "bool": "true or false", "path": "path", "raw": "text or list"}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}


def sentence(text: str | list[str]) -> str:
    return " ".join(text.split()) if isinstance(text, str) else " ".join(" ".join(text).split())


def prose(text: str | list[str]) -> str:
    """The text as Markdown: names as code, special characters escaped."""
    pieces = NAME.split(sentence(text))
    for number, piece in enumerate(pieces):
        pieces[number] = f"`{piece}`" if number % 2 else re.sub(r"([*|<`])", r"\\\1", piece)
    return "".join(pieces)


def unit_of(option: dict[str, Any]) -> str:
    """The unit with which the description of a number begins; empty without one."""
    opening = sentence(option.get("description", ""))
    return next((unit for word, unit in UNITS.items() if re.match(rf"{word}\b", opening)), "")


def takes(option: dict[str, Any]) -> str:
    """What an operator may write as the value."""
    kind = option.get("type", "str")
    if kind == "list":
        words = {"dict": "list of dictionaries", "list": "list of lists"}.get(option.get("elements", ""), "list of texts")
    elif kind == "dict":
        words = "dictionary"
    else:
        words = KINDS[kind]
    if kind in ("int", "float"):
        words += f", {unit_of(option)}"
    if "choices" in option:
        words = "one of " + ", ".join(f"`{choice}`" for choice in option["choices"])
    return f"{words}; secret" if option.get("no_log") else words


def plain(value: Any) -> str:
    """A value as in an inventory, on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)
    return text.removesuffix("...\n").strip()


def row(name: str, option: dict[str, Any], default: Any) -> dict[str, str]:
    shown, instead = "", "**required**" if option.get("required") else "none"
    if "{{" in str(default):
        instead = "derived"
    elif default is not None:
        shown = plain(default)
    return {
        "name": name,
        "takes": takes(option),
        "default": shown,
        "no_default": instead,
        "meaning": prose(option["description"]),
    }


def rows(options: dict[str, Any], defaults: dict[str, Any]) -> list[dict[str, str]]:
    return [row(name, option, defaults.get(name, option.get("default"))) for name, option in options.items()]


def nested(options: dict[str, Any], path: str = "") -> list[dict[str, Any]]:
    """The tables of inputs that have fields, outermost first."""
    tables: list[dict[str, Any]] = []
    for name, option in options.items():
        if "options" not in option:
            continue
        whole = f"{path}.{name}" if path else name
        many = "Each entry of" if option["type"] == "list" else "Fields of"
        tables.append({"sentence": f"{many} `{whole}`:", "inputs": rows(option["options"], {})})
        tables += nested(option["options"], whole)
    return tables


def limits(bounds: dict[str, Any]) -> str:
    low, high = bounds.get("min"), bounds.get("max")
    if low is not None and high is not None:
        return f"{low} to {high}"
    return f"at least {low}" if high is None else f"at most {high}"


def examples(role: str) -> list[dict[str, str]]:
    """The files of the example inventory for the role."""
    return [
        {
            "path": str(path.relative_to(REPOSITORY)),
            "link": f"../../{path.relative_to(REPOSITORY)}",
            "text": path.read_text(encoding="utf-8").strip(),
        }
        for path in sorted(EXAMPLE.glob(f"group_vars/*/{role}.yml"))
    ]


def spec_of(role: str) -> dict[str, Any]:
    home = REPOSITORY / "roles" / role
    specs = load(home / "meta/argument_specs.yml")
    main, defaults = specs["argument_specs"]["main"], load(home / "defaults/main.yml")
    main["readme"] = {
        "what": prose(main["description"][0]),
        "disturbs": prose(main["description"][1]),
        "inputs": rows(main["options"], defaults),
        "nested": nested(main["options"]),
        "bounds": [
            {"name": name, "limits": limits(bounds), "why": prose(bounds["why"])}
            for name, bounds in load(home / "meta/ranges.yml").items()
        ],
        "examples": examples(role),
        "promises": any((REPOSITORY / "molecule" / role / "tests").glob("test_*.py")),
    }
    return specs


def readme(role: str) -> str:
    specs, meta = spec_of(role), load(REPOSITORY / "roles" / role / "meta/main.yml")
    template = jinja2.Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(role=role, argument_specs=specs["argument_specs"], metadata=meta).rstrip() + "\n"


def main() -> None:
    for role in ROLES:
        path = REPOSITORY / "roles" / role / "README.md"
        path.write_text(readme(role), encoding="utf-8")
        print(f"wrote {path.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
