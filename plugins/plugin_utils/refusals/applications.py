"""Applications that could not do what they accept."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..fleet.model import Fleet, Host, names_of
from .programs import DECLARED, DEFAULT_QUEUE, ROUTES

# The name of a database and its owner, a virtual host, a queue, directories and an entry of PostgreSQL's service file.
NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")

# What a shell can set.
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# The only setting of the promise that an inventory may extend key by key, and its keys that limit a wait.
TRANSPORT = "broker_transport_options"
BOUNDS = ("read_timeout", "write_timeout", "max_retries")

# Settings of the promise that cannot be waived.
NEVER_WAIVED = {"broker_use_ssl": "the broker accepts only TLS with a client certificate, and a client must verify the broker"}


def invalid_application_names(fleet: Fleet) -> Iterator[str]:
    for name in fleet.applications:
        if not NAME.fullmatch(name):
            yield (
                f"The application '{name}' of topology_applications is not a plain name: small letters, digits and _, at most "
                f"63, no digit first, since a database and its owner have this name. Rename the group and its entry in "
                f"topology_applications."
            )
        if name not in fleet.groups:
            yield (
                f"topology_applications names '{name}', but the inventory has no such group. "
                f"Add the group with its worker and producer hosts to the hosts file, or take it out of topology_applications."
            )
    for host in (*fleet.with_role("celery_worker"), *fleet.with_role("producer")):
        name = host.inputs.get("application_name")
        if name is not None and len(host.applications) == 1 and name != host.applications[0]:
            yield (
                f"{host.name}: application_name is '{name}', but its application's group is '{host.applications[0]}', the only "
                f"name that the broker and the database know. Set application_name: {host.applications[0]}."
            )


def incomplete_applications(fleet: Fleet) -> Iterator[str]:
    if "celery_worker" not in fleet.roles:
        return
    for name in fleet.applications:
        if name not in fleet.groups:
            continue
        if not fleet.of_application(name, "celery_worker"):
            yield (
                f"The application '{name}' has no worker: its jobs would never run. "
                f"Put a host of {fleet.groups_of('celery_worker')} into the group '{name}'."
            )
        elif "producer" in fleet.roles and not fleet.of_application(name, "producer") and not beats_of(fleet, name):
            yield (
                f"The application '{name}' has no producer and no beat: its workers would wait forever. "
                f"Put a host of {fleet.groups_of('producer')} into the group '{name}', or set celery_worker_beat on one worker."
            )
    for host in (*fleet.with_role("celery_worker"), *fleet.with_role("producer")):
        if len(host.applications) != 1:
            named = " and ".join(host.applications) or "none"
            yield (
                f"{host.name} belongs to {named} of the applications in topology_applications; it must belong to exactly one. "
                f"Put {host.name} into one application's group."
            )


def missing_accounts(fleet: Fleet) -> Iterator[str]:
    """No role creates the account: its home and everything else about it is the operator's choice."""
    for host in fleet.with_role("application"):
        user = str(host.inputs.get("application_user"))
        if (host.measured.get("accounts") or {}).get(user) is False:
            yield (
                f"{host.name}: application_user is '{user}', but the host has no such account with a group of the same name. "
                f"Create it (useradd --system --user-group {user}), or edit application_user."
            )


def duplicate_beats(fleet: Fleet) -> Iterator[str]:
    for name in fleet.applications:
        if len(beats := beats_of(fleet, name)) > 1:
            yield (
                f"The application '{name}' has {len(beats)} beats ({', '.join(beats)}); the limit is one, since each would send "
                f"every scheduled task again. Leave celery_worker_beat: true on one of them."
            )


def beats_of(fleet: Fleet, application: str) -> list[str]:
    return [h.name for h in fleet.of_application(application, "celery_worker") if h.inputs.get("celery_worker_beat") is True]


