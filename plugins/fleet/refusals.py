"""Why a fleet cannot work. Each rule yields sentences that name the value, the limit and what to edit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from fleet.model import Fleet, Host
from fleet.scaling import unreadable_batches, unworkable_drains

# Each ends before the next.
TASK_TIMERS = (
    "pgbouncer_query_wait_timeout",
    "application_soft_time_limit",
    "application_time_limit",
    "celery_worker_stopwaitsecs",
    "supervisor_timeout_stop_sec",
)


def empty_groups(fleet: Fleet) -> Iterator[str]:
    for role in fleet.roles:
        if not any(fleet.with_role(role)):
            group = fleet.groups_of(role)
            yield (
                f"The group {group} has no host, so nothing runs the role {role}. "
                f"Add a host to {group} in the inventory's hosts file, or take '{role}' out of topology_roles."
            )


def unsupported_systems(fleet: Fleet, supported: dict[str, list[str]]) -> Iterator[str]:
    known = ", ".join(f"{name} {release}" for name, releases in supported.items() for release in releases)
    for host in fleet.hosts.values():
        if host.distribution is None:
            continue
        if str(host.release) not in [str(r) for r in supported.get(host.distribution, [])]:
            yield (
                f"{host.name} runs {host.distribution} {host.release}; the roles are proven on {known}. "
                f"Reinstall it with one of these, or take {host.name} out of the inventory."
            )


def one_machine_twice(fleet: Fleet) -> Iterator[str]:
    for hosts, same in machines_with_several_names(fleet):
        yield (
            f"{names_of(hosts)} are one machine: they have {same}. "
            f"Keep one of the names in the inventory; if they are copies of one image, give each its own identity "
            f"(rm /etc/machine-id; systemd-machine-id-setup) and its own ansible_host."
        )


def kept_apart(fleet: Fleet, apart: list[list[str]]) -> Iterator[str]:
    """Roles of one entry of ``apart`` on one machine, whether by one name or by several."""
    for first, second in apart:
        hint = (
            f"{fleet.groups_of(first)} and {fleet.groups_of(second)} must not share a machine: "
            f"a full {second} takes the {first} down with it. Move one of them to another host in the inventory."
        )
        for host in fleet.with_role(first):
            if second in host.roles:
                yield f"{host.name} is in both groups; {hint}"
        for hosts, same in machines_with_several_names(fleet):
            if any(first in host.roles for host in hosts) and any(second in host.roles for host in hosts):
                yield f"{names_of(hosts)} have {same}; {hint}"


def promises_broken(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        waived = host.inputs.get("application_waivers") or {}
        for setting in host.inputs.get("application_celery_settings") or {}:
            if setting in host.promises and setting not in waived:
                yield (
                    f"{host.name}: application_celery_settings sets {setting}, which the promise needs as the kit sets it. "
                    f"Take it out, or waive it with a reason in application_waivers."
                )


def machines_with_several_names(fleet: Fleet) -> Iterator[tuple[list[Host], str]]:
    """Hosts of the inventory that are one machine, with what gives them away."""
    known: set[tuple[str, ...]] = set()
    for what, key in (("address", "address"), ("machine identity", "machine_id")):
        shared: dict[str, list[Host]] = {}
        for host in fleet.hosts.values():
            if getattr(host, key) is not None:
                shared.setdefault(getattr(host, key), []).append(host)
        for value, hosts in shared.items():
            names = tuple(host.name for host in hosts)
            if len(hosts) > 1 and names not in known:
                known.add(names)
                yield hosts, f"the {what} {value}"


def names_of(hosts: list[Host]) -> str:
    *others, last = sorted(host.name for host in hosts)
    return f"{', '.join(others)} and {last}"


def applications_incomplete(fleet: Fleet) -> Iterator[str]:
    for name in fleet.applications:
        if not fleet.of_application(name, "celery_worker"):
            yield (
                f"The application '{name}' has no worker: what it accepts would never be done. "
                f"Put a host of {fleet.groups_of('celery_worker')} into the group '{name}'."
            )
    for host in (*fleet.with_role("celery_worker"), *fleet.with_role("producer")):
        if len(host.applications) != 1:
            named = " and ".join(host.applications) or "none"
            yield (
                f"{host.name} belongs to {named} of the applications in topology_applications; it must belong to exactly one. "
                f"Put {host.name} into one application's group."
            )


def second_beat(fleet: Fleet) -> Iterator[str]:
    for name in fleet.applications:
        beats = [h.name for h in fleet.of_application(name, "celery_worker") if h.inputs.get("celery_worker_beat") is True]
        if len(beats) > 1:
            yield (
                f"The application '{name}' has {len(beats)} beats ({', '.join(beats)}); the limit is one, since each would send "
                f"every scheduled task again. Leave celery_worker_beat: true on one of them."
            )


def pools_above_the_server(fleet: Fleet) -> Iterator[str]:
    """Every PgBouncer can fill its pools, and asks for passwords besides; together they must fit the server."""
    bouncers = [bouncer for bouncer in fleet.with_role("pgbouncer") if not bouncer.drained]
    demand = sum(connections_of(bouncer) for bouncer in bouncers)
    for server in fleet.with_role("postgresql"):
        granted = server.inputs.get("postgresql_max_connections")
        reserved = server.inputs.get("postgresql_superuser_reserved_connections")
        if isinstance(granted, int) and isinstance(reserved, int) and demand > granted - reserved:
            yield (
                f"{len(bouncers)} PgBouncers may open {demand} connections to {server.name}, which grants {granted - reserved} "
                f"(postgresql_max_connections {granted} less {reserved} reserved). "
                f"Raise postgresql_max_connections, or lower pgbouncer_default_pool_size."
            )


def connections_of(bouncer: Host) -> int:
    """The most server connections that the bouncer opens: a pool and its reserve for each pair of user and database."""
    keys = (
        "pgbouncer_pools",
        "pgbouncer_default_pool_size",
        "pgbouncer_reserve_pool_size",
        "pgbouncer_auth_max_user_connections",
    )
    pools, size, reserve, asking = (value if isinstance(value := bouncer.inputs.get(key), int) else 0 for key in keys)
    return pools * (size + reserve) + asking


def timers_out_of_order(fleet: Fleet) -> Iterator[str]:
    """soft limit < hard limit < stopwaitsecs < the service's stop timeout, and the broker waits longer than a task lasts."""
    for host in fleet.with_role("celery_worker"):
        for shorter, longer in pairwise(TASK_TIMERS):
            low, high = host.inputs.get(shorter), host.inputs.get(longer)
            if isinstance(low, int) and isinstance(high, int) and low >= high:
                yield (
                    f"{host.name}: {shorter} is {low} s and {longer} is {high} s, but the first must end before the second, "
                    f"or a running task is cut. Raise {longer} or lower {shorter}."
                )
        limit = host.inputs.get("application_time_limit")
        for broker in fleet.with_role("rabbitmq"):
            patience = broker.inputs.get("rabbitmq_consumer_timeout")
            if isinstance(limit, int) and isinstance(patience, int) and limit * 1000 >= patience:
                yield (
                    f"{host.name}: application_time_limit is {limit} s, but {broker.name} takes a job back after "
                    f"rabbitmq_consumer_timeout, {patience // 1000} s, and runs it again. "
                    f"Raise rabbitmq_consumer_timeout (ms) above the limit."
                )


