"""The real playbook refuses each row of wrong_inventories.yml with its sentence and changes nothing.

Rows about one role may be in its scenario, molecule/<role>/wrong_inventories.yml.

A row spoils a copy of inventories/example, or of the example that it names. The facts come from a cache, the measurements from
the row, and the connection is local: only the checks run, which change no host. Checks that need a host are tested in
molecule/*/tests.
"""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.constants import DEFAULT_VAULT_ID_MATCH
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust.pki import new_authority

ROOT = Path(__file__).resolve().parents[1]
TABLES = [ROOT / "tests/wrong_inventories.yml", *sorted(ROOT.glob("molecule/*/wrong_inventories.yml"))]
ROWS = [row for table in TABLES for row in yaml.safe_load(table.read_text())]
TABLE = {row["fault"]: row for row in ROWS}
THE_EXAMPLE, ON_IPV6 = "the example as it is", "the example without an address of IPv4"
WITHOUT_SINGLE_COPY = ("example-compact", "example-spread")
HOSTS = ("broker1", "db1", "worker1", "worker2", "web1")
KEYS = {"fault", "says", "example", "vars", "groups", "facts", "measured", "vault", "files", "command", "play"}
SITES = {"operations": "administrators", "newsdesk": "clients", "resolver": "resolver", "packages": "package_mirror"}
IPV6 = {
    "vars": {host: {"ansible_host": f"fd00::{number}"} for number, host in enumerate(HOSTS, 11)}
    | {
        "all": {
            "topology_sites": [
                {"name": name, "kind": kind, "addresses": [f"fd00:{number}::/64"], "country": "NO"}
                for number, (name, kind) in enumerate(SITES.items(), 1)
            ]
        }
    }
}
PASSWORD = "not-a-secret"
SECRETS = {
    "vault_rabbitmq_erlang_cookie": "0123456789abcdef" * 4,
    "vault_rabbitmq_user_passwords": {"newsroom": "0123456789abcdef"},
    "vault_postgresql_role_passwords": {"newsroom": "0123456789abcdef", "pgbouncer": "0123456789abcdef"},
    "vault_application_tokens": {"newsroom": "0123456789abcdef"},
    "vault_pki_authorities": {"first": new_authority("first"), "second": new_authority("second")},
}
TOPOLOGY = ("playbooks/topology.yml", "--tags", "topology")
GIB = 2**30
MEASURED = {
    "resources": {
        "memory_bytes": 4 * GIB,
        "cpus": 2,
        "disk_free_bytes": {"/var": 40 * GIB},
        "descriptors_max": 1048576,
        "listening": [{"address": "0.0.0.0", "port": 22, "program": "sshd", "unit": "ssh.service"}],
        "clock_offset_seconds": 0.0,
    },
    "installed_packages": ["adduser"],
}
FACTS = {"distribution": "Debian", "distribution_major_version": "13", "python_version": "3.13.5"}


def dump(data: Any) -> str:
    """YAML, by the C library."""
    return yaml.dump(data, Dumper=yaml.CSafeDumper)


def merge(into: dict, changes: dict) -> dict:
    """The mapping with the changes laid over it; "gone" takes a key out."""
    for key, value in changes.items():
        if value == "gone":
            into.pop(key)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
    return into


def encrypted(secrets: dict) -> bytes:
    return VaultLib([(DEFAULT_VAULT_ID_MATCH, VaultSecret(PASSWORD.encode()))]).encrypt(dump(secrets))


def hosts_of(row: dict) -> list[str]:
    """The hosts of the example that the row spoils."""
    groups = yaml.safe_load((ROOT / "inventories" / row.get("example", "example") / "hosts.yml").read_text())["all"]["children"]
    return [host for group in groups.values() for host in group.get("hosts", {})]


def write_inventory(home: Path, row: dict) -> None:
    """A copy of the example, spoiled as the row says."""
    shutil.copytree(ROOT / "inventories" / row.get("example", "example"), home)
    if row.get("vault") != "gone":
        (home / "group_vars/all/vault.yml").write_bytes(encrypted(merge(copy.deepcopy(SECRETS), row.get("vault", {}))))
    source = {"application_source": {"directory": str(ROOT / "examples/newsroom")}}
    (home / "group_vars/newsroom/source.yml").write_text(dump(source))
    fleet = yaml.safe_load((home / "hosts.yml").read_text())
    fleet["all"]["children"] = merge(fleet["all"]["children"], row.get("groups", {}))
    (home / "hosts.yml").write_text(dump(fleet))
    for host in hosts_of(row):
        measured = merge(copy.deepcopy(MEASURED), row.get("measured", {}).get(host, {}))
        (home / "host_vars").mkdir(exist_ok=True)
        (home / f"host_vars/{host}.yml").write_text(dump({"measured": measured}))
    (home / "group_vars/all/local.yml").write_text(
        dump(
            {
                "ansible_connection": "local",
                "ansible_python_interpreter": sys.executable,
                # This machine may run PostgreSQL.
                "__postgresql_data_dir": "/nonexistent",
            }
        )
    )
    for owner, values in row.get("vars", {}).items():
        folder = "host_vars" if owner in hosts_of(row) else "group_vars"
        (home / folder / owner).with_suffix("").mkdir(parents=True, exist_ok=True)
        if folder == "host_vars":
            (home / f"host_vars/{owner}.yml").rename(home / f"host_vars/{owner}/measured.yml")
        (home / f"{folder}/{owner}/zz_spoiled.yml").write_text(dump(values))
    for path, text in row.get("files", {}).items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)


