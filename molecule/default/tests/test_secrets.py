"""No secret of the inventory's vault stands where anybody reads it who must not: the actual values are looked for."""

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
from test_runs import play

from lab.demo import fleet
from lab.machine import REPOSITORY

SCAN = (Path(__file__).parent / "secret_scan.py").read_text(encoding="utf-8")
# What is shorter is a name or a number, and no secret that the kit would take.
SHORTEST = 12


def vault() -> VaultLib:
    password = Path(constants.DEFAULT_VAULT_PASSWORD_FILE or REPOSITORY / ".vault-password").read_bytes().strip()
    return VaultLib([(constants.DEFAULT_VAULT_ID_MATCH, VaultSecret(password))])


def held_by(inventory: Path) -> dict[str, Any]:
    return yaml.safe_load(vault().decrypt((inventory / "group_vars/all/vault.yml").read_bytes()))


def values_of(held: Any, key: str = "") -> Iterator[str]:
    """Every secret text in the vault. Of a private key its lines, since a copy may be laid out otherwise."""
    if isinstance(held, dict):
        for name, value in held.items():
            yield from values_of(value, name)
    elif isinstance(held, str) and "PRIVATE KEY" in held:
        yield from (line for line in held.splitlines() if "-----" not in line and len(line) >= SHORTEST)
    elif isinstance(held, str) and "-----BEGIN" not in held and key not in ("login", "name") and len(held) >= SHORTEST:
        yield held


def spellings(values: Iterator[str]) -> list[str]:
    """As they stand in a file, and as they stand in an address."""
    return sorted({spelling for value in values for spelling in (value, quote(value, safe=""))})


@pytest.fixture(scope="module")
def inventory(request) -> Path:
    return REPOSITORY / request.config.option.ansible_inventory


@pytest.fixture(scope="module")
def actual(inventory) -> list[str]:
    found = spellings(values_of(held_by(inventory)))
    assert len(found) >= 4
    return found


@pytest.fixture(scope="module")
def scans(inventory, actual) -> dict[str, dict[str, list[str]]]:
    hosts = fleet.read(str(inventory)).hosts
    return {host.name: json.loads(host.run(["python3", "-c", SCAN], json.dumps(actual), timeout_s=300)) for host in hosts}


@pytest.mark.parametrize("place", ["command lines", "environments", "logs", "files"])
def test_no_secret_stands_where_others_read_it(scans, place):
    assert {host: told[place] for host, told in scans.items() if told[place]} == {}


def test_the_search_finds_the_secrets_where_they_belong(scans):
    kept = {path.split("/")[2] for told in scans.values() for path in told["kept"] if path.startswith("/etc/")}
    assert "pgbouncer" in kept and len(kept) >= 2, kept
    assert any("/var/lib/rabbitmq/.erlang.cookie" in told["kept"] for told in scans.values())


@pytest.fixture
def elsewhere(inventory) -> Iterator[Path]:
    """The same inventory with every text of its vault another one, so that a run would change each secret on each host."""

    def anew(held: Any, key: str = "") -> Any:
        if isinstance(held, dict):
            return {name: anew(value, name) for name, value in held.items()}
        return secrets.token_hex(32) if isinstance(held, str) and "-----" not in held and key not in ("login", "name") else held

    copy = inventory.with_name("secrets-edited")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(inventory, copy, symlinks=True)
    # The names of authorities stay: what the hosts have is theirs.
    content = {key: value if key == "vault_pki_authority" else anew(value) for key, value in held_by(inventory).items()}
    (copy / "group_vars/all/vault.yml").write_bytes(vault().encrypt(yaml.safe_dump(content)))
    yield copy
    shutil.rmtree(copy)


def test_a_run_that_tells_everything_tells_no_secret(inventory, elsewhere, actual):
    """-vvv --check --diff, of a run that would change every secret: neither what is nor what would be is shown."""
    counts, said = play(elsewhere, "site.yml", "-vvv", "--check", "--diff")
    assert counts and all(count["failed"] == 0 and count["unreachable"] == 0 for count in counts.values()), said[-3000:]
    assert re.search(r"^\+.*\(secret, after\)", said, re.MULTILINE), "no secret would have changed, so that this proves nothing"
    values = {*actual, *spellings(values_of(held_by(elsewhere)))}
    assert [line[:40] for line in said.splitlines() if any(value in line for value in values)] == []
