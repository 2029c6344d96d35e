"""The drill's queries of its ledger, on a real PostgreSQL with jobs of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from authority import REPOSITORY
from superuser import PSQL

from lab.drill import proof

testinfra_hosts = ["ansible://postgresql"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

DATABASE = "grunnfjell_test_ledger"
SCHEMA = REPOSITORY / "examples/ledger/ledger/schema.sql"
SOUND, CUT, HALF, TWICE, WAITING, UNSEEN = (str(UUID(int=number)) for number in range(1, 7))
JOBS = f"""
INSERT INTO done (key, number, worker, finished_at) VALUES
    ('{SOUND}', 1, 'w@a', to_timestamp(12)), ('{CUT}', 2, 'w@b', to_timestamp(14)), ('{HALF}', 3, 'w@a', to_timestamp(12)),
    ('{TWICE}', 4, 'w@a', to_timestamp(12));
INSERT INTO effects VALUES ('{SOUND}'), ('{CUT}'), ('{TWICE}'), ('{TWICE}'), ('{UNSEEN}');
INSERT INTO accounts VALUES (1, 3), (2, 1);
INSERT INTO deliveries (key, worker, process, delivered_at) VALUES
    ('{CUT}', 'w@b', 1, to_timestamp(13)), ('{SOUND}', 'w@a', 1, to_timestamp(11)), ('{CUT}', 'w@a', 1, to_timestamp(10)),
    ('{TWICE}', 'w@a', 1, to_timestamp(11)), ('{WAITING}', 'w@a', 1, to_timestamp(11));
"""


@pytest.fixture
def ask(host) -> Iterator[Callable[[str], str]]:
    def run(query: str, database: str = DATABASE) -> str:
        # The drill finds its tables by this path.
        path = "SET search_path = public;" if database == DATABASE else ""
        return host.check_output(f"printf %%s %s | {PSQL} -d {database} -f -", path + query)

    run(f"CREATE DATABASE {DATABASE}", "postgres")
    try:
        run(SCHEMA.read_text(encoding="utf-8") + JOBS)
        yield run
    finally:
        run(f"DROP DATABASE {DATABASE}", "postgres")


def test_every_job_is_found_with_its_end_its_effects_and_its_runs(ask):
    assert proof.traces(ask(proof.TRACES)) == {
        SOUND: proof.Trace(12.0, 1, (11.0,)),
        CUT: proof.Trace(14.0, 1, (10.0, 13.0)),
        HALF: proof.Trace(12.0, 0, ()),
        TWICE: proof.Trace(12.0, 2, (11.0,)),
        WAITING: proof.Trace(None, 0, (11.0,)),
        UNSEEN: proof.Trace(None, 1, ()),
    }


def test_the_totals_count_all_rows(ask):
    assert json.loads(ask(proof.TOTALS)) == {"done": 4, "effects": 5, "entries": 4}


def test_a_drill_begins_with_an_empty_ledger(ask):
    ask(proof.BEGIN)
    assert proof.traces(ask(proof.TRACES)) == {}
    assert json.loads(ask(proof.TOTALS)) == {"done": 0, "effects": 0, "entries": 0}
