"""A wrong inventory of two real hosts, and a run of playbooks/topology.yml, which only checks."""

from __future__ import annotations

import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust.pki import new_authority
from playbook_runner import PlaybookRun, play

ROOT = Path(__file__).resolve().parents[3]
# The example's broker and its 200 connections need more memory than a host of the lab has.
SMALL = {
    "rabbitmq_vm_memory_high_watermark": 0.4,
    "pgbouncer_default_pool_size": 5,
    "postgresql_max_connections": 30,
    "postgresql_work_mem": "8MB",
}
CONNECTION = re.compile(r"ansible_(host|port|user|become.*|ssh_.*|connection)")


@dataclass(frozen=True)
class TwoHosts:
    """first: broker and worker; second: database and producer. Each with its variables for the connection."""

    first: dict[str, Any]
    second: dict[str, Any]
    home: Path

    def run_topology(self, first: dict[str, Any] | None = None, second: dict[str, Any] | None = None) -> PlaybookRun:
        """Writes the inventory, with further variables of one host, and runs playbooks/topology.yml on it."""
        inventory = self.home / secrets.token_hex(4)
        shutil.copytree(ROOT / "inventories/example", inventory)
        (inventory / "group_vars/all/connection.yml").unlink()  # each host has its own
        (inventory / "group_vars/all/two_hosts.yml").write_text(yaml.safe_dump(self.all_variables()))
        source = {"application_source": {"directory": str(ROOT / "examples/newsroom")}}
        (inventory / "group_vars/newsroom/source.yml").write_text(yaml.safe_dump(source))
        hosts = {"first": self.first | SMALL | (first or {}), "second": self.second | SMALL | (second or {})}
        groups = {
            "rabbitmq": {"hosts": {"first": hosts["first"]}},
            "postgresql": {"hosts": {"second": hosts["second"]}},
            "celery_workers": {"hosts": {"first": None}},
            "producers": {"hosts": {"second": None}},
        }
        clients = {"children": {"celery_workers": None, "producers": None}}
        groups |= dict.fromkeys(("pgbouncer", "supervisor", "newsroom"), clients)
        (inventory / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
        return play(inventory, "playbooks/topology.yml")

    def all_variables(self) -> dict[str, Any]:
        passwords = {"newsroom": secrets.token_hex(16), "pgbouncer": secrets.token_hex(16)}
        controllers = {"name": "anywhere", "kind": "administrators", "addresses": ["0.0.0.0/0"], "country": "NO"}
        # The sites that the lab's hosts use, written by lab/sites.py. They have no time server.
        sites = ROOT / "build/lab/sites.yml"
        outside = yaml.safe_load(sites.read_text())["topology_sites"] if sites.exists() else []
        time = {"name": "time", "kind": "time_server", "addresses": ["192.0.2.123"], "country": "NO"}
        return {
            "topology_sites": [controllers | {"reason": "the control machine may be anywhere"}, time, *outside],
            "vault_rabbitmq_erlang_cookie": secrets.token_hex(32),
            "vault_rabbitmq_user_passwords": passwords,
            "vault_postgresql_role_passwords": passwords,
            "vault_application_tokens": passwords,
            "vault_pki_authorities": {"first": new_authority("first")},
            # The hosts trust the authority of the scenario's inventory.
            "pki_authority_lost": True,
        }
