"""Have the programs of others judge every host of an inventory, write down what they say, and fail on what must not be.

ssh-audit asks each host's SSH, sslyze every port that speaks TLS, lynis the host from within; Ansible's own output is searched
for every secret of the vault. The verdicts are in build/audit.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.audit import guest, lynis, secrets, ssh, tls, tools
from lab.audit.relay import relay
from lab.machine import REPOSITORY, Refusal, fail

BUILD = REPOSITORY / "build"
HOME = BUILD / "audit"
LYNIS_LEAST = 80
AGAIN, AGAIN_SECONDS = 4, 5
SPOKEN = {"tls": "TLS", "postgres": "PostgreSQL, then TLS", None: "no TLS"}
# Part → its auditor, its figure in build/audit.json, what that must be.
JUDGES = {
    "ssh": ("ssh-audit", "ssh_audit_fails", "0"),
    "tls": ("sslyze", "tls_weak", "0"),
    "lynis": ("lynis", "lynis_index", f"at least {LYNIS_LEAST}"),
    "secrets": ("site.yml -vvv --check --diff", "secrets_said", "0"),
}
# The purposes of flows whose port must speak TLS.
ENCRYPTED = ("amqp", "postgresql", "pgbouncer", "http")


def ask_hosts(inventory: Path, with_lynis: bool) -> list[dict[str, Any]]:
    HOME.mkdir(parents=True, exist_ok=True)
    for old in HOME.glob("host-*.json"):
        old.unlink()
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, "lab/audit/hosts.yml"]
    command += ["-e", json.dumps({"audit_lynis": with_lynis})]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=REPOSITORY)
    if done.returncode:
        raise Refusal(f"the hosts could not be asked:\n{done.stdout[-3000:]}")
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(HOME.glob("host-*.json"))]


def ssh_command(host: dict[str, Any]) -> list[str]:
    """As Ansible comes to the host, by a connection of its own."""
    command = [
        "ssh",
        "-o",
        "BatchMode=yes",
        "-o",
        "ControlPath=none",
        "-p",
        str(host["port"]),
        *shlex.split(host["ssh_arguments"]),
    ]
    command += ["-i", host["key"]] if host["key"] else []
    return [*command, f"{host['user']}@{host['address']}" if host["user"] else host["address"]]


def reachable_ports(listening: list[str], address: str) -> list[tuple[str, int]]:
    """Where others reach the host: its listeners but for those on loopback, an unnamed address as the host's own.

    >>> reachable_ports(["0.0.0.0:22", "127.0.0.1:6432", "[::]:22", "10.0.0.1:5671"], "10.0.0.1")
    [('10.0.0.1', 22), ('10.0.0.1', 5671)]
    """
    found = set()
    for listener in listening:
        where, _, port = listener.rpartition(":")
        where = where.strip("[]").partition("%")[0]
        if where == "::1" or where.startswith("127."):
            continue
        found.add((address if where in ("*", "::", "0.0.0.0") else where, int(port)))
    return sorted(found)


def owed_ports(host: dict[str, Any]) -> set[int]:
    """The ports of the host on which others are to find TLS, by the fleet's declared flows."""
    return {
        flow["port"]
        for flow in host["flows"]
        if flow["purpose"] in ENCRYPTED and flow["destination"].get("name") == host["name"] and flow["protocol"] == "tcp"
    }


async def judge_tls(host: dict[str, Any], identities: list[tuple[Path, Path]]) -> list[dict[str, Any]]:
    found = []
    async with relay(ssh_command(host)) as through:
        for address, port in reachable_ports(host["listening"], host["address"]):
            if port == host["port"]:
                continue
            local = await through.port(address, port)
            how = await asyncio.to_thread(tls.speaks, local)
            for _ in range(AGAIN if port in owed_ports(host) else 0):
                if how:
                    break
                await asyncio.sleep(AGAIN_SECONDS)  # a service that is being restarted
                how = await asyncio.to_thread(tls.speaks, local)
            entry = {"host": host["name"], "address": address, "port": port, "begins": how, "weak": []}
            if how:
                entry["weak"] = tls.weaknesses(await tls.scan(local, how, f"{host['name']}:{port}", HOME, identities))
            elif port in owed_ports(host):
                entry["weak"] = ["a declared flow leads here, and no TLS is spoken"]
            found.append(entry)
    silent = owed_ports(host) - {entry["port"] for entry in found}
    return found + [
        {"host": host["name"], "address": host["address"], "port": port, "begins": None, "weak": ["nothing listens here"]}
        for port in sorted(silent)
    ]


async def audit_ssh(hosts: list[dict[str, Any]]) -> dict[str, list[str]]:
    """ssh-audit's failures per host. The host carries the connection to its sshd: behind a jump host there is no other way."""
    audits = {}
    for host in hosts:
        async with relay(ssh_command(host)) as through:
            local = await through.port(host["address"], host["port"])
            audits[host["name"]] = (await asyncio.to_thread(ssh.audit, "127.0.0.1", local))[0]
    return audits