def programs_twice(fleet: Fleet) -> Iterator[str]:
    for host in fleet.with_role("celery_worker"):
        programs = host.inputs.get("celery_worker_programs") or []
        names = [program.get("name") for program in programs if isinstance(program, dict)]
        for name in sorted({str(name) for name in names if names.count(name) > 1}):
            yield f"{host.name}: celery_worker_programs names '{name}' twice. Give each program a name of its own."
        for program in (program for program in programs if isinstance(program, dict)):
            queues = program.get("queues") or []
            for queue in sorted({queue for queue in queues if queues.count(queue) > 1}):
                yield f"{host.name}: the program '{program.get('name')}' names the queue '{queue}' twice. Take one out."
            concurrency = program.get("concurrency")
            if isinstance(concurrency, int) and concurrency < 1:
                yield (
                    f"{host.name}: the program '{program.get('name')}' has the concurrency {concurrency}, but needs at least 1. "
                    f"Raise it, or take the program out of celery_worker_programs."
                )


def waivers_without_reason(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        for setting, reason in (host.inputs.get("application_waivers") or {}).items():
            if not str(reason or "").strip():
                yield f"{host.name}: application_waivers breaks {setting} without a reason. Write one as its value."


def refusals(fleet: Fleet, supported: dict[str, list[str]], apart: list[list[str]]) -> list[str]:
    """Every sentence that stands against the fleet, without repetition; an empty list when it can work."""
    rules = (
        empty_groups(fleet),
        unsupported_systems(fleet, supported),
        kept_apart(fleet, apart),
        one_machine_twice(fleet),
        applications_incomplete(fleet),
        second_beat(fleet),
        unworkable_drains(fleet),
        unreadable_batches(fleet),
        pools_above_the_server(fleet),
        timers_out_of_order(fleet),
        programs_twice(fleet),
        waivers_without_reason(fleet),
        promises_broken(fleet),
    )
    return list(dict.fromkeys(sentence for rule in rules for sentence in rule))
