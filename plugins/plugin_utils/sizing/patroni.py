"""The arithmetic and the rules of role patroni."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..fleet.inputs import whole
from ..fleet.model import Host, ip, same_address
from ..fleet.units import MIB

# More standbys cost the primary more than they save: one of two is synchronous, and the other one takes its place.
SIZES = (2, 3)
ENDPOINT = re.compile(r"(\d+(\.\d+){3}|\[[0-9a-fA-F:.]+\]):\d{1,5}")
# Measured: 45 MiB resident.
PATRONI = 64 * MIB
# Connections to its server that it keeps open, one to watch it and one for the REST API, and one of a member that runs pg_rewind.
CONNECTIONS = 3


def patroni_dynamic(own: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The dynamic configuration: the role's keys, then the operator's; refuses keys that both have.

    >>> patroni_dynamic({"ttl": 20}, {"primary_start_timeout": 60})
    {'ttl': 20, 'primary_start_timeout': 60}
    """
    reserved = {*own, "synchronous_mode_strict"}
    if twice := sorted(reserved & set(parameters)):
        raise AnsibleFilterError(
            f"patroni_parameters names {', '.join(twice)}, which the role sets itself. Take it out, and set the input of the "
            f"key's name if there is one"
        )
    return {**own, **parameters}


def patroni_reports(hostvars: Mapping[str, Any], members: Mapping[str, str]) -> dict[str, Any]:
    """Member to its answer of patroni_member's step report in this run."""
    answers = {name: (hostvars.get(name) or {}).get("__patroni_member") or {} for name in members}
    return {name: answer["report"] for name, answer in answers.items() if answer.get("report")}


def patroni_problems(
    members: Any, name: str, address: str, etcd_hosts: Any, ttl: Any, loop_wait: Any, retry_timeout: Any
) -> list[str]:
    """Faults of a member's inputs, as sentences; the argument specs refuse wrong types."""
    problems = [*_members(members, name, address)] if isinstance(members, Mapping) else []
    problems += [*_etcd(etcd_hosts)] if isinstance(etcd_hosts, list) else []
    return [*problems, *_timers(whole(ttl), whole(loop_wait), whole(retry_timeout))]


def _members(members: Mapping[str, Any], name: str, address: str) -> Iterator[str]:
    if len(members) not in SIZES:
        alone = " With one host, take patroni out of topology_roles: it stays a single server." if len(members) == 1 else ""
        yield f"patroni_members has {len(members)} ({', '.join(map(str, members)) or 'nobody'}), but takes 2 or 3.{alone}"
    for member, at in members.items():
        if ip(at) is None:
            yield (
                f"patroni_members has '{at}' for {member}, but needs an address: a failover must not depend on the resolver. "
                f"Write the host's private address."
            )
    names = list(members)
    for number_of, first in enumerate(names):
        for second in names[number_of + 1 :]:
            if same_address(members[first], members[second]):
                yield f"patroni_members has {first} and {second} both at {members[first]}. Correct one of them."
    if name not in members:
        yield f"patroni_members does not have {name}, which carries the role. Add it, or take the host out of the group."
    elif not same_address(members[name], address):
        yield (
            f"patroni_restapi_address is {address}, but the other members reach {name} at {members[name]} (patroni_members). "
            f"Set the same address in both."
        )


def _etcd(hosts: list[Any]) -> Iterator[str]:
    if not hosts:
        yield "patroni_etcd_hosts is empty, but Patroni decides in etcd who is the primary. Name every member of etcd."
    for host in hosts:
        if not ENDPOINT.fullmatch(str(host)):
            yield f"patroni_etcd_hosts has '{host}', which is not address:port, e.g. 10.0.0.21:2379. Correct it."


def _timers(ttl: int | None, loop_wait: int | None, retry_timeout: int | None) -> Iterator[str]:
    if ttl and loop_wait and retry_timeout and ttl < loop_wait + 2 * retry_timeout:
        yield (
            f"patroni_ttl is {ttl} s, but must be at least patroni_loop_wait plus twice patroni_retry_timeout "
            f"({loop_wait + 2 * retry_timeout} s): otherwise a primary that waits for etcd loses its place. Raise it."
        )


def memory_parts(host: Host) -> list[tuple[str, int]]:
    """Patroni's memory; that of PostgreSQL is role postgresql's."""
    return [("Patroni", PATRONI)]
