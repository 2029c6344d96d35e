"""The proof, from the application's database: each accepted key has one effect, or is a dead letter."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from lab.demo.fleet import Fleet
from lab.drill.hosts import broker, database, shell
from lab.drill.ledger import Accepted
from lab.machine import Refusal

BEGIN = """
TRUNCATE done, effects, accounts, deliveries, accepted;
CREATE INDEX IF NOT EXISTS drill_deliveries ON deliveries (key);
"""

TRACES = """
SELECT key, extract(epoch FROM finished_at), coalesce(counts.effects, 0), runs.begun
FROM done
FULL JOIN (SELECT key, count(*) AS effects FROM effects GROUP BY key) AS counts USING (key)
FULL JOIN (
    SELECT key, string_agg(extract(epoch FROM delivered_at)::text, ' ' ORDER BY delivered_at) AS begun
    FROM deliveries GROUP BY key
) AS runs USING (key);
"""

TOTALS = """
SELECT json_build_object(
    'done', (SELECT count(*) FROM done),
    'effects', (SELECT count(*) FROM effects),
    'entries', (SELECT coalesce(sum(entries), 0) FROM accounts));
"""

FIGURES = ("accepted", "poison", "done", "dead", "lost", "doubled", "double_effects", "second_deliveries", "cut")


@dataclass(frozen=True)
class Trace:
    """What the database has for a key: when its job was done, its effects, and when its runs began."""

    finished: float | None = None
    effects: int = 0
    begun: tuple[float, ...] = ()


@dataclass(frozen=True)
class Done:
    """The run that completed a job."""

    key: str
    worker: str
    begun: float
    at: float


def state(trace: Trace, dead: bool) -> str:
    if trace.effects > 1:
        return "doubled"
    if trace.finished is not None and trace.effects == 1:
        return "done"
    return "dead" if dead and trace.finished is None and not trace.effects else "lost"


def count(accepted: Iterable[Accepted], traces: Mapping[str, Trace], dead: Collection[str] = ()) -> dict[str, int]:
    """The fate of the accepted jobs.

    A run was cut if its job began again before it was done; a later second delivery only shows that its ack did not arrive. If
    the client posted twice, there may be two messages, and the second run proves nothing.
    """
    number = dict.fromkeys(FIGURES, 0)
    for entry in accepted:
        trace = traces.get(entry.job.key, Trace())
        reruns = trace.begun[1:]
        number["accepted"] += 1
        number["poison"] += entry.job.poison
        number[state(trace, entry.job.key in dead)] += 1
        number["double_effects"] += max(0, trace.effects - 1)
        number["second_deliveries"] += len(reruns)
        if entry.posts == 1:
            number["cut"] += sum(trace.finished is None or begun < trace.finished for begun in reruns)
    return number


def unbalanced(totals: Mapping[str, int]) -> list[str]:
    """A task enters key, effect and account in one transaction, so the three totals must be equal."""
    if len(set(totals.values())) == 1:
        return []
    return [f"{totals['done']} jobs are done, with {totals['effects']} effects and {totals['entries']} entries in the accounts"]


def traces(rows: str) -> dict[str, Trace]:
    """The result of TRACES, as psql prints it."""
    lines = (line.split("|") for line in rows.splitlines())
    return {
        key: Trace(float(finished) if finished else None, int(effects), tuple(map(float, begun.split())))
        for key, finished, effects, begun in lines
    }


class Book:
    """The ledger's database, as its superuser."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.application = fleet.group("celery_workers")[0].application

    def sql(self, query: str) -> str:
        command = f"runuser -u postgres -- psql -qXAt -v ON_ERROR_STOP=1 -d {self.application} -f -"
        return shell(database(self._fleet), command, stdin=query)

    def begin(self) -> None:
        self.sql(BEGIN)

    def traces(self) -> dict[str, Trace]:
        return traces(self.sql(TRACES))

    def totals(self) -> dict[str, int]:
        return json.loads(self.sql(TOTALS))

    def done_since(self, at: float) -> list[Done] | None:
        """The jobs done since then; None if the database does not answer."""
        query = f"""
            SELECT done.key, done.worker, extract(epoch FROM max(delivered_at)), extract(epoch FROM finished_at)
            FROM done JOIN deliveries
                ON deliveries.key = done.key AND deliveries.worker = done.worker AND delivered_at <= finished_at
            WHERE finished_at >= to_timestamp({at}) GROUP BY done.key;
        """
        try:
            rows = [line.split("|") for line in self.sql(query).splitlines()]
        except Refusal:
            return None
        return [Done(key, worker.partition("@")[2], float(begun), float(ended)) for key, worker, begun, ended in rows]


def dead_letters(fleet: Fleet) -> int:
    return queued_messages(fleet).get("dead_letters", 0)


def queued_messages(fleet: Fleet) -> dict[str, int]:
    """Messages by queue of the workers' virtual host, those in delivery included."""
    vhost = fleet.group("celery_workers")[0].application
    queues = shell(broker(fleet), f"rabbitmqctl -q --formatter=json list_queues -p {vhost} name messages")
    return {queue["name"]: queue["messages"] for queue in json.loads(queues)}