def broken_promises(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        waived = host.inputs.get("application_waivers") or {}
        for setting, value in (host.inputs.get("application_celery_settings") or {}).items():
            if setting == TRANSPORT:
                yield from transport_unsafe(host.name, value, setting in waived)
            elif setting in host.promises and setting not in waived:
                yield (
                    f"{host.name}: application_celery_settings sets {setting}, but the promise depends on the kit's value. "
                    f"Take it out, or waive it with a reason in application_waivers."
                )


def transport_unsafe(host: str, options: object, waived: bool) -> Iterator[str]:
    """The inventory may add transport options and change their numbers, as long as the broker confirms every job."""
    if not isinstance(options, dict):
        yield f"{host}: application_celery_settings sets {TRANSPORT} to {options!r}, but it must be a mapping. Write it as one."
        return
    if options.get("confirm_publish", True) is not True and not waived:
        yield (
            f"{host}: application_celery_settings sets {TRANSPORT}.confirm_publish to {options['confirm_publish']!r}: a client "
            f"would get its 202 before the broker has the job. Take it out, or waive {TRANSPORT} with a reason in "
            f"application_waivers."
        )
    for name in BOUNDS:
        value = options.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            yield (
                f"{host}: application_celery_settings sets {TRANSPORT}.{name} to {value!r}, but it must be a number above 0: "
                f"the wait for a broker that does not answer would never end. Correct it, or take it out."
            )


def invalid_environment_names(fleet: Fleet) -> Iterator[str]:
    """A shell reads them from a file, and would run an invalid name as a command."""
    for host in fleet.hosts.values():
        for option in ("application_environment", "application_secret_environment"):
            given = host.inputs.get(option)
            for name in given if isinstance(given, dict) else ():
                if not VARIABLE.fullmatch(str(name)):
                    yield (
                        f"{host.name}: {option} names '{name}', but a variable's name has only letters, digits and _, and no "
                        f"digit first: the programs would not find it. Rename it."
                    )


def unexplained_waivers(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        for setting, reason in (host.inputs.get("application_waivers") or {}).items():
            if not str(reason or "").strip():
                yield f"{host.name}: application_waivers waives {setting} without a reason. Write one as its value."
            if setting in NEVER_WAIVED:
                yield (
                    f"{host.name}: application_waivers names {setting}, which cannot be waived: {NEVER_WAIVED[setting]}. Take it "
                    f"out."
                )
            if host.promises and setting not in host.promises | {DEFAULT_QUEUE, ROUTES, DECLARED}:
                yield (
                    f"{host.name}: application_waivers names {setting}, which is not part of the promise "
                    f"({', '.join(sorted(host.promises))}). Correct the name, or take it out."
                )


def unexplained_waived_queues(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        for queue, reason in (host.inputs.get("application_waived_queues") or {}).items():
            if not str(reason or "").strip():
                yield f"{host.name}: application_waived_queues names {queue} without a reason. Write one as its value."


def scattered_brokers(fleet: Fleet) -> Iterator[str]:
    """A job exists only on the broker, or in the cluster, that it was sent to. An application uses one, through one address."""
    for host in (*fleet.with_role("celery_worker"), *fleet.with_role("producer")):
        if len(brokers := brokers_of(fleet, host)) > 1 and all(map(clustered, brokers)):
            yield (
                f"{host.name}: application_broker_hosts names {len(brokers)} members of a cluster ({names_of(brokers)}). With "
                f"one of them down, Celery tries it again and again before it takes any job. Bind application_broker_hosts to "
                f"one address: 127.0.0.1 with role haproxy (docs/three-brokers.md)."
            )
        elif len(brokers) > 1:
            yield (
                f"{host.name}: application_broker_hosts names {len(brokers)} brokers ({names_of(brokers)}) that are not a "
                f"cluster: each would hold jobs that the others do not know, and some jobs would never run. Leave one host in "
                f"the group {fleet.groups_of('rabbitmq')}, or make three or five a cluster (rabbitmq_cluster_nodes)."
            )
    for name in fleet.applications:
        served = {broker.name for host in fleet.of_application(name, "celery_worker") for broker in brokers_of(fleet, host)}
        for host in fleet.of_application(name, "producer"):
            for broker in brokers_of(fleet, host):
                if served and broker.name not in served and not clustered(broker):
                    yield (
                        f"{host.name}: application_broker_hosts sends jobs to {broker.name}, but no worker of '{name}' consumes "
                        f"from it. Bind application_broker_hosts of a worker to {broker.name} too."
                    )


def askable_brokers(fleet: Fleet, host: Host) -> list[str]:
    """Hosts of the fleet, any of which knows the queues of the host's application."""
    everybody = [broker for broker in fleet.with_role("rabbitmq") if not replaced(broker)] if host.applications else []
    own = brokers_of(fleet, host) if host.applications else []
    # Members of a cluster know each other's queues; a load balancer can only lead to them, or to the single broker.
    if not own or all(map(clustered, own)):
        own = [broker for broker in everybody if clustered(broker)] or everybody[:1]
    return [broker.name for broker in own]


def replaced(broker: Host) -> bool:
    """Whether another broker has taken its place."""
    return bool(broker.inputs.get("rabbitmq_successor"))


def clustered(broker: Host) -> bool:
    return bool(broker.inputs.get("rabbitmq_cluster_nodes"))


def brokers_of(fleet: Fleet, host: Host) -> list[Host]:
    """The brokers of the fleet that the host's application connects to."""
    named = host.inputs.get("application_broker_hosts")
    servers = [fleet.at(str(address), host) for address in named] if isinstance(named, list) else []
    return list({server.name: server for server in servers if server is not None and "rabbitmq" in server.roles}.values())
