"""Which hosts a change restarts, in which batches, and which release a rollback uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .model import bracketed

NOBODY = ["all:!all"]  # a pattern that matches no host, without a warning


def of(host: str, hostvars: Mapping[str, Any]) -> Mapping[str, Any]:
    """The host's variables; there are none yet when a playbook's syntax is checked."""
    return hostvars.get(host) or {}


def hosts_with(groups: Mapping[str, list[str]], hostvars: Mapping[str, Any], *roles: str) -> list[str]:
    """The hosts that carry one of the roles by the inventory's topology_roles, replaced brokers last; a host pattern.

    >>> hosts_with({"all": ["b1", "w1"], "brokers": ["b1"]}, {"b1": {"topology_roles": {"rabbitmq": "brokers"}}}, "rabbitmq")
    ['b1']
    """
    everybody = groups.get("all") or []
    table = of(everybody[0], hostvars).get("topology_roles") if everybody else None
    placed = [(table or {}).get(role, []) for role in roles]
    carrying = {group for at in placed for group in ([at] if isinstance(at, str) else at)}
    found = [host for host in everybody if any(host in groups.get(group, []) for group in carrying)]
    if "rabbitmq" in roles:
        found.sort(key=lambda host: bool(of(host, hostvars).get("rabbitmq_successor")))
    return found or NOBODY


def addresses(hosts: list[str], hostvars: Mapping[str, Any], port: int | None = None) -> dict[str, str]:
    """Host to its topology_address, with a port if one is given: for inputs that name the members of a group.

    >>> addresses(["db1"], {"db1": {"topology_address": "fd00::21"}})
    {'db1': 'fd00::21'}
    >>> addresses(["db1"], {"db1": {"topology_address": "fd00::21"}}, 5432)
    {'db1': '[fd00::21]:5432'}
    """
    found = {host: str(of(host, hostvars)["topology_address"]) for host in hosts}
    return found if port is None else {host: f"{bracketed(address)}:{port}" for host, address in found.items()}


def waiting_hosts(hosts: list[str], hostvars: Mapping[str, Any], *plans: str) -> list[str]:
    """The hosts with a pending change by a registered variable of ``plans``; a host pattern."""
    waiting = [host for host in hosts if any((of(host, hostvars).get(plan) or {}).get("pending") for plan in plans)]
    return waiting or NOBODY


def update_order(hosts: list[str], hostvars: Mapping[str, Any]) -> list[str]:
    """The hosts that wait for an update, a host with the primary database last; a host pattern.

    Each primary before the last host would have to switch over once more.

    >>> waits = {"__update": {"pending": True}}
    >>> update_order(["db1", "db2", "w1"], {"db1": {**waits, "__patroni_member": {"report": {"leads": True}}}, "db2": waits})
    ['db2', 'db1']
    """
    waiting = [host for host in hosts if (of(host, hostvars).get("__update") or {}).get("pending")]

    def leads(host: str) -> bool:
        return bool(((of(host, hostvars).get("__patroni_member") or {}).get("report") or {}).get("leads"))

    return sorted(waiting, key=leads) or NOBODY


def drained_hosts(hosts: list[str], hostvars: Mapping[str, Any]) -> list[str]:
    """The drained hosts; a host pattern."""
    return [host for host in hosts if of(host, hostvars).get("celery_worker_state") == "drained"] or NOBODY


def batch_sizes(batch: Any, total: int) -> list[int]:
    """Ansible's ``serial`` in hosts: a number, a share such as "25%", or a list of these, the last of which repeats."""
    sizes = []
    for size in batch if isinstance(batch, list) else [batch]:
        text = str(size).strip()
        try:
            hosts = total * int(text[:-1]) // 100 if text.endswith("%") else int(text)
        except ValueError:
            raise ValueError(f"a batch is a number of hosts or a share such as '25%', not '{size}'") from None
        sizes.append(max(hosts, 1))
    return sizes or [1]


def cut(hosts: list[str], application: dict[str, str], sizes: list[int]) -> list[int]:
    """Sizes of consecutive batches. No batch has all hosts of an application with several hosts.

    application: of each active host, whether it has a pending change or not.
    """
    everybody: dict[str, set[str]] = {}
    for host, name in application.items():
        everybody.setdefault(name, set()).add(host)
    batches: list[list[str]] = []
    for host in hosts:
        size = sizes[min(max(len(batches) - 1, 0), len(sizes) - 1)]
        batch = {*(batches[-1] if batches else []), host}
        mates = everybody.get(application.get(host, ""), set())
        if not batches or len(batch) > size or (len(mates) > 1 and mates <= batch):
            batches.append([])
        batches[-1].append(host)
    return [len(batch) for batch in batches] or [1]


def restart_batches(hosts: list[str], hostvars: Mapping[str, Any], key: str, batch: Any, *plans: str) -> list[int]:
    """``serial`` for the waiting hosts.  batch: default for the variable ``key``."""
    waiting, role = waiting_hosts(hosts, hostvars, *plans), key.removesuffix("_batch")
    if waiting == NOBODY:
        return [1]
    application = {
        host: str(hostvars[host].get("application_name", ""))
        for host in hosts
        if role in hostvars[host].get("topology_own_roles", [role]) and hostvars[host].get("celery_worker_state") != "drained"
    }
    return cut(list(waiting), application, batch_sizes(hostvars[waiting[0]].get(key, batch), len(waiting)))


def rollback_target(histories: list[list[str]]) -> str:
    """The release before the current one, also after a rollout that stopped half-way."""
    histories = [history for history in histories if history]
    current = {history[-1] for history in histories}
    before = {history[-2] for history in histories if len(history) > 1 and history[-1] in current}
    # Hosts that a stopped rollout did not reach still run the previous release.
    behind = before & current or (before if len(current) == 1 else set())
    if len(behind) != 1:
        known = ", ".join(sorted({" → ".join(history) for history in histories})) or "none"
        raise ValueError(
            f"-e release=previous finds no single release to go back to (releases that were current: {known}). "
            "Name one that every host keeps: -e release=ID."
        )
    return behind.pop()


def release_wanted(release: str, name: str, hosts: list[str], hostvars: Mapping[str, Any]) -> str:
    """The release that ``application_release`` names; empty for that of the source."""
    if release != "previous":
        return release
    listed = [hostvars[mate].get("__application_listed") or {} for mate in mates(name, hosts, hostvars)]
    return rollback_target([result["history"] for result in listed if "history" in result])


def mates(name: str, hosts: list[str], hostvars: Mapping[str, Any]) -> list[str]:
    """The hosts of the application."""
    return [host for host in hosts if hostvars[host].get("application_name") == name]


def release_leader(name: str, hosts: list[str], hostvars: Mapping[str, Any]) -> str:
    """The host that runs the commands of the application's release for all others; empty if they have succeeded before.

    A run that was killed after them has declared the release ready on some hosts only. A host where they ran for another
    environment is ready and not prepared.
    """
    carriers = mates(name, hosts, hostvars)
    releases = [hostvars[host].get("__application_release") or {} for host in carriers]
    outdated = bool(releases) and releases[0].get("ready") and not releases[0].get("prepared", True)
    ready = any(release.get("ready") for release in releases)
    return carriers[0] if carriers and (outdated or not ready) else ""
