"""What the drill makes of what it saw, and how its clients behave. No fleet: producers are small servers of this test."""

from __future__ import annotations

import itertools
import json
import re
import ssl
import subprocess
import tempfile
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.demo import trust
from lab.demo.fleet import Host
from lab.drill import load, page, report, rows
from lab.drill.faults import FAULTS, SHORT, WITHIN_S
from lab.drill.ledger import Accepted, Job, Ledger
from lab.drill.proof import Done

GOOD = rows.Row(
    fault="broker killed", kind="process", accepted=100, done=100, dead=0, lost=0, second_deliveries=3, cut=2, double_effects=0,
    recovery_s=1.5, limit_s=5.0, outage_s=7.0, backlog_s=3.0, poison=0, repeated=9, given_up=0, unpromised=0,
    slowest_answer_s=0.4,
)  # fmt: skip


def accepted(key: str, at: float, producer: str = "web1", poison: bool = False) -> Accepted:
    return Accepted(Job(1, 0.1, poison, key), at, producer)


# How long until the hurt part was at work again


def test_recovery_counts_from_the_faults_end_to_the_end_of_the_first_run_that_began_after_it():
    jobs = [accepted("before", 90.0), accepted("through", 91.0), accepted("after", 101.0)]
    done = [
        Done("through", "worker1", 99.0, 100.5),
        Done("before", "worker1", 101.0, 103.0),
        Done("after", "worker1", 103.0, 104.0),
    ]
    assert rows.recovery_s(jobs, done, 100.0, "", anew=False) == 3.0
    assert rows.recovery_s(jobs, done, 100.0, "", anew=True) == 4.0


def test_another_hosts_work_is_no_recovery():
    jobs = [accepted("a", 101.0), accepted("b", 102.0)]
    done = [Done("a", "worker2", 101.4, 101.5)]
    assert rows.recovery_s(jobs, done, 100.0, "worker1", anew=False) is None
    assert rows.recovery_s(jobs, [*done, Done("b", "worker1", 106.9, 107.0)], 100.0, "worker1", anew=False) == 7.0


def test_a_producer_is_back_with_a_job_that_it_accepted_itself():
    jobs = [accepted("a", 101.0, "web2"), accepted("b", 102.0, "web1"), accepted("c", 99.0, "web1")]
    done = [Done("a", "worker1", 101.4, 101.5), Done("c", "worker1", 100.5, 101.0), Done("b", "worker2", 102.4, 102.5)]
    assert rows.recovery_s(jobs, done, 100.0, "web1", anew=True) == 2.5


def test_a_job_that_nobody_had_a_202_for_is_no_recovery():
    stranger = [Done("stranger", "worker1", 101.4, 101.5)]
    assert rows.recovery_s([accepted("a", 101.0)], stranger, 100.0, "", anew=False) is None


def test_the_backlog_is_the_last_job_from_before_the_end():
    jobs = [accepted("a", 98.0), accepted("b", 99.0), accepted("poison", 99.0, poison=True), accepted("c", 101.0)]
    done = [Done("a", "worker1", 98.0, 99.0), Done("b", "worker1", 99.0, 104.0), Done("c", "worker1", 102.0, 120.0)]
    assert rows.backlog_s(jobs, done, 100.0) == 4.0
    assert rows.backlog_s(jobs, done[:1], 100.0) is None


# What breaks the promise


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"done": 99, "lost": 1}, "1 of 100 accepted jobs are lost"),
        ({"double_effects": 2}, "2 effects happened twice"),
        ({"done": 98, "dead": 2}, "2 jobs are dead, and 0 were poison"),
        ({"poison": 2}, "0 jobs are dead, and 2 were poison"),
        ({"done": 99}, "are not 99 done, 0 dead and 0 lost"),
        ({"recovery_s": None}, "no work again"),
        ({"recovery_s": 5.01}, "work again after 5.01 s, and 5 s are promised"),
        ({"cut": 0}, "the fault struck nobody"),
    ],
)
def test_each_breach_is_a_sentence(change, says):
    found = rows.problems(replace(GOOD, **change), interrupts=True, seamless=False)
    assert len(found) == 1 and says in found[0]


def test_a_row_that_keeps_the_promise_has_no_problem():
    assert rows.problems(GOOD, interrupts=True, seamless=False) == []


def test_an_operation_cuts_nobody_and_turns_nobody_away():
    assert len(rows.problems(GOOD, interrupts=False, seamless=True)) == 2
    assert rows.problems(replace(GOOD, cut=0, repeated=0), interrupts=False, seamless=True) == []


@given(st.lists(st.floats(0, 59.99), max_size=50))
def test_every_moment_of_a_row_falls_into_one_second(moments):
    assert sum(rows.bins((1000 + moment for moment in moments), 1000, 60)) == len(moments)


# The clients


