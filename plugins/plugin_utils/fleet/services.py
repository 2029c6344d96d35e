"""The services that roles declare in meta/service.yml, the only source of this knowledge in the kit.

docs/services.md explains each key; the schema here refuses unknown ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"


class ServiceError(ValueError):
    """A meta/service.yml that cannot be read: a defect of the kit, not of an inventory."""


@dataclass(frozen=True)
class Listens:
    """Where a service listens.

    each: input with a list of mappings; the names below are then keys of an entry, with dots between those of inner mappings.
    purpose: the name of its flows.  endpoints: input with ``address:port``, or a list of them.
    successor: input with ``address:port`` of the service that has taken this one's place; its clients may still come here.
    addresses: input with an address, a list, or several separated by commas.  port: input with their port.  ports: fixed ones.
    """

    purpose: str
    endpoints: str = ""
    addresses: str = ""
    port: str = ""
    ports: tuple[int, ...] = ()
    each: str = ""
    successor: str = ""


@dataclass(frozen=True)
class Dials:
    """Where a service connects to.

    each: as for Listens.  endpoints: input with ``address:port``, a list of them, or a mapping whose values are.
    hosts, port: inputs with the address or addresses, and the port; of an endpoint the address counts.  ports: fixed ones.
    protocol: instead of tcp, one of network.ruleset.PORTLESS, which leaves out the port.
    purpose: the name of the flow, instead of that of the service there.
    databases: input of connection strings by database.
    services: services that may be there; the flow is named after the first one that listens there, else after the last. Empty
        for every service; the flow is then named after the one that listens there, else after the service that dials.
        account: the only system account that may connect; empty for all.
    """

    services: tuple[str, ...] = ()
    hosts: str = ""
    port: str = ""
    databases: str = ""
    account: str = ""
    endpoints: str = ""
    each: str = ""
    ports: tuple[int, ...] = ()
    protocol: str = "tcp"
    purpose: str = ""


@dataclass(frozen=True)
class Sockets:
    """What identifies a listening socket of the service: systemd itself, these accounts, or these units instead of ``units``."""

    by_systemd: bool = False
    accounts: tuple[str, ...] = ()
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Holds:
    """what: personal data at rest or passing, with ``{applications}``.  where: paths, with ``{application}``."""

    what: str = ""
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class Service:
    """One role's service.

    after: roles that a host plays before it.  alone_with: roles that are played with it when it is played alone.
    rollout: the separate playbook that plays it, empty for playbooks/service.yml.  units: patterns of systemd's units.
        packages: prefixes of packages that unattended upgrades do not touch.  logs: patterns of its log files.
        status: section of platform_status → argument → the input with its value.
        memory: the input to lower if its memory does not fit; ``memory_parts`` of sizing/<role>.py does the arithmetic.
    descriptors: the same for open files and sockets; ``descriptor_parts`` does the arithmetic.
    removed_where: the key of ansible_facts['resources'] that is true on a host without the role that still has the service.
    """

    role: str
    after: tuple[str, ...] = ()
    alone_with: tuple[str, ...] = ()
    rollout: str = ""
    units: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    listens: tuple[Listens, ...] = ()
    dials: tuple[Dials, ...] = ()
    sockets: Sockets = Sockets()
    holds: Holds = Holds()
    logs: tuple[str, ...] = ()
    status: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    removed_where: str = ""
    memory: str = ""
    descriptors: str = ""

    @property
    def own_units(self) -> tuple[str, ...]:
        """Prefixes of the units that may hold its ports."""
        return tuple(unit.partition("@")[0].removesuffix(".service") for unit in self.sockets.units or self.units)


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def parse(role: str, declared: Mapping[str, Any]) -> Service:
    """The service that a meta/service.yml declares.

    >>> parse("etcd", {"after": ["pki"], "listens": [{"purpose": "etcd", "endpoints": "etcd_listen"}]}).listens[0].endpoints
    'etcd_listen'
    """
    parts: dict[str, Any] = {key: _tuples(value) for key, value in declared.items()}
    try:
        for key, kind in (("listens", Listens), ("dials", Dials)):
            entries = declared.get(key, ())
            parts[key] = tuple(kind(**{name: _tuples(value) for name, value in entry.items()}) for entry in entries)
        for key, kind in (("sockets", Sockets), ("holds", Holds)):
            parts[key] = kind(**{name: _tuples(value) for name, value in declared.get(key, {}).items()})
        return Service(role, **parts)
    except TypeError as error:
        raise ServiceError(f"roles/{role}/meta/service.yml: {error}. docs/services.md lists the keys.") from None


@lru_cache
def services(roles: Path = ROLES) -> Mapping[str, Service]:
    """Every role's service, each after those in its ``after``."""
    by_role = {}
    for path in sorted(roles.glob("*/meta/service.yml")):
        role = path.parents[1].name
        by_role[role] = parse(role, yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader) or {})
    if unknown := {name for service in by_role.values() for name in (*service.after, *service.alone_with)} - set(by_role):
        raise ServiceError(f"meta/service.yml names {', '.join(sorted(unknown))}, which has no meta/service.yml.")
    order = TopologicalSorter({role: service.after for role, service in by_role.items()})
    order.prepare()
    sorted_roles: list[str] = []
    while order.is_active():  # siblings by name, so the order is stable
        ready = sorted(order.get_ready())
        sorted_roles += ready
        order.done(*ready)
    return MappingProxyType({role: by_role[role] for role in sorted_roles})


