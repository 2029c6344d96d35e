"""Evaluates expressions of the application's roles with the lines of an inventory, as Ansible does on a host.

A separate process, since Ansible's loader changes how a whole process imports collections. It reads one question per line:
{"inventory": [YAML, ...], "variables": {...}, "values": {key: expression}, "inputs": [name, ...]}. The answer is one line with
the values by name. An input without a value is left out. If a template cannot be evaluated, the answer is {"error": reason}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).resolve().parents[1] / "roles"


def constants(roles: list[str]) -> dict:
    """The roles' defaults and constants."""
    values = {}
    for role in roles:
        for file in (ROLES / role / folder / "main.yml" for folder in ("defaults", "vars")):
            values |= DataLoader().load_from_file(str(file), trusted_as_template=True)
    return values


def answer(question: dict, roles: dict) -> dict:
    variables = dict(roles)
    for text in question["inventory"]:
        variables |= DataLoader().load(trust_as_template(text)) or {}
    variables |= question["variables"]
    templar = Templar(loader=DataLoader(), variables=variables)
    inputs = {name: variables[name] for name in question["inputs"] if name in variables}
    # Most inputs are values already, and a template costs a millisecond.
    values = {name: value for name, value in inputs.items() if "{{" not in json.dumps(value)}
    wanted = {name: f"{{{{ {name} }}}}" for name in inputs if name not in values} | question["values"]
    return values | {key: templar.template(trust_as_template(expression)) for key, expression in wanted.items()}


if __name__ == "__main__":
    init_plugin_loader()
    known = constants(sys.argv[1:])
    for line in sys.stdin:
        try:
            print(json.dumps(answer(json.loads(line), known)), flush=True)
        except AnsibleError as error:
            print(json.dumps({"error": str(error)}), flush=True)
