"""Run third-party auditors against every host of an inventory, record what they report, and fail on weaknesses.

ssh-audit checks each host's SSH, sslyze every port that speaks TLS, lynis the host itself; Ansible's output is searched for every
secret of the vault. The results are in build/audit.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.audit import client, lynis, secrets, ssh, tls, tools
from lab.audit.relay import relay
from lab.audit.report import AUDITORS, objections, table
from lab.machine import BUILD, refusals_shown
from lab.playbooks import play
from lab.vault import secrets_of

HOME = BUILD / "audit"
# A service may be restarting: ask this often whether a port speaks TLS, and wait this long between two tries.
TRIES, PAUSE_S = 5, 5
# The purposes of flows whose port must speak TLS.
ENCRYPTED = ("amqp", "postgresql", "pgbouncer", "http")


def read_hosts(inventory: Path, with_lynis: bool) -> list[dict[str, Any]]:
    HOME.mkdir(parents=True, exist_ok=True)
    for old in HOME.glob("host-*.json"):
        old.unlink()
    play(inventory, "lab/audit/hosts.yml", "-e", json.dumps({"audit_lynis": with_lynis}))
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(HOME.glob("host-*.json"))]


def ssh_command(host: dict[str, Any]) -> list[str]:
    """As Ansible reaches the host, in a separate connection."""
    command = ["ssh", "-o", "BatchMode=yes", "-o", "ControlPath=none", "-p", str(host["port"])]
    command += shlex.split(host["ssh_arguments"])
    command += ["-i", host["key"]] if host["key"] else []
    return [*command, f"{host['user']}@{host['address']}" if host["user"] else host["address"]]


def reachable_ports(listening: list[str], address: str) -> list[tuple[str, int]]:
    """Where others reach the host: its listeners except those on loopback; a wildcard address counts as the host's.

    >>> reachable_ports(["0.0.0.0:22", "127.0.0.1:6432", "[::]:22", "10.0.0.1:5671"], "10.0.0.1")
    [('10.0.0.1', 22), ('10.0.0.1', 5671)]
    """
    ports = set()
    for listener in listening:
        where, _, port = listener.rpartition(":")
        where = where.strip("[]").partition("%")[0]
        if where != "::1" and not where.startswith("127."):
            ports.add((address if where in ("*", "::", "0.0.0.0") else where, int(port)))
    return sorted(ports)


def owed_ports(host: dict[str, Any]) -> set[int]:
    """The ports of the host that must speak TLS to others, by the fleet's declared flows."""
    return {
        flow["port"]
        for flow in host["flows"]
        if flow["purpose"] in ENCRYPTED and flow["destination"].get("name") == host["name"] and flow["protocol"] == "tcp"
    }


async def audit_tls_of(host: dict[str, Any], identities: list[tuple[Path, Path]]) -> list[dict[str, Any]]:
    owed, entries = owed_ports(host), []
    async with relay(ssh_command(host)) as through:
        for address, port in reachable_ports(host["listening"], host["address"]):
            if port == host["port"]:
                continue
            local = await through.port(address, port)
            begins = await asyncio.to_thread(tls.speaks, local)
            for _ in range(TRIES - 1 if port in owed else 0):
                if begins:
                    break
                await asyncio.sleep(PAUSE_S)  # a service that is restarting
                begins = await asyncio.to_thread(tls.speaks, local)
            entry = {"host": host["name"], "address": address, "port": port, "begins": begins, "weak": []}
            if begins:
                entry["weak"] = tls.weaknesses(await tls.scan(local, begins, f"{host['name']}:{port}", HOME, identities))
            elif port in owed:
                entry["weak"] = ["a declared flow leads here, but the port does not speak TLS"]
            entries.append(entry)
    return entries + [
        {"host": host["name"], "address": host["address"], "port": port, "begins": None, "weak": ["nothing listens here"]}
        for port in sorted(owed - {entry["port"] for entry in entries})
    ]


async def audit_ssh(hosts: list[dict[str, Any]]) -> dict[str, list[str]]:
    """ssh-audit's failures per host. It connects through the host's SSH session, the only way behind a jump host."""
    failures = {}
    for host in hosts:
        async with relay(ssh_command(host)) as through:
            local = await through.port(host["address"], host["port"])
            failures[host["name"]] = await asyncio.to_thread(ssh.audit, "127.0.0.1", local)
    return failures


async def audit_tls(hosts: list[dict[str, Any]], vault: dict[str, Any]) -> list[dict[str, Any]]:
    with client.identities(vault.get("vault_pki_authorities") or {}) as identities:
        # One host after another: on a busy machine two scans at once report timeouts.
        return [entry for host in hosts for entry in await audit_tls_of(host, identities)]


def audit(inventory: Path, parts: list[str]) -> dict[str, Any]:
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        seconds[part] = round(time.monotonic() - began, 1)

    report: dict[str, Any] = {"inventory": str(inventory), "seconds": seconds}
    tools.install()
    with timed("lynis" if "lynis" in parts else "hosts"):
        hosts = read_hosts(inventory, "lynis" in parts)
    vault = secrets_of(inventory) if {"tls", "secrets"} & {*parts} else {}
    report["hosts"] = [host["name"] for host in hosts]
    if "ssh" in parts:
        with timed("ssh"):
            failures = asyncio.run(audit_ssh(hosts))
        report |= {"ssh_audit_fails": sum(map(len, failures.values())), "ssh_audit": failures}
    if "tls" in parts:
        with timed("tls"):
            ports = asyncio.run(audit_tls(hosts, vault))
        report |= {"tls_weak": sum(len(entry["weak"]) for entry in ports), "tls": ports}
    if "lynis" in parts:
        report["lynis"] = {host["name"]: lynis.read_report(host["report"]) | {"skipped": host["skipped"]} for host in hosts}
        report["lynis_index"] = min(host["index"] for host in report["lynis"].values())
    if "secrets" in parts:
        with timed("secrets"):
            output = secrets.verbose_run(inventory)
        report["secrets_said"] = secrets.leaked(vault, output)
        report["secrets_lines"] = output.count("\n")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inventory", default="inventories/lab", type=Path)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(AUDITORS)}; default: all")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(AUDITORS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(AUDITORS)}")
    with refusals_shown():
        report = audit(arguments.inventory, arguments.parts or list(AUDITORS))
    report["objections"] = objections(report)
    (BUILD / "audit.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"{table(report)}\n")
    for sentence in report["objections"]:
        print(f"  {sentence}")
    print(f"{len(report['objections'])} objections; the whole report is build/audit.json")
    raise SystemExit(1 if report["objections"] else 0)


if __name__ == "__main__":
    main()
