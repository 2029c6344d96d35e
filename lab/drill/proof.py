"""The proof, by SQL in the application's own database: accepted = done exactly once by key, or known among the dead letters."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from lab.demo.fleet import Fleet
from lab.drill.hosts import broker, database, shell
from lab.drill.ledger import Accepted
from lab.machine import Refusal

BEGIN = """
TRUNCATE done, effects, accounts, deliveries;
CREATE INDEX IF NOT EXISTS drill_deliveries ON deliveries (key);
DROP SCHEMA IF EXISTS drill CASCADE;
CREATE SCHEMA drill;
CREATE TABLE drill.accepted (
    fault text NOT NULL, key uuid NOT NULL UNIQUE, poison boolean NOT NULL, at double precision NOT NULL
);
CREATE TABLE drill.dead (key uuid NOT NULL);
"""

# A run is cut if its job had to begin again; a second delivery after the job's end only shows that its ack did not arrive.
# A key is dead if its job is among the dead letters and did not end otherwise; lost if it is nowhere.
COUNT = """
WITH a AS (SELECT key, poison FROM drill.accepted WHERE fault = :'fault'),
     runs AS (SELECT key, count(*) AS n FROM deliveries JOIN a USING (key) GROUP BY key),
     again AS (
        SELECT key, delivered_at
        FROM (
            SELECT key, delivered_at, row_number() OVER (PARTITION BY key ORDER BY delivered_at) AS n
            FROM deliveries JOIN a USING (key)
        ) AS numbered WHERE n > 1
     ),
     made AS (SELECT key, count(*) AS n FROM effects JOIN a USING (key) GROUP BY key)
SELECT json_build_object(
    'accepted', (SELECT count(*) FROM a),
    'poison', (SELECT count(*) FROM a WHERE poison),
    'done', (SELECT count(*) FROM a JOIN done USING (key)),
    'effects', (SELECT coalesce(sum(n), 0) FROM made),
    'dead', (SELECT count(*) FROM a WHERE key IN (SELECT key FROM drill.dead) AND key NOT IN (SELECT key FROM done)),
    'lost', (SELECT count(*) FROM a WHERE key NOT IN (SELECT key FROM drill.dead) AND key NOT IN (SELECT key FROM done)),
    'second_deliveries', (SELECT coalesce(sum(n - 1), 0) FROM runs),
    'cut', (SELECT count(*) FROM again LEFT JOIN done USING (key) WHERE done.key IS NULL OR delivered_at < finished_at),
    'double_effects', (SELECT coalesce(sum(n - 1), 0) FROM made));
"""


@dataclass(frozen=True)
class Done:
    """The run that ended a job: where, and from when to when."""

    key: str
    worker: str
    begun: float
    at: float


class Book:
    """The ledger's database, asked as its superuser on its host."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.application = fleet.group("celery_workers")[0].application

    def sql(self, query: str, **variables: str) -> str:
        settings = " ".join(f"-v {shlex.quote(f'{name}={value}')}" for name, value in variables.items())
        command = f"runuser -u postgres -- psql -qXAt -v ON_ERROR_STOP=1 {settings} -d {self.application} -f -"
        return shell(database(self._fleet), command, stdin=query)

    def begin(self) -> None:
        self.sql(BEGIN)

    def enter(self, fault: str, accepted: list[Accepted]) -> None:
        lines = [f"{fault}\t{each.job.key}\t{each.job.poison}\t{each.at}\n" for each in accepted]
        self.sql("COPY drill.accepted FROM STDIN;\n" + "".join(lines) + "\\.\n")

    def enter_dead(self, keys: list[str]) -> None:
        self.sql("TRUNCATE drill.dead;\nCOPY drill.dead FROM STDIN;\n" + "".join(f"{key}\n" for key in keys) + "\\.\n")

    def count(self, fault: str) -> dict[str, int]:
        return json.loads(self.sql(COUNT, fault=fault))

    def done_since(self, at: float) -> list[Done] | None:
        """What was entered since then; None while the database does not answer."""
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
    """How many there are; None of the drill's own look takes one away."""
    vhost = fleet.group("celery_workers")[0].application
    said = shell(broker(fleet), f"rabbitmqctl -q --formatter=json list_queues -p {vhost} name messages")
    return sum(queue["messages"] for queue in json.loads(said) if queue["name"] == "dead_letters")