def write_facts(home: Path, row: dict) -> None:
    """As the cache plugin jsonfile writes them, so no host is asked."""
    home.mkdir()
    for number, host in enumerate(hosts_of(row)):
        facts = FACTS | {"machine_id": f"{number:032x}"} | row.get("facts", {}).get(host, {})
        payload = {f"ansible_{key}": value for key, value in facts.items()} | {"_ansible_facts_gathered": True}
        (home / f"s1_{host}").write_text(json.dumps({"__payload__": json.dumps(payload)}))


@dataclass(frozen=True)
class Run:
    returncode: int
    output: str


def run_rows(rows: dict[str, dict], home: Path) -> dict[str, Run]:
    """ansible-playbook with each row's inventory, in parallel."""
    (home / "password").write_text(PASSWORD)
    jobs = []
    for number, row in enumerate(rows.values()):
        own = home / str(number)
        own.mkdir()
        write_inventory(own / "inventory", row)
        write_facts(own / "facts", row)
        arguments = ["-i", str(own / "inventory"), *row.get("play", TOPOLOGY), *row.get("command", [])]
        environment = {"ANSIBLE_CACHE_PLUGIN_CONNECTION": str(own / "facts")}
        jobs.append({"arguments": arguments, "environment": environment, "output": str(own / "output")})
    environment = {
        **os.environ,
        "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
        "ANSIBLE_VAULT_PASSWORD_FILE": str(home / "password"),
        # Compiled once for all rows, and not into the working tree.
        "PYTHONPYCACHEPREFIX": str(home / "compiled"),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    done = subprocess.run(
        [sys.executable, ROOT / "tests/playbook_forks.py"],
        input=json.dumps(jobs), cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ended = {end["job"]: end["returncode"] for end in map(json.loads, done.stdout.splitlines())}
    return {fault: Run(ended[number], (home / str(number) / "output").read_text()) for number, fault in enumerate(rows)}


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The runs of all chosen rows and of the example."""
    calls = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    chosen = {call.params["fault"] for call in calls if call and "fault" in call.params}
    rows: dict[str, dict] = {THE_EXAMPLE: {}, ON_IPV6: IPV6} | {name: {"example": name} for name in WITHOUT_SINGLE_COPY}
    rows |= {fault: row for fault, row in TABLE.items() if fault in chosen}
    return run_rows(rows, tmp_path_factory.mktemp("wrong"))


def words(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("fault", TABLE)
def test_a_wrong_inventory_is_refused_by_its_sentence(runs: dict[str, Run], fault: str) -> None:
    run = runs[fault]
    assert run.returncode != 0, run.output
    assert words(TABLE[fault]["says"]) in words(run.output), run.output
    assert "Nothing was changed." in run.output, run.output
    recap = run.output.split("PLAY RECAP")[1]
    assert set(re.findall(r"changed=(\d+)", recap)) == {"0"}, recap
    if "The reasons are at the end." in run.output:
        # Once, and in the last lines.
        assert run.output.count("This fleet cannot work:") == 1, run.output
        assert words(TABLE[fault]["says"]) in words(recap), recap


@pytest.mark.parametrize("example", [THE_EXAMPLE, ON_IPV6, *WITHOUT_SINGLE_COPY])
def test_the_example_itself_is_not_refused(runs: dict[str, Run], example: str) -> None:
    output = runs[example].output
    # The checks of the fleet pass; the preflight of the roles then finds that this machine is not broker1.
    assert "TASK [Let each role refuse what its host cannot carry]" in output, output
    assert "This fleet cannot work" not in output, output


def test_each_fault_is_in_the_table_once() -> None:
    assert len(ROWS) == len(TABLE) >= 40
    assert all(set(row) <= KEYS and len(row["says"]) > 20 for row in ROWS)
