"""The status of a fleet from its hosts' answers: can it accept a job now, how long is the queue, what needs attention.

docs/status.md describes the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .beats import running_beats
from .status_attention import attention
from .work_rates import CELERYS_OWN, DEAD_LETTERS, DELAYED, Answer, counted, drain, is_work, rates

Report = dict[str, Any]

SCHEMA = 1
DOUBTS_SHOWN = 3  # in the first line, which a person reads at once; `attention` has all of them
# Keys of a queue that are the broker's own.
SHOWN = ("vhost", "name", "type", "ready", "unacknowledged", "dead_letters_to", "delivery_limit")


@dataclass(frozen=True)
class HostInfo:
    """A host according to the inventory."""

    roles: frozenset[str] = frozenset()
    application: str = ""
    addresses: frozenset[str] = frozenset()
    drained: bool = False
    # Where the broker listens that has taken the place of this host's.
    successor: str = ""
    # Its Celery application, as celery -A takes it, and whether the inventory has the beat here.
    celery_app: str = ""
    beat: bool = False
    # Queue of its application that may lose jobs → reason.
    waived_queues: Mapping[str, str] = field(default_factory=dict)


def peer(connection: str) -> str:
    """The client's address in a channel's name: '10.0.0.4:4711 -> 10.0.0.2:5671 (1)' or '[fd00::4]:4711 -> ...'."""
    address = connection.split(" -> ")[0].rpartition(":")[0].strip("[]")
    return address.removeprefix("::ffff:")


def messages(broker: Answer) -> int:
    """All that a broker holds, but for what belongs to its clients' connections."""
    return sum(
        (queue["ready"] or 0) + (queue["unacknowledged"] or 0)
        for queue in broker["queues"]
        if not CELERYS_OWN.match(queue["name"])
    )


def doubts(queue: dict[str, Any]) -> list[str]:
    """Why a job that a work queue accepts may not be done."""
    # A fault ends with a colon and its remedy, which `attention` shows.
    sentences = [fault.partition(": ")[0] for fault in queue["faults"]]
    if queue["ready"] and not queue["consumers"]:
        waiting = "1 job waits" if queue["ready"] == 1 else f"{queue['ready']} jobs wait"
        sentences.append(f"{waiting} in {queue['vhost']}/{queue['name']}, which nobody consumes")
    return sentences