async def judge_all_tls(hosts: list[dict[str, Any]], vault: dict[str, Any]) -> list[dict[str, Any]]:
    with guest.identity(vault.get("vault_pki_authorities") or {}) as identities:
        # One host after another: two scans at once tell a busy machine's timeouts.
        return [entry for host in hosts for entry in await judge_tls(host, identities)]


def judge(inventory: Path, parts: list[str]) -> dict[str, Any]:
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        seconds[part] = round(time.monotonic() - began, 1)

    verdict: dict[str, Any] = {"inventory": str(inventory), "seconds": seconds}
    tools.install()
    with timed("lynis" if "lynis" in parts else "hosts"):
        hosts = ask_hosts(inventory, "lynis" in parts)
    verdict["hosts"] = [host["name"] for host in hosts]
    if "ssh" in parts:
        with timed("ssh"):
            audits = asyncio.run(audit_ssh(hosts))
        verdict |= {"ssh_audit_fails": sum(map(len, audits.values())), "ssh_audit": audits}
    if "tls" in parts:
        with timed("tls"):
            ports = asyncio.run(judge_all_tls(hosts, secrets.secrets_of(inventory)))
        verdict |= {"tls_weak": sum(len(entry["weak"]) for entry in ports), "tls": ports}
    if "lynis" in parts:
        reports = {host["name"]: (lynis.read_report(host["report"]), host["skipped"]) for host in hosts}
        verdict["lynis_index"] = min(report.index for report, _ in reports.values())
        verdict["lynis"] = {
            name: {"index": report.index, "version": report.version, "skipped": skipped, "warnings": report.warnings,
                   "suggestions": report.suggestions}
            for name, (report, skipped) in reports.items()
        }  # fmt: skip
    if "secrets" in parts:
        with timed("secrets"):
            output = secrets.run_that_says_everything(inventory)
        verdict["secrets_said"] = secrets.said(secrets.secrets_of(inventory), output)
        verdict["secrets_lines"] = output.count("\n")
    return verdict


def objections(verdict: dict[str, Any]) -> list[str]:
    found = [f"{name}: ssh-audit: {what}" for name, fails in verdict.get("ssh_audit", {}).items() for what in fails]
    found += [f"{entry['host']}:{entry['port']}: {what}" for entry in verdict.get("tls", []) for what in entry["weak"]]
    for name, report in verdict.get("lynis", {}).items():
        if report["index"] < LYNIS_LEAST:
            found.append(f"{name}: lynis's index is {report['index']}, and must be {LYNIS_LEAST} at least")
    found += [f"Ansible's output holds the secret {name}" for name in verdict.get("secrets_said", [])]
    if "tls" in verdict and not any(entry["begins"] for entry in verdict["tls"]):
        found.append("no port of the fleet speaks TLS: nothing was judged")
    return found


def columns(rows: list[list[str]]) -> list[str]:
    """Rows of text under each other, each column as wide as its widest; numbers to the right.

    >>> columns([["host", "index"], ["a", "81"]])
    ['host  index', 'a        81']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = [all(cell.isdigit() or cell in ("-", "") for cell in column[1:]) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    ]


def table(verdict: dict[str, Any]) -> str:
    """What was asked and answered, host by host and port by port, and below it each judge's figure beside its limit."""
    rows = [["host", "ssh-audit fails", "lynis index", "port", "speaks", "weak"]]
    for name in verdict["hosts"]:
        fails = verdict.get("ssh_audit", {}).get(name)
        index = verdict.get("lynis", {}).get(name, {}).get("index")
        told = [name, "-" if fails is None else str(len(fails)), "-" if index is None else str(index)]
        ports = [
            [str(entry["port"]), SPOKEN[entry["begins"]], str(len(entry["weak"]))]
            for entry in verdict.get("tls", [])
            if entry["host"] == name
        ]
        for port in ports or [["-", "", "-"]]:
            rows.append(told + port)
            told = ["", "", ""]
    figures = [["judge", "figure", "", "limit", "seconds"]]
    for part, (judge_of_it, figure, limit) in JUDGES.items():
        if figure in verdict:
            value = verdict[figure]
            taken = verdict.get("seconds", {}).get(part)
            figures.append(
                [
                    judge_of_it,
                    figure,
                    str(len(value) if isinstance(value, list) else value),
                    limit,
                    "-" if taken is None else f"{taken:.0f}",
                ]
            )
    return "\n".join([*columns(rows), "", *columns(figures)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inventory", default="inventories/lab", type=Path)
    everything = list(JUDGES)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(everything)}; all if none is named")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(everything):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there is {', '.join(everything)}")
    try:
        verdict = judge(arguments.inventory, arguments.parts or everything)
    except (Refusal, RuntimeError) as problem:
        fail(str(problem))
    verdict["objections"] = objections(verdict)
    (BUILD / "audit.json").write_text(json.dumps(verdict, indent=2) + "\n", encoding="utf-8")
    print(f"{table(verdict)}\n")
    for sentence in verdict["objections"]:
        print(f"  {sentence}")
    print(f"{len(verdict['objections'])} objections; all of it in build/audit.json")
    raise SystemExit(1 if verdict["objections"] else 0)


if __name__ == "__main__":
    main()
