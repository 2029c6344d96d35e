"""What the hosts told, judged: can a 202 be accepted now, how long is the queue, what needs somebody's attention.

Pure: answers in, report out. docs/status.md describes the report.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Answer = dict[str, Any]
Report = dict[str, Any]

SCHEMA = 1
DEAD_LETTERS = "dead_letters"

# Queues that hold no work: Celery's remote control, replies and events, and the steps of its delayed delivery.
DELAYED = re.compile(r"celery_delayed_\d+$")
CELERYS_OWN = re.compile(r"celeryev($|\.)|amq\.|.*\.celery\.pidbox$|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")

# Between two reports a rate is worth telling: shorter is chance, longer is history.
SHORTEST_WINDOW_S, LONGEST_WINDOW_S = 5.0, 600.0

# A client of PgBouncer that waits longer than this feels it.
LONG_WAIT_S = 1.0
# Of the connections that PostgreSQL has for others than the superuser.
BACKENDS_FULL = 0.8


@dataclass(frozen=True)
class HostInfo:
    """What the inventory says of a host."""

    roles: frozenset[str] = frozenset()
    application: str = ""
    addresses: frozenset[str] = frozenset()
    drained: bool = False


@dataclass(frozen=True)
class Rates:
    """What went through the work queues in a window of time, all of them together."""

    window_s: float
    acknowledged_per_s: float
    arrived_per_s: float


def is_work(queue: str) -> bool:
    return queue != DEAD_LETTERS and not DELAYED.match(queue) and not CELERYS_OWN.match(queue)


def counted(brokers: dict[str, Answer]) -> dict[str, Any]:
    """The counters of all nodes at their latest look, to hold against those of another report."""
    return {
        broker["node"]: {"started_ms": broker["started_ms"], **broker["counters"][-1]}
        for broker in brokers.values()
        if "counters" in broker
    }


def rates(brokers: dict[str, Answer], previous: dict[str, Any]) -> Rates | None:
    """Since the last report if it is near enough, or else over the second in which the brokers were asked."""
    latest = counted(brokers)
    if not latest:
        return None
    if previous.keys() == latest.keys() and all(previous[node]["started_ms"] == latest[node]["started_ms"] for node in latest):
        between = _rates(previous, latest)
        if between and SHORTEST_WINDOW_S <= between.window_s <= LONGEST_WINDOW_S:
            return between
    return _rates({broker["node"]: broker["counters"][0] for broker in brokers.values() if "counters" in broker}, latest)


def _rates(before: dict[str, Any], after: dict[str, Any]) -> Rates | None:
    # Each node counts what its own clients acknowledge, and all know the depth of every queue.
    node = min(after)
    window_s = (after[node]["at_ms"] - before[node]["at_ms"]) / 1000
    if window_s <= 0:
        return None
    acknowledged = sum(after[name]["acknowledged"] - before[name]["acknowledged"] for name in after)
    grown = _depth(after[node]["depths"]) - _depth(before[node]["depths"])
    # What ended was acknowledged; what came is what ended and what the queues hold more by now. A dead letter that is looked at
    # or a job that goes on to its retry counts as ended too.
    return Rates(round(window_s, 1), max(0, acknowledged) / window_s, max(0, acknowledged + grown) / window_s)


def _depth(depths: list[dict[str, Any]]) -> int:
    return sum(queue["messages"] or 0 for queue in depths if is_work(queue["name"]))


def drain(backlog: int | None, rate: Rates | None) -> dict[str, Any]:
    """How long the backlog lasts: while work keeps coming as it does, and if none came any more."""
    told: dict[str, Any] = {"backlog": backlog, "drain_s": None, "drain_without_arrivals_s": None}
    if rate is not None:
        told |= {
            "window_s": rate.window_s,
            "acknowledged_per_s": round(rate.acknowledged_per_s, 3),
            "arrived_per_s": round(rate.arrived_per_s, 3),
        }
    if backlog is None:
        return {**told, "sentence": "no broker told how much there is"}
    if backlog == 0:
        return {**told, "drain_s": 0.0, "drain_without_arrivals_s": 0.0, "sentence": "nothing waits and nothing runs"}
    if rate is None:
        return {**told, "sentence": "no broker told a rate"}
    window = span(rate.window_s)
    if rate.acknowledged_per_s == 0:
        return {**told, "sentence": f"no job ended within {window}, so there is no rate to tell it from; ask again in a minute"}
    alone = backlog / rate.acknowledged_per_s
    told["drain_without_arrivals_s"] = round(alone, 1)
    net = rate.acknowledged_per_s - rate.arrived_per_s
    pace = f"{rate.acknowledged_per_s:.3g} jobs/s end and {rate.arrived_per_s:.3g} jobs/s come, over {window}"
    if net <= 0:
        return {**told, "sentence": f"the backlog does not shrink; {span(alone)} if nothing more came ({pace})"}
    told["drain_s"] = round(backlog / net, 1)
    return {**told, "sentence": f"{span(backlog / net)} at the present rate ({pace})"}


def span(seconds: float) -> str:
    """A length of time for a person: 35 s, 12 min, 3.5 h, 2 d."""
    if seconds < 90:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} d"


def peer(connection: str) -> str:
    """The client's address in a channel's name: '10.0.0.4:4711 -> 10.0.0.2:5671 (1)' or '[fd00::4]:4711 -> ...'."""
    address = connection.split(" -> ")[0].rpartition(":")[0].strip("[]")
    return address.removeprefix("::ffff:")


class Judge:
    """One look at a fleet."""

    def __init__(self, answers: dict[str, Answer], hosts: dict[str, HostInfo], previous: Report | None = None) -> None:
        self.answers, self.hosts = answers, hosts
        before = (previous or {}).get("counters")
        self.previous = before if isinstance(before, dict) and (previous or {}).get("schema") == SCHEMA else {}

    def section(self, name: str) -> dict[str, Answer]:
        """Host to what it told in a section."""
        told = {host: answer.get("sections", {}).get(name) for host, answer in self.answers.items()}
        return {host: section for host, section in told.items() if section is not None}

    def well(self, name: str) -> dict[str, Answer]:
        return {host: told for host, told in self.section(name).items() if "error" not in told}

    def with_role(self, role: str) -> list[str]:
        return [host for host, info in self.hosts.items() if role in info.roles]

    def reachable(self, host: str) -> bool:
        return "sections" in self.answers.get(host, {})

    def host_at(self, address: str) -> str | None:
        return next((host for host, info in self.hosts.items() if address in info.addresses), None)

    def report(self) -> Report:
        brokers = self.well("broker")
        queues = self.queues(brokers)
        accepting, reasons = self.accepting(brokers, queues)
        work = [queue for queue in queues if queue["work"]]
        backlog = sum((queue["ready"] or 0) + (queue["unacknowledged"] or 0) for queue in work) if brokers else None
        report: Report = {
            "schema": SCHEMA,
            "accepting": accepting,
            "verdict": "",
            "attention": [],
            "hosts": {
                host: {"reachable": self.reachable(host), "error": "" if self.reachable(host) else self.trouble(host)}
                for host in self.hosts
            },
            "producers": self.section("producer"),
            "brokers": {
                host: told if "error" in told else {key: told[key] for key in ("node", "version", "alarms", "running")}
                for host, told in self.section("broker").items()
            },
            "queues": [{key: value for key, value in queue.items() if key != "work"} for queue in work],
            "delayed": sum(queue["ready"] or 0 for queue in queues if DELAYED.match(queue["name"])),
            "dead_letters": {queue["vhost"]: queue["ready"] for queue in queues if queue["name"] == DEAD_LETTERS},
            "drain": drain(backlog, rates(brokers, self.previous)),
            "strangers": self.strangers(brokers),
            "bouncers": self.section("bouncer"),
            "databases": self.section("database"),
            "programs": self.section("programs"),
            "releases": self.releases(),
            "certificates": self.section("certificates"),
            "firewalls": self.section("firewall"),
            "versions": {host: told["version"] for host, told in self.well("version").items()},
            "counters": counted(brokers),
        }
        report["attention"] = list(self.attention(report))
        report["verdict"] = self.verdict(accepting, reasons)
        return report

    def queues(self, brokers: dict[str, Answer]) -> list[dict[str, Any]]:
        """All queues, as the first broker that answers knows them; their consumers from every broker."""
        if not brokers:
            return []
        consumers = [consumer for broker in brokers.values() for consumer in broker["consumers"]]
        listed = []
        for queue in brokers[min(brokers)]["queues"]:
            peers = [
                peer(one["connection"]) for one in consumers if (one["vhost"], one["queue"]) == (queue["vhost"], queue["name"])
            ]
            members, online = queue.get("members", []), queue.get("online", [])
            listed.append(
                {
                    "vhost": queue["vhost"],
                    "name": queue["name"],
                    "type": queue["type"],
                    "ready": queue["ready"],
                    "unacknowledged": queue["unacknowledged"],
                    "oldest_s": None if queue["oldest_ms"] is None else queue["oldest_ms"] / 1000,
                    "consumers": len(peers),
                    "consumer_hosts": sorted({self.host_at(address) or address for address in peers}),
                    "members": members,
                    "online": online,
                    "quorum": 2 * len(online) > len(members) if queue["type"] == "quorum" else None,
                    "work": is_work(queue["name"]),
                }
            )
        return sorted(listed, key=lambda queue: (queue["vhost"], queue["name"]))

    def accepting(self, brokers: dict[str, Answer], queues: list[dict[str, Any]]) -> tuple[bool, list[str]]:
        """Whether each application has a producer whose publish was confirmed a moment ago, and every reason against one."""
        reasons, good = [], {}
        for host in self.with_role("producer"):
            told = self.section("producer").get(host)
            why = self.refuses(host, told, brokers)
            good.setdefault(self.hosts[host].application, []).append(not why)
            reasons += [why] if why else []
        lost = [
            f"the queue {queue['vhost']}/{queue['name']} has lost its quorum: {len(queue['online'])} of "
            f"{len(queue['members'])} brokers are there. Start the others"
            for queue in queues
            if queue["work"] and queue["quorum"] is False
        ]
        if not good:
            reasons.append("the inventory has no producer. Add one to the group that topology_roles names for it")
        return bool(good) and all(any(each) for each in good.values()) and not lost, list(dict.fromkeys([*lost, *reasons]))

    def refuses(self, host: str, told: Answer | None, brokers: dict[str, Answer]) -> str:
        """Why a producer takes no job at this moment, and what to do; empty if it takes one."""
        if told is None:
            return f"{host} cannot be asked ({self.trouble(host)}). See that it runs and lets Ansible in"
        if "error" in told:
            return f"{host} could not ask its producer: {told['error']}"
        if not told["answers"]["ok"]:
            return (
                f"the producer on {host} does not answer at {told['url']} ({told['answers']['error']}). "
                f"On {host}: supervisorctl status, and its log in /var/log/producer"
            )
        if told["publish"]["confirmed"]:
            return ""
        return self.broker_trouble(brokers) or f"{host}: {told['publish']['error']}"

    def broker_trouble(self, brokers: dict[str, Answer]) -> str:
        """What is wrong with the brokers, if they themselves know."""
        for host, broker in brokers.items():
            for alarm in broker["alarms"]:
                remedy = {
                    "memory": "Let the workers drain the queues, or give the broker more memory",
                    "disk": "Free space where /var/lib/rabbitmq is",
                }.get(alarm["what"], "See rabbitmq-diagnostics alarms")
                return f"the broker on {host} has a {alarm['what']} alarm and takes no message. {remedy}"
        down = [host for host in self.with_role("rabbitmq") if host not in brokers]
        if down and not brokers:
            host = down[0]
            why = self.section("broker").get(host, {}).get("error") or self.trouble(host)
            return (
                f"no broker answers ({host}: {why}). "
                f"On {host}: systemctl start rabbitmq-server, then journalctl -u rabbitmq-server"
            )
        return ""

    def trouble(self, host: str) -> str:
        """Why a host told nothing."""
        answer = self.answers.get(host, {})
        kind = "unreachable" if answer.get("unreachable") else "no answer"
        said = " ".join(str(answer.get("msg", "")).split())
        return f"{kind}: {said[:160]}" if said else kind

    @staticmethod
    def verdict(accepting: bool, reasons: list[str]) -> str:
        if not accepting:
            return f"No: {'; '.join(reasons)}."
        return "Yes, a 202 is accepted now" + (f", but not everywhere: {'; '.join(reasons)}." if reasons else ".")

    def strangers(self, brokers: dict[str, Answer]) -> list[dict[str, Any]]:
        """Who consumes work and is no worker of the inventory, or was to be drained."""
        found: dict[tuple[str, str, str], int] = {}
        for broker in brokers.values():
            for consumer in broker["consumers"]:
                address = peer(consumer["connection"])
                host = self.host_at(address)
                info = self.hosts.get(host or "", HostInfo())
                if not is_work(consumer["queue"]) or ("celery_worker" in info.roles and not info.drained):
                    continue
                key = (host or address, consumer["vhost"], consumer["queue"])
                found[key] = found.get(key, 0) + 1
        return [
            {"who": who, "vhost": vhost, "queue": queue, "consumers": number}
            for (who, vhost, queue), number in sorted(found.items())
        ]

    def releases(self) -> dict[str, dict[str, Any]]:
        """Application to host to the release that stands there and those that its programs run."""
        found: dict[str, dict[str, Any]] = {}
        for host, told in self.section("application").items():
            programs = self.well("programs").get(host, {})
            running = sorted({program["release"] for program in programs.values() if program["release"]})
            found.setdefault(self.hosts[host].application, {})[host] = {"current": told.get("release"), "running": running}
        return found

    def attention(self, report: Report) -> Iterator[str]:
        """Sentences of what somebody should look at."""
        for host, told in report["hosts"].items():
            if not told["reachable"]:
                yield f"{host} told nothing: {told['error']}"
        names = {"broker": "the broker", "database": "PostgreSQL", "bouncer": "PgBouncer", "programs": "supervisord"}
        names |= {"certificates": "its certificates", "firewall": "its firewall"}
        for section in ("broker", "database", "bouncer", "programs", "application", "certificates", "firewall"):
            for host, told in self.section(section).items():
                if "error" in told:
                    yield f"{host}: {names.get(section, 'the application')}: {told['error']}"
        for host, broker in report["brokers"].items():
            for alarm in broker.get("alarms", []):
                yield f"{host}: {alarm['what']} alarm of {alarm['node']}"
        yield from self._queues_attention(report)
        for who in report["strangers"]:
            role = "is not in the inventory" if self.hosts.get(who["who"]) is None else "is no active worker of the inventory"
            yield f"{who['who']} consumes {who['vhost']}/{who['queue']} and {role}"
        yield from self._hosts_attention(report)

    def _queues_attention(self, report: Report) -> Iterator[str]:
        for vhost, number in report["dead_letters"].items():
            if number:
                yield f"{number} dead letter{'s' * (number != 1)} in {vhost}: make dead-letters"
        for queue in report["queues"]:
            name = f"{queue['vhost']}/{queue['name']}"
            if queue["quorum"] is not None and len(queue["online"]) < len(queue["members"]):
                yield f"{name} has {len(queue['online'])} of {len(queue['members'])} members online"
            if queue["ready"] and not queue["consumers"]:
                yield f"{name} holds {queue['ready']} jobs and nobody consumes it"
        consuming = {host for queue in report["queues"] for host in queue["consumer_hosts"]}
        for host in self.with_role("celery_worker"):
            if report["counters"] and host not in consuming and not self.hosts[host].drained:
                yield f"{host} is a worker and consumes nothing"

    def _hosts_attention(self, report: Report) -> Iterator[str]:
        versions = by_version(report)
        if len(versions) > 1:
            which = ", ".join(f"{version} on {listed(hosts)}" for version, hosts in versions.items())
            yield f"different versions of Grunnfjell last ran on the hosts: {which}. Run site.yml by the newest"
        for host, programs in self.well("programs").items():
            for name, program in programs.items():
                if program["state"] != "RUNNING":
                    yield f"{host}: {name} is {program['state']}{': ' * bool(program['said'])}{program['said']}"
        for application, hosts in report["releases"].items():
            standing: dict[str, list[str]] = {}
            for host, told in hosts.items():
                standing.setdefault(str(told["current"]), []).append(host)
                for old in told["running"]:
                    if told["current"] and old != told["current"]:
                        yield f"{host} runs {application} {old}, but {told['current']} stands there: run site.yml"
            if len(standing) > 1:
                which = ", ".join(f"{release} on {listed(at)}" for release, at in sorted(standing.items()))
                yield f"the hosts of {application} do not agree on its release: {which}"
        for host, bouncer in self.well("bouncer").items():
            for pool in bouncer["pools"]:
                if pool["longest_wait_s"] >= LONG_WAIT_S:
                    yield (
                        f"{host}: {pool['clients_waiting']} clients of {pool['database']} wait for PgBouncer, "
                        f"the longest for {span(pool['longest_wait_s'])}"
                    )
        for host, database in self.well("database").items():
            usable = database["max_connections"] - database["reserved"]
            if database["backends"] >= BACKENDS_FULL * usable:
                yield f"{host}: PostgreSQL has {database['backends']} of {usable} backends"
            if not database["accepts_writes"]:
                yield f"{host}: PostgreSQL is in recovery and takes no writes"
            if deaf := database["not_listening"]:
                yield f"{host}: PostgreSQL does not listen on {listed(deaf)}: run site.yml, which restarts it"
        yield from self.ending_certificates()
        for host, told in self.well("firewall").items():
            if not told["in_force"]:
                yield (
                    f"{host}: no firewall is in force, so that every port is open to everybody. Run site.yml, and read why: "
                    f"journalctl -u grunnfjell-firewall"
                )
            elif not told["as_confirmed"]:
                yield f"{host}: the rules of the firewall are not those that the last run confirmed: run site.yml"

    def ending_certificates(self) -> Iterator[str]:
        ending: dict[float, list[str]] = {}
        for host, told in self.well("certificates").items():
            authority = told.get("authority_days")
            if authority is not None and authority < told["lasts_days"]:
                ending.setdefault(authority, []).append(host)
            for name, days in told["days"].items():
                # A run cannot renew it beyond the end of its authority.
                if days < told["renew_days"] and (authority is None or days < authority - 1):
                    yield f"{host}: the certificate {name} {running_out(days)}: run site.yml"
        for days, hosts in sorted(ending.items()):
            named = f"{listed(hosts)}: the authority behind the certificates"
            yield f"{named} {running_out(days)}: change to another one (docs/tls.md)"


def running_out(days: float) -> str:
    return f"runs out in {days:g} days" if days > 0 else f"ran out {-days:g} days ago"


def by_version(report: Report) -> dict[str, list[str]]:
    """Each version of the kit that last ran somewhere, with the hosts; hosts set up before 1.0 have no record."""
    hosts: dict[str, list[str]] = {}
    for host, version in sorted(report["versions"].items(), key=lambda item: str(item[1] or "")):
        hosts.setdefault(version or "none recorded", []).append(host)
    return hosts


def listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nobody"


def render(report: Report) -> str:
    """The report as a person reads it: the verdict, what needs attention, then one line for each thing."""
    lines = [report["verdict"], ""]
    for sentence in report["attention"]:
        lines.append(f"  ! {sentence}")
    lines += [""] * bool(report["attention"])
    for kind, what in _rows(report):
        lines.append(f"  {kind:<11} {what}".rstrip())
    return "\n".join(lines)


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    for host, told in report["producers"].items():
        if "error" not in told:
            answer = "answers" if told["answers"]["ok"] else "does not answer"
            publish = "a publish is confirmed" if told["publish"]["confirmed"] else told["publish"]["error"]
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
            f"{queue['vhost']}/{queue['name']}: {queue['ready']} wait, {queue['unacknowledged']} in work{age}, "
            f"{queue['consumers']} consumers ({listed(queue['consumer_hosts'])}){members}",
        )
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
            states = ", ".join(f"{name} {told['state']} {span(told['for_s'])}" for name, told in programs.items())
            yield "programs", f"{host}: {states or 'none'}"
    for application, hosts in report["releases"].items():
        standing: dict[str, list[str]] = {}
        for host, told in hosts.items():
            standing.setdefault(str(told["current"]), []).append(host)
        for release, at in sorted(standing.items()):
            yield "release", f"{application} {release} on {listed(at)}"
    for version, at in by_version(report).items():
        yield "version", f"{version} on {listed(at)}"
    left = {(host, name): days for host, told in report["certificates"].items() for name, days in told.get("days", {}).items()}
    for (host, name), days in sorted(left.items()):
        yield "certificate", f"{host}: {name} has {days:.0f} days left"
