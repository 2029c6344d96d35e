"""The status report as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .backups import backup_rows
from .etcd import etcd_rows
from .file_backups import files_rows
from .keepalived import keepalived_rows
from .patroni import patroni_rows
from .work_rates import span

Report = dict[str, Any]


def by_version(report: Report) -> dict[str, list[str]]:
    """Each version of the kit to the hosts that it last ran on; hosts set up before 1.0 have no record."""
    hosts: dict[str, list[str]] = {}
    for host, version in sorted(report["versions"].items(), key=lambda item: str(item[1] or "")):
        hosts.setdefault(version or "none recorded", []).append(host)
    return hosts


def by_release(hosts: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Each current release of an application to its hosts."""
    releases: dict[str, list[str]] = {}
    for host, state in hosts.items():
        releases.setdefault(str(state["current"]), []).append(host)
    return dict(sorted(releases.items()))


def listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nobody"


def render(report: Report) -> str:
    """The verdict, what needs attention, then one line for each service, queue and program."""
    lines = [report["verdict"], ""]
    for sentence in report["attention"]:
        lines.append(f"  ! {sentence}")
    lines += [""] * bool(report["attention"])
    for kind, what in _rows(report):
        lines.append(f"  {kind:<11} {what}".rstrip())
    return "\n".join(lines)


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    for host, producer in report["producers"].items():
        if "error" not in producer:
            answer = "answers" if producer["answers"]["ok"] else "does not answer"
            publish = "a publish is confirmed" if producer["publish"]["confirmed"] else producer["publish"]["error"]
            yield "producer", f"{host}: {answer}; {publish}"
    for host, broker in report["brokers"].items():
        if "error" not in broker:
            alarms = ", ".join(f"{alarm['what']} alarm" for alarm in broker["alarms"]) or "no alarm"
            yield "broker", f"{host}: RabbitMQ {broker['version']}, {alarms}, {len(broker['running'])} nodes running"
    for queue in report["queues"]:
        age = "" if queue["oldest_s"] is None else f", oldest {span(queue['oldest_s'])}"
        members = f", {len(queue['online'])} of {len(queue['members'])} members" if queue["quorum"] is not None else ""
        yield (
            "queue",
            f"{queue['vhost']}/{queue['name']}: {queue['ready']} waiting, {queue['unacknowledged']} running{age}, "
            f"{queue['consumers']} consumers ({listed(queue['consumer_hosts'])}){members}",
        )
    for queue in report["queues"]:
        if queue["waived"]:
            harm = f" ({'; '.join(fault.partition(': ')[0] for fault in queue['faults'])})" if queue["faults"] else ""
            yield "waived", f"{queue['vhost']}/{queue['name']}: {queue['waived']}{harm}"
    yield "drain", report["drain"]["sentence"]
    if report["counters"]:
        yield "retries", f"{report['delayed']} jobs wait for their next attempt"
        dead = ", ".join(f"{vhost} {number}" for vhost, number in report["dead_letters"].items()) or "none"
        yield "dead", f"letters: {dead}"
    for host, bouncer in report["bouncers"].items():
        for pool in bouncer.get("pools", []):
            yield (
                "pool",
                f"{host}: {pool['database']} as {pool['user']}: {pool['clients_active']} clients active, "
                f"{pool['clients_waiting']} waiting (longest {span(pool['longest_wait_s'])}), {pool['servers']} servers",
            )
    for host, database in report["databases"].items():
        if "error" not in database:
            usable = database["max_connections"] - database["reserved"]
            yield (
                "database",
                f"{host}: {database['backends']} of {usable} backends, {database['active']} active, "
                f"{database['waiting_for_locks']} wait for locks",
            )
    for host, programs in report["programs"].items():
        if "error" not in programs:
            states = ", ".join(f"{name} {program['state']} {span(program['for_s'])}" for name, program in programs.items())
            yield "programs", f"{host}: {states or 'none'}"
    yield from backup_rows(report)
    yield from files_rows(report)
    yield from etcd_rows(report)
    yield from patroni_rows(report)
    yield from keepalived_rows(report)
    for application, hosts in report["releases"].items():
        for release, names in by_release(hosts).items():
            yield "release", f"{application} {release} on {listed(names)}"
        for version, names in by_version(report).items():
            yield "version", f"{version} on {listed(names)}"
        for host, answer in sorted(report["certificates"].items()):
            for name, days in sorted(answer.get("days", {}).items()):
                yield "certificate", f"{host}: {name} has {days:.0f} days left"