def test_the_rate_is_bounded_and_lost_time_is_not_made_up():
    now = [0.0]
    waits = load.due(10.0, lambda: now[0])
    assert [round(next(waits), 6) for _ in range(3)] == [0.1, 0.2, 0.3]
    now[0] = 60.0
    assert next(waits) == 0.0
    assert round(next(waits), 6) == 0.1


@cache
def identity() -> ssl.SSLContext:
    """A producer's, which the lab's clients believe."""
    with tempfile.TemporaryDirectory() as folder:
        names = ["-subj", "/CN=web1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"]
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        subprocess.run([*command, *names], cwd=folder, check=True, capture_output=True)
        trust.believe(Path(folder, "certificate.pem").read_text())
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(Path(folder, "certificate.pem"), Path(folder, "key.pem"))
    return context


@contextmanager
def producer(name: str, *statuses: int) -> Iterator[tuple[Host, list[dict]]]:
    """Answers with these, one after the other, and goes on with the last; 0 closes the connection without a word."""
    seen: list[dict] = []
    answers = itertools.chain(statuses, itertools.repeat(statuses[-1]))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if status := next(answers):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = identity().wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Host(name, ("producers",), "127.0.0.1", "root", "", "ledger", f"127.0.0.1:{server.server_port}", "", ""), seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("answer", [503, 500, 0])
def test_a_job_that_is_not_accepted_goes_to_the_next_producer_with_the_same_key(answer, monkeypatch):
    monkeypatch.setattr(load, "AGAIN_S", 0.0)
    ledger, job = Ledger(), Job(7, 0.5)
    with producer("web1", answer) as (first, at_first), producer("web2", 202) as (second, at_second):
        load.send(job, [first, second], ledger)
    assert at_first == at_second == [{"key": job.key, "number": 7, "seconds": 0.5, "poison": False}]
    assert [(each.job, each.producer) for each in ledger.accepted] == [(job, "web2")]
    assert len(ledger.refusals) == 1 and not ledger.given_up


def test_a_job_that_nobody_takes_is_given_up_and_never_counts_as_accepted(monkeypatch):
    monkeypatch.setattr(load, "AGAIN_S", 0.0)
    monkeypatch.setattr(load, "PERSISTENCE_S", 0.05)
    ledger, job = Ledger(), Job(7, 0.5)
    with producer("web1", 503) as (only, _):
        load.send(job, [only], ledger)
    assert ledger.given_up == [job] and not ledger.accepted


def test_clients_number_their_jobs_on_and_stop_with_their_block():
    ledger, numbers = Ledger(), itertools.count(1)
    with producer("web1", 202) as (only, seen), load.Clients([only], 200.0, ledger, numbers, seed=1):
        while len(ledger.accepted) < 20:
            pass
    assert sorted(each.job.number for each in ledger.accepted)[:20] == list(range(1, 21))
    assert len({each["key"] for each in seen}) == len(seen) == len(ledger.accepted)


# The rows and the page


def test_the_faults_are_told_apart_and_each_has_its_limit():
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    assert set(SHORT) < set(names)
    assert {fault.kind for fault in FAULTS} == set(WITHIN_S)


def told(*made: rows.Row) -> dict:
    line = {"hurt_s": 3.0, "ended_s": 5.0, "accepted": [20, 20, 0, 5], "done": [18, 20, 0, 9], "repeated": [0, 0, 7, 0]}
    return report.told(made, {row.fault: line for row in made}, {}, began=0.0, rate=20.0)


def test_the_page_is_one_file_that_loads_nothing():
    text = page.page(told(GOOD, replace(GOOD, fault="poison <job>", dead=2, poison=2, recovery_s=None, problems=("late",))))
    assert not re.search(r"https?:|src=|href=|url\(|@import|<script", text)
    assert "poison &lt;job&gt;" in text and "<job>" not in text
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) == 2  # a time line for each row
    for drawing in drawings:
        ElementTree.fromstring(drawing)


def test_one_broken_row_breaks_the_whole():
    assert told(GOOD)["kept"] is True
    broken = told(GOOD, replace(GOOD, fault="x", lost=1, problems=("1 is lost",)))
    assert broken["kept"] is False and broken["total"]["lost"] == 1
    assert "The promise was broken" in page.page(broken)
    assert "It was not under: x." in report.verdict(broken)


def test_a_fault_without_an_end_breaks_the_whole():
    unended = report.told([GOOD], {"broker killed": {}}, {"deploy": "it failed"}, began=0.0, rate=20.0)
    assert unended["kept"] is False and "deploy" in report.verdict(unended)


def test_the_file_has_the_promised_columns():
    columns = {"fault", "accepted", "done", "dead", "lost", "second_deliveries", "double_effects", "recovery_s"}
    assert columns <= set(asdict(GOOD)) and columns <= set(told(GOOD)["rows"][0])
