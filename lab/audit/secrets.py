"""Whether a run that says everything (-vvv --check --diff) says a secret."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from lab.machine import REPOSITORY, Refusal

BIN = Path(sys.executable).parent
LEAST = 8  # a shorter text stands everywhere


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every secret text with where it stands; of a key or certificate in several lines, each line that is its own."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{name}[{number}]")
    elif isinstance(value, str):
        if "BEGIN CERTIFICATE" in value:
            return  # public
        for line in value.splitlines():
            if len(line) >= LEAST and not line.startswith("-----"):
                yield name, line


def ways(text: str) -> set[str]:
    """How a secret may be written: as it is, as JSON and YAML do, in an address, as a module's arguments travel."""
    return {text, json.dumps(text)[1:-1], quote(text, safe=""), base64.b64encode(text.encode()).decode()}


def said(secrets: dict[str, Any], output: str) -> list[str]:
    """Names of the secrets that stand in the output, however they are written."""
    return sorted({name for name, text in leaves(secrets) if any(way in output for way in ways(text))})


def secrets_of(inventory: Path) -> dict[str, Any]:
    vault = inventory / "group_vars/all/vault.yml"
    done = subprocess.run([BIN / "ansible-vault", "view", vault], capture_output=True, text=True, check=False, cwd=REPOSITORY)
    if done.returncode:
        raise Refusal(f"{vault} cannot be read: {done.stderr.strip()}")
    return yaml.safe_load(done.stdout)


def run_that_says_everything(inventory: Path) -> str:
    command = [BIN / "ansible-playbook", "-i", inventory, "site.yml", "-vvv", "--check", "--diff"]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=REPOSITORY, env=environment
    )
    if done.returncode:
        raise Refusal(f"site.yml --check failed:\n{done.stdout[-2000:]}")
    return done.stdout