def carried(table: Mapping[str, str | list[str]], groups: Iterable[str]) -> set[str]:
    """The roles that the inventory's topology_roles gives to a host of these groups.

    >>> sorted(carried({"host": "all", "rabbitmq": "brokers", "application": ["workers", "web"]}, ["web"]))
    ['application', 'host']
    """
    own = {"all", *groups}
    return {role for role, at in table.items() if own & ({at} if isinstance(at, str) else set(at))}


def declared(key: str, roles: Path = ROLES) -> list[str]:
    """The values of a key of all services, for a template: ``units``, ``packages``, ``own_units`` or ``logs``.

    >>> "pgbouncer.service" in declared("units")
    True
    """
    return list(dict.fromkeys(value for service in services(roles).values() for value in getattr(service, key)))


def of_roles(roles: Iterable[str], key: str) -> list[str]:
    """The values of a key of the services of these roles, in the order in which a host plays them.

    >>> of_roles(["rabbitmq", "pgbouncer", "host"], "packages")
    ['rabbitmq-server', 'erlang-', 'pgbouncer']
    """
    own = set(roles)
    return list(dict.fromkeys(value for role, service in services().items() if role in own for value in getattr(service, key)))


def packaged_units(roles: Iterable[str]) -> list[str]:
    """The units, or their patterns, of the roles' services that have packages of their own, in the order in which they start.

    >>> packaged_units(["rabbitmq", "pki", "etcd"])
    ['etcd.service', 'rabbitmq-server.service', 'epmd.service']
    """
    return of_roles((role for role in roles if services()[role].packages), "units")


def with_tasks(roles: Iterable[str], name: str, home: Path = ROLES) -> list[str]:
    """The roles that have tasks/<name>.yml, in the order in which a host plays them.

    >>> with_tasks(["patroni", "rabbitmq", "etcd", "pki"], "leave")
    ['etcd', 'rabbitmq', 'patroni']
    """
    own = set(roles)
    return [role for role in services() if role in own and (home / role / "tasks" / f"{name}.yml").exists()]


def played(
    own: Iterable[str],
    tags: Iterable[str] = ("all",),
    skipped: Iterable[str] = (),
    alone: str = "",
    resources: Mapping[str, Any] = MappingProxyType({}),
    rollout: str = "",
) -> list[str]:
    """The services that playbooks/service.yml, or the playbook of a rollout, plays on a host, in order.

    own: the host's roles.  tags, skipped: the run's ``--tags`` and ``--skip-tags``.
        alone: the only service to play, with its companions.
        resources: measures of the host; a service that was removed from the inventory and still exists is played to remove it.
        rollout: the playbook, empty for playbooks/service.yml.

    >>> played(["rabbitmq", "host", "pki", "celery_worker"]), played(["host"], resources={"firewall": True})
    (['host', 'pki', 'rabbitmq'], ['host', 'firewall'])
    >>> played(["rabbitmq", "host", "pki"], tags=["rabbitmq"]), played(["host", "pki"], alone="rabbitmq")
    (['pki', 'rabbitmq'], [])
    >>> own = ["haproxy", "host", "pki"]
    >>> played(own), played(own, rollout="routes"), played(own, alone="haproxy")
    (['host', 'pki'], ['haproxy'], ['pki', 'haproxy'])
    """
    known, wanted = services(), set(tags)
    here = {role for role, service in known.items() if role in own or resources.get(service.removed_where)}

    def with_companions(roles: set[str]) -> set[str]:
        return here & (roles | {companion for role in roles & here for companion in known[role].alone_with})

    chosen = with_companions({alone}) if alone else here
    if "all" not in wanted:
        chosen &= with_companions(wanted)
    return [role for role in known if role in chosen - set(skipped) and (role == alone or known[role].rollout == rollout)]
