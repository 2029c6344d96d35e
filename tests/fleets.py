"""Fleets for the tests of rules, and changes to their hosts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals import refusals

ROLES = {
    "rabbitmq": ("rabbitmq",),
    "postgresql": ("postgresql",),
    "pgbouncer": ("pgbouncer",),
    "celery_worker": ("celery_workers",),
    "producer": ("producers",),
}
GROUPS = frozenset({"newsroom", *(group for groups in ROLES.values() for group in groups)})
SUPPORTED = {"Debian": ["12", "13"]}
APART = [["postgresql", "celery_worker"], ["producer", "celery_worker"]]
POOL = {
    "pgbouncer_pools": 1,
    "pgbouncer_default_pool_size": 20,
    "pgbouncer_reserve_pool_size": 5,
    "pgbouncer_auth_max_user_connections": 2,
}
# What a host of the fleet is replaced by: another host, its inputs with these changes, or nothing.
Change = Host | Mapping[str, object] | None


def with_inputs(host: Host, **inputs: object) -> Host:
    return replace(host, inputs={**host.inputs, **inputs})


def changed(hosts: Mapping[str, Host], changes: Mapping[str, Change]) -> dict[str, Host]:
    after = dict(hosts)
    for name, change in changes.items():
        after[name] = with_inputs(hosts[name], **change) if isinstance(change, Mapping) else change
    return {name: host for name, host in after.items() if host}


def make_host(name: str, *roles: str, applications: tuple[str, ...] = (), **inputs: object) -> Host:
    number = sum(map(ord, name)) % 256
    return Host(name, frozenset(roles), applications, f"10.0.{number}.1", f"id-{name}", "Debian", "13", dict(inputs))


# A fleet that no rule refuses.
HOSTS = {
    host.name: host
    for host in (
        make_host("broker1", "rabbitmq"),
        make_host("db1", "postgresql", postgresql_max_connections=100, postgresql_superuser_reserved_connections=3),
        make_host("worker1", "celery_worker", "pgbouncer", applications=("newsroom",), **POOL),
        make_host("worker2", "celery_worker", "pgbouncer", applications=("newsroom",), **POOL),
        make_host("web1", "producer", "pgbouncer", applications=("newsroom",), **POOL),
    )
}


def refused(**changes: Change) -> list[str]:
    """What topology refuses of the fleet with these changes."""
    return refusals(Fleet(changed(HOSTS, changes), ROLES, ("newsroom",), GROUPS), SUPPORTED, APART)


def end(name: str, *addresses: str, kind: str = "host") -> dict[str, Any]:
    """An end of a flow, as role topology hands it to the other roles."""
    return {"kind": kind, "name": name, "addresses": list(addresses)}


def flow(
    source: dict, destination: dict, port: int | None, purpose: str = "amqp", protocol: str = "tcp", user: str = ""
) -> dict[str, Any]:
    ends = {"source": source, "destination": destination}
    return ends | {"purpose": purpose, "protocol": protocol, "port": port, "reason": "", "user": user}
