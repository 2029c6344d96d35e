"""No secret of the vault is where other accounts can read it. The tests search for the actual values."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from ansible import constants
from ansible.parsing.vault import VaultLib, VaultSecret
from playbook_runner import play

from lab.machine import REPOSITORY

SCAN = (Path(__file__).parent / "secret_scan.py").read_text(encoding="utf-8")
# Shorter values are names or numbers; the kit accepts no secret as short.
SHORTEST = 12


def vault() -> VaultLib:
    password = Path(constants.DEFAULT_VAULT_PASSWORD_FILE or REPOSITORY / ".vault-password").read_bytes().strip()
    return VaultLib([(constants.DEFAULT_VAULT_ID_MATCH, VaultSecret(password))])


def secrets_of(inventory: Path) -> dict[str, Any]:
    return yaml.safe_load(vault().decrypt((inventory / "group_vars/all/vault.yml").read_bytes()))


def values_of(entry: Any, key: str = "") -> Iterator[str]:
    """Every secret text in the vault. A private key line by line, because a copy may be wrapped differently."""
    if isinstance(entry, dict):
        for name, value in entry.items():
            yield from values_of(value, name)
    elif isinstance(entry, str) and "PRIVATE KEY" in entry:
        yield from (line for line in entry.splitlines() if "-----" not in line and len(line) >= SHORTEST)
    elif isinstance(entry, str) and "-----BEGIN" not in entry and key not in ("login", "name") and len(entry) >= SHORTEST:
        yield entry


def spellings(values: Iterator[str]) -> list[str]:
    """As in a file, and as in a URL."""
    return sorted({spelling for value in values for spelling in (value, quote(value, safe=""))})


@pytest.fixture(scope="module")
def actual(inventory) -> list[str]:
    values = spellings(values_of(secrets_of(REPOSITORY / inventory)))
    assert len(values) >= 4
    return values


@pytest.fixture(scope="module")
def scans(site, actual) -> dict[str, dict[str, list[str]]]:
    return {host.name: json.loads(host.run(["python3", "-c", SCAN], json.dumps(actual), timeout_s=300)) for host in site.hosts}


@pytest.mark.parametrize("place", ["command lines", "environments", "logs", "files"])
def test_no_secret_is_where_others_can_read_it(scans, place):
    assert {host: scan[place] for host, scan in scans.items() if scan[place]} == {}


def test_the_search_finds_the_secrets_where_they_belong(scans):
    protected = [path for scan in scans.values() for path in scan["protected"]]
    directories = {path.split("/")[2] for path in protected if path.startswith("/etc/")}
    assert "pgbouncer" in directories and len(directories) >= 2, directories
    assert "/var/lib/rabbitmq/.erlang.cookie" in protected


@pytest.fixture
def edited(inventory) -> Iterator[Path]:
    """The same inventory with other secrets, so a run would change each of them on each host."""

    def replaced(entry: Any, key: str = "") -> Any:
        if isinstance(entry, dict):
            return {name: replaced(value, name) for name, value in entry.items()}
        keep = not isinstance(entry, str) or "-----" in entry or key in ("login", "name")
        return entry if keep else secrets.token_hex(32)

    original = REPOSITORY / inventory
    copy = original.with_name("secrets-edited")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(original, copy, symlinks=True)
    # The names of authorities stay, because the hosts have their certificates.
    content = {key: value if key == "vault_pki_authority" else replaced(value) for key, value in secrets_of(original).items()}
    (copy / "group_vars/all/vault.yml").write_bytes(vault().encrypt(yaml.safe_dump(content)))
    yield copy
    shutil.rmtree(copy)


def test_the_most_verbose_run_prints_no_secret(edited, actual):
    """-vvv --check --diff of a run that would change every secret prints neither old nor new ones."""
    run = play(edited, "site.yml", "-vvv", "--check", "--diff")
    assert run.recap and run.returncode == 0, run.output[-3000:]
    assert re.search(r"^\+.*\(secret, after\)", run.output, re.MULTILINE), "no secret would change, so this proves nothing"
    values = {*actual, *spellings(values_of(secrets_of(edited)))}
    assert [line[:40] for line in run.output.splitlines() if any(value in line for value in values)] == []
