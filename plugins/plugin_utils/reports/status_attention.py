"""What an operator should look at, as sentences of the status report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .backups import backups_attention
from .beats import beats_attention
from .etcd import etcd_attention
from .file_backups import files_attention
from .keepalived import keepalived_attention
from .patroni import patroni_attention, standbys
from .status_text import by_release, by_version, listed
from .updates import updates_attention
from .work_rates import span

if TYPE_CHECKING:
    from .status import StatusReport

Report = dict[str, Any]

# Seconds after which a client's wait for PgBouncer is worth a sentence.
LONG_WAIT_S = 1.0
# Share of PostgreSQL's connections, without those reserved for superusers.
BACKENDS_FULL = 0.8


def attention(status: StatusReport, report: Report) -> Iterator[str]:
    """Every sentence about the fleet."""
    for host, state in report["hosts"].items():
        if not state["reachable"]:
            yield f"{host} did not answer: {state['error']}"
    names = {"broker": "the broker", "database": "PostgreSQL", "bouncer": "PgBouncer", "programs": "supervisord"}
    names |= {"certificates": "its certificates", "firewall": "its firewall", "archive": "its archive", "backup": "its backups"}
    names |= {
        "etcd": "etcd",
        "patroni": "its Patroni",
        "updates": "its updates",
        "keepalived": "keepalived",
        "files": "the backups of its files",
        "beats": "its beats",
    }
    asked = ("broker", "database", "etcd", "patroni", "bouncer", "programs", "application", "certificates", "firewall")
    asked += ("archive", "backup", "files", "updates", "keepalived", "beats")
    for section in asked:
        for host, answer in status.section(section).items():
            if "error" in answer:
                yield f"{host}: {names.get(section, 'the application')}: {answer['error']}"
    for host, broker in report["brokers"].items():
        for alarm in broker.get("alarms", []):
            yield f"{host}: {alarm['what']} alarm of {alarm['node']}"
    yield from split_views(report)
    for host, number in report["replaced"].items():
        todo = f"holds {number} messages: run playbooks/move_broker.yml" if number else "is empty: take it out of the inventory"
        yield f"{host}: another broker has taken its place (rabbitmq_successor), and it {todo} (docs/next-debian.md)"
    yield from queues_attention(status, report)
    for consumer in report["strangers"]:
        known = consumer["who"] in status.hosts
        role = "is not an active worker of the inventory" if known else "is not in the inventory"
        yield f"{consumer['who']} consumes {consumer['vhost']}/{consumer['queue']} and {role}"
    yield from hosts_attention(status, report)


def split_views(report: Report) -> Iterator[str]:
    """Members of a cluster that do not agree on who runs: a partition, which a healthy queue can hide for days."""
    running = {broker["node"]: sorted(broker["running"]) for broker in report["brokers"].values() if "running" in broker}
    for node, view in sorted(running.items()):
        for other in sorted(set(view) & set(running) - {node}):
            if node < other and running[other] != view:
                yield (
                    f"{node} sees {listed(view)} running, but {other} sees {listed(running[other])}: restart the one that sees "
                    f"fewer (docs/three-brokers.md)"
                )


def queues_attention(status: StatusReport, report: Report) -> Iterator[str]:
    for vhost, number in report["dead_letters"].items():
        if number:
            yield f"{number} dead letter{'s' * (number != 1)} in {vhost}: make dead-letters"
    for queue in report["queues"]:
        name = f"{queue['vhost']}/{queue['name']}"
        if queue["quorum"] is not None and len(queue["online"]) < len(queue["members"]):
            yield f"{name} has {len(queue['online'])} of {len(queue['members'])} members online"
        yield from [] if queue["waived"] else queue["faults"]
        if not queue["consumers"]:
            yield f"{name} holds {queue['ready'] or 0} jobs and has no consumer"
    consuming = {host for queue in report["queues"] for host in queue["consumer_hosts"]}
    for host in status.with_role("celery_worker"):
        if report["counters"] and host not in consuming and not status.hosts[host].drained:
            yield f"{host} is a worker and consumes nothing"


def hosts_attention(status: StatusReport, report: Report) -> Iterator[str]:
    versions = by_version(report)
    if len(versions) > 1:
        which = ", ".join(f"{version} on {listed(hosts)}" for version, hosts in versions.items())
        yield f"different versions of Grunnfjell last ran on the hosts: {which}. Run site.yml of the newest"
    for host, programs in status.answered("programs").items():
        for name, program in programs.items():
            if program["state"] != "RUNNING":
                yield f"{host}: {name} is {program['state']}{': ' * bool(program['said'])}{program['said']}"
    for host, producer in status.answered("producer").items():
        for name, server in producer.get("servers", {}).items():
            if not server["answers"]["ok"]:
                yield (
                    f"{host}: the web server '{name}' does not answer at {server['url']} ({server['answers']['error']}). "
                    f"On {host}: supervisorctl status, and its log in /var/log/producer"
                )
    for host, application in status.answered("application").items():
        for timer in application.get("failed_timers", []):
            yield f"{host}: the last run of {timer['unit']} failed ({timer['why']}): journalctl -u {timer['unit']}"
    yield from beats_attention(status, report["beats"])
    for application, hosts in report["releases"].items():
        for host, state in hosts.items():
            for old in state["running"]:
                if state["current"] and old != state["current"]:
                    yield f"{host} runs {application} {old}, but its current release is {state['current']}: run site.yml"
        if len(releases := by_release(hosts)) > 1:
            which = ", ".join(f"{release} on {listed(names)}" for release, names in releases.items())
            yield f"the hosts of {application} do not agree on its release: {which}"
    for host, bouncer in status.answered("bouncer").items():
        for pool in bouncer["pools"]:
            if pool["longest_wait_s"] >= LONG_WAIT_S:
                yield (
                    f"{host}: {pool['clients_waiting']} clients of {pool['database']} wait for PgBouncer, "
                    f"the longest for {span(pool['longest_wait_s'])}"
                )
    copies = standbys(report)
    for host, database in status.answered("database").items():
        usable = database["max_connections"] - database["reserved"]
        if database["backends"] >= BACKENDS_FULL * usable:
            yield f"{host}: PostgreSQL has {database['backends']} of {usable} backends"
        if not database["accepts_writes"] and host not in copies:
            yield f"{host}: PostgreSQL is in recovery and takes no writes"
        if deaf := database["not_listening"]:
            yield f"{host}: PostgreSQL does not listen on {listed(deaf)}: run site.yml, which restarts it"
    yield from expiring_certificates(status)
    yield from backups_attention(report)
    yield from files_attention(report)
    yield from etcd_attention(report)
    yield from patroni_attention(report)
    yield from keepalived_attention(report)
    yield from updates_attention(report)
    for host, state in status.answered("firewall").items():
        if not state["in_force"]:
            yield (
                f"{host}: no firewall is in force, so every port is open to everybody. Run site.yml, and read why: "
                f"journalctl -u grunnfjell-firewall"
            )
        elif not state["as_confirmed"]:
            yield f"{host}: the rules of the firewall are not those that the last run confirmed: run site.yml"


def expiring_certificates(status: StatusReport) -> Iterator[str]:
    expiring: dict[float, list[str]] = {}
    for host, answer in status.answered("certificates").items():
        authority = answer.get("authority_days")
        if authority is not None and authority < answer["lasts_days"]:
            expiring.setdefault(authority, []).append(host)
        for name, days in answer["days"].items():
            # A certificate never outlives its authority.
            if days < answer["renew_days"] and (authority is None or days < authority - 1):
                yield f"{host}: the certificate {name} {expiry(days)}: run site.yml"
    for days, hosts in sorted(expiring.items()):
        named = f"{listed(hosts)}: the authority behind the certificates"
        yield f"{named} {expiry(days)}: change to another one (docs/tls.md)"


def expiry(days: float) -> str:
    return f"expires in {days:g} days" if days > 0 else f"expired {-days:g} days ago"