class StatusReport:
    """answers: host → result of platform_status.  previous: the last report of the same fleet."""

    def __init__(self, answers: dict[str, Answer], hosts: dict[str, HostInfo], previous: Report | None = None) -> None:
        self.answers, self.hosts = answers, hosts
        before = (previous or {}).get("counters")
        self.previous = before if isinstance(before, dict) and (previous or {}).get("schema") == SCHEMA else {}

    def section(self, name: str) -> dict[str, Answer]:
        """Host to its answer in a section."""
        sections = {host: answer.get("sections", {}).get(name) for host, answer in self.answers.items()}
        return {host: section for host, section in sections.items() if section is not None}

    def answered(self, name: str) -> dict[str, Answer]:
        return {host: section for host, section in self.section(name).items() if "error" not in section}

    def with_role(self, role: str) -> list[str]:
        return [host for host, info in self.hosts.items() if role in info.roles]

    def reachable(self, host: str) -> bool:
        return "sections" in self.answers.get(host, {})

    def host_at(self, address: str) -> str | None:
        return next((host for host, info in self.hosts.items() if address in info.addresses), None)

    def report(self) -> Report:
        every_broker = self.answered("broker")
        brokers = {host: answer for host, answer in every_broker.items() if not self.hosts[host].successor}
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
                host: answer if "error" in answer else {key: answer[key] for key in ("node", "version", "alarms", "running")}
                for host, answer in self.section("broker").items()
            },
            "queues": [{key: value for key, value in queue.items() if key != "work"} for queue in work],
            "delayed": sum(queue["ready"] or 0 for queue in queues if DELAYED.match(queue["name"])),
            "dead_letters": {queue["vhost"]: queue["ready"] for queue in queues if queue["name"] == DEAD_LETTERS},
            "drain": drain(backlog, rates(brokers, self.previous)),
            "replaced": {host: messages(answer) for host, answer in every_broker.items() if host not in brokers},
            "strangers": self.unknown_consumers(every_broker),
            "bouncers": self.section("bouncer"),
            "databases": self.section("database"),
            "programs": self.section("programs"),
            "releases": self.releases(),
            "beats": running_beats(self),
            "certificates": self.section("certificates"),
            "firewalls": self.section("firewall"),
            "archives": {host: answer for host, answer in self.section("archive").items() if answer},
            "backups": {host: answer for host, answer in self.section("backup").items() if answer},
            "files": self.section("files"),
            "etcd": self.section("etcd"),
            "patroni": self.section("patroni"),
            "keepalived": self.section("keepalived"),
            "updates": self.section("updates"),
            "versions": {host: answer["version"] for host, answer in self.answered("version").items()},
            "counters": counted(brokers),
        }
        report["attention"] = list(attention(self, report))
        doubted = [doubt for queue in work if not queue["waived"] for doubt in doubts(queue)]
        report["verdict"] = self.verdict(accepting, reasons, doubted)
        return report

    def queues(self, brokers: dict[str, Answer]) -> list[dict[str, Any]]:
        """All queues of the first broker that answered, with their consumers on every broker."""
        if not brokers:
            return []
        consumers = [consumer for broker in brokers.values() for consumer in broker["consumers"]]
        listed = []
        for queue in brokers[min(brokers)]["queues"]:
            key = (queue["vhost"], queue["name"])
            peers = [peer(entry["connection"]) for entry in consumers if (entry["vhost"], entry["queue"]) == key]
            members, online = queue.get("members", []), queue.get("online", [])
            listed.append(
                {
                    key: queue[key]
                    for key in ("vhost", "name", "type", "ready", "unacknowledged", "dead_letters_to", "delivery_limit")
                }
                | {
                    "oldest_s": None if queue["oldest_ms"] is None else queue["oldest_ms"] / 1000,
                    "consumers": len(peers),
                    "consumer_hosts": sorted({self.host_at(address) or address for address in peers}),
                    "members": members,
                    "online": online,
                    "quorum": 2 * len(online) > len(members) if queue["type"] == "quorum" else None,
                    "faults": [fault["text"] for fault in queue["faults"]],
                    "waived": self.waived(queue),
                    "work": is_work(queue["name"]),
                }
            )
        return sorted(listed, key=lambda queue: (queue["vhost"], queue["name"]))

    def waived(self, queue: dict[str, Any]) -> str:
        """Why the inventory lets the queue lose jobs; empty if it does not."""
        reasons = (info.waived_queues for info in self.hosts.values() if info.application == queue["vhost"])
        return next((str(own[name]) for own in reasons for name in queue["known_as"] if name in own), "")

    def accepting(self, brokers: dict[str, Answer], queues: list[dict[str, Any]]) -> tuple[bool, list[str]]:
        """Whether each application has a producer whose publish was just confirmed, and every reason why a producer has not."""
        reasons, accepting = [], {}
        for host in self.with_role("producer"):
            why = self.refuses(host, self.section("producer").get(host), brokers)
            accepting.setdefault(self.hosts[host].application, []).append(not why)
            reasons += [why] if why else []
        lost = [
            f"the queue {queue['vhost']}/{queue['name']} has lost its quorum: {len(queue['online'])} of "
            f"{len(queue['members'])} brokers are up. Start the others"
            for queue in queues
            if queue["work"] and queue["quorum"] is False
        ]
        if not accepting:
            reasons.append("the inventory has no producer. Add one to the group that topology_roles names for it")
        everywhere = bool(accepting) and all(any(producers) for producers in accepting.values())
        return everywhere and not lost, list(dict.fromkeys([*lost, *reasons]))

    def refuses(self, host: str, answer: Answer | None, brokers: dict[str, Answer]) -> str:
        """Why a producer accepts no job now, and what to do; empty if it accepts one."""
        if answer is None:
            return f"{host} cannot be queried ({self.trouble(host)}). Check that it runs and that Ansible can log in"
        if "error" in answer:
            return f"{host} could not query its producer: {answer['error']}"
        if not answer["answers"]["ok"]:
            return (
                f"the producer on {host} does not answer at {answer['url']} ({answer['answers']['error']}). "
                f"On {host}: supervisorctl status, and its log in /var/log/producer"
            )
        if answer["publish"]["confirmed"]:
            return ""
        return self.broker_trouble(brokers) or f"{host}: {answer['publish']['error']}"

    def broker_trouble(self, brokers: dict[str, Answer]) -> str:
        """The brokers' fault, if they report one."""
        for host, broker in brokers.items():
            for alarm in broker["alarms"]:
                remedy = {
                    "memory": "Let the workers drain the queues, or give the broker more memory",
                    "disk": "Free space where /var/lib/rabbitmq is",
                }.get(alarm["what"], "See rabbitmq-diagnostics alarms")
                return f"the broker on {host} has a {alarm['what']} alarm and accepts no message. {remedy}"
        down = [host for host in self.with_role("rabbitmq") if host not in brokers and not self.hosts[host].successor]
        if down and not brokers:
            host = down[0]
            why = self.section("broker").get(host, {}).get("error") or self.trouble(host)
            return (
                f"no broker answers ({host}: {why}). "
                f"On {host}: systemctl start rabbitmq-server, then journalctl -u rabbitmq-server"
            )
        return ""

    def trouble(self, host: str) -> str:
        """Why a host gave no answer."""
        answer = self.answers.get(host, {})
        kind = "unreachable" if answer.get("unreachable") else "no answer"
        message = " ".join(str(answer.get("msg", "")).split())
        return f"{kind}: {message[:160]}" if message else kind

    @staticmethod
    def verdict(accepting: bool, reasons: list[str], doubts: list[str]) -> str:
        if not accepting:
            return f"No: {'; '.join(reasons)}."
        more = [f"{len(doubts) - DOUBTS_SHOWN} more such faults"] if len(doubts) > DOUBTS_SHOWN else []
        but = ["; ".join([*doubts[:DOUBTS_SHOWN], *more])] if doubts else []
        but += [f"not everywhere: {'; '.join(reasons)}"] if reasons else []
        return f"{', but '.join(['Yes, jobs are accepted now', *but])}."

    def unknown_consumers(self, brokers: dict[str, Answer]) -> list[dict[str, Any]]:
        """Consumers of work queues that are not active workers of the inventory."""
        counts: dict[tuple[str, str, str], int] = {}
        for broker in brokers.values():
            for consumer in broker["consumers"]:
                address = peer(consumer["connection"])
                host = self.host_at(address)
                info = self.hosts.get(host or "", HostInfo())
                if not is_work(consumer["queue"]) or ("celery_worker" in info.roles and not info.drained):
                    continue
                key = (host or address, consumer["vhost"], consumer["queue"])
                counts[key] = counts.get(key, 0) + 1
        return [
            {"who": who, "vhost": vhost, "queue": queue, "consumers": number}
            for (who, vhost, queue), number in sorted(counts.items())
        ]

    def releases(self) -> dict[str, dict[str, Any]]:
        """Application to host to its current release and those that its programs run."""
        releases: dict[str, dict[str, Any]] = {}
        for host, answer in self.section("application").items():
            programs = self.answered("programs").get(host, {})
            running = sorted({program["release"] for program in programs.values() if program["release"]})
            releases.setdefault(self.hosts[host].application, {})[host] = {"current": answer.get("release"), "running": running}
        return releases
