"""What breaks the promise in a row of the drill, and how the report shows it."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.drill import load, page, report, rows
from lab.drill.ledger import Accepted, Job
from lab.drill.proof import Done
from lab.drill.report import Report

GOOD = rows.Row(
    fault="broker killed", kind="process", accepted=100, poison=0, done=100, dead=0, lost=0, doubled=0, second_deliveries=3,
    cut=2, double_effects=0, expected=50, outage_s=7.0, outage_limit_s=30.0, resumed_s=1.5, resume_limit_s=5.0, backlog_s=3.0,
    repeated=9, unavailable_share=0.0812, given_up=0, given_up_limit=0, unpromised=0, slowest_answer_s=0.4,
    accept_gap_s=0.3, work_gap_s=0.6, evidence={"MainPID": "17 → 42"},
)  # fmt: skip


def accepted(key: str, at: float, producer: str = "web1", poison: bool = False) -> Accepted:
    return Accepted(Job(1, 0.1, poison, key), at, producer)


# The time until the affected part works again


def test_work_is_resumed_when_the_first_run_after_the_fault_ends():
    jobs = [accepted("before", 90.0), accepted("through", 91.0), accepted("after", 101.0)]
    done = [
        Done("through", "worker1", 99.0, 100.5),
        Done("before", "worker1", 101.0, 103.0),
        Done("after", "worker1", 103.0, 104.0),
    ]
    assert rows.resumed_s(jobs, done, 100.0, "", later=False) == 3.0
    assert rows.resumed_s(jobs, done, 100.0, "", later=True) == 4.0


def test_work_of_another_host_is_not_a_recovery():
    jobs = [accepted("a", 101.0), accepted("b", 102.0)]
    done = [Done("a", "worker2", 101.4, 101.5)]
    assert rows.resumed_s(jobs, done, 100.0, "worker1", later=False) is None
    assert rows.resumed_s(jobs, [*done, Done("b", "worker1", 106.9, 107.0)], 100.0, "worker1", later=False) == 7.0


def test_a_producer_has_recovered_once_a_job_that_it_accepted_is_done():
    jobs = [accepted("a", 101.0, "web2"), accepted("b", 102.0, "web1"), accepted("c", 99.0, "web1")]
    done = [Done("a", "worker1", 101.4, 101.5), Done("c", "worker1", 100.5, 101.0), Done("b", "worker2", 102.4, 102.5)]
    assert rows.resumed_s(jobs, done, 100.0, "web1", later=True) == 2.5


def test_a_job_without_a_202_is_not_a_recovery():
    unknown = [Done("unknown", "worker1", 101.4, 101.5)]
    assert rows.resumed_s([accepted("a", 101.0)], unknown, 100.0, "", later=False) is None


def test_recovery_counts_from_the_kill_and_not_from_the_active_state_of_systemd():
    """Review finding H6."""
    assert (GOOD.recovery_s, GOOD.limit_s) == (8.5, 35.0)
    assert replace(GOOD, outage_s=None).recovery_s is None


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
        ({"resumed_s": None}, "no work again"),
        ({"resumed_s": 5.01}, "work again 5.01 s after the fault's end, and 5 s are promised"),
        ({"outage_s": 30.01}, "the fault lasted 30.01 s, and 30 s are allowed"),
        ({"outage_s": None}, "the fault did not end"),
        ({"accepted": 49, "done": 49}, "49 jobs were accepted, and 50 is the least"),
        ({"given_up": 1}, "clients gave up 1 jobs, and 0 is the most"),
        ({"unseen": ("MainPID was 17 all the time",)}, "MainPID was 17 all the time: the fault struck nobody"),
        ({"evidence": {}}, "nothing shows that the fault struck"),
        ({"failures": ("a client died: ValueError: x",)}, "a client died: ValueError: x"),
    ],
)
def test_each_breach_is_a_sentence(change, says):
    """Review finding H6: outages, jobs given up, few jobs, no evidence and dead clients passed."""
    (problem,) = rows.problems(replace(GOOD, **change))
    assert says in problem


def test_a_row_that_keeps_the_promise_has_no_problem():
    assert rows.problems(GOOD) == []


def test_an_operation_interrupts_no_job_and_refuses_none():
    assert len(rows.problems(replace(GOOD, seamless=True))) == 2
    assert rows.problems(replace(GOOD, seamless=True, cut=0, repeated=0)) == []


@pytest.mark.parametrize("gap", ["accept_gap", "work_gap"])
def test_a_longer_gap_than_the_row_allows_is_a_problem(gap):
    long = replace(GOOD, **{f"{gap}_s": 12.5})
    assert rows.problems(long) == [], "without a limit"
    assert rows.problems(replace(long, **{f"{gap}_limit_s": 12.5})) == []
    (problem,) = rows.problems(replace(long, **{f"{gap}_limit_s": 10.0}))
    assert "12.5 s, and 10 s are promised" in problem


def test_half_of_the_jobs_at_the_configured_rate_must_be_accepted():
    assert rows.expected(20.0, load_s=30.0, outage_s=0.0) == 300
    assert rows.expected(20.0, load_s=30.0, outage_s=10.0) == 200


def test_clients_give_up_only_in_an_outage_longer_than_their_retries():
    assert rows.given_up_limit(0.0, 60.0) == 0
    assert rows.given_up_limit(7.0, 5.0) == 0
    assert rows.given_up_limit(50.0, 60.0) == 5 * load.CLIENTS


@given(st.lists(st.floats(0, 59.99), max_size=50))
def test_every_moment_of_a_row_counts_in_one_second(moments):
    assert sum(rows.bins((1000 + moment for moment in moments), 1000, 60)) == len(moments)


# Evidence


def test_a_change_during_or_after_the_fault_is_evidence():
    shown, unseen = rows.evidence([{"pid": "17"}, {"pid": "0"}, {"pid": "42"}])
    assert (shown, unseen) == ({"pid": "17 → 0 → 42"}, [])
    assert rows.evidence([{"release": "a"}, {"release": "b"}, {"release": "a"}])[1] == []


def test_a_fault_that_changed_nothing_has_no_evidence():
    """Review finding H6: a deploy, a drain or a rotation that did nothing passed."""
    assert rows.evidence([{"pid": "17"}] * 3) == ({"pid": "17"}, ["pid was 17 all the time"])


def test_silence_is_not_evidence():
    assert rows.evidence([{"pid": "17"}, {"pid": rows.SILENT}, {"pid": "17"}])[1]
    assert rows.evidence([{"pid": rows.SILENT}, {"pid": "17"}, {"pid": "17"}])[1]


# The report and the page


def report_of(*done: rows.Row, **more: object) -> dict:
    line = {"hurt_s": 3.0, "ended_s": 5.0, "accepted": [20, 20, 0, 5], "done": [18, 20, 0, 9], "repeated": [0, 0, 7, 0]}
    return Report(0.0, 20.0, [*done], {row.fault: line for row in done}, **more).as_dict()


def test_the_page_is_one_file_that_loads_nothing():
    text = page.page(report_of(GOOD, replace(GOOD, fault="poison <job>", dead=2, poison=2, resumed_s=None, problems=("late",))))
    assert not re.search(r"https?:|src=|href=|url\(|@import|<script", text)
    assert "poison &lt;job&gt;" in text and "<job>" not in text
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) == 2  # a time line for each row
    for drawing in drawings:
        ElementTree.fromstring(drawing)


def test_the_evidence_of_each_row_is_in_the_report_and_on_the_page():
    data = report_of(GOOD)
    assert data["rows"][0]["evidence"] == {"MainPID": "17 → 42"} and "MainPID: 17 → 42" in page.page(data)


def test_one_broken_row_breaks_the_promise():
    assert report_of(GOOD)["kept"] is True
    broken = report_of(GOOD, replace(GOOD, fault="x", lost=1, problems=("1 is lost",)))
    assert broken["kept"] is False and broken["total"]["lost"] == 1
    assert "The promise was broken" in page.page(broken)
    assert "It was broken under: x." in report.verdict(broken) and "x: 1 is lost" in report.verdict(broken)


def test_a_fault_without_an_end_breaks_the_promise():
    unended = report_of(GOOD, unended={"deploy": "it failed"})
    assert unended["kept"] is False and "deploy" in report.verdict(unended)


def test_accounts_that_do_not_add_up_break_the_promise():
    unbalanced = report_of(GOOD, problems=["2 jobs are done, with 1 effects"])
    assert unbalanced["kept"] is False
    assert "with 1 effects" in report.verdict(unbalanced) and "with 1 effects" in page.page(unbalanced)


def test_a_drill_without_a_row_keeps_no_promise():
    nothing = report_of(unended={"deploy": "it failed"})
    assert report_of()["kept"] is False and "deploy did not finish" in page.page(nothing)


def test_the_file_has_the_promised_columns():
    columns = {"fault", "accepted", "done", "dead", "lost", "second_deliveries", "double_effects", "recovery_s", "limit_s"}
    assert columns <= set(report_of(GOOD)["rows"][0]) and set(asdict(GOOD)) <= set(report_of(GOOD)["rows"][0])
